# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin that follows volatility by itself, and only tightens.

Rules:
- Every `interval_us` the squared return of the index (held to +-1000 %), scaled to a day, enters an integer EWMA that
  begins at the baseline. After a silence of several intervals the one return counts for all of them.
- full = volatility / baseline, at least 1 and at most the cap; bare = full / (1 + buffer), at least 1. Governed margin
  fractions contain the buffer: at factor 1 they carry a volatility of (1 + buffer) x baseline.
- The buffer (25 %) is there to be used up: while volatility rises, the factor stays where it is until `bare` has
  caught up with it, and then follows `bare`. When volatility no longer rises, the factor goes back to `full`, which
  refills the buffer. This is the exhaustible buffer among the anti-procyclicality tools of EMIR (Delegated Regulation
  (EU) 153/2013, article 28(1)(a)); the floor of 1 is its long-run floor (28(1)(c)).
- The factor moves by at most `up_ppm_per_day` and `down_ppm_per_day` of itself, for at most a day at once, and at
  least one ppm. It is never below one: governance sets the floor. Every change is an outcome with its inputs.
"""

from math import isqrt

from clearing.core.risk import addons
from clearing.core.state import InstrumentState, State, UnderlyingState
from clearing.model import ids
from clearing.model.outcomes import MarginAdapted
from clearing.model.params import Adaptive

# 1000 %: beyond any market, and small enough that a variance fits its 128 bits.
_MAX_RETURN = 10 * ids.UNIT


def sample(state: State, under: UnderlyingState) -> None:
    """Take a return, if one is due. Called after every change of the index."""
    rules = state.params.adaptive
    if not rules.interval_us:
        return
    if not under.adapt_index:
        under.variance = rules.baseline_vol**2
        under.adapt_us, under.adapt_index = state.time_us, under.index
        return
    passed = state.time_us - under.adapt_us
    if passed < rules.interval_us:
        return
    before = under.variance
    change = (under.index - under.adapt_index) * ids.UNIT // under.adapt_index
    change = max(-_MAX_RETURN, min(_MAX_RETURN, change))
    under.variance = ewma(before, change * change * ids.DAY_US // passed, rules.decay_ppm, passed // rules.interval_us)
    under.adapt_us, under.adapt_index = state.time_us, under.index
    target = target_ppm(rules, under.factor_ppm, under.variance, rising=under.variance > before)
    factor = ramp(rules, under.factor_ppm, target, min(passed, ids.DAY_US))
    if factor != under.factor_ppm:
        under.factor_ppm = factor
        state.out.append(MarginAdapted(under.id, isqrt(under.variance), target, factor))


def forget(state: State, under: UnderlyingState) -> None:
    """Governance switched it off: back to the governed fractions, and to the baseline if it comes again."""
    if under.factor_ppm != ids.PPM:
        state.out.append(MarginAdapted(under.id, isqrt(under.variance), ids.PPM, ids.PPM))
    under.factor_ppm, under.variance, under.adapt_us, under.adapt_index = ids.PPM, 0, 0, 0


def ewma(variance: int, daily: int, decay_ppm: int, intervals: int) -> int:
    """variance x d^n + daily x (1 - d^n), rounded down, n >= 1; never outside the two."""
    weight = ids.UNIT
    # Powers by squaring in 1e-12; what is left of a year of silence is nothing.
    base, count = decay_ppm * (ids.UNIT // ids.PPM), intervals
    while count and weight:
        if count & 1:
            weight = weight * base // ids.UNIT
        base = base * base // ids.UNIT
        count >>= 1
    return (variance * weight + daily * (ids.UNIT - weight)) // ids.UNIT


def target_ppm(rules: Adaptive, factor: int, variance: int, rising: bool) -> int:
    """Where the factor should go (module rules), ppm; PPM..cap_ppm."""
    full = min(rules.cap_ppm, max(ids.PPM, isqrt(variance) * ids.PPM // rules.baseline_vol))
    bare = max(ids.PPM, full * ids.PPM // (ids.PPM + rules.buffer_ppm))
    if not rising or factor > full:
        return full
    return max(bare, factor)


def ramp(rules: Adaptive, factor: int, target: int, passed_us: int) -> int:
    """One step toward the target; at least one ppm, so that it arrives."""
    day = ids.PPM * ids.DAY_US
    if target > factor:
        return min(target, factor + max(1, factor * rules.up_ppm_per_day * passed_us // day))
    return max(target, factor - max(1, factor * rules.down_ppm_per_day * passed_us // day))


def scale(under: UnderlyingState, inst: InstrumentState) -> None:
    """Put a linear contract's margin fractions in force: adaptive factor, open interest, size; ppm, rounded up."""
    spec, rules = inst.spec, under.spec
    base = min(ids.PPM, -(-spec.imf_ppm * under.factor_ppm // ids.PPM))
    imf = addons.open_interest_imf(base, inst.open_interest * inst.mark, rules.oi_lower_atoms, rules.oi_upper_atoms)
    inst.imf = imf
    inst.mmf = min(imf, -(-spec.mmf_ppm * under.factor_ppm // ids.PPM))
    inst.free_lots = addons.free_lots(imf, rules.size_factor)
