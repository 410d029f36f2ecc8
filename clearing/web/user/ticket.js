// SPDX-License-Identifier: GPL-3.0-or-later
// The order ticket: what it would do to margin is asked while it is filled in; nothing is sent before the button.

import { placeOrder, SCOPE } from "/assets/signing/commands.js";
import { element, fillFacts, fillRows, get, onAction, problem, say, setText } from "/assets/shared/dom.js";
import { amount, count, parseAmount, parseCount } from "/assets/shared/numbers.js";
import { advice } from "/assets/signing/rejections.js";

const PAUSE_MS = 250;
const DEPTH = 8;

export function setUpTicket(desk) {
  const market = new Market(desk);
  let timer = 0;
  let asked = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => estimate(desk, (asked += 1), () => asked), PAUSE_MS);
  };
  desk.on("venue", () => {
    get("instrument").replaceChildren(...Array.from(desk.instruments.values(), (one) =>
      element("option", { value: one.id, text: one.symbol })));
    market.open();
  });
  get("instrument").addEventListener("change", () => market.open());
  get("ticket").addEventListener("input", later);
  get("ticket").addEventListener("submit", (event) => event.preventDefault());
  desk.on("owner", later);
  desk.on("account", later);
  onAction("place", "ticket-said", () => place(desk));
}

const chosen = (desk) => desk.instruments.get(Number(get("instrument").value));

// One field's number; what is wrong with it is said with its name, and marked.
function field(id, name, parse) {
  const input = get(id);
  try {
    const value = parse(input.value);
    if (value <= 0n) throw new Error("must be more than zero");
    input.removeAttribute("aria-invalid");
    return value;
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    throw Object.assign(new Error(`${name} ${error.message}`), { field: input });
  }
}

function read(desk) {
  const instrument = chosen(desk);
  if (!instrument) throw new Error("no instrument is listed");
  const size = field("size", "the size", parseCount);
  const price = field("price", "the price", (text) => {
    const atoms = parseAmount(text, desk.decimals);
    const tick = BigInt(instrument.tick_atoms);
    if (atoms % tick) throw new Error(`must be a multiple of ${amount(tick, desk.decimals)}`);
    return atoms;
  });
  const tif = get("tif").value;
  return {
    instrument: instrument.id, symbol: instrument.symbol, side: get("ticket").elements.side.value, price, size,
    kind: tif === "market" ? "market" : "limit", tif: tif === "market" ? "ioc" : tif,
    postOnly: get("post-only").checked, reduceOnly: get("reduce-only").checked,
  };
}

async function estimate(desk, mine, newest) {
  if (!desk.account || !get("size").value.trim() || !get("price").value.trim()) return;
  let order;
  try {
    order = read(desk);
  } catch {
    return; // it is still being written; the button says what is wrong
  }
  const wire = {
    instrument: order.instrument, side: order.side, price_atoms: String(order.price), size_lots: String(order.size),
  };
  try {
    const found = await desk.api.post(`/v1/accounts/${desk.account}/estimate`, { orders: [wire] });
    if (mine === newest()) showEstimate(desk, found, order);
  } catch (error) {
    if (mine === newest()) say("estimate-said", problem(error), "bad");
  }
}

function showEstimate(desk, found, order) {
  const money = (value) => amount(value, desk.decimals);
  const [one] = found.orders;
  const free = BigInt(found.after.free_atoms);
  fillFacts(get("estimate"), [
    ["Value", money(order.price * order.size)],
    ["Initial margin", `${money(found.before.margin_initial_atoms)} → ${money(found.after.margin_initial_atoms)}`],
    ["Free after", money(free), free < 0n ? "poor" : "good"],
    ["Fills now", `${count(one.filled_lots)} lots`],
    ["Fee now", money(one.fee_atoms)],
  ]);
  if (found.accepted) say("estimate-said", "", "");
  else say("estimate-said", `It would be refused: ${advice(found.code)} (${found.code})`, "bad");
}

let lastId = 0n;

// Unique among the account's open orders: the clock's microseconds, counted up.
function nextId(nowUs) {
  lastId = nowUs > lastId ? nowUs : lastId + 1n;
  return lastId;
}

async function place(desk) {
  let order;
  try {
    order = read(desk);
  } catch (error) {
    error.field?.focus();
    throw error;
  }
  say("ticket-said", "Sending …");
  const clientOrderId = nextId(desk.stream.nowUs());
  const receipt = await desk.command(SCOPE.trade, placeOrder({ ...order, clientOrderId }));
  const fills = receipt.outcomes.filter((one) => one.type === "TradeNovated");
  const lots = fills.reduce((total, one) => total + BigInt(one.size_lots), 0n);
  const rests = order.kind === "limit" && order.tif === "gtc" && lots < order.size;
  const filled = lots ? `filled ${count(lots)} of ${count(order.size)} lots` : "nothing was filled";
  const done = [...(lots || !rests ? [filled] : []), ...(rests ? ["it rests in the book"] : [])].join(", ");
  const what = `${order.side === "buy" ? "Buy" : "Sell"} ${order.symbol}`;
  say("ticket-said", `${what}: ${done}. Entry ${receipt.seq} of the journal.`, "ok");
}

// Quote and book of the chosen instrument.
class Market {
  #desk;
  #stops = [];
  #sides = { bids: new Map(), asks: new Map() };

  constructor(desk) {
    this.#desk = desk;
  }

  open() {
    this.#stops.forEach((stop) => stop());
    this.#sides = { bids: new Map(), asks: new Map() };
    const instrument = chosen(this.#desk);
    if (!instrument) return;
    const place = { instrument: instrument.id };
    setText("price-hint", `Steps of ${amount(instrument.tick_atoms, this.#desk.decimals)}`);
    this.#stops = [
      this.#desk.stream.subscribe("ticker", place, (frame) => this.#quote(frame.data)),
      this.#desk.stream.subscribe("book", place, (frame) => this.#book(frame)),
    ];
  }

  #quote(ticker) {
    const money = (value) => (value === null || BigInt(value) === 0n ? "–" : amount(value, this.#desk.decimals));
    const halted = ticker.halted ? ` Halted: ${ticker.halted}.` : "";
    setText("quote", `Mark ${money(ticker.mark_atoms)}, last ${money(ticker.last_atoms)}.${halted}`);
  }

  #book(frame) {
    if (frame.type === "snapshot") this.#sides = { bids: new Map(), asks: new Map() };
    for (const side of ["bids", "asks"]) {
      for (const [price, lots] of frame.data[side] ?? []) {
        if (BigInt(lots) === 0n) this.#sides[side].delete(String(price));
        else this.#sides[side].set(String(price), lots);
      }
      const sign = side === "bids" ? -1 : 1;
      const rows = Array.from(this.#sides[side]).sort(([one], [other]) => sign * (Number(one) - Number(other)));
      fillRows(get(side), rows.slice(0, DEPTH).map(([price, lots]) => ({
        key: price, cells: [amount(price, this.#desk.decimals), count(lots)],
      })), "None.");
    }
  }
}
