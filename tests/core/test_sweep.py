# SPDX-License-Identifier: GPL-3.0-or-later
"""The sweep finds whom one-by-one checks find, and every witness holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.liquidation import is_liquidatable
from clearing.core.margin import assess, fails, margin_detail, witness
from clearing.core.state import Account, State
from clearing.core.sweep import Sweeper, sweep
from clearing.model import ids
from clearing.model.outcomes import MarginChanged
from tests.core import desk

MARKETS = (desk.PERP_X, desk.FUTURE_X, desk.PERP_Y, *desk.OPTIONS)

people = st.lists(
    st.tuples(
        st.sampled_from((ids.STANDARD, ids.PORTFOLIO)),
        st.dictionaries(st.sampled_from(MARKETS), st.integers(-20, 20), max_size=4),
        # Equity in per mille of maintenance margin.
        st.integers(0, 3_000) | st.sampled_from((999, 1_000, 1_001)),
        st.tuples(st.integers(0, 30), st.integers(0, 30)),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=12,
)


def crowd(rows: list[tuple[int, dict[int, int], int, tuple[int, int], int]], preset: int = 0, depth: int = 0) -> State:
    """Accounts whose equity is a share of their maintenance margin."""
    state = desk.house(desk.state_of(desk.params(preset, depth=depth)))
    for mode, held, per_mille, collateral, pledged in rows:
        account = desk.open_account(state, 0, mode)
        for instrument, lots in held.items():
            desk.hold(state, account, instrument, lots)
        for lane, amount in enumerate(collateral, 1):
            if amount:
                desk.give(state, account, lane, amount)
        account.pledged = pledged
        account.set_plain()
        equity, _, maintenance = assess(account)
        account.cash += maintenance * per_mille // 1_000 - equity
    return state


def one_by_one(state: State) -> list[tuple[int, int]]:
    return [(a.number, witness(a)[0]) for a in state.accounts if not is_liquidatable(state, a)]


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    rows=people,
    preset=st.integers(0, 1),
    depth=st.sampled_from((0, 5)),
    move=st.tuples(st.integers(-8, 8), st.integers(-8, 8)),
    parts=st.integers(1, 3),
    changed=st.integers(0, 11),
)
def test_batch_is_one_by_one_is_sharded(
    rows: list[tuple[int, dict[int, int], int, tuple[int, int], int]],
    preset: int,
    depth: int,
    move: tuple[int, int],
    parts: int,
    changed: int,
) -> None:
    """Columns built before prices move, one account changes, another opens: still the same list, as it is for
    columns that are built afresh, and for shards put together."""
    state = crowd(rows, preset, depth)
    kept = Sweeper(state)
    assert kept.run() == one_by_one(state)
    desk.price(state, (1_003 + 10 * move[0], 777 + 8 * move[1]))
    assert kept.run() == one_by_one(state)
    account = state.accounts[ids.HOUSE_ACCOUNTS + changed % len(rows)]
    desk.hold(state, account, desk.PERP_X, -7)
    account.cash -= 500
    kept.note([MarginChanged(account.number, account.cash, *assess(account))])
    desk.hold(state, desk.open_account(state, 100), desk.PERP_Y, 9)
    expected = one_by_one(state)
    assert kept.run() == expected == sweep(state)
    numbers = list(range(len(state.accounts)))
    shards = [found for part in range(parts) for found in Sweeper(state, numbers[part::parts]).run()]
    assert sorted(shards) == expected


@settings(max_examples=60, deadline=None)
@given(rows=people, preset=st.integers(0, 1))
def test_a_healthy_account_is_never_liquidatable(
    rows: list[tuple[int, dict[int, int], int, tuple[int, int], int]], preset: int
) -> None:
    """Whoever holds maintenance margin is not listed, and no scenario whatever is taken for a proof."""
    state = crowd(rows, preset)
    listed = dict(sweep(state))
    for account in state.accounts[ids.HOUSE_ACCOUNTS :]:
        equity, _, maintenance = assess(account)
        if equity >= maintenance:
            assert account.number not in listed
            assert not any(fails(account, scenario)[0] for scenario in range(-3, 70))


@settings(max_examples=80, deadline=None)
@given(rows=people, preset=st.integers(0, 1), depth=st.sampled_from((0, 5)))
def test_a_witness_is_the_first_scenario_that_fails(
    rows: list[tuple[int, dict[int, int], int, tuple[int, int], int]], preset: int, depth: int
) -> None:
    """Below maintenance a witness exists and `fails` accepts it with its P&L; no earlier scenario is one."""
    state = crowd(rows, preset, depth)
    for account in state.accounts[ids.HOUSE_ACCOUNTS :]:
        equity, _, maintenance = assess(account)
        scenario, pnl = witness(account)
        if equity >= maintenance:
            assert (scenario, pnl) == (ids.NO_SCENARIO, 0)
            continue
        assert fails(account, scenario) == (True, pnl)
        scans = margin_detail(account).scans
        if account.mode == ids.STANDARD or not scans:
            assert scenario == ids.NO_SCENARIO
            assert not fails(account, 0)[0]
            continue
        assert scenario != ids.NO_SCENARIO
        assert not fails(account, ids.NO_SCENARIO)[0]
        first = scenario if scenario >= 0 else len(scans[0].margin.pnl)
        assert not any(fails(account, earlier)[0] for earlier in range(first))


@settings(max_examples=60, deadline=None)
@given(rows=people, preset=st.integers(0, 1))
def test_the_detail_adds_up(rows: list[tuple[int, dict[int, int], int, tuple[int, int], int]], preset: int) -> None:
    """Rows and charges sum to what `assess` says, and so do the parts of equity; MM <= IM in every row."""
    state = crowd(rows, preset)
    for account in state.accounts:
        detail = margin_detail(account)
        assert (detail.equity, detail.initial, detail.maintenance) == assess(account)
        found = [(row.initial, row.maintenance) for row in detail.linear]
        found += [(row.initial, row.maintenance) for row in detail.expiries]
        found += [(row.initial, row.maintenance) for row in detail.scans]
        assert detail.initial == detail.charge_initial + sum(initial for initial, _ in found)
        assert detail.maintenance == detail.charge_maintenance + sum(maintenance for _, maintenance in found)
        assert all(maintenance <= initial for initial, maintenance in found)
        counts = detail.collateral_full if detail.mode == ids.PORTFOLIO else detail.collateral_maintenance
        assert detail.equity == detail.claim + counts - detail.pledged


def below(state: State, instrument: int, lots: int, mode: int = ids.STANDARD) -> Account:
    """An account just below maintenance."""
    account = desk.open_account(state, 0, mode)
    desk.hold(state, account, instrument, lots)
    equity, _, maintenance = assess(account)
    account.cash += maintenance - equity - 1
    return account


@pytest.mark.parametrize("mode", [ids.STANDARD, ids.PORTFOLIO])
def test_stale_prices_freeze(mode: int) -> None:
    """Below maintenance, but at a price that is too old: nobody is listed until it is fresh."""
    state = desk.house(desk.state_of(desk.params()))
    account = below(state, desk.PERP_X, 10, mode)
    assert [number for number, _ in sweep(state)] == [account.number]
    state.time_us += state.params.oracle_max_age_us + 1
    assert sweep(state) == []


def test_numbers_beyond_int64_are_asked_exactly() -> None:
    """A position whose value no int64 holds is found like any other."""
    state = desk.house(desk.state_of(desk.params()))
    for inst in state.instruments.values():
        inst.mark *= 10**9
    found = [below(state, desk.PERP_X, 2**53 - 1), below(state, desk.PERP_Y, -(2**50))]
    fine = below(state, desk.PERP_X, 2**53 - 1)
    fine.cash += 1
    assert sweep(state) == [(account.number, ids.NO_SCENARIO) for account in found]


def test_collateral_saves_and_a_pledge_does_not_count() -> None:
    """One atom below maintenance: an atom of collateral (after its haircut) is enough; money that is pledged was
    not there in the first place."""
    state = desk.house(desk.state_of(desk.params()))
    saved = below(state, desk.PERP_X, 10)
    desk.give(state, saved, 2, 1)
    pledger = below(state, desk.PERP_X, 10)
    pledger.cash += 100
    assert sweep(state) == []
    pledger.pledged = 100
    pledger.set_plain()
    assert sweep(state) == [(pledger.number, ids.NO_SCENARIO)]


@pytest.mark.parametrize("lots", [10, -10])
def test_funding_that_is_not_settled_counts(lots: int) -> None:
    """Two accounts at their maintenance; the funding index moves against them, and only who did not get the
    money elsewhere meanwhile is listed."""
    state = desk.house(desk.state_of(desk.params()))
    state.instruments[desk.PERP_X].funding_index = 50
    owes, paid = below(state, desk.PERP_X, lots), below(state, desk.PERP_X, lots)
    for account in (owes, paid):
        account.slots[desk.PERP_X].funding = 50
        equity, _, maintenance = assess(account)
        account.cash += maintenance - equity
    kept = Sweeper(state)
    assert kept.run() == sweep(state) == []
    state.instruments[desk.PERP_X].funding_index += 1 if lots > 0 else -1
    paid.cash += 10
    kept.note([MarginChanged(paid.number, paid.cash, *assess(paid))])
    assert kept.run() == sweep(state) == [(owes.number, ids.NO_SCENARIO)]


@pytest.mark.parametrize("depth", [0, 3])
def test_concentration_and_bare_contracts_are_seen(depth: int) -> None:
    """Just below maintenance beyond the depth limit, and with a contract that no array covers."""
    state = desk.house(desk.state_of(desk.params(depth=depth)))
    crowded = below(state, desk.PERP_X, 100, ids.PORTFOLIO)
    assert [number for number, _ in sweep(state)] == [crowded.number]
    state.instruments[desk.PERP_Y].under.array = None
    bare = below(state, desk.PERP_Y, 10, ids.PORTFOLIO)
    bare.cash += 1
    assert [number for number, _ in sweep(state)] == [crowded.number]
    bare.cash -= 1
    assert sweep(state)[1:] == [(bare.number, ids.NO_SCENARIO)]
