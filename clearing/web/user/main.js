// SPDX-License-Identifier: GPL-3.0-or-later
// The user page: whose account, then everything about it.

import { element, get, onAction, problem, say } from "/assets/shared/dom.js";
import { decimalsOf, short } from "/assets/shared/numbers.js";
import { begin, untilDone } from "/assets/shared/page.js";
import { Wallet } from "/assets/signing/wallet.js";
import { Desk } from "./desk.js";
import { setUpKeys } from "./keys.js";
import { setUpLeave } from "./leave.js";
import { setUpLive } from "./live.js";
import { setUpProof } from "./proof.js";
import { setUpTicket } from "./ticket.js";
import { setUpWithdraw } from "./withdraw.js";

const KEPT = "novate-owner";
const { api, stream } = begin("", { onBack: () => desk.refreshOwner().catch(() => {}) });
const desk = new Desk(api, stream);

async function loadVenue() {
  const [status, found] = await Promise.all([api.get("/v1/status"), api.get("/v1/instruments")]);
  desk.status = status;
  desk.decimals = decimalsOf(status.assets[0].unit_atoms);
  desk.instruments = new Map(found.instruments.map((one) => [one.id, one]));
  desk.tell("venue");
}

function addressOf(text) {
  const found = /^\s*(0x[0-9a-fA-F]{40})\s*$/.exec(text);
  get("owner").setAttribute("aria-invalid", String(found === null));
  if (found === null) throw new Error("an address is 0x and 40 hexadecimal digits");
  return found[1].toLowerCase();
}

async function show(address) {
  if (!desk.status) throw new Error("the venue has not answered yet; wait a moment");
  const owner = await api.get(`/v1/owners/${address}`);
  if (!owner.accounts.length) throw new Error("this owner has no account yet: deposit at the vault first");
  desk.owner = owner;
  const options = owner.accounts.map((one) =>
    element("option", { value: one.account, text: `${one.account} (sub-account ${one.sub})` }));
  get("account").replaceChildren(...options);
  get("account-field").hidden = owner.accounts.length < 2;
  try {
    sessionStorage.setItem(KEPT, address);
  } catch {
    // not kept: it is asked for again
  }
  open(owner.accounts[0].account);
  say("who-said", `Account ${desk.account} of this owner.`, "ok");
}

function open(account) {
  desk.account = Number(account);
  desk.view = null;
  get("nobody").hidden = true;
  get("desk").hidden = false;
  desk.tell("owner");
}

function setUpChoice() {
  get("who").addEventListener("submit", (event) => event.preventDefault());
  onAction("look", "who-said", () => show(addressOf(get("owner").value)));
  onAction("connect", "who-said", async () => {
    const wallet = await desk.connectWallet();
    get("owner").value = wallet.address;
    await show(wallet.address);
  });
  get("owner").addEventListener("keydown", (event) => {
    if (event.key === "Enter") get("look").click();
  });
  get("account").addEventListener("change", () => open(get("account").value));
  desk.on("wallet", () => {
    const address = desk.wallet?.address;
    get("connect").textContent = address ? `Wallet ${short(address, 6)}` : "Connect wallet";
  });
  if (!Wallet.present()) {
    get("connect").hidden = true;
    say("who-said", "This browser has no wallet; you can look, and trade with a key file.");
  }
}

setUpChoice();
setUpKeys(desk);
setUpLive(desk);
setUpTicket(desk);
setUpProof(desk);
setUpWithdraw(desk);
setUpLeave(desk);
await untilDone(loadVenue, (error) => {
  if (error) say("who-said", problem(error), "bad");
});
let kept = null;
try {
  kept = sessionStorage.getItem(KEPT);
} catch {
  // storage is forbidden
}
if (kept) {
  get("owner").value = kept;
  show(kept).catch((error) => say("who-said", problem(error), "bad"));
}
document.body.dataset.ready = "1";
