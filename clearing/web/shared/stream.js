// SPDX-License-Identifier: GPL-3.0-or-later
// Live data over /v1/stream.
// Rules: a subscription begins with a snapshot; a delta that does not follow the last frame means that one was lost,
// and it is subscribed again. A connection that breaks, or says nothing for `SILENT_MS`, is made again, later each
// time and never all readers at once. What is on the screen stays there, and its age is told.

const SILENT_MS = 5_000;
const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export class Stream {
  #url;
  #socket = null;
  #wanted = new Map();
  #attempt = 0;
  #timer = 0;
  #closed = false;
  #next = 1;

  // `onChange` hears when anything about freshness changes.
  constructor(url, onChange = () => {}) {
    this.#url = url;
    this.onChange = onChange;
    this.state = "connecting";
    this.heardMs = 0; // when the server last said anything
    this.venueStale = false; // the server itself lags behind the journal
    this.venueAgeMs = 0;
    this.seq = 0;
    this.offsetUs = 0; // the venue's clock less this one's
    this.#watch = setInterval(() => this.#look(), 1000);
    addEventListener("online", () => this.#again(0));
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.state !== "live") this.#again(0);
    });
    this.#connect();
  }

  #watch;

  // Milliseconds since the figures on the screen were known to be right; null before the first.
  get ageMs() {
    if (!this.heardMs) return null;
    return Date.now() - this.heardMs + this.venueAgeMs;
  }

  get fresh() {
    return this.state === "live" && !this.venueStale && this.ageMs !== null && this.ageMs < SILENT_MS;
  }

  nowUs() {
    return BigInt(Date.now()) * 1000n + BigInt(Math.round(this.offsetUs));
  }

  // `place`: {instrument: n}, {account: n} or {}. `onFrame` gets whole frames. Returns a function that ends it.
  subscribe(channel, place, onFrame) {
    const key = keyOf({ channel, ...place });
    const wanted = { channel, place, onFrame, seq: null, id: 0 };
    this.#wanted.set(key, wanted);
    if (this.#socket?.readyState === WebSocket.OPEN) this.#ask(wanted);
    return () => {
      if (this.#wanted.get(key) !== wanted) return;
      this.#wanted.delete(key);
      this.#send({ op: "unsubscribe", id: this.#next++, channel, ...place });
    };
  }

  close() {
    this.#closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #ask(wanted) {
    wanted.seq = null;
    wanted.id = this.#next++;
    this.#send({ op: "subscribe", id: wanted.id, channel: wanted.channel, ...wanted.place });
  }

  #connect() {
    if (this.#closed) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.heardMs ||= Date.now();
      for (const wanted of this.#wanted.values()) this.#ask(wanted);
    });
    socket.addEventListener("message", (event) => {
      if (socket === this.#socket) this.#heard(event.data);
    });
    socket.addEventListener("close", () => {
      if (socket === this.#socket) this.#lost();
    });
  }

  #lost() {
    this.#socket = null;
    if (this.#closed) return;
    this.state = "reconnecting";
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.#again(wait);
    this.onChange();
  }

  #again(wait) {
    if (this.#closed || this.#socket) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #look() {
    const silent = this.heardMs && Date.now() - this.heardMs > 2 * SILENT_MS;
    if (silent && this.#socket && this.state === "live") {
      const socket = this.#socket;
      this.#lost();
      socket.close();
    }
    this.onChange();
  }

  #heard(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    this.heardMs = Date.now();
    if (frame.type === "heartbeat") {
      this.state = "live";
      this.#attempt = 0;
      this.venueStale = Boolean(frame.stale);
      this.venueAgeMs = Number(frame.age_ms) > 1500 ? Number(frame.age_ms) : 0;
      this.seq = Number(frame.seq);
      if (frame.time_us) this.offsetUs = Number(frame.time_us) - Date.now() * 1000;
      this.onChange();
      return;
    }
    const wanted = frame.channel ? this.#wanted.get(keyOf(frame)) : undefined;
    if (frame.type === "reset" && wanted) wanted.seq = null;
    if (frame.type === "error") console.warn(`stream: ${frame.code}: ${frame.message}`);
    if (!wanted || (frame.type !== "snapshot" && frame.type !== "delta")) return;
    if (frame.type === "delta" && frame.prev_seq !== wanted.seq) {
      if (wanted.seq !== null) this.#ask(wanted);
      return;
    }
    wanted.seq = frame.seq;
    this.state = "live";
    wanted.onFrame(frame);
  }
}

function keyOf(frame) {
  return `${frame.channel}/${frame.instrument ?? ""}/${frame.account ?? ""}`;
}

export function streamUrl(base = "") {
  const url = new URL("/v1/stream", base || location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
