# SPDX-License-Identifier: GPL-3.0-or-later
"""Open orders under portfolio margin: the worst subset of fills, without trying subsets.

An account may trade while equity >= factor x W + charges for *every* subset of its orders that may fill. In one
scenario an order, if filled, changes equity - factor x W by lots x (mark - price) + factor x lots x P&L, so the
worst subset takes exactly the orders for which that is negative; minimum over subsets and minimum over scenarios
commute. Cost: one vector of scenarios per order, and all orders in one pass where the array is linear.

Exactness:
- Presets without static discount: exact, up to rounding (an atom per order and expiry, against the account,
  and none at all where factors are whole). In a twist of the skew (-|P&L| per expiry) and in the basis
  (min over up, down, none) an order concerns its own expiry only, so the worst sign is found per expiry.
- With a static discount, an order's own discounted P&L is a lower bound of what it adds to a book: the discount
  is concave and positively homogeneous, hence superadditive. The result is then never too mild, and may be too
  strict. A twist is bounded by both signs, the gaining one without its discount.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clearing.core.risk.array import RiskArray
from clearing.core.risk.fixed import Ints
from clearing.core.risk.scan import INT64, GroupSums, Scan, basis_of, cut_of, group_pnl
from clearing.model.ids import UNIT


class Order(NamedTuple):
    """An open order: row, its group, signed lots, gain at mark if filled, and P&L in the basis moves; atoms."""

    row: int
    group: int
    lots: int
    gain: int
    up: int
    down: int

    @property
    def slope(self) -> int:
        """P&L between the two basis moves."""
        return self.up - self.down


def order_rows(array: RiskArray, orders: Sequence[tuple[int, int, int]]) -> list[Order]:
    """Orders (instrument id, signed lots, price) with what the array says of them. Empty orders go."""
    wanted = [(array.row_of[instrument_id], lots, price) for instrument_id, lots, price in orders if lots]
    rows = np.array([row for row, _, _ in wanted], dtype=np.int64)
    known = zip(wanted, array.group_of_row[rows].tolist(), array.pnl[rows, array.width :].tolist(), strict=True)
    return [
        Order(row, group, lots, lots * (array.columns[row].mark - price), lots * up, lots * down)
        for (row, lots, price), group, (up, down) in known
    ]


def worst_fill(array: RiskArray, scan: Scan, orders: Sequence[Order], extra: Sequence[int], factor: int) -> int:
    """max over fill subsets of factor x W - gains of the fills at mark; atoms, rounded up, >= 0.

    `scan` is of the positions, `extra` the P&L per scenario in it that is from elsewhere; `factor` > 0, in 1e-12.
    """
    whole = factor % UNIT == 0
    weight, unit = (factor // UNIT, 1) if whole else (factor, UNIT)
    places = {sums.group.start: (sums, list[Order]()) for sums in scan.sums}
    for order in orders:
        group = array.groups[order.group]
        if group.start not in places:
            places[group.start] = GroupSums(group, [0] * (array.width + 2), [0] * array.width), []
        places[group.start][1].append(order)
    basis = sum(_basis(array, sums, members, weight, unit) for sums, members in places.values())
    if array.linear:
        scenarios = _linear(array, scan.pnl, orders, weight, unit)
    else:
        total = np.array(list(extra) or [0] * array.width, dtype=object) * weight
        for sums, members in places.values():
            total = total + _scenarios(array, sums, members, weight, unit)
        scenarios = total.tolist()
    return -(min(basis, *scenarios) // unit)


def _linear(array: RiskArray, own: Sequence[int], orders: Sequence[Order], weight: int, unit: int) -> list[int]:
    """Where neither skew nor cut tells expiries apart: factor x P&L plus the orders' worst subset, x unit.

    gain x unit + P&L x weight < 0 is P&L < ceil(-gain x unit / weight), so orders are chosen, and their P&L and
    gains summed, by numbers that the factor does not enlarge. Python ints where int64 might not hold a sum.
    """
    if not orders:
        return [gain * weight for gain in own]
    rows, _, lots, gains, _, _ = zip(*orders, strict=True)
    limits = [-(gain * unit // weight) for gain in gains]
    reach = max(sum(map(abs, lots)) * (array.peak + 1), sum(map(abs, gains)), *map(abs, limits))
    kind = np.int64 if reach < INT64 else object
    moves = np.array(lots, dtype=kind)[:, None] * array.pnl.take(rows, axis=0)[:, : array.width]
    chosen = moves < np.array(limits, dtype=kind)[:, None]
    moved = np.add.reduce(moves * chosen, axis=0).tolist()
    gained = (np.array(gains, dtype=kind) @ chosen).tolist()
    return [(held + fill) * weight + gain * unit for held, fill, gain in zip(own, moved, gained, strict=True)]


def _matrix(array: RiskArray, orders: Sequence[Order], weight: int, unit: int) -> tuple[Ints, Ints, Ints]:
    """(lots, gains, P&L rows) of the orders; int64 when no product below can overflow it, else Python ints."""
    reach = sum(abs(order.lots) * (array.peak + 1) * weight + abs(order.gain) * unit for order in orders)
    kind = np.int64 if reach < INT64 else object
    lots = np.array([order.lots for order in orders], dtype=kind)
    gains = np.array([order.gain * unit for order in orders], dtype=kind)
    pnl = array.pnl[[order.row for order in orders]].astype(kind) * lots[:, None]
    return lots, gains, pnl


def _filled(gains: Ints, moves: Ints, weight: int) -> Ints:
    """Sum over orders of the negative part of gain + weight x P&L, per column."""
    total: Ints = np.add.reduce(np.minimum(gains[:, None] + moves * weight, 0), axis=0)
    return total


def _scenarios(array: RiskArray, sums: GroupSums, orders: Sequence[Order], weight: int, unit: int) -> Ints:
    """One expiry's part of factor x P&L plus its orders' worst subset, per scenario, x unit."""
    group, pnl, worth = sums
    width, skews = array.width, list(array.skews)
    own: Ints = np.array(group_pnl(array, group, pnl, worth), dtype=object)
    if not orders:
        own[skews] = -np.abs(own[skews])
        own *= weight
        return own
    lots, gains, moved = _matrix(array, orders, weight, unit)
    linear = moved[:, :width]
    held = linear
    if array.worth is not None and (group.long_cut or group.short_cut):
        value = array.worth[[order.row for order in orders]].astype(object) * lots.astype(object)[:, None]
        cut = [[cut_of(group, entry) for entry in line] for line in value.tolist()]
        held = linear.astype(object) - np.array(cut, dtype=object)
        gains = gains.astype(object)
    result: Ints = own * weight + _filled(gains, held, weight).astype(object)
    if skews:
        turned = np.array([-pnl[s] * weight for s in skews], dtype=object)
        turned = turned + _filled(gains, -linear[:, skews], weight).astype(object)
        result[skews] = np.minimum(result[skews], turned)
    return result


def _basis(array: RiskArray, sums: GroupSums, orders: Sequence[Order], weight: int, unit: int) -> int:
    """One expiry's basis and its orders, x unit: the worst of the up move, the down move and none."""
    up, down = sums.pnl[array.width :]
    if not orders:
        return basis_of(sums.group, up, down) * weight
    factor = sums.group.basis
    none, up, down = 0, (up * factor >> 60) * weight, (down * factor >> 60) * weight
    for order in orders:
        alone = order.gain * unit
        rising = alone + (order.up * factor >> 60) * weight
        falling = alone + (order.down * factor >> 60) * weight
        none += alone if alone < 0 else 0
        up += rising if rising < 0 else 0
        down += falling if falling < 0 else 0
    return min(none, up, down)
