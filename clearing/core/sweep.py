# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is liquidatable: all accounts at once, with the same answer as one by one.

Rules:
- Columns bound from above how far each account is from trouble; whoever is not clear of it is asked exactly
  (`liquidation.is_liquidatable`, which also knows when data is too old to liquidate anyone). The bound only
  saves time: it never leaves out a liquidatable account.
- Bound, standard margin: maintenance lot by lot, options as isolated, no collateral counted. Portfolio margin:
  the exact worst loss of `risk.sweep`, with charges lot by lot; accounts with collateral, with contracts that no
  array covers, or beyond the depth limit are asked exactly. So is whoever int64 might not hold.
- Columns are built once. Accounts whose margin changed since are asked exactly, until so many have changed that
  building is cheaper. Prices, funding and arrays are read at each run.
- Accounts are independent: any sharding gives the same list, ascending by account number.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clearing.core import liquidation
from clearing.core.margin import witness
from clearing.core.risk.array import Int64s
from clearing.core.risk.fixed import scaled
from clearing.core.risk.standard import Line, short_rates
from clearing.core.risk.sweep import sweep as scan_all
from clearing.core.state import Account, InstrumentState, State, UnderlyingState
from clearing.model import ids
from clearing.model.ids import PPM, UNIT
from clearing.model.outcomes import MarginChanged, Outcome

Flags = NDArray[np.bool_]

# Figures below this leave room for a few additions in int64.
_SAFE = 1 << 60
# Columns are rebuilt when one account in so many (and at least so many) has changed.
_STALE_SHARE = 10
_STALE_LEAST = 500


def sweep(state: State) -> list[tuple[int, int]]:
    """(account number, witness scenario) of every liquidatable account, ascending."""
    return Sweeper(state).run()


class Sweeper:
    """Columns of a state's accounts, kept from sweep to sweep; hand it the outcomes of every entry (`note`).

    `numbers`: the accounts of this shard, ascending (None: all, new ones as they come).
    """

    def __init__(self, state: State, numbers: Sequence[int] | None = None) -> None:
        self._state = state
        self._numbers = numbers
        self._shard = dict.fromkeys(numbers or ())
        self._changed: dict[int, bool] = {}
        self._build()

    def _build(self) -> None:
        state, chosen = self._state, self._numbers
        self._changed = {}
        self._built = len(state.accounts)
        self._instruments = list(state.instruments.values())
        self._index = {inst.id: at for at, inst in enumerate(self._instruments)}
        accounts = state.accounts if chosen is None else [state.accounts[number] for number in chosen]
        standard, portfolio = _Rows(self._index), _Rows(self._index)
        for account in accounts:
            if account.number >= ids.HOUSE_ACCOUNTS:
                (portfolio if account.mode == ids.PORTFOLIO else standard).add(account)
        self._standard, self._portfolio = standard.columns(), portfolio.columns()

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Learn from an entry's outcomes whose margin changed."""
        for outcome in outcomes:
            if isinstance(outcome, MarginChanged):
                self._changed[outcome.account] = True

    def run(self) -> list[tuple[int, int]]:
        """(account number, witness scenario) of every liquidatable account of the shard, ascending."""
        state = self._state
        listed = list(state.instruments.values())
        same = len(listed) == len(self._instruments) and all(
            a is b for a, b in zip(listed, self._instruments, strict=True)
        )
        if not same or len(self._changed) > max(_STALE_LEAST, self._built // _STALE_SHARE):
            self._build()
        found = {}
        for number in self._candidates():
            account = state.accounts[number]
            if not liquidation.is_liquidatable(state, account):
                found[number] = witness(account)[0]
        return sorted(found.items())

    def _candidates(self) -> list[int]:
        """Everyone who may be liquidatable; ascending, each once."""
        asked = list(self._changed)
        if self._numbers is None:
            asked.extend(range(self._built, len(self._state.accounts)))
        else:
            asked = [number for number in asked if number in self._shard]
        prices = [inst.mark - inst.funding_index for inst in self._instruments]
        asked.extend(_standard_suspects(self._standard, self._instruments, prices))
        asked.extend(_portfolio_suspects(self._portfolio, self._state, self._instruments, prices))
        return [number for number in sorted(dict.fromkeys(asked)) if number >= ids.HOUSE_ACCOUNTS]


class _Columns(NamedTuple):
    """Accounts as columns, positions as a compressed sparse matrix: account i holds `lots[starts[i]:starts[i+1]]`
    of the instruments at `places[...]`. `base`: cash, less pledge, plus funding paid in advance; atoms. `size`:
    lots in all. `exact`: ask this account exactly (its base and lots here are then 0)."""

    numbers: Int64s
    base: Int64s
    size: Int64s
    exact: Int64s
    starts: Int64s
    places: Int64s
    lots: Int64s

    def sums(self, products: Int64s) -> Int64s:
        """Per account, the sum over its positions. Running sums may wrap around, their differences do not."""
        running = np.zeros(len(products) + 1, dtype=np.int64)
        np.cumsum(products, out=running[1:])
        result: Int64s = running[self.starts[1:]] - running[self.starts[:-1]]
        return result


class _Rows:
    """Columns while they are collected."""

    def __init__(self, index: dict[int, int]) -> None:
        self._index = index
        self._accounts: list[tuple[int, int, int, bool]] = []
        self._starts = [0]
        self._places: list[int] = []
        self._lots: list[int] = []

    def add(self, account: Account) -> None:
        base, size = account.cash - account.pledged, 0
        index, places, lots = self._index, self._places, self._lots
        for slot in account.slots.values():
            held = slot.size
            if held:
                base += held * slot.funding
                size += abs(held)
                places.append(index[slot.inst.id])
                lots.append(held)
        exact = abs(base) >= _SAFE or size >= _SAFE or (account.mode == ids.PORTFOLIO and bool(account.holdings))
        if exact:
            del places[self._starts[-1] :], lots[self._starts[-1] :]
            base = size = 0
        self._starts.append(len(places))
        self._accounts.append((account.number, base, size, exact))

    def columns(self) -> _Columns:
        rows = np.array(self._accounts, dtype=np.int64).reshape(-1, 4)
        return _Columns(*rows.T, *(np.array(part, dtype=np.int64) for part in (self._starts, self._places, self._lots)))


def _within(columns: _Columns, peak: int) -> Flags:
    """Accounts of which no sum of lots x (at most `peak`) passes _SAFE."""
    result: Flags = (columns.exact == 0) & (columns.size <= _SAFE // (peak + 1))
    return result


# --- standard margin ---------------------------------------------------------------------------


def _lot_rates(inst: InstrumentState) -> tuple[int, int]:
    """Maintenance of a long and of a short lot, at least; atoms."""
    if inst.kind != ids.OPTION:
        rate = -(-inst.mark * inst.mmf // PPM)
        return rate, rate
    expiry, spec = inst.expiry, inst.spec
    spot = (expiry.forward if expiry is not None else 0) or inst.under.index
    line = Line(spec.strike_atoms, spec.is_call, inst.mark, 0)
    return inst.mark, inst.mark - -short_rates(inst.venue.params.standard, spot, line)[1] // PPM


def _standard_suspects(columns: _Columns, instruments: Sequence[InstrumentState], prices: list[int]) -> list[int]:
    if not len(columns.numbers):
        return []
    rates = [_lot_rates(inst) for inst in instruments]
    peak = max([abs(price) for price in prices] + [max(pair) for pair in rates], default=0)
    if peak >= _SAFE:
        return list(columns.numbers.tolist())
    price = np.array(prices, dtype=np.int64)
    table = np.array(rates, dtype=np.int64).reshape(-1, 2)
    fine = _within(columns, peak)
    lots = columns.lots * np.repeat(fine, np.diff(columns.starts))
    equity = columns.base + columns.sums(lots * price[columns.places])
    needed = np.where(lots > 0, lots * table[columns.places, 0], -lots * table[columns.places, 1])
    suspects = columns.numbers[~fine | (equity < columns.sums(needed))]
    return list(suspects.tolist())


# --- portfolio margin --------------------------------------------------------------------------


def _portfolio_suspects(
    columns: _Columns, state: State, instruments: Sequence[InstrumentState], prices: list[int]
) -> list[int]:
    if not len(columns.numbers):
        return []
    unders = list(state.underlyings.values())
    peaks = [32 * under.array.peak + under.market.spot for under in unders if under.array and under.market]
    peak = max([abs(price) for price in prices] + peaks, default=0)  # 32: maintenance is at most 10 x W
    if peak >= _SAFE:
        return list(columns.numbers.tolist())
    fine = _within(columns, peak)
    owner = np.repeat(np.arange(len(columns.numbers), dtype=np.int64), np.diff(columns.starts))
    lots = columns.lots * fine[owner]
    spare = columns.base + columns.sums(lots * np.array(prices, dtype=np.int64)[columns.places])
    rows = np.array([_row_of(inst) for inst in instruments], dtype=np.int64)[columns.places]
    fine[owner[rows < 0]] = False
    place_of = {under.id: at for at, under in enumerate(unders)}
    whose = np.array([place_of[inst.under.id] for inst in instruments], dtype=np.int64)[columns.places]
    for at, under in enumerate(unders):
        mine = (whose == at) & (lots != 0) & fine[owner]
        if mine.any():
            counts = np.bincount(owner[mine], minlength=len(columns.numbers))
            starts = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
            part = columns._replace(starts=starts, lots=lots[mine])
            needed, crowded = _scan_bound(state, under, part, rows[mine])
            spare = spare - needed
            fine &= ~crowded
    suspects = columns.numbers[~fine | (spare < 0)]
    return list(suspects.tolist())


def _row_of(inst: InstrumentState) -> int:
    array = inst.under.array
    return array.row_of.get(inst.id, -1) if array is not None and inst.under.market is not None else -1


def _scan_bound(state: State, under: UnderlyingState, part: _Columns, rows: Int64s) -> tuple[Int64s, Flags]:
    """(maintenance of every account in one underlying, at least; whose net delta passes the depth limit)."""
    array, market = under.array, under.market
    assert array is not None and market is not None, "only scanned contracts come here"
    preset = state.params.presets[under.spec.preset]
    lots = part.lots
    worst = scan_all(array, part.starts, rows, lots)
    factor = -(-(preset.mm_factor << 60) // UNIT)
    rule = preset.contingency
    linear = -(-market.spot * rule.mm_perp // UNIT)
    naked = -(-market.spot * rule.mm_option // UNIT)
    is_option = np.array([column.kind == ids.OPTION for column in array.columns], dtype=np.bool_)[rows]
    charge = part.sums(np.where(is_option, np.maximum(-lots, 0) * naked, np.abs(lots) * linear))
    crowded: Flags = np.zeros(len(part.numbers), dtype=np.bool_)
    if under.spec.depth_lots > 0:
        slope = array.pnl[rows, array.width] - array.pnl[rows, array.width + 1]
        limit = (preset.basis.up - preset.basis.down) * market.spot * under.spec.depth_lots // UNIT
        crowded = np.abs(part.sums(lots * slope)) > min(limit, _SAFE)
    return scaled(worst, [factor], up=True) + charge, crowded
