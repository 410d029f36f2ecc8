# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin estimates: what they say is what the reducer then does with the same orders, to the atom; and asking changes
nothing of the state."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.api.estimates import Outlook, estimate
from clearing.core.margin import assess, headroom
from clearing.core.snapshot import dump
from clearing.core.state import Account, State
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import Breaker, FeeTier, Instrument, OracleRules, Params
from clearing.service.pipeline import Receipt
from tests.api.markets import INSTRUMENTS, NAMES, PRICE, TICK, open_market
from tests.service.world import BTC, SECOND, USD, World, owner_of

FUTURE = 3
SEEDS = (1, 2, 3, 4)
DATED = Instrument(FUTURE, "BTC-DATED", "BTC", TICK, 1_000_000, 60_000, 40_000, ids.FUTURE, 1_800_000_000_000_000)
RULES = Params(
    oracle_max_age_us=ids.DAY_US,
    oracle=OracleRules(fill_max_age_us=3_600 * SECOND),
    fee_tiers=(FeeTier(0, 200, 500), FeeTier(10**11, -50, 300)),
    max_fills_per_entry=7,
    max_open_orders=9,
    max_levels=14,
    breaker=Breaker(band_ppm=9_000),
)


def everything(state: State) -> int:
    """A hash of all that can be reached from the state, caches too: more than what is committed."""
    seen: dict[int, int] = {}
    parts: list[Any] = []

    def walk(value: Any) -> None:
        if value is None or isinstance(value, bool | int | str | bytes | float):
            parts.append(value)
            return
        if id(value) in seen:
            parts.append(("seen", seen[id(value)]))
            return
        seen[id(value)] = len(seen)
        kept.append(value)
        parts.append(type(value).__name__)
        if isinstance(value, dict):
            for key, item in value.items():
                walk(key)
                walk(item)
        elif isinstance(value, list | tuple | set | frozenset):
            parts.append(len(value))
            for item in value:
                walk(item)
        elif isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                walk(getattr(value, name))
        else:
            names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
            for name in [*names, *getattr(value, "__dict__", {})]:
                walk(getattr(value, name, None))

    kept: list[Any] = []
    walk(state)
    return hash(tuple(parts))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = open_market(tmp_path / "venue", params=RULES, instruments=(*INSTRUMENTS, DATED))
    yield world
    world.close()


def account_of(world: World, name: str) -> Account:
    return world.reducer.state.owners[owner_of(name)].accounts[0]


def an_order(rng: random.Random, client: int, account: Account) -> c.PlaceOrder:
    """Mostly sensible; now and then one that some rule refuses."""
    instrument = rng.choice((BTC, BTC, BTC, 2, FUTURE, 9 if rng.random() < 0.2 else BTC))
    small = rng.randint(1, 60)
    size = rng.choice((small, small, small, small, rng.randint(100, 30_000), rng.choice((0, 2_000_000, 400_000))))
    price = PRICE + rng.randint(-22, 22) * TICK
    odd = rng.random()
    if odd < 0.03:
        price += 1
    elif odd < 0.08:
        price += rng.choice((-1, 1)) * PRICE // 80
    slot = account.slots.get(instrument)
    if slot is not None and slot.size and rng.random() < 0.3:
        return c.PlaceOrder(instrument, ids.SELL if slot.size > 0 else ids.BUY, price, abs(slot.size), client)
    return c.PlaceOrder(instrument, rng.randint(0, 1), price, size, client)


def figures(account: Account) -> tuple[int, ...]:
    return (*assess(account), headroom(account))


def check(world: World, name: str, commands: tuple[c.PlaceOrder, ...]) -> Outlook:
    """Ask, look whether anything changed, do it at the same time, and compare."""
    state, account = world.reducer.state, account_of(world, name)
    before, stood = dump(state), figures(account)  # which may fill caches
    whole = everything(state)
    outlook = estimate(state, account, commands)
    assert dump(state) == before
    assert everything(state) == whole, "not a cache of it changed"
    assert outlook.before == stood
    (result,) = world.pipeline.process([world.batch(name, *commands)], state.time_us)
    assert isinstance(result, Receipt)
    refused = {out.index: out.code for out in result.outcomes if isinstance(out, o.Rejected)}
    assert [placed.code for placed in outlook.orders] == [refused.get(n, "") for n in range(len(commands))]
    assert outlook.after == figures(account), (commands, result.outcomes)
    _check_orders(account, commands, outlook, result)
    return outlook


def _check_orders(account: Account, commands: tuple[c.PlaceOrder, ...], outlook: Outlook, result: Receipt) -> None:
    placed = {out.client_order_id: out.order_id for out in result.outcomes if isinstance(out, o.OrderPlaced)}
    for command, told in zip(commands, outlook.orders, strict=True):
        number = placed.get(command.client_order_id)
        fills = [out for out in result.outcomes if isinstance(out, o.TradeNovated) and out.taker_order_id == number]
        assert told.filled == sum(fill.size_lots for fill in fills)
        assert told.cost == sum(fill.size_lots * fill.price_atoms for fill in fills)
        assert told.fee == sum(fill.taker_fee_atoms for fill in fills)
        rests = account.orders.get(command.client_order_id)
        assert told.resting == (rests.open_lots if rests is not None else 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_it_says_what_the_reducer_then_does(world: World, seed: int) -> None:
    """Many random accounts and batches: standard and portfolio margin, positions, resting orders of others, own ones,
    reduce-only and expiring makers, fee tiers, limits of fills, orders and levels."""
    rng, seen = random.Random(seed), Counter[str]()
    client = 1_000
    for name, left in zip(NAMES, (60_000, 300_000, 12_000, 40_000), strict=True):
        world.ok(world.batch(name, c.Withdraw(0, 0, (1_000_000 - left) * USD)))
    world.ok(world.batch("bob", c.SetMarginMode(ids.PORTFOLIO)))
    for turn in range(150):
        name = rng.choice(NAMES)
        account = account_of(world, name)
        kind = rng.random()
        if kind < 0.15:
            world.now_us = world.reducer.state.time_us
            world.process(world.price(PRICE + rng.randint(-12, 12) * TICK))
        elif kind < 0.4:
            _stir(world, rng, name, client)
            client += 10
        elif kind < 0.48:
            world.now_us += rng.choice((1, 30, 7_200, 86_400)) * SECOND
            world.process(world.price(PRICE + rng.randint(-12, 12) * TICK), world.operator(c.FundingTick()))
        batch = tuple(an_order(rng, client + n, account) for n in range(rng.choice((1, 1, 1, 2, 4))))
        client += 10
        outlook = check(world, name, batch)
        for placed in outlook.orders:
            seen[placed.code or placed.cancelled or ("filled" if placed.filled else "rests")] += 1
        if turn % 4 == 3:
            world.process(world.batch(rng.choice(NAMES), c.CancelAll(0)))
    assert seen["filled"] > 10
    assert seen["rests"] > 10
    assert seen["INSUFFICIENT_MARGIN"] > 5
    assert len(seen) >= 9, seen


def _stir(world: World, rng: random.Random, name: str, client: int) -> None:
    """Makers that matching treats in ways of its own."""
    side, size = rng.randint(0, 1), rng.randint(1, 40)
    price = PRICE + (rng.randint(-22, -1) if side == ids.BUY else rng.randint(1, 22)) * TICK
    now = world.reducer.state.time_us
    world.process(
        world.batch(
            name,
            c.PlaceOrder(BTC, side, price, size, client + 8, tif=ids.GTT, expiry_us=now + rng.randint(1, 90) * SECOND),
            c.PlaceOrder(BTC, 1 - side, 2 * PRICE - price, size, client + 7, reduce_only=True),
            c.PlaceTrigger(BTC, side, PRICE + 60 * TICK, True, price, 1, client + 9, oco=client + 8),
        )
    )


def test_limits_that_a_batch_shares(world: World) -> None:
    """The budget of fills counts over the batch, an OCO maker twice; levels are capped; and an order of one's own that
    would be met ends the taker."""
    asks = [c.PlaceOrder(BTC, ids.SELL, PRICE + n * TICK, 2, 10 + n) for n in range(1, 8)]
    world.ok(world.batch("bob", *asks))
    world.ok(world.batch("bob", c.PlaceTrigger(BTC, ids.BUY, PRICE + 90 * TICK, True, PRICE, 1, 30, oco=12)))
    buys = tuple(c.PlaceOrder(BTC, ids.BUY, PRICE + 9 * TICK, 5, 40 + n) for n in range(4))
    outlook = check(world, "alice", buys)
    assert [placed.cancelled for placed in outlook.orders] == ["", "", "FILL_LIMIT", "FILL_LIMIT"]
    grid = tuple(c.PlaceOrder(BTC, ids.BUY, PRICE - n * TICK, 1, 50 + n) for n in range(1, 9))
    check(world, "carol", grid)
    more = tuple(c.PlaceOrder(BTC, ids.BUY, PRICE - n * TICK, 1, 70 + n) for n in range(8, 17))
    codes = [check(world, "dave", (order,)).orders[0].code for order in more]
    assert codes[-1] == "TOO_MANY_LEVELS"
    outlook = check(world, "alice", (buys[0], c.PlaceOrder(BTC, ids.SELL, PRICE - 2 * TICK, 9, 90)))
    both = (
        c.PlaceOrder(2, ids.BUY, PRICE, 3, 91),
        c.PlaceOrder(2, ids.SELL, PRICE, 5, 92),
        c.PlaceOrder(2, ids.SELL, PRICE + TICK, 5, 93),
    )
    assert [placed.cancelled for placed in check(world, "alice", both).orders] == ["", "STP", ""]


def test_house_accounts_and_a_venue_that_winds_down(world: World) -> None:
    state = world.reducer.state
    buy = c.PlaceOrder(BTC, ids.BUY, PRICE, 1, 1)
    for number in range(ids.HOUSE_ACCOUNTS):
        assert [p.code for p in estimate(state, state.accounts[number], [buy]).orders] == ["OUT_OF_SCOPE"]
    world.ok(world.operator(c.StartWindDown("for the test")))
    outlook = estimate(state, account_of(world, "alice"), [buy])
    assert [placed.code for placed in outlook.orders] == ["WINDING_DOWN"]
    assert outlook.before == outlook.after
