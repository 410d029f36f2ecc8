// SPDX-License-Identifier: GPL-3.0-or-later
// Bytes, numbers, hashes and errors. What proofs/hashing.py, proofs/errors.py and proofs/bundle.py say of them.
// Rules: numbers that count money, entries or epochs are BigInt; every text from outside goes through `plain`
// before a person sees it; every error has a code that never changes and a message that says what to do.
"use strict";

(function (N) {
  class CheckError extends Error {
    constructor(code, message) {
      super(message);
      this.code = code;
    }
  }

  // Something could not be asked or computed here: says nothing about the proof, for or against.
  class NotChecked extends CheckError {}

  function fail(code, message) {
    throw new CheckError(code, message);
  }

  // What a terminal would show (Python's str.isprintable): no control, format or separator character but the space.
  const PRINTABLE = /^(?: |[^\p{C}\p{Z}])*$/u;
  const HIDDEN = /(?! )[\p{C}\p{Z}]/gu;

  function isPrintable(text) {
    return PRINTABLE.test(text);
  }

  function plain(text, limit = 200) {
    const characters = Array.from(String(text).slice(0, 2 * limit));
    const cut = characters.length > limit || String(text).length > 2 * limit;
    return characters.slice(0, limit).join("").replace(HIDDEN, "?") + (cut ? "…" : "");
  }

  function utf8(text) {
    return new TextEncoder().encode(text);
  }

  // Strict: a byte order mark stays in the text, where every format here refuses it.
  function fromUtf8(bytes, code, what) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return fail(code, `${what} is not UTF-8 text`);
    }
  }

  function concat(...parts) {
    const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  function equal(one, other) {
    return one.length === other.length && one.every((value, at) => value === other[at]);
  }

  function hex(bytes) {
    return Array.from(bytes, (value) => value.toString(16).padStart(2, "0")).join("");
  }

  function unhex(text, what) {
    if (!/^(?:[0-9a-f]{2})*$/.test(text)) fail("BUNDLE_MALFORMED", `${what} is not lower-case hex`);
    return rawHex(text);
  }

  function rawHex(text) {
    const bytes = new Uint8Array(text.length / 2);
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = parseInt(text.slice(2 * at, 2 * at + 2), 16);
    return bytes;
  }

  // Standard alphabet, padded, in its one canonical spelling; null for anything else.
  function base64(text) {
    let raw;
    try {
      raw = atob(text);
    } catch {
      return null;
    }
    if (btoa(raw) !== text) return null;
    return Uint8Array.from(raw, (char) => char.charCodeAt(0));
  }

  function toBase64(bytes) {
    return btoa(Array.from(bytes, (value) => String.fromCharCode(value)).join(""));
  }

  function number(text, what) {
    if (text.length > 40 || !/^(?:0|[1-9][0-9]*)$/.test(text)) {
      fail("BUNDLE_MALFORMED", `${what} ‘${plain(text, 50)}’ is not a decimal number`);
    }
    return BigInt(text);
  }

  function fromBytes(bytes) {
    return bytes.length ? BigInt(`0x${hex(bytes)}`) : 0n;
  }

  // `value` as bits/8 big-endian bytes.
  function unsigned(value, bits, what) {
    if (typeof value !== "bigint" || value < 0n || value >> BigInt(bits)) {
      fail("ENCODING_INVALID", `${what} is not an unsigned ${bits}-bit integer`);
    }
    return rawHex(value.toString(16).padStart(bits / 4, "0"));
  }

  function fixed(bytes, length, what) {
    if (bytes.length !== length) fail("ENCODING_INVALID", `${what} must be ${length} bytes`);
    return bytes;
  }

  // Browsers hide WebCrypto from pages that came over plain http from another machine.
  function requireCrypto() {
    if (!globalThis.crypto || !globalThis.crypto.subtle) {
      const how = "open it from disk, over https, or from localhost";
      throw new NotChecked("NO_WEBCRYPTO", `this browser gives the page no cryptography here; ${how}`);
    }
  }

  async function sha256(...parts) {
    const data = parts.length === 1 ? parts[0] : concat(...parts);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  }

  // Domain of a vault's exit tree: binds the chain and the vault.
  async function exitDomain(chainId, vault) {
    return sha256(utf8("novate/exit/v1"), unsigned(chainId, 256, "chain id"), fixed(vault, 20, "vault"));
  }

  async function stateDomain(deploymentId) {
    return sha256(utf8("novate/state/v1"), fixed(deploymentId, 32, "deployment id"));
  }

  // Groups of three, exact: 1234567 -> 1,234,567.
  function grouped(value) {
    return value.toString().replace(/\B(?=(?:\d{3})+$)/g, ",");
  }

  // Atoms as a decimal of the asset: (1234500n, 6) -> 1.234500.
  function decimal(atoms, decimals) {
    if (decimals === 0) return grouped(atoms);
    const digits = atoms.toString().padStart(decimals + 1, "0");
    return `${grouped(BigInt(digits.slice(0, -decimals)))}.${digits.slice(-decimals)}`;
  }

  // Seconds (number or BigInt) as people write a moment; no browser's own format, so that all say the same.
  function moment(seconds) {
    const time = new Date(Number(seconds) * 1000);
    if (Number.isNaN(time.getTime())) return `second ${seconds}`;
    return `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  }

  Object.assign(N, {
    CheckError, NotChecked, fail, isPrintable, plain, utf8, fromUtf8, concat, equal, hex, unhex, rawHex, base64,
    toBase64, number, fromBytes, unsigned, fixed, requireCrypto, sha256, exitDomain, stateDomain, grouped, decimal,
    moment,
  });
})((globalThis.Novate = globalThis.Novate || {}));
