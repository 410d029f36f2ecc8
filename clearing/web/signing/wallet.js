// SPDX-License-Identifier: GPL-3.0-or-later
// The reader's wallet, by EIP-1193 (`window.ethereum`). It signs and pays; this page never sees its key.

import { hex, unhex } from "/assets/shared/numbers.js";
import { explainRevert } from "./abi.js";

export class WalletError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const REJECTED = 4001;
const UNKNOWN_CHAIN = 4902;
const POLL_MS = 1_000;
const PATIENCE_MS = 180_000;

export class Wallet {
  constructor(provider) {
    this.provider = provider;
    this.address = null; // 0x, lower case
  }

  static present() {
    return Boolean(globalThis.ethereum?.request);
  }

  static async connect() {
    if (!Wallet.present()) {
      throw new WalletError("NO_WALLET", "this browser has no wallet; install one, or use the command line");
    }
    const wallet = new Wallet(globalThis.ethereum);
    const [address] = await wallet.ask("eth_requestAccounts");
    if (!/^0x[0-9a-fA-F]{40}$/.test(String(address))) {
      throw new WalletError("NO_ACCOUNT", "the wallet chose no account");
    }
    wallet.address = address.toLowerCase();
    return wallet;
  }

  async ask(method, params = []) {
    try {
      return await this.provider.request({ method, params });
    } catch (error) {
      if (error?.code === REJECTED) throw new WalletError("WALLET_REFUSED", "you refused it in the wallet");
      const data = error?.data?.data ?? error?.data?.originalError?.data ?? error?.data;
      const why = typeof data === "string" ? explainRevert(data) : "";
      const refusal = new WalletError("WALLET_ERROR", why || String(error?.message ?? error));
      throw Object.assign(refusal, { number: error?.code });
    }
  }

  async chainId() {
    return BigInt(await this.ask("eth_chainId"));
  }

  // Have the wallet on the vault's chain before anything is asked or sent there.
  async useChain(chainId) {
    if ((await this.chainId()) === BigInt(chainId)) return;
    const wanted = `0x${BigInt(chainId).toString(16)}`;
    try {
      await this.ask("wallet_switchEthereumChain", [{ chainId: wanted }]);
    } catch (error) {
      if (error.number === UNKNOWN_CHAIN) {
        throw new WalletError("UNKNOWN_CHAIN", `add chain ${chainId} to your wallet, with an endpoint that you trust`);
      }
      throw error;
    }
    if ((await this.chainId()) !== BigInt(chainId)) {
      throw new WalletError("WRONG_CHAIN", `switch your wallet to chain ${chainId}, where the vault is`);
    }
  }

  async sign(typed) {
    return unhex(await this.ask("eth_signTypedData_v4", [this.address, JSON.stringify(typed)]));
  }

  async call(to, data) {
    return unhex(await this.ask("eth_call", [{ to, data: typeof data === "string" ? data : hex(data) }, "latest"]));
  }

  // Send a transaction and wait until it is in a block. Throws when it reverted.
  async send({ chainId, to, data }, onSent = () => {}) {
    await this.useChain(chainId);
    const transaction = { from: this.address, to, data, value: "0x0" };
    await this.ask("eth_call", [transaction, "latest"]); // so that a refusal has its reason before it costs a fee
    const hash = await this.ask("eth_sendTransaction", [transaction]);
    onSent(hash);
    const until = Date.now() + PATIENCE_MS;
    while (Date.now() < until) {
      const receipt = await this.ask("eth_getTransactionReceipt", [hash]);
      if (receipt) {
        if (BigInt(receipt.status) === 1n) return receipt;
        throw new WalletError("TX_REVERTED", `transaction ${hash} was refused by the vault`);
      }
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    throw new WalletError("TX_PENDING", `transaction ${hash} is not in a block yet; watch it in your wallet`);
  }

  // `handler` hears of another account, or of none (null). Another chain needs no word: it is asked before each use.
  onAccount(handler) {
    this.provider.on?.("accountsChanged", (addresses) => {
      this.address = addresses?.[0]?.toLowerCase() ?? null;
      handler(this.address);
    });
  }
}
