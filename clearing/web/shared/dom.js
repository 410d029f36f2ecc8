// SPDX-License-Identifier: GPL-3.0-or-later
// The page's tree. Text goes in by textContent alone; nothing from outside becomes markup.

export const get = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Only what changed is written: a screen reader and the browser's layout hear of nothing else.
export function setText(target, text) {
  const found = typeof target === "string" ? get(target) : target;
  if (found && found.textContent !== text) found.textContent = text;
}

// Fill a table's body. `rows`: [{key, cells: [text | {text, class, node}], class}]. Rows keep their place in the tree
// by key, so that a button in one keeps the focus while figures change around it.
export function fillRows(body, rows, empty) {
  const columns = body.closest("table").querySelectorAll("thead th").length;
  if (!rows.length) {
    if (body.dataset.empty === empty) return;
    body.replaceChildren(element("tr", { class: "empty" }, element("td", { colspan: columns, text: empty })));
    body.dataset.empty = empty;
    return;
  }
  if (body.dataset.empty !== undefined) {
    body.replaceChildren();
    delete body.dataset.empty;
  }
  const known = new Map(Array.from(body.rows, (row) => [row.dataset.key, row]));
  rows.forEach((given, at) => {
    const key = String(given.key);
    const row = known.get(key) ?? element("tr", { "data-key": key });
    known.delete(key);
    fillCells(row, given.cells);
    row.className = given.class ?? "";
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  for (const row of known.values()) row.remove();
}

function fillCells(row, cells) {
  cells.forEach((given, at) => {
    const value = typeof given === "object" && given !== null ? given : { text: given };
    const cell = row.cells[at] ?? row.appendChild(element(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}));
    if (value.node) {
      if (!cell.firstChild) cell.append(value.node());
    } else {
      setText(cell, String(value.text));
    }
    const name = value.class ?? "";
    if (cell.className !== name) cell.className = name;
    if (value.title) cell.title = value.title;
  });
}

// A term list in place: [[term, text, class, class of both], ...].
export function fillFacts(list, facts) {
  facts.forEach(([term, text, name, both], at) => {
    const box = list.children[at] ?? list.appendChild(element("div", {}, element("dt"), element("dd")));
    setText(box.children[0], term);
    setText(box.children[1], String(text));
    box.children[1].className = name ?? "";
    box.className = both ?? "";
  });
  while (list.children.length > facts.length) list.lastElementChild.remove();
}

// Say what became of an action, where a screen reader hears it. `tone`: "ok", "bad" or "".
export function say(target, text, tone = "") {
  const box = typeof target === "string" ? get(target) : target;
  box.className = `said ${tone}`;
  box.textContent = text;
}

export function download(name, bytes, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// A button that is busy while its work runs, and says what went wrong. It keeps the focus: it is not disabled.
export function onAction(button, said, work) {
  const found = typeof button === "string" ? get(button) : button;
  found.addEventListener("click", async (event) => {
    event.preventDefault();
    if (found.getAttribute("aria-busy") === "true") return;
    found.setAttribute("aria-busy", "true");
    try {
      await work();
    } catch (error) {
      say(said, problem(error), "bad");
    } finally {
      found.removeAttribute("aria-busy");
    }
  });
}

// An error for people: the interface's own words with their code, or what the browser says.
export function problem(error) {
  const text = String(error?.message ?? error);
  const code = typeof error?.code === "string" ? ` (${error.code})` : "";
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${code}`;
}
