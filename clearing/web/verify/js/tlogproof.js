// SPDX-License-Identifier: GPL-3.0-or-later
// A journal entry and its `.tlog-proof` (C2SP tlog-proof; proofs/tlogproof.py), against the log's key and, if given, witnesses.
// Order: the proof is well-formed; the entry is in the log of its checkpoint; the checkpoint is signed by the log's
// key; each known witness; enough of them.
"use strict";

(function (N) {
  const FIRST = "c2sp.org/tlog-proof@v1";
  const MAX_BYTES = 131072;
  const MAX_ENTRY_BYTES = 65535;
  const ABOUT = {
    proof: "Checks that the file is a proof of inclusion in a transparency log, in the standard’s one form.",
    entry: "Checks that the entry is in the log of the proof’s checkpoint, at the number that the proof names.",
    checkpoint: "Checks that the log’s own key signed the checkpoint, and that the checkpoint is of that log.",
    witness: "Checks that the witness signed this checkpoint, as one that continues all that it saw before.",
    quorum: "Checks that enough of the witnesses that you trust have signed.",
  };
  const bad = (why) => N.fail("ENCODING_INVALID", why);

  // {index, path, extra, text of the note}
  function parseTlogProof(bytes) {
    if (bytes.length > MAX_BYTES) bad(`the file has ${bytes.length} bytes; a proof has at most ${MAX_BYTES}`);
    const text = N.fromUtf8(bytes, "ENCODING_INVALID", "the proof");
    const cut = text.indexOf("\n\n");
    const lines = text.slice(0, Math.max(cut, 0)).split("\n");
    if (lines.shift() !== FIRST) bad(`a proof begins with the line ${FIRST}`);
    let extra = null;
    if (lines.length && lines[0].startsWith("extra ")) {
      extra = N.base64(lines.shift().slice(6));
      if (extra === null || !extra.length) bad("the extra data is absent, or not in canonical base64");
    }
    const index = /^index (0|[1-9][0-9]{0,18})$/.exec(lines.shift() ?? "");
    if (index === null || BigInt(index[1]) >= 1n << 63n) bad("the second line is not ‘index’ and a decimal number");
    if (lines.length > 63) bad("the path is longer than that of any log");
    const path = lines.map((line, at) => {
      const hash = N.base64(line);
      return hash !== null && hash.length === 32 ? hash : bad(`line ${at + 1} of the path is not 32 bytes in base64`);
    });
    return { index: BigInt(index[1]), path, extra, note: text.slice(cut + 2) };
  }

  // `trust`: {logKey: text, witnesses: text of keys or of a policy}
  async function verifyTlogProof(proofBytes, entry, trust, run) {
    const policy = await N.parsePolicy(trust.witnesses);
    const keys = [...(trust.logKey.trim() ? [await logKey(trust.logKey)] : []), ...(policy ? policy.logs : [])];
    let proof = null;
    let note = null;
    const inputs = [["size", `${proofBytes.length} bytes`]];
    const parsed = await run.check("proof", ABOUT.proof, inputs, () => {
      proof = parseTlogProof(proofBytes);
      note = N.parseNote(proof.note);
      if (proof.extra) inputs.push(["extra data, which nobody signed", N.hex(proof.extra)]);
      return `It is: a proof for entry ${N.grouped(proof.index)} of the log ${N.plain(note.origin)}.`;
    });
    if (!parsed) return run;
    await checkEntry(run, proof, note, entry);
    await checkLog(run, proof, note, keys);
    await checkWitnesses(run, note, policy);
    return run;
  }

  async function logKey(text) {
    const key = await N.parseVerifierKey(text);
    if (key.algorithm !== N.ED25519) {
      N.fail("CHECKPOINT_INVALID", "the log's key is not an Ed25519 key (type 01); is it a witness's?");
    }
    return key;
  }

  async function checkEntry(run, proof, note, entry) {
    const inputs = [
      ["entry", N.hex(entry)], ["number", String(proof.index)], ["path", proof.path.map(N.toBase64).join(" ")],
      ["log’s size", String(note.size)], ["log’s root", N.toBase64(note.root)],
    ];
    await run.check("entry", ABOUT.entry, inputs, async () => {
      if (entry.length > MAX_ENTRY_BYTES) N.fail("INCLUSION_INVALID", `an entry has at most ${MAX_ENTRY_BYTES} bytes`);
      const hash = await N.logLeafHash(entry);
      inputs.push(["leaf hash", N.toBase64(hash)]);
      await N.verifyInclusion(proof.index, note.size, hash, proof.path, note.root);
      return `${N.grouped(entry.length)} bytes, number ${proof.index} of ${N.grouped(note.size)} entries.`;
    });
  }

  async function checkLog(run, proof, note, keys) {
    const inputs = [["checkpoint", proof.note], ...keys.map((key) => ["trusted key", key.text])];
    if (!keys.length) {
      const text = "No key of the log was given, so that anyone could have made this proof.";
      run.skip("checkpoint", ABOUT.checkpoint, inputs, "LOG_KEY_NOT_GIVEN", text);
      return;
    }
    await run.check("checkpoint", ABOUT.checkpoint, inputs, async () => {
      let fault = null;
      for (const key of keys) {
        try {
          await N.verifyCheckpoint(proof.note, key.key, key.name);
          return `Signed by the key of ${N.plain(key.name)}.`;
        } catch (error) {
          // Of several accepted logs, the one that the note names has the reason worth telling.
          if (fault === null || key.name === note.origin) fault = error;
        }
      }
      throw fault;
    });
  }

  async function checkWitnesses(run, note, policy) {
    if (policy === null || policy.quorum === "none") {
      const what = "a log that shows different histories to different people would not be noticed here";
      run.find("note", "NO_WITNESSES", `No witness was asked for: ${what}.`);
      return;
    }
    const signed = new Set();
    let unknown = null;
    for (const [name, key] of policy.witnesses) {
      const inputs = [["key", key.text]];
      const step = `witness ${N.plain(name, 80)}`;
      try {
        const time = await N.verifyCosignature(note, key);
        if (time === null) {
          run.aside(step, ABOUT.witness, inputs, "It has not signed this checkpoint.");
          continue;
        }
        signed.add(name);
        await run.check(step, ABOUT.witness, inputs, () => `It signed at ${N.moment(time)}.`);
      } catch (error) {
        if (!(error instanceof N.CheckError)) throw error;
        if (error instanceof N.NotChecked) unknown = error;
        await run.check(step, ABOUT.witness, inputs, () => Promise.reject(error));
      }
    }
    await run.check("quorum", ABOUT.quorum, [["asked for", policy.describe()]], () => {
      if (policy.satisfied(signed)) return `They have: ${signed.size} of ${policy.witnesses.size} witnesses.`;
      if (unknown !== null) throw unknown;
      return N.fail("POLICY_UNSATISFIED",
        `${signed.size} of ${policy.witnesses.size} witnesses signed; ${policy.describe()}`);
    });
  }

  Object.assign(N, { parseTlogProof, verifyTlogProof, TLOG_MAX_BYTES: MAX_BYTES, ENTRY_MAX_BYTES: MAX_ENTRY_BYTES });
})((globalThis.Novate = globalThis.Novate || {}));
