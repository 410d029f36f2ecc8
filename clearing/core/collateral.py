# SPDX-License-Identifier: GPL-3.0-or-later
"""Money in, out and between accounts of one owner, in the settlement asset (lane 0).

`state.holdings` is what the vault owes after acknowledged withdrawals; it changes only here.
"""

from clearing.core.accounts import open_account, owner_of
from clearing.core.margin import headroom
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.commands import ConsumeInbox, HouseTransfer, Transfer, Withdraw
from clearing.model.outcomes import (
    Deposited,
    InboxIgnored,
    Transferred,
    WithdrawalAcked,
)
from proofs.inbox import InboxMessage

# What the trees hold: 20 levels of owners, 24 of accounts.
MAX_OWNERS = 2**20
MAX_ACCOUNTS = 2**24
_HOUSE_MOVES = (
    (ids.FEES, ids.OPERATOR_CAPITAL),
    (ids.FEES, ids.INSURANCE_FUND),
    (ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND),
)


def consume(state: State, command: ConsumeInbox) -> str:
    """Take the next inbox message. A message that means nothing here is ignored, visibly."""
    if command.vault != 0 or command.index != state.inbox_count:
        return "INBOX_OUT_OF_ORDER"
    if not (len(command.owner) == 20 and len(command.data) == 32 and 0 <= command.kind < 256):
        return "INVALID_FIELD"
    if not (0 <= command.asset < 256 and 0 <= command.amount_atoms < 2**128 and 0 <= command.l1_time < 2**63):
        return "INVALID_FIELD"
    message = InboxMessage(
        kind=command.kind,
        index=command.index,
        owner=command.owner,
        asset=command.asset,
        amount=command.amount_atoms,
        l1_time=command.l1_time,
        data=command.data,
    )
    state.inbox_hash = message.roll(state.inbox_hash)
    state.inbox_count += 1
    if command.kind != ids.INBOX_DEPOSIT or command.asset >= state.lanes:
        state.out.append(InboxIgnored(command.vault, command.index, "UNKNOWN_ASSET"))
        return ""
    if state.holdings + command.amount_atoms > ids.MAX_HOLDINGS_ATOMS:
        state.out.append(InboxIgnored(command.vault, command.index, "INVALID_AMOUNT"))
        return ""
    if command.owner not in state.owners and not _has_room(state):
        state.out.append(InboxIgnored(command.vault, command.index, "TOO_MANY_ACCOUNTS"))
        return ""
    account = _depositor(state, command.owner)
    account.cash += command.amount_atoms
    account.basis += command.amount_atoms
    state.holdings += command.amount_atoms
    state.touched[account.number] = account
    state.out.append(
        Deposited(
            account.number,
            command.vault,
            command.asset,
            command.amount_atoms,
            command.index,
        )
    )
    return ""


def _has_room(state: State) -> bool:
    """Is there a free leaf in both trees?"""
    return len(state.owners) < MAX_OWNERS and len(state.accounts) < MAX_ACCOUNTS


def _depositor(state: State, address: bytes) -> Account:
    if address == state.genesis.treasury:
        return state.accounts[ids.OPERATOR_CAPITAL]
    owner = owner_of(state, address)
    return owner.accounts[0] if owner.accounts else open_account(state, owner, 0)


def _amount_is_free(account: Account, amount: int) -> str:
    if not 0 < amount <= ids.MAX_AMOUNT_ATOMS:
        return "INVALID_AMOUNT"
    if headroom(account) < amount:
        return "INSUFFICIENT_BALANCE"
    return ""


def _prices_are_fresh(state: State, account: Account) -> str:
    """Money leaves only at fresh prices, if the account holds or offers anything."""
    oldest = state.time_us - state.params.oracle_max_age_us
    for slot in account.slots.values():
        if (slot.size or slot.buy_lots or slot.sell_lots) and slot.inst.index_time < oldest:
            return "ORACLE_STALE"
    return ""


def withdraw(state: State, account: Account, command: Withdraw) -> str:
    """Acknowledge a withdrawal: claimable on-chain once the epoch that carries it is final."""
    if command.vault != 0 or command.asset != 0:
        return "UNKNOWN_ASSET"
    amount = command.amount_atoms
    code = _amount_is_free(account, amount) or _prices_are_fresh(state, account)
    if code:
        return code
    if amount > state.holdings:  # a gain whose payer is in deficit is not there to be paid
        return "INSUFFICIENT_BALANCE"
    account.cash -= amount
    account.basis -= amount
    state.holdings -= amount
    owner = account.owner
    owner.acks[0] += amount
    state.touched[account.number] = account
    state.out.append(WithdrawalAcked(account.number, 0, 0, amount, owner.acks[0]))
    return ""


def transfer(state: State, account: Account, command: Transfer) -> str:
    """Move free cash to a sub-account of the same owner, opening it on first use."""
    if command.to_sub == account.sub:
        return "SAME_ACCOUNT"
    if not 0 <= command.to_sub < 65_536:
        return "UNKNOWN_ACCOUNT"
    code = _amount_is_free(account, command.amount_atoms) or _prices_are_fresh(state, account)
    if code:
        return code
    owner = account.owner
    target = next((other for other in owner.accounts if other.sub == command.to_sub), None)
    if target is None:
        if len(owner.accounts) >= state.params.max_sub_accounts or len(state.accounts) >= MAX_ACCOUNTS:
            return "TOO_MANY_ACCOUNTS"
        target = open_account(state, owner, command.to_sub)
    move(state, account, target, command.amount_atoms)
    return ""


def house_transfer(state: State, command: HouseTransfer) -> str:
    """Fees and capital may move towards the insurance fund, never back: tranches are locked."""
    if (command.from_account, command.to_account) not in _HOUSE_MOVES:
        return "OUT_OF_SCOPE"
    source = state.accounts[command.from_account]
    code = _amount_is_free(source, command.amount_atoms) or _prices_are_fresh(state, source)
    if code:
        return code
    move(state, source, state.accounts[command.to_account], command.amount_atoms)
    return ""


def move(state: State, source: Account, target: Account, amount: int) -> None:
    """Cash and its basis move together, so that a transfer is never a gain."""
    source.cash -= amount
    source.basis -= amount
    target.cash += amount
    target.basis += amount
    state.touched[source.number] = source
    state.touched[target.number] = target
    state.out.append(Transferred(source.number, target.number, amount))
