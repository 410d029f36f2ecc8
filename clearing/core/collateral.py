# SPDX-License-Identifier: GPL-3.0-or-later
"""Money in, out and between accounts of one owner, in every asset of the vault.

Rules:
- `state.holdings` (settlement asset) and `AssetState.held` (each other lane) are what the vault owes after
  acknowledged withdrawals; they change only here, and equal the sum over accounts.
- Money leaves an account while initial margin holds after the move, at fresh prices. A settlement claim may fall
  below zero only as borrowing (clearing.core.borrowing). A book on auction keeps what it has.
- While the last epoch found losses that nobody covers (`state.haircut`), whoever takes settlement money out
  bears the same fraction as everyone: it goes to the insurance fund, so that leaving early is no gain and the rest is
  worth what it was before. The house takes nothing out then.
"""

from clearing.core import assets, borrowing
from clearing.core.accounts import open_account, owner_of
from clearing.core.margin import equity, headroom
from clearing.core.state import Account, Holding, State
from clearing.model import ids
from clearing.model.commands import ConsumeInbox, HouseTransfer, Transfer, Withdraw
from clearing.model.outcomes import (
    AssetTransferred,
    CollateralSeized,
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


# --- in ----------------------------------------------------------------------------------------


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
    code = _why_ignored(state, command)
    if code:
        state.out.append(InboxIgnored(command.vault, command.index, code))
        return ""
    lane, amount = command.asset, command.amount_atoms
    account = _depositor(state, command.owner)
    if lane:
        _hold(state, account, lane, amount)
        state.assets[lane].held += amount
    else:
        borrowing.settle(state, account)
        account.cash += amount
        account.basis += amount
        state.holdings += amount
        borrowing.renew(state, account)
    state.touched[account.number] = account
    state.out.append(Deposited(account.number, command.vault, lane, amount, command.index))
    return ""


def _why_ignored(state: State, command: ConsumeInbox) -> str:
    lane = command.asset
    if command.kind != ids.INBOX_DEPOSIT or lane >= state.lanes:
        return "UNKNOWN_ASSET"
    held = state.assets[lane].held if lane else state.holdings
    if held + command.amount_atoms > ids.MAX_HOLDINGS_ATOMS:
        return "INVALID_AMOUNT"
    if command.owner not in state.owners and not _has_room(state):
        return "TOO_MANY_ACCOUNTS"
    return ""


def _has_room(state: State) -> bool:
    """Is there a free leaf in both trees?"""
    return len(state.owners) < MAX_OWNERS and len(state.accounts) < MAX_ACCOUNTS


def _depositor(state: State, address: bytes) -> Account:
    if address == state.genesis.treasury:
        return state.accounts[ids.OPERATOR_CAPITAL]
    owner = owner_of(state, address)
    return owner.accounts[0] if owner.accounts else open_account(state, owner, 0)


def _hold(state: State, account: Account, lane: int, change: int) -> None:
    """Change an account's holding of a collateral asset, which stays >= 0; an empty one is forgotten."""
    asset = state.assets[lane]
    held = account.holdings.get(lane)
    if held is None:
        if not change:
            return
        held = account.holdings[lane] = Holding(asset)
        asset.holders[account.number] = account
    held.amount += change
    if not held.amount:
        del account.holdings[lane], asset.holders[account.number]
    account.set_plain()
    state.touched[account.number] = account


# --- what may leave ----------------------------------------------------------------------------


def _refusal(state: State, account: Account, lane: int, amount: int, leaves: bool) -> str:
    """Why `amount` may not leave the account (and, with `leaves`, the venue), or ""."""
    if not 0 < amount <= ids.MAX_AMOUNT_ATOMS:
        return "INVALID_AMOUNT"
    if account.auction is not None:
        return "IN_LIQUIDATION"
    code = _lacks_asset(state, account, lane, amount, leaves) if lane else _lacks_cash(state, account, amount)
    return code or _prices_are_fresh(state, account)


def _lacks_cash(state: State, account: Account, amount: int) -> str:
    owed = borrowing.accrued(state, account)
    if headroom(account) - owed < amount:
        return "INSUFFICIENT_BALANCE"
    left = equity(account) - owed - amount
    if left < account.pledged:  # what is pledged stays money, and is not lent on
        return borrowing.refusal(state, account, -left)
    return ""


def _lacks_asset(state: State, account: Account, lane: int, amount: int, leaves: bool) -> str:
    """Initial margin must hold without it; tried on the account itself, and undone."""
    held = account.holdings.get(lane)
    if held is None or held.amount < amount:
        return "INSUFFICIENT_BALANCE"
    gone = amount if leaves else 0
    held.amount -= amount
    held.asset.held -= gone
    free = headroom(account) - borrowing.accrued(state, account)
    held.amount += amount
    held.asset.held += gone
    return "INSUFFICIENT_BALANCE" if free < 0 else ""


def _prices_are_fresh(state: State, account: Account) -> str:
    """Money leaves only at fresh prices, if the account has positions or orders. (Collateral at a stale
    price counts for nothing here, so that it needs no rule of its own.)"""
    oldest = state.time_us - state.params.oracle_max_age_us
    for slot in account.slots.values():
        if (slot.size or slot.buy_lots or slot.sell_lots) and slot.inst.index_time < oldest and not slot.inst.settle:
            return "ORACLE_STALE"
    return ""


# --- out and between accounts ------------------------------------------------------------------


def withdraw(state: State, account: Account, command: Withdraw) -> str:
    """Acknowledge a withdrawal: claimable on-chain once the epoch that carries it is final."""
    lane, amount = command.asset, command.amount_atoms
    if command.vault != 0 or not 0 <= lane < state.lanes:
        return "UNKNOWN_ASSET"
    code = _refusal(state, account, lane, amount, leaves=True)
    if code:
        return code
    if lane:
        _hold(state, account, lane, -amount)
        state.assets[lane].held -= amount
        borrowing.renew(state, account)
        _acknowledge(state, account, lane, amount)
        return ""
    cut = -(-amount * state.haircut // ids.UNIT)
    paid = amount - cut
    if state.haircut and (account.number < ids.HOUSE_ACCOUNTS or not paid):
        return "INSUFFICIENT_BALANCE"
    if paid > state.holdings:  # a gain whose payer is in deficit is not there to be paid
        return "INSUFFICIENT_BALANCE"
    borrowing.settle(state, account)
    if cut:
        move(state, account, state.accounts[ids.INSURANCE_FUND], cut)
    account.cash -= paid
    account.basis -= paid
    state.holdings -= paid
    borrowing.renew(state, account)
    _acknowledge(state, account, 0, paid)
    return ""


def _acknowledge(state: State, account: Account, lane: int, amount: int) -> None:
    owner = account.owner
    owner.acks[lane] += amount
    state.touched[account.number] = account
    state.out.append(WithdrawalAcked(account.number, 0, lane, amount, owner.acks[lane]))


def transfer(state: State, account: Account, command: Transfer) -> str:
    """Move what is free to a sub-account of the same owner, opening it on first use."""
    lane, amount = command.asset, command.amount_atoms
    if command.to_sub == account.sub:
        return "SAME_ACCOUNT"
    if not 0 <= command.to_sub < 65_536:
        return "UNKNOWN_ACCOUNT"
    if not 0 <= lane < state.lanes:
        return "UNKNOWN_ASSET"
    code = _refusal(state, account, lane, amount, leaves=False)
    if code:
        return code
    owner = account.owner
    target = next((other for other in owner.accounts if other.sub == command.to_sub), None)
    if target is None:
        if len(owner.accounts) >= state.params.max_sub_accounts or len(state.accounts) >= MAX_ACCOUNTS:
            return "TOO_MANY_ACCOUNTS"
        target = open_account(state, owner, command.to_sub)
    if lane:
        _hold(state, account, lane, -amount)
        _hold(state, target, lane, amount)
        state.out.append(AssetTransferred(account.number, target.number, lane, amount))
    else:
        borrowing.settle(state, account)
        borrowing.settle(state, target)
        move(state, account, target, amount)
    borrowing.renew(state, account)
    borrowing.renew(state, target)
    return ""


def house_transfer(state: State, command: HouseTransfer) -> str:
    """Fees and capital may move towards the insurance fund, never back: tranches are locked."""
    if (command.from_account, command.to_account) not in _HOUSE_MOVES:
        return "OUT_OF_SCOPE"
    source = state.accounts[command.from_account]
    code = _refusal(state, source, 0, command.amount_atoms, leaves=False)
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


# --- settlement in kind ------------------------------------------------------------------------


def uncovered(account: Account) -> int:
    """The part of a negative settlement claim that the account's own collateral does not cover at the index,
    atoms: what the default waterfall is for."""
    worth = sum(assets.value_of(held.asset, held.amount) for held in account.holdings.values())
    return max(0, -equity(account) - worth)


def seize(state: State, account: Account, need_atoms: int) -> int:
    """Settle a shortfall in kind: collateral goes to the insurance fund, most liquid first, at the index less
    seize_fee_ppm, against the fund's cash as far as its claim reaches. Returns the atoms credited, <= need.

    Assets at missing or stale prices stay where they are. No more is taken than the credit needs, to the
    asset's atom. (What collateral the fund cannot pay for still answers for the debt in the wind-down.)
    """
    fund = state.accounts[ids.INSURANCE_FUND]
    left = min(need_atoms, max(0, equity(fund)))
    kept_ppm = ids.PPM - state.params.borrowing.seize_fee_ppm
    credited = 0
    for lane in sorted(account.holdings, key=lambda lane: (state.assets[lane].spec.order, lane)):
        asset, held = state.assets[lane], account.holdings[lane].amount
        above, below = assets.rate(asset)
        if left <= 0 or not above or not assets.fresh(asset, state.time_us):
            continue
        gross = -(-left * ids.PPM // kept_ppm)
        amount = min(held, -(-gross * below // above))
        credit = min(left, assets.value_of(asset, amount) * kept_ppm // ids.PPM)
        if not credit:  # an atom of dust is not worth an atom of cash
            continue
        _hold(state, account, lane, -amount)
        _hold(state, fund, lane, amount)
        account.cash += credit
        fund.cash -= credit
        left -= credit
        credited += credit
        state.out.append(CollateralSeized(account.number, lane, amount, credit))
    if credited:
        borrowing.renew(state, account)
    return credited
