# SPDX-License-Identifier: GPL-3.0-or-later
"""Maker and taker fees by 30-day volume.

The tier is refreshed when an account first trades on a new UTC day, from the volume of the 30 days
before it. Fees accumulate per order and round up once (see book.Order); rebates round down.
"""

from clearing.core.state import Account, State
from clearing.model.params import Params

VOLUME_DAYS = 30


def roll_day(state: State, account: Account, day: int) -> None:
    """Close the account's day and set its tier for `day` (days since 1970)."""
    if account.volume_today:
        account.volumes.append((account.day, account.volume_today))
    account.volumes = [(then, volume) for then, volume in account.volumes if then >= day - VOLUME_DAYS]
    account.day = day
    account.volume_today = 0
    set_tier(account, state.params)


def set_tier(account: Account, params: Params) -> None:
    """The tier follows from the closed days alone, so that a snapshot need not carry it."""
    total = sum(volume for _, volume in account.volumes)
    for tier in params.fee_tiers:
        if total >= tier.volume_atoms:
            account.maker_ppm = tier.maker_ppm
            account.taker_ppm = tier.taker_ppm
