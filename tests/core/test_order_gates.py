# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates before orders: prices, halts, caps, liquidation."""

from __future__ import annotations

from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from tests.core import venue as v
from tests.core.waiting import X, Y, open_venue, trigger

# --- gates before orders ---------------------------------------------------------------------------


def test_trading_needs_a_younger_price_than_resting() -> None:
    """5 s for what would trade at once, 60 s for what rests; a post-only order never trades."""
    venue = open_venue()
    venue.do("bob", venue.order(ids.SELL, 1_010, 5, X))
    venue.do("ann", venue.order(ids.BUY, 900, 5, X, client_id=41))
    venue.advance(5 * v.SECOND)
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 1_010, 1, X)))
    venue.advance(1)
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 1_010, 1, X))) == ["ORACLE_STALE"]
    assert v.codes(venue.do("ann", c.ReplaceOrder(41, 1_010, 5))) == ["ORACLE_STALE"]
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 1_010, 1, X, post_only=True))) == ["POST_ONLY_WOULD_CROSS"]
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 1_009, 1, X), c.ReplaceOrder(41, 901, 5)))
    venue.advance(55 * v.SECOND)
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 1_009, 1, X))) == ["ORACLE_STALE"]


def test_a_halted_market_only_lets_go() -> None:
    venue = open_venue()
    venue.do("ann", venue.order(ids.BUY, 900, 5, X, client_id=41))
    out = venue.operator(c.HaltMarket(X, True, "incident 12"))
    assert out == [o.BreakerChanged(X, "HALT", 1_000, 1_000)]
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, X))) == ["MARKET_HALTED"]
    assert v.codes(venue.do("ann", trigger(venue, ids.BUY, 900, False, 900))) == ["MARKET_HALTED"]
    assert v.codes(venue.do("ann", c.ReplaceOrder(41, 899, 5))) == ["MARKET_HALTED"]
    assert not v.codes(venue.do("ann", c.ReplaceOrder(41, 900, 4), c.CancelOrder(41)))
    assert venue.operator(c.HaltMarket(X, False, "over")) == [o.BreakerChanged(X, "NONE", 1_000, 1_000)]
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, X)))
    assert v.codes(venue.operator(c.HaltMarket(9, True, "x"))) == ["UNKNOWN_INSTRUMENT"]
    for reason in ("", "x" * 129):
        assert v.codes(venue.operator(c.HaltMarket(X, True, reason))) == ["INVALID_FIELD"]


def test_positions_are_capped_and_empty_slots_make_room() -> None:
    """With room for one: a second market is refused while the first is used, and a refusal leaves no slot."""
    venue = open_venue(max_positions=1)
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 10**6, X))) == ["ORDER_TOO_LARGE"]
    venue.do("ann", c.Transfer(1, 100))
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1_000, X), sub=1)) == ["INSUFFICIENT_MARGIN"]
    assert not venue.account("ann", 1).slots
    venue.do("ann", venue.order(ids.BUY, 900, 1, X, client_id=41))
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, Y))) == ["TOO_MANY_POSITIONS"]
    venue.do("ann", c.CancelOrder(41))
    assert v.codes(venue.do("ann", venue.order(ids.SELL, 900, 1, Y, reduce_only=True))) == [
        "REDUCE_ONLY_WOULD_INCREASE"
    ]
    assert list(venue.account("ann").slots) == [X], "a refusal keeps what was there"
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, Y)))
    assert list(venue.account("ann").slots) == [Y]


def test_an_account_in_liquidation_may_only_reduce() -> None:
    """While it cools down between steps, as the ladder has it."""
    venue = open_venue()
    venue.sell("bob", 1_000, 5, X)
    venue.buy("ann", 1_000, 5, X)
    venue.account("ann").wait_us = venue.now_us + v.SECOND
    assert v.codes(venue.do("ann", venue.order(ids.SELL, 1_100, 1, X))) == ["IN_LIQUIDATION"]
    assert v.codes(venue.do("ann", trigger(venue, ids.SELL, 900, False, 900))) == ["IN_LIQUIDATION"]
    assert not v.codes(venue.do("ann", venue.order(ids.SELL, 1_100, 1, X, reduce_only=True)))
    venue.advance(v.SECOND)
    assert not v.codes(venue.do("ann", venue.order(ids.SELL, 1_100, 1, X)))
