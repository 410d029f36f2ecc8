# SPDX-License-Identifier: GPL-3.0-or-later
"""Open orders under portfolio margin, against brute force over every subset of fills.

What must hold for an accepted order: equity after the fills covers the initial margin of what is then held,
for every subset that may fill. Equity changes by lots x (mark - price) per fill.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.risk.array import RiskArray, build
from clearing.core.risk.portfolio import CollateralLine, portfolio_margin
from clearing.model.ids import UNIT
from clearing.model.presets import PRESET_A, PRESET_B, Preset
from tests.risk.array_books import (
    ALL_PRESETS,
    BASIS_ONLY,
    NO_CHARGE,
    PERP,
    SCENE,
    SPOT,
    TWISTS,
    bare,
    books,
    collaterals,
    order_lists,
    without_discount,
)

Positions = list[tuple[int, int]]
Orders = list[tuple[int, int, int]]

EXACT = (
    bare(PRESET_A),
    bare(without_discount(PRESET_B)),
    msgspec.structs.replace(bare(without_discount(TWISTS)), basis=TWISTS.basis),
    bare(BASIS_ONLY),
)
# What binds in these is the twist, with and without what the discount does to it.
BOUNDED = (*ALL_PRESETS, TWISTS, msgspec.structs.replace(TWISTS, contingency=NO_CHARGE), bare(PRESET_B))
ARRAYS = {preset: build(preset, SCENE.market, SCENE.columns) for preset in (*EXACT, *BOUNDED)}
MARKS = {column.instrument_id: column.mark for column in SCENE.columns}
# Lots per concentration limit, such that books of the strategies lie on both sides of it.
limits = st.sampled_from([0, 1_000, 10**5, 10**7])


def subsets(orders: Orders) -> Iterator[Sequence[tuple[int, int, int]]]:
    return chain.from_iterable(combinations(orders, size) for size in range(len(orders) + 1))


def worst_by_force(
    preset: Preset,
    array: RiskArray,
    positions: Positions,
    orders: Orders,
    collateral: Sequence[CollateralLine] = (),
    stable: int = UNIT,
    limit: int = 0,
) -> int:
    """max over subsets of initial margin after the fills, less what the fills gained."""
    worst = []
    for filled in subsets(orders):
        after = positions + [(instrument, lots) for instrument, lots, _ in filled]
        margin = portfolio_margin(preset, array, SCENE.market, after, collateral, stable, limit)
        worst.append(margin.initial - sum(lots * (MARKS[i] - price) for i, lots, price in filled))
    return max(worst)


@settings(max_examples=200)
@given(st.sampled_from(EXACT), books(SCENE), order_lists(SCENE), st.sampled_from([UNIT, 0]))
def test_without_a_discount_the_worst_subset_is_exact(
    preset: Preset, positions: Positions, orders: Orders, stable: int
) -> None:
    """To the atom where nothing needs rounding."""
    array = ARRAYS[preset]
    margin = portfolio_margin(preset, array, SCENE.market, positions, (), stable, 0, orders)
    assert margin.initial == worst_by_force(preset, array, positions, orders, (), stable)


@settings(max_examples=200)
@given(
    st.sampled_from(BOUNDED),
    books(SCENE),
    order_lists(SCENE),
    collaterals,
    st.integers(900_000_000_000, UNIT),
    limits,
)
def test_no_subset_is_ever_judged_too_mildly(
    preset: Preset,
    positions: Positions,
    orders: Orders,
    collateral: list[CollateralLine],
    stable: int,
    limit: int,
) -> None:
    """With discount, skew, contingencies, depeg and concentration: an upper bound for every subset."""
    array = ARRAYS[preset]
    margin = portfolio_margin(preset, array, SCENE.market, positions, collateral, stable, limit, orders)
    assert margin.initial >= worst_by_force(preset, array, positions, orders, collateral, stable, limit)


@pytest.mark.slow
@settings(max_examples=200)
@given(books(SCENE, max_size=3), order_lists(SCENE, max_size=4))
def test_a_linear_preset_is_exact_within_rounding_and_add_ons(positions: Positions, orders: Orders) -> None:
    """Preset A with fractional factors: at most an atom per order and expiry above the worst subset."""
    preset = bare(PRESET_A)
    preset = msgspec.structs.replace(preset, basis=PRESET_A.basis, mm_factor=PRESET_A.mm_factor)
    array = build(preset, SCENE.market, SCENE.columns)
    found = portfolio_margin(preset, array, SCENE.market, positions, orders=orders).initial
    exact = worst_by_force(preset, array, positions, orders)
    assert exact <= found <= exact + len(orders) + len(array.groups) + 1


@pytest.mark.slow
@settings(max_examples=200)
@given(
    books(SCENE),
    order_lists(SCENE),
    st.sampled_from([1, 1_000, 10**8, 10**20]),
    st.sampled_from([UNIT, 1]) | st.integers(1, 10 * UNIT),
    st.sampled_from([UNIT, 0]),
    limits,
)
def test_a_linear_array_takes_a_short_way_to_the_same_figures(
    positions: Positions, orders: Orders, scale: int, factor: int, stable: int, limit: int
) -> None:
    """All orders in one pass, or expiry by expiry: equal to the bit, at any factor, in int64 and beyond it."""
    preset = msgspec.structs.replace(PRESET_A, mm_factor=min(factor, PRESET_A.mm_factor), im_factor=factor)
    short, long = ARRAYS[PRESET_A], build(PRESET_A, SCENE.market, SCENE.columns)
    long.linear = False
    held = [(instrument, lots * scale) for instrument, lots in positions]
    wanted = [(instrument, lots * scale, price) for instrument, lots, price in orders]
    for asked in ([*wanted, (PERP, 0, 1)], [(PERP, 0, 1)]):
        ways = [
            portfolio_margin(preset, array, SCENE.market, held, (), stable, limit, asked) for array in (short, long)
        ]
        assert ways[0] == ways[1]
    assert short.linear


@given(st.sampled_from(ALL_PRESETS), books(SCENE), order_lists(SCENE, max_size=3), limits)
def test_another_order_never_lowers_initial_and_never_touches_maintenance(
    preset: Preset, positions: Positions, orders: Orders, limit: int
) -> None:
    array = ARRAYS[preset]

    def margin(count: int) -> tuple[int, int]:
        found = portfolio_margin(preset, array, SCENE.market, positions, depth_limit_lots=limit, orders=orders[:count])
        return found.initial, found.maintenance

    steps = [margin(count) for count in range(len(orders) + 1)]
    assert all(before <= after for (before, _), (after, _) in pairwise(steps))
    assert len({maintenance for _, maintenance in steps}) == 1


def test_a_far_bid_above_the_mark_costs_its_loss() -> None:
    """One lot bid 10 % above the mark: its loss at mark, and what the lot itself then needs."""
    preset = bare(PRESET_A)
    array = ARRAYS[preset]
    price = MARKS[PERP] + SPOT // 10
    alone = portfolio_margin(preset, array, SCENE.market, [(PERP, 1)]).initial
    found = portfolio_margin(preset, array, SCENE.market, [], orders=[(PERP, 1, price)])
    assert found.initial == alone + SPOT // 10
    assert found.maintenance == found.loss == 0


def test_a_hedge_that_has_not_filled_does_not_help() -> None:
    preset = bare(PRESET_A)
    array = ARRAYS[preset]
    naked = portfolio_margin(preset, array, SCENE.market, [(PERP, 7)]).initial
    hedged = portfolio_margin(preset, array, SCENE.market, [(PERP, 7)], orders=[(PERP, -7, MARKS[PERP])])
    assert hedged.initial == naked


def test_a_twist_that_two_fills_turn_around() -> None:
    """Two orders whose discounts cancel each other: together they gain more in the twist, and so (either sign
    counts as a loss) lose more, than the sum of what each would alone. The bound must know."""
    preset = msgspec.structs.replace(bare(TWISTS), basis=TWISTS.basis)
    array = build(preset, SCENE.market, SCENE.columns)
    until = max(SCENE.market.expiries)
    call = next(c for c in SCENE.columns if c.expiry_us == until and c.is_call and c.strike > SPOT)
    put = next(c for c in SCENE.columns if c.expiry_us == until and not c.is_call and 0 < c.strike < SPOT)
    orders = [(call.instrument_id, put.mark // 100, call.mark), (put.instrument_id, -call.mark // 100, put.mark)]
    alone = [portfolio_margin(preset, array, SCENE.market, [order[:2]]).initial for order in orders]
    exact = worst_by_force(preset, array, [], orders)
    found = portfolio_margin(preset, array, SCENE.market, [], orders=orders).initial
    assert found >= exact > sum(alone) > 0
