# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan risk as a measure of risk: homogeneous, subadditive, never negative; many accounts at once as one by one."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clearing.core.risk.array import RiskArray, build
from clearing.core.risk.scan import Book, book_of, loss_at, scan, scan_risk
from clearing.core.risk.sweep import sweep
from clearing.model.ids import BASIS, UNIT
from clearing.model.presets import PRESET_A, PRESET_B, VOL_DOWN, VOL_SAME, VOL_UP, Preset, Scenario
from tests.risk.array_books import (
    ALL_PRESETS,
    LINEAR_PRESETS,
    PERP,
    SCENE,
    Scene,
    books,
    naive,
    odd_presets,
    scenes,
    without_discount,
)

ARRAYS = {preset: build(preset, SCENE.market, SCENE.columns) for preset in (*ALL_PRESETS, *LINEAR_PRESETS)}
presets = st.sampled_from(ALL_PRESETS)
linear_presets = st.sampled_from(LINEAR_PRESETS)
# Superadditive P&L: without twists of the skew, or without a discount that a twist could turn around.
subadditive_presets = st.sampled_from(
    (
        PRESET_A,
        without_discount(PRESET_B),
        msgspec.structs.replace(PRESET_B, scenarios=PRESET_B.scenarios[:-2]),
    )
)
Positions = list[tuple[int, int]]
any_book = books(SCENE)


def risk(array: RiskArray, positions: Positions) -> int:
    """Scan risk through the fast entry, checked against the full scan."""
    book = book_of(array, positions)
    found = scan_risk(array, book.rows, book.lots)
    assert found == max(0, -min(scan(array, book).pnl))
    return found


@given(linear_presets, any_book, st.integers(0, 1_000))
def test_scan_risk_is_positively_homogeneous(preset: Preset, book: Positions, times: int) -> None:
    array = ARRAYS[preset]
    assert risk(array, [(i, times * lots) for i, lots in book]) == times * risk(array, book)


@given(any_book, st.integers(1, 1_000))
def test_with_a_discount_it_is_homogeneous_up_to_rounding(book: Positions, times: int) -> None:
    """A cut rounds up once per expiry, never to the account's gain."""
    array = ARRAYS[PRESET_B]
    once, many = risk(array, book), risk(array, [(i, times * lots) for i, lots in book])
    assert times * (once - len(array.groups)) <= many <= times * once


@given(subadditive_presets, any_book, any_book)
def test_scan_risk_is_subadditive(preset: Preset, one: Positions, other: Positions) -> None:
    array = ARRAYS.get(preset) or build(preset, SCENE.market, SCENE.columns)
    assert risk(array, one + other) <= risk(array, one) + risk(array, other)
    apart = [scan(array, book_of(array, book)).loss for book in (one, other)]
    assert scan(array, book_of(array, one + other)).loss <= apart[0] + apart[1]


@given(
    presets,
    any_book,
    st.builds(
        Scenario,
        st.integers(-900_000_000_000, 3 * UNIT),
        st.sampled_from([VOL_SAME, VOL_UP, VOL_DOWN]),
        st.integers(1, 2 * UNIT),
    ),
)
def test_another_scenario_never_lowers_it(preset: Preset, book: Positions, extra: Scenario) -> None:
    more = msgspec.structs.replace(preset, scenarios=(*preset.scenarios, extra))
    wider = build(more, SCENE.market, SCENE.columns)
    assert risk(wider, book) >= risk(ARRAYS[preset], book) >= 0


@given(st.sampled_from(SCENE.instruments), st.integers(-(10**6), 10**6), st.integers(1, 4))
def test_a_single_position_never_gains_by_wider_moves(instrument: int, lots: int, times: int) -> None:
    """The value of one contract is monotone in spot, so its worst lies at an end, and further ends are worse."""
    near = tuple(Scenario(move * 10**10, vol) for move in (-10, 0, 10) for vol in (VOL_SAME, VOL_UP, VOL_DOWN))
    far = tuple(Scenario(move.spot * times, move.vol) for move in near)
    losses = [
        risk(build(Preset("N", moves), SCENE.market, SCENE.columns), [(instrument, lots)]) for moves in (near, far)
    ]
    assert losses[1] >= losses[0] - abs(lots)  # an atom per lot for the quantised value


@given(scenes.flatmap(lambda where: st.tuples(st.just(where), books(where))), presets | odd_presets)
def test_the_naive_formula_agrees(drawn: tuple[Scene, Positions], preset: Preset) -> None:
    where, book = drawn
    array = build(preset, where.market, where.columns)
    found, expected = scan(array, book_of(array, book)), naive(preset, where, book)
    gross = sum(abs(lots) for _, lots in book)
    for atoms, wanted in zip((*found.pnl, found.basis), (*expected.pnl, expected.basis), strict=True):
        # Roundings of an atom per lot, some of which the basis multiplies by up to 20.
        assert abs(atoms - wanted) <= 40 * gross + 100 + abs(wanted) * 1e-7


@given(presets, any_book)
def test_python_integers_and_int64_say_the_same(preset: Preset, book: Positions) -> None:
    """Beyond int64 the same lines run on Python's integers; what they find is the same, and scales."""
    array = ARRAYS[preset]
    rows, lots = book_of(array, book)
    assert lots.dtype == np.int64
    assert scan(array, Book(rows, lots.astype(object))) == scan(array, Book(rows, lots))
    huge = 10**16
    big = book_of(array, [(i, size * huge) for i, size in book])
    assert big.lots.dtype == object or len(big.lots) == 0
    if array.linear:
        assert scan(array, big).pnl == tuple(huge * pnl for pnl in scan(array, Book(rows, lots)).pnl)


@given(presets, any_book)
def test_one_scenario_is_answered_like_all(preset: Preset, book: Positions) -> None:
    array = ARRAYS[preset]
    full = scan(array, book_of(array, book))
    assert [-loss_at(array, book, s) for s in range(array.width)] == list(full.pnl)
    assert -loss_at(array, book, BASIS) == full.basis
    assert loss_at(array, book, full.scenario) == full.loss >= 0


@given(
    presets,
    st.lists(books(SCENE, max_size=4, most=2**52) | any_book | st.just([]), min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_batch_is_one_by_one_is_sharded(preset: Preset, accounts: list[Positions], cut: int) -> None:
    """To the bit, also where some accounts are too large for int64 arithmetic."""
    array = ARRAYS[preset]
    held = [book_of(array, book) for book in accounts]
    alone = [scan(array, book).loss for book in held]
    if max(alone) >= 2**63:
        return

    def batch(part: list[Book]) -> list[int]:
        indptr = np.cumsum([0] + [len(book.rows) for book in part], dtype=np.int64)
        rows = np.array([row for book in part for row in book.rows.tolist()], dtype=np.int64)
        lots = np.array([size for book in part for size in book.lots.tolist()], dtype=np.int64)
        return [int(loss) for loss in sweep(array, indptr, rows, lots)]

    assert batch(held) == alone
    assert batch(held[:cut]) + batch(held[cut:]) == alone


def test_flat_and_repeated_positions() -> None:
    """Lots of one instrument add up, and what nets to nothing is no position."""
    array = ARRAYS[PRESET_A]
    assert book_of(array, [(PERP, 5), (2, 0), (PERP, -5)]).rows.tolist() == []
    assert risk(array, [(PERP, 2), (PERP, 3)]) == risk(array, [(PERP, 5)]) > 0
    assert scan(array, book_of(array, [])).loss == 0
