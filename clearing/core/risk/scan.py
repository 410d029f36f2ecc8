# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan risk: what a book gains or loses in each scenario of a risk array, and its worst.

Rules:
- Exact integers everywhere. Where an account could overflow int64 the same lines run on Python ints
  (numpy's object arrays); which of the two it was cannot be seen in any result.
- A book's P&L in scenario s = sum over expiries of (sum(q x pnl) - cut), in a twist of the skew -|that|.
  Cuts round against the account.
- The basis: per expiry min(0, up, down) x the expiry's factor, rounded down, summed.
- The worst loss W = -min(basis, scenarios) is never negative, since the basis is never positive.
"""

from collections.abc import Sequence
from operator import add
from typing import NamedTuple

import numpy as np

from clearing.core.risk.array import Group, Int64s, RiskArray
from clearing.core.risk.fixed import Ints
from clearing.model.ids import BASIS

# A sum of lots x the array's largest entry below this stays inside int64, whatever the order of adding.
INT64 = 1 << 62


class Book(NamedTuple):
    """Rows (ascending, each once) and lots of one account; `lots` is of dtype object beyond int64's reach."""

    rows: Int64s
    lots: Ints


class GroupSums(NamedTuple):
    """An expiry with its sums of q x pnl (all columns) and of q x worth (empty without cuts)."""

    group: Group
    pnl: list[int]
    worth: list[int]


class Scan(NamedTuple):
    """P&L per scenario, the basis, and the worst loss W >= 0 with its scenario (BASIS if that is worst).

    `sums`: the expiries that it is made of, in the order of rows; `up`, `down`: their basis moves, summed.
    """

    pnl: tuple[int, ...]
    basis: int
    loss: int
    scenario: int
    up: int
    down: int
    sums: Sequence[GroupSums]


def book_of(array: RiskArray, positions: Sequence[tuple[int, int]]) -> Book:
    """Look up the rows of (instrument id, signed lots); several of one instrument add up, flat ones go.

    Raises KeyError for an instrument that the array does not have.
    """
    held: dict[int, int] = {}
    row_of = array.row_of
    for instrument_id, lots in positions:
        row = row_of[instrument_id]
        held[row] = held.get(row, 0) + lots
    rows = sorted(row for row, lots in held.items() if lots)
    return Book(np.array(rows, dtype=np.int64), fit_lots(array, [held[row] for row in rows]))


def fit_lots(array: RiskArray, lots: list[int]) -> Ints:
    """Lots as int64 if no sum over the array can overflow, else as Python ints."""
    safe = sum(map(abs, lots)) * (array.peak + 1) < INT64
    return np.array(lots, dtype=np.int64 if safe else object)


def scan_risk(array: RiskArray, rows: Int64s, lots: Ints) -> int:
    """-min over scenarios of the book's P&L, at least 0; atoms. The fast question, for a `Book`'s arrays."""
    if len(rows) == 0:
        return 0
    if not array.linear:
        return max(0, -min(scan(array, Book(rows, lots)).pnl))
    sums = lots @ _taken(array.pnl, rows, lots)
    return max(0, -int(sums[: array.width].min()))


def _taken(part: Int64s, rows: Int64s, lots: Ints) -> Ints:
    taken = part.take(rows, axis=0)
    return taken.astype(object) if lots.dtype == object else taken


def group_sums(array: RiskArray, book: Book) -> list[GroupSums]:
    """The sums of every expiry held, in the order of rows."""
    rows, lots = book
    if len(rows) == 0:
        return []
    members = array.group_of_row[rows]
    starts = np.concatenate((np.zeros(1, dtype=np.int64), np.flatnonzero(members[1:] != members[:-1]) + 1))
    weight = lots[:, None]
    pnl = np.add.reduceat(weight * _taken(array.pnl, rows, lots), starts, axis=0).tolist()
    worth: list[list[int]] = [[]] * len(pnl)
    if array.worth is not None:
        worth = np.add.reduceat(weight * _taken(array.worth, rows, lots), starts, axis=0).tolist()
    groups = [array.groups[index] for index in members[starts].tolist()]
    return list(map(GroupSums, groups, pnl, worth))


def cut_of(group: Group, worth: int) -> int:
    """What the static discount takes from an option value; atoms, rounded up (>= 0 in a valid preset)."""
    cut = group.long_cut if worth >= 0 else group.short_cut
    return -(-abs(worth) * cut >> 60)


def group_pnl(array: RiskArray, group: Group, pnl: list[int], worth: list[int]) -> list[int]:
    """One expiry's P&L per scenario before the rule for skews (both columns of the basis left out)."""
    if not worth or not (group.long_cut or group.short_cut):
        return pnl[: array.width]
    return [gain - cut_of(group, value) for gain, value in zip(pnl, worth, strict=False)]


def basis_of(group: Group, up: int, down: int) -> int:
    """The expiry's basis contingency as P&L <= 0."""
    return min(up, down, 0) * group.basis >> 60


def scan(array: RiskArray, book: Book, extra: Sequence[int] = ()) -> Scan:
    """Scan a book; `extra` is P&L per scenario from elsewhere (collateral that cancels risk)."""
    width = array.width
    total = list(extra) or [0] * width
    basis = up = down = 0
    sums = group_sums(array, book)
    for group, pnl, worth in sums:
        gains = pnl
        if not array.linear:
            gains = group_pnl(array, group, pnl, worth)
            for s in array.skews:
                gains[s] = -abs(gains[s])
        total = list(map(add, total, gains))  # the basis columns that may end `gains` find no partner
        basis += basis_of(group, pnl[width], pnl[width + 1])
        up += pnl[width]
        down += pnl[width + 1]
    worst = min(total)
    if worst < basis:
        return Scan(tuple(total), basis, -worst, total.index(worst), up, down, sums)
    return Scan(tuple(total), basis, -basis, BASIS, up, down, sums)


def loss_at(array: RiskArray, positions: Sequence[tuple[int, int]], scenario: int, extra: int = 0) -> int:
    """Loss (positive) of the positions in one scenario, or in the basis (ids.BASIS); atoms.

    A few steps per position and no numpy: enough to check a witness. `extra` as in `scan`.
    """
    width = array.width
    sums: dict[int, list[int]] = {}
    for instrument_id, lots in positions:
        row = array.row_of[instrument_id]
        acc = sums.setdefault(int(array.group_of_row[row]), [0, 0])
        if scenario == BASIS:
            acc[0] += lots * int(array.pnl[row, width])
            acc[1] += lots * int(array.pnl[row, width + 1])
        else:
            acc[0] += lots * int(array.pnl[row, scenario])
            if array.worth is not None:
                acc[1] += lots * int(array.worth[row, scenario])
    gain = 0 if scenario == BASIS else extra
    for index, (first, second) in sums.items():
        group = array.groups[index]
        if scenario == BASIS:
            gain += basis_of(group, first, second)
            continue
        part = first - cut_of(group, second)
        gain += -abs(part) if scenario in array.skews else part
    return -gain
