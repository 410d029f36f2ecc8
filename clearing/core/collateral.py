# SPDX-License-Identifier: GPL-3.0-or-later
"""Money out and between accounts of one owner, in every asset of every vault. (In: clearing.core.inbox.)

Rules:
- `AssetState.held` is what a vault owes in a lane after acknowledged withdrawals. Over all vaults the settlement asset
  held equals the accounts' claims; every other lane's equals what the accounts hold of it.
- Money leaves an account while initial margin holds after the move, at fresh prices. A settlement claim may fall
  below zero only as borrowing (clearing.core.borrowing). A book on auction keeps what it has.
- While the last epoch found losses that nobody covers (`state.haircut`), whoever takes settlement money out
  bears the same fraction as everyone: it goes to the insurance fund, so that leaving early is no gain and the rest is
  worth what it was before. The house takes nothing out then.
- Whoever withdraws chooses the vault, as far as it holds the asset (VAULT_SHORT). Nothing leaves through a frozen
  vault, nor through any other until a frozen one's payouts are debited (ESCAPE_UNSETTLED).
"""

from clearing.core import assets, borrowing, vaults
from clearing.core.accounts import open_account
from clearing.core.margin import equity, headroom
from clearing.core.state import Account, Holding, State
from clearing.model import ids
from clearing.model.commands import HouseTransfer, Transfer, Withdraw
from clearing.model.outcomes import (
    AssetTransferred,
    CollateralSeized,
    Transferred,
    WithdrawalAcked,
)

# What the trees hold: 20 levels of owners, 24 of accounts.
MAX_OWNERS = 2**20
MAX_ACCOUNTS = 2**24
_HOUSE_MOVES = (
    (ids.FEES, ids.OPERATOR_CAPITAL),
    (ids.FEES, ids.INSURANCE_FUND),
    (ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND),
)


def hold(state: State, account: Account, lane: int, change: int) -> None:
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


def refusal(state: State, account: Account, lane: int, amount: int, leaves: bool) -> str:
    """Why `amount` may not leave the account (and, with `leaves`, the venue), or ""."""
    if not 0 < amount <= ids.MAX_AMOUNT_ATOMS:
        return "INVALID_AMOUNT"
    if account.auction is not None:
        return "IN_LIQUIDATION"
    if state.assets[lane].settlement:
        code = _lacks_cash(state, account, amount)
    else:
        code = _lacks_asset(state, account, lane, amount, leaves)
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
    lane = state.lane_of(command.vault, command.asset)
    return "UNKNOWN_ASSET" if lane is None else withdraw_from(state, account, lane, command.amount_atoms)


def withdraw_from(state: State, account: Account, lane: int, amount: int) -> str:
    """The same by lane, with every check."""
    code = closed(state, lane) or refusal(state, account, lane, amount, leaves=True)
    if code:
        return code
    asset = state.assets[lane]
    if not asset.settlement:
        acknowledge(state, account, lane, amount)
        return ""
    cut = -(-amount * state.haircut // ids.UNIT)
    paid = amount - cut
    if state.haircut and (account.number < ids.HOUSE_ACCOUNTS or not paid):
        return "INSUFFICIENT_BALANCE"
    if paid > state.holdings:  # a gain whose payer is in deficit is not there to be paid
        return "INSUFFICIENT_BALANCE"
    if paid > asset.held:
        return "VAULT_SHORT"
    borrowing.settle(state, account)
    if cut:
        move(state, account, state.accounts[ids.INSURANCE_FUND], cut)
    acknowledge(state, account, lane, paid)
    return ""


def closed(state: State, lane: int) -> str:
    """Why nothing may leave through the vault of a lane, or ""."""
    if not state.vaults[state.assets[lane].vault].live:
        return "VAULT_FROZEN"
    return "ESCAPE_UNSETTLED" if vaults.unsettled(state) else ""


def acknowledge(state: State, account: Account, lane: int, amount: int) -> None:
    """Take an amount out of the account and promise it to its owner. For callers that have checked that account and
    vault have it, that the vault is open, and that interest is settled."""
    asset, owner = state.assets[lane], account.owner
    if asset.settlement:
        account.cash -= amount
        account.basis -= amount
    else:
        hold(state, account, lane, -amount)
    asset.held -= amount
    borrowing.renew(state, account)
    owner.acks[lane] += amount
    state.touched[account.number] = account
    first = state.vaults[asset.vault].first_lane
    state.out.append(WithdrawalAcked(account.number, asset.vault, lane - first, amount, owner.acks[lane]))


def transfer(state: State, account: Account, command: Transfer) -> str:
    """Move what is free to a sub-account of the same owner, opening it on first use."""
    lane, amount = command.asset, command.amount_atoms
    if command.to_sub == account.sub:
        return "SAME_ACCOUNT"
    if not 0 <= command.to_sub < 65_536:
        return "UNKNOWN_ACCOUNT"
    if not 0 <= lane < state.lanes:
        return "UNKNOWN_ASSET"
    code = refusal(state, account, lane, amount, leaves=False)
    if code:
        return code
    owner = account.owner
    target = next((other for other in owner.accounts if other.sub == command.to_sub), None)
    if target is None:
        if len(owner.accounts) >= state.params.max_sub_accounts or len(state.accounts) >= MAX_ACCOUNTS:
            return "TOO_MANY_ACCOUNTS"
        target = open_account(state, owner, command.to_sub)
    if state.assets[lane].settlement:
        borrowing.settle(state, account)
        borrowing.settle(state, target)
        move(state, account, target, amount)
    else:
        hold(state, account, lane, -amount)
        hold(state, target, lane, amount)
        state.out.append(AssetTransferred(account.number, target.number, lane, amount))
    borrowing.renew(state, account)
    borrowing.renew(state, target)
    return ""


def house_transfer(state: State, command: HouseTransfer) -> str:
    """Fees and capital may move towards the insurance fund, never back: tranches are locked."""
    if (command.from_account, command.to_account) not in _HOUSE_MOVES:
        return "OUT_OF_SCOPE"
    source = state.accounts[command.from_account]
    code = refusal(state, source, 0, command.amount_atoms, leaves=False)
    if code:
        return code
    move(state, source, state.accounts[command.to_account], command.amount_atoms)
    return ""


def move(state: State, source: Account, target: Account, amount: int) -> None:
    """Cash moves with its basis, so that a transfer is never a gain; principal first, so that it does not hide one
    either: what the source gained since the last epoch is a gain wherever it goes."""
    principal = min(amount, max(0, source.basis))
    source.cash -= amount
    source.basis -= principal
    target.cash += amount
    target.basis += principal
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
        hold(state, account, lane, -amount)
        hold(state, fund, lane, amount)
        account.cash += credit
        fund.cash -= credit
        left -= credit
        credited += credit
        state.out.append(CollateralSeized(account.number, lane, amount, credit))
    if credited:
        borrowing.renew(state, account)
    return credited
