# SPDX-License-Identifier: GPL-3.0-or-later
"""The wind-down allocation: to the atom, in the order house, gains, principal."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from clearing.core.margin import equity
from clearing.core.winddown import Claim, allocate
from clearing.model import commands as c
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v

amounts = st.integers(-(10**15), 10**15) | st.integers(-20, 20)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Claim], int, int]:
    """Claims, the house's claim, and holdings that equal their sum."""
    raw = draw(st.lists(st.tuples(amounts, st.integers(0, 100)), max_size=12))
    claims = [Claim(i, x, max(0, x) * share // 100) for i, (x, share) in enumerate(raw)]
    house = draw(amounts)
    holdings = house + sum(x for x, _ in raw)
    assume(holdings >= 0)
    return claims, house, holdings


@given(books())
def test_payouts_sum_to_the_holdings_and_none_is_negative(book: tuple[list[Claim], int, int]) -> None:
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    assert sum(paid.users.values()) + paid.house == holdings
    assert all(amount >= 0 for amount in paid.users.values())
    assert paid.house >= 0
    assert paid.shortfall == sum(max(0, -q.claim) for q in claims)
    assert list(paid.users) == [q.account for q in claims]


@given(books())
def test_nobody_gets_more_than_the_claim_and_debtors_get_nothing(book: tuple[list[Claim], int, int]) -> None:
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    assert all(paid.users[q.account] <= max(0, q.claim) for q in claims)


@given(books())
def test_the_house_is_exhausted_before_any_gain_and_gains_before_any_principal(
    book: tuple[list[Claim], int, int],
) -> None:
    """Dust aside (less than an atom a user, kept by the house)."""
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    cut = [max(0, q.claim) - paid.users[q.account] for q in claims]
    if any(cut):
        assert paid.house < max(1, len(claims))
        assert paid.shortfall > house
    deep = [q for q, lost in zip(claims, cut, strict=True) if lost > q.gain]
    if deep:  # somebody lost principal, so nobody kept a gain
        assert all(paid.users[q.account] <= max(0, q.claim) - q.gain for q in claims)


@given(books(), st.integers(2, 5))
def test_cuts_are_pro_rata_and_round_down(book: tuple[list[Claim], int, int], parts: int) -> None:
    """Splitting a claim into equal accounts never pays more, and equal claims are paid equally."""
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    by_claim: dict[tuple[int, int], int] = {}
    for claim in claims:
        amount = paid.users[claim.account]
        assert by_claim.setdefault((claim.claim, claim.gain), amount) == amount
    if claims and claims[0].claim >= 0 and claims[0].claim % parts == claims[0].gain % parts == 0:
        whole = claims[0]
        split = [Claim(100 + i, whole.claim // parts, whole.gain // parts) for i in range(parts)]
        again = allocate([*split, *claims[1:]], house, holdings)
        assert sum(again.users[q.account] for q in split) <= paid.users[whole.account]


def test_a_worked_example() -> None:
    """Deficit 100, house 30: 70 are missing. Gains of 50 and 10 go first (to zero), the last 10 come
    from principal 150 + 40 = 190 pro rata: 150 x 180 / 190 = 142.1 and 40 x 180 / 190 = 37.9."""
    claims = [Claim(3, 200, 50), Claim(4, 50, 10), Claim(5, -100, 0)]
    paid = allocate(claims, 30, 180)
    assert paid == ({3: 142, 4: 37, 5: 0}, 1, 100)


def test_only_gains_are_gains() -> None:
    """Money that comes and goes, or moves between accounts, is principal: it moves the basis with it."""
    venue = v.Venue()
    venue.fund("ann", 1_000)
    venue.close_epoch()
    venue.deposit("ann", 50)
    venue.do("ann", c.Withdraw(0, 0, 300), c.Transfer(1, 200))
    for sub, claim in ((0, 550), (1, 200)):
        account = venue.account("ann", sub)
        assert account.basis == equity(account) == claim
    venue.account("ann").basis -= 10  # as if 10 had been earned since the epoch
    venue.do("ann", c.Withdraw(0, 0, 540))
    account = venue.account("ann")
    assert (equity(account), equity(account) - account.basis) == (10, 10)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(90, 110)), max_size=20))
def test_the_entry_cost_follows_average_cost(trades: list[tuple[int, int, int]]) -> None:
    """Adding adds the cost, reducing takes its share of it (to the atom), turning starts anew."""
    venue = v.Venue(Params(fee_tiers=(FeeTier(0, 0, 0),)), (Instrument(1, "X", "X", 1, 99, 50_000, 30_000),))
    venue.fund("ann", 10**9)
    venue.fund("bob", 10**9)
    venue.oracle({1: 100})
    size, cost = 0, Fraction(0)
    for side, lots, price in trades:
        venue.do("bob", venue.order(1 - side, price, lots, 1))
        venue.do("ann", venue.order(side, price, lots, 1))
        signed = lots if side == 0 else -lots
        if size * signed >= 0:
            cost += signed * price
        elif abs(signed) <= abs(size):
            cost += cost * signed / size
        else:
            cost = Fraction((size + signed) * price)
        size += signed
        slot = venue.account("ann").slots[1]
        assert slot.size == size
        assert abs(slot.entry_cost - cost) <= len(trades)
        assert size or slot.entry_cost == 0
