# SPDX-License-Identifier: GPL-3.0-or-later
"""ADL: last in line, in an order that anyone can compute again from the journal, at the bankruptcy price."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import adl
from clearing.core.margin import equity
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from tests.core import venue as v
from tests.core.test_liquidation import X, Y, books_of, hold, market, move, one, only
from tests.core.test_waterfall import resolve_all


def defaulted(shorts: list[tuple[str, int, int]], mark: int = 840) -> v.Venue:
    """Ann is long 1,000 lots of margin 60 each against `shorts` (name, cash, lots); the gains of the fall to 900 are
    settled, and no tranche holds anything."""
    venue = market()
    venue.fund("ann", 60 * sum(lots for _, _, lots in shorts))
    for name, cash, lots in shorts:
        venue.fund(name, cash)
        hold(venue, "ann", lots, against=name)
    move(venue, X=mark)
    venue.close_epoch()
    return venue


@settings(max_examples=60, deadline=None)
@given(
    shorts=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5_000)), min_size=1, max_size=6),
    entry=st.lists(st.integers(900, 1_100), min_size=6, max_size=6),
    mark=st.integers(600, 900),
    most=st.sampled_from((1, 2, 250)),
)
def test_the_order_follows_from_the_outcomes_alone(
    shorts: list[tuple[int, int]], entry: list[int], mark: int, most: int
) -> None:
    """Every Deleveraged carries what its rank came from: profit x notional / equity falls along the ranks, ties go to
    the lower account number; ranks are 0, 1, 2, ... in each entry. Afterwards Ann is flat and owes nothing."""
    venue = market()
    venue.fund("ann", 10**6)
    for at, (lots, spare) in enumerate(shorts):
        venue.fund(f"short{at}", lots * 150 + spare)
        move(venue, X=entry[at])
        hold(venue, "ann", lots, against=f"short{at}")
    total = sum(lots for lots, _ in shorts)
    claim = equity(venue.account("ann"))
    free = claim - venue.account("ann").slots[X].size * entry[len(shorts) - 1] * 6 // 100
    venue.do("ann", c.Withdraw(0, 0, free))
    move(venue, X=mark)
    venue.close_epoch()
    if equity(venue.account("ann")) >= 0:
        return
    venue.liquidate("ann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adl, "MAX_COUNTERPARTIES", most)
        out = resolve_all(venue)
    rows = only(o.Deleveraged, out)
    assert rows
    # Between two entries the fund may find that it can take what is left.
    taken = sum(abs(row.size_lots) for row in only(o.PositionTransferred, out))
    assert sum(abs(row.size_lots) for row in rows) + taken == total
    assert all(row.rank < most and row.equity_atoms > 0 and row.size_lots < 0 for row in rows)
    assert rows[0].rank == 0
    for before, row in pairwise(rows):
        if row.rank:  # else another entry begins
            assert row.rank == before.rank + 1
            scores = [Fraction(x.profit_atoms * x.notional_atoms, x.equity_atoms) for x in (before, row)]
            assert (scores[1], -row.counterparty) < (scores[0], -before.counterparty)
    ann = venue.account("ann")
    assert equity(ann) == 0 and not ann.slots[X].size
    assert equity(venue.state.accounts[ids.INSURANCE_FUND]) < total, "what rounding left is below an atom a lot"


def test_a_worked_order() -> None:
    """Mark 840, all short from 1,000, so profit is 160 a lot. Cat has less equity than Eve and Fay for the same
    position; these two tie, and the lower number goes first; Dan has high leverage but little profit."""
    venue = defaulted([("eve", 20_000, 50), ("fay", 20_000, 50), ("cat", 10_000, 50), ("dan", 3_000, 20)])
    assert one(o.Liquidated, venue.liquidate("ann")).step == "DEFAULT"
    out = venue.operator(c.Deleverage(venue.account("ann").number, X))
    order = [row.counterparty for row in only(o.Deleveraged, out)]
    assert order == [venue.account(name).number for name in ("cat", "eve", "fay", "dan")]
    first = only(o.Deleveraged, out)[0]
    assert (first.profit_atoms, first.notional_atoms, first.equity_atoms) == (8_000, 42_000, 18_000)
    # Ann owes 100 a lot: 840 + 100 is where her claim is zero
    assert {row.price_atoms for row in only(o.Deleveraged, out)} == {940}
    assert equity(venue.account("ann")) == 0


def test_the_deficit_is_spread_over_positions_by_notional() -> None:
    """Long 100 X and short 50 Y: both are closed off their marks by the same fraction, X above and Y below."""
    venue = market()
    venue.fund("ann", 10_000)
    for name, lots, instrument in (("cat", 100, X), ("dan", -50, Y)):
        venue.fund(name, 100_000)
        hold(venue, "ann", lots, instrument, against=name)
    move(venue, X=870, Y=560)
    venue.close_epoch()
    owed = -equity(venue.account("ann"))
    assert owed == 6_000
    venue.liquidate("ann")
    out = resolve_all(venue)
    prices = {row.instrument: row.price_atoms for row in only(o.Deleveraged, out)}
    assert prices[X] == 870 + 46  # 870 x 6,000 / 115,000 = 45.4
    assert 560 - prices[Y] in (28, 29, 30)  # 560 x 6,000 / 115,000 = 29.2, of what X's rounding left
    steps = [x for x in only(o.Liquidated, out) if x.step == "ADL"]
    assert sum(x.fee_atoms for x in steps) < 150
    assert equity(venue.account("ann")) == 0


@pytest.mark.parametrize("holder", ["fund", "operator", "pledge", "gain"])
def test_no_adl_while_an_earlier_tranche_holds_an_atom(holder: str) -> None:
    venue = defaulted([("cat", 50_000, 60), ("dan", 50_000, 40)])
    if holder == "gain":
        move(venue, X=839)
    elif holder == "pledge":
        venue.fund("mia", 1)
        venue.do("mia", c.PledgeDefaultFund(1))
    else:
        venue.deposit("treasury", 1)
        if holder == "fund":
            venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 1))
    venue.liquidate("ann")
    number = venue.account("ann").number
    before = books_of(venue)
    assert v.codes(venue.operator(c.Deleverage(number, X))) == ["TRANCHE_NOT_EMPTY"]
    assert books_of(venue) == before
    assert not v.codes(venue.operator(c.ResolveDeficit(number)))
    assert not v.codes(venue.operator(c.Deleverage(number, X)))
    assert equity(venue.account("ann")) == 0


def test_only_who_is_in_default_is_deleveraged() -> None:
    venue = market(fund=10**6)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    number = venue.account("ann").number
    for mark in (1_000, 965, 930):
        move(venue, X=mark)
        assert v.codes(venue.operator(c.Deleverage(number, X))) == ["NOT_LIQUIDATABLE"]
    assert v.codes(venue.operator(c.Deleverage(number, Y))) == ["NOTHING_TO_RESOLVE"]
    assert v.codes(venue.operator(c.Deleverage(number, 77))) == ["UNKNOWN_INSTRUMENT"]
    assert v.codes(venue.operator(c.Deleverage(77, X))) == ["UNKNOWN_ACCOUNT"]
    venue.advance(v.HOUR)
    assert v.codes(venue.operator(c.Deleverage(number, X))) == ["ORACLE_STALE"]


def test_a_bankrupt_fund_is_deleveraged_too() -> None:
    """Its position closes against those who gained, and the house's other accounts stay out of it."""
    venue = defaulted([("cat", 50_000, 60), ("dan", 50_000, 40)], mark=945)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "BACKSTOP"
    move(venue, X=900)
    venue.close_epoch()
    owed = -equity(venue.state.accounts[ids.INSURANCE_FUND])
    assert owed > 0
    out = resolve_all(venue)
    assert {row.account for row in only(o.Deleveraged, out)} == {ids.INSURANCE_FUND}
    assert 0 <= equity(venue.state.accounts[ids.INSURANCE_FUND]) <= 100
