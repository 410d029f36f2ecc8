// SPDX-License-Identifier: GPL-3.0-or-later
// The auditor's page: checkpoints as they come, each with its signature checked here; epochs; the latest report.

import { element, fillFacts, fillRows, get, onAction, problem, say, setText } from "/assets/shared/dom.js";
import { count, duration, moment, short } from "/assets/shared/numbers.js";
import { begin, untilDone } from "/assets/shared/page.js";

const N = globalThis.Novate;
const PAGE = 20;
const { api, stream } = begin("", { onBack: () => loadEpochs().catch(() => {}) });
const epochs = new Map();
let status = null;
let newest = null; // the checkpoint that was verified last
let checking = false;
let next = null; // the checkpoint to verify then

function tag(id, tone, text) {
  get(id).replaceChildren(element("span", { class: `tag ${tone}`, text }));
}

// -- checkpoints

// One at a time, and always the newest that came meanwhile.
async function take(note) {
  next = note;
  if (checking) return;
  checking = true;
  while (next !== null) {
    const one = next;
    next = null;
    await verify(one);
  }
  checking = false;
}

async function verify(note) {
  setText("note", note);
  try {
    N.requireCrypto();
    const key = N.rawHex(status.operator_key.slice(2));
    const origin = `${status.origin}/${status.deployment.slice(2)}/journal`;
    const found = await N.verifyCheckpoint(note, key.length === 33 ? key.subarray(1) : key, origin);
    if (newest && found.size < newest.size) {
      return bad("SMALLER", `There were ${count(newest.size)} entries before, and now ${count(found.size)}.`);
    }
    if (newest && found.size === newest.size && !N.equal(found.root, newest.root)) {
      return bad("EQUIVOCATION", "Two signed checkpoints of one size have different roots: it proves a fault.");
    }
    newest = found;
    tag("checkpoint-tag", "ok", "✓ signed");
    say("checkpoint-said", "The operator’s signature is right.", "ok");
    fillFacts(get("checkpoint-facts"), [
      ["Journal entries", count(found.size)], ["Signatures", String(found.signatures.length)],
      ["Root", N.toBase64(found.root), "mono", "long"], ["Log", found.origin, "mono", "long"],
      ["Operator’s key", status.operator_key, "mono", "long"],
    ]);
  } catch (error) {
    if (!(error instanceof N.CheckError)) throw error;
    if (error instanceof N.NotChecked) {
      tag("checkpoint-tag", "open", "– not checked");
      say("checkpoint-said", problem(error));
    } else {
      bad(error.code, problem(error));
    }
  }
}

function bad(code, text) {
  tag("checkpoint-tag", "bad", "✕ refused");
  say("checkpoint-said", text.includes(code) ? text : `${text} (${code})`, "bad");
}

// -- epochs

function showEpochs() {
  const newestFirst = Array.from(epochs.values()).sort((one, other) => other.epoch - one.epoch);
  const rows = newestFirst.flatMap((one) => Object.entries(one.header_hashes).map(([vault, hash]) => ({
    key: `${one.epoch}/${vault}`,
    cells: [
      count(one.epoch), { text: vault, class: "left" },
      { text: one.posted ? "posted" : "waits", class: one.posted ? "left good" : "left warn" },
      { text: hash, class: "left mono" },
    ],
  })));
  fillRows(get("epochs"), rows, "No epoch has closed yet.");
  const first = newestFirst.length ? newestFirst.at(-1).epoch : 1;
  get("older").hidden = first <= 1;
}

async function loadEpochs() {
  const { last, posted } = await api.get("/v1/epochs?from=1&limit=1");
  const first = Math.max(1, last - PAGE + 1);
  const found = last ? await api.get(`/v1/epochs?from=${first}&limit=${PAGE}`) : { epochs: [] };
  for (const one of found.epochs) epochs.set(one.epoch, one);
  fillFacts(get("epoch-facts"), [
    ["Closed", count(last)], ["Posted", count(posted)],
    ["Lag", last - posted <= 0 ? "none" : `${count(last - posted)} to post`, last - posted > 2 ? "poor" : ""],
  ]);
  showEpochs();
}

onAction("older", "epochs-said", async () => {
  const first = Math.min(...epochs.keys());
  const from = Math.max(1, first - PAGE);
  const found = await api.get(`/v1/epochs?from=${from}&limit=${first - from}`);
  for (const one of found.epochs) epochs.set(one.epoch, one);
  showEpochs();
});

// -- the report

const TONES = { ok: ["ok", "✓ agrees"], bad: ["bad", "✕ does not agree"], open: ["open", "– no verdict"] };

async function loadReport() {
  const { json_s: made, html_s: whole } = await api.get("/auditor/reports");
  get("report-html").hidden = whole === null;
  get("report-json").hidden = made === null;
  if (made === null) {
    tag("report-tag", "open", "none");
    say("report-said", "The operator has published no report. That says nothing for or against the journal: make one "
      + "yourself, as below.");
    return;
  }
  const found = await api.get("/auditor/report.json");
  const open = found.behind.length > 0 || !found.replayed;
  const tone = found.ok ? "ok" : open && !found.divergence && !found.findings.length ? "open" : "bad";
  tag("report-tag", ...TONES[tone]);
  say("report-said", found.divergence ?? found.verdict, tone === "bad" ? "bad" : tone === "ok" ? "ok" : "");
  const other = status && found.deployment !== status.deployment;
  fillFacts(get("report-facts"), [
    ["Entries replayed", found.replayed ? count(found.entries) : "none", found.replayed ? "" : "warn"],
    ["Journal’s size then", count(found.size)], ["Epochs", count(found.epochs)],
    ["Signatures", found.signatures_checked ? "all checked" : "not checked", found.signatures_checked ? "" : "warn"],
    ["Chains compared", `${found.vaults_compared} of ${found.vaults}`,
      found.vaults_compared < found.vaults ? "warn" : ""],
    ["Written", moment(made)], ["Took", duration(found.seconds)], ["Made by", `novate ${found.version}`],
    ["Root", short(found.root), "mono"],
    ...(other ? [["Deployment", "another one than this venue", "poor"]] : []),
    ...(found.unchecked.length ? [["Not checked", found.unchecked.join("; "), "warn"]] : []),
  ]);
  get("findings-box").hidden = !found.findings_detail.length;
  fillRows(get("findings"), found.findings_detail.map((one, at) => ({
    key: at,
    cells: [
      one.code, String(one.epoch), one.vault < 0 ? "–" : String(one.vault), { text: one.message, class: "left wrap" },
    ],
  })), "None.");
}

function showCommands() {
  const vaults = status.vaults.map((one) =>
    ` \\\n  --rpc https://ENDPOINT-OF-CHAIN-${one.chain_id} --vault ${one.address}`).join("");
  setText("reproduce",
    `novate audit run --api ${location.origin}${vaults} \\\n  --report audit.html --report audit.json`);
}

async function load() {
  await untilDone(async () => {
    status = await api.get("/v1/status");
    showCommands();
    await take(await api.text("/v1/checkpoint"));
    await loadEpochs();
    await loadReport();
  }, (error) => {
    if (error) say("epochs-said", problem(error), "bad");
    else say("epochs-said", "");
  });
  stream.subscribe("checkpoint", {}, (frame) => {
    if (frame.data) take(frame.data.note);
  });
  stream.subscribe("epochs", {}, () => loadEpochs().catch((error) => say("epochs-said", problem(error), "bad")));
  stream.subscribe("status", {}, (frame) => {
    if (frame.data.operator_key !== status.operator_key) newest = null; // the key was rotated, as the journal says
    status = { ...status, ...frame.data };
  });
}

load();
