# SPDX-License-Identifier: GPL-3.0-or-later
"""The default waterfall: in order, pro rata, to the atom, and never at the cost of who did not gain."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import adl, waterfall
from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.core.waterfall import pro_rata
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import Ladder
from tests.core import venue as v
from tests.core.ledger import Ledger
from tests.core.test_liquidation import X, hold, market, move, one, only

HOUSE_OF = {ids.TRANCHE_INSURANCE: ids.INSURANCE_FUND, ids.TRANCHE_OPERATOR: ids.OPERATOR_CAPITAL}


def check_story(venue: v.Venue) -> None:
    """The outcomes of all entries alone explain every account's cash and positions."""
    ledger = Ledger()
    for entry in venue.journal:
        ledger.read(v.decode_outcomes(entry.outcomes))
    ledger.compare(venue.state)


def resolve_all(venue: v.Venue, deleverage: bool = True) -> list[o.Outcome]:
    """Submit what is due until nothing is, as the operator's ticker does."""
    found: list[o.Outcome] = []
    for _ in range(60):
        command: c.OperatorCommand | None = adl.due(venue.state, venue.now_us) if deleverage else None
        command = command or waterfall.due(venue.state, venue.now_us)
        if command is None:
            return found
        out = venue.operator(command)
        assert not v.codes(out), (command, out)
        found += out
    raise AssertionError("what is due never ends")


def check_order(outcomes: Iterable[o.Outcome]) -> None:
    """No tranche is drawn while the one before it still holds something; what is asked falls by what was drawn."""
    last: o.TrancheDrawn | None = None
    for drawn in only(o.TrancheDrawn, outcomes):
        assert 0 <= drawn.drawn_atoms <= drawn.asked_atoms
        if last is not None and last.account == drawn.account and drawn.tranche > last.tranche:
            assert last.left_atoms == 0, (last, drawn)
            if last.tranche != ids.TRANCHE_DEFAULTER:
                assert drawn.asked_atoms == last.asked_atoms - last.drawn_atoms
        last = drawn


@given(st.lists(st.integers(0, 10**15), max_size=30), st.integers(0, 10**6))
def test_pro_rata_sums_up_and_is_within_an_atom(weights: list[int], ppm: int) -> None:
    """Nobody pays more than there is; each share is the exact one, rounded to one of its neighbours."""
    total = sum(weights) * ppm // 10**6
    shares = pro_rata(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert 0 <= share <= weight
        assert not weight or abs(share - Fraction(total * weight, sum(weights))) < 1


@settings(max_examples=60, deadline=None)
@given(
    fund=st.integers(0, 4_000),
    capital=st.integers(0, 4_000),
    pledges=st.lists(st.integers(1, 3_000), max_size=3),
    shorts=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    mark=st.integers(700, 940),
    between=st.none() | st.integers(700, 940),
)
def test_tranches_are_drawn_in_order_and_conserve(
    fund: int, capital: int, pledges: list[int], shorts: list[int], mark: int, between: int | None
) -> None:
    """Ann is long against everybody and the price falls through her margin. Money is conserved after every entry
    (the venue of the tests checks that); each tranche pays what the one before could not; at the end she owes
    nothing or nothing is left before ADL; and whoever neither pledged nor gained has what they had."""
    venue = market(fund=fund, capital=capital)
    venue.fund("flat", 12_345)
    for at, amount in enumerate(pledges):
        venue.fund(f"member{at}", amount + at)
        assert not v.codes(venue.do(f"member{at}", c.PledgeDefaultFund(amount)))
    venue.fund("ann", sum(shorts) * 60)
    for at, lots in enumerate(shorts):
        venue.fund(f"short{at}", 10**6)
        hold(venue, "ann", lots, against=f"short{at}")
    if between is not None:
        move(venue, X=between)
        venue.close_epoch()  # gains up to here are settled, and safe
    safe = {name: equity(venue.account(name)) for name in (f"short{at}" for at in range(len(shorts)))}
    move(venue, X=mark)
    out = venue.liquidate("ann")
    out += resolve_all(venue)
    check_order(out)
    check_story(venue)
    ann = venue.account("ann")
    assert not ann.slots[X].size or not only(o.Liquidated, out)
    assert equity(venue.account("flat")) == 12_345
    assert equity(venue.account("bob")) == 10**12
    gone = {x.account: x.taken_atoms for x in only(o.GainHaircut, out)}
    deleveraged = bool(only(o.Deleveraged, out))
    for at in range(len(shorts)):
        account = venue.account(f"short{at}")
        if not deleveraged and mark <= (between or 10**9):
            assert equity(account) >= safe[f"short{at}"], "principal was taken"
        assert gone.get(account.number, 0) >= 0
    for at, amount in enumerate(pledges):
        member = venue.account(f"member{at}")
        assert 0 <= member.pledged <= amount
        assert equity(member) == at + member.pledged
    if equity(ann) < 0:
        assert not waterfall.hold_anything(venue.state, ann)


def test_a_worked_example() -> None:
    """Ann owes 7,000: her own pledge of 100 is gone, the fund pays 1,000, the operator 2,000, members' pledges of 900
    and 300 go whole, and the last 2,800 come from gains of 15,000 and 5,000: 2,100 and 700."""
    venue = market(fund=1_000, capital=2_000)
    for name, amount in (("mia", 900), ("max", 300)):
        venue.fund(name, amount)
        venue.do(name, c.PledgeDefaultFund(amount))
    venue.fund("ann", 13_100)
    venue.do("ann", c.PledgeDefaultFund(100))
    for name, lots in (("cat", 75), ("dan", 25)):
        venue.fund(name, 100_000)
        hold(venue, "ann", lots, against=name)
    move(venue, X=799)  # 20,100 against 13,100 leaves her 7,000 short
    assert one(o.Liquidated, venue.liquidate("ann")).step == "DEFAULT"
    ann = venue.account("ann").number
    out = venue.operator(c.ResolveDeficit(ann))
    rows = [(t.tranche, t.asked_atoms, t.drawn_atoms, t.left_atoms) for t in only(o.TrancheDrawn, out)]
    assert rows == [
        (ids.TRANCHE_DEFAULTER, 7_100, 100, 0),
        (ids.TRANCHE_INSURANCE, 7_000, 1_000, 0),
        (ids.TRANCHE_OPERATOR, 6_000, 2_000, 0),
        (ids.TRANCHE_DEFAULT_FUND, 4_000, 1_200, 0),
        (ids.TRANCHE_GAINS, 2_800, 2_800, 17_300),
    ]
    assert [(p.drawn_atoms, p.pledged_atoms) for p in only(o.PledgeDrawn, out)] == [(900, 0), (300, 0)]
    gains = [(g.gain_atoms, g.taken_atoms) for g in only(o.GainHaircut, out)]
    assert gains == [(15_075, 2_100), (5_025, 700)]
    assert one(o.PositionTransferred, out).to_account == ids.INSURANCE_FUND, "in the same entry the fund takes the book"
    assert equity(venue.account("ann")) == 0 and not venue.account("ann").slots[X].size
    assert v.codes(venue.operator(c.ResolveDeficit(ann))) == ["NOTHING_TO_RESOLVE"]


def test_gains_of_earlier_settlement_cycles_are_safe() -> None:
    """Cat gained 10,000 before the epoch and 6,000 after it: at most 6,000 can be taken; the rest is ADL's."""
    venue = market()
    venue.fund("ann", 5_000)
    venue.fund("cat", 100_000)
    hold(venue, "ann", 100, against="cat")
    move(venue, X=900)
    venue.close_epoch()
    move(venue, X=840)
    venue.liquidate("ann")
    out = venue.operator(c.ResolveDeficit(venue.account("ann").number))
    assert one(o.GainHaircut, out).taken_atoms == 6_000
    assert equity(venue.account("cat")) == 110_000
    assert equity(venue.account("ann")) == -5_000


@pytest.mark.parametrize("page", [1, 2, 7])
def test_many_payers_are_told_of_in_several_entries(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What everybody pays does not depend on how many fit into an entry; the money moves in the first one, and a
    snapshot in between carries the rest of the story."""
    taken = []
    for size in (300, page):
        monkeypatch.setattr(waterfall, "MAX_TOLD_PER_ENTRY", size)
        venue = market()
        venue.fund("ann", 2_800)
        for at in range(7):
            venue.fund(f"short{at}", 50_000)
            hold(venue, "ann", 3 + at, against=f"short{at}")
        move(venue, X=871)
        assert one(o.Liquidated, venue.liquidate("ann")).step == "DEFAULT"
        out = venue.operator(c.ResolveDeficit(venue.account("ann").number))
        assert len(only(o.GainHaircut, out)) == min(size, 7)
        claims = [equity(account) for account in venue.state.accounts]
        venue.close_epoch()
        length, payload, closed = venue.snapshots[-1]
        out += resolve_all(venue)
        assert [equity(account) for account in venue.state.accounts] == claims
        tail = v.replay(venue.journal[length:], Reducer(state=load(payload, closed)))
        assert dump(tail.state) == dump(venue.state)
        taken.append(only(o.GainHaircut, out))
    assert taken[0] == taken[1]
    assert len(taken[0]) == 7


def test_the_insurance_funds_own_deficit_goes_down_the_same_way() -> None:
    """The fund took a book, and the market went on falling: operator, pledges, gains, then ADL of its position."""
    venue = market(fund=500, capital=700)
    venue.fund("mia", 300)
    venue.do("mia", c.PledgeDefaultFund(300))
    venue.fund("ann", 6_000)
    venue.fund("cat", 100_000)
    hold(venue, "ann", 100, against="cat")
    move(venue, X=945)
    assert one(o.Liquidated, venue.liquidate("ann")).step == "BACKSTOP"
    venue.close_epoch()
    move(venue, X=900)
    fund = venue.state.accounts[ids.INSURANCE_FUND]
    owed = -equity(fund)
    assert owed > 1_000
    out = venue.operator(c.ResolveDeficit(ids.INSURANCE_FUND))
    rows = [(t.tranche, t.drawn_atoms) for t in only(o.TrancheDrawn, out)]
    assert rows == [(ids.TRANCHE_OPERATOR, 700), (ids.TRANCHE_DEFAULT_FUND, 300), (ids.TRANCHE_GAINS, owed - 1_000)]
    assert equity(fund) == 0 and fund.slots[X].size == 100


def test_only_deficits_are_resolved() -> None:
    venue = market(fund=10**6)
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    numbers = (venue.account("ann").number, ids.FEES, ids.INSURANCE_FUND, ids.OPERATOR_CAPITAL)
    for mark in (1_000, 965, 930):  # healthy, being sold down, and to be taken by the backstop
        move(venue, X=mark)
        for number in numbers:
            assert v.codes(venue.operator(c.ResolveDeficit(number))) == ["NOTHING_TO_RESOLVE"]
    assert v.codes(venue.operator(c.ResolveDeficit(99))) == ["UNKNOWN_ACCOUNT"]
    venue.advance(v.HOUR)
    assert v.codes(venue.operator(c.ResolveDeficit(numbers[0]))) == ["ORACLE_STALE"]


# --- the default fund --------------------------------------------------------------------------


def test_a_pledge_is_locked_and_then_free() -> None:
    """It is the member's cash, marked: equity leaves it out, a claim counts it."""
    lock = v.DAY
    venue = market(ladder=Ladder(default_fund_lock_us=lock))
    ann = venue.fund("ann", 1_000)
    for wrong in (0, 2**63, -(2**63)):
        assert v.codes(venue.do("ann", c.PledgeDefaultFund(wrong))) == ["INVALID_AMOUNT"]
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(1_001))) == ["INSUFFICIENT_BALANCE"]
    told = one(o.DefaultFundPledged, venue.do("ann", c.PledgeDefaultFund(600)))
    assert (told.amount_atoms, told.pledged_atoms) == (600, 600)
    assert (ann.cash, ann.pledged, equity(ann), ann.plain) == (1_000, 600, 1_000, False)
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(401))) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.do("ann", c.Withdraw(0, 0, 401))) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(-601))) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(-1))) == ["PLEDGE_LOCKED"]
    venue.advance(lock - 1)
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(-1))) == ["PLEDGE_LOCKED"]
    venue.advance(1)
    assert not v.codes(venue.do("ann", c.PledgeDefaultFund(-600)))
    assert (ann.cash, ann.pledged, ann.plain) == (1_000, 0, True)


def test_a_pledge_leaves_initial_margin_alone() -> None:
    venue = market()
    venue.fund("ann", 6_000)
    hold(venue, "ann", 100)
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(1_001))) == ["INSUFFICIENT_BALANCE"]
    assert not v.codes(venue.do("ann", c.PledgeDefaultFund(1_000)))
    venue.advance(v.HOUR)
    assert v.codes(venue.do("ann", c.PledgeDefaultFund(1))) == ["ORACLE_STALE"]


@settings(max_examples=30, deadline=None)
@given(pledges=st.lists(st.integers(1, 5_000), min_size=1, max_size=5), owed=st.integers(1, 6_000))
def test_pledges_pay_pro_rata(pledges: list[int], owed: int) -> None:
    """Within an atom of their part, all together exactly what is asked, and cash goes with the pledge."""
    venue = market()
    for at, amount in enumerate(pledges):
        venue.fund(f"member{at}", amount)
        venue.do(f"member{at}", c.PledgeDefaultFund(amount))
    venue.fund("ann", 50_000)
    hold(venue, "ann", 1_000)
    move(venue, X=950)
    venue.close_epoch()
    venue.state.accounts[venue.account("ann").number].cash -= owed  # as if a fill had cost her that
    venue.account("bob").cash += owed
    venue.account("bob").basis += owed
    venue.liquidate("ann")
    out = venue.operator(c.ResolveDeficit(venue.account("ann").number))
    total = min(owed, sum(pledges))
    shares = {p.account: p.drawn_atoms for p in only(o.PledgeDrawn, out)}
    assert sum(shares.values()) == total
    for at, amount in enumerate(pledges):
        member = venue.account(f"member{at}")
        share = shares.get(member.number, 0)
        assert abs(share - Fraction(total * amount, sum(pledges))) <= 1
        assert member.cash == member.pledged == amount - share
