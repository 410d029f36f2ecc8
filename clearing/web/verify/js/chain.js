// SPDX-License-Identifier: GPL-3.0-or-later
// What the vault says, by the JSON-RPC endpoints that the reader chose.
// Rules: only these endpoints are asked, each the same question at the same block, and all must answer alike.
// An endpoint that fails, lags or contradicts another means "not checked": it says nothing against the proof.
// Calldata is laid by hand: a selector and at most one 32-byte word. Every answer is bounded and shape-checked.
"use strict";

(function (N) {
  // First four bytes of Keccak-256 of the signature.
  const SELECTORS = {
    "headerHash(uint64)": "95934bae",
    "epochCount()": "829965cc",
    "finalisedEpoch()": "06041e7b",
    "finalAt(uint64)": "e93e87af",
    "frozen()": "054f7d9c",
    "escapeEpoch()": "44f06062",
    "tokens()": "9d63848a",
    "decimals()": "313ce567",
    "symbol()": "95d89b41",
  };
  const MAX_ENDPOINTS = 5;
  const MAX_ANSWER_BYTES = 4 * 1024 * 1024; // a full block's transaction hashes fit well
  const TIMEOUT_MS = 15000;
  const LAG_S = 900n; // how old a newest block may be
  const SPREAD_S = 120n; // how far apart two endpoints' newest blocks may be

  function unknown(code, message) {
    throw new N.NotChecked(code, message);
  }

  // Endpoints of a comma- or space-separated text. Throws RPC_URL.
  function parseEndpoints(text) {
    const found = text.split(/[\s,]+/).filter(Boolean);
    if (found.length > MAX_ENDPOINTS) N.fail("RPC_URL", `give at most ${MAX_ENDPOINTS} endpoints`);
    for (const one of found) {
      const url = URL.canParse(one) ? new URL(one) : null;
      if (url === null || !["http:", "https:"].includes(url.protocol) || url.username || url.password) {
        N.fail("RPC_URL", `‘${N.plain(one, 100)}’ is not an http or https address of an endpoint`);
      }
    }
    if (new Set(found).size !== found.length) N.fail("RPC_URL", "an endpoint is given twice");
    return found;
  }

  // An endpoint's address without its path, which may hold an access key.
  const shown = (url) => N.plain(new URL(url).host, 100);

  async function bounded(response, url) {
    const reader = response.body.getReader();
    const parts = [];
    let total = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return N.concat(...parts);
      total += value.length;
      if (total > MAX_ANSWER_BYTES) {
        await reader.cancel();
        unknown("RPC_MALFORMED", `${shown(url)} answers with more than ${MAX_ANSWER_BYTES} bytes`);
      }
      parts.push(value);
    }
  }

  async function post(url, method, params) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
    try {
      const response = await fetch(url, {
        method: "POST", headers: { "Content-Type": "application/json" }, credentials: "omit", cache: "no-store",
        redirect: "error", referrerPolicy: "no-referrer", signal: abort.signal,
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
      });
      return { status: response.status, bytes: await bounded(response, url) };
    } catch (error) {
      if (error instanceof N.CheckError) throw error;
      const why = abort.signal.aborted
        ? `did not answer ${method} within ${TIMEOUT_MS / 1000} seconds`
        : "cannot be reached, or does not let web pages ask it (CORS)";
      return unknown("RPC_UNREACHABLE", `${shown(url)} ${why}; try again, or choose another endpoint`);
    } finally {
      clearTimeout(timer);
    }
  }

  // Endpoints that are asked by a function instead of over the network: a wallet's, for a page that has one.
  const PROVIDED = new Map();

  // Make `ask(method, params)` an endpoint; its address. `name` is what a person reads.
  function provideEndpoint(name, ask) {
    const url = `provided://${name}`;
    PROVIDED.set(url, ask);
    return url;
  }

  async function provided(url, method, params) {
    try {
      return await PROVIDED.get(url)(method, params);
    } catch (error) {
      return unknown("RPC_REFUSED", `${shown(url)} refuses ${method}: ${N.plain(error.message ?? error, 160)}`);
    }
  }

  // The result of one request. A node's refusal is RPC_REFUSED, everything else that is no answer RPC_MALFORMED.
  async function request(url, method, params) {
    if (PROVIDED.has(url)) return provided(url, method, params);
    const { status, bytes } = await post(url, method, params);
    let answer = null;
    try {
      answer = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      unknown("RPC_MALFORMED",
        `${shown(url)} answers ${method} with status ${status} and no JSON; is it an Ethereum endpoint?`);
    }
    if (answer !== null && typeof answer === "object" && answer.error) {
      unknown("RPC_REFUSED",
        `${shown(url)} refuses ${method}: ${N.plain(answer.error.message ?? "without a reason", 160)}`);
    }
    if (answer === null || typeof answer !== "object" || answer.id !== 1 || answer.result === undefined) {
      unknown("RPC_MALFORMED", `${shown(url)} does not answer ${method} as an Ethereum endpoint does`);
    }
    return answer.result;
  }

  function quantity(value, url) {
    if (typeof value !== "string" || !/^0x[0-9a-fA-F]{1,64}$/.test(value)) {
      unknown("RPC_MALFORMED", `${shown(url)} gives something that is not a number`);
    }
    return BigInt(value);
  }

  async function block(url, which) {
    const found = await request(url, "eth_getBlockByNumber", [which, false]);
    if (found === null || typeof found !== "object" || !/^0x[0-9a-fA-F]{64}$/.test(String(found.hash))) {
      unknown("RPC_MALFORMED", `${shown(url)} does not give the block that it should have`);
    }
    const [number, time] = [quantity(found.number, url), quantity(found.timestamp, url)];
    return { number, time, hash: found.hash.toLowerCase() };
  }

  async function call(url, to, signature, word, at) {
    const data = `0x${SELECTORS[signature]}${word === null ? "" : N.hex(N.unsigned(word, 256, "argument"))}`;
    const result = await request(url, "eth_call", [{ to: `0x${N.hex(to)}`, data }, `0x${at.toString(16)}`]);
    if (typeof result !== "string" || !/^0x(?:[0-9a-fA-F]{2})*$/.test(result)) {
      unknown("RPC_MALFORMED", `${shown(url)} gives something that is not bytes`);
    }
    return N.rawHex(result.slice(2));
  }

  // What every endpoint says; RPC_DISAGREE unless it is the same.
  async function agreed(urls, what, ask) {
    const answers = await Promise.all(urls.map(ask));
    const texts = answers.map((answer) => (answer instanceof Uint8Array ? N.hex(answer) : String(answer)));
    const other = texts.findIndex((text) => text !== texts[0]);
    if (other > 0) {
      const [one, two] = [0, other].map((at) => `${shown(urls[at])} says ${N.plain(texts[at], 70)}`);
      unknown("RPC_DISAGREE",
        `the endpoints contradict each other on ${what}: ${one}, ${two}; trust neither until you know why`);
    }
    return answers[0];
  }

  function word(bytes, what) {
    if (bytes.length === 0) unknown("NO_VAULT", "there is no contract at the bundle's vault address on this chain");
    if (bytes.length !== 32) unknown("RPC_MALFORMED", `${what} has ${bytes.length} bytes instead of 32`);
    return bytes;
  }

  // Symbol and decimals of an asset for people: null where its contract does not say.
  async function describeToken(urls, token, at) {
    try {
      const one = await agreed(urls, "an asset's decimals", (url) => call(url, token, "decimals()", null, at));
      const decimals = N.fromBytes(word(one, "decimals"));
      const raw = await agreed(urls, "an asset's name", (url) => call(url, token, "symbol()", null, at));
      const length = raw.length >= 64 ? N.fromBytes(raw.subarray(32, 64)) : 0n;
      const text = new TextDecoder().decode(raw.subarray(64, 64 + Number(length < 16n ? length : 16n)));
      return decimals <= 36n ? { decimals: Number(decimals), symbol: N.plain(text, 16) } : null;
    } catch (error) {
      if (error instanceof N.NotChecked) return null;
      throw error;
    }
  }

  async function readTokens(urls, vault, at) {
    const raw = await agreed(urls, "the vault's assets", (url) => call(url, vault, "tokens()", null, at));
    const count = raw.length >= 64 ? (raw.length - 64) / 32 : 0;
    if (!Number.isInteger(count) || count < 1 || count > 4) return [];
    const addresses = Array.from({ length: count }, (_, lane) => raw.subarray(64 + 32 * lane + 12, 96 + 32 * lane));
    return Promise.all(
      addresses.map(async (address) => ({ address, ...(await describeToken(urls, address, at)) })));
  }

  // What the vault stores for `epoch`, at one block on which all endpoints agree. Throws NotChecked.
  async function readVault(urls, chainId, vault, epoch) {
    const chain = await Promise.all(urls.map(async (url) => quantity(await request(url, "eth_chainId", []), url)));
    const wrong = chain.findIndex((id) => id !== chainId);
    if (wrong >= 0) {
      const which = `${shown(urls[wrong])} is chain ${chain[wrong]}, the bundle is of chain ${chainId}`;
      unknown("WRONG_CHAIN", `${which}; choose an endpoint of that chain`);
    }
    const tips = await Promise.all(urls.map((url) => block(url, "latest")));
    const oldest = tips.reduce((lowest, tip) => (tip.number < lowest.number ? tip : lowest), tips[0]);
    if (tips.some((tip) => tip.time - oldest.time > SPREAD_S)) {
      unknown("RPC_LAGS",
        `${shown(urls[tips.indexOf(oldest)])} is behind the others, at block ${oldest.number}; leave it out, or wait`);
    }
    const at = oldest.number;
    const tag = `0x${at.toString(16)}`;
    const times = [];
    const hash = await agreed(urls, `block ${at}`, async (url) => {
      const found = await block(url, tag);
      times.push(found.time);
      return found.hash;
    });
    const view = async (signature, argument) => {
      const name = signature.slice(0, signature.indexOf("("));
      return word(await agreed(urls, name, (url) => call(url, vault, signature, argument, at)), name);
    };
    const [headerHash, ...numbers] = await Promise.all([
      view("headerHash(uint64)", epoch), view("epochCount()", null), view("finalisedEpoch()", null),
      view("finalAt(uint64)", epoch), view("frozen()", null), view("escapeEpoch()", null),
    ]);
    const [epochs, finalised, finalAt, frozen, escape] = numbers.map(N.fromBytes);
    return {
      headerHash, epochs, finalised, finalAt, frozen: frozen !== 0n, escape,
      block: { number: at, hash, time: times[0] }, tokens: await readTokens(urls, vault, at), hosts: urls.map(shown),
      behind: BigInt(Math.floor(Date.now() / 1000)) - times[0] > LAG_S,
    };
  }

  Object.assign(N, { provideEndpoint, SELECTORS, parseEndpoints, readVault });
})((globalThis.Novate = globalThis.Novate || {}));
