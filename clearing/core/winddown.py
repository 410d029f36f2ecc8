# SPDX-License-Identifier: GPL-3.0-or-later
"""What everybody would be paid if the venue stopped at these prices: the exits of an epoch, in every asset.

Claims q (cash plus marked positions) sum to the settlement holdings V[S], holdings of collateral to V[a]. In
integers, all divisions floor, the dust is the house's:
1. A debt (q < 0) is taken from the account's own collateral at the index, most liquid first: the pool K. What
   that cannot cover is U.
2. U goes down the waterfall: the house (its claim, then its collateral, which joins the pool), what members
   pledged to the default fund, gains since the last epoch, all positive claims; each pro rata.
3. What is left of the positive claims is worth at most V[S] + value(K). Members are paid from V[S] first, the house
   last; the house takes the pool first, and only what lacks is paid to members in kind, pro rata.
4. The settlement asset is paid from each vault in proportion to what lies there; collateral is paid where it lies. A
   vault that is lost thus costs everyone the same fraction of their settlement claim, and its own depositors their
   collateral there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from clearing.model.ids import UNIT


class Lane(NamedTuple):
    """An asset of one vault: what lies there, and settlement atoms per asset atom (`above` / `below`; 0 without a
    price). `order` is the order of seizure."""

    holdings: int
    settlement: bool = False
    order: int = 0
    above: int = 0
    below: int = 1

    def value(self, amount: int) -> int:
        """Settlement atoms of an amount, rounded down."""
        return amount * self.above // self.below


class Claim(NamedTuple):
    """An account's settlement claim, its gain since the last epoch (0 <= gain <= max(0, claim)), what of the
    claim is pledged, and its collateral: atoms per lane (empty: none)."""

    account: int
    claim: int
    gain: int
    pledged: int = 0
    collateral: tuple[int, ...] = ()


class Payouts(NamedTuple):
    """Atoms per lane: of each account in the claims, and of the house (when all accounts were given).

    `shortfall` is U. `cut` is the fraction (1e-12, rounded up) of positive claims that is lost when pledges
    are used up: 0 while the house and the default fund cover U.
    """

    users: dict[int, tuple[int, ...]]
    house: tuple[int, ...]
    shortfall: int
    cut: int


def cover(debt: int, collateral: Sequence[int], lanes: Sequence[Lane]) -> tuple[list[int], int]:
    """Step 1 for one account: (atoms taken per lane, settlement atoms of the debt that they cover)."""
    taken, left = [0] * len(lanes), debt
    for at in sorted(range(len(collateral)), key=lambda at: (lanes[at].order, at)):
        lane = lanes[at]
        if left > 0 and lane.above and not lane.settlement:
            taken[at] = min(collateral[at], -(-left * lane.below // lane.above))
            left -= min(left, lane.value(taken[at]))
    return taken, debt - left


def allocate(claims: Sequence[Claim], house: Claim, lanes: Sequence[Lane]) -> Payouts:
    """Payouts that sum to the holdings of every lane. `house` is all house accounts as one claim.

    Requires that all claims sum to the settlement holdings and collateral to each other lane's. When the
    claims include every debtor and all debts together do not exceed the house's claim, each account's payout depends on
    nothing but that account, and `claims` may leave others out.
    """
    pool = [0] * len(lanes)
    kept: dict[int, list[int]] = {}
    shortfall = 0
    for claim in claims:
        left = list(claim.collateral) or [0] * len(lanes)
        if claim.claim < 0:
            taken, covered = cover(-claim.claim, claim.collateral, lanes)
            shortfall += -claim.claim - covered
            _shift(left, pool, taken)
        kept[claim.account] = left
    deficit = shortfall - house.claim
    if deficit > 0:
        taken, covered = cover(deficit, house.collateral, lanes)
        _shift([0] * len(lanes), pool, taken)
        deficit -= covered
    due, cut = _waterfall(claims, max(0, deficit))
    users = _pay(due, kept, pool, lanes)
    paid = [sum(amounts[at] for amounts in users.values()) for at in range(len(lanes))]
    rest = tuple(lane.holdings - spent for lane, spent in zip(lanes, paid, strict=True))
    return Payouts(users, rest, shortfall, cut)


def _shift(source: list[int], target: list[int], amounts: Sequence[int]) -> None:
    for at, amount in enumerate(amounts):
        source[at] -= amount
        target[at] += amount


def _waterfall(claims: Sequence[Claim], deficit: int) -> tuple[dict[int, int], int]:
    """Step 2 after the house: (what is left of every positive claim, `Payouts.cut`)."""
    due = {c.account: max(0, c.claim) for c in claims}
    if not deficit:
        return due, 0
    positive = sum(due.values())
    pledges = {c.account: min(c.pledged, max(0, c.claim)) for c in claims}
    deficit = _take(due, pledges, deficit)
    cut = min(UNIT, -(-deficit * UNIT // positive)) if positive else UNIT
    gains = {c.account: min(c.gain, due[c.account]) for c in claims}
    deficit = _take(due, gains, deficit)
    _take(due, dict(due), deficit)
    return due, cut


def _take(due: dict[int, int], layer: dict[int, int], deficit: int) -> int:
    """Take a deficit from a layer of the claims pro rata, rounded up; returns what the layer cannot bear."""
    total = sum(layer.values())
    if deficit <= 0 or not total:
        return deficit
    for account, part in layer.items():
        due[account] -= part if deficit >= total else -(-deficit * part // total)
    return max(0, deficit - total)


def _pay(
    due: dict[int, int], kept: dict[int, list[int]], pool: Sequence[int], lanes: Sequence[Lane]
) -> dict[int, tuple[int, ...]]:
    """Steps 3 and 4: atoms per lane and account."""
    total = sum(due.values())
    there = sum(lane.holdings for lane in lanes if lane.settlement)
    lacking = max(0, total - there)
    # Rounded up, so that payment in kind is never worth more than what lacks.
    worth = sum(-(-amount * lane.above // lane.below) for lane, amount in zip(lanes, pool, strict=True))
    users: dict[int, tuple[int, ...]] = {}
    for account, amount in due.items():
        row = kept[account]
        for at, lane in enumerate(lanes):
            if lane.settlement:
                row[at] = amount * lane.holdings // max(total, there, 1)
            elif lacking and pool[at]:
                row[at] += pool[at] * lacking * amount // (worth * total)
        users[account] = tuple(row)
    return users
