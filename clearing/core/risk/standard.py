# SPDX-License-Identifier: GPL-3.0-or-later
"""Options under standard margin, after Derive's SRM: one expiry of one underlying at a time, pure integers.

The requirements stand against equity at mark, so what a long option is worth is taken out again: a premium
is paid in full, and a long option covers short ones of its expiry and nothing else. Per expiry the smaller
counts, initial and maintenance each for itself:
- isolated: long option: its mark. Short option: initial max(15 % - OTM, 13 %) x S + mark, maintenance
  9 % x S + mark (never above initial), where OTM is how far the strike lies out of the money, in parts of S.
- max loss: what the expiry's book is worth at mark, less its payoff at the worst of 0 and every strike
  (at least 0); and for each call that no long call covers 120 % x S (initial), 110 % x S (maintenance).
  The payoff is linear between these points, and beyond the last strike only uncovered calls lose.

Open orders: each of the two is a maximum of functions that are linear in the fills (a branch per option;
a branch per point with and without the charge for uncovered calls), and so is what fills lose against the
mark. A maximum over subsets of fills is therefore, branch by branch, a sum over orders of max(0, each):
`worst_fill`, exact for either rule. The smaller of both bounds the maximum of the smaller from above.
"""

from collections.abc import Sequence
from operator import mul, sub
from typing import NamedTuple

from clearing.model.ids import BUY, PPM
from clearing.model.params import StandardMargin


class Line(NamedTuple):
    """One option: strike and mark in atoms per lot, and the signed lots held (0: only orders are open)."""

    strike: int
    is_call: bool
    mark: int
    size: int


class Open(NamedTuple):
    """An open order for line number `line`: price in atoms per lot, lots > 0."""

    line: int
    side: int
    price: int
    lots: int


class ExpiryMargin(NamedTuple):
    """Both rules of an expiry, in atoms; `initial` and `maintenance` are what counts."""

    isolated_initial: int
    isolated_maintenance: int
    loss_initial: int
    loss_maintenance: int

    @property
    def initial(self) -> int:
        return min(self.isolated_initial, self.loss_initial)

    @property
    def maintenance(self) -> int:
        return min(self.isolated_maintenance, self.loss_maintenance)

    @property
    def is_isolated(self) -> bool:
        """Is it the isolated rule that decides maintenance?"""
        return self.isolated_maintenance <= self.loss_maintenance


def short_rates(rules: StandardMargin, spot: int, line: Line) -> tuple[int, int]:
    """(initial, maintenance) of a short lot beside its mark, in ppm atoms."""
    out = line.strike - spot if line.is_call else spot - line.strike
    initial = max(rules.short_im_ppm * spot - max(out, 0) * PPM, rules.short_im_floor_ppm * spot)
    return initial, min(initial, rules.short_mm_ppm * spot)


def payoff(line: Line, price: int) -> int:
    """What a lot pays when the expiry settles at `price`; atoms."""
    return max(0, price - line.strike if line.is_call else line.strike - price)


def _points(lines: Sequence[Line]) -> list[int]:
    return [0, *sorted({line.strike for line in lines})]


def expiry_margin(rules: StandardMargin, spot: int, lines: Sequence[Line]) -> ExpiryMargin:
    """Requirements of an expiry's options. `spot`: index or forward of the expiry, atoms per lot."""
    initial = maintenance = uncovered = 0
    for line in lines:
        size = line.size
        if size > 0:
            initial += size * line.mark
            maintenance += size * line.mark
        elif size:
            im_rate, mm_rate = short_rates(rules, spot, line)
            initial += -size * line.mark - size * im_rate // PPM
            maintenance += -size * line.mark - size * mm_rate // PPM
        if line.is_call:
            uncovered -= size
    held = [line for line in lines if line.size]
    worst = max(sum(line.size * (line.mark - payoff(line, point)) for line in held) for point in _points(held))
    loss = max(0, worst)
    notional = max(0, uncovered) * spot
    mm_scale = min(rules.unpaired_im_ppm, rules.unpaired_mm_ppm)
    return ExpiryMargin(
        initial,
        maintenance,
        loss - -notional * rules.unpaired_im_ppm // PPM,
        loss - -notional * mm_scale // PPM,
    )


def worst_fill(rules: StandardMargin, spot: int, lines: Sequence[Line], orders: Sequence[Open]) -> int:
    """At least the largest, over all fills of `orders`, of initial margin plus what the fills lose against
    the mark; atoms. Fills may be partial, in any combination."""
    if not orders:
        return expiry_margin(rules, spot, lines).initial
    # (line, signed lots, loss of the whole fill in ppm atoms)
    fills = []
    for order in orders:
        sign = 1 if order.side == BUY else -1
        fills.append((order.line, sign * order.lots, sign * order.lots * (order.price - lines[order.line].mark) * PPM))
    isolated = _worst_isolated(rules, spot, lines, fills)
    return min(isolated, _worst_loss(rules, spot, lines, fills, isolated))


def _worst_isolated(
    rules: StandardMargin, spot: int, lines: Sequence[Line], fills: Sequence[tuple[int, int, int]]
) -> int:
    longs: list[int] = []
    shorts: list[int] = []
    branches: list[tuple[int, int]] = []
    for line in lines:
        branch = line.mark * PPM, -(line.mark * PPM + short_rates(rules, spot, line)[0])
        branches.append(branch)
        longs.append(line.size * branch[0])
        shorts.append(line.size * branch[1])
    for at, lots, loss in fills:
        long, short = branches[at]
        if lots * long + loss > 0:
            longs[at] += lots * long + loss
        if lots * short + loss > 0:
            shorts[at] += lots * short + loss
    return sum(-(-max(pair) // PPM) for pair in zip(longs, shorts, strict=True))


def _worst_loss(
    rules: StandardMargin, spot: int, lines: Sequence[Line], fills: Sequence[tuple[int, int, int]], enough: int
) -> int:
    """What is found is at least `enough` if it is not the whole: the smaller rule counts, and that is known."""
    naked = [spot * rules.unpaired_im_ppm if line.is_call else 0 for line in lines]
    sizes = [line.size for line in lines]
    points = _points(lines)
    worst = 0
    # What a lot of each line loses from its mark: as settled at a point (the ends, where most is lost, come
    # first), or nothing.
    for point in (points[-1], *points[:-1], None):
        losses = [0 if point is None else (line.mark - payoff(line, point)) * PPM for line in lines]
        for slopes in (list(map(sub, losses, naked)), losses):
            total: int = sum(map(mul, sizes, slopes))
            for at, lots, loss in fills:
                gain = lots * slopes[at] + loss
                if gain > 0:
                    total += gain
            worst = max(worst, total)
            if worst >= enough * PPM:
                return -(-worst // PPM)
    return -(-worst // PPM)
