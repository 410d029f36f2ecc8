// SPDX-License-Identifier: GPL-3.0-or-later
// At the vault: what is owed and paid, deadlines, and the calls that get the money out, with their exact calldata.
// The vault is asked through the reader's wallet: nothing here depends on what the operator says, but for the bundle,
// whose proof the vault itself checks.

import { leafCall, plainCall, uint } from "/assets/signing/abi.js";
import { element, fillFacts, fillRows, get, onAction, problem, say, setText } from "/assets/shared/dom.js";
import { amount, duration, moment } from "/assets/shared/numbers.js";
import { chosenVault, fetchBundle } from "./proof.js";
import { decimalsOfAsset, nameOfAsset } from "./withdraw.js";

const N = globalThis.Novate;
const REASONS = ["", "the operator missed its deadline", "a veto was upheld", "a fault was proven"];

export function setUpLeave(desk) {
  onAction("chain-look", "leave-said", () => look(desk));
  desk.on("venue", () => showCommand(desk));
  const fresh = () => {
    if (!desk.owner) return;
    showCommand(desk);
    get("calls").replaceChildren();
    get("chain-facts").replaceChildren();
    setText("advice", "Ask the vault to see deadlines, what was paid, and what can be done now.");
    showOwed(desk, null);
  };
  desk.on("owner", fresh);
  get("vault").addEventListener("change", fresh);
}

function assetsOf(desk, vault) {
  return desk.status.assets.filter((one) => one.vault === vault.vault).sort((one, other) => one.asset - other.asset);
}

function showCommand(desk) {
  const vault = chosenVault(desk);
  const owner = desk.owner?.owner ?? "0x…";
  setText("exit-command",
    `novate exit --rpc https://ENDPOINT-OF-CHAIN-${vault.chain_id} --vault ${vault.address} \\\n`
    + `  --owner ${owner} --wallet WALLET.key`);
}

function showOwed(desk, said) {
  const vault = chosenVault(desk);
  fillRows(get("owed"), assetsOf(desk, vault).map((asset) => {
    const [exit, ack] = [desk.owner.exits_atoms[asset.lane] ?? 0, desk.owner.withdraw_acks_atoms[asset.lane] ?? 0];
    const paid = said ? said.claimed[asset.asset] : null;
    const due = said && BigInt(ack) > paid ? BigInt(ack) - paid : said ? 0n : null;
    const money = (value) => amount(value, decimalsOfAsset(asset));
    return {
      key: asset.asset,
      cells: [nameOfAsset(asset), money(exit), money(ack), money(paid), { text: money(due), class: due ? "good" : "" }],
    };
  }), "The vault has no asset.");
}

// -- what the vault says

async function readVault(desk, vault) {
  const { wallet, owner } = desk;
  const ask = async (signature, ...values) => uint(await wallet.call(vault.address, plainCall(signature, ...values)));
  const names = [
    "frozen()", "freezeAt()", "frozenAt()", "freezeReason()", "escapeEpoch()", "epochCount()", "finalisedEpoch()",
  ];
  const found = await Promise.all(names.map((one) => ask(one)));
  const [frozen, freezeAt, frozenAt, reason, escapeEpoch, epochs, final] = found;
  const assets = assetsOf(desk, vault);
  const each = (signature) => Promise.all(assets.map((asset) => ask(signature, owner.owner, asset.asset)));
  const [claimed, credit, escaped] = [
    await each("claimedOf(address,uint8)"), await each("credit(address,uint8)"),
    await ask("escaped(address)", owner.owner),
  ];
  const finalAt = epochs > final && !frozen ? await ask("finalAt(uint64)", epochs) : null;
  const { timestamp } = await wallet.ask("eth_getBlockByNumber", ["latest", false]);
  return {
    frozen: frozen > 0n, freezeAt, frozenAt, reason: Number(reason), escapeEpoch, epochs, final, finalAt, claimed,
    credit, escaped: escaped > 0n, now: BigInt(timestamp),
  };
}

async function look(desk) {
  const vault = chosenVault(desk);
  const wallet = await desk.connectWallet();
  await wallet.useChain(vault.chain_id);
  say("leave-said", "Asking …");
  const said = await readVault(desk, vault);
  const fetched = await fetchBundle(desk, vault.vault).then((bytes) => N.decodeBundle(bytes), () => null);
  const bundle = choose(vault, said, [fetched, ...desk.kept]);
  await desk.refreshOwner().catch(() => {});
  showFacts(said);
  showOwed(desk, said);
  showCalls(desk, vault, said, bundle);
  say("leave-said", `As of block time ${moment(said.now)}.`);
}

function showFacts(said) {
  const left = said.freezeAt - said.now;
  const state = said.frozen ? `frozen: ${REASONS[said.reason] ?? "for another reason"}` : "open";
  fillFacts(get("chain-facts"), [
    ["Vault", state, said.frozen ? "poor" : "good"],
    ["Epochs posted", String(said.epochs)],
    ["Final epoch", said.frozen ? `${said.escapeEpoch} pays everyone` : String(said.final)],
    ...(said.finalAt === null ? [] : [[`Epoch ${said.epochs} final`, moment(said.finalAt)]]),
    said.frozen ? ["Frozen since", moment(said.frozenAt)]
      : left > 0n ? ["Anyone may freeze", `in ${duration(left)}, ${moment(said.freezeAt)}`]
        : ["Anyone may freeze", "now", "poor"],
    ...(said.escaped ? [["Your exit", "was paid already"]] : []),
  ]);
}

// -- what can be called

function showCalls(desk, vault, said, bundle) {
  const epoch = bundle ? epochOf(bundle) : 0n;
  const due = bundle ? bundle.exit.withdraw_acks.some((ack, asset) => BigInt(ack) > said.claimed[asset]) : false;
  const overdue = !said.frozen && said.now >= said.freezeAt;
  const calls = [];
  if (said.frozen) {
    if (bundle && !said.escaped && epoch === said.escapeEpoch) calls.push(escapeCall(bundle, epoch));
  } else {
    if (bundle && due && epoch <= said.final) calls.push(claimCall(bundle, epoch));
    if (overdue) calls.push(FREEZE);
    calls.push(...forcedCalls(desk, vault));
  }
  said.credit.forEach((credit, asset) => {
    if (!credit) return;
    const data = plainCall("withdrawCredit(uint8,address)", asset, desk.owner.owner);
    calls.push([`credit-${asset}`, `Withdraw credit of asset ${asset}`, "What the token once refused to pay.", data]);
  });
  get("calls").replaceChildren(...calls.map((call) => card(desk, vault, call)));
  setText("advice", advise(said, bundle, { epoch, due, overdue }));
}

const epochOf = (bundle) => N.decodeHeader(N.unhex(bundle.header, "header")).epoch;

// The bundle that pays: of the escape header once the vault is frozen, else the newest.
function choose(vault, said, bundles) {
  const here = (one) => `0x${one.vault}` === vault.address && Number(one.chain_id) === vault.chain_id;
  const own = bundles.filter((one) => one && here(one));
  const paying = said.frozen ? own.filter((one) => epochOf(one) === said.escapeEpoch) : own;
  return paying.sort((one, other) => Number(epochOf(other) - epochOf(one)))[0] ?? null;
}

const FREEZE = [
  "freeze", "Freeze the vault", "The operator is overdue. Freezing is for good; then everyone is paid.",
  plainCall("freeze()"),
];
const claimCall = (bundle, epoch) => ["claim", "Claim acknowledged withdrawals",
  `With your leaf in epoch ${epoch}, which is final. The vault pays the owner, whoever submits.`,
  leafCall("claim", bundle)];
const escapeCall = (bundle, epoch) => ["escape", "Escape with everything",
  `With your leaf in epoch ${epoch}, the one that pays after the freeze.`, leafCall("escape", bundle)];

function forcedCalls(desk, vault) {
  const sub = desk.owner.accounts.find((one) => one.account === desk.account)?.sub ?? 0;
  const asset = assetsOf(desk, vault)[0];
  return [
    ["force-withdrawal", `Force a withdrawal: all that is free (${nameOfAsset(asset).toLowerCase()})`,
      "Past the operator: it must deal with the request before the deadline, or anyone may freeze the vault.",
      plainCall("forceWithdrawal(uint8,uint128,uint16)", asset.asset, 0, sub)],
    ["force-exit", "Force the exit of this account",
      "Past the operator: orders are cancelled, positions closed, and everything paid out. It cannot be taken back.",
      plainCall("forceExit(uint16)", sub)],
  ];
}

function advise(said, bundle, { epoch, due, overdue }) {
  if (said.frozen && said.escaped) {
    return "You have left. Deposits that were not consumed are refunded by `novate exit`.";
  }
  if (said.frozen && bundle) return "The vault is frozen: escape now, with the call below.";
  if (said.frozen) {
    return `The vault is frozen and pays from epoch ${said.escapeEpoch}: verify the bundle of that epoch above and ask `
      + "again, or use `novate exit`, which rebuilds it from the chain.";
  }
  if (due && epoch <= said.final) return "A withdrawal can be paid now: claim it with the call below.";
  if (due) {
    const when = said.finalAt ? `, ${moment(said.finalAt)}` : "";
    return `A withdrawal is acknowledged in epoch ${epoch}; it can be claimed when that epoch is final${when}.`;
  }
  if (overdue) return "The operator is overdue: anyone may freeze the vault now, and then everyone is paid.";
  return "Nothing waits to be claimed. To get money out, withdraw above; if the operator does not listen, force it.";
}

function card(desk, vault, [name, title, text, data]) {
  const said = element("p", { class: "said", role: "status", id: `${name}-said` });
  const label = "Send with your wallet";
  const named = { id: `call-${name}`, "aria-label": `${label}: ${title}` };
  const button = element("button", { type: "button", text: label, ...named });
  onAction(button, said, async () => {
    say(said, "Look at your wallet: it asks to send a transaction.");
    const receipt = await desk.wallet.send({ chainId: vault.chain_id, to: vault.address, data },
      (hash) => say(said, `Sent: ${hash}. Waiting for a block …`));
    say(said, `Done in block ${BigInt(receipt.blockNumber)}: ${receipt.transactionHash}`, "ok");
    const again = await readVault(desk, vault).catch((error) => say(said, problem(error), "bad"));
    if (!again) return;
    showFacts(again);
    showOwed(desk, again);
  });
  const shown = `to:    ${vault.address}\nvalue: 0\ndata:  ${data}`;
  return element("div", { class: "call" },
    element("h3", { text: title }), element("p", { text }),
    element("details", {}, element("summary", { text: "Exact calldata" }),
      element("pre", { class: "mono calldata", tabindex: "0", text: shown, "aria-label": `Calldata: ${title}` })),
    element("div", { class: "actions" }, button), said);
}
