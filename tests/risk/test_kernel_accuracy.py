# SPDX-License-Identifier: GPL-3.0-or-later
"""How exact the option kernel is: against 50-digit arithmetic, an integer implementation, and QuantLib."""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import mpmath  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.risk import kernel
from tests.risk import integer_black
from tools import fit_kernel

SECOND = 1 / 31_536_000
MONEYNESS = [-4.6, -3, -2, -1.2, -0.7, -0.4, -0.2, -0.1, -0.03, -0.001, 0, 0.0003, 0.01, 0.05, 0.15, 0.9, 1.7, 3.3, 4.6]
YEARS = [SECOND, 60 * SECOND, 3600 * SECOND, 1 / 365, 7 / 365, 30 / 365, 0.25, 1.0, 5.0]
VOLS = [0.01, 0.05, 0.2, 0.65, 1.1, 2.5, 5.0, 10.0]


class Exact:
    """Undiscounted Black-76 of 50 digits, of exactly the doubles given."""

    def __init__(self, forward: float, strike: float, vol: float, years: float) -> None:
        f, k, self.vol, self.years = (mpmath.mpf(x) for x in (forward, strike, vol, years))
        self.root = mpmath.sqrt(self.years)
        stdev = self.vol * self.root
        d1 = mpmath.log(f / k) / stdev + stdev / 2
        d2 = d1 - stdev
        self.delta = _phi(d1)
        self.call = f * self.delta - k * _phi(d2)
        self.put = k * _phi(-d2) - f * _phi(-d1)
        bell = mpmath.npdf(d1)
        self.gamma = bell / (f * stdev)
        self.vega = f * bell * self.root
        self.decay = f * bell * self.vol / (2 * self.root)


def _phi(x: Any) -> Any:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


@pytest.fixture(autouse=True)
def _fifty_digits() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


def grid() -> Iterator[tuple[float, float, float, float]]:
    """Forward, strike, vol, years; the forward differs from point to point so that all mantissas occur."""
    draw = random.Random(76)
    for log_strike, years, vol in product(MONEYNESS, YEARS, VOLS):
        forward = 50_000e6 * draw.uniform(0.5, 2)
        yield forward, float(forward * mpmath.exp(log_strike)), vol, years


def test_values_and_greeks_against_fifty_digits() -> None:
    """Over K/F of e^+-4.6, 1 s to 5 y and 1 to 1000 %: calls to 1e-15 F, deltas to 1e-13, Greeks likewise."""
    worst = dict.fromkeys(("call", "put", "delta", "gamma", "vega", "theta"), 0.0)
    for forward, strike, vol, years in grid():
        exact = Exact(forward, strike, vol, years)
        raw = kernel.raw_greeks(forward, strike, vol, years, True, 0.0)
        # The intrinsic value is added in integers, hence exactly.
        gap = mpmath.mpf(forward) - strike
        call = raw.otm + max(gap, mpmath.mpf(0))
        errors = {
            "call": (call - exact.call) / forward,
            "put": (call - gap - exact.put) / forward,
            "delta": raw.otm_delta + (1 if strike < forward else 0) - exact.delta,
            "gamma": (raw.gamma - exact.gamma) * forward * vol * exact.root,
            "vega": (raw.vega - exact.vega) / (forward * exact.root),
            "theta": (raw.theta + exact.decay) * exact.root / (forward * vol),
        }
        for name, error in errors.items():
            worst[name] = max(worst[name], float(abs(error)))
    limits = {"call": 1e-15, "put": 1e-15, "delta": 1e-13, "gamma": 1e-15, "vega": 1e-15, "theta": 1e-15}
    assert {name: error for name, error in worst.items() if error > limits[name]} == {}, worst


def test_values_are_good_to_the_last_digits_that_matter() -> None:
    """An option worth more than 1e-13 F, with a month or more to run, is right to 2e-12 of its own value."""
    worst = 0.0
    for forward, strike, vol, years in grid():
        exact = Exact(forward, strike, vol, years)
        otm = exact.call if strike >= forward else exact.put
        if years >= 30 / 365 and otm > 1e-13 * forward:
            worst = max(worst, float(abs(kernel.raw_greeks(forward, strike, vol, years, True, 0.0).otm / otm - 1)))
    assert worst < 2e-12


@given(
    forward=st.floats(1e-3, 1e15), log_strike=st.floats(-4.6, 4.6), vol=st.floats(0.01, 10),
    years=st.floats(1e-6, 5), rate=st.floats(-0.3, 0.5), is_call=st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_discounted_greeks_are_the_derivatives(
    forward: float, log_strike: float, vol: float, years: float, rate: float, is_call: bool
) -> None:
    """theta is -dV/dT and rho dV/drate of V = e^(-rate T) B, and everything else is discounted."""
    strike = float(forward * mpmath.exp(log_strike))
    exact = Exact(forward, strike, vol, years)
    growth = mpmath.exp(-mpmath.mpf(rate) * years)
    worth = growth * (exact.call if is_call else exact.put)
    raw = kernel.raw_greeks(forward, strike, vol, years, is_call, rate)
    size = forward * growth * (1 + strike / forward)
    assert abs(raw.discount / growth - 1) < 1e-15
    assert abs(raw.gamma - growth * exact.gamma) * forward * vol * exact.root < 2e-15 * growth
    assert abs(raw.vega - growth * exact.vega) < 2e-15 * size * exact.root
    decay = growth * exact.decay
    assert abs(raw.theta - (rate * worth - decay)) < 3e-15 * size * (abs(rate) + vol / exact.root)
    assert abs(raw.rho + years * worth) < 3e-15 * size * years


PRICES = st.integers(1, 1 << 50)


@given(
    forward=PRICES, part=st.floats(0.01, 100), vol=st.integers(10**10, 10**13),
    tau_us=st.integers(10**6, 5 * kernel.YEAR_US), is_call=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_integer_implementation_agrees(forward: int, part: float, vol: int, tau_us: int, is_call: bool) -> None:
    """What leaves the kernel is the nearest integer, but for 1e-15 F; computed without a single float."""
    strike = min(1 << 50, max(1, int(forward * part)))
    got = kernel.greeks(forward, strike, vol, tau_us, is_call)
    size = forward + strike
    one = integer_black.ONE
    exact = integer_black.value(forward, strike, vol, tau_us, is_call)
    assert abs(kernel.value(forward, strike, vol, tau_us, is_call) * one - exact) <= one // 2 + size * one // 10**15
    assert got.value == kernel.value(forward, strike, vol, tau_us, is_call)
    delta, gamma, vega, theta, rho = integer_black.greeks(forward, strike, vol, tau_us, is_call)
    # Half a unit, and the relative error of the exponential far from the money.
    assert abs(got.delta * one - delta) <= one // 2 + kernel.UNIT * one // 10**15
    for found, expected in ((got.gamma, gamma), (got.vega, vega), (got.theta, theta)):
        assert abs(found * one - expected) <= one // 2 + abs(expected) // 10**12
    assert abs(got.rho * one - rho) <= one // 2 + size * one // 10**15


def test_the_oracle_itself_against_fifty_digits() -> None:
    """integer_black, which shares nothing with mpmath either, agrees with it to 1e-36."""
    for x in (-38, -15, -7, -1, 0, 1, 2, 9, 15, 38):
        fixed = x * integer_black.ONE // 3
        exact = _phi(mpmath.mpf(x) / 3)
        assert abs(mpmath.mpf(integer_black.below(fixed)) / integer_black.ONE - exact) < mpmath.mpf(10) ** -36
    for above, under in ((1, 10**12), (3, 2), (7, 7), (10**15, 7)):
        logarithm = mpmath.mpf(integer_black.ln(above, under)) / integer_black.ONE
        assert abs(logarithm - mpmath.log(mpmath.mpf(above) / under)) < mpmath.mpf(10) ** -36


@pytest.mark.slow
def test_never_worse_than_quantlib() -> None:
    """The largest error on the grid is below that of QuantLib's Black formula, in the same doubles."""
    ql = pytest.importorskip("QuantLib")
    ours = theirs = 0.0
    for forward, strike, vol, years in grid():
        exact = Exact(forward, strike, vol, years)
        otm, kind = (exact.call, ql.Option.Call) if strike >= forward else (exact.put, ql.Option.Put)
        peer = ql.blackFormula(kind, strike, forward, vol * years**0.5)
        mine = kernel.raw_greeks(forward, strike, vol, years, True, 0.0).otm
        assert mine == pytest.approx(peer, abs=3e-14 * (forward + strike))
        ours = max(ours, float(abs(mine - otm)) / forward)
        theirs = max(theirs, float(abs(peer - otm)) / forward)
    assert ours < theirs


@given(x=st.integers(-40 * kernel.UNIT, 40 * kernel.UNIT))
def test_exponentials_of_integers(x: int) -> None:
    """exp_q60 is right to half a unit of 2^-60 and 3e-16 (1 + |x|) of its value."""
    exact = mpmath.exp(mpmath.mpf(x) / kernel.UNIT) * 2**60
    assert abs(kernel.exp_q60(x) - exact) <= 0.5 + 3e-16 * (1 + abs(x) / kernel.UNIT) * exact


@given(above=PRICES, under=PRICES)
def test_logarithms_of_ratios(above: int, under: int) -> None:
    """log_ratio is the nearest multiple of 1e-12, but for an ulp of the logarithm (some 1e-15)."""
    exact = mpmath.log(mpmath.mpf(above) / under) * kernel.UNIT
    assert abs(kernel.log_ratio(above, under) - exact) <= 0.5 + 0.01


@pytest.mark.slow
def test_coefficients_are_what_the_tool_derives() -> None:
    """The recorded tables are the output of tools/fit_kernel.py, bit for bit, and fit to a fifth of an ulp."""
    for name, table in fit_kernel.tables().items():
        assert getattr(kernel, f"_{name}") == table, name
    assert max(fit_kernel.errors().values()) < 2.2e-16 / 5 / 2
