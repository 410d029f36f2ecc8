# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio margin of one underlying: what a book must hold, initial and maintenance.

    W           = -min(basis, P&L of every scenario) x concentration
    maintenance = W x mm_factor + C_MM
    initial     = W x (im_factor + depeg) + C_MM + C_IM, over the worst fill subset of the open orders

Rules:
- Requirements are atoms >= 0, rounded up; equity is not in them. The book may trade while equity >= initial.
- C_MM and C_IM: linear contracts and net naked short options at spot, doubtful oracle data, and the haircuts
  of collateral. Collateral that cancels risk moves with spot in every scenario.
- Concentration = max(1, sqrt(|net delta| / depth limit)). Delta is the slope of the P&L between the two
  undamped basis moves, in lots.
- No offset across underlyings: one call per underlying, and the sums are the account's.
"""

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

from clearing.core.risk import scan as scans
from clearing.core.risk.array import RiskArray
from clearing.core.risk.charges import Charges, CollateralLine, Exposure, charges
from clearing.core.risk.fills import Order, order_rows, worst_fill
from clearing.core.risk.market import Market
from clearing.core.risk.scan import Scan, book_of
from clearing.model.ids import BASIS, UNIT
from clearing.model.presets import Preset

__all__ = ["CollateralLine", "PortfolioMargin", "portfolio_margin", "witness"]


class PortfolioMargin(NamedTuple):
    """Atoms. `loss` is W of the positions before concentration, in `scenario` (ids.BASIS: the basis);
    `pnl` per scenario and `basis` are gains, losses negative; `charges` are without open orders;
    `concentration` (1e-12) is the multiplier of W."""

    initial: int
    maintenance: int
    loss: int
    scenario: int
    pnl: tuple[int, ...]
    basis: int
    charges: Charges
    concentration: int


def portfolio_margin(
    preset: Preset,
    array: RiskArray,
    market: Market,
    positions: Sequence[tuple[int, int]],
    collateral: Sequence[CollateralLine] = (),
    stable_price: int = UNIT,
    depth_limit_lots: int = 0,
    orders: Sequence[tuple[int, int, int]] = (),
) -> PortfolioMargin:
    """Margin of positions (instrument id, lots) and open orders (instrument id, signed lots, price).

    `stable_price` (1e-12) drives the depeg rule; `depth_limit_lots` 0 switches concentration off. Raises
    KeyError for an instrument that the array does not have.
    """
    book = book_of(array, positions)
    cancelling = cancelling_pnl(preset, collateral)
    result = scans.scan(array, book, cancelling)
    held: dict[int, int] = dict(zip(book.rows.tolist(), book.lots.tolist(), strict=True))
    plain = charges(preset, array, market, [(row, lots, lots) for row, lots in held.items()], collateral)
    crowd = _concentration(preset, market, depth_limit_lots, result.up - result.down, ())
    maintenance = _ceil(result.loss * preset.mm_factor * crowd, UNIT * UNIT) + plain.maintenance
    depeg = max(0, preset.contingency.peg_threshold - stable_price) * preset.contingency.peg_factor // UNIT
    factor = preset.im_factor + depeg
    if not orders:
        initial = _ceil(result.loss * factor * crowd, UNIT * UNIT) + plain.maintenance + plain.initial
    else:
        initial = _initial_with_orders(
            preset, array, market, (result, cancelling), held, orders, (factor, depth_limit_lots), collateral
        )
    return PortfolioMargin(initial, maintenance, result.loss, result.scenario, result.pnl, result.basis, plain, crowd)


def _initial_with_orders(
    preset: Preset,
    array: RiskArray,
    market: Market,
    scanned: tuple[Scan, list[int]],
    held: dict[int, int],
    orders: Sequence[tuple[int, int, int]],
    scale: tuple[int, int],
    collateral: Sequence[CollateralLine],
) -> int:
    """The larger of bids and asks per instrument for what is not linear, the exact worst subset for the rest."""
    result, cancelling = scanned
    factor, depth_limit_lots = scale
    open_orders = order_rows(array, orders)
    slopes = [order.slope for order in open_orders]
    crowd = _concentration(preset, market, depth_limit_lots, result.up - result.down, slopes)
    worst = worst_fill(array, result, open_orders, cancelling, _ceil(factor * crowd, UNIT))
    extra = charges(preset, array, market, _exposures(held, open_orders), collateral)
    return worst + extra.maintenance + extra.initial


def _exposures(held: dict[int, int], orders: Sequence[Order]) -> list[Exposure]:
    low, high = dict(held), dict(held)
    for order in orders:
        row, lots = order.row, order.lots
        low.setdefault(row, 0)
        high.setdefault(row, 0)
        side = high if lots > 0 else low
        side[row] += lots
    return [(row, least, high[row]) for row, least in low.items()]


def cancelling_pnl(preset: Preset, collateral: Sequence[CollateralLine]) -> list[int]:
    """P&L per scenario of the collateral that cancels risk, rounded down; empty if there is none."""
    value = sum(line.value_atoms for line in collateral if line.risk_cancelling)
    if not value:
        return []
    return [value * move.spot * move.damp // (UNIT * UNIT) for move in preset.scenarios]


def _concentration(preset: Preset, market: Market, limit: int, rise: int, orders: Sequence[int]) -> int:
    """max(1, sqrt(|net delta| / limit)) in 1e-12, rounded up; with orders, at the largest delta they may make."""
    if limit <= 0 or market.spot <= 0:
        return UNIT
    high = rise + sum(slope for slope in orders if slope > 0)
    low = rise + sum(slope for slope in orders if slope < 0)
    square = max(high, -low) * UNIT**3 // ((preset.basis.up - preset.basis.down) * market.spot * limit)
    return max(UNIT, 1 + isqrt(square - 1)) if square > 0 else UNIT


def witness(
    preset: Preset,
    array: RiskArray,
    market: Market,
    positions: Sequence[tuple[int, int]],
    equity: int,
    scenario: int,
    collateral: Sequence[CollateralLine] = (),
    depth_limit_lots: int = 0,
) -> bool:
    """Does this one scenario (or ids.BASIS) prove that equity is below maintenance margin?

    Never true of an account whose maintenance holds; true at its worst scenario if it does not. A scenario
    that the preset does not have proves nothing.
    """
    if not (scenario == BASIS or 0 <= scenario < array.width):
        return False
    extra = cancelling_pnl(preset, collateral)
    loss = scans.loss_at(array, positions, scenario, extra[scenario] if extra and scenario >= 0 else 0)
    crowd = UNIT
    if depth_limit_lots > 0:
        rise = sum(lots * array.slope(array.row_of[instrument_id]) for instrument_id, lots in positions)
        crowd = _concentration(preset, market, depth_limit_lots, rise, ())
    required = _ceil(max(loss, 0) * preset.mm_factor * crowd, UNIT * UNIT)
    if equity < required:
        return True
    held: dict[int, int] = {}
    for instrument_id, lots in positions:
        row = array.row_of[instrument_id]
        held[row] = held.get(row, 0) + lots
    exposures = [(row, lots, lots) for row, lots in held.items()]
    return equity < required + charges(preset, array, market, exposures, collateral).maintenance


def _ceil(value: int, unit: int) -> int:
    return -(-value // unit)
