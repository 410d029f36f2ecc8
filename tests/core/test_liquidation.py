# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder: who is liquidated, by how much, and that no step harms the account it is meant to heal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.liquidation import is_liquidatable, is_ready
from clearing.core.margin import assess, equity, witness
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Ladder, Params
from tests.core import venue as v

X, Y = 1, 2
MARKET = (
    Instrument(X, "X-PERP", "X", 1, 10**9, 50_000, 30_000),
    Instrument(Y, "Y-PERP", "Y", 1, 10**9, 100_000, 60_000),
)
T = TypeVar("T")


def only(kind: type[T], outcomes: Iterable[o.Outcome]) -> list[T]:
    return [outcome for outcome in outcomes if isinstance(outcome, kind)]


def one(kind: type[T], outcomes: Iterable[o.Outcome]) -> T:
    found = only(kind, outcomes)
    assert len(found) == 1, list(outcomes)
    return found[0]


def market(fund: int = 0, capital: int = 0, fees: tuple[int, int] = (0, 0), **params: object) -> v.Venue:
    """Prices 1,000 and 500; the insurance fund and the operator's capital as given; Bob is rich."""
    fields = {"fee_tiers": (FeeTier(0, *fees),), "oracle_max_jump_ppm": 10**9} | params
    venue = v.Venue(Params(**fields), MARKET)  # type: ignore[arg-type]
    if fund or capital:
        venue.deposit("treasury", fund + capital)
    if fund:
        venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, fund))
    venue.fund("bob", 10**12)
    venue.oracle({X: 1_000, Y: 500})
    return venue


def hold(venue: v.Venue, name: str, lots: int, instrument: int = X, against: str = "bob") -> None:
    """`name` buys (negative: sells) from `against` at the mark."""
    side = ids.BUY if lots > 0 else ids.SELL
    mark = venue.state.instruments[instrument].mark
    for who, what in ((against, 1 - side), (name, side)):
        out = venue.do(who, venue.order(what, mark, abs(lots), instrument, stp=ids.STP_NONE))
        assert not v.codes(out), out


def move(venue: v.Venue, **marks: int) -> None:
    venue.oracle({{"X": X, "Y": Y}[name]: price for name, price in marks.items()})


def books_of(venue: v.Venue) -> list[tuple[int, int, dict[int, int]]]:
    """What every account owns."""
    return [(a.cash, a.pledged, {i: s.size for i, s in a.slots.items() if s.size}) for a in venue.state.accounts]


# --- who ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cash=st.integers(60, 3_000), lots=st.integers(-20, 20), mark=st.integers(1, 3_000), drop=st.booleans())
def test_exactly_those_below_maintenance_are_liquidatable(cash: int, lots: int, mark: int, drop: bool) -> None:
    """A healthy account is never liquidatable, and a refused command moves nothing."""
    venue = market(fund=10**9)
    venue.fund("ann", cash)
    if lots and abs(lots) * 50 <= cash:
        hold(venue, "ann", lots)
    move(venue, X=mark)
    ann = venue.account("ann")
    now, _, maintenance = assess(ann)
    assert (is_liquidatable(venue.state, ann) == "") == (now < maintenance)
    if now >= maintenance:
        before = books_of(venue)
        assert v.codes(venue.liquidate("ann")) == ["NOT_LIQUIDATABLE"]
        assert books_of(venue) == before
        assert ann.wait_us == 0


def test_a_stale_oracle_freezes_and_never_liquidates() -> None:
    """Below maintenance, but the price is older than allowed: nothing happens until a new one confirms it."""
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=965)
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    for mark in (965, 975):
        assert v.codes(venue.liquidate("ann")) == ["ORACLE_STALE"]
        assert venue.account("ann").slots[X].size == 100
        venue.advance(v.MINUTE * 2)
        if mark == 965:
            assert v.codes(venue.liquidate("ann")) == ["ORACLE_STALE"]
    move(venue, X=975)
    assert v.codes(venue.liquidate("ann")) == ["NOT_LIQUIDATABLE"]
    move(venue, X=965)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "SLICE"


def test_a_stale_price_of_one_position_freezes_the_whole_account() -> None:
    venue = market(fund=10**9)
    venue.fund("ann", 9_000)
    hold(venue, "ann", 100)
    hold(venue, "ann", 10, Y)
    venue.advance(venue.state.params.oracle_max_age_us)
    move(venue, X=940)
    venue.advance(1)
    assert v.codes(venue.liquidate("ann")) == ["ORACLE_STALE"]


def test_house_accounts_are_never_liquidated() -> None:
    """Also not when the fund is worth less than nothing."""
    venue = market()
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=945)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "BACKSTOP"
    move(venue, X=400)
    assert equity(venue.state.accounts[ids.INSURANCE_FUND]) < 0
    for number in range(ids.HOUSE_ACCOUNTS):
        assert v.codes(venue.operator(c.Liquidate(number))) == ["NOT_LIQUIDATABLE"]
    assert v.codes(venue.operator(c.Liquidate(99))) == ["UNKNOWN_ACCOUNT"]


def test_standard_margin_needs_no_witness_and_takes_none() -> None:
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    venue.fund("eve", 1)
    hold(venue, "ann", 100)
    move(venue, X=965)
    number = venue.account("ann").number
    for scenario in (0, 7, ids.BASIS):
        assert v.codes(venue.operator(c.Liquidate(number, scenario))) == ["FALSE_WITNESS"]
        assert v.codes(venue.do("eve", c.ProposeLiquidation(number, scenario))) == ["FALSE_WITNESS"]
    step = one(o.Liquidated, venue.do("eve", c.ProposeLiquidation(number, ids.NO_SCENARIO)))
    assert (step.step, step.scenario, step.scenario_pnl_atoms) == ("SLICE", ids.NO_SCENARIO, 0)
    assert (step.equity_atoms, step.margin_maintenance_atoms) == (2_500, 2_895)


# --- how much ----------------------------------------------------------------------------------


def test_orders_and_triggers_are_cancelled_first() -> None:
    """Ann's bids, asks and stop are gone, and in the same entry she is sold down."""
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    venue.do("ann", venue.order(ids.SELL, 1_200, 10, X), venue.order(ids.BUY, 500, 1, X))
    move(venue, X=965)
    venue.buy("bob", 965, 1_000, X)
    out = venue.liquidate("ann")
    assert not venue.account("ann").orders
    assert [x.reason for x in only(o.OrderCancelled, out)][:2] == ["LIQUIDATION"] * 2
    assert one(o.Liquidated, out).closed_atoms > 0


@pytest.mark.parametrize("lots", [100, -100])
def test_a_small_book_is_sold_just_far_enough(lots: int) -> None:
    """At the mark, without fees: equity 2,500 of 2,895 needed; 1.15 x 28.95 x left <= 2,500 leaves 75 lots."""
    venue = market(fund=10**9, liquidation_fee_ppm=0)
    venue.fund("ann", 6_000 if lots > 0 else 5_905)
    hold(venue, "ann", lots)
    mark = 965 if lots > 0 else 1_034
    move(venue, X=mark)
    venue.do("bob", venue.order(ids.BUY if lots > 0 else ids.SELL, mark, 1_000, X))
    step = one(o.Liquidated, venue.liquidate("ann"))
    ann = venue.account("ann")
    now, _, maintenance = assess(ann)
    assert now * 100 >= 115 * maintenance
    left = abs(ann.slots[X].size)
    assert now * 100 < 115 * -(-(left + 1) * mark * 30_000 // 10**6)
    assert step.closed_atoms == (100 - left) * mark
    assert ann.wait_us == step.wait_us == 0
    assert v.codes(venue.liquidate("ann")) == ["NOT_LIQUIDATABLE"]


def test_a_large_book_is_sold_in_slices_with_a_cool_down() -> None:
    """Above slice_from a step closes at most 10 % of each position; the next one waits for 30 s."""
    venue = market(fund=10**9, ladder=Ladder(slice_from_atoms=50_000, step_atoms=80_000))
    venue.fund("ann", 60_000)
    hold(venue, "ann", 1_000)
    move(venue, X=965)
    venue.buy("bob", 965, 10_000, X)
    step = one(o.Liquidated, venue.liquidate("ann"))
    assert step.closed_atoms == 80_000 // 965 * 965  # 82 lots: step_atoms binds before the 100 lots of 10 %
    assert step.wait_us == venue.now_us + 30 * v.SECOND
    assert v.codes(venue.liquidate("ann")) == ["LIQUIDATION_COOLING"]
    assert not is_ready(venue.state, venue.account("ann"), venue.now_us)
    venue.advance(30 * v.SECOND)
    move(venue, X=965)
    again = one(o.Liquidated, venue.liquidate("ann"))
    assert 0 < again.closed_atoms <= step.closed_atoms


def test_a_book_without_bids_is_tried_again_after_the_cool_down() -> None:
    """No order within 5 % of the mark: nothing is sold, nothing is lost."""
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=965)
    venue.buy("bob", 965 * 94 // 100, 1_000, X)
    step = one(o.Liquidated, venue.liquidate("ann"))
    assert (step.step, step.closed_atoms, step.fee_atoms) == ("SLICE", 0, 0)
    assert step.wait_us == venue.now_us + 30 * v.SECOND
    assert venue.account("ann").cash == 6_000 - 100 * 1_000


def test_a_halted_market_is_left_alone() -> None:
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    venue.buy("bob", 965, 1_000, X)
    venue.operator(c.HaltMarket(X, True, "test"))
    move(venue, X=965)
    assert one(o.Liquidated, venue.liquidate("ann")).closed_atoms == 0


@settings(max_examples=120, deadline=None)
@given(
    lots=st.tuples(st.integers(-80, 80), st.integers(-80, 80)),
    spare=st.integers(0, 60),
    against=st.tuples(st.integers(18, 34), st.integers(36, 64)),
    bids=st.lists(st.tuples(st.sampled_from((X, Y)), st.integers(-5, 30), st.integers(1, 60)), min_size=1, max_size=8),
    fees=st.sampled_from(((0, 0), (200, 500), (-100, 10_000))),
    large=st.booleans(),
    fee_ppm=st.sampled_from((0, 10_000, 15_000)),
)
def test_no_step_raises_maintenance_or_lowers_the_ratio(
    lots: tuple[int, int],
    spare: int,
    against: tuple[int, int],
    bids: list[tuple[int, int, int]],
    fees: tuple[int, int],
    large: bool,
    fee_ppm: int,
) -> None:
    """Random positions whose prices move against them by about what margin bears, random books and fees: by
    cross-multiplication equity / maintenance never falls; the fee is at most its rate of what was closed, and never
    takes equity below zero."""
    ladder = Ladder(slice_from_atoms=5_000 if large else 10**12, step_atoms=20_000)
    venue = market(fund=10**9, fees=fees, ladder=ladder, liquidation_fee_ppm=fee_ppm)
    venue.fund("ann", 10**6)
    for instrument, size in zip((X, Y), lots, strict=True):
        if size:
            hold(venue, "ann", size, instrument)
    free = assess(venue.account("ann"))
    if free[0] - free[1] > spare:
        venue.do("ann", c.Withdraw(0, 0, free[0] - free[1] - spare))
    down = [1 if size > 0 else -1 for size in lots]
    marks = (1_000 - down[0] * against[0], 500 - down[1] * against[1] // 2)
    move(venue, X=marks[0], Y=marks[1])
    for instrument, behind, size in bids:
        side = ids.BUY if lots[instrument - 1] > 0 else ids.SELL
        price = marks[instrument - 1] - down[instrument - 1] * behind
        venue.do("bob", venue.order(side, max(price, 1), size, instrument, stp=ids.STP_CANCEL_MAKER))
    for _ in range(4):
        ann = venue.account("ann")
        now, _, maintenance = assess(ann)
        fund = equity(venue.state.accounts[ids.INSURANCE_FUND])
        out = venue.liquidate("ann")
        if v.codes(out):
            assert v.codes(out) == ["NOT_LIQUIDATABLE"]
            assert now >= maintenance or not any(slot.size for slot in ann.slots.values())
            return
        step = one(o.Liquidated, out)
        after, _, left = assess(ann)
        assert left <= maintenance
        if now < 0:  # a deficit has no ratio; the backstop takes it over as it is
            assert (step.step, after) == ("BACKSTOP", now)
        else:
            assert after * maintenance >= now * left
        assert 0 <= step.fee_atoms <= step.closed_atoms * fee_ppm // 10**6
        assert after >= min(0, now)
        assert equity(venue.state.accounts[ids.INSURANCE_FUND]) == fund + step.fee_atoms
        venue.advance(30 * v.SECOND)
        move(venue, X=marks[0], Y=marks[1])


# --- the backstop ------------------------------------------------------------------------------


def test_below_two_thirds_the_backstop_takes_the_book_at_the_mark() -> None:
    """Equity 1,300 of 2,859 needed: all 100 lots go to the fund at 953; Ann keeps 1,300 less a fee of 1 %."""
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    venue.do("ann", venue.order(ids.SELL, 1_200, 10, X))
    move(venue, X=953)
    venue.buy("bob", 953, 1_000, X)  # however good the book is
    out = venue.liquidate("ann")
    step = one(o.Liquidated, out)
    moved = one(o.PositionTransferred, out)
    assert (moved.size_lots, moved.price_atoms, moved.to_account) == (100, 953, ids.INSURANCE_FUND)
    assert (step.step, step.closed_atoms, step.fee_atoms) == ("BACKSTOP", 95_300, 953)
    assert venue.account("ann").cash == equity(venue.account("ann")) == 1_300 - 953
    assert not venue.account("ann").orders
    assert venue.state.accounts[ids.INSURANCE_FUND].slots[X].size == 100


def test_the_backstop_does_not_wait_for_a_cool_down() -> None:
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=965)
    assert one(o.Liquidated, venue.liquidate("ann")).wait_us > venue.now_us
    move(venue, X=950)
    assert is_ready(venue.state, venue.account("ann"), venue.now_us)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "BACKSTOP"


def test_what_the_fund_cannot_pay_for_it_does_not_take() -> None:
    """Ann owes 1,000 and the fund holds 999: she is in default, and nothing moves until the waterfall does."""
    venue = market(fund=999)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=930)
    before = books_of(venue)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "DEFAULT"
    assert books_of(venue) == before
    assert v.codes(venue.liquidate("ann")) == ["LIQUIDATION_COOLING"]
    venue.deposit("treasury", 1)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 1))
    assert one(o.Liquidated, venue.liquidate("ann")).step == "BACKSTOP"
    assert equity(venue.account("ann")) == -1_000


def test_a_maker_that_may_not_trade_is_cancelled_on_the_way() -> None:
    """An expired bid and a reduce-only bid with nothing to reduce do not stop the sale."""
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    venue.fund("cat", 10**9)
    hold(venue, "ann", 100)
    hold(venue, "cat", -5)
    venue.do("cat", venue.order(ids.BUY, 966, 5, X, reduce_only=True))
    venue.do("cat", venue.order(ids.BUY, 1_000, 5, X))
    venue.do("bob", venue.order(ids.SELL, 1_000, 5, X))
    assert not venue.account("cat").slots[X].size
    venue.do("cat", venue.order(ids.BUY, 967, 5, X, tif=ids.GTT, expiry_us=venue.now_us + 5))
    venue.buy("bob", 965, 1_000, X)
    venue.advance(10)
    move(venue, X=965)
    out = venue.liquidate("ann")
    assert [x.reason for x in only(o.OrderCancelled, out)][:2] == ["EXPIRED", "REDUCE_ONLY"]
    assert one(o.Liquidated, out).closed_atoms > 0


def test_replay_gives_the_same_bytes() -> None:
    venue = market(fund=10**9)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    move(venue, X=965)
    venue.buy("bob", 960, 10, X)
    venue.liquidate("ann")
    move(venue, X=940)
    venue.liquidate("ann")
    venue.close_epoch()
    assert dump(v.replay(venue.journal).state) == dump(venue.state)


# --- under portfolio margin --------------------------------------------------------------------

EXPIRY = v.START_US - v.START_US % v.DAY + 60 * v.DAY
DATED = (MARKET[0], v.future(3, EXPIRY, "X", 1))


def dated(spot: int, venue: v.Venue) -> None:
    venue.oracle({X: spot}, surfaces=(v.surface(X, EXPIRY, spot, (spot,), (0.6,)),))


@settings(max_examples=60, deadline=None)
@given(
    lots=st.tuples(st.integers(-300, 300), st.integers(-300, 300)),
    ratio=st.integers(670_000, 999_999),
    quotes=st.lists(
        st.tuples(st.sampled_from((X, 3)), st.integers(-5, 40), st.integers(1, 300)), min_size=1, max_size=6
    ),
    fees=st.sampled_from(((0, 0), (200, 500))),
)
def test_under_portfolio_margin_no_step_unhedges(
    lots: tuple[int, int], ratio: int, quotes: list[tuple[int, int, int]], fees: tuple[int, int]
) -> None:
    """A perpetual and a future that may hedge each other: closing a hedge would raise maintenance, so that it is
    left alone; whatever is sold neither raises maintenance nor lowers equity / maintenance."""
    params = Params(fee_tiers=(FeeTier(0, *fees),), oracle_max_jump_ppm=10**9)
    venue = v.Venue(params, DATED)
    venue.deposit("treasury", 10**9)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 10**9))
    venue.fund("bob", 10**12)
    venue.fund("ann", 10**9)
    dated(10_000, venue)
    assert not v.codes(venue.do("ann", c.SetMarginMode(ids.PORTFOLIO)))
    for instrument, size in zip((X, 3), lots, strict=True):
        if size:
            hold(venue, "ann", size, instrument)
    ann, bob = venue.account("ann"), venue.account("bob")
    for instrument, behind, size in quotes:
        sign = 1 if lots[0 if instrument == X else 1] > 0 else -1
        side = ids.BUY if sign > 0 else ids.SELL
        venue.do("bob", venue.order(side, 10_000 - sign * behind, size, instrument, stp=ids.STP_CANCEL_MAKER))
    for _ in range(3):
        dated(10_000, venue)
        now, _, maintenance = assess(ann)
        taken = now - maintenance * ratio // 10**6  # as if a fill had cost her that
        ann.cash -= taken
        bob.cash += taken
        bob.basis += taken
        now = assess(ann)[0]
        if now >= maintenance:
            return
        step = one(o.Liquidated, venue.operator(c.Liquidate(ann.number, witness(ann)[0])))
        after, _, left = assess(ann)
        assert step.scenario_pnl_atoms < 0 or step.scenario == ids.NO_SCENARIO or maintenance > now >= 0
        assert left <= maintenance
        assert after * maintenance >= now * left
        venue.advance(30 * v.SECOND)
