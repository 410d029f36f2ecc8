# SPDX-License-Identifier: GPL-3.0-or-later
"""Borrowing the settlement asset against collateral: limits, interest, and what the exits make of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import borrowing
from clearing.core.margin import equity
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.outcomes import InterestCharged
from clearing.model.params import Borrowing
from tests.core import several as s
from tests.core import venue as v

CHARGE = c.ChargeInterest()


def lender_and_borrower(rules: Borrowing | None = None, borrowed: int = 0) -> s.Several:
    """Bob lends (he has 100,000 USD on the venue); Ann has one bitcoin, 34,875 USD of new risk."""
    venue = s.Several(s.params(rules))
    venue.give("bob", dollar=100_000 * v.USD)
    venue.give("ann", bitcoin=s.COIN)
    if borrowed:
        assert v.codes(venue.withdraw("ann", borrowed)) == []
    return venue


def fund(venue: v.Venue) -> int:
    return equity(venue.state.accounts[ids.INSURANCE_FUND])


@pytest.mark.parametrize(
    ("cap", "amount", "code"),
    [
        (10**12, 34_875 * v.USD, []),
        (10**12, 34_875 * v.USD + 1, ["INSUFFICIENT_BALANCE"]),
        (20_000 * v.USD, 20_000 * v.USD, []),
        (20_000 * v.USD, 20_000 * v.USD + 1, ["BORROW_CAP"]),
        (0, 1, ["INSUFFICIENT_BALANCE"]),
    ],
)
def test_borrowing_is_bounded_by_initial_margin_and_by_the_cap(cap: int, amount: int, code: list[str]) -> None:
    venue = lender_and_borrower(Borrowing(cap_atoms=cap))
    assert v.codes(venue.withdraw("ann", amount)) == code
    assert equity(venue.account("ann")) == (0 if code else -amount)


def test_the_cap_is_on_all_debt_together() -> None:
    """Ann owes 15,000 of 20,000; Cat may owe 5,000 more, also through a transfer, and repaying makes room."""
    venue = lender_and_borrower(Borrowing(cap_atoms=20_000 * v.USD, rate_ppm_per_year=0), 15_000 * v.USD)
    venue.give("cat", bitcoin=s.COIN)
    assert v.codes(venue.withdraw("cat", 5_000 * v.USD + 1)) == ["BORROW_CAP"]
    assert v.codes(venue.do("cat", c.Transfer(1, 5_000 * v.USD + 1))) == ["BORROW_CAP"]
    assert v.codes(venue.do("cat", c.Transfer(1, 5_000 * v.USD))) == []
    venue.deposit("ann", 1_000 * v.USD)
    assert v.codes(venue.withdraw("cat", 1_000 * v.USD)) == []
    assert borrowing.total(venue.state) == 20_000 * v.USD


def test_nobody_can_take_what_is_not_there() -> None:
    """The lender's money is out: he waits until debts are repaid."""
    venue = lender_and_borrower(borrowed=30_000 * v.USD)
    assert v.codes(venue.withdraw("bob", 70_000 * v.USD + 1)) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.withdraw("bob", 70_000 * v.USD)) == []


def test_collateral_of_a_debt_does_not_leave() -> None:
    """Half the bitcoin may go while the other half still carries the debt, to the atom."""
    venue = lender_and_borrower(Borrowing(cap_atoms=10**12, rate_ppm_per_year=0), 17_437_500_000)
    assert v.codes(venue.withdraw("ann", s.COIN // 2 + 1, s.BITCOIN)) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.withdraw("ann", s.COIN // 2, s.BITCOIN)) == []
    assert v.codes(venue.withdraw("ann", 1, s.BITCOIN)) == ["INSUFFICIENT_BALANCE"]


def test_interest_for_a_year_and_a_charge_before_its_time() -> None:
    """10 % of 10,000 for a year is 1,000, to the insurance fund."""
    venue = lender_and_borrower(borrowed=10_000 * v.USD)
    assert v.codes(venue.operator(CHARGE)) == ["INTEREST_NOT_DUE"]
    assert borrowing.due(venue.state, venue.now_us) is None
    venue.advance(ids.YEAR_US)
    assert borrowing.due(venue.state, venue.now_us) == CHARGE
    ann = venue.account("ann").number
    assert venue.operator(CHARGE)[0] == InterestCharged(ann, 10_000 * v.USD, 1_000 * v.USD)
    assert fund(venue) == 1_000 * v.USD
    assert v.codes(venue.operator(CHARGE)) == ["INTEREST_NOT_DUE"]


def test_interest_is_settled_before_money_moves() -> None:
    """Half a year at 10,000, then 5,000 are repaid, then half a year at the rest; nothing without a debt."""
    venue = lender_and_borrower(borrowed=10_000 * v.USD)
    venue.advance(ids.YEAR_US // 2)
    venue.deposit("ann", 5_000 * v.USD)
    assert equity(venue.account("ann")) == -5_500 * v.USD
    venue.advance(ids.YEAR_US // 2)
    venue.deposit("ann", 10_000 * v.USD)
    assert equity(venue.account("ann")) == 4_225 * v.USD
    assert fund(venue) == 775 * v.USD
    assert venue.account("ann").interest_us == 0
    venue.advance(ids.YEAR_US)
    assert v.codes(venue.operator(CHARGE)) == ["INTEREST_NOT_DUE"]


def test_debt_by_loss_bears_interest_from_the_first_charge() -> None:
    """Ann loses 5,000 on a position: no withdrawal saw the debt begin, so the first charge starts the clock."""
    venue = lender_and_borrower()
    venue.sell("bob", 50 * v.USD, 1_000)
    venue.buy("ann", 50 * v.USD, 1_000)
    venue.advance(v.SECOND)
    venue.price(btc=45 * v.USD)
    ann = venue.account("ann")
    assert borrowing.debt(ann) == 5_000 * v.USD
    assert venue.operator(CHARGE)[0] == InterestCharged(ann.number, 5_000 * v.USD, 0)
    venue.advance(ids.YEAR_US)
    assert venue.operator(CHARGE)[0] == InterestCharged(ann.number, 5_000 * v.USD, 500 * v.USD)


def test_debt_that_ends_by_itself_stops_the_clock() -> None:
    """A gain repays the debt: a charge for others forgets the account's clock, and it owes nothing."""
    venue = lender_and_borrower()
    venue.give("cat", bitcoin=s.COIN)
    venue.sell("bob", 50 * v.USD, 100)
    venue.buy("ann", 50 * v.USD, 100)
    venue.withdraw("ann", 100 * v.USD)
    venue.withdraw("cat", 100 * v.USD)
    venue.advance(v.HOUR)
    venue.price(btc=52 * v.USD)
    out = venue.operator(CHARGE)
    charged = [o.account for o in out if isinstance(o, InterestCharged)]
    assert charged == [venue.account("cat").number]
    assert venue.account("ann").interest_us == 0
    venue.close_epoch()


@settings(max_examples=40)
@given(
    st.integers(1, 30_000 * v.USD),
    st.lists(st.integers(1, 40 * v.DAY), min_size=1, max_size=4),
    st.integers(0, 10 * ids.PPM),
)
def test_interest_rounds_up_and_splitting_time_never_saves(debt: int, steps: list[int], rate: int) -> None:
    """However time is cut, the sum is at least the exact interest on the first debt, and the money is not lost."""
    venue = lender_and_borrower(Borrowing(rate_ppm_per_year=rate, interval_us=1, cap_atoms=10**12), debt)
    for step in steps:
        venue.advance(step)
        out = venue.operator(CHARGE)
        assert v.codes(out) == ([] if rate else ["INTEREST_NOT_DUE"])
    paid = -equity(venue.account("ann")) - debt
    exact = debt * rate * sum(steps)
    assert paid * ids.PPM * ids.YEAR_US >= exact
    assert fund(venue) == paid


def test_many_borrowers_are_charged_by_number_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two to an entry: five borrowers take three entries, in the order of their numbers, each once."""
    monkeypatch.setattr(borrowing, "MAX_PER_ENTRY", 2)
    venue = lender_and_borrower()
    names = ["eve", "dan", "cat", "fay"]
    for name in names:
        venue.give(name, bitcoin=s.COIN)
    for name in [*names, "ann"]:
        venue.withdraw(name, 100 * v.USD)
    venue.advance(v.HOUR)
    charged = []
    while borrowing.due(venue.state, venue.now_us) is not None:
        out = [o for o in venue.operator(CHARGE) if isinstance(o, InterestCharged)]
        assert len(out) <= 2
        charged += [o.account for o in out]
    assert charged == sorted(venue.account(name).number for name in [*names, "ann"])


def test_a_loan_in_the_exits() -> None:
    """Bob lent all that is there but the house has nothing: what Ann borrowed is missing in cash, and Bob is paid
    that part in her bitcoin; the rest of it stays hers. When she repays, everything is as before."""
    venue = lender_and_borrower(Borrowing(cap_atoms=10**12, rate_ppm_per_year=0), 20_000 * v.USD)
    closed = venue.close_epoch()
    assert closed.shortfall_atoms == 0
    assert venue.exits("ann") == [0, 60_000_000, 0, 0]
    assert venue.exits("bob") == [80_000 * v.USD, 40_000_000, 0, 0]
    assert venue.state.haircut == 0
    venue.deposit("ann", 20_000 * v.USD)
    venue.close_epoch()
    assert venue.exits("ann") == [0, s.COIN, 0, 0]
    assert venue.exits("bob") == [100_000 * v.USD, 0, 0, 0]


def test_the_house_waits_for_its_money_so_that_members_are_paid_in_cash() -> None:
    """The house has 30,000: it takes Ann's bitcoin, and Bob all his cash."""
    venue = lender_and_borrower(Borrowing(cap_atoms=10**12, rate_ppm_per_year=0))
    venue.deposit("treasury", 30_000 * v.USD)
    venue.withdraw("ann", 20_000 * v.USD)
    venue.close_epoch()
    assert venue.exits("bob") == [100_000 * v.USD, 0, 0, 0]
    assert venue.exits("treasury") == [10_000 * v.USD, 40_000_000, 0, 0]
