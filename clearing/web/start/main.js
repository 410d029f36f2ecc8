// SPDX-License-Identifier: GPL-3.0-or-later
// The start page: the venue's state and its markets.

import { fillFacts, fillRows, get, problem, setText } from "/assets/shared/dom.js";
import { amount, clock, count, decimalsOf, short } from "/assets/shared/numbers.js";
import { begin, untilDone } from "/assets/shared/page.js";

const { api, stream } = begin("", { onBack: () => load() });
const tickers = new Map();
let decimals = 6;

// What the writer alone knows comes with the answers to requests, and may be missing on the stream.
let status = {};

function showState(told) {
  status = { ...status, ...told };
  decimals = decimalsOf(status.assets[0].unit_atoms);
  const state = status.halted ? "halted" : status.wind_down ? "winding down" : "open";
  fillFacts(get("state"), [
    ["Venue", state, state === "open" ? "good" : "poor"],
    ["Operator", status.origin],
    ["Journal entries", count(Math.max(status.size ?? 0, stream.seq + 1))],
    ["Epoch closed", count(status.epoch)],
    ["Epoch posted", count(status.posted_epoch)],
    ["Accounts", count(status.accounts)],
    ["Open orders", count(status.open_orders)],
    ["Venue’s time", clock(status.time_us)],
    ["Deployment", short(status.deployment), "mono"],
  ]);
}

function showMarkets() {
  fillRows(get("markets"), Array.from(tickers.values(), (row) => ({
    key: row.instrument,
    cells: [
      row.symbol + (row.halted ? " (halted)" : ""), price(row.mark_atoms), price(row.last_atoms),
      price(row.best_bid_atoms), price(row.best_ask_atoms), count(row.volume_lots_24h), count(row.open_interest_lots),
    ],
  })), "No instrument is listed.");
}

const price = (value) => (BigInt(value ?? 0) === 0n ? "–" : amount(value, decimals));

async function load() {
  await untilDone(async () => {
    const [told, found] = await Promise.all([api.get("/v1/status"), api.get("/v1/tickers")]);
    showState(told);
    for (const row of found.items) {
      if (!tickers.has(row.instrument)) {
        stream.subscribe("ticker", { instrument: row.instrument }, (frame) => {
          tickers.set(row.instrument, frame.data);
          showMarkets();
        });
      }
      tickers.set(row.instrument, row);
    }
    showMarkets();
  }, (error) => setText("trouble", error ? problem(error) : ""));
}

stream.subscribe("status", {}, (frame) => showState(frame.data));
stream.subscribe("epochs", {}, () => api.get("/v1/status").then(showState, () => {}));
load();
