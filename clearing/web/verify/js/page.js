// SPDX-License-Identifier: GPL-3.0-or-later
// The form: files, drops and pastes in; one run at a time; every failure ends as a message with a code.
// Rules: sizes are looked at before bytes are; a verdict never stays beside inputs that are no longer its own.
"use strict";

(function (N) {
  const MAX_TEXT_BYTES = 64 * 1024;
  const MAX_FILES = 8;
  const get = (id) => document.getElementById(id);
  const parts = { verdict: get("verdict"), summary: get("summary"), steps: get("steps") };
  // The bytes of files by field; a field's pasted text takes their place, and the other way round.
  const files = new Map();
  const LIMITS = {
    bundle: N.BUNDLE_MAX_BYTES, proof: N.TLOG_MAX_BYTES, entry: N.ENTRY_MAX_BYTES, "log-key": MAX_TEXT_BYTES,
    witnesses: MAX_TEXT_BYTES,
  };
  const NAMES = {
    bundle: "the proof bundle", proof: "the proof", entry: "the entry", "log-key": "the log’s verifier key",
    witnesses: "the witnesses",
  };
  const HINTS = ["bundle", "proof", "entry"].map((name) => get(`${name}-text`)).map((text) => [text, text.placeholder]);
  let current = 0; // number of the run whose result may still be shown

  function mode() {
    return document.querySelector("input[name=mode]:checked").value;
  }

  function setMode(value) {
    document.querySelector(`input[name=mode][value=${value}]`).checked = true;
    get("panel-balance").hidden = value !== "balance";
    get("panel-entry").hidden = value !== "entry";
  }

  function stale() {
    current += 1;
    busy("");
    for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    N.showNothing(parts);
  }

  function busy(text) {
    get("busy").textContent = text;
    get("check").setAttribute("aria-disabled", String(Boolean(text)));
  }

  function trouble(error, field = null) {
    busy("");
    if (error instanceof N.CheckError) {
      N.showTrouble(parts, error.code, error.message);
      if (field !== null) field.setAttribute("aria-invalid", "true");
    } else {
      N.showTrouble(parts, "UNEXPECTED", `a fault of this page, please report it: ${error}`);
    }
    parts.verdict.scrollIntoView({ block: "nearest" });
  }

  // -- files

  async function readFile(field, file) {
    if (file.size > LIMITS[field]) {
      N.fail("FILE_TOO_LARGE",
        `${N.plain(file.name, 80)} has ${file.size} bytes; ${NAMES[field]} has at most ${LIMITS[field]}`);
    }
    try {
      return new Uint8Array(await file.arrayBuffer());
    } catch {
      return N.fail("FILE_UNREADABLE", `${N.plain(file.name, 80)} cannot be read; is it a folder, or was it changed?`);
    }
  }

  async function take(field, file) {
    const bytes = await readFile(field, file);
    stale();
    const text = get(`${field}-text`);
    if (field === "log-key" || field === "witnesses") {
      text.value = N.fromUtf8(bytes, "FILE_UNREADABLE", N.plain(file.name, 80));
    } else {
      text.value = "";
      text.placeholder = `${N.plain(file.name, 60)}, ${N.grouped(bytes.length)} bytes`;
      files.set(field, bytes);
    }
  }

  // Which field a dropped file is for: by its beginning, else by its name, else the open panel's.
  async function fieldOf(file) {
    const head = new TextDecoder().decode(await file.slice(0, 200).arrayBuffer());
    if (head.startsWith("c2sp.org/tlog-proof@")) return "proof";
    if (file.name.endsWith(".entry")) return "entry";
    if (/^\s*\{/.test(head)) return "bundle";
    if (/^\s*(?:#|log |witness |quorum |group )/.test(head)) return "witnesses";
    // A verifier key: the first character of its base64, with half of the second, is the type.
    if (/^[^\s+]+\+[0-9a-f]{8}\+A[Q-Za-f]/.test(head)) return "log-key";
    if (/^[^\s+]+\+[0-9a-f]{8}\+B[A-P]/.test(head)) return "witnesses";
    return mode() === "balance" ? "bundle" : "entry";
  }

  async function drop(list) {
    if (list.length > MAX_FILES) N.fail("FILE_TOO_LARGE", `drop at most ${MAX_FILES} files`);
    for (const file of list) {
      const field = await fieldOf(file).catch(() => N.fail("FILE_UNREADABLE",
        `${N.plain(file.name, 80)} cannot be read; is it a folder?`));
      setMode(field === "bundle" ? "balance" : "entry");
      const one = new DataTransfer();
      one.items.add(file);
      get(`${field}-file`).files = one.files; // so that the chooser names it too
      await take(field, file);
    }
  }

  // -- from the fields to bytes

  function bytesOf(field, fromText) {
    const text = get(`${field}-text`).value;
    if (text.trim()) {
      if (text.length > 2 * LIMITS[field] + 16) N.fail("FILE_TOO_LARGE", `the text is too long for ${NAMES[field]}`);
      return fromText(text);
    }
    return files.get(field) ?? N.fail("NO_FILE",
      `give ${NAMES[field]} first: choose a file, drop it here, or paste it`);
  }

  function fromHex(text) {
    const digits = text.replace(/\s+/g, "").replace(/^0x/i, "").toLowerCase();
    if (!/^(?:[0-9a-f]{2})+$/.test(digits)) N.fail("ENTRY_MALFORMED", "the pasted entry is not hex");
    return N.rawHex(digits);
  }

  function addressOf(text) {
    const digits = text.trim().replace(/^0x/i, "").toLowerCase();
    if (!digits) return null;
    return /^[0-9a-f]{40}$/.test(digits) ? N.rawHex(digits)
      : N.fail("ADDRESS_MALFORMED", `‘${N.plain(text.trim(), 80)}’ is not an address: 0x and 40 hex digits`);
  }

  // 64 hex digits as the command line takes them, or a verifier key.
  async function operatorKeyOf(text) {
    const trimmed = text.trim();
    if (!trimmed) return null;
    if (/^(?:0x)?[0-9a-f]{64}$/i.test(trimmed)) return N.rawHex(trimmed.replace(/^0x/i, "").toLowerCase());
    if (!trimmed.includes("+")) N.fail("KEY_MALFORMED", "the operator’s key is 64 hex digits, or a verifier key");
    const key = await N.parseVerifierKey(trimmed);
    return key.algorithm === N.ED25519 ? key.key : N.fail("KEY_MALFORMED",
      "the operator’s key is not an Ed25519 key (type 01)");
  }

  // A fault of one field marks it.
  async function field(id, work) {
    try {
      return await work(get(id).value);
    } catch (error) {
      if (error instanceof N.CheckError) get(id).setAttribute("aria-invalid", "true");
      throw error;
    }
  }

  async function start(run) {
    N.requireCrypto();
    if (mode() === "balance") {
      const bytes = bytesOf("bundle", N.utf8);
      const trust = {
        endpoints: await field("rpc", N.parseEndpoints), vault: await field("vault", addressOf),
        operatorKey: await field("operator-key", operatorKeyOf),
      };
      return N.verifyBundle(bytes, trust, run);
    }
    const [proof, entry] = [bytesOf("proof", pastedProof), bytesOf("entry", fromHex)];
    const trust = { logKey: get("log-key-text").value, witnesses: get("witnesses-text").value };
    return N.verifyTlogProof(proof, entry, trust, run);
  }

  // Copying often loses the last line's end, which the format has.
  function pastedProof(text) {
    return N.utf8(`${text.replace(/\r\n/g, "\n").replace(/\n*$/, "")}\n`);
  }

  async function check() {
    if (get("check").getAttribute("aria-disabled") === "true") return;
    stale();
    const mine = current;
    busy("Checking …");
    const run = new N.Run((number, name) => {
      if (mine === current) busy(`Checking step ${number}: ${N.plain(name, 60)} …`);
    });
    try {
      await start(run);
      if (mine !== current) return;
      busy("");
      N.showRun(parts, run);
      parts.verdict.scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (mine === current) trouble(error);
    }
  }

  // -- events

  function clear() {
    get("form").reset();
    files.clear();
    for (const [text, hint] of HINTS) text.placeholder = hint;
    setMode("balance");
    stale();
  }

  for (const name of Object.keys(LIMITS)) {
    const chooser = get(`${name}-file`);
    chooser.addEventListener("change", () => {
      if (chooser.files.length) take(name, chooser.files[0]).catch((error) => trouble(error));
    });
  }
  get("form").addEventListener("input", stale);
  get("form").addEventListener("submit", (event) => {
    event.preventDefault();
    check();
  });
  get("clear").addEventListener("click", clear);
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => setMode(mode()));
  }
  const hasFiles = (event) => event.dataTransfer !== null && Array.from(event.dataTransfer.types).includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    get("drop").hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) get("drop").hidden = true;
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return; // text dropped into a field is the browser's to place
    event.preventDefault();
    get("drop").hidden = true;
    drop(Array.from(event.dataTransfer.files)).catch((error) => trouble(error));
  });
  window.addEventListener("error", (event) => trouble(event.error ?? event.message));
  window.addEventListener("unhandledrejection", (event) => trouble(event.reason));
  setMode(mode()); // a reloaded page may remember the choice
})((globalThis.Novate = globalThis.Novate || {}));
