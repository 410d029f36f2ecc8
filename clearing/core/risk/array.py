# SPDX-License-Identifier: GPL-3.0-or-later
"""The risk array: what one lot of each instrument gains or loses in each scenario, as integers.

Built once per price or vol update and read by every margin check; the SPAN architecture.

Rules:
- `pnl[row, s]` is damping x (discounted shocked value - mark), atoms per lot, rounded to nearest, the same
  for long and short. Two further columns hold the undamped basis moves, up and down. Every sum over an
  account is therefore exact integer arithmetic, and scan risk is linear in the lots.
- What is not linear is kept apart: a static discount works on an expiry's option value, so `worth[row, s]`
  (damping x shocked value; 0 for linear contracts) and the expiry's two cuts are held beside it, and an
  expiry's P&L is sum(q x pnl) - |sum(q x worth)| x cut. Without cuts `worth` is absent.
- Each row depends on its own column and on the market alone: building columns one by one gives the same bits.
- Rows ascend by (expiry, instrument id), so that the rows of an expiry are one slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clearing.core.risk import kernel, shocks
from clearing.core.risk.fixed import ONE, scaled, scaled_signed
from clearing.core.risk.market import Expiry, Market
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.presets import SKEW_LINEAR, VOL_DOWN, VOL_SAME, VOL_UP, Preset, Scenario

Int64s = NDArray[np.int64]

# Sums of two such numbers, times any lots that pass the portfolio's own bound, stay inside int64.
_MAX_ATOMS = 1 << 61
# No vol outgrows 62 bits: far below that an option is worth its forward or its strike.
_MAX_VOL = 1 << 61


class Column(NamedTuple):
    """An instrument to shock. Strike and mark: atoms per lot; `expiry_us` is 0 for perpetuals."""

    instrument_id: int
    kind: int
    expiry_us: int
    strike: int
    is_call: bool
    mark: int


class Group(NamedTuple):
    """The rows of one expiry (0: perpetuals): slice, cuts of the static discount and basis factor (Q60)."""

    expiry_us: int
    start: int
    stop: int
    long_cut: int
    short_cut: int
    basis: int


class RiskArray:
    """See the module's rules. `width` scenarios; columns `width` and `width + 1` of `pnl` are the basis moves.

    `skews` are the scenarios in which each expiry counts as -|P&L|. `linear`: neither skew nor cut, so a
    book's scenario P&L is one integer product. `peak` bounds the size of every entry.
    """

    __slots__ = (
        "_digest",
        "columns",
        "group_of_row",
        "groups",
        "linear",
        "marks",
        "peak",
        "pnl",
        "preset_name",
        "row_of",
        "skews",
        "width",
        "worth",
    )

    def __init__(
        self,
        preset: Preset,
        columns: tuple[Column, ...],
        groups: tuple[Group, ...],
        pnl: Int64s,
        worth: Int64s | None,
    ) -> None:
        self.preset_name = preset.name
        self.columns = columns
        self.groups = groups
        self.marks: Int64s = np.array([column.mark for column in columns], dtype=np.int64)
        self.row_of = {column.instrument_id: row for row, column in enumerate(columns)}
        self.group_of_row: Int64s = np.repeat(
            np.arange(len(groups), dtype=np.int64), [group.stop - group.start for group in groups]
        )
        self.pnl = pnl
        self.worth = worth
        self.width = len(preset.scenarios)
        self.skews = tuple(s for s, move in enumerate(preset.scenarios) if move.vol >= SKEW_LINEAR)
        self.linear = worth is None and not self.skews
        self.peak = max(_size(pnl), _size(worth), _size(self.marks))
        self._digest = b""

    def slope(self, row: int) -> int:
        """P&L of one lot between the basis moves, up less down; atoms. Delta x the distance of the moves."""
        return int(self.pnl[row, self.width]) - int(self.pnl[row, self.width + 1])

    @property
    def digest(self) -> bytes:
        """SHA-256 over the array itself, whatever it was built from: a third party's must be equal."""
        if not self._digest:
            state = hashlib.sha256(b"novate/risk-array/v1\n" + self.preset_name.encode() + b"\n")
            for group in self.groups:
                # Cuts are Q60 and may exceed 64 bits under odd parameters; decimal text has no width.
                state.update(repr(tuple(group)).encode() + b"\n")
            ids_of_rows = np.array(list(self.row_of), dtype=np.int64)
            for part in (ids_of_rows, self.marks, self.pnl, self.worth):
                if part is not None:
                    state.update(part.astype(">i8").tobytes())
            self._digest = state.digest()
        return self._digest


def _size(part: Int64s | None) -> int:
    if part is None or part.size == 0:
        return 0
    return max(int(part.max()), -int(part.min()))


def build(preset: Preset, market: Market, columns: Sequence[Column]) -> RiskArray:
    """Shock every column. Raises NovateError NO_MARK_PRICE without data for an option's expiry, and
    INVALID_PARAMS for an id that comes twice or numbers beyond int64."""
    rows = tuple(sorted(columns, key=attrgetter("expiry_us", "instrument_id")))
    if len({row.instrument_id for row in rows}) != len(rows):
        raise NovateError("INVALID_PARAMS", "an instrument has two columns; give each one")
    groups: list[Group] = []
    start = 0
    for expiry_us, members in groupby(rows, attrgetter("expiry_us")):
        stop = start + len(list(members))
        groups.append(_group(preset, market, expiry_us, start, stop))
        start = stop
    moves = _moves(preset)
    pnl = np.zeros((len(rows), len(moves)), dtype=np.int64)
    cut = any(group.long_cut or group.short_cut for group in groups)
    worth = np.zeros((len(rows), len(preset.scenarios)), dtype=np.int64) if cut else None
    try:
        if any(abs(column.mark) >= _MAX_ATOMS for column in rows):
            raise OverflowError("a mark of 2^61 or more")
        for row, column in enumerate(rows):
            if column.kind != ids.OPTION:
                pnl[row] = _linear_row(market, column, moves)
        _fill_options(preset, market, rows, groups, pnl, worth)
        if worth is not None:
            for group in groups:
                if not (group.long_cut or group.short_cut):  # else a row would show whether others are cut
                    worth[group.start : group.stop] = 0
    except OverflowError as problem:
        what = f"the risk array outgrows 64 bits ({problem}); use larger lots or atoms"
        raise NovateError("INVALID_PARAMS", what) from problem
    return RiskArray(preset, rows, tuple(groups), pnl, worth)


def _moves(preset: Preset) -> tuple[Scenario, ...]:
    basis = preset.basis
    return (*preset.scenarios, Scenario(basis.up, VOL_SAME), Scenario(basis.down, VOL_SAME))


def _group(preset: Preset, market: Market, expiry_us: int, start: int, stop: int) -> Group:
    if expiry_us == 0:
        return Group(0, start, stop, 0, 0, 0)
    tau_us = market.tau_us(expiry_us)
    known = market.expiries.get(expiry_us)
    cuts = shocks.static_cuts(known.rate if known else 0, tau_us, market.discount(expiry_us), preset)
    return Group(expiry_us, start, stop, *cuts, shocks.basis_factor(tau_us, preset))


def _linear_row(market: Market, column: Column, moves: tuple[Scenario, ...]) -> list[int]:
    """P&L of a perpetual or future: it moves with spot, a settling future only by its variable part."""
    price = column.mark
    if column.kind == ids.FUTURE:
        price = market.split(price, column.expiry_us)[1]
    square = ids.UNIT * ids.UNIT
    out = [0] * len(moves)
    for at, move in enumerate(moves):
        size = (abs(price * move.spot) * move.damp * 2 + square) // (2 * square)
        if size >= _MAX_ATOMS:
            raise OverflowError(f"instrument {column.instrument_id} moves by {size} atoms a lot")
        out[at] = -size if price * move.spot < 0 else size
    return out


def _fill_options(
    preset: Preset,
    market: Market,
    rows: tuple[Column, ...],
    groups: list[Group],
    pnl: Int64s,
    worth: Int64s | None,
) -> None:
    """Value all options in all scenarios by one call of the kernel, then discount, damp and subtract the mark."""
    which = [row for row, column in enumerate(rows) if column.kind == ids.OPTION]
    if not which:
        return
    held = [group for group in groups if any(rows[r].kind == ids.OPTION for r in range(group.start, group.stop))]
    data = {group.expiry_us: market.expiry(group.expiry_us) for group in held}
    place = {expiry_us: at for at, expiry_us in enumerate(data)}
    options = [rows[row] for row in which]
    spot = [place[option.expiry_us] for option in options]
    at = np.array(spot, dtype=np.int64)
    moves = _moves(preset)
    forwards = np.array([_forwards(market, expiry, moves) for expiry in data.values()], dtype=np.int64)
    taus = np.array([market.tau_us(expiry_us) for expiry_us in data], dtype=np.int64)
    strikes = np.array([option.strike for option in options], dtype=np.int64)
    calls = np.array([option.is_call for option in options], dtype=np.bool_)
    vols = _vols(preset, market, options, data, moves)
    value = kernel.values(forwards[at], strikes[:, None], vols, taus[at][:, None], calls[:, None])
    discounts = [market.discount(expiry_us) for expiry_us in data]
    if any(discount != ONE for discount in discounts):
        value = scaled(value, [discounts[index] for index in spot])
    marks = np.array([option.mark for option in options], dtype=np.int64)
    moved = value - marks[:, None]
    damped = [s for s, move in enumerate(preset.scenarios) if move.damp != ids.UNIT]
    if damped:
        factors = [preset.scenarios[s].damp * ONE // ids.UNIT for s in damped]
        moved[:, damped] = scaled_signed(moved[:, damped].T, factors).T
        value[:, damped] = scaled(value[:, damped].T, factors).T
    pnl[which] = moved
    if worth is not None:
        worth[which] = value[:, : len(preset.scenarios)]


def _forwards(market: Market, expiry: Expiry, moves: tuple[Scenario, ...]) -> list[int]:
    fixed, variable = market.split(expiry.forward, expiry.expiry_us)
    half = ids.UNIT // 2
    # A forward of nothing has no logarithm; one atom is as near as a price comes.
    return [max(1, fixed + (variable * (ids.UNIT + move.spot) + half) // ids.UNIT) for move in moves]


def _vols(
    preset: Preset,
    market: Market,
    options: list[Column],
    data: dict[int, Expiry],
    moves: tuple[Scenario, ...],
) -> Int64s:
    """Vol of every option in every scenario, 1e-12; only the directions that occur are computed."""
    plain = [data[option.expiry_us].vol_at(option.strike) for option in options]
    base = np.array(plain, dtype=np.int64)
    kinds = sorted({move.vol for move in moves})
    limit = _MAX_VOL * ONE // max(1, *plain)
    factors = {
        expiry_us: [min(limit, factor) for factor in shocks.vol_factors(market.tau_us(expiry_us), preset.vol)]
        for expiry_us in data
    }
    table = np.empty((len(options), len(kinds)), dtype=np.int64)
    for index, kind in enumerate(kinds):
        if kind == VOL_SAME:
            table[:, index] = base
        elif kind == VOL_UP:
            raised = scaled(base, [factors[option.expiry_us][0] for option in options])
            table[:, index] = np.maximum(raised, preset.vol.min_vol)
        elif kind == VOL_DOWN:
            table[:, index] = scaled(base, [factors[option.expiry_us][1] for option in options])
        else:
            table[:, index] = _skewed(preset, market, options, data, plain, kind)
    position = {kind: index for index, kind in enumerate(kinds)}
    chosen: Int64s = table[:, [position[move.vol] for move in moves]]
    return chosen


def _skewed(
    preset: Preset,
    market: Market,
    options: list[Column],
    data: dict[int, Expiry],
    plain: list[int],
    kind: int,
) -> list[int]:
    shapes = {expiry_us: shocks.skew_shape(market.tau_us(expiry_us), kind, preset.skew) for expiry_us in data}
    strikes = np.array([option.strike for option in options], dtype=np.int64)
    forwards = np.array([data[option.expiry_us].forward for option in options], dtype=np.int64)
    logs = kernel.log_ratios(strikes, forwards).tolist()
    return [
        min(_MAX_VOL, shocks.skewed_vol(vol, log, kind, *shapes[option.expiry_us]))
        for vol, log, option in zip(plain, logs, options, strict=True)
    ]
