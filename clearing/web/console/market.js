// SPDX-License-Identifier: GPL-3.0-or-later
// One instrument's prices, from the public interface: the last hours by request, then live.

import { PriceChart } from "/assets/shared/chart.js";
import { element, fillFacts, get, problem, say } from "/assets/shared/dom.js";
import { amount, clock, count, decimalsOf, ppm } from "/assets/shared/numbers.js";

const POINTS = 1_000;
const DRAW_MS = 500;

export class Market {
  #api;
  #stream;
  #stops = [];
  #chart;
  #points = new Map(); // second -> [mark, last]
  #decimals = 6;
  #timer = 0;

  constructor(api, stream) {
    this.#api = api;
    this.#stream = stream;
    this.#chart = new PriceChart(get("chart"), ["Mark", "Last"]);
    get("instrument").addEventListener("change", () => this.#open());
  }

  async start(instruments) {
    get("instrument").replaceChildren(...instruments.map((one) =>
      element("option", { value: one.instrument, text: one.symbol })));
    const status = await this.#api.get("/v1/status").catch(() => null);
    if (status) this.#decimals = decimalsOf(status.assets[0].unit_atoms);
    this.#open();
  }

  async #open() {
    this.#stops.forEach((stop) => stop());
    this.#stops = [];
    this.#points = new Map();
    const text = get("instrument").value;
    if (text === "") return;
    const instrument = Number(text);
    this.#stops = [
      this.#stream.subscribe("ticker", { instrument }, (frame) => this.#quote(frame.data)),
      this.#stream.subscribe("mark", { instrument }, ({ data }) => {
        if (data) this.#add(data.time_us, 0, data.mark_atoms);
      }),
      this.#stream.subscribe("trades", { instrument }, ({ data }) => {
        for (const one of data.items) this.#add(one.time_us, 1, one.price_atoms);
      }),
    ];
    try {
      const [marks, trades] = await Promise.all([
        this.#api.get(`/v1/marks/${instrument}?limit=${POINTS}`),
        this.#api.get(`/v1/trades/${instrument}?limit=${POINTS}`),
      ]);
      if (get("instrument").value !== text) return;
      for (const one of marks.items) this.#add(one.time_us, 0, one.mark_atoms, true);
      for (const one of trades.items) this.#add(one.time_us, 1, one.price_atoms, true);
      say("chart-said", "");
    } catch (error) {
      say("chart-said", problem(error), "bad");
    }
  }

  // `old`: from before; it never replaces what is there. Canvas coordinates are floats: nothing else is made of these.
  #add(timeUs, line, atoms, old = false) {
    const second = Math.floor(Number(timeUs) / 1_000_000);
    if (!second || !atoms || BigInt(atoms) === 0n) return;
    const point = this.#points.get(second) ?? [null, null];
    if (!old || point[line] === null) point[line] = Number(atoms) / 10 ** this.#decimals;
    this.#points.set(second, point);
    this.#timer ||= setTimeout(() => this.#draw(), DRAW_MS);
  }

  #draw() {
    this.#timer = 0;
    const seconds = Array.from(this.#points.keys()).sort((one, other) => one - other).slice(-2 * POINTS);
    const lines = [0, 1].map((line) => seconds.map((second) => this.#points.get(second)[line]));
    this.#chart.set([seconds, ...lines]);
  }

  #quote(ticker) {
    const money = (value) => (value === null || BigInt(value) === 0n ? "–" : amount(value, this.#decimals));
    if (ticker.last_atoms) this.#add(ticker.time_us, 1, ticker.last_atoms, true);
    fillFacts(get("ticker"), [
      ["Mark", money(ticker.mark_atoms)], ["Index", money(ticker.index_atoms)], ["Last", money(ticker.last_atoms)],
      ["Bid", money(ticker.best_bid_atoms)], ["Ask", money(ticker.best_ask_atoms)],
      ["Funding rate", ppm(ticker.funding_rate_ppm, 4)], ["Open interest", `${count(ticker.open_interest_lots)} lots`],
      ["Volume, 24 h", `${count(ticker.volume_lots_24h)} lots`], ["As of", clock(ticker.time_us)],
      ...(ticker.halted ? [["Halted", ticker.halted, "poor"]] : []),
    ]);
  }
}
