# SPDX-License-Identifier: GPL-3.0-or-later
"""The account's figures: sums of their parts, true of the reducer's own state, and without effect on it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.core import assets
from clearing.core.margin import assess, equity, headroom
from clearing.core.snapshot import dump
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import NovateError
from clearing.model.ids import PPM, UNIT
from clearing.model.params import params_hash
from clearing.report.account import AccountReport, account_report, position_greeks
from clearing.report.bench import Bench, Move
from clearing.report.frozen import Frozen
from clearing.report.provenance import decimal_of, to_json
from clearing.report.rig import Rig
from clearing.report.whatif import grid, nearest
from tests.core import venue as v
from tests.report.scene import CALL, EXPIRY, FUTURE, PLEDGE, PUT, found, scene

MEMBERS = ("ann", "bob", "pam", "cat", "dan")


def report(who: str) -> AccountReport:
    return account_report(found(who), scene().account(who).number)


@pytest.mark.parametrize("who", MEMBERS)
def test_margin_figures_are_the_reducers(who: str) -> None:
    """What the report says of a replayed journal is what the venue that wrote it says of its account."""
    account, told = scene().account(who), report(who)
    figures = (told.equity_atoms, told.margin_initial_atoms, told.margin_maintenance_atoms)
    assert figures == assess(account)
    assert told.headroom_atoms == headroom(account)
    assert told.claim_atoms == equity(account)
    assert told.open_orders_atoms == told.equity_atoms - told.margin_initial_atoms - told.headroom_atoms >= 0
    assert told.margin_initial_atoms == sum(row.margin_initial_atoms for row in told.requirements)
    assert told.margin_maintenance_atoms == sum(row.margin_maintenance_atoms for row in told.requirements)
    if told.ratio is not None:
        exact = Decimal(told.equity_atoms) / told.margin_maintenance_atoms
        assert 0 <= exact - told.ratio < Decimal("0.000001")


def test_open_orders_take_headroom() -> None:
    """Ann's resting bid costs its initial margin: 20 lots at a mark of 49 USD and 5 %."""
    assert report("ann").open_orders == 1
    assert report("ann").open_orders_atoms == 20 * 49 * v.USD * 50_000 // PPM
    assert report("pam").open_orders_atoms == 0


def test_provenance_names_entry_parameters_arrays_and_root() -> None:
    """Everything that the figures rest on, as the venue itself has it."""
    stamp, state = report("pam").provenance, scene().state
    assert stamp.seq == len(scene().journal) - 1 and stamp.time_us == state.time_us
    assert stamp.params_hash == "0x" + params_hash(state.params, state.specs()).hex()
    assert set(stamp.risk_arrays) == {"BTC", "ETH", "STETH", "USD"}
    for symbol, digest in stamp.risk_arrays.items():
        array = state.symbols[symbol].array
        assert array is not None and digest == "0x" + array.digest.hex()
    outcomes = [(seq, out) for seq, e in enumerate(scene().journal) for out in v.decode_outcomes(e.outcomes)]
    seq, last = [(seq, out) for seq, out in outcomes if isinstance(out, o.EpochClosed)][-1]
    assert (stamp.epoch, stamp.epoch_seq, stamp.state_root) == (last.epoch, seq, "0x" + last.state_root.hex())


@pytest.mark.parametrize("who", ["ann", "bob", "pam", "cat"])
def test_the_worst_scenario_is_the_scenario_vectors_minimum(who: str) -> None:
    """loss = -min(0, basis, P&L of every scenario); the named scenario has it; 35 scenarios of preset A."""
    scans = report(who).scans
    assert scans
    for scan in scans:
        pnl = [row.pnl_atoms for row in scan.scenarios]
        assert len(pnl) == 35 and scan.loss_atoms == -min(0, scan.basis_atoms, *pnl)
        worst = scan.basis_atoms if scan.worst_scenario == ids.BASIS else pnl[scan.worst_scenario]
        assert scan.loss_atoms == -worst
        assert scan.binding == (who == "pam")
        assert scan.journaled


def test_greeks_are_sums_of_positions_by_underlying_and_expiry() -> None:
    """Expiries sum to the underlying's total, and both to what the kernel says of each position."""
    told, account = report("pam"), found("pam").state.accounts[scene().account("pam").number]
    rows = {(row.underlying, row.expiry_us): row for row in told.greeks}
    assert set(rows) == {("BTC", 0), ("BTC", EXPIRY), ("BTC", -1)} and told.unpriced == ()
    total, parts = rows["BTC", -1], [rows["BTC", 0], rows["BTC", EXPIRY]]
    slots = [position_greeks(slot) for slot in account.slots.values() if slot.size]
    for at, name in enumerate(("delta_lots", "gamma_lots", "vega_atoms", "theta_atoms", "rho_atoms")):
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)
        unit = UNIT if at < 2 else 1
        assert getattr(total, name) * unit == sum(found_of[at] for found_of in slots if found_of is not None)
    assert rows["BTC", 0].delta_lots == 150
    assert total.gamma_lots < 0 and total.vega_atoms < 0 < total.theta_atoms


def test_delta_and_vega_are_what_repricing_says() -> None:
    """A shock of 0.1 % of spot, and one of a hundredth of the vols, changes equity by delta and by vega."""
    told = report("pam")
    state = Frozen(found("pam").state).thaw()
    bench, account = Bench(state, [v.BTC]), state.accounts[told.account]

    vega = {}
    for slot in account.slots.values():
        found_of = position_greeks(slot)
        assert found_of is not None
        vega[slot.inst.id] = found_of[2]

    def worth(spot: int, vol: int = PPM) -> int:
        bench.spot(spot, vol)
        return assess(account)[0]

    up, down = worth(PPM + 1_000), worth(PPM - 1_000)
    market = state.underlyings[v.BTC].market
    assert market is not None
    delta = {row.expiry_us: row.delta_lots for row in told.greeks}
    moved = delta[0] * 49 * v.USD + delta[EXPIRY] * market.expiries[EXPIRY].forward
    assert abs(Decimal(up - down) / Decimal("0.002") / moved - 1) < Decimal("0.002")
    crushed, raised = worth(PPM, PPM - PPM // 100), worth(PPM, PPM + PPM // 100)
    # One per cent of vols of 70 % and 65 % is 0.7 and 0.65 points.
    expected = (vega[PUT] * 70 + vega[CALL] * 65) // 100
    assert abs((raised - crushed) / 2 / expected - 1) < 0.001
    bench.reset()
    assert dump(state) == dump(found("pam").state)


@pytest.mark.parametrize("who", ["ann", "pam", "cat"])
def test_the_ladder_of_collateral_sums_to_the_reducers_values(who: str) -> None:
    """Value, maintenance and initial values by asset; with cash, collateral makes up equity."""
    told, account = report(who), scene().account(who)
    cash, *others = told.collateral
    full, maintenance, initial = assets.collateral(account)
    assert (cash.lane, cash.amount_atoms) == (0, account.cash)
    assert sum(row.value_atoms for row in others) == full == told.collateral_atoms
    assert sum(row.maintenance_atoms for row in others) == maintenance
    assert sum(row.initial_atoms for row in others) == initial
    counted = full if account.mode == ids.PORTFOLIO else maintenance
    assert told.claim_atoms + counted - told.pledged_atoms == told.equity_atoms
    assert [row.asset for row in others] == (["BTC"] if who == "cat" else [])


def test_the_distance_is_where_liquidation_begins() -> None:
    """Real votes at the distance make the reducer call ann liquidatable; 0.01 % nearer they do not."""
    (row,) = report("ann").distances
    assert row.underlying == "BTC" and row.up_ppm is None and row.down_ppm is not None
    for ppm, fails in ((row.down_ppm, True), (row.down_ppm + 100, False)):
        state = Frozen(found("ann").state).thaw()
        rig = Rig(state, lambda _: None)
        rig.now_us += v.MINUTE
        rig.vote({v.BTC: PPM + ppm})
        now, _, maintenance = assess(state.accounts[report("ann").account])
        assert (now < maintenance) == fails


def test_distances_of_other_books() -> None:
    """A short strangle has both sides; collateral has a distance of its own; a flat account has none."""
    (both,) = report("pam").distances
    assert both.down_ppm is not None and both.up_ppm is not None and both.down_ppm < 0 < both.up_ppm
    rows = {row.underlying: row for row in report("cat").distances}
    assert set(rows) == {"ETH", "BTC", "*"}
    assert rows["ETH"].down_ppm is None and rows["BTC"].down_ppm is not None
    assert report("dan").distances == () and report("dan").pledged_atoms == PLEDGE


@given(
    st.integers(1, 990_000),
    st.sampled_from([-1, 1]),
    st.lists(st.integers(1, 99), min_size=1, max_size=9, unique=True).map(sorted),
)
def test_nearest_finds_the_edge(edge: int, sign: int, percents: list[int]) -> None:
    """Of a book that fails from an edge on: the first multiple of 0.01 % at or beyond it, if it was tried."""
    got = nearest(lambda ppm: sign * ppm >= edge, [sign * percent for percent in percents])
    if edge > percents[-1] * 10_000:
        assert got is None
    else:
        assert got == sign * -(-edge // 100) * 100
    assert nearest(lambda ppm: True, percents) == 0


def test_the_grid_is_zero_where_nothing_moves_and_agrees_with_margin() -> None:
    """The unmoved cell is 0; a cell is outlined exactly if maintenance fails there; flat accounts have none."""
    number = scene().account("ann").number
    cells = grid(found("ann").state, number)
    assert cells is not None and grid(found("dan").state, scene().account("dan").number) is None
    column, row = cells.spot_percent.index(0), cells.vol_percent.index(100)
    assert cells.pnl_atoms[row][column] == 0
    told = report("ann")
    for at, percent in enumerate(cells.spot_percent):
        pnl = 1_000 * 49 * v.USD * percent // 100
        maintenance = told.margin_maintenance_atoms * (100 + percent) // 100
        assert cells.pnl_atoms[row][at] == pnl
        assert cells.failing[row][at] == (told.equity_atoms + pnl < maintenance)


def test_what_if_changes_nothing() -> None:
    """Reports leave the state as it was, to the byte, and a thawed copy is that state, arrays included."""
    state = found("pam").state
    before = dump(state)
    for who in MEMBERS:
        account_report(found("pam"), scene().account(who).number)
    copy = Frozen(state).thaw()
    assert dump(state) == before == dump(copy)
    assert list(copy.dirty) == list(state.dirty)
    for number, under in state.underlyings.items():
        twin = copy.underlyings[number]
        assert under.array is not None and twin.array is not None and twin.array is not under.array
        assert twin.array.digest == under.array.digest


@pytest.mark.parametrize("ratio", [1, 500_000, 999_999, 1_000_001, 3_000_000])
def test_a_bench_moves_and_puts_back(ratio: int) -> None:
    """Linear marks follow spot, futures their forward; an unmoved market leaves every mark as it is."""
    state = Frozen(found("pam").state).thaw()
    before, bench = dump(state), Bench(state)
    marks = {number: inst.mark for number, inst in state.instruments.items()}
    bench.spot(PPM)
    assert {number: inst.mark for number, inst in state.instruments.items()} == marks
    bench.spot(ratio)
    for number in (v.BTC, v.ETH, FUTURE):
        assert state.instruments[number].mark == max(1, (marks[number] * ratio + PPM // 2) // PPM)
    assert (state.instruments[CALL].mark >= marks[CALL]) == (ratio > PPM)
    assert (state.instruments[PUT].mark >= marks[PUT]) == (ratio < PPM)
    bench.move(Move({}, forward=900_000))
    assert state.instruments[v.BTC].mark == marks[v.BTC] > state.instruments[FUTURE].mark / 0.95
    bench.reset()
    assert dump(state) == before


def test_unknown_accounts_are_refused() -> None:
    with pytest.raises(NovateError, match="no account 99") as error:
        account_report(found(), 99)
    assert error.value.code == "UNKNOWN_ACCOUNT"


@given(st.integers(-(10**20), 10**20), st.integers(0, 12))
def test_decimals_are_exact(value: int, digits: int) -> None:
    """No digit is lost on the way to a decimal and its text."""
    unit = 10**digits
    assert decimal_of(value, unit) * unit == value
    assert Decimal(to_json(decimal_of(value, unit))) * unit == value
