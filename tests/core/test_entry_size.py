# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest entries there can be fit into 65,535 bytes: an entry that does not would be applied
and could not be journalled.

Two ways: real commands on a state that was aged (ids of 53 bits, cash of 60), and outcomes with
every field at its widest, counted.
"""

from __future__ import annotations

import pytest

from clearing.core import adl, liquidation, waterfall
from clearing.core.margin import headroom
from clearing.model import bounds, ids
from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import encode, encode_entry
from clearing.model.params import FeeTier, Instrument, Ladder, Params
from tests.core import venue as v

WIDE = 2**53 - 1
WIDEST = 2**63 - 1
ACCOUNT = 2**24 - 1
MARKET = (
    Instrument(60_000, "X-PERP", "X", 1, 2**40, 10_000, 9_000),
    Instrument(60_001, "Y-PERP", "Y", 1, 2**40, 10_000, 9_000),
)
X, Y = 60_000, 60_001
MARK = 2**33
MAKERS = 300


def aged_venue() -> v.Venue:
    """300 rich sub-accounts of bob, ann with room for 1,000 orders, and an old venue's numbers."""
    ladder = Ladder(slice_from_atoms=2**62)
    params = Params(fee_tiers=(FeeTier(0, 200, 500),), max_sub_accounts=400, ladder=ladder)
    venue = v.Venue(params, MARKET)
    venue.fund("bob", 2**55)
    venue.fund("ann", 2**54)
    venue.oracle({X: MARK, Y: MARK})
    for start in range(1, MAKERS + 1, 50):
        venue.do("bob", *[c.Transfer(sub, 2**46) for sub in range(start, start + 50)])
    venue.state.next_order_id = WIDE - 10_000
    venue.state.next_rank = WIDE - 10_000
    return venue


def quote_from_every_maker(venue: v.Venue, side: int, lots: int, price: int = MARK) -> None:
    """One resting order at the mark from each of the 300 accounts."""
    for sub in range(1, MAKERS + 1):
        order = venue.order(side, price, lots, X, client_id=WIDEST - sub)
        raw = venue.batch("bob", [order], venue.account("bob", sub).number)
        venue.submit(raw, check_invariants=False)


def rest_a_thousand(venue: v.Venue, name: str, count: int = 1_000) -> None:
    """`count` bids far below the mark, with client ids of 63 bits."""
    bids = [venue.order(ids.BUY, MARK - 9, 3, Y, client_id=WIDEST - 5_000 - i) for i in range(count)]
    for start in range(0, count, 50):
        number = venue.account(name).number
        venue.submit(venue.batch(name, bids[start : start + 50], number), check_invariants=False)
    assert len(venue.account(name).orders) == count


def size_of_last(venue: v.Venue) -> int:
    entry = venue.journal[-1]
    return len(entry.raw) + len(entry.outcomes) + 40


def test_a_batch_that_cancels_a_thousand_orders_and_fills_300_accounts_fits() -> None:
    """Cancel-all, one order that fills 300 makers, and 48 further orders, under one signature."""
    venue = aged_venue()
    quote_from_every_maker(venue, ids.SELL, 7)
    rest_a_thousand(venue, "ann")
    more = [venue.order(ids.BUY, MARK - 1, 1, Y, tif=ids.IOC, client_id=WIDEST - i) for i in range(48)]
    out = venue.do("ann", c.CancelAll(), venue.order(ids.BUY, MARK, 7 * MAKERS, X), *more)
    assert sum(isinstance(x, o.TradeNovated) for x in out) == MAKERS
    assert sum(isinstance(x, o.OrderCancelled) for x in out) == 1_000 + 48
    assert sum(isinstance(x, o.MarginChanged) for x in out) == MAKERS + 1
    assert 40_000 < size_of_last(venue) < ids.MAX_ENTRY_BYTES


def test_liquidating_an_account_with_a_thousand_orders_against_300_makers_fits() -> None:
    """What the entry's budget leaves over is for the next step, which needs no cool-down."""
    venue = aged_venue()
    quote_from_every_maker(venue, ids.SELL, 2**18)
    venue.do("ann", venue.order(ids.BUY, MARK, 2**18 * MAKERS, X))
    assert venue.account("ann").slots[X].size == 2**18 * MAKERS
    rest_a_thousand(venue, "ann")
    assert not v.codes(venue.do("ann", c.Withdraw(0, 0, headroom(venue.account("ann")))))
    mark = MARK - MARK // 500
    venue.oracle({X: mark, Y: MARK})
    quote_from_every_maker(venue, ids.BUY, 2**12, mark)
    out = venue.liquidate("ann")
    assert sum(isinstance(x, o.OrderCancelled) and x.reason == "LIQUIDATION" for x in out) >= 1_000
    assert sum(isinstance(x, o.TradeNovated) for x in out) == liquidation.MAX_FILLS - 50
    assert 40_000 < size_of_last(venue) < ids.MAX_ENTRY_BYTES
    out = venue.liquidate("ann")
    assert sum(isinstance(x, o.TradeNovated) for x in out) == 50


def test_sweeping_300_expired_orders_fits_and_leaves_the_rest_for_the_next_sweep() -> None:
    venue = aged_venue()
    expiry = venue.now_us + v.SECOND
    for start in range(0, 350, 50):
        bids = [
            venue.order(ids.BUY, MARK - 9, 3, Y, tif=ids.GTT, expiry_us=expiry, client_id=WIDEST - start - i)
            for i in range(50)
        ]
        venue.do("ann", *bids)
    venue.advance(v.SECOND)
    assert len(venue.operator(c.ExpireOrders())) == 300
    assert len(venue.operator(c.ExpireOrders())) == 50


TRADE = o.TradeNovated(2**32 - 1, WIDE, WIDE, WIDE, WIDE, ACCOUNT, ACCOUNT, WIDEST, WIDEST)
MARGIN = o.MarginChanged(ACCOUNT, -WIDEST, -WIDEST, WIDEST, WIDEST)
PLACED = o.OrderPlaced(WIDE, ACCOUNT, WIDEST, 2**32 - 1, 1, WIDE, WIDE)
REASONS = ("USER", "IOC", "STP", "EXPIRED", "REDUCE_ONLY", "FILL_LIMIT")


def widest_batch() -> c.MemberBatch:
    """50 orders whose every field takes nine bytes."""
    wide = 2**64 - 1
    order = c.PlaceOrder(wide, wide, wide, wide, wide, wide, wide, True, True, wide, wide)
    return c.MemberBatch(bytes(32), wide, wide, wide, (order,) * 50)


def test_a_members_widest_entry_fits() -> None:
    """A cancel-all of 1,000, 300 fills or drops with as many makers, 48 orders placed and cancelled."""
    envelope = encode(c.Envelope(encode(widest_batch()), bytes(33), bytes(64)))
    assert len(envelope) < ids.MAX_ENVELOPE_BYTES
    cancels: list[o.Outcome] = [o.OrderCancelled(WIDE, WIDE, "USER")] * 1_000
    placed: list[o.Outcome] = [PLACED, o.OrderCancelled(WIDE, WIDE, "FILL_LIMIT")] * 48
    outcomes: list[o.Outcome] = [*cancels, PLACED, *placed]
    # A fill changes a maker's margin; a dropped maker changes nobody's.
    assert max(len(encode(o.OrderCancelled(WIDE, WIDE, r))) for r in REASONS) < len(encode(TRADE))
    realistic = o.TradeNovated(65_535, WIDE, 2**32 - 1, WIDE, WIDE, ACCOUNT, ACCOUNT, 2**32 - 1, 2**32 - 1)
    outcomes += [realistic] * 300
    outcomes += [MARGIN] * 301
    encode_entry(2**40, v.START_US, envelope, outcomes)


def test_building_every_array_fits_and_is_asked_for_once_in_a_batch() -> None:
    """A change of margin mode may build the arrays of all underlyings, and so may new parameters."""
    arrays: list[o.Outcome] = [o.RiskArrayBuilt(2**32 - 1, b"\xff" * 32, b"\xff" * 32)] * bounds.MAX_UNDERLYINGS
    adapted: list[o.Outcome] = [o.MarginAdapted(2**32 - 1, WIDEST, WIDEST, WIDEST)] * bounds.MAX_UNDERLYINGS
    encode_entry(2**40, v.START_US, bytes(ids.MAX_ENVELOPE_BYTES), arrays + adapted)
    venue = v.Venue()
    venue.fund("ann", v.USD)
    commands = [c.SetMarginMode(at % 2) for at in range(1, 51)]
    assert v.refusal(venue, venue.batch("ann", commands, venue.account("ann").number)) == "BATCH_SIZE"


@pytest.mark.parametrize("orders", [0, 20, 500, 1_000])
def test_the_widest_liquidation_fits(orders: int) -> None:
    """All fields at their widest, with positions in 40 instruments."""
    fills = liquidation.MAX_FILLS - orders // 20
    per_instrument: list[o.Outcome] = [
        PLACED,
        o.OrderCancelled(WIDE, WIDE, "LIQUIDATION"),
        o.PositionTransferred(ACCOUNT, 1, 2**32 - 1, -WIDE, WIDE),
    ]
    outcomes: list[o.Outcome] = [o.OrderCancelled(WIDE, WIDE, "LIQUIDATION")] * orders
    outcomes += [TRADE] * fills
    outcomes += per_instrument * 40
    outcomes += [MARGIN] * (fills + 3)
    outcomes += [o.Liquidated(ACCOUNT, "BACKSTOP", 99, -WIDEST, -WIDEST, WIDEST, WIDEST, WIDEST, WIDEST)]
    encode_entry(2**40, v.START_US, bytes(300), outcomes)


@pytest.mark.parametrize("orders", [0, 20, 500, 1_000])
def test_the_widest_step_of_a_default_fits(orders: int) -> None:
    """Resolving with as many payers as are told of and 100 positions taken over; and ADL."""
    cancelled: list[o.Outcome] = [o.OrderCancelled(WIDE, WIDE, "LIQUIDATION")] * orders
    told = waterfall.MAX_TOLD_PER_ENTRY - orders // 5
    outcomes = [*cancelled, *[o.TrancheDrawn(ACCOUNT, 4, WIDEST, WIDEST, WIDEST)] * 5]
    outcomes += [o.GainHaircut(ACCOUNT, WIDEST, WIDEST)] * told
    outcomes += [o.PositionTransferred(ACCOUNT, 1, 2**32 - 1, -WIDE, WIDE)] * 100
    outcomes += [MARGIN] * (told + 3)
    encode_entry(2**40, v.START_US, bytes(300), outcomes)
    most = adl.MAX_COUNTERPARTIES - orders // 8
    row = o.Deleveraged(ACCOUNT, ACCOUNT, 2**32 - 1, -WIDE, WIDE, 249, -WIDEST, WIDEST, WIDEST)
    closing: list[o.Outcome] = [*cancelled, *[row] * most, *[MARGIN] * (most + 2)]
    encode_entry(2**40, v.START_US, bytes(300), closing)
