# SPDX-License-Identifier: GPL-3.0-or-later
"""Contingencies of portfolio margin: charges on notional and data quality that no scenario shows.

Rules:
- Every charge is at least 0 and rounds up; initial charges come on top of the maintenance ones.
- Where open orders may change a holding, the larger of |all bids filled| and |all asks filled| counts.
- Confidence below the preset's threshold costs (1 - confidence) x margin x notional, initial only:
  doubtful data may stop new risk, and never liquidates.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clearing.core.risk.array import RiskArray
from clearing.core.risk.market import Market
from clearing.model import ids
from clearing.model.ids import UNIT
from clearing.model.presets import Preset


class CollateralLine(NamedTuple):
    """An asset's counted value in atoms (>= 0) and, in 1e-12, its maintenance haircut, what initial margin
    takes beyond that, and the confidence in its price. `risk_cancelling`: it moves with the underlying."""

    value_atoms: int
    mm_haircut: int
    im_haircut: int
    confidence: int = UNIT
    risk_cancelling: bool = False


Exposure = tuple[int, int, int]
"""A row, and its lots if every ask, and if every bid, of the account fills."""


class Charges(NamedTuple):
    """Atoms. `maintenance` = perp_mm + option_mm + collateral_mm; `initial` is the sum of the others."""

    perp_mm: int
    perp_im: int
    option_mm: int
    option_im: int
    collateral_mm: int
    collateral_im: int
    confidence_im: int

    @property
    def maintenance(self) -> int:
        """C_MM."""
        return self.perp_mm + self.option_mm + self.collateral_mm

    @property
    def initial(self) -> int:
        """C_IM, on top of C_MM."""
        return self.perp_im + self.option_im + self.collateral_im + self.confidence_im


def charges(
    preset: Preset,
    array: RiskArray,
    market: Market,
    exposures: Sequence[Exposure],
    collateral: Sequence[CollateralLine],
) -> Charges:
    """All contingencies of one underlying's book."""
    rule = preset.contingency
    linear = 0
    strikes: dict[tuple[int, int], int] = {}
    by_expiry: dict[int, int] = {}
    perps = 0
    for row, low, high in exposures:
        _, kind, expiry_us, strike, _, _ = array.columns[row]
        lots = high if high > -low else -low
        if kind == ids.OPTION:
            # A long call covers a short put at its strike and the reverse: what is short net, is naked.
            place = (expiry_us, strike)
            strikes[place] = strikes.get(place, 0) + low
        else:
            linear += lots
        if expiry_us:
            by_expiry[expiry_us] = by_expiry.get(expiry_us, 0) + lots
        else:
            perps += lots
    spot = market.spot
    naked = sum(-net for net in strikes.values() if net < 0)
    return Charges(
        _part(linear * spot, rule.mm_perp),
        _part(linear * spot, rule.im_perp),
        _part(naked * spot, rule.mm_option),
        _part(naked * spot, rule.im_option),
        sum(_part(line.value_atoms, line.mm_haircut) for line in collateral),
        sum(_part(line.value_atoms, line.im_haircut) for line in collateral),
        _confidence(preset, market, perps, by_expiry, collateral),
    )


def _part(notional: int, fraction: int) -> int:
    return -(-notional * fraction // UNIT)


def _confidence(
    preset: Preset,
    market: Market,
    perps: int,
    by_expiry: dict[int, int],
    collateral: Sequence[CollateralLine],
) -> int:
    rule = preset.contingency
    threshold, margin = rule.confidence_threshold, rule.confidence_margin

    def charge(confidence: int, notional: int) -> int:
        if confidence >= threshold or confidence >= UNIT:
            return 0
        return -(-(UNIT - confidence) * margin * notional // (UNIT * UNIT))

    spot = market.spot_confidence
    # Whoever holds the perpetual relies on its price too, in every expiry.
    base = min(spot, market.perp_confidence) if perps else spot
    total = charge(base, perps * market.spot)
    for expiry_us, lots in by_expiry.items():
        known = market.expiries.get(expiry_us)
        least = base
        if known is not None:
            least = min(base, known.forward_confidence, known.rate_confidence, known.vol_confidence)
        total += charge(least, lots * market.spot)
    return total + sum(charge(min(line.confidence, spot), line.value_atoms) for line in collateral)
