# SPDX-License-Identifier: GPL-3.0-or-later
"""What everybody would be paid if the venue stopped at this mark: the exits of an epoch.

Every claim q is cash plus marked positions, and all claims sum to the holdings V. Users in
deficit owe U together. The house absorbs U first; then gains since the last epoch pro rata; then
all positive claims pro rata. Payouts round down and the dust is the house's, so that the exits sum
to V exactly.
"""

from typing import NamedTuple


class Claim(NamedTuple):
    """A user account's claim and its gain since the last epoch, atoms (gain <= max(0, claim))."""

    account: int
    claim: int
    gain: int


class Payouts(NamedTuple):
    """Atoms per account (only those in `claims`), the house's payout, and the users' deficit U."""

    users: dict[int, int]
    house: int
    shortfall: int


def allocate(claims: list[Claim], house_claim: int, holdings: int) -> Payouts:
    """Payouts that sum to `holdings`. Requires sum(claims) + house_claim == holdings >= 0."""
    shortfall = sum(-c.claim for c in claims if c.claim < 0)
    deficit = shortfall - house_claim
    if deficit <= 0:
        users = {c.account: max(0, c.claim) for c in claims}
    else:
        users = _haircut(claims, deficit)
    return Payouts(users, holdings - sum(users.values()), shortfall)


def _haircut(claims: list[Claim], deficit: int) -> dict[int, int]:
    """Take `deficit` from gains pro rata, and what they cannot bear from the rest pro rata."""
    gains = sum(c.gain for c in claims)
    if deficit <= gains:
        return {c.account: max(0, c.claim) - -(-deficit * c.gain // gains) for c in claims}
    principal = sum(max(0, c.claim) - c.gain for c in claims)
    left = principal - (deficit - gains)
    if principal <= 0:
        return {c.account: 0 for c in claims}
    return {c.account: (max(0, c.claim) - c.gain) * left // principal for c in claims}
