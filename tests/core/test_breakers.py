# SPDX-License-Identifier: GPL-3.0-or-later
"""Breakers throttle what an order does to the book, and never a move that the oracle leads."""

from __future__ import annotations

import msgspec
import pytest

from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.outcomes import BreakerChanged
from clearing.model.params import Breaker, FeeTier, Instrument, OracleRules, Params, Underlying
from tests.core import venue as v

X = 1
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
BASE = 1_000_000


def open_venue(breaker: Breaker) -> v.Venue:
    params = Params(fee_tiers=(FeeTier(0, 0, 0),), underlyings=(Underlying(X, "X", 1),), breaker=breaker)
    venue = v.Venue(params, (PERP,))
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
