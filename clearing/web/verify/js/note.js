// SPDX-License-Identifier: GPL-3.0-or-later
// Signed notes, checkpoints and keys (C2SP signed-note, tlog-checkpoint, tlog-cosignature; proofs/checkpoint.py).
// Ed25519 is WebCrypto's. Where a browser has none, what hangs on a signature is not checked: never ok.
"use strict";

(function (N) {
  const ED25519 = 0x01;
  const COSIGNATURE = 0x04;
  const DASH = "\u2014 ";
  const MAX_BYTES = 16384;
  const SIZE_LIMIT = 1n << 63n;

  const bad = (why) => N.fail("CHECKPOINT_INVALID", why);
  const isName = (text) => /^[^\p{C}\p{Z}+]+$/u.test(text);

  async function keyId(name, algorithm, key) {
    return (await N.sha256(N.utf8(`${name}\n`), Uint8Array.of(algorithm), key)).subarray(0, 4);
  }

  function decode64(text, what) {
    return N.base64(text) ?? bad(`the ${what} is not canonical base64`);
  }

  function parseSignature(line) {
    const [name, data, ...more] = line.startsWith(DASH) ? line.slice(DASH.length).split(" ") : [""];
    const raw = data === undefined || more.length ? new Uint8Array() : decode64(data, "signature");
    if (!isName(name) || raw.length < 5) bad(`‘${N.plain(line, 60)}’ is not a signature line`);
    return { name, id: raw.subarray(0, 4), signature: raw.subarray(4) };
  }

  // {origin, size, root, body, signatures}, with no signature checked.
  function parseNote(text) {
    if (N.utf8(text).length > MAX_BYTES) bad("the checkpoint is larger than 16 KiB");
    const cut = text.indexOf("\n\n");
    const lines = cut < 0 ? [] : text.slice(0, cut).split("\n");
    if (lines.length !== 3 || !text.slice(cut + 2).endsWith("\n")) {
      bad("a checkpoint is three lines, a blank line, and signature lines");
    }
    const [origin, size, root64] = lines;
    if (!/^(?:0|[1-9][0-9]{0,18})$/.test(size)) bad(`size ‘${N.plain(size, 40)}’ is not a decimal number`);
    const root = decode64(root64, "root");
    if (BigInt(size) >= SIZE_LIMIT || root.length !== 32) {
      bad("the size is not below 2^63, or the root is not 32 bytes");
    }
    if (!isName(origin)) bad("the origin is empty, or has a space, a plus or a control character");
    const signatures = text.slice(cut + 2, -1).split("\n").map(parseSignature);
    return { origin, size: BigInt(size), root, body: `${text.slice(0, cut)}\n`, signatures };
  }

  // <name>+<key id, hex>+<base64 of algorithm | key>, as people hand it around.
  async function parseVerifierKey(text) {
    const trimmed = text.trim();
    const [name, identity, ...rest] = trimmed.split("+");
    const data = rest.join("+");
    if (!isName(name) || identity === undefined || !data) {
      bad(`‘${N.plain(trimmed, 80)}’ is not a verifier key: <name>+<key id>+<base64>`);
    }
    const raw = decode64(data, "verifier key");
    const [algorithm, key] = [raw[0], raw.subarray(1)];
    if (raw.length !== 33 || identity !== N.hex(await keyId(name, algorithm, key))) {
      bad(`‘${N.plain(trimmed, 80)}’ does not hold the key that its id names; was it copied whole?`);
    }
    return { name, algorithm, key, text: trimmed };
  }

  // -- Ed25519

  // RFC 8032, 7.1, test 1: asks whether this browser has the algorithm at all, before it is blamed on a key.
  const PROBE = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
  let available = null;

  async function hasEd25519() {
    available ??= crypto.subtle.importKey("raw", N.rawHex(PROBE), { name: "Ed25519" }, false, ["verify"])
      .then(() => true, () => false);
    return available;
  }

  // The points of small order, sign bit cleared, in every spelling: for such a key or nonce point a signature
  // says nothing. Browsers differ in whether they refuse them; libsodium does, which Python's side uses.
  const SMALL = new Set([
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ]);

  function isSmall(point) {
    const cleared = Uint8Array.from(point);
    cleared[31] &= 0x7f;
    return SMALL.has(N.hex(cleared));
  }

  // Whether `signature` (64 bytes) of `message` is of `key`. Throws NotChecked where the browser cannot tell.
  async function verifyEd25519(key, signature, message) {
    if (!(await hasEd25519())) {
      const how = "use a newer browser, or `novate verify`";
      throw new N.NotChecked("NO_ED25519", `this browser cannot check Ed25519 signatures; ${how}`);
    }
    if (key.length !== 32 || signature.length !== 64) return false;
    if (isSmall(key) || isSmall(signature.subarray(0, 32))) return false;
    try {
      const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
      return await crypto.subtle.verify({ name: "Ed25519" }, imported, signature, message);
    } catch {
      return false; // not a point of the curve
    }
  }

  // The note of `text`, if it is of `origin` and signed by `key`.
  async function verifyCheckpoint(text, key, origin) {
    const note = parseNote(text);
    if (note.origin !== origin) {
      bad(`the checkpoint is of ‘${N.plain(note.origin)}’, not of ‘${N.plain(origin)}’`);
    }
    const id = await keyId(origin, ED25519, key);
    const line = note.signatures.find(
      (one) => one.name === origin && N.equal(one.id, id) && one.signature.length === 64);
    if (line === undefined) bad("no signature line of the expected key");
    if (!(await verifyEd25519(key, line.signature, N.utf8(note.body)))) bad("the Ed25519 signature does not match");
    return note;
  }

  // When (seconds) the witness cosigned, by its newest line; null when it did not. Throws CheckError when one of
  // its lines is wrong: that is no missing one, for somebody forged it.
  async function verifyCosignature(note, witness) {
    const id = await keyId(witness.name, COSIGNATURE, witness.key);
    let newest = null;
    for (const line of note.signatures) {
      if (line.name !== witness.name || !N.equal(line.id, id)) continue;
      const time = await cosignedAt(note, witness, line.signature);
      newest = newest === null || time > newest ? time : newest;
    }
    return newest;
  }

  async function cosignedAt(note, witness, payload) {
    const refuse = (why) => N.fail("COSIGNATURE_INVALID", `the cosignature of ${N.plain(witness.name, 80)} ${why}`);
    if (payload.length !== 72) refuse("is not a time and a signature, 72 bytes");
    const time = N.fromBytes(payload.subarray(0, 8));
    if (time >= SIZE_LIMIT) refuse("has a time that is not below 2^63");
    const message = N.utf8(`cosignature/v1\ntime ${time}\n${note.body}`);
    if (!(await verifyEd25519(witness.key, payload.subarray(8), message))) refuse("does not match this checkpoint");
    return time;
  }

  Object.assign(N, {
    ED25519, COSIGNATURE, keyId, parseNote, parseVerifierKey, verifyEd25519, verifyCheckpoint, verifyCosignature,
  });
})((globalThis.Novate = globalThis.Novate || {}));
