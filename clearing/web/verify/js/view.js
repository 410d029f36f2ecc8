// SPDX-License-Identifier: GPL-3.0-or-later
// From a run to what a person sees. Text goes in by textContent alone; nothing from outside becomes markup.
"use strict";

(function (N) {
  const BADGES = { ok: "✓ OK", failed: "✕ FAILED", skipped: "– NOT CHECKED" };
  const MAX_STEPS = 200;
  const MAX_INPUT = 4000;

  function element(tag, className, text, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    made.append(...children);
    return made;
  }

  // Lines stay lines; every other character that one cannot see is shown as "?".
  function shownInput(value) {
    const lines = value.slice(0, MAX_INPUT).split("\n").map((line) => N.plain(line, MAX_INPUT));
    return lines.join("\n") + (value.length > MAX_INPUT ? `… (${N.grouped(value.length)} characters)` : "");
  }

  function stepItem(step) {
    const summary = element("summary", "", "");
    summary.append(
      element("span", `badge ${step.status}`, step.aside ? "– NOT SIGNED" : BADGES[step.status]),
      element("span", "name", N.plain(step.name, 100)), element("span", "about", step.about),
      element("span", "said", step.code ? `${step.text} (${step.code})` : step.text),
    );
    const inputs = element("dl");
    for (const [label, value] of step.inputs) {
      inputs.append(element("dt", "", label), element("dd", "", shownInput(value)));
    }
    const details = element("details", "", "", summary, inputs);
    details.open = step.status === N.FAILED;
    return element("li", "", "", details);
  }

  // All that failed, and the first of the others: a file may hold thousands.
  function showSteps(list, steps) {
    const chosen = steps.length <= MAX_STEPS ? steps : [
      ...steps.filter((step) => step.status === N.FAILED), ...steps.filter((step) => step.status !== N.FAILED),
    ].slice(0, MAX_STEPS);
    list.replaceChildren(...chosen.map(stepItem));
    if (chosen.length < steps.length) {
      list.append(element("li", "",
        `… and ${N.grouped(steps.length - chosen.length)} more steps, none worse than these.`));
    }
  }

  // What the leaf pays, in units of the asset where its contract was asked, else in atoms.
  function amounts(run) {
    const tokens = run.chain ? run.chain.tokens : [];
    const row = (name, lane) => {
      const token = tokens[lane];
      const known = token !== undefined && token.decimals !== undefined;
      const show = (text) => (known ? N.decimal(BigInt(text), token.decimals) : `${N.grouped(BigInt(text))} atoms`);
      const label = /^[0-9a-f]{40}$/.test(name) ? `0x${name}` : name;
      const cell = element("td", "", known ? token.symbol : N.plain(label, 60));
      if (known) cell.append(element("small", "mono", N.plain(label, 60)));
      return element("tr", "", "", cell, element("td", "", show(run.owed.exits[lane])),
        element("td", "", show(run.owed.withdraw_acks[lane])));
    };
    const head = element("tr", "", "");
    for (const title of ["Asset", "Owed on exit", "Withdrawals acknowledged"]) {
      const cell = element("th", "", title);
      cell.scope = "col";
      head.append(cell);
    }
    const whose = run.level === N.OK ? "What" : "What this bundle says that"; // an open verdict vouches for nothing
    const caption = element("caption", "", `${whose} epoch ${run.header.epoch} owes 0x${run.owed.owner}`);
    const table = element("table", "", "", caption, element("thead", "", "", head),
      element("tbody", "", "", ...run.bundle.assets.map(row)));
    const box = element("div", "scroll", "", table);
    box.tabIndex = 0; // so that the keyboard can scroll it
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Amounts");
    return box;
  }

  function showSummary(box, run) {
    const order = ["bad", "open", "note"];
    const found = [...run.findings].sort((one, other) => order.indexOf(one.tone) - order.indexOf(other.tone));
    const items = found.map((one) =>
      element("li", one.tone, one.tone === "note" ? one.text : `${one.text} (${one.code})`));
    box.replaceChildren();
    if (items.length) box.append(element("ul", "", "", ...items));
    if (run.owed && run.level !== N.FAILED) box.append(amounts(run));
  }

  function showVerdict(box, level, headline, detail, code) {
    box.className = `banner ${level}`;
    box.replaceChildren(element("p", "headline", headline));
    if (detail) box.append(element("p", "", detail));
    if (code) box.append(element("p", "code", `Code: ${code}`));
  }

  // -- in words

  function words(run) {
    const failed = run.steps.filter((step) => step.status === N.FAILED);
    const open = run.steps.filter((step) => step.status === N.SKIPPED && !step.aside);
    if (run.level === N.FAILED) {
      const bad = failed[0] ?? run.findings.find((one) => one.tone === "bad");
      const where = failed.length ? `Step “${N.plain(failed[0].name, 80)}”: ${failed[0].text}.` : bad.text;
      const advice = "Do not rely on it; get another, and keep this one as evidence.";
      return ["✕ This proof does not hold.", `${where.replace(/\.\.$/, ".")} ${advice}`, bad.code];
    }
    if (run.level === N.OK) return good(run);
    if (!open.length) {
      const first = run.findings.find((one) => one.tone === "open");
      return ["– The proof holds, but read this.", first.text, first.code];
    }
    const [first] = open;
    const headline = run.bundle && first.name === "chain"
      ? "– Consistent with itself, not compared with the chain." : "– Consistent, but not everything was checked.";
    return [headline, first.text, first.code];
  }

  function good(run) {
    if (run.bundle) {
      const detail = `Every step is right, and the vault has posted epoch ${run.header.epoch} as the bundle says.`;
      return ["✓ The proof holds, and the chain confirms it.", detail, ""];
    }
    const detail = "Every step is right: the entry, its place in the log, and the signatures that you asked for.";
    return ["✓ The entry is in the log.", detail, ""];
  }

  function showRun(parts, run) {
    const [headline, detail, code] = words(run);
    showSummary(parts.summary, run);
    showSteps(parts.steps, run.steps);
    showVerdict(parts.verdict, run.level, headline, detail, code);
  }

  function showTrouble(parts, code, message) {
    parts.summary.replaceChildren();
    parts.steps.replaceChildren();
    const text = N.plain(message, 600);
    showVerdict(parts.verdict, N.FAILED, "✕ Nothing could be checked.", /[.?!]$/.test(text) ? text : `${text}.`, code);
  }

  function showNothing(parts) {
    parts.summary.replaceChildren();
    parts.steps.replaceChildren();
    showVerdict(parts.verdict, "", "Nothing was checked yet.", "", "");
  }

  Object.assign(N, { showRun, showTrouble, showNothing });
})((globalThis.Novate = globalThis.Novate || {}));
