# SPDX-License-Identifier: GPL-3.0-or-later
"""Portfolio margin as a whole: bounds between its numbers, monotony, and the witness of a liquidation."""

from __future__ import annotations

from math import isqrt

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from clearing.core.risk.array import Column, build
from clearing.core.risk.market import Market
from clearing.core.risk.portfolio import CollateralLine, PortfolioMargin, portfolio_margin, witness
from clearing.model import ids
from clearing.model.ids import BASIS, UNIT
from clearing.model.presets import PRESET_A, PRESET_B, Contingency, Preset, validate_preset
from tests.risk.array_books import ALL_PRESETS, NOW_US, PERP, SCENE, SPOT, bare, books, collaterals, scene

ARRAYS = {preset: build(preset, SCENE.market, SCENE.columns) for preset in ALL_PRESETS}
presets = st.sampled_from(ALL_PRESETS)
limits = st.sampled_from([0, 1_000, 10**5, 10**7])
stables = st.integers(UNIT // 2, UNIT)
Positions = list[tuple[int, int]]
OPTION = next(column for column in SCENE.columns if column.kind == ids.OPTION and column.is_call)
PUT = next(column for column in SCENE.columns if column.strike == OPTION.strike and not column.is_call)


def margin_of(
    preset: Preset,
    positions: Positions,
    collateral: list[CollateralLine] | None = None,
    stable: int = UNIT,
    limit: int = 0,
    confidence: int = UNIT,
) -> PortfolioMargin:
    where = SCENE if confidence == UNIT else scene(confidence=confidence)
    return portfolio_margin(preset, ARRAYS[preset], where.market, positions, collateral or (), stable, limit)


fractions = st.integers(0, UNIT)


@given(
    st.sampled_from([PRESET_A, PRESET_B]),
    st.builds(Contingency, *[fractions] * 4, fractions, st.integers(0, 2 * UNIT), fractions, st.integers(0, 10 * UNIT)),
    st.tuples(st.integers(1, 2 * UNIT), st.integers(1, 2 * UNIT)).map(sorted),
    books(SCENE),
    collaterals,
    stables,
    limits,
    st.integers(0, UNIT),
)
def test_maintenance_never_exceeds_initial(
    base: Preset,
    contingency: Contingency,
    factors: list[int],
    positions: Positions,
    collateral: list[CollateralLine],
    stable: int,
    limit: int,
    confidence: int,
) -> None:
    """For every preset that governance may set."""
    low, high = factors
    preset = msgspec.structs.replace(base, contingency=contingency, mm_factor=low, im_factor=high)
    validate_preset(preset)
    where = scene(confidence=confidence)
    margin = portfolio_margin(preset, ARRAYS[base], where.market, positions, collateral, stable, limit)
    assert 0 <= margin.maintenance <= margin.initial
    assert margin.loss >= 0 and margin.basis <= 0 and margin.concentration >= UNIT
    assert margin.loss == -min(margin.basis, *margin.pnl)
    assert margin.scenario == BASIS or margin.pnl[margin.scenario] == -margin.loss


@given(presets, books(SCENE), collaterals.filter(bool), st.integers(0, UNIT), st.integers(0, UNIT // 4))
def test_monotone_in_haircuts(
    preset: Preset, positions: Positions, collateral: list[CollateralLine], which: int, more: int
) -> None:
    index = which % len(collateral)
    line = collateral[index]
    before = margin_of(preset, positions, collateral)
    higher = line._replace(mm_haircut=line.mm_haircut + more), line._replace(im_haircut=line.im_haircut + more)
    for changed, both in zip(higher, (True, False), strict=True):
        after = margin_of(preset, positions, [*collateral[:index], changed, *collateral[index + 1 :]])
        assert after.initial >= before.initial
        assert after.maintenance >= before.maintenance if both else after.maintenance == before.maintenance


@given(presets, books(SCENE), collaterals, st.tuples(st.integers(0, UNIT), st.integers(0, UNIT)).map(sorted))
def test_doubt_in_the_oracle_never_lowers_initial_and_never_liquidates(
    preset: Preset, positions: Positions, collateral: list[CollateralLine], levels: list[int]
) -> None:
    doubtful, surer = (margin_of(preset, positions, collateral, confidence=level) for level in levels)
    assert doubtful.initial >= surer.initial
    assert doubtful.maintenance == surer.maintenance


@given(presets, books(SCENE), st.tuples(stables, stables).map(sorted))
def test_a_deeper_depeg_never_lowers_initial(preset: Preset, positions: Positions, prices: list[int]) -> None:
    deep, shallow = (margin_of(preset, positions, stable=price) for price in prices)
    assert deep.initial >= shallow.initial and deep.maintenance == shallow.maintenance


@given(presets, books(SCENE), st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)).map(sorted))
def test_a_thinner_market_never_lowers_margin(preset: Preset, positions: Positions, depths: list[int]) -> None:
    thin, deep, unlimited = (margin_of(preset, positions, limit=limit) for limit in (*depths, 0))
    assert thin.maintenance >= deep.maintenance >= unlimited.maintenance
    assert thin.initial >= deep.initial >= unlimited.initial


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_concentration_of_a_perpetual_is_the_root_of_lots_over_depth(lots: int, depth: int) -> None:
    """Delta comes out of the basis moves: lots x (mark / spot) for a linear contract."""
    column = Column(PERP, ids.PERPETUAL, 0, 0, False, SPOT)
    market = Market("X", SPOT, time_us=NOW_US)
    array = build(PRESET_A, market, [column])
    found = portfolio_margin(PRESET_A, array, market, [(PERP, -lots)], depth_limit_lots=depth).concentration
    exact = isqrt(max(lots, depth) * UNIT * UNIT // depth)
    assert exact <= found <= exact + 1


@given(presets, books(SCENE), collaterals, limits, st.integers(-3, 3), st.data())
def test_a_witness_proves_what_is_so(
    preset: Preset,
    positions: Positions,
    collateral: list[CollateralLine],
    limit: int,
    distance: int,
    data: st.DataObject,
) -> None:
    """The worst scenario proves exactly the accounts below maintenance; no scenario proves any other."""
    array = ARRAYS[preset]
    margin = margin_of(preset, positions, collateral, limit=limit)
    equity = margin.maintenance + distance

    def proves(scenario: int) -> bool:
        return witness(preset, array, SCENE.market, positions, equity, scenario, collateral, limit)

    assert proves(margin.scenario) == (equity < margin.maintenance)
    if equity >= margin.maintenance:
        assert not proves(data.draw(st.sampled_from([BASIS, *range(array.width)])))
    assert not proves(array.width) and not proves(ids.NO_SCENARIO)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_call_covers_a_put_of_its_strike(calls: int, puts: int) -> None:
    """Only what is short net at a strike is naked, at spot."""
    found = margin_of(PRESET_A, [(OPTION.instrument_id, calls), (PUT.instrument_id, puts)]).charges
    naked = max(0, -(calls + puts)) * SPOT
    assert found.option_mm == -(-naked * PRESET_A.contingency.mm_option // UNIT)
    assert found.option_im == -(-naked * PRESET_A.contingency.im_option // UNIT)


@given(st.integers(1, 10**6), st.integers(0, UNIT))
def test_the_perpetuals_confidence_counts_only_for_its_holders(lots: int, level: int) -> None:
    """A doubtful perpetual costs whoever holds it, options included; nobody else."""
    market = Market("X", SPOT, UNIT, level, NOW_US, SCENE.market.expiries)

    def charged(positions: Positions) -> int:
        return portfolio_margin(PRESET_A, ARRAYS[PRESET_A], market, positions).charges.confidence_im

    def cost(notional: int) -> int:
        if level >= PRESET_A.contingency.confidence_threshold:
            return 0
        return -(-(UNIT - level) * notional // UNIT)

    assert charged([(OPTION.instrument_id, lots)]) == 0
    assert charged([(PERP, -lots)]) == cost(lots * SPOT)
    assert charged([(PERP, 1), (OPTION.instrument_id, lots)]) == cost(SPOT) + cost(lots * SPOT)


def test_collateral_that_cancels_risk_hedges_a_short() -> None:
    """A short perpetual against the coin itself loses nothing in any move of spot."""
    preset = bare(PRESET_A)
    column = Column(PERP, ids.PERPETUAL, 0, 0, False, SPOT)
    market = Market("X", SPOT, time_us=NOW_US)
    array = build(preset, market, [column])
    coin = CollateralLine(1_000 * SPOT, 0, 0, risk_cancelling=True)
    hedged = portfolio_margin(preset, array, market, [(PERP, -1_000)], [coin])
    # The coin's move rounds down in each scenario, the contract's to nearest in each lot.
    assert hedged.loss <= 1_000
    cash = coin._replace(risk_cancelling=False)
    assert portfolio_margin(preset, array, market, [(PERP, -1_000)], [cash]).loss == 1_000 * SPOT * 16 // 100
