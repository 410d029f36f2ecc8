// SPDX-License-Identifier: GPL-3.0-or-later
// A signed withdrawal, and what became of earlier ones. The claim itself is made at the vault (leave.js).

import { SCOPE, withdraw } from "/assets/signing/commands.js";
import { element, fillRows, get, onAction, say } from "/assets/shared/dom.js";
import { amount, clock, count, decimalsOf, parseAmount } from "/assets/shared/numbers.js";

export const decimalsOfAsset = (asset) => decimalsOf(asset.unit_atoms);
export const nameOfAsset = (asset) => asset.symbol || (asset.asset ? `Asset ${asset.asset}` : "Settlement asset");

export function setUpWithdraw(desk) {
  desk.on("venue", () => {
    get("withdraw-asset").replaceChildren(...desk.status.assets.map((one) =>
      element("option", { value: `${one.vault}/${one.asset}`, text: `${nameOfAsset(one)}, vault ${one.vault}` })));
  });
  get("withdraw").addEventListener("submit", (event) => event.preventDefault());
  onAction("withdraw-send", "withdraw-said", () => send(desk));
  desk.on("owner", () => load(desk));
  desk.on("account", () => changed(desk));
  desk.stream.subscribe("epochs", {}, () => {
    if (desk.account) load(desk);
  });
}

let shownCash = null;

// Cash moved: there may be a withdrawal more.
function changed(desk) {
  const now = `${desk.account}/${desk.view.cash_atoms}`;
  if (now !== shownCash) load(desk);
  shownCash = now;
}

async function load(desk) {
  const account = desk.account;
  const found = await desk.api.get(`/v1/accounts/${account}/withdrawals?limit=20`).catch(() => null);
  if (!found || account !== desk.account) return;
  fillRows(get("withdrawals"), found.items.map((one) => {
    const asset = desk.status.assets.find((item) => item.vault === one.vault && item.asset === one.asset);
    const places = asset ? decimalsOfAsset(asset) : 0;
    const state = one.epoch === null ? "waits for the epoch’s end" : one.posted ? "posted: claim it below once final"
      : one.posted === null ? "not known now" : "waits to be posted";
    return {
      key: `${one.seq}/${one.index}`,
      cells: [
        clock(one.time_us), nameOfAsset(one), amount(one.amount_atoms, places), amount(one.cumulative_atoms, places),
        one.epoch === null ? "–" : count(one.epoch), { text: state, class: "left" },
      ],
    };
  }), "No withdrawal yet.");
}

async function send(desk) {
  const [vault, number] = get("withdraw-asset").value.split("/").map(Number);
  const asset = desk.status.assets.find((one) => one.vault === vault && one.asset === number);
  const input = get("withdraw-amount");
  let atoms;
  try {
    atoms = parseAmount(input.value, decimalsOfAsset(asset));
    if (atoms <= 0n) throw new Error("must be more than zero");
    input.removeAttribute("aria-invalid");
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
    throw new Error(`the amount ${error.message}`);
  }
  const receipt = await desk.command(SCOPE.withdraw, withdraw(vault, number, atoms));
  const acked = receipt.outcomes.find((one) => one.type === "WithdrawalAcked");
  const all = amount(acked?.cumulative_atoms, decimalsOfAsset(asset));
  const then = "It can be claimed once its epoch is posted and final.";
  say("withdraw-said", `Acknowledged in entry ${receipt.seq}, ${all} of this asset in all. ${then}`, "ok");
  input.value = "";
  await load(desk);
}
