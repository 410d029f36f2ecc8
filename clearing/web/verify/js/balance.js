// SPDX-License-Identifier: GPL-3.0-or-later
// A proof bundle, step by step: the steps, their order and their codes are those of proofs/verify.py.
// Order: the bundle is well-formed; the header is of the vault and chain that it names; the header is the chain's;
// the exit leaf leads to the header's root and sums; state leaves lead to the state root; the signed checkpoint is
// the header's journal; each entry is in that journal.
"use strict";

(function (N) {
  const ABOUT = {
    bundle: "Checks that the file is a proof bundle, with no field missing, unknown or given twice.",
    header: "Checks that the bundle carries an epoch’s header, of the vault and chain that the bundle names.",
    chain: "Checks that the vault on the chain has stored the hash of exactly this header.",
    exit: "Checks that the owner’s leaf is in the tree that the header commits to, with the header’s sums.",
    state: "Checks that the account’s balance and margin are in the tree that the header commits to.",
    checkpoint: "Checks that the operator signed a checkpoint of the journal, of the header’s size and root.",
    entry: "Checks that the entry is in the journal, at its number.",
  };

  const hexes = (list, what) => list.map((item) => N.unhex(item, what));
  const numbers = (list, what) => list.map((item) => N.number(item, what));

  // `trust`: {endpoints: list of addresses, vault: bytes or null, operatorKey: bytes or null}
  async function verifyBundle(bytes, trust, run) {
    let bundle = null;
    const read = () => {
      bundle = N.decodeBundle(bytes);
      return `It is: format ${N.BUNDLE_FORMAT}, ${N.grouped(bytes.length)} bytes.`;
    };
    if (!(await run.check("bundle", ABOUT.bundle, [["size", `${bytes.length} bytes`]], read))) return run;
    run.bundle = bundle;
    const header = await checkHeader(run, bundle);
    if (header === null) return run;
    await checkChain(run, bundle, header, trust);
    await checkExit(run, bundle, header);
    for (const part of bundle.states) await checkState(run, bundle, part, header);
    await checkCheckpoint(run, bundle, header, trust.operatorKey);
    for (const part of bundle.entries) await checkEntry(run, part, header);
    return run;
  }

  async function checkHeader(run, bundle) {
    let header = null;
    const inputs = [
      ["vault", `0x${bundle.vault}`], ["chain", String(bundle.chain_id)], ["header", bundle.header],
    ];
    const ok = await run.check("header", ABOUT.header, inputs, async () => {
      const found = N.decodeHeader(N.unhex(bundle.header, "header"));
      const domain = await N.exitDomain(bundle.chain_id, N.unhex(bundle.vault, "vault"));
      if (!N.equal(found.domain, domain)) {
        N.fail("PROOF_INVALID", `the header is of another vault than ${bundle.vault} on chain ${bundle.chain_id}`);
      }
      header = found;
      const closed = N.moment(found.close_time_us / 1000000n);
      return `It is the header of epoch ${found.epoch}, which closed at ${closed}.`;
    });
    if (ok) run.header = header;
    return header;
  }

  // -- the chain

  async function checkChain(run, bundle, header, trust) {
    const own = await N.sha256(header.bytes);
    const inputs = [["SHA-256 of the header", N.hex(own)]];
    const vault = N.rawHex(bundle.vault);
    const matches = trust.vault !== null && N.equal(trust.vault, vault);
    if (trust.vault !== null && !matches) {
      run.find("bad", "WRONG_VAULT",
        `The bundle is of vault 0x${bundle.vault}, not of yours, 0x${N.hex(trust.vault)}.`);
    }
    if (!trust.endpoints.length) {
      run.skip("chain", ABOUT.chain, inputs, "CHAIN_NOT_ASKED", "No endpoint was given, so the chain was not asked.");
    } else {
      await run.check("chain", ABOUT.chain, inputs, async () => {
        const said = await N.readVault(trust.endpoints, bundle.chain_id, vault, header.epoch);
        inputs.push(["the vault’s hash", N.hex(said.headerHash)], ["asked", said.hosts.join(", ")]);
        inputs.push(["at block", `${said.block.number}, ${N.moment(said.block.time)}`]);
        compare(own, said, header.epoch);
        run.chain = said;
        judge(run, said, header.epoch);
        return `The vault has this header, by ${said.hosts.join(" and ")} at block ${N.grouped(said.block.number)}.`;
      });
    }
    if (trust.vault === null) {
      const how = "compare it with the address that you paid into";
      run.find("open", "VAULT_NOT_GIVEN",
        `You did not say which vault is yours. This bundle is of 0x${bundle.vault}: ${how}.`);
    } else if (matches) {
      run.find("note", "VAULT_CONFIRMED", "The vault is the one that you named.");
    }
  }

  function compare(own, said, epoch) {
    if (N.equal(own, said.headerHash)) return;
    const lags = said.behind ? " (the endpoint’s newest block is old: it may lag)" : "";
    if (said.epochs < epoch) {
      const reason = `it was never posted, or the endpoint lags${lags}`;
      N.fail("PROOF_INVALID", `the vault has ${said.epochs} epochs, the bundle is of epoch ${epoch}: ${reason}`);
    }
    N.fail("PROOF_INVALID", `the vault has another header for epoch ${epoch}: this one was not posted`);
  }

  // What the header is worth: final or not, frozen or not.
  function judge(run, said, epoch) {
    if (said.frozen && said.escape < epoch) {
      const paid = said.escape ? `from epoch ${said.escape}` : "by refund of deposits alone";
      run.find("open", "FROZEN_VOID",
        `The vault is frozen and this epoch is void: everyone is paid ${paid}, not from this bundle.`);
    } else if (said.frozen && said.escape > epoch) {
      run.find("open", "FROZEN_OLDER",
        `The vault is frozen and pays from epoch ${said.escape}; this bundle is of an older one.`);
    } else if (said.frozen) {
      run.find("note", "FROZEN_PAYS", "The vault is frozen, and this is the epoch from which everyone is paid.");
    } else if (said.finalised >= epoch) {
      run.find("note", "FINAL", "The epoch is final: nobody can void it.");
    } else {
      run.find("open", "NOT_FINAL",
        `The epoch is not final before ${N.moment(said.finalAt)}: a veto or proof of fault could still void it.`);
    }
    if (!said.frozen && said.epochs > epoch) {
      run.find("note", "LATER_EPOCH",
        `The vault has later epochs, up to ${said.epochs}: this was your balance, and need not be it now.`);
    }
    if (said.behind) {
      const age = N.moment(said.block.time);
      run.find("open", "RPC_BEHIND", `The endpoint’s newest block is of ${age}: it lags, and may not know the latest.`);
    }
  }

  // -- the trees

  async function checkExit(run, bundle, header) {
    const part = bundle.exit;
    const inputs = [
      ["owner", `0x${part.owner}`], ["leaf number", String(part.index)], ["owed on exit, atoms", part.exits.join(", ")],
      ["withdrawals acknowledged so far, atoms", part.withdraw_acks.join(", ")], ["path", part.hashes.join(" ")],
      ["sums along the path", part.sums.map((row) => row.join(", ")).join("; ")],
      ["root in the header", N.hex(header.exit_root)], ["sums in the header", header.exit_sums.join(", ")],
    ];
    const ok = await run.check("exit", ABOUT.exit, inputs, async () => {
      const leaf = {
        index: part.index, owner: N.unhex(part.owner, "owner"), exits: numbers(part.exits, "exit"),
        withdraw_acks: numbers(part.withdraw_acks, "withdraw_ack"),
      };
      const hashes = hexes(part.hashes, "sibling");
      const rows = part.sums.map((row) => numbers(row, "sum"));
      const hash = await N.verifyExit(leaf, hashes, rows, header.exit_root, header.exit_sums, header.domain);
      inputs.push(["leaf hash", N.hex(hash)]);
      if (bundle.assets.length !== leaf.exits.length) {
        N.fail("PROOF_INVALID", "the bundle names another number of assets than the leaf has lanes");
      }
      return `Leaf ${leaf.index} of 0x${part.owner} is in the tree, within the sums of all owners.`;
    });
    run.owed = ok ? part : null;
  }

  async function checkState(run, bundle, part, header) {
    const names = ["equity", "deficit", "margin_initial", "margin_maintenance", "stress_loss"];
    const inputs = [
      ["account, sub-account", `${part.account}, ${part.sub}`],
      ...names.map((name) => [`${name.replace("_", " ")}, atoms`, part[name]]),
      ["salt", part.salt], ["details", part.details], ["path", part.hashes.join(" ")],
      ["root in the header", N.hex(header.state_root)],
    ];
    await run.check(`account ${part.account}`, ABOUT.state, inputs, async () => {
      const leaf = { owner: N.unhex(bundle.exit.owner, "owner"), account: part.account, sub: part.sub };
      leaf.salt = N.unhex(part.salt, "salt");
      for (const name of names) leaf[name] = N.number(part[name], name);
      leaf.details = N.unhex(part.details, "details");
      const domain = await N.stateDomain(N.unhex(bundle.deployment_id, "deployment id"));
      const path = hexes(part.hashes, "sibling");
      const hash = await N.stateLeafHash(leaf, domain);
      await N.verifyState(part.account, hash, path, header.state_root);
      inputs.push(["leaf hash", N.hex(hash)]);
      const has = leaf.deficit ? `Deficit ${N.grouped(leaf.deficit)}` : `Equity ${N.grouped(leaf.equity)}`;
      const [initial, maintenance] = [N.grouped(leaf.margin_initial), N.grouped(leaf.margin_maintenance)];
      return `${has}, initial margin ${initial}, maintenance margin ${maintenance} atoms.`;
    });
  }

  // -- the journal

  async function checkCheckpoint(run, bundle, header, trusted) {
    const inputs = [
      ["origin", bundle.origin], ["operator’s key in the bundle", bundle.operator_key], ["note", bundle.checkpoint],
      ["journal in the header", `${header.journal_size} entries, root ${N.toBase64(header.journal_root)}`],
    ];
    await run.check("checkpoint", ABOUT.checkpoint, inputs, async () => {
      const bad = (why) => N.fail("CHECKPOINT_INVALID", why);
      const own = N.unhex(bundle.operator_key, "operator key");
      if (trusted !== null && !N.equal(own, trusted)) bad("the bundle's operator key is not the one you trust");
      const deployment = N.hex(N.unhex(bundle.deployment_id, "deployment id"));
      if (!bundle.origin.endsWith(`/${deployment}/journal`)) {
        bad(`origin ${N.plain(bundle.origin)} does not name deployment ${N.plain(deployment)}`);
      }
      const note = await N.verifyCheckpoint(bundle.checkpoint, own, bundle.origin);
      if (note.size !== header.journal_size || !N.equal(note.root, header.journal_root)) {
        bad("the checkpoint is not the header's journal size and root");
      }
      const who = trusted === null ? "the key that the bundle itself names" : "the key that you trust";
      return `A journal of ${N.grouped(note.size)} entries, signed by ${who}.`;
    });
  }

  async function checkEntry(run, part, header) {
    const inputs = [
      ["entry", part.entry], ["path", part.proof.join(" ")], ["root in the header", N.hex(header.journal_root)],
    ];
    await run.check(`entry ${part.seq}`, ABOUT.entry, inputs, async () => {
      const data = N.unhex(part.entry, "entry");
      const path = hexes(part.proof, "proof hash");
      const hash = await N.logLeafHash(data);
      await N.verifyInclusion(part.seq, header.journal_size, hash, path, header.journal_root);
      inputs.push(["leaf hash", N.hex(hash)]);
      return `${N.grouped(data.length)} bytes, number ${part.seq} of ${N.grouped(header.journal_size)} entries.`;
    });
  }

  Object.assign(N, { verifyBundle });
})((globalThis.Novate = globalThis.Novate || {}));
