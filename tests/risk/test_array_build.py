# SPDX-License-Identifier: GPL-3.0-or-later
"""The risk array: bits that depend on nothing but the inputs, and values that a naive formula confirms."""

from __future__ import annotations

from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clearing.core.risk.array import Column, build
from clearing.core.risk.fixed import ONE, scaled, scaled_signed
from clearing.core.risk.market import Expiry, Market
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.ids import UNIT
from clearing.model.presets import PRESET_A, PRESET_B, SKEW_LINEAR, Preset, Scenario, validate_preset
from tests.risk.array_books import ALL_PRESETS, NOW_US, PERP, SCENE, SPOT, Scene, naive, scene, scenes

presets = st.sampled_from(ALL_PRESETS)


@given(
    st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=5),
    st.lists(st.integers(0, 2**63), min_size=5, max_size=5),
    st.booleans(),
)
@example([2**62 - 1], [ONE] * 5, True)
@example([2**31 - 1, 2**31, 1], [2**62 - 1, 2**31, ONE + 1, 0, 0], False)
def test_q60_products_are_those_of_unbounded_integers(values: list[int], factors: list[int], up: bool) -> None:
    factors = factors[: len(values)]
    exact = [(v * f + (ONE - 1 if up else ONE // 2)) >> 60 for v, f in zip(values, factors, strict=True)]
    array = np.array(values, dtype=np.int64)
    if (max(values) * max(factors)) >> 60 >= 2**62:
        with pytest.raises(OverflowError):
            scaled(array, factors, up)
    else:
        assert scaled(array, factors, up).tolist() == exact
        if not up:
            assert scaled_signed(-array, factors).tolist() == [-value for value in exact]


@given(scenes, presets, st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_their_neighbours(where: Scene, preset: Preset, shuffle: Random) -> None:
    """Built at once, in any order, or one column at a time: the same bits, and the same digest."""
    whole = build(preset, where.market, where.columns)
    mixed = list(where.columns)
    shuffle.shuffle(mixed)
    assert build(preset, where.market, mixed).digest == whole.digest
    for column in where.columns:
        alone = build(preset, where.market, [column])
        row = whole.row_of[column.instrument_id]
        assert alone.pnl[0].tolist() == whole.pnl[row].tolist()
        mine = alone.worth[0].tolist() if alone.worth is not None else [0] * whole.width
        theirs = whole.worth[row].tolist() if whole.worth is not None else [0] * whole.width
        assert mine == theirs


@given(scenes, presets)
def test_every_entry_is_what_the_naive_formula_says(where: Scene, preset: Preset) -> None:
    """A book of one lot has the row as its P&L where nothing is cut: compare without the discount."""
    plain = msgspec.structs.replace(preset, discount=type(preset.discount)())
    array = build(plain, where.market, where.columns)
    for column in where.columns:
        expected = naive(plain, where, [(column.instrument_id, 1)]).pnl
        found = array.pnl[array.row_of[column.instrument_id], : array.width].tolist()
        for move, atoms, wanted in zip(plain.scenarios, found, expected, strict=True):
            atoms = -abs(atoms) if move.vol >= SKEW_LINEAR else atoms
            # Two roundings of an atom each (value, discount), one of the forward, and floats on the other side.
            assert abs(atoms - wanted) <= 3 + abs(wanted) * 1e-9 + SPOT * 1e-8 * 10, (column, move)


@given(presets)
def test_an_unmoved_scenario_gains_nothing(preset: Preset) -> None:
    still = [s for s, move in enumerate(preset.scenarios) if move.spot == 0 and move.vol == 0]
    array = build(preset, SCENE.market, SCENE.columns)
    assert still and not array.pnl[:, still].any()


def test_the_digest_covers_every_number() -> None:
    """Another mark, vol, id or preset name is another digest."""
    base = build(PRESET_B, SCENE.market, SCENE.columns).digest
    first, *rest = SCENE.columns
    others = [
        build(PRESET_B, SCENE.market, [first._replace(mark=first.mark + 1), *rest]),
        build(PRESET_B, SCENE.market, [first._replace(instrument_id=10**6), *rest]),
        build(PRESET_B, scene(vol=600_000_001_000).market, SCENE.columns),
        build(msgspec.structs.replace(PRESET_B, name="C"), SCENE.market, SCENE.columns),
    ]
    assert len({base, *(array.digest for array in others)}) == 5
    assert len(base) == 32 and build(PRESET_B, SCENE.market, SCENE.columns).digest == base


@pytest.mark.parametrize("left_us,part", [(3_600_000_000, 1), (900_000_000, 0.5), (1, 0), (0, 0), (-5, 0)])
def test_delta_fades_inside_the_settlement_window(left_us: int, part: float) -> None:
    """A future and a deep call move by the variable part of the forward, and not at all at expiry."""
    until = NOW_US + left_us
    market = Market("X", SPOT, time_us=NOW_US, expiries={until: Expiry(until, SPOT, strikes=(1,), vols=(UNIT,))})
    call = market.option_value(until, SPOT // 2, True)
    columns = [Column(1, ids.FUTURE, until, 0, False, SPOT), Column(2, ids.OPTION, until, SPOT // 2, True, call)]
    array = build(PRESET_A, market, columns)
    ten = next(s for s, move in enumerate(PRESET_A.scenarios) if move == Scenario(80_000_000_000, 0))
    for row in (0, 1):
        assert abs(int(array.pnl[row, ten]) - SPOT * 8 // 100 * part) <= 1


def test_what_the_oracle_fixed_replaces_the_estimate() -> None:
    until = NOW_US + 900_000_000
    data = Expiry(until, SPOT, settled=SPOT * 9 // 10)
    market = Market("X", SPOT, time_us=NOW_US, expiries={until: data})
    assert market.split(SPOT, until) == (SPOT * 9 // 10, SPOT - SPOT * 9 // 10)


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.integers(0, 10**13), min_size=6, max_size=6),
    st.integers(1, 2 * 10**9),
)
def test_vols_lie_between_their_neighbours(strikes: list[int], vols: list[int], strike: int) -> None:
    """Linear between knots, flat outside: never outside the two nearest knots, and the knots exactly."""
    data = Expiry(1, 1, strikes=tuple(strikes), vols=tuple(vols[: len(strikes)]))
    assert [data.vol_at(knot) for knot in strikes] == list(data.vols)
    near = [vols[i] for i, knot in enumerate(strikes) if knot <= strike][-1:]
    near += [vols[i] for i, knot in enumerate(strikes) if knot >= strike][:1]
    assert min(near) <= data.vol_at(strike) <= max(near)


def test_what_cannot_be_shocked_is_refused() -> None:
    until = NOW_US + 1
    option = Column(7, ids.OPTION, until, SPOT, True, 1)
    empty = Market("X", SPOT, time_us=NOW_US)
    with pytest.raises(NovateError, match="NO_MARK_PRICE"):
        build(PRESET_A, empty, [option])
    with pytest.raises(NovateError, match="publish a surface"):
        build(PRESET_A, Market("X", SPOT, time_us=NOW_US, expiries={until: Expiry(until, SPOT)}), [option])
    perp = Column(PERP, ids.PERPETUAL, 0, 0, False, SPOT)
    with pytest.raises(NovateError, match="two columns"):
        build(PRESET_A, empty, [perp, perp])
    with pytest.raises(NovateError, match="64 bits"):
        build(PRESET_A, empty, [perp._replace(mark=2**61)])
    with pytest.raises(NovateError, match="ascending"):
        Expiry(until, SPOT, strikes=(2, 1), vols=(1, 1))
    with pytest.raises(NovateError, match="not positive"):
        Expiry(until, 0)


def test_an_empty_array_is_an_array() -> None:
    array = build(PRESET_B, SCENE.market, [])
    assert array.pnl.shape == (0, 35) and array.row_of == {} and len(array.digest) == 32


@pytest.mark.parametrize("preset,count", [(PRESET_A, 35), (PRESET_B, 33)])
def test_the_presets_are_the_published_ones(preset: Preset, count: int) -> None:
    validate_preset(preset)
    assert len(preset.scenarios) == count == len(set(preset.scenarios))


@pytest.mark.parametrize(
    "change",
    [
        {"scenarios": ()},
        {"scenarios": (Scenario(-UNIT, 0),)},
        {"scenarios": (Scenario(1, SKEW_LINEAR),)},
        {"scenarios": (Scenario(0, 5),)},
        {"scenarios": (Scenario(0, 0, 0),)},
        {"mm_factor": UNIT + 1},
        {"mm_factor": 0},
        {"name": ""},
        {"discount": msgspec.structs.replace(PRESET_B.discount, long_base=UNIT + 1)},
        {"discount": msgspec.structs.replace(PRESET_B.discount, short_base=UNIT - 1)},
        {"contingency": msgspec.structs.replace(PRESET_B.contingency, im_perp=-1)},
        {"basis": msgspec.structs.replace(PRESET_B.basis, up=0)},
        {"skew": msgspec.structs.replace(PRESET_B.skew, min_k_star=0)},
        {"vol": msgspec.structs.replace(PRESET_B.vol, floor_us=0)},
    ],
    ids=str,
)
def test_presets_out_of_bounds_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(NovateError, match="INVALID_PARAMS"):
        validate_preset(msgspec.structs.replace(PRESET_B, **change))
