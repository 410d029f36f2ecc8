// SPDX-License-Identifier: GPL-3.0-or-later
// Reading a proof bundle (proofs/bundle.py). JSON is read by hand because JSON.parse takes the last of two
// fields of one name, where another reader takes the first, and loses digits of numbers above 2^53.
"use strict";

(function (N) {
  const FORMAT = "novate-bundle/1";
  const MAX_BYTES = 8 * 1024 * 1024;
  const MAX_LANES = 4;
  const NAME_LIMIT = 255;
  const PATH_LIMIT = 64;
  const NESTING_LIMIT = 32;
  const COUNT_LIMIT = 1n << 53n;

  function bad(why) {
    return N.fail("BUNDLE_MALFORMED", `${why}; fetch the bundle again`);
  }

  // Objects become Maps, integers BigInt; other numbers are refused, as no field has one.
  class Reader {
    constructor(text) {
      this.text = text;
      this.at = 0;
    }

    token(pattern) {
      pattern.lastIndex = this.at;
      const found = pattern.exec(this.text);
      if (found === null) return null;
      this.at = pattern.lastIndex;
      return found[0];
    }

    skip() {
      this.token(/[ \t\n\r]*/y);
    }

    take(char) {
      if (this.text[this.at] !== char) return false;
      this.at += 1;
      return true;
    }

    document() {
      const value = this.value(0);
      this.skip();
      if (this.at !== this.text.length) bad(`there is more text after the JSON, at character ${this.at}`);
      return value;
    }

    value(depth) {
      this.skip();
      if (depth > NESTING_LIMIT) bad("the JSON is nested too deeply");
      if (this.take("{")) return this.object(depth);
      if (this.take("[")) return this.array(depth);
      if (this.text[this.at] === '"') return this.string();
      const word = this.token(/true|false|null/y);
      if (word !== null) return { true: true, false: false, null: null }[word];
      const digits = this.token(/-?(?:0|[1-9][0-9]*)(?![0-9.eE])/y);
      if (digits === null || digits.length > 40) bad(`no JSON value that a bundle could have, at character ${this.at}`);
      return BigInt(digits);
    }

    object(depth) {
      const found = new Map();
      this.skip();
      if (this.take("}")) return found;
      do {
        this.skip();
        const name = this.string();
        if (found.has(name)) bad("a field is given twice, so that readers may differ");
        this.skip();
        if (!this.take(":")) bad(`a colon is missing at character ${this.at}`);
        found.set(name, this.value(depth + 1));
        this.skip();
      } while (this.take(","));
      if (!this.take("}")) bad(`an object does not end at character ${this.at}`);
      return found;
    }

    array(depth) {
      const found = [];
      this.skip();
      if (this.take("]")) return found;
      do {
        found.push(this.value(depth + 1));
        this.skip();
      } while (this.take(","));
      if (!this.take("]")) bad(`a list does not end at character ${this.at}`);
      return found;
    }

    // By a loop: a pattern would need a stack as deep as the text is long.
    string() {
      const from = this.at;
      if (!this.take('"')) bad(`a text is missing at character ${from}`);
      for (let char = 0; char !== 34; this.at += char === 92 ? 2 : 1) {
        char = this.text.charCodeAt(this.at);
        if (!(char >= 32)) bad(`a text is malformed at character ${this.at}`);
      }
      let text = "";
      try {
        text = JSON.parse(this.text.slice(from, this.at));
      } catch {
        bad(`a text is malformed at character ${from}`);
      }
      if (/\p{Cs}/u.test(text)) bad("a text has half a character");
      return text;
    }
  }

  // -- the shape: a function per kind of value, which refuses every other

  const text = (value, where) => (typeof value === "string" ? value : bad(`${where} is not a text`));
  const count = (value, where) =>
    typeof value === "bigint" && value >= 0n && value < COUNT_LIMIT ? value : bad(`${where} is not a count below 2^53`);
  const list = (kind) => (value, where) =>
    Array.isArray(value) ? value.map((item, at) => kind(item, `${where}[${at}]`)) : bad(`${where} is not a list`);
  const optional = (kind, otherwise) => Object.assign((value, where) => kind(value, where), { otherwise });

  function record(fields) {
    return (value, where) => {
      if (!(value instanceof Map)) bad(`${where} is not an object`);
      for (const name of value.keys()) {
        if (!Object.hasOwn(fields, name)) bad(`${where} has the unknown field ‘${N.plain(name, 40)}’`);
      }
      const found = {};
      for (const [name, kind] of Object.entries(fields)) {
        if (value.has(name)) found[name] = kind(value.get(name), `${where}.${name}`);
        else if (kind.otherwise !== undefined) found[name] = kind.otherwise;
        else bad(`${where} lacks ‘${name}’`);
      }
      return found;
    };
  }

  const texts = list(text);
  const EXIT = record({
    index: count, owner: text, exits: texts, withdraw_acks: texts, hashes: texts, sums: list(texts),
  });
  const STATE = record({
    account: count, sub: count, salt: text, equity: text, deficit: text, margin_initial: text,
    margin_maintenance: text, stress_loss: text, details: text, hashes: texts,
  });
  const ENTRY = record({ seq: count, entry: text, proof: texts });
  const BUNDLE = record({
    format: text, deployment_id: text, chain_id: count, vault: text, origin: text, operator_key: text,
    assets: texts, header: text, exit: EXIT, checkpoint: text, states: optional(list(STATE), []),
    entries: optional(list(ENTRY), []),
  });

  function decodeBundle(bytes) {
    if (bytes.length > MAX_BYTES) bad(`the file has ${bytes.length} bytes; a bundle has at most ${MAX_BYTES}`);
    const bundle = BUNDLE(new Reader(N.fromUtf8(bytes, "BUNDLE_MALFORMED", "the bundle")).document(), "the bundle");
    if (bundle.format !== FORMAT) bad(`format ‘${N.plain(bundle.format, 40)}’ is not known; this page reads ${FORMAT}`);
    if (bundle.assets.length < 1 || bundle.assets.length > MAX_LANES) {
      bad(`a vault has 1 to ${MAX_LANES} assets; the bundle names ${bundle.assets.length}`);
    }
    for (const name of [bundle.origin, ...bundle.assets]) {
      // Unicode characters, not JavaScript's halves of them, are counted.
      if (Array.from(name).length > NAME_LIMIT || !N.isPrintable(name)) {
        bad(`the origin and the assets' names are at most ${NAME_LIMIT} printable characters`);
      }
    }
    if (bundle.exit.hashes.length > PATH_LIMIT || bundle.exit.sums.length > PATH_LIMIT) {
      bad("the exit path is longer than any tree");
    }
    return bundle;
  }

  Object.assign(N, { decodeBundle, BUNDLE_FORMAT: FORMAT, BUNDLE_MAX_BYTES: MAX_BYTES });
})((globalThis.Novate = globalThis.Novate || {}));
