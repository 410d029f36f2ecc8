# SPDX-License-Identifier: GPL-3.0-or-later
"""Dutch auctions: a discount that only grows, only for the bidder, and never more than the account has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import auction, waterfall
from clearing.core.margin import assess, equity, fails, witness
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.core.state import Account
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v
from tests.core.test_liquidation import one, only

EXPIRY = v.START_US - v.START_US % v.DAY + 60 * v.DAY
SPOT = 50_000
PERP, CALL, PUT = 1, 10, 11
STRIKES = (30_000, 50_000, 70_000)
MARKET = (
    Instrument(PERP, "X-PERP", "X", 1, 10**9, 50_000, 30_000),
    v.option(CALL, 50_000, EXPIRY, True, "X", 1),
    v.option(PUT, 45_000, EXPIRY, False, "X", 1),
)
MINUTES_15 = 15 * v.MINUTE


def price(venue: v.Venue, spot: int, vol: float = 0.6) -> None:
    venue.oracle({PERP: spot}, surfaces=(v.surface(PERP, EXPIRY, spot, STRIKES, (vol, vol, vol)),))


def trade(venue: v.Venue, buyer: str, seller: str, instrument: int, lots: int) -> None:
    mark = venue.state.instruments[instrument].mark
    for name, side in ((seller, ids.SELL), (buyer, ids.BUY)):
        out = venue.do(name, venue.order(side, mark, lots, instrument, stp=ids.STP_NONE))
        assert not v.codes(out), out


def opened(fund: int = 10**9, mode: int = ids.STANDARD, **params: object) -> v.Venue:
    """Bob and Kim are rich; X at 50,000 with a vol of 60 %."""
    fields = {"fee_tiers": (FeeTier(0, 0, 0),), "oracle_max_jump_ppm": 10**9} | params
    venue = v.Venue(Params(**fields), MARKET)  # type: ignore[arg-type]
    venue.deposit("treasury", fund)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, fund))
    venue.fund("bob", 10**12)
    venue.fund("kim", 10**9)
    venue.fund("ann", 10**9)
    price(venue, SPOT)
    if mode == ids.PORTFOLIO:
        assert not v.codes(venue.do("ann", c.SetMarginMode(mode)))
    return venue


def squeeze(venue: v.Venue, ratio_ppm: int = 850_000) -> None:
    """Ann keeps initial margin until the price moves, then has `ratio_ppm` of maintenance: as if a fee had taken the
    rest (Bob has it)."""
    ann, bob = venue.account("ann"), venue.account("bob")
    now, _, maintenance = assess(ann)
    taken = now - maintenance * ratio_ppm // 10**6
    ann.cash -= taken
    bob.cash += taken
    bob.basis += taken


def short_book(venue: v.Venue, lots: int = 100) -> None:
    """Ann is short calls and puts and long the perpetual: a book of negative option value."""
    trade(venue, "bob", "ann", CALL, lots)
    trade(venue, "bob", "ann", PUT, lots)
    trade(venue, "ann", "bob", PERP, lots // 2)


def on_offer(ratio_ppm: int = 850_000, lots: int = 100, mode: int = ids.STANDARD) -> v.Venue:
    venue = opened(mode=mode)
    short_book(venue, lots)
    squeeze(venue, ratio_ppm)
    ann = venue.account("ann")

    out = venue.operator(c.Liquidate(ann.number, witness(ann)[0]))
    assert one(o.Liquidated, out).step == "AUCTION"
    return venue


def bid(venue: v.Venue, share: int = 10**6, most: int = 10**12, name: str = "kim") -> list[o.Outcome]:
    return venue.do(name, c.BidAuction(venue.account("ann").number, share, most))


def sizes(account: Account) -> dict[int, int]:
    return {number: slot.size for number, slot in account.slots.items() if slot.size}


@given(st.lists(st.integers(0, 14 * v.HOUR), min_size=2, max_size=9))
def test_the_price_falls_from_95_to_70_percent_in_15_minutes_and_to_nothing_in_12_hours(times: list[int]) -> None:
    state = v.Venue().state
    at = [auction.price_ppm(state, t) for t in (0, MINUTES_15, MINUTES_15 + 6 * v.HOUR, MINUTES_15 + 12 * v.HOUR)]
    assert at == [950_000, 700_000, 350_000, 0]
    prices = [auction.price_ppm(state, t) for t in sorted(times)]
    assert prices == sorted(prices, reverse=True)
    assert all(0 <= p <= 950_000 for p in prices)


def test_an_option_book_goes_on_auction_and_is_sold_down_to_health() -> None:
    """Kim asks for everything at the start: the bid is cut to what heals Ann; at 5 % of gross she is paid for it."""
    venue = on_offer()
    ann, kim = venue.account("ann"), venue.account("kim")
    started = [
        x for entry in venue.journal for x in v.decode_outcomes(entry.outcomes) if isinstance(x, o.AuctionStarted)
    ]
    assert [x.value_atoms for x in started] == [auction.marked_value(ann)]
    assert started[0].value_atoms < 0
    before, _, maintenance = assess(ann)
    mine = equity(kim)
    out = bid(venue)
    filled = one(o.AuctionFilled, out)
    moved = only(o.PositionTransferred, out)
    value = sum(t.size_lots * t.price_atoms for t in moved if t.instrument != PERP)
    gross = max(abs(started[0].value_atoms), maintenance)
    assert filled.paid_atoms == value - filled.discount_atoms < 0
    assert 0 < filled.discount_atoms <= gross * 5 // 100 * filled.share_ppm // 10**6
    assert equity(kim) == mine + filled.discount_atoms
    after, _, left = assess(ann)
    assert after == before - filled.discount_atoms
    assert after * 100 >= 115 * left
    assert after * maintenance >= before * left
    assert 0 < filled.share_ppm < 10**6
    assert one(o.AuctionEnded, out).reason == "HEALTHY"
    assert ann.auction is None and not venue.state.auctions
    assert v.codes(bid(venue)) == ["NO_AUCTION"]


def test_the_discount_never_exceeds_what_the_account_has() -> None:
    """After 13 hours the price is nothing: her whole equity goes with her book, and Ann owes nothing."""
    venue = on_offer()
    ann = venue.account("ann")
    venue.advance(13 * v.HOUR)
    price(venue, SPOT)
    squeeze(venue, 700_000)
    before = assess(ann)[0]
    assert auction.whole_discount(venue.state, ann, venue.now_us) == before
    out = bid(venue)
    filled = one(o.AuctionFilled, out)
    assert filled.share_ppm > 950_000
    assert 0 <= equity(ann) == before - filled.discount_atoms <= before // 20
    assert one(o.AuctionEnded, out).reason == ("HEALTHY" if sizes(ann) else "SOLD")


def test_what_a_bid_is_refused_for() -> None:
    venue = on_offer()
    venue.fund("poor", 1_000)
    ann = venue.account("ann").number
    assert v.codes(venue.do("kim", c.BidAuction(99, 10**6, 0))) == ["UNKNOWN_ACCOUNT"]
    assert v.codes(venue.do("kim", c.BidAuction(venue.account("bob").number, 10**6, 0))) == ["NO_AUCTION"]
    assert v.codes(venue.do("ann", c.BidAuction(ann, 10**6, 0))) == ["SAME_ACCOUNT"]
    for share in (0, -1, 10**6 + 1):
        assert v.codes(bid(venue, share)) == ["INVALID_FIELD"]
    assert v.codes(bid(venue, 10)) == ["SHARE_TOO_SMALL"]  # not one lot of anything
    assert v.codes(bid(venue, name="poor")) == ["INSUFFICIENT_MARGIN"]
    found = auction.cut(venue.state, venue.account("ann"), 10**6, venue.now_us)
    too_little = found.pay * 10**6 // found.share_ppm - 1
    assert v.codes(bid(venue, 10**6, too_little)) == ["AUCTION_PRICE"]
    before = dump(venue.state)
    venue.advance(2 * v.MINUTE)
    assert v.codes(bid(venue)) == ["ORACLE_STALE"]
    price(venue, SPOT)
    assert before and not v.codes(bid(venue, 10**6, too_little + 2 + abs(too_little) // 1_000))


def test_a_refused_bid_leaves_no_trace() -> None:
    """Not even an empty slot in an instrument that the bidder never traded."""
    venue = on_offer()
    poor = venue.fund("poor", 1_000)
    assert v.codes(bid(venue, name="poor")) == ["INSUFFICIENT_MARGIN"]
    assert not poor.slots and poor.plain and poor.cash == 1_000


def test_on_auction_nothing_else_happens_until_the_backstop_may_take_it() -> None:
    venue = on_offer()
    ann = venue.account("ann")
    assert v.codes(venue.liquidate("ann")) == ["IN_LIQUIDATION"]
    squeeze(venue, 600_000)
    out = venue.liquidate("ann")
    assert one(o.Liquidated, out).step == "BACKSTOP"
    assert one(o.AuctionEnded, out).reason == "BACKSTOP"
    assert not sizes(ann) and ann.auction is None
    assert sizes(venue.state.accounts[ids.INSURANCE_FUND]) == {CALL: -100, PUT: -100, PERP: 50}


def test_an_auction_ends_when_the_account_has_recovered() -> None:
    """Not at maintenance, where it would start again at once, but at the target."""
    venue = on_offer()
    squeeze(venue, 1_100_000)
    assert waterfall.due(venue.state, venue.now_us) is None
    assert v.codes(venue.liquidate("ann")) == ["NOT_LIQUIDATABLE"]
    squeeze(venue, 1_150_001)
    command = waterfall.due(venue.state, venue.now_us)
    assert command == c.Liquidate(venue.account("ann").number)
    assert one(o.AuctionEnded, venue.operator(command)).reason == "HEALTHY"
    assert sizes(venue.account("ann")) == {CALL: -100, PUT: -100, PERP: 50}


def test_a_snapshot_carries_the_auction() -> None:
    venue = on_offer()
    venue.close_epoch()
    length, payload, closed = venue.snapshots[-1]
    bid(venue, 300_000)
    tail = v.replay(venue.journal[length:], Reducer(state=load(payload, closed)))
    assert dump(tail.state) == dump(venue.state)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    mode=st.sampled_from((ids.STANDARD, ids.PORTFOLIO)),
    book=st.tuples(*[st.integers(-400, 400) | st.integers(-3, 3)] * 3),
    ratio=st.integers(670_000, 999_999),
    shares=st.lists(st.tuples(st.integers(30_000, 10**6), st.integers(0, 6 * v.HOUR)), min_size=1, max_size=4),
)
def test_bids_conserve_and_never_harm_the_account(
    mode: int, book: tuple[int, int, int], ratio: int, shares: list[tuple[int, int]]
) -> None:
    """Random books in both margin modes: each fill is at the mark less a discount in the bidder's favour; maintenance
    does not rise, equity / maintenance does not fall, and the sum of both claims is what it was."""
    venue = opened(mode=mode)
    for instrument, lots in zip((CALL, PUT, PERP), book, strict=True):
        if lots:
            buyer, seller = ("ann", "bob") if lots > 0 else ("bob", "ann")
            trade(venue, buyer, seller, instrument, abs(lots))
    ann, kim = venue.account("ann"), venue.account("kim")
    if assess(ann)[2] < 100 or not (book[0] or book[1]):
        return
    squeeze(venue, ratio)

    out = venue.operator(c.Liquidate(ann.number, witness(ann)[0]))
    if one(o.Liquidated, out).step != "AUCTION":
        return
    for share, wait in shares:
        venue.advance(wait)
        price(venue, SPOT)
        before, _, maintenance = assess(ann)
        claims = equity(ann), equity(kim)
        out = bid(venue, share)
        if v.codes(out):
            assert v.codes(out) in (["SHARE_TOO_SMALL"], ["NO_AUCTION"])
            assert (equity(ann), equity(kim)) == claims
            continue
        filled = one(o.AuctionFilled, out)
        after, _, left = assess(ann)
        assert left <= maintenance
        assert after * maintenance >= before * left
        assert 0 <= filled.discount_atoms <= before
        assert (equity(ann), equity(kim)) == (claims[0] - filled.discount_atoms, claims[1] + filled.discount_atoms)
        if only(o.AuctionEnded, out):
            return


def test_under_portfolio_margin_the_witness_must_be_true() -> None:
    """Each scenario that does not prove it is refused, and NO_SCENARIO too; the outcome carries its P&L."""
    venue = opened(mode=ids.PORTFOLIO)
    short_book(venue)
    squeeze(venue)
    ann = venue.account("ann")

    scenario, pnl = witness(ann)
    assert scenario != ids.NO_SCENARIO and pnl < 0
    wrong = [s for s in (ids.NO_SCENARIO, ids.BASIS, *range(-5, 60)) if not fails(ann, s)[0]]
    assert wrong and scenario not in wrong
    for other in wrong:
        assert v.codes(venue.operator(c.Liquidate(ann.number, other))) == ["FALSE_WITNESS"]
    step = one(o.Liquidated, venue.do("kim", c.ProposeLiquidation(ann.number, scenario)))
    assert (step.step, step.scenario, step.scenario_pnl_atoms) == ("AUCTION", scenario, pnl)
    assert step.equity_atoms + pnl < step.equity_atoms < step.margin_maintenance_atoms


@pytest.mark.parametrize("mode", [ids.STANDARD, ids.PORTFOLIO])
def test_a_stale_surface_freezes_options(mode: int) -> None:
    """The spot is fresh and the vols are not: no liquidation, no bid."""
    venue = opened(mode=mode)
    short_book(venue)
    squeeze(venue)
    venue.advance(v.MINUTE + 1)
    venue.oracle({PERP: SPOT})

    ann = venue.account("ann")
    assert v.codes(venue.operator(c.Liquidate(ann.number, witness(ann)[0]))) == ["ORACLE_STALE"]
