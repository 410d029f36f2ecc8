# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chains say: each vault's queue of messages, consumed one by one and in order.

Rules:
- The journal takes messages by index, and rolls the same hash over them as the vault's contract does; a header names
  count and hash, so that no message can be skipped or altered.
- A deposit is credited here. Forced requests and governance go to clearing.core.forced.
- A message that means nothing here is consumed all the same and ignored visibly; an ignored deposit is remembered,
  since a frozen vault pays it back to its sender and nobody's account may be debited for it.
- A frozen vault is not heard any more: what it still says is refunded by the contract itself.
"""

from clearing.core import borrowing, collateral, forced
from clearing.core.accounts import open_account, owner_of
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.commands import ConsumeInbox
from clearing.model.outcomes import Deposited, InboxIgnored
from proofs.inbox import InboxMessage

_FORCED = (ids.INBOX_FORCED_WITHDRAWAL, ids.INBOX_FORCED_EXIT, ids.INBOX_GOVERNANCE)


def consume(state: State, command: ConsumeInbox) -> str:
    """Take a vault's next inbox message."""
    if not 0 <= command.vault < len(state.vaults):
        return "UNKNOWN_ASSET"
    vault = state.vaults[command.vault]
    if not vault.live:
        return "VAULT_FROZEN"
    if command.index != vault.inbox_count:
        return "INBOX_OUT_OF_ORDER"
    if not well_formed(command):
        return "INVALID_FIELD"
    vault.inbox_hash = roll(vault.inbox_hash, command)
    vault.inbox_count += 1
    code = _take(state, command)
    if code:
        if command.kind == ids.INBOX_DEPOSIT:
            vault.ignored.append(command.index)
        state.out.append(InboxIgnored(command.vault, command.index, code))
    return ""


def well_formed(command: ConsumeInbox) -> bool:
    """Do all fields fit a message of the contract's queue?"""
    if not (len(command.owner) == 20 and len(command.data) == 32 and 0 <= command.kind < 256):
        return False
    return 0 <= command.asset < 256 and 0 <= command.amount_atoms < 2**128 and 0 <= command.l1_time < 2**63


def roll(previous: bytes, command: ConsumeInbox) -> bytes:
    """The rolling hash after a well-formed message (32 bytes)."""
    return InboxMessage(
        kind=command.kind,
        index=command.index,
        owner=command.owner,
        asset=command.asset,
        amount=command.amount_atoms,
        l1_time=command.l1_time,
        data=command.data,
    ).roll(previous)


def _take(state: State, command: ConsumeInbox) -> str:
    """What the message does; a code when it does nothing."""
    if command.kind == ids.INBOX_DEPOSIT:
        return _deposit(state, command)
    return forced.receive(state, command) if command.kind in _FORCED else "INVALID_FIELD"


def _deposit(state: State, command: ConsumeInbox) -> str:
    lane = state.lane_of(command.vault, command.asset)
    if lane is None:
        return "UNKNOWN_ASSET"
    asset, amount = state.assets[lane], command.amount_atoms
    held = state.holdings if asset.settlement else asset.held
    if held + amount > ids.MAX_HOLDINGS_ATOMS:
        return "INVALID_AMOUNT"
    if command.owner not in state.owners and not _has_room(state):
        return "TOO_MANY_ACCOUNTS"
    account = _depositor(state, command.owner)
    if asset.settlement:
        borrowing.settle(state, account)
        account.cash += amount
        account.basis += amount
        borrowing.renew(state, account)
    else:
        collateral.hold(state, account, lane, amount)
    asset.held += amount
    asset.deposited += amount
    state.touched[account.number] = account
    state.out.append(Deposited(account.number, command.vault, command.asset, amount, command.index))
    return ""


def _has_room(state: State) -> bool:
    """Is there a free leaf in both kinds of trees?"""
    return len(state.owners) < collateral.MAX_OWNERS and len(state.accounts) < collateral.MAX_ACCOUNTS


def _depositor(state: State, address: bytes) -> Account:
    if address == state.genesis.treasury:
        return state.accounts[ids.OPERATOR_CAPITAL]
    owner = owner_of(state, address)
    return owner.accounts[0] if owner.accounts else open_account(state, owner, 0)
