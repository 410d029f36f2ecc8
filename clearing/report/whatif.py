# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an account is from liquidation, and its P&L across prices and vols.

Rules:
- Everything is asked of `core.margin` on a copy whose prices are moved; vols and time stand still unless said.
- Distance: the nearest move of the index, down and up, at which equity is below maintenance margin. It is looked
  for on a grid and then bisected to 0.01 %; a book that bends twice between two points of the grid may have a
  nearer one.
"""

from collections.abc import Callable

from clearing.core.margin import assess
from clearing.core.state import Account, State
from clearing.model.ids import PPM
from clearing.report.bench import Bench, Move
from clearing.report.frozen import Frozen
from clearing.report.provenance import Figures

# Moves that are tried before bisecting, in percent.
_DOWN = (1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 95, 99)
_UP = (1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 400, 500)
_FINE_PPM = 100
GRID_SPOT = tuple(range(-50, 51, 10))
GRID_VOL = (50, 75, 100, 150, 200)


class DistanceRow(Figures, frozen=True, kw_only=True):
    """Moves (ppm, negative is down) at which equity falls below maintenance; None: no move up to the last tried
    (-99 %, +500 %). `underlying` "*": all at once."""

    underlying: str
    down_ppm: int | None
    up_ppm: int | None


class Grid(Figures, frozen=True, kw_only=True):
    """P&L (atoms) of moves of all spots (percent, columns) by vols in percent of now (rows); `failing` likewise:
    is equity below maintenance there?"""

    spot_percent: tuple[int, ...]
    vol_percent: tuple[int, ...]
    pnl_atoms: tuple[tuple[int, ...], ...]
    failing: tuple[tuple[bool, ...], ...]


def _exposed(account: Account) -> list[int]:
    """Underlyings that move the account: of positions and of collateral."""
    found = {slot.inst.under.id: None for slot in account.slots.values() if slot.size}
    for held in account.holdings.values():
        for under in (held.asset.under, held.asset.reference):
            if under is not None:
                found[under.id] = None
    return list(found)


def distances(state: State, number: int) -> tuple[DistanceRow, ...]:
    """Distance to liquidation of each underlying alone, and of all at once if there are several."""
    exposed = [u for u in _exposed(state.accounts[number]) if state.underlyings[u].index]
    if not exposed or not any(slot.size for slot in state.accounts[number].slots.values()):
        return ()
    copy = Frozen(state).thaw()
    bench = Bench(copy, exposed)
    account = copy.accounts[number]

    def row(symbol: str, moved: list[int]) -> DistanceRow:
        def fails(ppm: int) -> bool:
            bench.move(Move(dict.fromkeys(moved, PPM + ppm)))
            now, _, maintenance = assess(account)
            return now < maintenance

        down, up = nearest(fails, [-p for p in _DOWN]), nearest(fails, list(_UP))
        return DistanceRow(underlying=symbol, down_ppm=down, up_ppm=up)

    rows = [row(state.underlyings[under].spec.symbol, [under]) for under in exposed]
    if len(exposed) > 1:
        rows.append(row("*", exposed))
    return tuple(rows)


def nearest(fails: Callable[[int], bool], percents: list[int]) -> int | None:
    """The smallest move in ppm at which `fails` holds: between the first of `percents` (ascending in size) that
    fails and the one before it, to 0.01 %. The move returned fails; the one 0.01 % nearer does not."""
    if fails(0):
        return 0
    low = 0
    for percent in percents:
        high = percent * PPM // 100
        if fails(high):
            break
        low = high
    else:
        return None
    sign = 1 if high > 0 else -1
    good, bad = abs(low) // _FINE_PPM, abs(high) // _FINE_PPM
    while bad - good > 1:
        middle = (good + bad) // 2
        if fails(sign * middle * _FINE_PPM):
            bad = middle
        else:
            good = middle
    return sign * bad * _FINE_PPM


def grid(state: State, number: int) -> Grid | None:
    """P&L across moves of all spots and vols at once; None without positions in priced markets."""
    exposed = [u for u in _exposed(state.accounts[number]) if state.underlyings[u].index]
    if not exposed or not any(slot.size for slot in state.accounts[number].slots.values()):
        return None
    copy = Frozen(state).thaw()
    bench, account = Bench(copy, exposed), copy.accounts[number]
    start = assess(account)[0]
    pnl, failing = [], []
    for vol in GRID_VOL:
        cells, flags = [], []
        for percent in GRID_SPOT:
            bench.spot(PPM + percent * PPM // 100, vol * PPM // 100)
            now, _, maintenance = assess(account)
            cells.append(now - start)
            flags.append(now < maintenance)
        pnl.append(tuple(cells))
        failing.append(tuple(flags))
    return Grid(spot_percent=GRID_SPOT, vol_percent=GRID_VOL, pnl_atoms=tuple(pnl), failing=tuple(failing))
