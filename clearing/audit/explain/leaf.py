# SPDX-License-Identifier: GPL-3.0-or-later
"""From an account to its owner's exit leaf at an epoch's close, to the atom.

Rules:
- cash + positions at mark - unsettled funding = claim; the claim less the account's share of losses that nobody
  covers, plus collateral, is what the wind-down pays out (clearing.core.winddown); the payouts of the owner's accounts
  are the leaf's exits, and withdrawals that were acknowledged its acks.
- A sum that does not come out is an error (EXPLAIN_DIFFERS) and not a rounding.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from clearing.audit.explain.explanation import Balance, Event, Explanation, Position
from clearing.audit.replay import ReplayedEpoch
from clearing.core.epoch import claim_of, house_claim, lanes_of
from clearing.core.margin import equity
from clearing.core.state import Account, State
from clearing.core.winddown import Claim, allocate
from clearing.model import ids
from clearing.model.errors import NovateError


def summed(changes: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By lane, the sum of (lane, atoms) pairs."""
    found: dict[int, int] = {}
    for lane, amount in changes:
        found[lane] = found.get(lane, 0) + amount
    return found


class Told(NamedTuple):
    """What was written down of an account up to the close: its events, its acks by lane (atoms), and every account's
    basis as it was before the close (atoms, by number)."""

    events: list[Event]
    acks: dict[int, int]
    bases: dict[int, int]


def explained(number: int, told: Told, state: State, epoch: ReplayedEpoch, seq: int) -> Explanation:
    """The explanation at an epoch's close, which entry `seq` made, in the state right after it.

    Raises `NovateError` UNKNOWN_ACCOUNT, EXPLAIN_DIFFERS.
    """
    if number >= len(state.accounts):
        message = f"no account {number} at epoch {epoch.outcome.epoch}; the highest is {len(state.accounts) - 1}"
        raise NovateError("UNKNOWN_ACCOUNT", message)
    account = state.accounts[number]
    outcome = epoch.outcome
    found = Explanation(number, account.owner.address, outcome.epoch, seq, outcome.state_root, told.events)
    found.positions = [
        Position(
            slot.inst.id,
            slot.inst.spec.symbol,
            slot.size,
            slot.inst.mark,
            slot.size * slot.inst.mark,
            slot.size * (slot.funding - slot.inst.funding_index),
        )
        for slot in account.slots.values()
        if slot.size
    ]
    found.cash, found.claim = account.cash, equity(account)
    found.holdings = {lane: held.amount for lane, held in account.holdings.items()}
    payouts = _payouts(state, account, told.bases)
    if account.number >= ids.HOUSE_ACCOUNTS:
        own = payouts[account.number]
        found.losses = found.claim - sum(own[lane] for lane in state.cash_lanes)
        found.balances = list(_balances(state, account, payouts, told.acks, own))
    _check(found, state, payouts)
    return found


def _payouts(state: State, account: Account, bases: dict[int, int]) -> dict[int, tuple[int, ...]]:
    """What the close paid each account of the owner, computed again with the gains as they were before it."""
    members = state.accounts[ids.HOUSE_ACCOUNTS :] if state.coupled else account.owner.accounts
    claims = [_claim(state, one, bases) for one in members if one.number >= ids.HOUSE_ACCOUNTS]
    return allocate(claims, house_claim(state), lanes_of(state)).users


def _claim(state: State, account: Account, bases: dict[int, int]) -> Claim:
    now = claim_of(state, account)
    gain = max(0, min(now.claim, now.claim - bases.get(account.number, 0)))
    return now._replace(gain=gain)


def _balances(
    state: State, account: Account, payouts: dict[int, tuple[int, ...]], acks: dict[int, int], own: tuple[int, ...]
) -> Iterator[Balance]:
    owner = account.owner
    for vault in state.vaults:
        if not vault.live:
            continue
        lanes = vault.every_lane
        paid = tuple(own[lane] for lane in lanes)
        others = tuple(sum(payouts[one.number][lane] for one in owner.accounts if one is not account) for lane in lanes)
        yield Balance(
            vault.number,
            owner.leaves[vault.number],
            tuple(owner.exits[lane] for lane in lanes),
            tuple(owner.acks[lane] for lane in lanes),
            paid,
            others,
            tuple(acks.get(lane, 0) for lane in lanes),
        )


def _check(found: Explanation, state: State, payouts: dict[int, tuple[int, ...]]) -> None:
    """Every sum of the story, to the atom. Raises `NovateError` EXPLAIN_DIFFERS."""
    sums = [("cash", sum(event.cash for event in found.events), found.cash)]
    value = found.cash + sum(position.value + position.funding for position in found.positions)
    sums.append(("claim", value, found.claim))
    for lane, amount in summed(change for event in found.events for change in event.holdings).items():
        sums.append((f"holding in lane {lane}", amount, found.holdings.get(lane, 0)))
    for balance in found.balances:
        for asset, exits in enumerate(balance.exits):
            made = balance.own[asset] + balance.others[asset]
            sums.append((f"exit of asset {asset} in vault {balance.vault}", made, exits))
            if len(state.accounts[found.account].owner.accounts) == 1:
                sums.append(
                    (f"acks of asset {asset} in vault {balance.vault}", balance.own_acks[asset], balance.acks[asset])
                )
    for name, ours, theirs in sums:
        if ours != theirs:
            message = f"account {found.account}, epoch {found.epoch}: {name} is {theirs}, its events give {ours}"
            raise NovateError("EXPLAIN_DIFFERS", f"{message}; please report it")
