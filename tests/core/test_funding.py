# SPDX-License-Identifier: GPL-3.0-or-later
"""Funding moves money between longs and shorts and creates none; what a rate leaves is carried."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.margin import equity
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v

MARKET = (Instrument(1, "X-PERP", "X", 1, 100_000, 50_000, 30_000),)
NO_FEES = (FeeTier(0, 0, 0),)
NAMES = ("ann", "bob", "cat")


def market(interest: int, cap: int) -> v.Venue:
    venue = v.Venue(
        Params(fee_tiers=NO_FEES, funding_interest_ppm=interest, funding_cap_ppm=cap, funding_interval_us=v.HOUR),
        MARKET,
    )
    for name in NAMES:
        venue.fund(name, 10**12)
    return venue


@settings(max_examples=60)
@given(
    interest=st.integers(-3_000, 3_000),
    cap=st.integers(0, 7_500),
    steps=st.lists(
        st.tuples(
            st.integers(1, 3_000),
            st.integers(-20, 20),
            st.integers(0, 2),
            st.integers(0, 1),
            st.integers(1, 40),
            st.integers(1, 3 * v.HOUR),
        ),
        min_size=1,
        max_size=10,
    ),
)
def test_payments_sum_to_zero_and_equal_size_times_index(
    interest: int, cap: int, steps: list[tuple[int, int, int, int, int, int]]
) -> None:
    """After any trades, marks and ticks: each account's equity is what trades at mark price alone
    would give it, less each tick's rate on the position held then; and the sum never changes."""
    venue = market(interest, cap)
    funded = dict.fromkeys(NAMES, 0)
    rated = per_lots = 0
    for mark, step, who, side, lots, wait in steps:
        venue.advance(wait)
        if not venue.state.instruments[1].index:
            venue.oracle({1: mark})
        index = venue.state.instruments[1].index
        name, other = NAMES[who], NAMES[(who + 1) % 3]
        venue.oracle({1: max(1, index + index * step // 100)})
        price = venue.state.instruments[1].mark
        venue.do(other, venue.order(1 - side, price, lots, 1), c.CancelAll(2))
        venue.do(name, venue.order(side, price, lots, 1, tif=ids.IOC))
        venue.do(other, c.CancelAll())
        before = {n: equity(venue.account(n)) for n in NAMES}
        out = venue.operator(c.FundingTick())
        for applied in [a for a in out if isinstance(a, o.FundingApplied)]:
            assert abs(applied.rate_ppm) <= cap
            rated += applied.rate_ppm * venue.state.instruments[1].index
            per_lots += applied.per_lot_atoms
            for n in NAMES:
                slot = venue.account(n).slots.get(1)
                due = -(slot.size if slot else 0) * applied.per_lot_atoms
                assert equity(venue.account(n)) - before[n] == due
                funded[n] += due
    assert sum(funded.values()) == 0
    assert rated == per_lots * 1_000_000 + venue.state.instruments[1].funding_carry
    assert v.total_equity(venue.state) == 3 * 10**12


def test_an_absurd_quote_moves_the_premium_no_further_than_100_percent() -> None:
    """One lot offered at the highest price there is: the sum of premiums stays small, the epoch closes."""
    venue = market(0, 7_500)
    venue.oracle({1: 1})
    venue.do("ann", venue.order(ids.BUY, 1, 1, 1))
    venue.do("bob", venue.order(ids.SELL, ids.MAX_PRICE_ATOMS, 1, 1))
    for _ in range(50):
        venue.advance(v.SECOND)
        venue.oracle({1: 1})
    assert venue.state.instruments[1].premium_sum == 50 * 1_000_000
    venue.close_epoch()
    venue.advance(v.HOUR)
    applied = venue.operator(c.FundingTick())[0]
    assert isinstance(applied, o.FundingApplied) and applied.rate_ppm == 7_500
