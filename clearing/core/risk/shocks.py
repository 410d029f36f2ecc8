# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preset does to one expiry: vol factors, twists of the skew, static discount, basis factor.

Powers and exponentials come from the kernel (e^x and ln of IEEE-exact operations), never from libm; what
leaves here is an int. Formulas: Derive's portfolio margin 2; other presets use its neutral values.
"""

from math import isqrt

from clearing.core.risk import kernel
from clearing.core.risk.fixed import ONE
from clearing.model.ids import DAY_US, UNIT, YEAR_US
from clearing.model.presets import SKEW_LINEAR, Preset, SkewShock, VolShock

_MONTH_US = 30 * DAY_US
# e^40 is far beyond any discount that is not cut off elsewhere; e^-40 is nothing.
_EXP_LIMIT = 40 * UNIT


def _exp(x: int) -> int:
    """Q60 of e^x for x in 1e-12, with x held to +-40."""
    return kernel.exp_q60(max(-_EXP_LIMIT, min(_EXP_LIMIT, x)))


def term_power(tau_us: int, shock: VolShock) -> int:
    """Q60 of m = (30 d / max(t, floor))^p."""
    exponent = shock.short_power if tau_us <= _MONTH_US else shock.long_power
    if exponent == 0:
        return ONE
    return _exp(exponent * kernel.log_ratio(_MONTH_US, max(tau_us, shock.floor_us, 1)) // UNIT)


def vol_factors(tau_us: int, shock: VolShock) -> tuple[int, int]:
    """Q60 factors of the shock (up, down); up before the floor of `min_vol`."""
    power = term_power(tau_us, shock)
    return ONE + shock.up * power // UNIT, max(0, ONE - shock.down * power // UNIT)


def root_years(tau_us: int) -> int:
    """sqrt of the time in years, 1e-12, rounded down."""
    return isqrt(tau_us * UNIT * UNIT // YEAR_US)


def skew_shape(tau_us: int, kind: int, skew: SkewShock) -> tuple[int, int]:
    """(cap, k*) in 1e-12 of a twist; the cap may be negative, which turns the twist around."""
    root = root_years(tau_us)
    base, cap = (skew.linear_base, skew.linear_cap) if kind == SKEW_LINEAR else (skew.abs_base, skew.abs_cap)
    level = skew.vol_static + root * skew.vol_scale // UNIT
    return base * root // UNIT + cap, max(skew.min_k_star, root * skew.width // UNIT * level // UNIT)


def skewed_vol(vol: int, log_strike: int, kind: int, cap: int, k_star: int) -> int:
    """Vol under a twist, 1e-12, >= 0: x (1 + k cap / k*), where the cap bounds only the side on which the
    wing lies. `log_strike` is ln(K/F)."""
    wing = log_strike if kind == SKEW_LINEAR else abs(log_strike)
    if wing == 0:
        return vol
    side = 1 if wing > 0 else -1
    # A width of nothing is a step: the whole cap at once.
    slope = side * cap if k_star <= 0 else wing * cap // k_star
    twist = min(cap, slope) if wing > 0 else max(-cap, slope)
    return max(0, vol * (UNIT + twist) // UNIT)


def static_cuts(rate: int, tau_us: int, discount: int, preset: Preset) -> tuple[int, int]:
    """Q60 of (1 - factor on a positive value, factor on a negative value - 1).

    Both are losses in parts of the size, >= 0 in any valid preset. An expired option is cash: nothing is cut.
    """
    if tau_us <= 0:
        return 0, 0
    rule = preset.discount
    known = max(rate, 0)
    long_rate = known * rule.long_scale // UNIT + rule.long_add
    short_rate = known * rule.short_scale // UNIT + rule.short_add
    long_factor = rule.long_base * _exp(-(tau_us * long_rate) // YEAR_US) // UNIT
    short_factor = rule.short_base * _exp(tau_us * short_rate // YEAR_US) // UNIT
    return ONE - long_factor, min((1 << 120) // max(discount, 1), short_factor) - ONE


def basis_factor(tau_us: int, preset: Preset) -> int:
    """Q60 of add + scale x years."""
    return (preset.basis.add * YEAR_US + preset.basis.scale * tau_us) * ONE // (YEAR_US * UNIT)
