// SPDX-License-Identifier: GPL-3.0-or-later
// Whose signatures a reader asks for: a list of witness keys (all must have signed) or a C2SP tlog-policy.
// Rules: as the specification has them; whatever it does not allow is refused, never guessed.
"use strict";

(function (N) {
  const MAX_LINES = 1000;
  const KEYWORDS = new Set(["log", "witness", "group", "quorum"]);
  const bad = (why) => N.fail("POLICY_INVALID", why);

  // Thrown once, where any of them could be meant: a bad key in a policy is the policy's fault.
  async function keyOf(text, algorithm, what) {
    const key = await N.parseVerifierKey(text).catch((error) => bad(error.message));
    if (key.algorithm !== algorithm) {
      const kind = algorithm === N.COSIGNATURE ? "a cosigning key (04)" : "an Ed25519 key (01)";
      bad(`${what} needs ${kind}; ‘${N.plain(key.name, 80)}’ is of type ${N.hex([key.algorithm])}`);
    }
    return key;
  }

  function member(needed, names) {
    return { needed, names };
  }

  class Policy {
    constructor() {
      this.logs = [];
      this.witnesses = new Map();
      this.groups = new Map();
      this.used = new Set();
      this.quorum = undefined;
    }

    known(name) {
      return this.witnesses.has(name) || this.groups.has(name);
    }

    distinct(keys, key) {
      if (keys.some((other) => N.equal(other.key, key.key))) {
        bad(`the key of ‘${N.plain(key.name, 80)}’ is given twice`);
      }
      return key;
    }

    define(name) {
      if (name === undefined || name === "none" || this.known(name)) {
        bad(`‘${N.plain(name ?? "", 80)}’ is defined twice, or is no name`);
      }
      return name;
    }

    async line(words) {
      const [keyword, ...rest] = words;
      if (keyword === "log" && (rest.length === 1 || rest.length === 2)) {
        this.logs.push(this.distinct(this.logs, await keyOf(rest[0], N.ED25519, "a log")));
      } else if (keyword === "witness" && (rest.length === 2 || rest.length === 3)) {
        const key = await keyOf(rest[1], N.COSIGNATURE, "a witness");
        this.witnesses.set(this.define(rest[0]), this.distinct([...this.witnesses.values()], key));
      } else if (keyword === "group" && rest.length >= 3) {
        this.group(rest);
      } else if (keyword === "quorum" && rest.length === 1 && this.quorum === undefined) {
        if (rest[0] !== "none" && !this.known(rest[0])) {
          bad(`the quorum ‘${N.plain(rest[0], 80)}’ is not defined before it`);
        }
        this.quorum = rest[0];
      } else {
        bad(`the line ‘${N.plain(words.join(" "), 80)}’ is not one of a policy, or is there twice`);
      }
    }

    group([name, threshold, ...names]) {
      this.define(name);
      for (const one of names) {
        if (!this.known(one) || this.used.has(one)) {
          bad(`‘${N.plain(one, 80)}’ is not defined before, or is in two groups`);
        }
        this.used.add(one);
      }
      const word = { all: names.length, any: 1 }[threshold];
      const needed = word ?? (/^[1-9][0-9]{0,3}$/.test(threshold) ? Number(threshold) : 0);
      if (needed < 1 || needed > names.length) bad(`‘${N.plain(threshold, 20)}’ of ${names.length} is no threshold`);
      this.groups.set(name, member(needed, names));
    }

    // Whether those who signed (names of witnesses) are enough.
    satisfied(signed, name = this.quorum) {
      if (name === "none") return true;
      const group = this.groups.get(name);
      if (group === undefined) return signed.has(name);
      return group.names.filter((one) => this.satisfied(signed, one)).length >= group.needed;
    }

    describe() {
      if (this.quorum === "none") return "no witness is asked for";
      const group = this.groups.get(this.quorum);
      if (group === undefined) return `witness ${N.plain(this.quorum, 80)} must have signed`;
      return `${group.needed} of ${group.names.map((name) => N.plain(name, 80)).join(", ")} must have signed`;
    }
  }

  // The policy of `text`; null when there is no text.
  async function parsePolicy(text) {
    if (/[\u0000-\u0008\u000b-\u001f\u007f]/.test(text)) {
      bad("the text has control characters other than newline and tab");
    }
    const lines = text.split("\n").map((line) => line.replace(/^[ \t]+|[ \t]+$/g, ""));
    if (lines.length > MAX_LINES) bad(`the text has more than ${MAX_LINES} lines`);
    const given = lines.filter((line) => line && !line.startsWith("#")).map((line) => line.split(/[ \t]+/));
    if (given.length === 0) return null;
    const policy = new Policy();
    if (given.some(([word]) => KEYWORDS.has(word))) {
      for (const words of given) await policy.line(words);
      if (policy.quorum === undefined) {
        bad("the policy has no quorum line, so that it does not say who must have signed");
      }
      return policy;
    }
    for (const words of given) {
      if (words.length !== 1) bad("give one witness key per line, or a whole policy");
      const key = await keyOf(words[0], N.COSIGNATURE, "a witness");
      policy.witnesses.set(policy.define(key.name), policy.distinct([...policy.witnesses.values()], key));
    }
    const names = [...policy.witnesses.keys()];
    policy.groups.set("", member(names.length, names)); // no word of a policy is empty, so the name is free
    policy.quorum = "";
    return policy;
  }

  Object.assign(N, { parsePolicy });
})((globalThis.Novate = globalThis.Novate || {}));
