# SPDX-License-Identifier: GPL-3.0-or-later
"""Stress runs: the real rules on a copy, money whole after every entry, tranches in order, edges that are edges."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.core.snapshot import dump
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.ids import PPM
from clearing.report.frozen import Frozen
from clearing.report.reverse import reverse
from clearing.report.scenarios import ALT, SCENARIOS, STABLE, Leg, Scenario, classes, named, path, uniform
from clearing.report.stress import StressReport, most_exposed, run, run_on
from tests.core import venue as v
from tests.report.scene import Scene, found, scene

NAMES = (
    "2020-03-12", "2021-05-19", "2022-05-luna", "2022-06-steth", "2022-11-ftx", "2023-03-11-usdc", "2024-08-05",
    "2025-10-10", "down-30", "up-30", "down-50", "up-50", "vol-crush", "basis", "funding-72h", "top-2-default",
    "oracles-half-stale", "collateral-chain", "halt-gap",
)  # fmt: skip


@cache
def result(name: str) -> StressReport:
    return run(found(), named(name))


def ann() -> int:
    return scene().account("ann").number


def test_the_suite_is_complete_and_told_in_words() -> None:
    """Every scenario that the design names; each says what it is taken from."""
    assert tuple(scenario.name for scenario in SCENARIOS) == NAMES
    for scenario in SCENARIOS:
        assert len(scenario.source) > 60 and scenario.source.endswith(".")
        assert all(before.minutes < after.minutes for before, after in pairwise((Leg(minutes=0), *scenario.legs)))
    with pytest.raises(NovateError, match="no scenario 'down-31'"):
        named("down-31")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_every_scenario_runs_to_its_end_and_conserves(name: str) -> None:
    """Money is whole after each entry (else the run raises), nobody is left failing, and the original is untouched.
    Tranches are used in order: who paid follows only upon exhausted ones, and the sums agree."""
    before = dump(found().state)
    told = result(name)
    assert dump(found().state) == before
    assert told.conserved and told.checks > told.updates > 0
    exhausted = [row.exhausted for row in told.tranches]
    assert exhausted == sorted(exhausted, reverse=True)
    for earlier, row in pairwise(told.tranches):
        assert not row.drawn_atoms or earlier.exhausted
        assert min(row.before_atoms, row.drawn_atoms, row.after_atoms) >= 0
    paid = sum(row.drawn_atoms for row in told.tranches)
    assert told.deficit_atoms == paid + told.adl_loss_atoms + told.shortfall_atoms
    assert not told.failing and not told.frozen and not told.auctions
    last = told.cascade[-1]
    assert (last.liquidated, last.drawn_atoms, last.closed_atoms) == (len(told.liquidated), paid, told.closed_atoms)


@pytest.mark.parametrize("name", NAMES)
def test_the_cascade_only_grows(name: str) -> None:
    """Sums since the start never fall, and time passes."""
    for earlier, later in pairwise(result(name).cascade):
        assert earlier.minutes < later.minutes
        for field in ("liquidated", "closed_atoms", "drawn_atoms", "adl_atoms"):
            assert getattr(earlier, field) <= getattr(later, field)


def test_a_fall_takes_the_long_and_a_rise_does_not() -> None:
    """Ann is long with twice her margin: 30 % down liquidates her and the fund's book then loses on; up is harmless."""
    assert ann() in result("down-30").liquidated
    assert result("up-30").liquidated == () and result("up-30").deficit_atoms == 0
    assert result("down-50").deficit_atoms > result("down-30").deficit_atoms > 0
    assert result("down-50").depth == ids.TRANCHE_GAINS
    assert result("down-50").cascade[-1].index_ppm == -500_000
    assert result("vol-crush").liquidated == ()


def test_capped_funding_is_paid_by_the_hour() -> None:
    """Ann pays 0.75 % of 49 USD on 1,000 lots each hour: about 14 hours after the start her margin is gone."""
    told = result("funding-72h")
    assert told.updates >= 72 and told.liquidated == (ann(),)
    first = next(row for row in told.cascade if row.liquidated)
    hourly = 1_000 * 49 * v.USD * 7_500 // PPM
    equity, maintenance = 4_996_448_000, 1_470 * v.USD
    assert first.minutes / 60 == pytest.approx((equity - maintenance) // hourly + 1, abs=1)


def test_without_a_quorum_nobody_is_liquidated_until_prices_are_fresh() -> None:
    """Two of three publishers are silent for an hour: ann is frozen meanwhile, and goes when they come back."""
    told = result("oracles-half-stale")
    silent = [row for row in told.cascade if row.minutes <= 60]
    assert all(row.index_ppm == 0 and not row.liquidated for row in silent)
    assert told.liquidated == (ann(),)
    assert told.cascade[-1].index_ppm == -300_000


def test_a_halt_ends_in_one_gap() -> None:
    """Nothing is voted for an hour; one update takes prices down by 15 %."""
    told = result("halt-gap")
    assert [row.index_ppm for row in told.cascade][:2] == [0, -150_000]
    assert told.liquidated == (ann(),)


def test_the_two_most_exposed_leave_with_all_they_may() -> None:
    """Those who lose most above their margin in a fall are ann and pam; having withdrawn, both are liquidated."""
    pam = scene().account("pam").number
    chosen = most_exposed(Frozen(found().state).thaw())
    assert chosen[0] == ann() and len(chosen) == 2
    told = result("top-2-default")
    assert {ann(), pam} & set(told.liquidated) == set(chosen) & {ann(), pam}
    assert told.deficit_atoms > result("down-30").deficit_atoms


def test_worthless_collateral_takes_who_lived_on_it() -> None:
    """Cat has nothing but bitcoin collateral, which counts for nothing from the first moment."""
    assert scene().account("cat").number in result("collateral-chain").liquidated


def test_without_resources_the_gainers_pay() -> None:
    """No fund, no capital, no pledge: what eve cannot pay is taken from the gains, and from nobody else."""
    venue = Scene()
    venue.give("bob", dollar=10**12)
    venue.give("eve", dollar=3_000 * v.USD)
    venue.trade("eve", "bob", 1_000, v.BTC)
    venue.close_epoch()
    told = run_on(Frozen(venue.state).thaw(), uniform(-400_000), found().provenance)
    assert told.conserved and told.depth >= ids.TRANCHE_GAINS
    # She loses 20 USD a lot and had 3,000 USD; nobody but the members has anything to lose.
    lost = 1_000 * 20 * v.USD - 3_000 * v.USD
    assert lost <= told.deficit_atoms <= lost * 101 // 100
    assert told.members_atoms == 0 and told.shortfall_atoms == 0
    assert [row.drawn_atoms for row in told.tranches] == [0, 0, 0, told.deficit_atoms]


@pytest.mark.slow
def test_reverse_stress_finds_edges() -> None:
    """At the named move the tranche is exhausted and 0.1 % before it is not; later tranches need no smaller moves."""
    told = reverse(found())
    assert [row.tranche for row in told.rows] == [1, 2, 3, 4]
    for row in told.rows[:2]:
        assert row.down_ppm is not None and row.down_holds_ppm == row.down_ppm + 1_000
        assert run(found(), uniform(row.down_ppm)).depth > row.tranche
        assert run(found(), uniform(row.down_holds_ppm)).depth <= row.tranche
    for side in ("down_ppm", "up_ppm"):
        sizes = [getattr(row, side) for row in told.rows]
        known = [abs(size) for size in sizes if size is not None]
        assert known == sorted(known) and sizes[: len(known)] == [size for size in sizes if size is not None]


@given(st.integers(-750_000, 3_000_000), st.integers(1, 30))
def test_uniform_paths_end_where_they_say_in_even_steps(move: int, minutes: int) -> None:
    """Each update moves by the same ratio, so that none is a jump that the oracle would refuse."""
    ticks = path(uniform(move, minutes=minutes))
    assert len(ticks) == 2 * minutes and ticks[-1].minutes == minutes
    assert ticks[-1].spot[ALT] == PPM + move and ticks[-1].spot[STABLE] == PPM
    ratios = [after.spot[ALT] / before.spot[ALT] for before, after in pairwise(ticks)]
    whole = ((PPM + move) / PPM) ** (1 / len(ticks))
    assert all(abs(ratio / whole - 1) < 1e-4 for ratio in ratios)


def test_paths_touch_every_leg() -> None:
    """Whatever the number of steps, each leg's own numbers are voted."""
    for scenario in SCENARIOS:
        ticks = {tick.minutes: tick for tick in path(scenario)}
        for leg in scenario.legs:
            assert ticks[leg.minutes].spot["btc"] == leg.btc and ticks[leg.minutes].vol == leg.vol


def test_classes_of_underlyings() -> None:
    """By what they price: the settlement asset, a synthetic one, bitcoin, ether."""
    found_of = classes(found().state)
    assert found_of == {v.BTC: "btc", v.ETH: "eth", 3: "staked", 4: "settlement"}


def test_a_scenario_of_the_settlement_asset_moves_what_is_priced_in_dollars() -> None:
    """The peg falls: the index of the settlement asset follows the path."""
    scenario = Scenario(name="peg", title="Peg", source="A test.", legs=(Leg(minutes=30, settlement=900_000),), steps=6)
    state = Frozen(found().state).thaw()
    told = run_on(state, scenario, found().provenance)
    assert state.underlyings[4].index == 900_000 and told.conserved
