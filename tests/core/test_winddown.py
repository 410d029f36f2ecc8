# SPDX-License-Identifier: GPL-3.0-or-later
"""The wind-down: to the atom, in the order own collateral, house, pledges, gains, principal; settlement money to
members first, collateral in kind for what lacks."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import waterfall
from clearing.core.margin import equity
from clearing.core.winddown import Claim, Lane, Payouts, allocate, cover
from clearing.model import commands as c
from clearing.model.ids import UNIT
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v

amounts = st.integers(-(10**15), 10**15) | st.integers(-20, 20)
holdings = st.integers(0, 10**12) | st.integers(0, 9)
# Settlement atoms per atom of an asset: BTC costs hundreds an atom, ether a small fraction.
rates = st.sampled_from(((500, 1), (1, 1), (3, 7), (1, 250), (0, 1), (999_999, 1_000)))
COLLATERAL_LANES = 2


class Venue(NamedTuple):
    """A drawn book: every claim, and the lanes whose holdings they sum to."""

    claims: list[Claim]
    house: Claim
    lanes: list[Lane]

    def paid(self) -> Payouts:
        return allocate(self.claims, self.house, self.lanes)

    @property
    def debts(self) -> int:
        return sum(max(0, -q.claim) for q in self.claims)

    @property
    def positive(self) -> int:
        return sum(max(0, q.claim) for q in self.claims)

    def atom(self) -> Fraction:
        """What rounding down one atom of every asset can cost."""
        return 1 + sum((Fraction(lane.above, lane.below) for lane in self.lanes), Fraction(0))


def worth(amounts: tuple[int, ...], lanes: list[Lane]) -> Fraction:
    """Exact settlement value of a payout or of collateral."""
    return sum((Fraction(a * lane.above, lane.below) for a, lane in zip(amounts, lanes, strict=False)), Fraction(0))


@st.composite
def books(draw: st.DrawFn, pledges: bool = True) -> Venue:
    """Members with claims, gains, pledges and collateral in two lanes; a house; holdings that are their sums."""
    rows = draw(
        st.lists(
            st.tuples(amounts, st.integers(0, 100), st.integers(0, 100), st.tuples(holdings, holdings), st.booleans()),
            max_size=6,
        )
    )
    claims = []
    for number, (claim, gain, pledged, held, has) in enumerate(rows):
        positive = max(0, claim)
        pledge = positive * pledged // 300 if pledges else 0
        claims.append(Claim(number, claim, positive * gain // 100, pledge, (0, *held) if has else ()))
    others = sum(q.claim for q in claims)
    own = (0, draw(holdings), draw(holdings)) if draw(st.booleans()) else ()
    house = Claim(-1, max(-others, draw(amounts)), 0, 0, own)
    there = house.claim + others
    lanes = [Lane(there, True, 0, 1, 1)]
    for at in range(1, 1 + COLLATERAL_LANES):
        total = sum(q.collateral[at] for q in [*claims, house] if q.collateral)
        lanes.append(Lane(total, False, draw(st.integers(0, 1)), *draw(rates)))
    return Venue(claims, house, lanes)


@given(books())
def test_payouts_sum_to_the_holdings_of_every_lane_and_none_is_negative(book: Venue) -> None:
    paid = book.paid()
    for at, lane in enumerate(book.lanes):
        assert sum(row[at] for row in paid.users.values()) + paid.house[at] == lane.holdings
        assert paid.house[at] >= 0
        assert all(row[at] >= 0 for row in paid.users.values())
    assert list(paid.users) == [q.account for q in book.claims]


@given(books())
def test_nobody_gets_more_than_the_claim_and_own_collateral(book: Venue) -> None:
    """In value at the index; a creditor's own collateral comes back whole, and a debtor gets nothing but the
    rest of it, of which no more was taken than the debt costs."""
    paid = book.paid()
    for q in book.claims:
        got, own = paid.users[q.account], q.collateral or (0, 0, 0)
        if q.claim >= 0:
            assert all(got[at] >= own[at] for at in (1, 2))
            assert worth(got, book.lanes) <= q.claim + worth(own, book.lanes)
        else:
            taken, covered = cover(-q.claim, q.collateral, book.lanes)
            assert got == tuple(a - b for a, b in zip(own, taken, strict=True))
            assert covered <= worth(tuple(taken), book.lanes) < covered + book.atom()


@given(books())
def test_shortfall_is_what_own_collateral_does_not_cover(book: Venue) -> None:
    paid = book.paid()
    expected = Fraction(0)
    for q in book.claims:
        if q.claim < 0:
            expected += max(Fraction(0), -q.claim - worth(q.collateral or (0, 0, 0), book.lanes))
    debtors = sum(q.claim < 0 for q in book.claims)
    assert expected <= paid.shortfall <= expected + debtors * COLLATERAL_LANES


@given(books(pledges=False))
def test_nobody_gets_less_than_pro_rata(book: Venue) -> None:
    """Who has a claim and no gain at risk is paid, in value, at least the claim's share of all that is there
    for claims: the settlement money and the collateral that answers for debts."""
    paid = book.paid()
    debtors = [q for q in book.claims if q.claim < 0]
    pool = Fraction(sum(worth(tuple(cover(-q.claim, q.collateral, book.lanes)[0]), book.lanes) for q in debtors))
    left = paid.shortfall - book.house.claim
    if left > 0:
        pool += worth(tuple(cover(left, book.house.collateral, book.lanes)[0]), book.lanes)
    for q in book.claims:
        if q.claim > 0 and q.gain == 0:
            share = min(Fraction(q.claim), q.claim * (book.lanes[0].holdings + pool) / book.positive)
            if book.house.claim > 0:  # its part of what is there is spent on debts first
                share = min(share, q.claim * (1 - Fraction(max(0, left), book.positive)))
            own = worth(q.collateral or (0, 0, 0), book.lanes)
            slack = (2 + len(book.claims)) * book.atom()
            assert worth(paid.users[q.account], book.lanes) - own >= share - slack


@given(books())
def test_house_then_pledges_then_gains_then_principal(book: Venue) -> None:
    """Each layer is untouched until the one before it is used up (dust aside, which the house keeps)."""
    paid = book.paid()
    slack = (1 + len(book.claims)) * book.atom()
    lost = {
        q.account: q.claim - (worth(paid.users[q.account], book.lanes) - worth(q.collateral or (0, 0, 0), book.lanes))
        for q in book.claims
        if q.claim > 0
    }
    due = {q.account: q for q in book.claims}
    pledged = {number: min(due[number].pledged, due[number].claim) for number in lost}
    gains = {number: min(due[number].gain, due[number].claim - pledged[number]) for number in lost}
    # Its collateral, where it has a price, went before anybody else lost anything.
    if any(loss > slack for loss in lost.values()):
        left = [row for row, lane in zip(paid.house, book.lanes, strict=True) if lane.above]
        priced = tuple(0 if not lane.above else amount for amount, lane in zip(paid.house, book.lanes, strict=True))
        assert left and worth(priced, book.lanes) <= 2 * slack
        assert paid.shortfall > book.house.claim
    if any(lost[n] > pledged[n] + slack for n in lost):  # a gain was touched: no pledge is left
        assert all(lost[n] >= pledged[n] for n in lost)
    if any(lost[n] > pledged[n] + gains[n] + slack for n in lost):  # principal was: no gain is left
        assert all(lost[n] >= pledged[n] + gains[n] for n in lost)


@given(books())
def test_without_a_coupling_each_payout_stands_alone(book: Venue) -> None:
    """While the house could pay all debts, members are paid the same whoever else is computed with them: the
    claim, and their collateral less what their own debt takes."""
    rich = max(book.debts, book.house.claim)
    lanes = [book.lanes[0]._replace(holdings=book.lanes[0].holdings + rich - book.house.claim), *book.lanes[1:]]
    book = Venue(book.claims, book.house._replace(claim=rich), lanes)
    whole = book.paid()
    assert whole.cut == 0
    some = [q for q in book.claims if q.claim < 0 or q.account % 2]
    part = allocate(some, book.house, book.lanes)
    for q in some:
        taken, _ = cover(max(0, -q.claim), q.collateral, book.lanes)
        own = q.collateral or (0, 0, 0)
        alone = (max(0, q.claim), *(own[at] - taken[at] for at in (1, 2)))
        assert part.users[q.account] == whole.users[q.account] == alone


@given(books(), st.integers(2, 5))
def test_cuts_are_pro_rata_and_round_down(book: Venue, parts: int) -> None:
    """Splitting a claim into equal accounts never pays more in any asset; equal claims are paid equally."""
    paid = book.paid()
    seen: dict[tuple[object, ...], tuple[int, ...]] = {}
    for q in book.claims:
        key = (q.claim, q.gain, q.pledged, q.collateral)
        assert seen.setdefault(key, paid.users[q.account]) == paid.users[q.account]
    if book.claims and book.claims[0].claim >= 0:
        q = book.claims[0]
        split = [Claim(100 + i, q.claim, q.gain, q.pledged) for i in range(parts)]
        split[0] = split[0]._replace(collateral=q.collateral)
        more = (parts - 1) * q.claim
        lanes = [book.lanes[0]._replace(holdings=book.lanes[0].holdings + more), *book.lanes[1:]]
        whole = q._replace(claim=parts * q.claim, gain=parts * q.gain, pledged=parts * q.pledged)
        one = allocate([whole, *book.claims[1:]], book.house, lanes)
        again = allocate([*split, *book.claims[1:]], book.house, lanes)
        for at in range(3):
            assert sum(again.users[s.account][at] for s in split) <= one.users[q.account][at]


@given(books(pledges=False), st.integers(1, 10**13))
def test_who_leaves_early_bears_the_cut(book: Venue, claim: int) -> None:
    """A withdrawal pays (1 - cut) of a claim and leaves the cut to the house: then nobody else is worse off, in
    value, than if the leaver had stayed."""
    leaver = Claim(99, claim, 0)
    cash = book.lanes[0]
    stayed = allocate(
        [*book.claims, leaver], book.house, [cash._replace(holdings=cash.holdings + claim), *book.lanes[1:]]
    )
    lost = -(-claim * stayed.cut // UNIT)
    rest = [cash._replace(holdings=cash.holdings + lost), *book.lanes[1:]]
    left = allocate(book.claims, book.house._replace(claim=book.house.claim + lost), rest)
    slack = (2 + len(book.claims)) * book.atom()
    for q in book.claims:
        before, after = stayed.users[q.account], left.users[q.account]
        assert worth(after, book.lanes) >= worth(before, book.lanes) - slack


@given(books(), st.integers(0, 10**12))
def test_a_second_vault_pays_settlement_money_in_proportion(book: Venue, elsewhere: int) -> None:
    """Two lanes of the settlement asset: everyone has the same fraction of the claim in each, and no more in all."""
    first = book.lanes[0]
    split = first.holdings * elsewhere // 10**12
    lanes = [first._replace(holdings=first.holdings - split), *book.lanes[1:], Lane(split, True, 0, 1, 1)]

    def widen(q: Claim) -> Claim:
        return q._replace(collateral=(*q.collateral, 0)) if q.collateral else q

    both = allocate([widen(q) for q in book.claims], widen(book.house), lanes)
    one = book.paid()
    for q in book.claims:
        here, there = both.users[q.account][0], both.users[q.account][-1]
        assert one.users[q.account][0] - 1 <= here + there <= one.users[q.account][0]
        if first.holdings:
            fair = Fraction(one.users[q.account][0] * split, first.holdings)
            assert fair - 2 <= there <= fair + 1
    assert all(amount >= 0 for amount in both.house)


CASH = Lane(180, True, 0, 1, 1)


def test_a_worked_example_without_collateral() -> None:
    """Deficit 100, house 30: 70 are missing. Gains of 50 and 10 go first (to zero), the last 10 come
    from principal 150 + 40 = 190 pro rata: 150 x 180 / 190 = 142.1 and 40 x 180 / 190 = 37.9."""
    claims = [Claim(3, 200, 50), Claim(4, 50, 10), Claim(5, -100, 0)]
    paid = allocate(claims, Claim(0, 30, 0), [CASH])
    assert paid == ({3: (142,), 4: (37,), 5: (0,)}, (1,), 100, -(-70 * UNIT // 250))


def test_a_worked_example_with_a_pool() -> None:
    """A debtor owes 100 against 30 coins worth 5 each: 20 coins are pooled, 10 stay hers. Members claim 220 and
    the house 60, and 180 are there in cash: the house takes 60 of the pool's 100 (12 coins), members get all
    180 in cash and the lacking 40 in coins (8), pro rata to 110 each."""
    claims = [Claim(3, 110, 0), Claim(4, 110, 0), Claim(5, -100, 0, 0, (0, 30))]
    paid = allocate(claims, Claim(0, 60, 0), [CASH, Lane(30, False, 0, 5, 1)])
    assert paid == ({3: (90, 4), 4: (90, 4), 5: (0, 10)}, (0, 12), 0, 0)


def test_the_most_liquid_asset_is_taken_first() -> None:
    """Order decides, not the lane; without a price nothing is taken."""
    lanes = [CASH, Lane(9, False, 2, 10, 1), Lane(9, False, 1, 10, 1), Lane(9, False, 0, 0, 1)]
    assert cover(105, (0, 9, 9, 9), lanes) == ([0, 2, 9, 0], 105)
    assert cover(500, (0, 9, 9, 9), lanes) == ([0, 9, 9, 0], 180)


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


@settings(max_examples=40, deadline=None)
@given(gains=st.integers(-900, 900), moves=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 1_500)), max_size=8))
def test_no_transfer_hides_a_gain_or_makes_one(gains: int, moves: list[tuple[int, int]]) -> None:
    """Between two accounts of one owner, what was gained since the epoch stays a gain to the atom: nobody is out of the
    waterfall's reach by moving house."""
    venue = v.Venue()
    venue.fund("ann", 1_000)
    venue.do("ann", c.Transfer(1, 1))
    venue.account("ann").basis -= gains  # as if so much had been earned (or lost) since the epoch
    for sub, amount in moves:
        venue.do("ann", c.Transfer(1 - sub, amount), sub=sub)
    gained = [waterfall.gain(account) for account in venue.owner_accounts("ann")]
    assert sum(gained) == max(0, min(gains, 999))


@settings(max_examples=60)
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
