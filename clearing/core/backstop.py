# SPDX-License-Identifier: GPL-3.0-or-later
"""The insurance fund as the backstop, and what all steps of a default share: fresh prices, who is past
selling down, moving a book at the mark.

Rules:
- An account is urgent when equity < backstop_ppm of maintenance margin, or below zero.
- The backstop takes the whole book of an urgent account at the mark, which changes nobody's equity, as long as the
  fund (claim and collateral) stays at or above zero after paying what the account's own means leave uncovered.
- Whoever it cannot take is in default: the waterfall's tranches go first, and what they cannot pay closes
  positions by ADL. The fund itself is in default when it is worth less than nothing.
- At missing or stale prices of anything that the account holds nothing of this happens.
"""

from clearing.core import assets
from clearing.core.collateral import uncovered
from clearing.core.margin import assess, equity
from clearing.core.matching import discard, drop
from clearing.core.positions import fold, slot_of
from clearing.core.state import Account, Slot, State
from clearing.model import ids
from clearing.model.outcomes import PositionTransferred


def is_stale(state: State, account: Account, now_us: int) -> bool:
    """Is a price that the account's margin depends on missing or older than oracle_max_age_us?"""
    oldest = now_us - state.params.oracle_max_age_us
    for slot in account.slots.values():
        inst = slot.inst
        if not slot.size or inst.settle:
            continue
        if inst.index_time < oldest:
            return True
        expiry = inst.expiry
        # Linear futures are priced by the index until somebody votes on their expiry.
        if expiry is not None and expiry.time_us < oldest and (expiry.time_us or inst.kind == ids.OPTION):
            return True
    return bool(account.holdings) and assets.stale(account, now_us)


def positions(account: Account) -> list[Slot]:
    """Slots that hold something, by instrument id."""
    return [account.slots[number] for number in sorted(account.slots) if account.slots[number].size]


def has_positions(account: Account) -> bool:
    return any(slot.size for slot in account.slots.values())


def notional(account: Account) -> int:
    """Sum of |size| x mark, atoms."""
    return sum(abs(slot.size) * slot.inst.mark for slot in account.slots.values())


def is_urgent(state: State, account: Account) -> bool:
    now, _, maintenance = assess(account)
    return now < 0 or now * ids.PPM < state.params.ladder.backstop_ppm * maintenance


def can_take(state: State, account: Account) -> bool:
    """Is the fund still worth something if it takes the book at the mark and pays the deficit?"""
    fund = state.accounts[ids.INSURANCE_FUND]
    worth = sum(assets.value_of(held.asset, held.amount) for held in fund.holdings.values())
    return equity(fund) + worth >= uncovered(account)


def in_default(state: State, account: Account) -> bool:
    """Does the account hold positions that neither the ladder nor the backstop can close?"""
    if not has_positions(account):
        return False
    if account.number < ids.HOUSE_ACCOUNTS:
        return account.number == ids.INSURANCE_FUND and uncovered(account) > 0
    return is_urgent(state, account) and not can_take(state, account)


def cancel_everything(state: State, account: Account) -> int:
    """Cancel the account's orders and triggers, in the order of placing; returns how many."""
    count = len(account.orders) + len(account.triggers)
    # Half of an OCO pair takes the other half along, so each is looked up when its turn comes.
    for client_order_id in list(account.orders):
        order = account.orders.get(client_order_id)
        if order is not None:
            drop(state, order, "LIQUIDATION")
    for client_order_id in list(account.triggers):
        trigger = account.triggers.get(client_order_id)
        if trigger is not None:
            discard(state, trigger, "LIQUIDATION")
    return count


def move_lots(state: State, source: Account, target: Account, slot: Slot, lots: int, price: int) -> None:
    """Novate signed `lots` of the source's position to the target at `price`; says nothing of it."""
    other = slot_of(state, target, slot.inst.id)
    fold(source, slot, -lots, price, 0)
    fold(target, other, lots, price, 0)
    state.touched[source.number] = source
    state.touched[target.number] = target


def take_book(state: State, account: Account) -> tuple[int, int]:
    """Novate all positions to the insurance fund at the mark; returns (notional, fee), atoms."""
    fund = state.accounts[ids.INSURANCE_FUND]
    closed = 0
    for slot in positions(account):
        lots, mark = slot.size, slot.inst.mark
        closed += abs(lots) * mark
        move_lots(state, account, fund, slot, lots, mark)
        state.out.append(PositionTransferred(account.number, fund.number, slot.inst.id, lots, mark))
    state.defaulters.pop(account.number, None)
    fee = min(closed * state.params.liquidation_fee_ppm // ids.PPM, fee_limit(account))
    pay_fee(state, account, fee)
    state.touched[account.number] = account
    return closed, fee


def fee_limit(account: Account) -> int:
    """What a fee may take at most: neither equity nor the claim goes below zero for it; atoms."""
    return max(0, min(assess(account)[0], equity(account)))


def pay_fee(state: State, account: Account, fee: int) -> None:
    """From the account to the insurance fund."""
    fund = state.accounts[ids.INSURANCE_FUND]
    account.cash -= fee
    fund.cash += fee
    state.touched[account.number] = account
    state.touched[fund.number] = fund
