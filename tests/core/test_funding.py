# SPDX-License-Identifier: GPL-3.0-or-later
"""Funding moves money between longs and shorts and creates none; what a rate leaves is carried."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import funding
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
    assert not v.codes(venue.do("bob", venue.order(ids.SELL, ids.MAX_PRICE_ATOMS, 1, 1)))
    for _ in range(50):
        venue.advance(v.SECOND)
        venue.oracle({1: 1})
    assert venue.state.instruments[1].premium_sum == 50 * 1_000_000
    venue.close_epoch()
    venue.advance(v.HOUR)
    applied = venue.operator(c.FundingTick())[0]
    assert isinstance(applied, o.FundingApplied) and applied.rate_ppm == 7_500


def test_a_rate_is_at_most_six_times_the_margin_spread_per_eight_hours() -> None:
    """Premium pinned at +100 %: IMF 5 % less MMF 4.9 % allows 6 x 0.1 % per 8 hours, which is less than the governed
    cap; and IMF = MMF allows nothing. What adaptive margin adds to the fractions in force does not count."""
    for mmf, most in ((49_900, 75), (50_000, 0), (30_000, 7_500)):
        contract = msgspec.structs.replace(MARKET[0], mmf_ppm=mmf)
        venue = v.Venue(Params(fee_tiers=NO_FEES, funding_interval_us=v.HOUR), (contract,))
        venue.fund("ann", 10**12)
        venue.oracle({1: 1_000})
        venue.do("ann", venue.order(ids.BUY, 4_000, 1, 1), venue.order(ids.SELL, 5_000, 1, 1))
        venue.state.underlyings[1].factor_ppm = 2_000_000
        venue.advance(v.HOUR)
        venue.oracle({1: 1_000})
        assert venue.state.instruments[1].imf > 50_000
        applied = venue.operator(c.FundingTick())[0]
        assert isinstance(applied, o.FundingApplied) and applied.rate_ppm == most


@settings(max_examples=40, deadline=None)
@given(
    imf=st.integers(1, 200_000),
    spread=st.integers(0, 10_000),
    interval=st.sampled_from((v.MINUTE, 20 * v.MINUTE, v.HOUR, 8 * v.HOUR)),
    bid=st.integers(1, 10**7),
    gap=st.integers(1, 10**7),
)
def test_what_eight_hours_can_cost_is_bounded_whatever_the_interval(
    imf: int, spread: int, interval: int, bid: int, gap: int
) -> None:
    """Any quotes: the rates of eight hours add up to at most 6 x (IMF - MMF) either way, and to no more than the
    governed cap in each interval."""
    contract = msgspec.structs.replace(MARKET[0], imf_ppm=imf, mmf_ppm=max(1, imf - spread))
    venue = v.Venue(Params(fee_tiers=NO_FEES, funding_interval_us=interval), (contract,))
    venue.fund("ann", 10**14)
    venue.oracle({1: 10**6})
    venue.do("ann", venue.order(ids.BUY, bid, 1, 1), venue.order(ids.SELL, bid + gap, 1, 1))
    inst = venue.state.instruments[1]
    for _ in range(3):
        venue.advance(interval)
        venue.oracle({1: 10**6})
        applied = venue.operator(c.FundingTick())[0]
        assert isinstance(applied, o.FundingApplied)
        ticks = 8 * v.HOUR // interval
        assert abs(applied.rate_ppm) * ticks <= 6 * (contract.imf_ppm - contract.mmf_ppm)
        assert abs(applied.rate_ppm) <= funding.cap_ppm(venue.state, inst) <= 7_500


def test_quotes_that_nobody_can_answer_are_no_premium() -> None:
    """A market is halted with quotes 2 % over the index in its book: the longs do not pay for them."""
    venue = market(0, 7_500)
    venue.oracle({1: 1_000})
    venue.do("ann", venue.order(ids.BUY, 1_019, 1, 1), venue.order(ids.SELL, 1_021, 1, 1))
    rates = []
    for halted in (False, True, False):
        venue.operator(c.HaltMarket(1, halted, "check"))
        for _ in range(60):
            venue.advance(v.MINUTE)
            venue.oracle({1: 1_000})
        applied = venue.operator(c.FundingTick())[0]
        assert isinstance(applied, o.FundingApplied)
        rates.append(applied.rate_ppm)
    assert rates == [7_500, 0, 7_500]


def test_only_perpetuals_are_funded_when_they_are_due() -> None:
    """`due` says so from the interval's end on and not before, and never for a future or an option."""
    contracts = (
        *MARKET, v.future(2, v.START_US + 9 * v.DAY, "X"), v.option(3, 1_000, v.START_US + 9 * v.DAY, True, "X"),
    )  # fmt: skip
    venue = v.Venue(Params(funding_interval_us=v.HOUR), contracts)
    assert funding.due(venue.state, venue.now_us + v.DAY) is None, "nothing is priced yet"
    venue.oracle({1: 1_000}, surfaces=(v.surface(1, v.START_US + 9 * v.DAY, 1_000, (1_000,), (0.5,)),))
    assert venue.state.instruments[3].mark
    assert funding.due(venue.state, venue.now_us + v.HOUR - 1) is None
    assert v.codes(venue.operator(c.FundingTick())) == ["FUNDING_NOT_DUE"]
    venue.advance(v.HOUR)
    assert funding.due(venue.state, venue.now_us) == c.FundingTick()
    out = venue.operator(c.FundingTick())
    assert [x.instrument for x in out if isinstance(x, o.FundingApplied)] == [1]
    assert funding.due(venue.state, venue.now_us) is None


def test_more_perpetuals_than_an_entry_holds_are_funded_in_turns() -> None:
    """1,100 of them: 1,000 now, the rest with the next tick, in the order of listing."""
    contracts = tuple(msgspec.structs.replace(MARKET[0], id=number, symbol=f"X-{number}") for number in range(1, 1_101))
    venue = v.Venue(Params(funding_interval_us=v.HOUR), contracts)
    venue.oracle({1: 1_000})
    venue.advance(v.HOUR)
    turns = [[x.instrument for x in venue.operator(c.FundingTick()) if isinstance(x, o.FundingApplied)] for _ in "ab"]
    assert turns == [list(range(1, 1_001)), list(range(1_001, 1_101))]
    assert v.codes(venue.operator(c.FundingTick())) == ["FUNDING_NOT_DUE"]
