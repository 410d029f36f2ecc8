// SPDX-License-Identifier: GPL-3.0-or-later
// Private figures as tables: clearing/service/ops/figures.py says what each of them means.

import { element, fillFacts, fillRows, get } from "/assets/shared/dom.js";
import { amount, count, duration, ppm } from "/assets/shared/numbers.js";

const PPM = 1_000_000;
const DECIMALS = 6; // of the settlement asset
const SHOW_GWEI = 10n ** 15n;
const TONES = { ok: ["ok", "✓ ok"], warning: ["open", "! look today"], critical: ["bad", "✕ act now"] };

const age = (seconds) => (seconds === null ? "never" : `${duration(seconds)} ago`);
const money = (atoms) => amount(atoms, DECIMALS);
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function ether(wei) {
  if (wei === null) return "–";
  const value = BigInt(wei);
  return value < SHOW_GWEI ? `${amount(value, 9, 0)} gwei` : `${amount(value / 10n ** 12n, 6, 2)} ether`;
}

function latency(seconds) {
  return seconds === null ? "–" : seconds < 1 ? `${(1000 * seconds).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

export function showFigures(report) {
  const found = report.figures;
  showHealth(report);
  showEpochs(found);
  showOracle(found);
  showRisk(found);
  showProcess(found, report.version);
}

function showHealth({ health, alerts, figures }) {
  const [tone, text] = TONES[health];
  const badge = get("health-tag");
  if (badge.textContent !== text) badge.replaceChildren(element("span", { class: `tag ${tone}`, text }));
  const refused = figures.refusing ? `refused: ${figures.refusing}` : "taken";
  const taking = figures.halted ? `halted: ${figures.halted}` : refused;
  const soonest = Math.min(...figures.vaults.map((one) => one.seconds_to_freeze ?? Infinity));
  const gas = Math.min(...figures.vaults.map((one) => one.epochs_left ?? Infinity));
  fillFacts(get("health-facts"), [
    ["Commands", taking, taking === "taken" ? "good" : "poor"],
    ["Posting lag", `${Math.max(0, ...figures.vaults.map((one) => one.epoch_lag))} epochs`],
    ["Time to freeze", Number.isFinite(soonest) ? duration(soonest) : "no chain"],
    ["Epochs of gas left", Number.isFinite(gas) ? count(gas) : "–"],
    ["Waterfall", figures.stage_name, figures.stage ? "poor" : "good"],
    ["Insurance fund", money(figures.insurance_fund_atoms)],
    ["Waiting", count(figures.waiting)],
    ["Faults", count(Object.keys(figures.faults).length), Object.keys(figures.faults).length ? "poor" : ""],
  ]);
  fillRows(get("alerts"), alerts.map((one) => ({
    key: `${one.name}/${one.subject}`,
    cells: [
      { text: one.severity, class: one.severity === "critical" ? "poor" : "warn" },
      { text: one.subject ? `${one.name} (${one.subject})` : one.name, class: "left" },
      { text: one.message, class: "left wrap" },
    ],
  })), "No alert stands.");
}

function showEpochs(found) {
  fillFacts(get("epoch-facts"), [
    ["Closed", count(found.epoch)], ["Posted", count(found.posted_epoch)],
    ["Since the last close", found.epoch_age_seconds === null ? "–" : duration(found.epoch_age_seconds)],
    ["Closes every", found.epoch_seconds ? duration(found.epoch_seconds) : "by hand"],
  ]);
  fillRows(get("vaults"), found.vaults.map((one) => ({
    key: one.vault,
    cells: [
      String(one.vault) + (one.connected ? "" : " (no chain)"), count(one.posted_epoch),
      { text: count(one.epoch_lag), class: one.epoch_lag > 2 ? "poor" : "" },
      one.frozen ? { text: "frozen", class: "poor" } : one.seconds_to_freeze === null ? "–" : {
        text: `${duration(one.seconds_to_freeze)} of ${duration(one.deadline_seconds ?? 0)}`,
        class: one.urgency > 0.5 ? "poor" : "",
      },
      `${Math.round(100 * one.urgency)} %`, count(one.missing_attestations), count(one.pending), ether(one.balance_wei),
      one.epochs_left === null ? "–" : { text: count(one.epochs_left), class: one.epochs_left < 50 ? "poor" : "" },
      age(one.chain_age_seconds),
    ],
  })), "There is no vault.");
}

function showOracle(found) {
  const limit = found.oracle_max_age_seconds;
  const fresh = found.publishers.filter((one) => one.age_seconds !== null && one.age_seconds <= limit).length;
  fillFacts(get("oracle-facts"), [
    ["Fresh publishers", `${fresh} of ${found.publishers.length}`, fresh < found.oracle_quorum ? "poor" : "good"],
    ["Needed", count(found.oracle_quorum)], ["Fresh for", duration(limit)],
  ]);
  fillRows(get("publishers"), found.publishers.map((one) => {
    const old = one.age_seconds === null || one.age_seconds > limit;
    return {
      key: one.publisher,
      cells: [
        String(one.publisher), age(one.age_seconds),
        { text: old ? "stale" : "fresh", class: old ? "left poor" : "left good" },
      ],
    };
  }), "There is no publisher.");
  fillRows(get("instruments"), found.instruments.map((one) => ({
    key: one.instrument,
    cells: [
      one.symbol, one.mark_atoms ? money(one.mark_atoms) : "–", age(one.index_age_seconds),
      count(one.open_interest_lots),
      { text: one.halted || one.breaker || "open", class: one.halted || one.breaker ? "left poor" : "left" },
    ],
  })), "No instrument is listed.");
}

function showRisk(found) {
  fillFacts(get("risk-facts"), [
    ["Waterfall", found.stage_name, found.stage ? "poor" : "good"],
    ["Insurance fund", money(found.insurance_fund_atoms)], ["Operator’s capital", money(found.operator_capital_atoms)],
    ["Haircut of gains", ppm(found.haircut_ppm), found.haircut_ppm ? "poor" : ""],
    ["Near maintenance", count(found.near_count), found.near_count ? "warn" : ""],
    ["Below it", count(found.failing_count), found.failing_count ? "poor" : ""],
    ["Auctions", count(found.auctions)], ["Defaulters", count(found.defaulters)],
    ["Liquidations so far", count(found.liquidations)],
  ]);
  fillRows(get("near"), found.near.map((one) => ({
    key: one.account,
    cells: [
      String(one.account), money(one.equity_atoms), money(one.maintenance_atoms),
      { text: ppm(one.ratio_ppm, 1), class: one.ratio_ppm < PPM ? "poor" : "warn" },
    ],
  })), "No account is near its maintenance margin.");
  get("scan-age").textContent = found.scan_age_seconds === null ? "The first look at all accounts is not done yet."
    : `All accounts were looked at within the last ${duration(found.scan_age_seconds + 1)}.`;
}

function showProcess(found, version) {
  fillFacts(get("process-facts"), [
    ["Version", version], ["Up for", duration(found.uptime_seconds)], ["Journal entries", count(found.entries)],
    ["Commits", count(found.commits)], ["Fills", count(found.fills)], ["Waiting", count(found.waiting)],
    ["Answered in, p50", latency(found.answer_p50_seconds)], ["p99", latency(found.answer_p99_seconds)],
    ["Accounts", count(found.accounts)], ["Open orders", count(found.open_orders)],
    ["Map used", share(found.map_used_bytes, found.map_size_bytes)],
    ["Disk free", share(found.disk_free_bytes, found.disk_size_bytes), found.free_ppm < 100_000 ? "poor" : ""],
    ["Reserve on disk", found.reserve_ready ? "ready" : "missing", found.reserve_ready ? "" : "poor"],
    ...Object.entries(found.api).map(([name, value]) => [`Interface: ${name.replaceAll("_", " ")}`, count(value)]),
  ]);
  fillRows(get("faults"), Object.entries(found.faults).map(([part, text]) => ({
    key: part, cells: [part, { text, class: "left wrap poor" }],
  })), "No fault stands.");
}
