# SPDX-License-Identifier: GPL-3.0-or-later
"""The wind-down allocation: to the atom, in the order house, gains, principal."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from clearing.core.winddown import Claim, allocate

amounts = st.integers(-(10**15), 10**15) | st.integers(-20, 20)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[Claim], int, int]:
    """Claims, the house's claim, and holdings that equal their sum."""
    raw = draw(st.lists(st.tuples(amounts, st.integers(0, 100)), max_size=12))
    claims = [Claim(i, q, max(0, q) * share // 100) for i, (q, share) in enumerate(raw)]
    house = draw(amounts)
    holdings = house + sum(q for q, _ in raw)
    assume(holdings >= 0)
    return claims, house, holdings


@given(books())
def test_payouts_sum_to_the_holdings_and_none_is_negative(book: tuple[list[Claim], int, int]) -> None:
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    assert sum(paid.users.values()) + paid.house == holdings
    assert all(amount >= 0 for amount in paid.users.values())
    assert paid.house >= 0
    assert paid.shortfall == sum(max(0, -c.claim) for c in claims)
    assert list(paid.users) == [c.account for c in claims]


@given(books())
def test_nobody_gets_more_than_the_claim_and_debtors_get_nothing(book: tuple[list[Claim], int, int]) -> None:
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    assert all(paid.users[c.account] <= max(0, c.claim) for c in claims)


@given(books())
def test_the_house_is_exhausted_before_any_gain_and_gains_before_any_principal(
    book: tuple[list[Claim], int, int],
) -> None:
    """Dust aside (less than an atom a user, kept by the house)."""
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    cut = [max(0, c.claim) - paid.users[c.account] for c in claims]
    if any(cut):
        assert paid.house < max(1, len(claims))
        assert paid.shortfall > house
    deep = [c for c, lost in zip(claims, cut, strict=True) if lost > c.gain]
    if deep:  # somebody lost principal, so nobody kept a gain
        assert all(paid.users[c.account] <= max(0, c.claim) - c.gain for c in claims)


@given(books(), st.integers(2, 5))
def test_cuts_are_pro_rata_and_round_down(book: tuple[list[Claim], int, int], parts: int) -> None:
    """Splitting a claim into equal accounts never pays more, and equal claims are paid equally."""
    claims, house, holdings = book
    paid = allocate(claims, house, holdings)
    by_claim: dict[tuple[int, int], int] = {}
    for c in claims:
        assert by_claim.setdefault((c.claim, c.gain), paid.users[c.account]) == paid.users[c.account]
    if claims and claims[0].claim >= 0 and claims[0].claim % parts == claims[0].gain % parts == 0:
        whole = claims[0]
        split = [Claim(100 + i, whole.claim // parts, whole.gain // parts) for i in range(parts)]
        again = allocate([*split, *claims[1:]], house, holdings)
        assert sum(again.users[c.account] for c in split) <= paid.users[whole.account]


def test_a_worked_example() -> None:
    """Deficit 100, house 30: 70 are missing. Gains of 50 and 10 go first (to zero), the last 10 come
    from principal 150 + 40 = 190 pro rata: 150 x 180 / 190 = 142.1 and 40 x 180 / 190 = 37.9."""
    claims = [Claim(3, 200, 50), Claim(4, 50, 10), Claim(5, -100, 0)]
    paid = allocate(claims, 30, 180)
    assert paid == ({3: 142, 4: 37, 5: 0}, 1, 100)
