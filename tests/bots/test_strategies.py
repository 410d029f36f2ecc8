# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategies by themselves: whatever they see, what they send keeps to the limits."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from clearing.bots import maker, taker
from clearing.bots.maker import Quoted, Quoting
from clearing.bots.taker import Draw, Taking
from clearing.bots.view import Market, Resting, View, best_of_others, why_paused
from clearing.client.book import Level
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.commands import CancelAll, MemberBatch, MemberCommand, PlaceOrder
from clearing.model.errors import NovateError

ppm = st.integers(0, 20_000)


@st.composite
def markets(draw: Any) -> Market:
    return Market(draw(st.integers(1, 9)), draw(st.integers(1, 5_000)), draw(st.integers(1, 10_000)))


@st.composite
def quotings(draw: Any) -> Quoting:
    return Quoting(
        max_position_lots=draw(st.integers(1, 10_000)),
        size_lots=draw(st.integers(1, 1_000)),
        levels=draw(st.integers(1, maker.MAX_LEVELS)),
        spread_ppm=draw(ppm),
        step_ppm=draw(ppm),
        skew_ppm=draw(ppm),
        threshold_ppm=draw(ppm),
    )


@st.composite
def views(draw: Any, market: Market, limit: int) -> View:
    """Somebody's account, within its limit even if all that is open were filled, and any book around the mark."""
    mark = draw(st.integers(market.tick_atoms, 10**9))
    position = draw(st.integers(-limit, limit))
    orders = []
    for side, room in ((ids.BUY, limit - position), (ids.SELL, limit + position)):
        lots = draw(st.integers(0, room))
        if lots:
            orders.append(Resting(side, draw(st.integers(1, 10**9)), lots))
    near = st.none() | st.integers(max(1, mark // 2), 2 * mark).map(market.down).filter(bool)
    return View(1_000, mark, position, tuple(orders), draw(near), draw(near))


def worst(view: View, commands: list[MemberCommand], side: int) -> int:
    """The position of a side if all that rests is filled first, and then all that is placed."""
    held = view.position_lots if side == ids.BUY else -view.position_lots
    return held + view.open_lots(side) + sum(o.size_lots for o in placed(commands) if o.side == side)


def placed(commands: list[MemberCommand]) -> list[PlaceOrder]:
    return [command for command in commands if isinstance(command, PlaceOrder)]


@given(st.data(), markets(), quotings())
def test_quotes_keep_to_every_limit(data: Any, market: Market, quoting: Quoting) -> None:
    """Never across itself or others, never beyond the position, on the market's steps, of a size that it takes, in one
    batch that can be signed, with ids that differ."""
    view = data.draw(views(market, quoting.max_position_lots))
    commands = maker.decide(quoting, market, view, None, 1_000)
    orders = placed(commands)
    assert [type(command) for command in commands[: len(commands) - len(orders)]] == [CancelAll] * bool(commands)
    assert bool(commands) == bool(orders or view.orders)
    bids = [order.price_atoms for order in orders if order.side == ids.BUY]
    asks = [order.price_atoms for order in orders if order.side == ids.SELL]
    assert not bids or not asks or max(bids) < min(asks)
    assert all(view.ask_atoms is None or price < view.ask_atoms for price in bids)
    assert all(view.bid_atoms is None or price > view.bid_atoms for price in asks)
    assert bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))
    for order in orders:
        assert order.price_atoms > 0 and order.price_atoms % market.tick_atoms == 0
        assert 1 <= order.size_lots <= min(market.max_order_lots, quoting.size_lots)
        assert order.post_only and order.tif == ids.GTC and order.instrument == market.number
    assert len({order.client_order_id for order in orders}) == len(orders)
    for side in (ids.BUY, ids.SELL):
        assert (
            not any(order.side == side for order in orders) or worst(view, commands, side) <= quoting.max_position_lots
        )
    if commands:
        assert len(commands) <= ids.MAX_COMMANDS_PER_BATCH
        assert len(encode(MemberBatch(bytes(32), 1, 1, 1, tuple(commands)))) < ids.MAX_ENVELOPE_BYTES - 200


@given(st.data(), markets(), quotings())
def test_an_account_beyond_its_limit_is_brought_back_only(data: Any, market: Market, quoting: Quoting) -> None:
    """However a position came to be too large, no order makes it larger."""
    limit = quoting.max_position_lots
    side = data.draw(st.sampled_from((ids.BUY, ids.SELL)))
    position = data.draw(st.integers(limit, 3 * limit)) * (1 if side == ids.BUY else -1)
    view = View(1_000, data.draw(st.integers(10**6, 10**9)), position)
    assert not any(order.side == side for order in placed(maker.decide(quoting, market, view, None, 1)))


@given(markets(), st.integers(10**8, 10**9), st.integers(1, 100))
def test_a_position_moves_the_quotes_against_it(market: Market, mark: int, position: int) -> None:
    """Long: both prices are lower than when flat, short: higher."""
    quoting = Quoting(max_position_lots=1_000, skew_ppm=500_000)
    long, flat, short = (
        {
            order.side: order.price_atoms
            for order in placed(maker.decide(quoting, market, View(0, mark, at), None, 1))[::-1]
        }
        for at in (position, 0, -position)
    )
    assert all(long[side] < flat[side] < short[side] for side in (ids.BUY, ids.SELL))


MARKET = Market(1, 1_000, 1_000_000)
QUOTING = Quoting(max_position_lots=100, size_lots=10, levels=2, threshold_ppm=200, max_age_us=1_000_000)
MARK = 60_000_000
RESTING = (Resting(ids.BUY, MARK - 30_000, 20), Resting(ids.SELL, MARK + 30_000, 20))
LAST = Quoted(MARK, 0, (20, 20), 5_000)


def at(**fields: Any) -> View:
    """The moment after `LAST`, but for what is given."""
    return replace(View(6_000, MARK, 0, RESTING), **fields)


@pytest.mark.parametrize(
    ("view", "moves"),
    [
        (at(), False),
        (at(mark_atoms=MARK + MARK * 200 // ids.PPM), False),
        (at(mark_atoms=MARK - MARK * 200 // ids.PPM), False),
        (at(mark_atoms=MARK + MARK * 200 // ids.PPM + 1), True),
        (at(mark_atoms=MARK - MARK * 200 // ids.PPM - 1), True),
        (at(position_lots=1), True),
        (at(orders=RESTING[:1]), True),
        (at(orders=(Resting(ids.BUY, MARK, 19), RESTING[1])), True),
        (at(now_us=1_004_999), False),
        (at(now_us=1_005_000), True),
        (at(bid_atoms=MARK, ask_atoms=MARK + 1_000), False),
    ],
)
def test_quotes_are_replaced_when_they_must_be(view: View, moves: bool) -> None:
    """The mark moved by more than the threshold, something was filled or cancelled, or they are old; others' orders are
    no reason."""
    commands = maker.decide(QUOTING, MARKET, view, LAST, 1)
    assert bool(commands) == moves
    assert not moves or (commands[0] == CancelAll(1) and len(placed(commands)) == 4)


def test_a_fill_during_the_batch_is_seen() -> None:
    """What was filled between the decision and the batch is a reason to look again, although the batch is younger."""
    after = Quoted.after(at(), at(position_lots=7))
    assert maker.decide(QUOTING, MARKET, at(position_lots=7), after, 1)
    assert not maker.decide(QUOTING, MARKET, at(), Quoted.after(at(), at()), 1)


@pytest.mark.parametrize("last", [None, LAST])
def test_a_paused_market_is_left(last: Quoted | None) -> None:
    """Everything is cancelled, once; nothing is placed."""
    assert maker.decide(QUOTING, MARKET, at(paused="STALE"), last, 1) == [CancelAll(1)]
    assert maker.decide(QUOTING, MARKET, at(paused="STALE", orders=()), last, 1) == []
    assert taker.decide(Taking(10), MARKET, at(paused="STALE", ask_atoms=MARK), Draw(0.0, ids.BUY, 1), 1) is None


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most books are too far away to be taken from
@given(st.data(), markets(), st.integers(1, 1_000), st.integers(1, 500), st.integers(0, 50_000))
def test_the_taker_keeps_to_its_limits(data: Any, market: Market, limit: int, size: int, slippage: int) -> None:
    """Immediate or cancelled, on the market's steps, not beyond the slippage, the size, or the position."""
    taking = Taking(limit, size, 1.0, slippage)
    view = data.draw(views(market, limit))
    draw = Draw(0.0, data.draw(st.sampled_from((ids.BUY, ids.SELL))), data.draw(st.integers(1, size)))
    order = taker.decide(taking, market, view, draw, 5)
    assume(order is not None)
    assert order is not None
    assert order.tif == ids.IOC and order.side == draw.side and order.client_order_id == 5
    assert 1 <= order.size_lots <= min(draw.size_lots, market.max_order_lots)
    assert order.price_atoms > 0 and order.price_atoms % market.tick_atoms == 0
    away = order.price_atoms - view.mark_atoms if order.side == ids.BUY else view.mark_atoms - order.price_atoms
    assert away * ids.PPM <= view.mark_atoms * slippage
    best = view.ask_atoms if order.side == ids.BUY else view.bid_atoms
    assert best is not None and (best <= order.price_atoms if order.side == ids.BUY else best >= order.price_atoms)
    assert worst(view, [order], order.side) <= limit


def test_the_same_seed_draws_the_same_orders() -> None:
    """Times, sides and sizes; another seed draws others. Both sides and the whole range of sizes come up."""
    taking = Taking(100, 5, 10.0)
    rows = []
    for seed in (3, 3, 4):
        rng = random.Random(seed)
        rows.append([Draw.next(taking, rng) for _ in range(400)])
    assert rows[0] == rows[1] != rows[2]
    assert {draw.side for draw in rows[0]} == {ids.BUY, ids.SELL} and {d.size_lots for d in rows[0]} == {1, 2, 3, 4, 5}
    mean = sum(draw.wait_s for draw in rows[0]) / 400
    assert 0.08 < mean < 0.12  # one in ten seconds; the seed is fixed


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quoting(max_position_lots=0),
        lambda: Quoting(10, levels=maker.MAX_LEVELS + 1),
        lambda: Quoting(10, levels=0),
        lambda: Quoting(10, spread_ppm=-1),
        lambda: Quoting(10, spread_ppm=900_000, step_ppm=50_000),
        lambda: Taking(0),
        lambda: Taking(1, per_second=0.0),
        lambda: Taking(1, per_second=float("nan")),
        lambda: Taking(1, slippage_ppm=ids.PPM),
    ],
)
def test_settings_out_of_bounds_are_refused(make: Any) -> None:
    """Before anything is sent, with a code."""
    with pytest.raises(NovateError) as caught:
        make()
    assert caught.value.code == "BAD_SETTINGS"


def test_own_orders_are_not_others() -> None:
    """A level that holds nothing but one's own orders is nobody's price."""
    levels = [Level(100, 5, 1), Level(90, 7, 2)]
    assert best_of_others(levels, []) == 100
    assert best_of_others(levels, [Resting(ids.BUY, 100, 2), Resting(ids.BUY, 100, 3)]) == 90
    assert best_of_others(levels, [Resting(ids.BUY, 100, 4)]) == 100
    assert best_of_others(levels, [Resting(ids.BUY, 100, 5), Resting(ids.BUY, 90, 7)]) is None


def test_reasons_to_pause() -> None:
    """Each by its code, and none when all is well."""
    row = {"halted": "", "expiry_us": "0"}
    assert why_paused(row, False, 10, 10, 50) == ""
    assert why_paused(row, True, 10, 10, 50) == "STALE"
    assert why_paused(None, False, 10, 10, 50) == "DELISTED"
    assert why_paused(row | {"halted": "why"}, False, 10, 10, 50) == "MARKET_HALTED"
    assert why_paused(row | {"expiry_us": "50"}, False, 10, 10, 50) == "INSTRUMENT_EXPIRED"
    assert why_paused(row | {"expiry_us": "51"}, False, 10, 10, 50) == ""
    assert why_paused(row, False, None, 10, 50) == "NO_MARK_PRICE"
    assert why_paused(row, False, 11, 10, 50) == "ORACLE_STALE"
