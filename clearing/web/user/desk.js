// SPDX-License-Identifier: GPL-3.0-or-later
// What the parts of the page share: whose account it is, what the venue is, the session key, the wallet.
// Events: "owner" (another owner or account), "account" (a new view), "key", "wallet".

import { unhex } from "/assets/shared/numbers.js";
import { Wallet } from "/assets/signing/wallet.js";
import { advice } from "/assets/signing/rejections.js";

export class Refusal extends Error {
  constructor(code) {
    super(advice(code));
    this.code = code;
  }
}

export class Desk extends EventTarget {
  constructor(api, stream) {
    super();
    this.api = api;
    this.stream = stream;
    this.status = null;
    this.instruments = new Map();
    this.decimals = 6; // of the settlement asset
    this.owner = null; // as /v1/owners gives it
    this.account = null; // its number
    this.view = null; // as /v1/accounts gives it
    this.key = null;
    this.wallet = null;
    this.kept = []; // bundles that were verified here: with them one can leave when the operator answers no more
  }

  on(name, handler) {
    this.addEventListener(name, () => handler());
  }

  tell(name) {
    this.dispatchEvent(new Event(name));
  }

  get deployment() {
    return unhex(this.status.deployment);
  }

  // What the session key may do for this owner, by the journal; null when it was never allowed, or no more.
  get allowed() {
    if (!this.key || !this.owner) return null;
    const tagged = Array.from(this.key.tagged, (value) => value.toString(16).padStart(2, "0")).join("");
    const found = this.owner.keys.find((one) => one.key === `0x${tagged}`);
    if (!found || found.revoked || BigInt(found.expiry_us) <= this.stream.nowUs()) return null;
    return found;
  }

  may(scope) {
    return Boolean(this.allowed && this.allowed.scope & scope);
  }

  async connectWallet() {
    if (this.wallet) return this.wallet;
    const wallet = await Wallet.connect();
    wallet.onAccount((address) => {
      if (address === null) this.wallet = null;
      this.tell("wallet");
    });
    this.wallet = wallet;
    this.tell("wallet");
    return wallet;
  }

  async refreshOwner() {
    if (!this.owner) return;
    this.owner = await this.api.get(`/v1/owners/${this.owner.owner}`);
    this.tell("key");
  }

  // Sign commands with the session key and hand them in; the receipt. Throws the venue's refusal.
  async command(scope, ...commands) {
    if (!this.key) throw new Error("make a session key first");
    if (!this.may(scope)) throw new Error("this session key may not do that: allow it with your wallet first");
    const signed = await this.key.sign(this.deployment, this.account, commands, this.stream.nowUs());
    return this.send(signed);
  }

  async send(envelope) {
    const receipt = await this.api.submit(envelope);
    if (receipt.rejected.length) throw new Refusal(receipt.rejected[0].code);
    return receipt;
  }
}
