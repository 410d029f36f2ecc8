// SPDX-License-Identifier: GPL-3.0-or-later
// The header, the two trees that it commits to, and the journal's tree (proofs/header.py, leaf.py, sumtree.py,
// hashtree.py, log.py). All hashes are SHA-256 over fixed-width fields; the first byte says what is hashed.
"use strict";

(function (N) {
  const EXIT_DEPTH = 20;
  const STATE_DEPTH = 24;
  const LANE = 16;
  const LIMIT = 1n << 128n;
  const LEAF_BITS = 96;
  const INDEX_LIMIT = 1n << 63n;
  const byte = (value) => Uint8Array.of(value);

  // Name and width; `exit_sums` is 16 bytes per lane, and the number of lanes follows the domain.
  const HEADER_FIELDS = [
    ["domain", 32], ["epoch", 8], ["close_time_us", 8], ["prev_header", 32], ["peers_hash", 32], ["journal_size", 8],
    ["journal_root", 32], ["state_root", 32], ["exit_root", 32], ["exit_sums", 0], ["inbox_count", 8],
    ["inbox_hash", 32], ["marks_hash", 32], ["params_hash", 32], ["scenarios_hash", 32], ["attestors_hash", 32],
    ["diff_hash", 32], ["ext_root", 32], ["l1_number", 8], ["l1_hash", 32],
  ];
  const HEADER_BYTES = 3 + HEADER_FIELDS.reduce((total, [, width]) => total + width, 0);

  function decodeHeader(data) {
    if (data.length < 35 || data[0] !== 3 || data[1] !== 1) {
      N.fail("ENCODING_INVALID", "not an epoch header of version 1");
    }
    const lanes = data[34];
    if (lanes < 1 || lanes > 4 || data.length !== HEADER_BYTES + LANE * lanes) {
      N.fail("ENCODING_INVALID", `a header of ${lanes} lanes does not have ${data.length} bytes`);
    }
    const header = { bytes: data };
    let at = 2;
    for (const [name, width] of HEADER_FIELDS) {
      if (name === "exit_sums") {
        header[name] = Array.from({ length: lanes }, (_, lane) =>
          N.fromBytes(data.subarray(at + LANE * lane, at + LANE * (lane + 1))));
        at += LANE * lanes;
        continue;
      }
      const raw = data.subarray(at, at + width);
      header[name] = width === 32 ? raw : N.fromBytes(raw);
      at += width + (name === "domain" ? 1 : 0);
    }
    return header;
  }

  // -- exit tree: who is owed what; each node commits to the sums below it

  async function exitLeafHash(leaf, domain) {
    const lanes = leaf.exits.length;
    if (lanes < 1 || lanes > 4 || leaf.withdraw_acks.length !== lanes) {
      N.fail("ENCODING_INVALID", "an exit leaf has 1 to 4 lanes, as many exits as withdraw_acks");
    }
    const values = [...leaf.exits, ...leaf.withdraw_acks];
    const wide = (value) => N.concat(new Uint8Array(4), N.unsigned(value, LEAF_BITS, "leaf value"));
    return N.sha256(
      byte(0), N.fixed(domain, 32, "domain"), N.unsigned(leaf.index, 32, "index"), N.fixed(leaf.owner, 20, "owner"),
      ...values.map(wide),
    );
  }

  const badExit = (why) => N.fail("EXIT_PROOF_INVALID", why);

  function encodeSums(sums) {
    return N.concat(...sums.map((value) => N.unsigned(value, 128, "sum")));
  }

  async function exitParent(left, right) {
    const sums = left.sums.map((value, lane) => value + right.sums[lane]);
    if (sums.some((value) => value >= LIMIT)) badExit("a sum overflows 128 bits");
    const [one, other] = [encodeSums(left.sums), encodeSums(right.sums)];
    return { hash: await N.sha256(byte(1), left.hash, one, right.hash, other), sums };
  }

  // leaf: index, owner, exits, withdraw_acks; path: hashes and rows of sums, from the bottom up.
  async function verifyExit(leaf, hashes, rows, root, sums, domain) {
    const lanes = leaf.exits.length;
    if (leaf.index < 0n || leaf.index >> BigInt(EXIT_DEPTH)) {
      badExit(`index ${leaf.index} is outside a tree of depth ${EXIT_DEPTH}`);
    }
    if (hashes.length !== EXIT_DEPTH || rows.length !== EXIT_DEPTH || sums.length !== lanes) {
      badExit(`an exit proof has exactly ${EXIT_DEPTH} siblings, and sums for ${sums.length} lanes`);
    }
    const leafHash = await exitLeafHash(leaf, domain);
    let node = { hash: leafHash, sums: leaf.exits.map((value, lane) => value + leaf.withdraw_acks[lane]) };
    for (let height = 0; height < EXIT_DEPTH; height += 1) {
      const sibling = { hash: hashes[height], sums: rows[height] };
      if (sibling.hash.length !== 32) badExit(`sibling ${height} is not 32 bytes`);
      if (sibling.sums.length !== lanes) badExit(`sibling ${height} does not have ${lanes} sums`);
      if (sibling.sums.some((value) => value >= LIMIT)) badExit(`sibling ${height} has a sum outside 128 bits`);
      const right = (leaf.index >> BigInt(height)) & 1n;
      node = right ? await exitParent(sibling, node) : await exitParent(node, sibling);
    }
    if (!N.equal(node.hash, root)) badExit("the path does not lead to the exit root");
    if (node.sums.some((value, lane) => value !== sums[lane])) badExit("the path's sums are not the header's");
    return leafHash;
  }

  // -- state tree: what an account holds

  async function stateLeafHash(leaf, domain) {
    if (leaf.equity && leaf.deficit) {
      N.fail("ENCODING_INVALID", "one of equity and deficit is zero; this leaf states both");
    }
    const amounts = [leaf.equity, leaf.deficit, leaf.margin_initial, leaf.margin_maintenance, leaf.stress_loss];
    return N.sha256(
      byte(0), byte(1), N.fixed(domain, 32, "domain"), N.fixed(leaf.owner, 20, "owner"),
      N.unsigned(leaf.account, 32, "account"), N.unsigned(leaf.sub, 16, "sub-account"), N.fixed(leaf.salt, 32, "salt"),
      ...amounts.map((amount) => N.unsigned(amount, 64, "amount")), N.fixed(leaf.details, 32, "details"),
      new Uint8Array(32),
    );
  }

  const badState = (why) => N.fail("STATE_PROOF_INVALID", why);

  async function verifyState(position, leafHash, path, root) {
    if (position >> BigInt(STATE_DEPTH)) badState(`position ${position} is outside a tree of depth ${STATE_DEPTH}`);
    if (path.length !== STATE_DEPTH) badState(`a state proof is a list of exactly ${STATE_DEPTH} hashes`);
    if (path.some((item) => item.length !== 32)) badState("every hash of a state proof has 32 bytes");
    let current = leafHash;
    for (let height = 0; height < STATE_DEPTH; height += 1) {
      const right = (position >> BigInt(height)) & 1n;
      current = await (right ? N.sha256(byte(1), path[height], current) : N.sha256(byte(1), current, path[height]));
    }
    if (!N.equal(current, root)) badState("the path does not lead to the state root");
  }

  // -- the journal's tree (RFC 9162)

  const badInclusion = (why) => N.fail("INCLUSION_INVALID", why);

  function logLeafHash(entry) {
    return N.sha256(byte(0), entry);
  }

  // RFC 9162, 2.1.3.2.
  async function verifyInclusion(index, size, leafHash, proof, root) {
    if (index >= INDEX_LIMIT || size >= INDEX_LIMIT) badInclusion("index and size are below 2^63");
    if (index >= size) badInclusion(`index ${index} is outside a log of ${size} entries`);
    let [fn, sn, current] = [index, size - 1n, leafHash];
    for (const [at, item] of proof.entries()) {
      if (item.length !== 32) badInclusion(`proof hash ${at} must be 32 bytes`);
      if (sn === 0n) badInclusion("the proof is longer than the path");
      if (fn & 1n || fn === sn) {
        current = await N.sha256(byte(1), item, current);
        while (!(fn & 1n) && fn) {
          fn >>= 1n;
          sn >>= 1n;
        }
      } else {
        current = await N.sha256(byte(1), current, item);
      }
      fn >>= 1n;
      sn >>= 1n;
    }
    if (sn) badInclusion("the proof is shorter than the path");
    if (!N.equal(current, root)) {
      badInclusion("the path does not lead to the root: the entry is not in this log at this index");
    }
  }

  Object.assign(N, {
    decodeHeader, exitLeafHash, verifyExit, stateLeafHash, verifyState, logLeafHash, verifyInclusion,
  });
})((globalThis.Novate = globalThis.Novate || {}));
