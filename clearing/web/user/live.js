// SPDX-License-Identifier: GPL-3.0-or-later
// Balance, positions, orders and fills of the chosen account, live.

import { cancelAll, cancelOrder, SCOPE } from "/assets/signing/commands.js";
import { element, fillFacts, fillRows, get, onAction, problem, say } from "/assets/shared/dom.js";
import { abs, amount, clock, count } from "/assets/shared/numbers.js";

const SHOWN_FILLS = 50;
const MARKS_MS = 1_500;

export function setUpLive(desk) {
  let stop = () => {};
  let fills = new Map();

  const take = (frame, account) => {
    if (account !== desk.account) return;
    desk.view = frame.type === "snapshot" ? frame.data : frame.data.account ?? desk.view;
    for (const fill of frame.data.fills ?? []) fills.set(`${fill.seq}/${fill.index}/${fill.role}`, fill);
    desk.tell("account");
    showFills(desk, fills);
    if (frame.type === "snapshot") loadFills(account);
    if ((frame.data.events ?? []).some((one) => /Withdrawal|Deposited|Key/.test(one.type))) desk.refreshOwner();
  };

  // The stream tells new fills; those from before the page was opened, or missed while it was cut off, are asked for.
  async function loadFills(account) {
    const found = await desk.api.get(`/v1/accounts/${account}/fills?limit=${SHOWN_FILLS}`).catch(() => null);
    if (!found || account !== desk.account) return;
    for (const fill of found.items) fills.set(`${fill.seq}/${fill.index}/${fill.role}`, fill);
    showFills(desk, fills);
  }

  followMarks(desk);
  desk.on("owner", () => {
    stop();
    fills = new Map();
    showFills(desk, fills);
    const account = desk.account;
    stop = desk.stream.subscribe("account", { account }, (frame) => take(frame, account));
  });
  desk.on("account", () => {
    showBalance(desk);
    showPositions(desk);
    showOrders(desk);
  });
  onAction("cancel-all", "orders-said", async () => {
    await desk.command(SCOPE.trade, cancelAll());
    say("orders-said", "All orders are cancelled.", "ok");
  });
}

// Equity and margin move with the mark of what is held, without an entry of the account's own: then it is asked for.
function followMarks(desk) {
  const held = new Map(); // instrument -> what ends its subscription
  let timer = 0;
  const refresh = async () => {
    timer = 0;
    const account = desk.account;
    const view = await desk.api.get(`/v1/accounts/${account}`).catch(() => null);
    if (!view || account !== desk.account || desk.view === null || view.seq < (desk.view.seq ?? 0)) return;
    desk.view = view;
    desk.tell("account");
  };
  desk.on("account", () => {
    const wanted = new Set(desk.view.positions.map((one) => one.instrument));
    for (const [instrument, end] of held) {
      if (wanted.has(instrument)) continue;
      end();
      held.delete(instrument);
    }
    for (const instrument of wanted) {
      if (held.has(instrument)) continue;
      held.set(instrument, desk.stream.subscribe("mark", { instrument }, (frame) => {
        if (frame.type === "delta") timer ||= setTimeout(refresh, MARKS_MS);
      }));
    }
  });
}

export function symbolOf(desk, instrument) {
  return desk.instruments.get(instrument)?.symbol ?? `#${instrument}`;
}

function showBalance(desk) {
  const view = desk.view;
  const money = (value) => amount(value, desk.decimals);
  const [equity, maintenance] = [BigInt(view.equity_atoms), BigInt(view.margin_maintenance_atoms)];
  const near = maintenance > 0n && equity * 4n < maintenance * 5n;
  const ratio = maintenance > 0n ? `${(equity * 100n) / maintenance} %` : "no position";
  fillFacts(get("balance"), [
    ["Equity", money(view.equity_atoms), equity < 0n ? "poor" : ""],
    ["Free to use", money(view.free_atoms), BigInt(view.free_atoms) < 0n ? "poor" : ""],
    ["Cash", money(view.cash_atoms)],
    ["Initial margin", money(view.margin_initial_atoms)],
    ["Maintenance margin", money(view.margin_maintenance_atoms)],
    ["Equity / maintenance", ratio, near ? "poor" : ""],
    ...view.holdings.map((one) => [one.symbol, `${count(one.amount_atoms)} atoms`]),
    ...(view.auction ? [["In auction", "yes", "poor"]] : []),
  ]);
}

function showPositions(desk) {
  fillRows(get("positions"), desk.view.positions.map((one) => {
    const [size, mark] = [BigInt(one.size_lots), BigInt(one.mark_atoms)];
    const profit = size * mark - BigInt(one.entry_cost_atoms);
    return {
      key: one.instrument,
      cells: [
        one.symbol, count(size), amount(mark, desk.decimals), amount(abs(size * mark), desk.decimals),
        { text: amount(profit, desk.decimals), class: profit < 0n ? "poor" : profit > 0n ? "good" : "" },
      ],
    };
  }), "No position.");
}

function showOrders(desk) {
  const cancel = (order) => () => {
    const name = `${order.side} ${symbolOf(desk, order.instrument)} at ${amount(order.price_atoms, desk.decimals)}`;
    const button = element("button", { type: "button", text: "Cancel", "aria-label": `Cancel ${name}` });
    button.addEventListener("click", async () => {
      button.setAttribute("aria-busy", "true");
      try {
        await desk.command(SCOPE.trade, cancelOrder(0n, order.order_id));
        say("orders-said", `Cancelled: ${name}.`, "ok");
        get("cancel-all").focus({ preventScroll: true }); // the row and its button are about to go
      } catch (error) {
        say("orders-said", problem(error), "bad");
      } finally {
        button.removeAttribute("aria-busy");
      }
    });
    return button;
  };
  const orders = desk.view.orders.map((one) => ({
    key: one.order_id,
    cells: [
      symbolOf(desk, one.instrument), { text: one.side, class: one.side === "buy" ? "good" : "poor" },
      amount(one.price_atoms, desk.decimals), count(one.open_lots), { node: cancel(one) },
      { text: String(one.client_order_id), class: "roomy" },
    ],
  }));
  const triggers = desk.view.triggers.map((one) => ({
    key: `t${one.order_id}`,
    cells: [
      `${symbolOf(desk, one.instrument)}, mark ${one.when} ${amount(one.trigger_atoms, desk.decimals)}`,
      { text: one.side, class: one.side === "buy" ? "good" : "poor" }, amount(one.price_atoms, desk.decimals),
      count(one.size_lots), { node: cancel(one) }, { text: String(one.client_order_id), class: "roomy" },
    ],
  }));
  fillRows(get("orders"), [...orders, ...triggers], "No open order.");
}

function showFills(desk, fills) {
  const newest = Array.from(fills.values()).sort((one, other) => other.seq - one.seq || other.index - one.index);
  fillRows(get("fills"), newest.slice(0, SHOWN_FILLS).map((one) => ({
    key: `${one.seq}/${one.index}/${one.role}`,
    cells: [
      clock(one.time_us), one.symbol, { text: one.side, class: one.side === "buy" ? "good" : "poor" },
      amount(one.price_atoms, desk.decimals), count(one.size_lots), amount(one.fee_atoms, desk.decimals), one.role,
      String(one.seq),
    ],
  })), "No fill yet.");
}
