// SPDX-License-Identifier: GPL-3.0-or-later
// The venue's interface over HTTP. Errors carry the interface's own code; no answer at all is UNREACHABLE.

const TIMEOUT_MS = 20_000;

export class ApiError extends Error {
  constructor(code, message, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }

  // Whether the same bytes may be sent again: the first attempt's fate is unknown, or nothing happened.
  get transient() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

export class Api {
  constructor(base = "") {
    this.base = base;
  }

  async #fetch(path, options = {}) {
    let response;
    try {
      response = await fetch(this.base + path, {
        credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS), ...options,
      });
    } catch {
      throw new ApiError("UNREACHABLE", "the venue does not answer; it may be restarting");
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw new ApiError(
      String(body?.code ?? "BAD_ANSWER"), String(body?.message ?? `HTTP status ${response.status}`), response.status);
  }

  async get(path) {
    return (await this.#fetch(path)).json();
  }

  async bytes(path) {
    return new Uint8Array(await (await this.#fetch(path)).arrayBuffer());
  }

  async text(path) {
    return (await this.#fetch(path)).text();
  }

  async post(path, body) {
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    return (await this.#fetch(path, options)).json();
  }

  // Hand in signed bytes until there is an answer: the same bytes get the same receipt, so nothing happens twice.
  async submit(envelope, attempts = 4) {
    const options = { method: "POST", headers: { "content-type": "application/msgpack" }, body: envelope };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await (await this.#fetch("/v1/commands", options)).json();
      } catch (error) {
        if (!error.transient || attempt >= attempts) throw error;
        await new Promise((done) => setTimeout(done, 250 * 2 ** attempt));
      }
    }
  }
}
