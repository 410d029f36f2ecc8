# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin that follows volatility: bounds, pace, the buffer, and what it is good for on a stormy path."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise
from math import isqrt
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import adaptive
from clearing.core.snapshot import load
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import Adaptive, Instrument, Params, Underlying
from tests.core import venue as v

X = 1
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
BASE = 1_000_000
RULES = Adaptive()
DAILY = ids.UNIT // 25  # the default baseline, 4 % a day
VARIANCES = st.integers(0, 10**38)
RULE_SETS = st.builds(
    Adaptive,
    baseline_vol=st.integers(1, ids.UNIT),
    buffer_ppm=st.integers(0, ids.PPM),
    cap_ppm=st.integers(ids.PPM, 20 * ids.PPM),
    up_ppm_per_day=st.integers(1, 10**7),
    down_ppm_per_day=st.integers(1, 10**7),
)


def open_venue(rules: Adaptive = RULES, **params: Any) -> v.Venue:
    base = Params(underlyings=(Underlying(X, "X", 1),), adaptive=rules)
    venue = v.Venue(msgspec.structs.replace(base, **params), (PERP,))
    venue.oracle({X: BASE})
    return venue


def walk(venue: v.Venue, moves_ppm: list[int], wait_us: int = v.HOUR) -> list[o.MarginAdapted]:
    """Vote after vote, each a return on the last; what was adapted."""
    said = []
    for move in moves_ppm:
        venue.advance(wait_us)
        index = venue.state.underlyings[X].index
        said += [x for x in venue.oracle({X: index + index * move // ids.PPM}) if isinstance(x, o.MarginAdapted)]
    return said


@settings(max_examples=200)
@given(VARIANCES, VARIANCES, st.integers(0, ids.PPM - 1), st.integers(1, 10**15))
def test_the_ewma_never_leaves_its_two_inputs(before: int, daily: int, decay: int, intervals: int) -> None:
    """Rounded down; n intervals weigh as n steps of the same return would."""
    after = adaptive.ewma(before, daily, decay, intervals)
    assert min(before, daily) <= after <= max(before, daily)
    if intervals <= 4:
        weight = Fraction(decay, ids.PPM) ** intervals
        exact = before * weight + daily * (1 - weight)
        assert abs(after - exact) <= max(before, daily) * 4 / ids.UNIT + 1


@given(RULE_SETS, st.integers(0, 20 * ids.PPM), VARIANCES, st.booleans(), st.integers(0, ids.DAY_US))
def test_targets_and_steps_keep_floor_cap_and_pace(
    rules: Adaptive, start: int, variance: int, rising: bool, passed: int
) -> None:
    """Never below 1 nor above the cap; never further than the pace allows; always nearer, until it is there."""
    factor = max(ids.PPM, min(rules.cap_ppm, start))
    target = adaptive.target_ppm(rules, factor, variance, rising)
    assert ids.PPM <= target <= rules.cap_ppm
    after = adaptive.ramp(rules, factor, target, passed)
    assert min(factor, target) <= after <= max(factor, target)
    assert (after != factor) is (target != factor)
    up = max(1, factor * rules.up_ppm_per_day * passed // (ids.PPM * ids.DAY_US))
    down = max(1, factor * rules.down_ppm_per_day * passed // (ids.PPM * ids.DAY_US))
    assert -down <= after - factor <= up


@pytest.mark.parametrize(
    "volatility_ppm, factor, rising, expected",
    [
        # Volatility in parts of the baseline: calm, the buffer, beyond it.
        (500_000, 1_000_000, True, 1_000_000),
        (1_200_000, 1_000_000, True, 1_000_000),
        (1_250_000, 1_000_000, True, 1_000_000),
        (2_500_000, 1_000_000, True, 2_000_000),
        (2_500_000, 2_200_000, True, 2_200_000),
        # No longer rising: the buffer is filled again, and what is too much goes.
        (2_500_000, 2_000_000, False, 2_500_000),
        (2_500_000, 3_000_000, False, 2_500_000),
        (2_500_000, 3_000_000, True, 2_500_000),
        (900_000, 2_000_000, False, 1_000_000),
        (90_000_000, 1_000_000, True, 3_200_000),
        (90_000_000, 1_000_000, False, 4_000_000),
    ],
)
def test_where_the_factor_goes(volatility_ppm: int, factor: int, rising: bool, expected: int) -> None:
    """With a buffer of 25 % and a cap of 4."""
    variance = (DAILY * volatility_ppm // ids.PPM) ** 2
    assert adaptive.target_ppm(RULES, factor, variance, rising) == expected


def test_a_calm_market_keeps_the_governed_fractions() -> None:
    """Half a percent an hour is 2.4 % a day: nothing is said and nothing changes."""
    venue = open_venue()
    assert walk(venue, [5_000, -5_000] * 200) == []
    inst = venue.state.instruments[X]
    assert (inst.imf, inst.mmf, venue.state.underlyings[X].factor_ppm) == (50_000, 30_000, ids.PPM)


def test_a_storm_raises_both_fractions_and_says_why() -> None:
    """4 % an hour is 20 % a day. Each step is an outcome with its inputs, at most +25 % a day, and takes the margin
    fractions along; when it is over the buffer is filled again, and then they come down by 2 % a day."""
    venue = open_venue()
    inst, under = venue.state.instruments[X], venue.state.underlyings[X]
    said = walk(venue, [40_000, -40_000] * 24)
    assert said
    for before, after in zip([ids.PPM, *(x.factor_ppm for x in said)], said, strict=False):
        assert before < after.factor_ppm <= before * 1_010_417 // ids.PPM + 1
        assert after.factor_ppm <= after.target_ppm
    assert said[-1] == o.MarginAdapted(X, isqrt(under.variance), said[-1].target_ppm, under.factor_ppm)
    assert inst.imf == -(-50_000 * under.factor_ppm // ids.PPM) > 60_000
    assert inst.mmf == -(-30_000 * under.factor_ppm // ids.PPM)
    factors = [under.factor_ppm, *(x.factor_ppm for x in walk(venue, [0] * 24 * 40))]
    peak = max(factors)
    assert peak > factors[0] and under.factor_ppm < peak * 6 // 10
    falls = [before - after for before, after in pairwise(factors) if after < before]
    assert falls and all(fall <= peak * 20_000 // 24 // ids.PPM + 1 for fall in falls)


@settings(max_examples=25, deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(-400_000, 400_000), st.integers(1, 40 * v.HOUR)), min_size=1, max_size=20),
    cap=st.sampled_from((ids.PPM, 1_300_000, 4_000_000)),
)
def test_any_path_keeps_the_floor_the_cap_and_the_pace_and_says_every_change(
    moves: list[tuple[int, int]], cap: int
) -> None:
    """Votes at any times: the factor is what the outcomes say it is, each step follows from its own inputs, and
    governance's fractions are never undercut."""
    rules = Adaptive(cap_ppm=cap)
    venue = open_venue(rules)
    under, inst = venue.state.underlyings[X], venue.state.instruments[X]
    known = ids.PPM
    for move, wait in moves:
        sampled = under.adapt_us
        said = walk(venue, [move if under.index > 1_000 else 400_000], wait)
        passed = min(under.adapt_us - sampled, ids.DAY_US)
        for change in said:
            assert change.factor_ppm == adaptive.ramp(rules, known, change.target_ppm, passed) != known
            assert change.volatility == isqrt(under.variance)
            full = max(ids.PPM, min(cap, change.volatility * ids.PPM // rules.baseline_vol))
            assert full * 100 // 125 - 1 <= change.target_ppm <= max(full, known)
            known = change.factor_ppm
        assert under.factor_ppm == known and ids.PPM <= known <= cap
        assert inst.imf == min(ids.PPM, -(-50_000 * known // ids.PPM)) >= 50_000
        assert inst.imf >= inst.mmf >= 30_000


def test_returns_are_sampled_by_the_interval_and_a_silence_counts_once_for_all_of_it() -> None:
    venue = open_venue()
    under = venue.state.underlyings[X]
    assert under.variance == DAILY**2, "it begins at the baseline"
    walk(venue, [100_000, -50_000], wait_us=20 * v.MINUTE)
    assert under.variance == DAILY**2 and under.adapt_index == BASE
    walk(venue, [0], wait_us=20 * v.MINUTE)
    moved = (BASE * 110 // 100 * 95 // 100 - BASE) * ids.UNIT // BASE
    assert under.variance == adaptive.ewma(DAILY**2, moved**2 * 24, RULES.decay_ppm, 1)
    before = under.variance
    walk(venue, [100_000], wait_us=10 * v.DAY)
    assert under.variance < before, "10 % in ten days is calm"
    assert under.factor_ppm <= ids.PPM * 5 // 4, "and no step is longer than a day's"


def test_zero_switches_it_off() -> None:
    venue = open_venue(Adaptive(interval_us=0))
    assert walk(venue, [400_000, -300_000] * 10) == []
    assert venue.state.underlyings[X].factor_ppm == ids.PPM


def test_the_wildest_returns_fit_the_state_and_the_epoch_closes() -> None:
    """From one atom to the price limit and back within a microsecond's interval, and a snapshot takes it."""
    venue = open_venue(Adaptive(interval_us=1))
    venue.advance(v.DAY)
    venue.oracle({X: 1})
    for price in (ids.MAX_PRICE_ATOMS, 1, ids.MAX_PRICE_ATOMS):
        venue.advance(2 * v.HOUR)
        assert not v.codes(venue.oracle({X: price}))
    venue.state.underlyings[X].adapt_us = venue.now_us - 1
    venue.state.underlyings[X].adapt_index = 1
    venue.oracle({X: ids.MAX_PRICE_ATOMS})
    closed = venue.close_epoch()
    assert load(venue.snapshots[-1][1], closed).underlyings[X].variance == venue.state.underlyings[X].variance


# --- what it is good for ---------------------------------------------------------------------------


def stormy(seed: int, days: int) -> list[float]:
    """Daily returns whose volatility comes in regimes of 2 %, 4 % and 9 %, with fat tails."""
    rng = random.Random(seed)
    vol, returns = 0.03, []
    for _ in range(days):
        if rng.random() < 0.03:
            vol = rng.choice((0.02, 0.02, 0.04, 0.04, 0.09))
        shock = rng.gauss(0, 1) * (2.2 if rng.random() < 0.05 else 1.0)
        returns.append(max(-0.6, min(0.6, vol * shock)))
    return returns


def run(rules: Adaptive, returns: list[float], coverage: float) -> tuple[list[float], list[float]]:
    """(margin each day, margin of a plain EWMA of the same returns), both for `coverage` deviations."""
    variance = plain = rules.baseline_vol**2
    factor, ours, theirs = ids.PPM, [], []
    base = rules.baseline_vol / ids.UNIT * (1 + rules.buffer_ppm / ids.PPM)
    for change in returns:
        ours.append(coverage * base * factor / ids.PPM)
        theirs.append(coverage * isqrt(plain) / ids.UNIT)
        squared = round(change * ids.UNIT) ** 2
        before = variance
        variance = adaptive.ewma(variance, squared, rules.decay_ppm, 1)
        plain = variance
        target = adaptive.target_ppm(rules, factor, variance, variance > before)
        factor = adaptive.ramp(rules, factor, target, ids.DAY_US)
    return ours, theirs


def test_fewer_breaches_than_a_plain_ewma_and_a_lower_peak_to_trough() -> None:
    """Twenty years of storms: days on which the move exceeds the margin, and how far margin swings. A plain EWMA of
    the same returns is what the buffer, the floor and the pace are compared with."""
    rules = Adaptive(decay_ppm=940_000, baseline_vol=30_000_000_000)
    returns = stormy(2_026, 20 * 365)
    ours, theirs = run(rules, returns, 2.6)
    breaches = [sum(abs(r) > m for r, m in zip(returns, margin, strict=True)) for margin in (ours, theirs)]
    swing = [max(margin) / min(margin) for margin in (ours, theirs)]
    assert breaches[1] > 50, "the path is worth testing on"
    assert breaches[0] * 2 < breaches[1]
    assert swing[0] * 1.5 < swing[1]
