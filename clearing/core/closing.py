# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a venue: halt, close every position at the mark, acknowledge to everyone what they are owed.

Rules:
- StartWindDown is for good. From then on members, publishers and the clock change nothing: no order, no price, no
  funding. So every position has one closing price, its market's mark of that moment, and closing them all moves no
  money in sum.
- RunWindDown takes bounded steps, in this order: cancel orders and triggers, end auctions, close positions (accounts by
  number, one market after another), pay. Deposits still come in until it pays.
- Paying is one step for everyone, and so says sums only: interest is settled, the exits of this moment are
  computed as an epoch does it (clearing.core.winddown) and become acknowledged withdrawals, in every lane of every live
  vault, the house's rest last. Accounts and holdings are empty then, to the atom.
- The epoch that carries it is the last. Everyone claims from it; nobody has to escape.
"""

from clearing.core import auction, borrowing, vaults
from clearing.core.epoch import claim_of, house_claim, lanes_of
from clearing.core.orders import cancel_some
from clearing.core.positions import fold
from clearing.core.state import Account, State
from clearing.core.winddown import allocate
from clearing.model import ids
from clearing.model.commands import RunWindDown, StartWindDown
from clearing.model.outcomes import PositionClosed, WindDownDone, WindDownStarted

MAX_REASON_CHARS = 200
MAX_CANCELLED = 300
MAX_CLOSED = 500


def start(state: State, command: StartWindDown) -> str:
    """Halt for good."""
    if state.winding:
        return "WINDING_DOWN"
    if not 0 < len(command.reason) <= MAX_REASON_CHARS:
        return "INVALID_FIELD"
    state.winding, state.pending = command.reason, None
    state.forced = {}  # everyone is paid everything now
    for inst in state.instruments.values():
        inst.halted = inst.halted or "WIND_DOWN"
    state.out.append(WindDownStarted(command.reason))
    return ""


def due(state: State, now_us: int) -> RunWindDown | None:
    """The next step, until everything is paid."""
    waits = state.winding and not state.wound and not vaults.unsettled(state)
    return RunWindDown() if waits else None


def run(state: State, command: RunWindDown) -> str:
    """The next bounded step."""
    if not state.winding or state.wound:
        return "NOT_WINDING_DOWN"
    if vaults.unsettled(state):
        return "ESCAPE_UNSETTLED"
    if not (_cancel(state) or _end_auctions(state) or _close(state)):
        _pay(state)
    return ""


def _cancel(state: State) -> bool:
    """Cancel what fits into an entry; was there anything?"""
    left = MAX_CANCELLED
    for account in state.accounts:
        if left <= 0:
            break
        if account.orders or account.triggers:
            left = cancel_some(state, account, 0, "WIND_DOWN", left)
    return left < MAX_CANCELLED


def _end_auctions(state: State) -> bool:
    found = list(state.auctions.values())[:MAX_CANCELLED]
    for account in found:
        auction.end(state, account, "WIND_DOWN")
    return bool(found)


def _close(state: State) -> bool:
    """Close positions at the mark, as many as fit; was there any?"""
    left = MAX_CLOSED
    for number in sorted(state.instruments):
        inst = state.instruments[number]
        price = inst.settle or inst.mark
        for holder in sorted(inst.holders)[:left]:
            account = state.accounts[holder]
            slot = account.slots[number]
            lots = slot.size
            fold(account, slot, -lots, price, 0)
            state.dirty[account.number] = account
            state.out.append(PositionClosed(account.number, number, lots, price))
            left -= 1
        if left <= 0:
            break
    return left < MAX_CLOSED


def _pay(state: State) -> None:
    """Turn every exit into an acknowledgement."""
    for account in state.accounts:
        borrowing.settle(state, account)
    house = state.owners[state.genesis.treasury]
    members = state.accounts[ids.HOUSE_ACCOUNTS :]
    payouts = allocate([claim_of(state, account) for account in members], house_claim(state), lanes_of(state))
    every = range(state.lanes)
    for account in members:
        _acknowledge(account, payouts.users[account.number])
    for lane in every:
        house.acks[lane] += payouts.house[lane]
    for account in state.accounts:
        _empty(state, account)
    paid = tuple(asset.held for asset in state.assets)
    for asset in state.assets:
        asset.held = 0
    state.touched = {}  # one entry pays everyone, so it says sums only
    state.haircut, state.coupled, state.final_epoch = 0, True, state.epoch + 1
    state.out.append(WindDownDone(paid))


def _acknowledge(account: Account, amounts: tuple[int, ...]) -> None:
    for lane, amount in enumerate(amounts):
        account.owner.acks[lane] += amount


def _empty(state: State, account: Account) -> None:
    account.cash = account.basis = account.pledged = account.interest_us = 0
    for lane in list(account.holdings):
        del state.assets[lane].holders[account.number]
    account.holdings = {}
    account.set_plain()
    state.dirty[account.number] = account
