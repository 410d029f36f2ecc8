// SPDX-License-Identifier: GPL-3.0-or-later
// A session key: made by this browser, kept in this page's memory, gone when the page is closed unless it was saved
// as a file. The file is the command line's: 64 hex digits of the seed.

import { ed25519Key, envelope, memberBatch, signedBytes } from "./commands.js";
import { concat, hex, unhex } from "/assets/shared/numbers.js";

const ALGORITHM = { name: "Ed25519" };
// PKCS #8 around a seed (RFC 8410).
const PREFIX = unhex("302e020100300506032b657004220420");
const LIFETIME_US = 60_000_000n;

export class SessionKey {
  #secret;
  #seed;
  #nonce = 0n;

  constructor(secret, publicKey, seed) {
    this.#secret = secret;
    this.#seed = seed;
    this.tagged = ed25519Key(publicKey);
  }

  static async create() {
    return SessionKey.#of(crypto.getRandomValues(new Uint8Array(32)));
  }

  static async fromFile(text) {
    const digits = text.trim().replace(/^0x/i, "");
    if (!/^[0-9a-fA-F]{64}$/.test(digits)) throw new Error("this is not a session key file: 64 hex digits");
    return SessionKey.#of(unhex(digits));
  }

  static async #of(seed) {
    if (!globalThis.crypto?.subtle) {
      throw new Error("this browser gives pages no keys here; open the page over https or from localhost");
    }
    let secret;
    try {
      secret = await crypto.subtle.importKey("pkcs8", concat(PREFIX, seed), ALGORITHM, true, ["sign"]);
    } catch {
      throw new Error("this browser has no Ed25519; use a newer one, or `novate order`");
    }
    const { x } = await crypto.subtle.exportKey("jwk", secret);
    const raw = atob(x.replace(/-/g, "+").replace(/_/g, "/"));
    return new SessionKey(secret, Uint8Array.from(raw, (char) => char.charCodeAt(0)), seed);
  }

  // Above every nonce of an earlier session, without asking: microseconds, counted up.
  #next(nowUs) {
    this.#nonce = nowUs > this.#nonce ? nowUs : this.#nonce + 1n;
    return this.#nonce;
  }

  // Envelope bytes of one batch of commands. `nowUs`: the venue's clock.
  async sign(deployment, account, commands, nowUs) {
    const body = memberBatch(deployment, account, this.#next(nowUs), nowUs + LIFETIME_US, commands);
    const signature = await crypto.subtle.sign(ALGORITHM, this.#secret, signedBytes(body));
    return envelope(body, this.tagged, new Uint8Array(signature));
  }

  file() {
    return `${hex(this.#seed).slice(2)}\n`;
  }
}
