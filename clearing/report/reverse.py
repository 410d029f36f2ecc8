# SPDX-License-Identifier: GPL-3.0-or-later
"""Reverse stress: how far prices may go before each tranche of the waterfall is exhausted.

Rule: the smallest uniform move within ten minutes, to 0.1 %, down to -75 % and up to +300 %. The figures name a move
that exhausts the tranche and the one 0.1 % smaller that does not, both run; that every larger one does as well is
likely, and not proven.
"""

from collections.abc import Callable
from typing import Final

from clearing.report.frozen import Frozen
from clearing.report.history import Read
from clearing.report.provenance import Figures, Provenance
from clearing.report.scenarios import uniform
from clearing.report.stress import TRANCHES, run_on

_FINE_PPM: Final = 1_000
_MAX_DOWN_PPM: Final = -750_000
_MAX_UP_PPM: Final = 3_000_000
_TRIED: Final = (10, 20, 40, 70, 110, 160, 230, 320, 430, 570, 750, 1_000, 1_400, 2_000, 3_000)


class ReverseRow(Figures, frozen=True, kw_only=True):
    """The smallest move found that exhausts a tranche, and the next smaller one, which does not; None: none does
    within the bounds. 0: it is empty, and asked, without any move."""

    tranche: int
    name: str
    down_ppm: int | None
    down_holds_ppm: int | None
    up_ppm: int | None
    up_holds_ppm: int | None


class ReverseReport(Figures, frozen=True, kw_only=True):
    provenance: Provenance
    runs: int
    rows: tuple[ReverseRow, ...]


def reverse(found: Read) -> ReverseReport:
    """The smallest uniform move, down and up, that exhausts each tranche."""
    base = Frozen(found.state)
    depths: dict[int, int] = {}

    def depth(move_ppm: int) -> int:
        if move_ppm not in depths:
            depths[move_ppm] = run_on(base.thaw(), uniform(move_ppm), found.provenance).depth
        return depths[move_ppm]

    rows = []
    for tranche, name in TRANCHES.items():
        down, down_holds = _smallest(depth, tranche, -1, _MAX_DOWN_PPM)
        up, up_holds = _smallest(depth, tranche, 1, _MAX_UP_PPM)
        rows.append(
            ReverseRow(
                tranche=tranche, name=name, down_ppm=down, down_holds_ppm=down_holds, up_ppm=up, up_holds_ppm=up_holds
            )
        )
    return ReverseReport(provenance=found.provenance, runs=len(depths), rows=tuple(rows))


def _smallest(depth: Callable[[int], int], tranche: int, sign: int, limit: int) -> tuple[int | None, int | None]:
    """(smallest move found that exhausts the tranche, the one a step smaller that does not)."""

    def exhausts(move_ppm: int) -> bool:
        return depth(move_ppm) > tranche

    if exhausts(0):
        return 0, None
    low, high = 0, 0
    for tried in _TRIED:
        high = tried * _FINE_PPM
        if high > abs(limit):
            return None, None
        if exhausts(sign * high):
            break
        low = high
    else:
        return None, None
    while high - low > _FINE_PPM:
        middle = (low + high) // 2 // _FINE_PPM * _FINE_PPM
        if exhausts(sign * middle):
            high = middle
        else:
            low = middle
    return sign * high, sign * low
