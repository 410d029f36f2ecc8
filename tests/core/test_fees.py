# SPDX-License-Identifier: GPL-3.0-or-later
"""Fees round up once per order: splitting changes nothing, and no round trip earns an atom."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v

MARKET = (Instrument(1, "X-PERP", "X", 1, 100_000, 50_000, 30_000),)
rates = st.sampled_from(((200, 500), (-100, 301), (-1, 1), (0, 0), (0, 1), (333, 777), (10_000, 10_000)))
pieces = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def market(tier: tuple[int, int], mark: int) -> v.Venue:
    venue = v.Venue(Params(fee_tiers=(FeeTier(0, *tier),)), MARKET)
    for name in ("ann", "bob"):
        venue.fund(name, 10**12)
    venue.oracle({1: mark})
    return venue


def fees(outcomes: list[o.Outcome]) -> tuple[int, int]:
    """(maker fees, taker fees) of all fills."""
    trades = [t for t in outcomes if isinstance(t, o.TradeNovated)]
    return sum(t.maker_fee_atoms for t in trades), sum(t.taker_fee_atoms for t in trades)


def up(value: int) -> int:
    """`value` ppm-atoms in atoms, rounded up (a rebate rounds towards zero)."""
    return -(-value // 1_000_000)


@settings(max_examples=60)
@given(tier=rates, mark=st.integers(1, 5_000), split=pieces)
def test_a_taker_pays_the_same_however_its_order_is_filled(tier: tuple[int, int], mark: int, split: list[int]) -> None:
    """One taker against many makers: its fee is that of one fill, each maker's that of its own order."""
    venue = market(tier, mark)
    for lots in split:
        venue.sell("ann", mark, lots, 1)
    maker, taker = fees(venue.buy("bob", mark, sum(split), 1))
    assert taker == up(sum(split) * mark * tier[1])
    assert maker == sum(up(lots * mark * tier[0]) for lots in split)


@settings(max_examples=60)
@given(tier=rates, mark=st.integers(1, 5_000), split=pieces)
def test_a_maker_pays_the_same_however_its_order_is_filled(tier: tuple[int, int], mark: int, split: list[int]) -> None:
    """One resting order taken in pieces, over several entries, pays as if taken at once."""
    venue = market(tier, mark)
    venue.sell("ann", mark, sum(split), 1)
    paid = [fees(venue.buy("bob", mark, lots, 1)) for lots in split]
    assert sum(maker for maker, _ in paid) == up(sum(split) * mark * tier[0])
    assert [taker for _, taker in paid] == [up(lots * mark * tier[1]) for lots in split]


@settings(max_examples=60)
@given(
    tier=rates,
    mark=st.integers(1, 5_000),
    trips=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30), st.integers(-3, 3)), max_size=15),
)
def test_wash_trades_never_profit_and_the_house_never_pays(
    tier: tuple[int, int], mark: int, trips: list[tuple[int, int, int]]
) -> None:
    """Ann trades with herself through two accounts: together they only lose, by what the house earns."""
    venue = market(tier, mark)
    number = venue.account("ann").number
    start = v.total_equity(venue.state)
    for side, lots, step in trips:
        price = max(1, mark + step)
        first = venue.order(side, price, lots, 1, stp=ids.STP_NONE)
        second = venue.order(1 - side, price, lots, 1, stp=ids.STP_NONE)
        venue.submit(venue.batch("ann", [first, second], number))
        house = venue.state.accounts[ids.FEES].cash
        assert house >= 0
        assert venue.account("ann").cash == 10**12 - house
    assert v.total_equity(venue.state) == start


def test_the_tier_follows_the_volume_of_the_30_days_before_today() -> None:
    """Volume counts from the next UTC day on, for 30 days, and then no longer."""
    tiers = (FeeTier(0, 200, 500), FeeTier(1_000_000, 100, 400))
    venue = v.Venue(Params(fee_tiers=tiers), MARKET)
    for name in ("ann", "bob"):
        venue.fund(name, 10**9)

    def taker_fee() -> int:
        venue.oracle({1: 1_000})
        venue.sell("ann", 1_000, 1_000, 1)
        return fees(venue.buy("bob", 1_000, 1_000, 1))[1]

    seen = []
    for wait_days in (0, 0, 1, 30, 31, 1):
        venue.advance(wait_days * v.DAY + 1)
        seen.append(taker_fee())
    # days 0, 0, 1, 31, 62, 63: each pays 500 or 400 ppm of 1,000,000
    assert seen == [500, 500, 400, 400, 500, 400]
