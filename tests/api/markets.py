# SPDX-License-Identifier: GPL-3.0-or-later
"""Random trading on a real journal, the history over it, and a plain slow account of what the journal says.

Rules: a `World` of this process writes the journal, with a clock that the test sets; replica and history follow it as
they follow a journal on disk whose sequencer cannot be reached. `Plain` knows nothing of the code under test.
"""

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.api import replica as replicas
from clearing.api.context import Context
from clearing.api.history import Cursor, History
from clearing.api.history.cursor import cursor as parse
from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import decode_any_envelope, decode_entry
from clearing.model.params import Instrument, OracleRules, Params
from clearing.service import config
from clearing.service.layout import Layout
from journal import Store
from tests.api import venue as venues
from tests.api.venue import following, journal, until
from tests.service.world import BTC, SECOND, USD, World, make_data_dir, owner_of

PRICE = 50_000 * 10_000
TICK = 10_000
OTHER = 2
NAMES = ("alice", "bob", "carol", "dave")
INSTRUMENTS = (
    Instrument(BTC, "BTC-PERP", "BTC", TICK, 1_000_000, 50_000, 30_000),
    Instrument(OTHER, "BTC-SMALL", "BTC", TICK, 1_000_000, 50_000, 30_000),
)


def quick_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the journal often; no sequencer answers in these tests."""
    monkeypatch.setattr(replicas, "RETRY_MOST_S", 0.02)
    monkeypatch.setattr(replicas, "RETRY_FIRST_S", 0.02)


def open_market(path: Path, **choices: Any) -> World:
    """A venue with two markets and four members, whose journal this process writes."""
    patient = OracleRules(fill_max_age_us=ids.DAY_US)
    settings = {"instruments": INSTRUMENTS, "params": Params(oracle_max_age_us=ids.DAY_US, oracle=patient)}
    make_data_dir(path, **(settings | choices))
    world = World(path)
    world.open(*NAMES)
    return world


class Trading:
    """Random commands of everyone, with refusals, replaces, triggers and everything that time does."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self._price = PRICE

    def block(self, entries: int = 12, step_us: int = 0) -> None:
        """One block of the journal, some time after the one before."""
        raws = [self._any() for _ in range(self.random.randint(1, entries))]
        self.world.now_us += step_us or self.random.randint(1, 90) * SECOND
        self.world.process(*raws)

    def _any(self) -> bytes:
        world, rng = self.world, self.random
        if rng.random() < 0.12:
            return self._house()
        name = rng.choice(NAMES)
        commands = tuple(self._command(rng) for _ in range(rng.randint(1, 6)))
        if rng.random() < 0.02:
            return world.batch(name, *commands, expiry_us=1)
        return world.batch(name, *commands)

    def _house(self) -> bytes:
        world, rng = self.world, self.random
        kind = rng.randrange(8)
        if kind == 0:
            return world.operator(c.FundingTick())
        if kind == 1:
            return world.deposit(owner_of(rng.choice(NAMES)), rng.randint(1, 9) * USD)
        if kind <= 3:
            return world.operator(c.RunTriggers())
        if kind == 4:
            return world.operator(c.ExpireOrders())
        if kind == 5:
            halted = rng.random() < 0.1
            return world.operator(c.HaltMarket(OTHER, halted, "for the test" if halted else ""))
        self._price += rng.randint(-60, 60) * TICK
        return world.price(self._price)

    def _command(self, rng: random.Random) -> c.MemberCommand:
        instrument = rng.choice((BTC, BTC, BTC, OTHER))
        side, coid, size = rng.randint(0, 1), rng.randint(1, 25), rng.randint(1, 40)
        price = self._price + rng.randint(-25, 25) * TICK
        kind = rng.random()
        if kind < 0.52:
            special = rng.random()
            fields: dict[str, Any] = {"stp": rng.randint(0, 3)}
            if special < 0.1:
                fields |= {"tif": ids.IOC}
            elif special < 0.15:
                fields |= {"reduce_only": True}
            elif special < 0.25:
                fields |= {"tif": ids.GTT, "expiry_us": self.world.now_us + rng.randint(1, 300) * SECOND}
            elif special < 0.3:
                fields |= {"post_only": True}
            return c.PlaceOrder(instrument, side, price, size, coid, **fields)
        if kind < 0.66:
            return c.ReplaceOrder(coid, price, size)
        if kind < 0.78:
            return c.CancelOrder(coid)
        if kind < 0.88:
            above = rng.random() < 0.5
            trigger = self._price + (1 if above else -1) * rng.randint(1, 60) * TICK
            oco = rng.choice((0, 0, rng.randint(1, 25)))
            return c.PlaceTrigger(instrument, side, trigger, above, price, size, coid, oco=oco)
        if kind < 0.91:
            return c.Withdraw(0, 0, rng.randint(1, 5) * USD)
        if kind < 0.94:
            return c.Transfer(1, rng.randint(1, 5) * USD)
        if kind < 0.96:
            return c.PledgeDefaultFund(rng.randint(-1, 2) * USD)
        return c.CancelAll(rng.choice((0, BTC, OTHER)))


# --- the parts under test ----------------------------------------------------------------------


@asynccontextmanager
async def writing_here(world: World) -> AsyncIterator[None]:
    """Let followers of this process share the journal that `world` has open."""
    venues._OPEN[world.path] = world.store
    try:
        yield
    finally:
        del venues._OPEN[world.path]


def context_of(path: Path, replica: Replica, store: Store) -> tuple[Context, list[BaseException]]:
    """What parts of the interface get, and the faults that they report."""
    faults: list[BaseException] = []
    layout = Layout(path)
    settings = config.load(path)
    context = Context(
        path, settings, replica.book.genesis, Link(layout.link), replica, store, replica.book,
        lambda part, error: faults.append(error), None,
    )  # fmt: skip
    return context, faults


@asynccontextmanager
async def history_of(path: Path, **choices: Any) -> AsyncIterator[tuple[History, Replica]]:
    """A history that is ready; a fault of it fails the test."""
    async with following(path) as replica:
        with journal(path) as store:
            context, faults = context_of(path, replica, store)
            history = History(context, **choices)
            try:
                await history.ready(30.0)
                yield history, replica
            finally:
                await history.close()
                assert not faults, faults


async def caught_up(history: History, replica: Replica, store: Store) -> None:
    """Everything that the journal holds is taken."""
    await until(lambda: replica.seq == store.head().next_seq)
    assert history.seq == replica.seq


async def all_pages(ask: Any, limit: int, forward: bool) -> list[Any]:
    """Everything, page by page, oldest first."""
    found: list[Any] = []
    cursor = Cursor(after=(-1, -1), limit=limit) if forward else Cursor(limit=limit)
    while True:
        page = await ask(cursor)
        found += page.items
        if page.next is None:
            return found if forward else found[::-1]
        cursor = parse(None if forward else page.next, page.next if forward else None, limit)


async def told(history: History, accounts: int) -> dict[str, Any]:
    """Everything that it knows, as plain values."""
    found: dict[str, Any] = {}
    for instrument in (BTC, OTHER):
        found[f"trades {instrument}"] = await all_pages(lambda at, i=instrument: history.trades(i, at), 1_000, False)
        found[f"funding {instrument}"] = await all_pages(lambda at, i=instrument: history.funding(i, at), 1_000, False)
        for interval in (60, 300, 3_600, 86_400):
            found[f"candles {instrument} {interval}"] = history.candles(instrument, interval)
        ticker = history.ticker(instrument)
        assert ticker is not None
        found[f"day {instrument}"] = (
            ticker.volume_lots_24h, ticker.turnover_atoms_24h, ticker.trades_24h, ticker.open_atoms_24h,
            ticker.high_atoms_24h, ticker.low_atoms_24h, ticker.last_atoms, ticker.last_lots,
        )  # fmt: skip
    for account in range(accounts):
        found[f"fills {account}"] = await all_pages(lambda at, a=account: history.fills(a, at), 1_000, False)
        found[f"events {account}"] = await all_pages(lambda at, a=account: history.events(a, at), 1_000, False)
        for client in range(1, 26):
            found[f"order {account} {client}"] = history.order(account, client)
    return {name: msgspec.to_builtins(value) for name, value in found.items()}


# --- what the journal says, slowly -------------------------------------------------------------

_SIDES = ("buy", "sell")
_EVENT_FIELDS = ("account", "from_account", "to_account", "bidder", "counterparty")
_NOT_EVENTS = (
    o.Rejected, o.OrderPlaced, o.TradeNovated, o.OrderCancelled, o.OrderReplaced, o.MarginChanged, o.TriggerPlaced,
    o.TriggerFired, o.FundingApplied, o.PriceAccepted, o.EpochClosed, o.BreakerChanged,
)  # fmt: skip


class Plain:
    """Everything of a journal by the simplest code there is; whole lists, no bounds."""

    def __init__(self, store: Store) -> None:
        self.trades: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.funding: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.fills: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.events: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.placed: dict[int, Any] = {}
        self.owners: dict[bytes, int] = {}
        self.orders: dict[tuple[int, int], dict[str, Any]] = {}
        self.by_id: dict[int, dict[str, Any]] = {}
        self.time_us = 0
        for block in store.read(0):
            for data in block.entries:
                entry = decode_entry(data)
                self.time_us = entry.time_us
                _, body = decode_any_envelope(entry.envelope)
                for index, outcome in enumerate(entry.outcomes):
                    self._outcome(entry.seq, index, entry.time_us, outcome)
                    self._order(entry.seq, outcome, body)

    def _outcome(self, seq: int, index: int, time_us: int, outcome: Any) -> None:
        place = {"seq": seq, "index": index, "time_us": time_us}
        if isinstance(outcome, o.OrderPlaced | o.TriggerPlaced):
            self.placed.setdefault(outcome.order_id, outcome)
        if isinstance(outcome, o.TradeNovated):
            price, size = str(outcome.price_atoms), str(outcome.size_lots)
            common = place | {"instrument": outcome.instrument, "price_atoms": price, "size_lots": size}
            taker = self.placed[outcome.taker_order_id]
            self.trades[outcome.instrument].append(common | {"side": _SIDES[taker.side]})
            symbol = {BTC: "BTC-PERP", OTHER: "BTC-SMALL"}[outcome.instrument]
            for role in ("maker", "taker"):
                order = self.placed[getattr(outcome, f"{role}_order_id")]
                self.fills[getattr(outcome, f"{role}_account")].append(
                    common
                    | {"symbol": symbol, "side": _SIDES[order.side], "role": role, "order_id": order.order_id}
                    | {"fee_atoms": str(getattr(outcome, f"{role}_fee_atoms"))}
                    | {"client_order_id": str(order.client_order_id)}
                )
        elif isinstance(outcome, o.FundingApplied):
            self.funding[outcome.instrument].append(
                place
                | {"instrument": outcome.instrument, "rate_ppm": outcome.rate_ppm}
                | {"per_lot_atoms": str(outcome.per_lot_atoms), "cumulative_atoms": str(outcome.cumulative_atoms)}
            )
        elif not isinstance(outcome, _NOT_EVENTS):
            self._event(place, outcome)

    def _event(self, place: dict[str, Any], outcome: Any) -> None:
        fields: dict[str, Any] = {"type": type(outcome).__name__}
        for name in outcome.__struct_fields__:
            value = getattr(outcome, name)
            if name.endswith(("_atoms", "_lots")):
                value = str(value)
            fields[name] = "0x" + value.hex() if isinstance(value, bytes) else value
        if isinstance(outcome, o.AccountOpened):
            self.owners.setdefault(outcome.owner, outcome.account)
        if isinstance(outcome, o.KeyRegistered):
            self.events[self.owners[outcome.owner]].append(place | fields)
        for name in _EVENT_FIELDS:
            if hasattr(outcome, name):
                self.events[getattr(outcome, name)].append(place | fields)

    def _order(self, seq: int, outcome: Any, body: c.Body) -> None:
        """Follow every order; `orders` has the newest by client order id."""
        if isinstance(outcome, o.OrderPlaced | o.TriggerPlaced):
            fired = self.by_id.get(outcome.order_id)
            self._put(seq, outcome, outcome.order_id, isinstance(outcome, o.TriggerPlaced), outcome.account)
            if fired is not None:
                self.by_id[outcome.order_id]["place_seq"] = fired["place_seq"]
        elif isinstance(outcome, o.Rejected) and isinstance(body, c.MemberBatch):
            whole = outcome.code in ("COMMAND_EXPIRED", "WINDING_DOWN")
            for command in body.commands if whole else [body.commands[outcome.index]]:
                if isinstance(command, c.PlaceOrder | c.PlaceTrigger):
                    self._refuse(seq, command, outcome.code, body.account)
        elif isinstance(outcome, o.TradeNovated):
            for order in (self.by_id[outcome.maker_order_id], self.by_id[outcome.taker_order_id]):
                order["filled"] += outcome.size_lots
                order["left"] -= outcome.size_lots
                order["seq"] = seq
                if not order["left"]:
                    order["status"] = "filled"
        elif isinstance(outcome, o.OrderReplaced):
            self.by_id[outcome.order_id] |= {"price": outcome.price_atoms, "left": outcome.open_lots, "seq": seq}
        elif isinstance(outcome, o.TriggerFired):
            self.by_id[outcome.order_id]["seq"] = seq
        elif isinstance(outcome, o.OrderCancelled):
            word = "rejected" if outcome.reason == "REJECTED" else "cancelled"
            self.by_id[outcome.order_id] |= {"status": word, "reason": outcome.reason, "seq": seq}

    def _refuse(self, seq: int, command: Any, code: str, account: int) -> None:
        before = self.orders.get((account, command.client_order_id))
        if before is None or before["status"] != "open":
            self._put(seq, command, None, isinstance(command, c.PlaceTrigger), account)
            self.orders[account, command.client_order_id] |= {"status": "rejected", "reason": code}

    def _put(self, seq: int, asked: Any, order_id: int | None, is_trigger: bool, account: int) -> None:
        order = {
            "status": "open", "reason": None, "seq": seq, "place_seq": seq, "filled": 0, "left": asked.size_lots,
            "price": asked.price_atoms, "side": _SIDES[asked.side], "instrument": asked.instrument,
            "order_id": order_id, "is_trigger": is_trigger, "account": account,
        }  # fmt: skip
        if order_id is not None:
            self.by_id[order_id] = order
        self.orders[account, asked.client_order_id] = order

    def order(self, account: int, client: int) -> dict[str, Any]:
        """As the interface says it."""
        order = self.orders.get((account, client))
        if order is None:
            names = "order_id account instrument side price_atoms size_lots filled_lots open_lots reason seq place_seq"
            return dict.fromkeys(names.split()) | {
                "status": "unknown", "client_order_id": str(client), "is_trigger": False,
            }  # fmt: skip
        left = order["left"]
        return {
            "client_order_id": str(client),
            "price_atoms": str(order["price"]),
            "size_lots": str(order["filled"] + left),
            "filled_lots": str(order["filled"]),
            "open_lots": str(left if order["status"] == "open" else 0),
        } | {
            name: order[name]
            for name in ("status", "reason", "seq", "place_seq", "side", "instrument", "order_id", "is_trigger")
        } | {"account": account}  # fmt: skip

    def candles(self, instrument: int, interval_s: int) -> list[dict[str, Any]]:
        """Oldest first, the newest 1,000."""
        width = interval_s * SECOND
        groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for trade in self.trades[instrument]:
            groups[trade["time_us"] // width * width].append(trade)
        found = []
        for start in sorted(groups)[-1_000:]:
            prices = [int(trade["price_atoms"]) for trade in groups[start]]
            found.append(
                {
                    "time_us": start, "open_atoms": str(prices[0]), "high_atoms": str(max(prices)),
                    "low_atoms": str(min(prices)), "close_atoms": str(prices[-1]), "trades": len(prices),
                    "volume_lots": str(sum(int(trade["size_lots"]) for trade in groups[start])),
                }
            )  # fmt: skip
        return found

    def day(self, instrument: int) -> tuple[Any, ...]:
        """What the ticker says of 24 hours and of the last trade."""
        minute = 60 * SECOND
        first = (self.time_us // minute - 1_439) * minute
        rows = [
            (int(trade["price_atoms"]), int(trade["size_lots"]))
            for trade in self.trades[instrument]
            if trade["time_us"] >= first
        ]
        prices = [price for price, _ in rows]
        edges = (str(prices[0]), str(max(prices)), str(min(prices))) if rows else (None, None, None)
        last = self.trades[instrument][-1] if self.trades[instrument] else {}
        turnover = sum(price * size for price, size in rows)
        volume = sum(size for _, size in rows)
        return (str(volume), str(turnover), len(rows), *edges, last.get("price_atoms"), last.get("size_lots"))

    def told(self, accounts: int) -> dict[str, Any]:
        """In the form of `told`."""
        found: dict[str, Any] = {}
        for instrument in (BTC, OTHER):
            found[f"trades {instrument}"] = self.trades[instrument]
            found[f"funding {instrument}"] = self.funding[instrument]
            for interval in (60, 300, 3_600, 86_400):
                found[f"candles {instrument} {interval}"] = self.candles(instrument, interval)
            found[f"day {instrument}"] = list(self.day(instrument))
        for account in range(accounts):
            found[f"fills {account}"] = self.fills[account]
            found[f"events {account}"] = self.events[account]
            for client in range(1, 26):
                found[f"order {account} {client}"] = self.order(account, client)
        return found
