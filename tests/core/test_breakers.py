# SPDX-License-Identifier: GPL-3.0-or-later
"""Breakers throttle what an order does to the book, and never a move that the oracle leads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.outcomes import BreakerChanged
from clearing.model.params import Breaker, FeeTier, Instrument, OracleRules, Params, Underlying
from tests.core import venue as v

X = 1
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
BASE = 1_000_000


def open_venue(breaker: Breaker, **changes: Any) -> v.Venue:
    params = Params(fee_tiers=(FeeTier(0, 0, 0),), underlyings=(Underlying(X, "X", 1),), breaker=breaker)
    venue = v.Venue(msgspec.structs.replace(params, **changes), (PERP,))
    for name in ("ann", "bob"):
        venue.fund(name, 10**13)
    venue.oracle({X: BASE})
    return venue


@pytest.mark.parametrize("kind", [ids.LIMIT, ids.MARKET])
@pytest.mark.parametrize(
    "side, price, refused",
    [
        (ids.BUY, BASE * 105 // 100, False),
        (ids.BUY, BASE * 105 // 100 + 1, True),
        (ids.BUY, 1, False),
        (ids.SELL, BASE * 95 // 100, False),
        (ids.SELL, BASE * 95 // 100 - 1, True),
        (ids.SELL, BASE * 9, False),
    ],
)
def test_an_order_beyond_the_band_on_the_far_side_is_refused(side: int, price: int, refused: bool, kind: int) -> None:
    """5 %: resting far behind is harmless, and a market order's worst price counts as its price."""
    venue = open_venue(Breaker(band_ppm=50_000))
    codes = v.codes(venue.do("ann", venue.order(side, price, 1, X, kind)))
    assert codes == (["OUTSIDE_PRICE_BAND"] if refused else [])


def test_the_band_follows_the_index() -> None:
    """A move of 20 % that the oracle leads takes the band along, and orders that rest stay."""
    venue = open_venue(Breaker(band_ppm=50_000))
    venue.do("ann", venue.order(ids.BUY, BASE, 1, X, client_id=7))
    venue.advance(v.SECOND)
    venue.oracle({X: BASE * 8 // 10})
    assert not v.codes(venue.do("bob", venue.order(ids.SELL, BASE * 8 // 10, 1, X)))
    assert v.codes(venue.do("bob", venue.order(ids.BUY, BASE, 1, X))) == ["OUTSIDE_PRICE_BAND"]
    assert v.codes(venue.do("ann", c.ReplaceOrder(7, BASE + 1, 1))) == ["UNKNOWN_ORDER"], "it was hit"


def test_a_moved_order_is_held_to_the_band_too() -> None:
    venue = open_venue(Breaker(band_ppm=50_000))
    venue.do("ann", venue.order(ids.BUY, BASE, 1, X, client_id=7))
    assert v.codes(venue.do("ann", c.ReplaceOrder(7, BASE * 106 // 100, 1))) == ["OUTSIDE_PRICE_BAND"]
    assert not v.codes(venue.do("ann", c.ReplaceOrder(7, BASE * 104 // 100, 1)))


def test_takers_move_the_book_only_so_far_in_a_window() -> None:
    """1 % a minute from where the mark stood: a sweep beyond it is refused, in one order or in many; a resting order
    is free; the next window counts from the mark that then is, and a falling index gives way at once."""
    venue = open_venue(Breaker(impact_ppm=10_000, window_us=v.MINUTE))
    for tenth in range(1, 31):
        venue.do("ann", venue.order(ids.SELL, BASE + tenth * BASE // 1_000, 1, X))
    assert v.codes(venue.do("bob", venue.order(ids.BUY, BASE * 103 // 100, 30, X))) == ["OUTSIDE_PRICE_BAND"]
    for tenth in range(1, 11):
        assert not v.codes(venue.do("bob", venue.order(ids.BUY, BASE + tenth * BASE // 1_000, 1, X)))
    assert v.codes(venue.do("bob", venue.order(ids.BUY, BASE + 11 * BASE // 1_000, 1, X))) == ["OUTSIDE_PRICE_BAND"]
    assert not v.codes(venue.do("bob", venue.order(ids.BUY, BASE * 101 // 100, 1, X))), "it rests"
    venue.advance(v.SECOND)
    venue.oracle({X: BASE * 102 // 100})
    assert not v.codes(venue.do("bob", venue.order(ids.BUY, BASE * 103 // 100, 1, X))), "the oracle leads"


@settings(max_examples=40, deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(520, 1_480), st.integers(1, 90)), min_size=1, max_size=6),
    side=st.sampled_from((ids.BUY, ids.SELL)),
    width=st.integers(0, 30),
)
def test_a_move_that_the_oracle_leads_is_never_refused_and_a_far_off_order_always_is(
    moves: list[tuple[int, int]], side: int, width: int
) -> None:
    """The index goes where it likes, by up to half at once; the book stays where it was or is quoted anew. Whoever
    trades at the index is taken, however far the book and the mark are from it; whoever goes an atom further than
    band and impact allow is not."""
    rules = Breaker(band_ppm=200_000, impact_ppm=10_000, window_us=v.MINUTE)
    venue = open_venue(rules, oracle=OracleRules(twap_band=10**4))
    inst = venue.state.instruments[X]
    index = BASE
    for per_mille, wait in moves:
        orders = [venue.order(ids.BUY, index - width - 1, 50, X), venue.order(ids.SELL, index + width + 1, 50, X)]
        venue.do("ann", c.CancelAll(), *orders)
        venue.advance(wait * v.SECOND)
        index = max(1_000, index * per_mille // 1_000)
        assert not v.codes(venue.oracle({X: index}))
        far = index * 12 // 10 + 1 if side == ids.BUY else index - index * 200_000 // ids.PPM - 1
        if not inst.breaker:  # that market takes what leads back, see test_mark
            assert v.codes(venue.do("bob", venue.order(side, far, 1, X))) == ["OUTSIDE_PRICE_BAND"]
        if not inst.breaker or (side == ids.SELL) == (inst.mark > inst.index):
            assert not v.codes(venue.do("bob", venue.order(side, index, 1, X, tif=ids.IOC)))


def test_a_stale_book_is_led_back_to_an_index_that_fell() -> None:
    """The index falls by 10 % and the bids stay. A window opens with the mark 3 % above the index, between the two:
    sellers may go down to 1 % below the index at once, and buyers 1 % beyond the mark."""
    venue = open_venue(Breaker(impact_ppm=10_000, window_us=v.MINUTE))
    venue.do("ann", venue.order(ids.BUY, BASE - 1, 50, X), venue.order(ids.SELL, BASE + 1, 50, X))
    venue.advance(v.MINUTE)
    index = BASE * 9 // 10
    venue.oracle({X: index})
    inst = venue.state.instruments[X]
    assert inst.breaker == "" and inst.mark > index * 102 // 100
    reach = index // 100
    assert v.codes(venue.sell("bob", index - reach - 1, 1, X)) == ["OUTSIDE_PRICE_BAND"]
    assert not v.codes(venue.sell("bob", index - reach, 1, X))
    assert v.codes(venue.buy("bob", BASE + 1, 1, X)) == ["OUTSIDE_PRICE_BAND"]
    venue.do("ann", c.CancelAll(), venue.order(ids.SELL, inst.mark + reach, 5, X))
    assert v.codes(venue.buy("bob", inst.mark + reach + 1, 1, X)) == ["OUTSIDE_PRICE_BAND"]
    assert not v.codes(venue.buy("bob", inst.mark + reach, 1, X))


@pytest.mark.parametrize("held", [5, -5])
def test_a_diverged_market_takes_no_orders_that_together_turn_a_position(held: int) -> None:
    """The book is far below (for a short: above) the index, so only what reduces may go that way: 5 lots in one order
    or in several, waiting or not, and never a sixth."""
    venue = open_venue(Breaker())
    venue.fund("cat", 10**13)
    side, back = (ids.SELL, ids.BUY) if held > 0 else (ids.BUY, ids.SELL)
    venue.do("bob", venue.order(side, BASE, 5, X))
    venue.do("cat", venue.order(back, BASE, 5, X))
    low, high = (BASE // 2, BASE * 6 // 10) if held > 0 else (BASE * 14 // 10, BASE * 15 // 10)
    venue.do("ann", venue.order(ids.BUY, low, 1, X), venue.order(ids.SELL, high, 1, X))
    # What has been traded counts as much as the quotes: the last price must be out there as well.
    venue.do("bob", venue.order(back, high if back == ids.BUY else low, 1, X))
    venue.do("ann", venue.order(1 - back, high if back == ids.BUY else low, 1, X))
    for _ in range(120):
        venue.advance(v.SECOND)
        venue.oracle({X: BASE})
    inst = venue.state.instruments[X]
    assert inst.breaker == "DIVERGED" and (inst.mark < BASE) is (held > 0)
    waits = BASE * 55 // 100 if held > 0 else BASE * 145 // 100
    codes = [v.codes(venue.do("cat", venue.order(side, waits, lots, X))) for lots in (2, 4, 3, 1)]
    assert codes == [[], ["ORACLE_DIVERGED"], [], ["ORACLE_DIVERGED"]]
    venue.do("bob", venue.order(back, waits, 20, X))
    assert venue.account("cat").slots[X].size == 0


def test_a_refused_order_changes_nothing_and_opens_no_window() -> None:
    venue = open_venue(Breaker(band_ppm=50_000, impact_ppm=10_000))
    venue.do("ann", venue.order(ids.SELL, BASE * 103 // 100, 1, X))
    venue.advance(2 * v.MINUTE)
    venue.oracle({X: BASE})
    venue.do("bob", c.CancelAll())
    venue.advance(v.SECOND)
    insts = [
        (i.impact_us, i.impact_basis, i.breaker, i.mark, len(i.book.sides[0].keys), len(i.book.sides[1].keys))
        for i in venue.state.instruments.values()
    ]
    length = len(dump(venue.state))
    for price in (BASE * 106 // 100, BASE * 104 // 100):
        assert v.codes(venue.do("bob", venue.order(ids.BUY, price, 1, X))) == ["OUTSIDE_PRICE_BAND"]
    assert length == len(dump(venue.state))
    assert insts == [
        (i.impact_us, i.impact_basis, i.breaker, i.mark, len(i.book.sides[0].keys), len(i.book.sides[1].keys))
        for i in venue.state.instruments.values()
    ]


def test_zero_switches_both_off() -> None:
    """The default: any price that is a price."""
    venue = open_venue(Breaker())
    assert not v.codes(venue.do("ann", venue.order(ids.SELL, 1, 1, X)))
    assert not v.codes(venue.do("bob", venue.order(ids.BUY, BASE * 1_000, 2, X)))


def test_changes_that_do_not_fit_into_an_entry_come_with_the_next_vote() -> None:
    """Five markets of one underlying diverge at once, and an entry has room for two; all marks are held at once."""
    contracts = tuple(msgspec.structs.replace(PERP, id=number, symbol=f"X-{number}") for number in range(1, 6))
    params = Params(
        fee_tiers=(FeeTier(0, 0, 0),), underlyings=(Underlying(X, "X", 1),), max_fills_per_entry=2,
        oracle=OracleRules(mark_ema_us=1),
    )  # fmt: skip
    venue = v.Venue(params, contracts)
    venue.fund("ann", 10**13)
    venue.oracle({X: BASE})
    for number in range(1, 6):
        for side, price in ((ids.BUY, BASE * 2), (ids.SELL, BASE * 3)):
            assert not v.codes(venue.do("ann", venue.order(side, price, 1, number)))
    said = []
    for _ in range(4):
        venue.advance(v.SECOND)
        said.append([x.instrument for x in venue.oracle({X: BASE}) if isinstance(x, BreakerChanged)])
        assert all(inst.mark == BASE * 11 // 10 for inst in venue.state.instruments.values())
    assert said == [[1, 2], [3, 4], [5], []]
