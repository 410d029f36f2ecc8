# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a margin fraction grow (open interest, size), and collateral's own charge. Pure integer
formulas, rounded up.

Fractions are ppm of notional, capped at 100 %. dYdX v4 (open interest) and FTX/Drift (size) are the models.
"""

from math import isqrt

from clearing.core.risk.charges import CollateralLine
from clearing.model.ids import MAX_LOTS, PPM, UNIT
from clearing.model.presets import Contingency

# 1e-12 factors times the root of lots, in ppm: 1e-12 / 1e-6.
_FACTOR_TO_PPM = 10**6


def open_interest_imf(base_ppm: int, oi_atoms: int, lower: int, upper: int) -> int:
    """min(1, base + max(0, (OI - L) / (U - L)) x (1 - base)) in ppm, rounded up; (0, 0) switches it off.

    `oi_atoms`, `lower`, `upper`: notional in atoms, lower <= upper. Where they meet it is a step.
    """
    if upper <= 0 or oi_atoms <= lower:
        return base_ppm
    if oi_atoms >= upper or base_ppm >= PPM:
        return max(base_ppm, PPM)
    return base_ppm - -(oi_atoms - lower) * (PPM - base_ppm) // (upper - lower)


def size_imf(base_ppm: int, factor: int, lots: int) -> int:
    """max(base, min(1, factor x sqrt(lots))) in ppm, rounded up; `factor` in 1e-12, `lots` >= 0."""
    square = factor * factor * lots
    root = isqrt(square)
    if root * root < square:
        root += 1
    scaled = -(-root // _FACTOR_TO_PPM)
    return max(base_ppm, min(scaled, PPM))


def free_lots(base_ppm: int, factor: int) -> int:
    """The largest size at which `size_imf` still is the base, at most MAX_LOTS."""
    if factor <= 0 or base_ppm >= PPM:
        return MAX_LOTS
    return min(MAX_LOTS, (base_ppm * _FACTOR_TO_PPM) ** 2 // (factor * factor))


def collateral_charge(rule: Contingency, line: CollateralLine, spot_confidence: int) -> tuple[int, int]:
    """(initial, maintenance) charge of collateral under portfolio margin that no position stands beside.

    The haircuts, and for initial margin what doubtful data costs, as `charges` has it; atoms, initial >= maintenance.
    """
    maintenance = -(-line.value_atoms * line.mm_haircut // UNIT)
    initial = maintenance - -line.value_atoms * line.im_haircut // UNIT
    confidence = min(line.confidence, spot_confidence)
    if confidence < min(rule.confidence_threshold, UNIT):
        initial -= -(UNIT - confidence) * rule.confidence_margin * line.value_atoms // (UNIT * UNIT)
    return initial, maintenance
