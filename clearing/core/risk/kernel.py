# SPDX-License-Identifier: GPL-3.0-or-later
"""Black-76 values and Greeks of European options, the same bits on every machine. The only floats in core.

Rules:
- Only operations that IEEE-754 rounds correctly: + - x / sqrt, comparisons, and exact ones (abs, rint,
  frexp, ldexp, int <-> bits). exp, ln and the Mills ratio are polynomials of our own (tools/fit_kernel.py).
  No libm, no `**`, no reduction (sum, dot): their last bit differs between machines and numpy versions.
- Every formula stands here twice, for one option (CPython floats) and for arrays (numpy), operation by
  operation in the same order. Arrays compute both sides of a branch on arguments made safe, then choose.
- What leaves is an integer. The out-of-the-money value is rounded half to even and the integer intrinsic
  value added, so call - put = forward - strike to the atom.
- `kernel_check.require()` compares this machine with known answers before anything relies on them.

Method, for forward F, strike K, standard deviation s = vol sqrt(t), x = |ln(K/F)|: with h = x/s, t = s/2,
b = h - t, a = h + t and E = sqrt(F K) phi(h) e^(-t^2/2), Black's formula for the out-of-the-money option is
E (M(b) - M(a)), where M(z) = (1 - Phi(z)) / phi(z) is the Mills ratio. M(b) of b < 0 is
1/phi(b) - M(-b), and E/phi(b) = min(F, K) exactly, so only M on z >= 0 and a single exp are needed:

    b >= 0:  value = E M(b) - E M(a)
    b < 0:   value = min(F, K) - (E M(-b) + E M(a))

E M(a) and E M(b) over F are the deltas, E over F^2 s the gamma, E sqrt(T) the vega.
Reference: F. Black, "The pricing of commodity contracts" (1976).

Accuracy, measured by tests/risk/test_kernel_accuracy.py before quantising: values within 1e-15 F, deltas
within 1e-13. What is below e^-700 sqrt(F K) is zero.
"""

from collections.abc import Callable
from math import frexp, ldexp, sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clearing.model.ids import UNIT, YEAR_US

__all__ = [
    "DISCOUNT_ONE", "LIMIT", "UNIT", "YEAR_US", "Greeks", "GreeksArrays", "Raw", "black", "discount", "exp_q60",
    "greeks", "greeks_array", "log_ratio", "log_ratios", "raw_greeks", "value", "values",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISCOUNT_ONE: Final = 1 << 60
LIMIT: Final = 1 << 62
"""Quantised Greeks saturate at +-LIMIT; only vols or times far outside any market reach it."""

_SMALLEST = -700.0
_FAR = 64.0
"""h and t are held to this: beyond 38 e^(-h^2/2) is below e^_SMALLEST anyway, and nothing overflows."""
_UNIT = 1e12
_YEAR = 31_536_000_000_000.0
_DAYS, _PERCENT = 365.0, 100.0
_LIMIT = float(LIMIT)


def _exactly(*digits: str) -> tuple[float, ...]:
    return tuple(float.fromhex(text) for text in digits)


# Lowest coefficient first; printed by tools/fit_kernel.py, which derives them. Hexadecimal says which doubles.
_MILLS_TOP = _exactly(
    "0x1.40d931ff62706p+0", "0x1.111e84710b321p+1", "0x1.cbe15c8973cbdp+0", "0x1.efebfff9dbeaap-1",
    "0x1.78224dbfc1020p-2", "0x1.a1b4b51d7d27cp-4", "0x1.57b06291de7ffp-6", "0x1.9e9b71c41be92p-9",
    "0x1.609caf612b520p-12", "0x1.812afaf4c9c07p-16", "0x1.a0d4af4be1a39p-21",
)  # fmt: skip
_MILLS_BOTTOM = _exactly(
    "0x1.0000000000000p+0", "0x1.400bfc9eab78ep+1", "0x1.76d37cbb880f5p+1", "0x1.10027e58f8249p+1",
    "0x1.1081bc4e01e4cp+0", "0x1.8cef0e79fa0ecp-2", "0x1.ae796b5090817p-4", "0x1.5d2c51fc3a18fp-6",
    "0x1.a19dc7ba14955p-9", "0x1.616d19b8cfd7ep-12", "0x1.812afaf4c9e92p-16", "0x1.a0d4af4be19f8p-21",
)  # fmt: skip
_EXP = _exactly(
    "0x1.5555555555553p-3", "-0x1.6c16c16c0ac0dp-9", "0x1.1566ab5c1c1c8p-14", "-0x1.bbd532403d54ap-20",
    "0x1.63f285ba006ecp-25",
)  # fmt: skip
_LOG = _exactly(
    "0x1.5555555555558p-1", "0x1.99999999952e2p-2", "0x1.2492492df148dp-2", "0x1.c71c62e5800a1p-3",
    "0x1.7462b4ab2ef6bp-3", "0x1.39fe606542ddep-3", "0x1.2b584aae78a57p-3",
)  # fmt: skip

_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8, _P9, _P10 = _MILLS_TOP
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10, _Q11 = _MILLS_BOTTOM
_E0, _E1, _E2, _E3, _E4 = _EXP
_L0, _L1, _L2, _L3, _L4, _L5, _L6 = _LOG

# ln 2 in two parts: multiples of the first up to 2^15 are exact.
_LN2_HIGH = float.fromhex("0x1.62e42fefa0000p-1")
_LN2_LOW = float.fromhex("0x1.cf79abc9e3b3ap-40")
_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD
_PHI_0 = float.fromhex("0x1.9884533d43651p-2")
"""1 / sqrt(2 pi)."""
# Adding and subtracting 1.5 x 2^52 rounds to the nearest integer, half to even.
_ROUND = float.fromhex("0x1.8p+52")
# Blocks of this many options keep the temporaries in the cache, and below what malloc maps and unmaps each time.
_BLOCK = 4096


class Greeks(NamedTuple):
    """Value and sensitivities of one long lot, integers rounded half to even; saturated at +-LIMIT.

    value: atoms. delta: 1e-12 lots of the forward. gamma: 1e-12 of delta per 1 % move of the forward.
    vega: atoms per vol point (0.01). theta: atoms per day that passes (1/365 year). rho: atoms per 1 % of
    rate, the forward held fixed; 0 where the rate is negative, since the discount does not depend on it.
    """

    value: int
    delta: int
    gamma: int
    vega: int
    theta: int
    rho: int


class GreeksArrays(NamedTuple):
    """Greeks of many options: int64 arrays of one shape, in the units of `Greeks`."""

    value: Ints
    delta: Ints
    gamma: Ints
    vega: Ints
    theta: Ints
    rho: Ints


class Raw(NamedTuple):
    """Discounted floats in mathematical units, before quantising.

    otm and otm_delta are of the option that is out of the money (at the money: the call); the intrinsic
    value and its delta are the caller's to add, exactly. gamma = d2V/dF2, vega = dV/dvol per 1.00,
    theta = -dV/dT per year, rho = dV/drate per 1.00; theta and rho are of the option that was asked for.
    """

    otm: float
    otm_delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    discount: float


# One option


def _exp(y: float) -> float:
    """e^y for |y| <= 700, to about one ulp."""
    k = (y * _LOG2_E + _ROUND) - _ROUND
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    v = r * r
    c = r - v * ((((_E4 * v + _E3) * v + _E2) * v + _E1) * v + _E0)
    return ldexp((r * c / (2.0 - c) + r) + 1.0, int(k))


def _held(y: float) -> float:
    """y, held to what _exp can take."""
    y = y if y < -_SMALLEST else -_SMALLEST
    return y if y > _SMALLEST else _SMALLEST


def _log_ratio(strike: float, forward: float) -> float:
    """ln(strike / forward) of positive floats, to about one ulp also where they nearly agree."""
    part, k = frexp(strike / forward)
    if part < _ROOT_HALF:
        k -= 1
    near = ldexp(forward, k)
    # Within a factor of sqrt(2) the difference is exact (Sterbenz).
    w = (strike - near) / (strike + near)
    v = w * w
    p = (((((_L6 * v + _L5) * v + _L4) * v + _L3) * v + _L2) * v + _L1) * v + _L0
    return k * _LN2_HIGH + ((w + w) + (w * v * p + k * _LN2_LOW))


def _mills(z: float) -> float:
    """(1 - Phi(z)) / phi(z) for z >= 0."""
    top = (((((((((_P10 * z + _P9) * z + _P8) * z + _P7) * z + _P6) * z + _P5) * z + _P4) * z + _P3) * z + _P2) * z
           + _P1) * z + _P0  # fmt: skip
    bottom = ((((((((((_Q11 * z + _Q10) * z + _Q9) * z + _Q8) * z + _Q7) * z + _Q6) * z + _Q5) * z + _Q4) * z + _Q3)
               * z + _Q2) * z + _Q1) * z + _Q0  # fmt: skip
    return top / bottom


def black(forward: float, strike: float, stdev: float, log_strike: float) -> tuple[float, float, float, float, bool]:
    """Undiscounted Black-76 of the out-of-the-money option; forward, strike and stdev > 0, log_strike = ln(K/F).

    Returns (value, E, E M(|b|), E M(a), b < 0), see the module. 0 <= value <= min(forward, strike).
    """
    h = abs(log_strike) / stdev
    t = 0.5 * stdev
    h = h if h < _FAR else _FAR
    t = t if t < _FAR else _FAR
    y = -0.5 * (h * h + t * t)
    least = forward if forward < strike else strike
    inside = h < t
    if y < _SMALLEST:
        return (least if inside else 0.0), 0.0, 0.0, 0.0, inside
    hump = sqrt(forward * strike) * _PHI_0 * _exp(y)
    near = hump * _mills(abs(h - t))
    far = hump * _mills(h + t)
    worth = least - (near + far) if inside else near - far
    # Rounding may take a value of nothing below zero.
    return (worth if worth > 0.0 else 0.0), hump, near, far, inside


def raw_greeks(
    forward: float,
    strike: float,
    vol: float,
    years: float,
    is_call: bool,
    rate: float,
    log_strike: float | None = None,
) -> Raw:
    """Discounted Greeks in floats; forward and strike > 0, rate of either sign.

    log_strike is for callers who know ln(strike / forward) to more digits than the two doubles tell.
    vol <= 0 or years <= 0 leaves the intrinsic value: its delta is a step, half at the money, and gamma and
    vega are 0. Formulas: derivatives of D(rate, T) B(F, K, vol, T) at a fixed forward.
    """
    held = years if years > 0.0 else 0.0
    growth = _exp(_held(-(rate * held)))
    root = sqrt(held)
    stdev = vol * root if vol > 0.0 else 0.0
    if stdev > 0.0:
        known = _log_ratio(strike, forward) if log_strike is None else log_strike
        otm, hump, near, far, inside = black(forward, strike, stdev, known)
        call_delta = 1.0 - near / forward if inside else near / forward
        put_delta = -(far / forward)
        otm_delta = call_delta if strike >= forward else put_delta
        gamma = growth * (hump / forward / forward / stdev)
        vega = growth * (hump * root)
        decay = hump * vol / (root + root)
    else:
        otm = gamma = vega = decay = 0.0
        otm_delta = 0.5 if strike == forward else 0.0
    gap = forward - strike if is_call else strike - forward
    whole = otm + (gap if gap > 0.0 else 0.0)
    theta = growth * ((rate * whole - decay) if held > 0.0 else 0.0)
    rho = -(growth * (held * whole))
    return Raw(growth * otm, growth * otm_delta, gamma, vega, theta, rho, growth)


def _quantised(x: float) -> int:
    x = x if x < _LIMIT else _LIMIT
    return round(x if x > -_LIMIT else -_LIMIT)


def _refuse(forward: object, strike: object) -> None:
    raise ValueError(f"forward {forward} and strike {strike} must be positive")


def value(forward: int, strike: int, vol: int, tau_us: int, is_call: bool, scale_bits: int = 0) -> int:
    """Undiscounted Black-76 value, atoms per lot (x 2^scale_bits), rounded half to even.

    forward, strike: atoms per lot, up to 2^50. vol: 1e-12. tau_us: time to expiry. vol <= 0 or tau_us <= 0:
    the intrinsic value. 0 <= scale_bits <= 900. Put-call parity is exact. Raises ValueError unless forward
    and strike are positive.
    """
    if forward <= 0 or strike <= 0:
        _refuse(forward, strike)
    gap = forward - strike if is_call else strike - forward
    intrinsic = gap << scale_bits if gap > 0 else 0
    if vol <= 0 or tau_us <= 0:
        return intrinsic
    stdev = float(vol) / _UNIT * sqrt(float(tau_us) / _YEAR)
    f, k = float(forward), float(strike)
    worth = black(f, k, stdev, _log_ratio(k, f))[0]
    if scale_bits:
        worth *= float(1 << scale_bits)
    return intrinsic + round(worth)


def greeks(forward: int, strike: int, vol: int, tau_us: int, is_call: bool, rate: int = 0) -> Greeks:
    """Value and Greeks discounted with D = e^(-max(rate, 0) T), in the units of `Greeks`.

    Arguments as for `value`; rate: 1e-12 per year. The value is round(D x out-of-the-money value) +
    round(D x intrinsic value): call - put = +-round(D x |forward - strike|) to the atom, and the deltas of
    call and put differ by round(D x 1e12). Without a rate the value is `value()`. Expired (tau_us <= 0) or
    without vol: intrinsic, delta a step, half at the money. Raises ValueError as `value` does.
    """
    if forward <= 0 or strike <= 0:
        _refuse(forward, strike)
    years = float(tau_us) / _YEAR if tau_us > 0 else 0.0
    yearly = float(rate) / _UNIT if rate > 0 else 0.0
    f, k = float(forward), float(strike)
    raw = raw_greeks(f, k, float(vol) / _UNIT, years, is_call, yearly)
    gap = f - k if is_call else k - f
    delta = _quantised(raw.otm_delta * _UNIT)
    if is_call and strike < forward:
        delta += round(raw.discount * _UNIT)
    elif not is_call and strike >= forward:
        delta -= round(raw.discount * _UNIT)
    return Greeks(
        value=_quantised(raw.otm) + (round(raw.discount * gap) if gap > 0.0 else 0),
        delta=delta,
        gamma=_quantised(raw.gamma * f / _PERCENT * _UNIT),
        vega=_quantised(raw.vega / _PERCENT),
        theta=_quantised(raw.theta / _DAYS),
        rho=_quantised(raw.rho / _PERCENT) if rate >= 0 else 0,
    )


def discount(rate: int, tau_us: int) -> int:
    """e^(-rate x T) in Q60 (DISCOUNT_ONE is one), of a rate in 1e-12 per year of either sign.

    It is the number that `greeks` discounts with, good to a few 1e-16. The exponent is held to +-700.
    """
    if tau_us <= 0 or rate == 0:
        return DISCOUNT_ONE
    return _q60(-(float(rate) / _UNIT * (float(tau_us) / _YEAR)))


def exp_q60(x: int) -> int:
    """e^x in Q60 of x in 1e-12, to a relative 2e-16 (1 + |x|), x held to +-700."""
    return _q60(float(x) / _UNIT)


def _q60(y: float) -> int:
    return round(_exp(_held(y)) * float(DISCOUNT_ONE))


def log_ratio(strike: int, forward: int) -> int:
    """ln(strike / forward) in 1e-12, rounded to nearest. Raises ValueError unless both are positive."""
    if forward <= 0 or strike <= 0:
        _refuse(forward, strike)
    return round(_log_ratio(float(strike), float(forward)) * _UNIT)


# Arrays: the same operations in the same order


def _horner(table: tuple[float, ...], z: Floats) -> Floats:
    acc: Floats = z * table[-1]
    acc += table[-2]
    for coefficient in table[-3::-1]:
        acc *= z
        acc += coefficient
    return acc


def _power_of_two(k: Ints) -> Floats:
    """2^k for -1022 <= k <= 1023, by its bits."""
    return ((k + 1023) << 52).view(np.float64)


def _exps(y: Floats) -> Floats:
    k = (y * _LOG2_E + _ROUND) - _ROUND
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    v = r * r
    c = r - v * _horner(_EXP, v)
    return ((r * c / (2.0 - c) + r) + 1.0) * _power_of_two(k.astype(np.int64))


def _logs(strike: Floats, forward: Floats) -> Floats:
    # The same k as frexp finds: how many whole octaves the quotient lies above sqrt(1/2).
    k = ((strike / forward).view(np.int64) - _ROOT_HALF_BITS) >> 52
    near = forward * _power_of_two(k)
    w = (strike - near) / (strike + near)
    v = w * w
    p = _horner(_LOG, v)
    octaves = k.astype(np.float64)
    return octaves * _LN2_HIGH + ((w + w) + (w * v * p + octaves * _LN2_LOW))


def _exponents(forward: Floats, strike: Floats, stdev: Floats) -> tuple[Floats, Floats, Floats]:
    """(h, t, y) of `black`, whose E is e^y."""
    h = np.abs(_logs(strike, forward)) / stdev
    t = 0.5 * stdev
    h = np.minimum(h, _FAR)
    t = np.minimum(t, _FAR)
    return h, t, -0.5 * (h * h + t * t)


def _blacks(
    forward: Floats, strike: Floats, h: Floats, t: Floats, y: Floats, bell: Floats
) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_]]:
    """`black` of arrays of one shape, from `_exponents` and bell = e^max(y, _SMALLEST)."""
    least = np.minimum(forward, strike)
    inside = h < t
    hump = np.sqrt(forward * strike) * _PHI_0 * bell
    hump = np.where(y < _SMALLEST, 0.0, hump)
    arguments = np.empty((2, *h.shape))
    np.abs(h - t, out=arguments[0])
    np.add(h, t, out=arguments[1])
    near, far = hump * (_horner(_MILLS_TOP, arguments) / _horner(_MILLS_BOTTOM, arguments))
    worth = np.where(inside, least - (near + far), near - far)
    return np.maximum(worth, 0.0), hump, near, far, inside


def _raws(
    forward: Floats, strike: Floats, vol: Floats, years: Floats, is_call: NDArray[np.bool_], rate: Floats
) -> tuple[Floats, ...]:
    """`raw_greeks` of arrays of one shape, years and rate >= 0: in the order of `Raw`, then the intrinsic value."""
    root = np.sqrt(years)
    stdev = np.maximum(vol, 0.0) * root
    live = stdev > 0.0
    all_live = bool(live.all())
    if not all_live:
        stdev = np.where(live, stdev, 1.0)
    h, t, y = _exponents(forward, strike, stdev)
    # One pass for both exponentials; neither exponent is above 0.
    bell, growth = _exps(np.maximum(np.stack((y, -(rate * years))), _SMALLEST))
    otm, hump, near, far, inside = _blacks(forward, strike, h, t, y, bell)
    ratio = near / forward
    call_delta = np.where(inside, 1.0 - ratio, ratio)
    otm_delta = np.where(strike >= forward, call_delta, -(far / forward))
    twice = root + root
    if not all_live:
        otm = np.where(live, otm, 0.0)
        hump = np.where(live, hump, 0.0)
        otm_delta = np.where(live, otm_delta, np.where(strike == forward, 0.5, 0.0))
        twice = np.where(live, twice, 1.0)
    gamma = growth * (hump / forward / forward / stdev)
    vega = growth * (hump * root)
    decay = hump * vol / twice
    gap = forward - strike
    intrinsic = np.maximum(np.where(is_call, gap, -gap), 0.0)
    whole = otm + intrinsic
    drift = rate * whole - decay
    if not all_live:
        drift = np.where(years > 0.0, drift, 0.0)
    theta = growth * drift
    rho = -(growth * (years * whole))
    return growth * otm, growth * otm_delta, gamma, vega, theta, rho, growth, intrinsic


def _rounded(x: Floats) -> Ints:
    return np.rint(x).astype(np.int64)


def _values_block(out: Ints, scale_bits: int, *arguments: NDArray[Any]) -> None:
    forward, strike, vol, tau_us, is_call = arguments
    live = (vol > 0) & (tau_us > 0)
    root = np.sqrt(np.where(live, tau_us, YEAR_US).astype(np.float64) / _YEAR)
    stdev = np.where(live, vol, UNIT).astype(np.float64) / _UNIT * root
    f, k = forward.astype(np.float64), strike.astype(np.float64)
    h, t, y = _exponents(f, k, stdev)
    worth = _blacks(f, k, h, t, y, _exps(np.maximum(y, _SMALLEST)))[0]
    if scale_bits:
        worth *= float(1 << scale_bits)
    gap = forward - strike
    intrinsic = np.maximum(np.where(is_call, gap, -gap), 0) << scale_bits
    np.add(intrinsic, np.where(live, _rounded(worth), 0), out=out[0])


def _greeks_block(out: Ints, _: int, *arguments: NDArray[Any]) -> None:
    forward, strike, vol, tau_us, is_call, rate = arguments
    f, k = forward.astype(np.float64), strike.astype(np.float64)
    years = np.maximum(tau_us, 0).astype(np.float64) / _YEAR
    yearly = np.maximum(rate, 0).astype(np.float64) / _UNIT
    deviation = vol.astype(np.float64) / _UNIT
    otm, otm_delta, gamma, vega, theta, rho, growth, intrinsic = _raws(f, k, deviation, years, is_call, yearly)
    figures = np.empty(out.shape)
    figures[0] = otm
    np.multiply(otm_delta, _UNIT, out=figures[1])
    np.multiply(gamma * f / _PERCENT, _UNIT, out=figures[2])
    np.divide(vega, _PERCENT, out=figures[3])
    np.divide(theta, _DAYS, out=figures[4])
    np.divide(rho, _PERCENT, out=figures[5])
    np.minimum(figures, _LIMIT, out=figures)
    np.maximum(figures, -_LIMIT, out=figures)
    out[:] = np.rint(figures, out=figures)
    out[0] += _rounded(growth * intrinsic)
    # What the option in the money has beyond the other: +1 lot for a call, -1 for a put.
    out[1] += (is_call.astype(np.int64) - (strike >= forward)) * _rounded(growth * _UNIT)
    out[5] *= rate >= 0


def _blocked(
    block: Callable[..., None], results: int, scale_bits: int, is_call: ArrayLike, *numbers: ArrayLike
) -> Ints:
    """`results` int64 arrays of the arguments' broadcast shape, stacked, filled block by block."""
    ints: list[NDArray[Any]] = [np.asarray(number, dtype=np.int64) for number in numbers]
    if ints[0].min(initial=1) <= 0 or ints[1].min(initial=1) <= 0:
        _refuse(ints[0].min(), ints[1].min())
    arrays = [*ints[:4], np.asarray(is_call, dtype=np.bool_), *ints[4:]]
    shape = np.broadcast(*arrays).shape
    flat = [(array if array.shape == shape else np.broadcast_to(array, shape)).ravel() for array in arrays]
    out = np.empty((results, flat[0].size), dtype=np.int64)
    for start in range(0, flat[0].size, _BLOCK):
        part = slice(start, start + _BLOCK)
        block(out[:, part], scale_bits, *(array[part] for array in flat))
    return out.reshape(results, *shape)


def values(
    forward: ArrayLike, strike: ArrayLike, vol: ArrayLike, tau_us: ArrayLike, is_call: ArrayLike, scale_bits: int = 0
) -> Ints:
    """`value` of broadcastable int64 arrays (is_call: bool), bit for bit; int64 of the broadcast shape.

    The caller sees to it that max(forward, strike) x 2^scale_bits stays below 2^62. Raises ValueError if any
    forward or strike is not positive.
    """
    worth: Ints = _blocked(_values_block, 1, scale_bits, is_call, forward, strike, vol, tau_us)[0]
    return worth


def greeks_array(
    forward: ArrayLike,
    strike: ArrayLike,
    vol: ArrayLike,
    tau_us: ArrayLike,
    is_call: ArrayLike,
    rate: ArrayLike = 0,
) -> GreeksArrays:
    """`greeks` of broadcastable int64 arrays (is_call: bool), bit for bit. Raises ValueError likewise."""
    return GreeksArrays(*_blocked(_greeks_block, 6, 0, is_call, forward, strike, vol, tau_us, rate))


def log_ratios(strike: ArrayLike, forward: ArrayLike) -> Ints:
    """`log_ratio` of broadcastable int64 arrays, bit for bit. Raises ValueError likewise."""
    above, below = np.asarray(strike, dtype=np.int64), np.asarray(forward, dtype=np.int64)
    if above.min(initial=1) <= 0 or below.min(initial=1) <= 0:
        _refuse(below.min(), above.min())
    return _rounded(_logs(above.astype(np.float64), below.astype(np.float64)) * _UNIT)
