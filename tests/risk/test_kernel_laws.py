# SPDX-License-Identifier: GPL-3.0-or-later
"""What option values obey whatever the numbers: parity, bounds, monotonicity, convexity, edges, units.

The laws hold after quantising, without slack, except for convexity: three values rounded to atoms may
together be off by up to two atoms, so a butterfly of true value >= 0 may show as -1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clearing.core.risk import kernel
from clearing.core.risk.kernel import DISCOUNT_ONE, LIMIT, UNIT, YEAR_US, Greeks

POINTS = 100_000
TOP = 1 << 50
PRICES = st.integers(1, TOP)
VOLS = st.one_of(st.integers(0, 10 * UNIT), st.integers(0, 1 << 62))
TIMES = st.one_of(st.integers(0, 5 * YEAR_US), st.integers(0, 1 << 62))
RATES = st.integers(-UNIT, UNIT)

Ints = NDArray[np.int64]


def spread(draw: np.random.Generator, low: float, high: float) -> Ints:
    """Integers spread evenly over the orders of magnitude from low to high."""
    drawn: Ints = np.exp(draw.uniform(np.log(low), np.log(high), POINTS)).astype(np.int64)
    return drawn


class Points:
    """Random options: forwards up to 2^50, K/F of e^+-4.6 with half of them near, 1 s to 5 y, 1 to 1000 %."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.forward = spread(draw, 1e6, TOP / 128)
        wide = np.exp(draw.uniform(-4.6, 4.6, POINTS))
        near = np.exp(draw.normal(0, 0.1, POINTS))
        self.strike = np.maximum(2, (self.forward * np.where(draw.random(POINTS) < 0.5, wide, near)).astype(np.int64))
        self.vol = spread(draw, 1e10, 1e13)
        self.tau_us = spread(draw, 1e6, 5 * YEAR_US)
        self.step = np.maximum(1, (self.strike * np.exp(draw.uniform(-16, -1, POINTS))).astype(np.int64))
        self.step = np.minimum(self.step, self.strike - 1)

    def value(self, is_call: bool, strike: Ints | None = None, **changed: Any) -> Ints:
        """Values, with some arguments changed."""
        arguments = {"vol": self.vol, "tau_us": self.tau_us, **changed}
        return kernel.values(self.forward, self.strike if strike is None else strike, is_call=is_call, **arguments)


@pytest.fixture(scope="module")
def points() -> Points:
    return Points(seed=1976)


def broken(points: Points, law: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """The first options that break the law."""
    at = np.flatnonzero(~law)[:3]
    return [tuple(int(x[i]) for x in (points.forward, points.strike, points.vol, points.tau_us)) for i in at]


def test_bounds_hold_on_100_000_options(points: Points) -> None:
    """intrinsic <= call <= forward and intrinsic <= put <= strike."""
    call, put = points.value(True), points.value(False)
    gap = points.forward - points.strike
    assert broken(points, (np.maximum(gap, 0) <= call) & (call <= points.forward)) == []
    assert broken(points, (np.maximum(-gap, 0) <= put) & (put <= points.strike)) == []


def test_values_are_monotone_on_100_000_options(points: Points) -> None:
    """A higher strike makes a call cheaper, by no more than the strikes differ; a put likewise dearer."""
    above = points.strike + points.step
    call, put = points.value(True), points.value(False)
    fall, rise = call - points.value(True, above), points.value(False, above) - put
    assert broken(points, (fall >= 0) & (fall <= points.step)) == []
    assert broken(points, (rise >= 0) & (rise <= points.step)) == []


def test_values_grow_with_vol_and_time_on_100_000_options(points: Points) -> None:
    """More vol or more time is never worth less, without discounting."""
    call = points.value(True)
    assert broken(points, points.value(True, vol=points.vol + 1 + points.vol // 1000) >= call) == []
    assert broken(points, points.value(True, tau_us=points.tau_us + 1 + points.tau_us // 1000) >= call) == []


def test_values_are_convex_in_strike_on_100_000_options(points: Points) -> None:
    """A butterfly costs nothing less than nothing: never below -1 atom, which is rounding alone."""
    butterfly = (
        points.value(True, points.strike - points.step)
        - 2 * points.value(True)
        + points.value(True, points.strike + points.step)
    )
    assert broken(points, butterfly >= -1) == []


def test_values_are_convex_to_the_last_bits_of_the_double(points: Points) -> None:
    """With 2^12 parts to the atom the same slack of rounding is all that a butterfly needs, for prices up to
    2^38 atoms: the float's own error is below that."""
    small = np.minimum(points.strike, points.forward) < 1 << 38
    wings = [
        points.value(True, points.strike + side * points.step, scale_bits=12) for side in (-1, 0, 1)
    ]  # fmt: skip
    butterfly = wings[0] - 2 * wings[1] + wings[2]
    fits = small & (points.forward < 1 << 38) & (points.strike + points.step < 1 << 38)
    assert fits.sum() > POINTS // 4
    assert broken(points, (butterfly >= -2) | ~fits) == []


@given(forward=PRICES, strike=PRICES, vol=VOLS, tau_us=TIMES, scale_bits=st.sampled_from([0, 1, 20, 400]))
@settings(max_examples=300)
def test_put_call_parity_is_exact(forward: int, strike: int, vol: int, tau_us: int, scale_bits: int) -> None:
    """call - put = forward - strike, to the atom and to any part of it; both within their bounds."""
    call = kernel.value(forward, strike, vol, tau_us, True, scale_bits)
    put = kernel.value(forward, strike, vol, tau_us, False, scale_bits)
    assert call - put == (forward - strike) << scale_bits
    assert max(forward - strike, 0) << scale_bits <= call <= forward << scale_bits
    assert 0 <= put <= strike << scale_bits


@given(forward=PRICES, strike=PRICES, vol=VOLS, tau_us=TIMES, rate=RATES)
@settings(max_examples=300)
def test_discounted_parity(forward: int, strike: int, vol: int, tau_us: int, rate: int) -> None:
    """call - put = +-round(D |F - K|), the deltas differ by D, and gamma and vega agree."""
    call = kernel.greeks(forward, strike, vol, tau_us, True, rate)
    put = kernel.greeks(forward, strike, vol, tau_us, False, rate)
    factor = kernel.discount(max(rate, 0), tau_us)
    worth = abs(call.value - put.value) << 60
    assert abs(worth - factor * abs(forward - strike)) <= (DISCOUNT_ONE >> 1) + (abs(forward - strike) << 8)
    assert (call.value > put.value) <= (forward > strike)
    assert abs(((call.delta - put.delta) << 60) - UNIT * factor) <= (DISCOUNT_ONE >> 1) + (UNIT << 8)
    assert (call.gamma, call.vega) == (put.gamma, put.vega)
    assert call.delta >= 0 >= put.delta
    assert min(call.value, put.value, call.gamma, call.vega) >= 0
    assert max(call.rho, put.rho) <= 0
    if rate <= 0 or tau_us <= 0:
        assert call.value == kernel.value(forward, strike, vol, tau_us, True)
        assert call.delta - put.delta == UNIT
        assert call.theta == put.theta <= 0
    if rate < 0:
        assert call.rho == put.rho == 0


@given(forward=PRICES, strike=PRICES, vol=VOLS, tau_us=TIMES, rate=st.integers(-(1 << 62), 1 << 62))
@example(forward=TOP, strike=TOP, vol=1, tau_us=1, rate=0)
@example(forward=TOP, strike=TOP, vol=1 << 62, tau_us=1, rate=0)
@example(forward=TOP, strike=1, vol=1 << 62, tau_us=1 << 62, rate=1 << 62)
@settings(max_examples=300)
def test_greeks_are_always_finite(forward: int, strike: int, vol: int, tau_us: int, rate: int) -> None:
    """No vol, time or rate that fits int64 overflows, and all figures fit int64."""
    for is_call in (True, False):
        assert all(abs(figure) <= LIMIT for figure in kernel.greeks(forward, strike, vol, tau_us, is_call, rate))


@pytest.mark.parametrize(("vol", "tau_us"), [(0, YEAR_US), (-1, YEAR_US), (UNIT, 0), (UNIT, -5), (0, 0)])
def test_without_vol_or_time_the_value_is_intrinsic(vol: int, tau_us: int) -> None:
    """The delta is then a step, half at the money for calls and minus half for puts."""
    for forward, call, put in ((90, 0, -UNIT), (100, UNIT // 2, -UNIT // 2), (110, UNIT, 0)):
        intrinsic = max(forward - 100, 0)
        below = max(100 - forward, 0)
        rho = -round(intrinsic * max(tau_us, 0) / YEAR_US / 100)
        assert kernel.value(forward, 100, vol, tau_us, True) == intrinsic
        assert kernel.greeks(forward, 100, vol, tau_us, True) == Greeks(intrinsic, call, 0, 0, 0, rho)
        assert kernel.greeks(forward, 100, vol, tau_us, False)[:4] == (below, put, 0, 0)


def test_far_options_are_worth_nothing_and_endless_ones_everything() -> None:
    """No denormals and no infinities: a value below e^-700 is 0, and vol without end gives the bound."""
    assert kernel.value(TOP, 1, UNIT // 100, 10**6, False, 900) == 0
    assert kernel.value(1, TOP, UNIT // 100, 10**6, True, 900) == 0
    assert kernel.greeks(1, TOP, UNIT // 100, 10**6, True) == Greeks(0, 0, 0, 0, 0, 0)
    assert kernel.value(TOP, 7, 1 << 62, 100 * YEAR_US, True) == TOP
    assert kernel.value(TOP, 7, 1 << 62, 100 * YEAR_US, False) == 7


@given(forward=PRICES, strike=PRICES, vol=VOLS, tau_us=TIMES, bits=st.integers(1, 200))
def test_scale_bits_only_refine(forward: int, strike: int, vol: int, tau_us: int, bits: int) -> None:
    """A finer value is the same double: rounded half to even it is the coarse value."""
    coarse = kernel.value(forward, strike, vol, tau_us, True)
    fine = kernel.value(forward, strike, vol, tau_us, True, bits)
    finest = kernel.value(forward, strike, vol, tau_us, True, 900)
    for found, kept in ((coarse, 0), (fine, bits)):
        half = 1 << (899 - kept)
        assert abs((found << (900 - kept)) - finest) <= half


@pytest.mark.parametrize(("forward", "strike"), [(0, 1), (1, 0), (-5, 1), (1, -5)])
def test_prices_must_be_positive(forward: int, strike: int) -> None:
    """ValueError names both numbers, from every entry."""
    words = f"{forward} and strike {strike}"
    calls: list[Callable[[], object]] = [
        lambda: kernel.value(forward, strike, UNIT, YEAR_US, True),
        lambda: kernel.greeks(forward, strike, UNIT, YEAR_US, True),
        lambda: kernel.values([5, forward], [5, strike], UNIT, YEAR_US, True),
        lambda: kernel.greeks_array(forward, strike, UNIT, YEAR_US, True),
        lambda: kernel.log_ratio(strike, forward),
        lambda: kernel.log_ratios(strike, forward),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be positive") as caught:
            call()
        assert words in str(caught.value)


@given(rate=RATES, tau_us=st.integers(0, 10 * YEAR_US))
def test_discounts(rate: int, tau_us: int) -> None:
    """One without rate or time, and D(r) D(-r) = 1; a positive rate shrinks."""
    factor, inverse = kernel.discount(rate, tau_us), kernel.discount(-rate, tau_us)
    assert abs(factor * inverse - (1 << 120)) < (1 << 120) // 10**15 + 2 * max(factor, inverse)
    assert (factor <= DISCOUNT_ONE) if rate >= 0 else (factor >= DISCOUNT_ONE)
    assert kernel.discount(0, tau_us) == kernel.discount(rate, 0) == DISCOUNT_ONE == kernel.exp_q60(0)
    assert abs(kernel.exp_q60(-rate) - kernel.discount(rate, YEAR_US)) <= 1


@given(strike=PRICES, forward=PRICES)
def test_log_ratios_are_odd(strike: int, forward: int) -> None:
    """ln(K/F) = -ln(F/K) but for the last digit, 0 exactly where they agree, and of the right sign."""
    there, back = kernel.log_ratio(strike, forward), kernel.log_ratio(forward, strike)
    assert abs(there + back) <= 1
    assert kernel.log_ratio(strike, strike) == 0
    assert there >= 0 if strike >= forward else there <= 0
