// SPDX-License-Identifier: GPL-3.0-or-later
// The session key: made here or read from a file, allowed by the owner's wallet (EIP-712).

import { canonicalSignature, envelope, registerKey, SCOPE, typedData, walletKey } from "/assets/signing/commands.js";
import { download, fillFacts, get, onAction, problem, say } from "/assets/shared/dom.js";
import { clock, hex, short, unhex } from "/assets/shared/numbers.js";
import { SessionKey } from "/assets/signing/session.js";

const DAY_US = 86_400_000_000n;

export function setUpKeys(desk) {
  const set = (key, text) => {
    desk.key = key;
    desk.tell("key");
    say("key-said", text, "ok");
  };

  onAction("key-new", "key-said", async () => {
    set(await SessionKey.create(), "A key was made. Now allow it with your wallet.");
    get("key-allow").focus();
  });
  get("key-file").addEventListener("change", async () => {
    const [file] = get("key-file").files;
    if (!file) return;
    try {
      if (file.size > 1000) throw new Error("this is not a session key file: 64 hex digits");
      set(await SessionKey.fromFile(await file.text()), "The key was read.");
    } catch (error) {
      say("key-said", problem(error), "bad");
    }
  });
  onAction("key-save", "key-said", async () => {
    download("session.key", desk.key.file(), "text/plain");
    say("key-said", "The key was saved. Whoever has the file can act with it: keep it secret (mode 0600).", "ok");
  });
  onAction("key-forget", "key-said", async () => {
    get("key-file").value = "";
    set(null, "This page has forgotten the key.");
    get("key-new").focus();
  });
  get("key-register").addEventListener("submit", (event) => event.preventDefault());
  onAction("key-allow", "key-said", () => allow(desk));
  desk.on("key", () => show(desk));
  desk.on("owner", () => show(desk));
}

function scopes(bits) {
  const names = Object.entries(SCOPE).filter(([, bit]) => bits & bit).map(([name]) => name);
  return names.join(", ") || "nothing";
}

function show(desk) {
  get("key-none").hidden = desk.key !== null;
  get("key-have").hidden = desk.key === null;
  get("key-state").hidden = desk.key !== null;
  if (!desk.key) return;
  const allowed = desk.allowed;
  get("key-register").hidden = allowed !== null;
  fillFacts(get("key-facts"), [
    ["Public key", short(hex(desk.key.tagged.subarray(1))), "mono"],
    ["May", allowed ? scopes(allowed.scope) : "nothing yet", allowed ? "good" : "warn"],
    ["Until", allowed ? clock(allowed.expiry_us) : "–"],
  ]);
}

async function allow(desk) {
  if (!desk.owner) throw new Error("choose the account first");
  const scope = Object.entries(SCOPE).reduce((bits, [name, bit]) => bits | (get(`scope-${name}`).checked ? bit : 0), 0);
  if (!scope) throw new Error("choose at least one thing that the key may do");
  const wallet = await desk.connectWallet();
  if (wallet.address !== desk.owner.owner) {
    throw new Error(`your wallet is ${short(wallet.address)}, the account belongs to ${short(desk.owner.owner)}`);
  }
  const nowUs = desk.stream.nowUs();
  const last = BigInt(desk.owner.nonce ?? 0);
  const action = {
    owner: unhex(desk.owner.owner), key: desk.key.tagged, scope,
    expiryUs: nowUs + BigInt(get("key-days").value) * DAY_US,
    nonce: nowUs > last ? nowUs : last + 1n, secret: crypto.getRandomValues(new Uint8Array(32)),
  };
  say("key-said", "Look at your wallet: it asks for a signature.");
  const signature = canonicalSignature(await wallet.sign(typedData(desk.deployment, action)));
  await desk.send(envelope(registerKey(desk.deployment, action), walletKey(action.owner), signature));
  await desk.refreshOwner();
  say("key-said", "The key is allowed: you can trade now.", "ok");
  get("key-save").focus({ preventScroll: true }); // the button that had the focus is gone
}
