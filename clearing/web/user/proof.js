// SPDX-License-Identifier: GPL-3.0-or-later
// The proof bundle: fetched, kept, verified with the verifier page's own modules (globalThis.Novate).

import { download, element, get, onAction, problem, say } from "/assets/shared/dom.js";
import { hex, unhex } from "/assets/shared/numbers.js";

const N = globalThis.Novate;
const parts = { verdict: get("proof-verdict"), summary: get("proof-summary"), steps: get("proof-steps") };

export function chosenVault(desk) {
  return desk.status.vaults[Number(get("vault").value || 0)];
}

export async function fetchBundle(desk, vault) {
  return desk.api.bytes(`/v1/proofs/${desk.owner.owner}?vault=${vault}`);
}

export function setUpProof(desk) {
  desk.on("venue", () => {
    get("vault").replaceChildren(...desk.status.vaults.map((one) =>
      element("option", { value: one.vault, text: `${one.vault}: chain ${one.chain_id}, ${one.address}` })));
  });
  onAction("proof-verify", "proof-said", async () => {
    say("proof-said", "Fetching …");
    const bytes = await fetchBundle(desk, Number(get("vault").value));
    await verify(desk, bytes);
  });
  onAction("proof-save", "proof-said", async () => {
    const bytes = await fetchBundle(desk, Number(get("vault").value));
    const bundle = N.decodeBundle(bytes);
    const epoch = N.decodeHeader(N.unhex(bundle.header, "header")).epoch;
    const name = `novate-${desk.owner.owner.slice(2, 10)}-vault-${get("vault").value}-epoch-${epoch}.json`;
    download(name, bytes, "application/json");
    say("proof-said", `Saved the bundle of epoch ${epoch}. Keep it where the operator cannot reach it.`, "ok");
  });
  get("proof-file").addEventListener("change", async () => {
    const [file] = get("proof-file").files;
    if (!file) return;
    try {
      if (file.size > N.BUNDLE_MAX_BYTES) throw new Error("this file is larger than any bundle");
      await verify(desk, new Uint8Array(await file.arrayBuffer()));
    } catch (error) {
      say("proof-said", problem(error), "bad");
    } finally {
      get("proof-file").value = ""; // so that the same file can be chosen again
    }
  });
  desk.on("owner", () => {
    desk.kept = [];
    parts.verdict.hidden = true;
    get("proof-details").hidden = true;
    parts.summary.replaceChildren();
    say("proof-said", "");
  });
}

// Endpoints to compare with: those of the field, or else the wallet's own when it is on the vault's chain.
async function endpoints(desk, vault) {
  const named = N.parseEndpoints(get("rpc").value);
  if (named.length || !desk.wallet) return named;
  if ((await desk.wallet.chainId()) !== BigInt(vault.chain_id)) return [];
  return [N.provideEndpoint("your-wallet", (method, params) => desk.wallet.ask(method, params))];
}

async function verify(desk, bytes) {
  N.requireCrypto();
  const vault = chosenVault(desk);
  say("proof-said", "Verifying …");
  const trust = { endpoints: await endpoints(desk, vault), vault: unhex(vault.address), operatorKey: null };
  const run = await N.verifyBundle(bytes, trust, new N.Run());
  if (run.owed && `0x${run.owed.owner}` !== desk.owner.owner) {
    run.find("bad", "WRONG_OWNER", `The bundle is of 0x${run.owed.owner}, not of ${desk.owner.owner}.`);
  }
  if (run.bundle && `0x${run.bundle.deployment_id}` !== hex(desk.deployment)) {
    run.find("bad", "WRONG_DEPLOYMENT", "The bundle is of another deployment than this venue.");
  }
  if (run.level !== N.FAILED) desk.kept.push(run.bundle);
  parts.verdict.hidden = false;
  N.showRun(parts, run);
  get("proof-details").hidden = false;
  say("proof-said", "");
}
