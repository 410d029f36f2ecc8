# SPDX-License-Identifier: GPL-3.0-or-later
"""Simple liquidation: below maintenance an account's orders are cancelled, its positions are
closed against the book within a band around the mark, and the insurance fund takes over the rest
at mark and pays a deficit as far as it can. What it cannot pay stays visible as negative equity,
which the wind-down of an epoch allocates.
"""

from clearing.core.book import Order
from clearing.core.margin import assess, equity
from clearing.core.matching import match, opposite_limit
from clearing.core.orders import cancel_all
from clearing.core.positions import fold, settle_funding, slot_of
from clearing.core.state import Account, Slot, State
from clearing.model import ids
from clearing.model.commands import CancelAll
from clearing.model.outcomes import (
    Liquidated,
    OrderCancelled,
    OrderPlaced,
    PositionTransferred,
)

MAX_FILLS = 300


def is_liquidatable(state: State, account: Account) -> str:
    """ "" when the account fails maintenance at fresh prices, else the reason why not."""
    if account.number < ids.HOUSE_ACCOUNTS:
        return "NOT_LIQUIDATABLE"
    now, _, maintenance = assess(account)
    if now >= maintenance or (maintenance == 0 and not account.slots):
        return "NOT_LIQUIDATABLE"
    oldest = state.time_us - state.params.oracle_max_age_us
    for slot in account.slots.values():
        if slot.size and slot.inst.index_time < oldest:
            return "ORACLE_STALE"
    return ""


def liquidate(state: State, number: int) -> str:
    """Close the account out. Returns "" or the code of the refusal."""
    if not 0 <= number < len(state.accounts):
        return "UNKNOWN_ACCOUNT"
    account = state.accounts[number]
    code = is_liquidatable(state, account)
    if code:
        return code
    before, _, maintenance = assess(account)
    if not maintenance and _deficit_is_beyond_the_fund(state):
        return "NOT_LIQUIDATABLE"
    # 300 fills and 1,000 cancellations would not fit into one entry; 20 cancellations weigh a fill and more.
    state.fills_left = min(state.fills_left, MAX_FILLS - len(account.orders) // 20)
    cancel_all(state, account, CancelAll(0), "LIQUIDATION")
    closed_notional = 0
    for instrument in sorted(account.slots):
        slot = account.slots[instrument]
        if slot.size:
            closed_notional += abs(slot.size) * slot.inst.mark
            _sell_down(state, account, slot)
    fund = state.accounts[ids.INSURANCE_FUND]
    fee = min(
        closed_notional * state.params.liquidation_fee_ppm // ids.PPM,
        max(0, equity(account)),
    )
    account.cash -= fee
    fund.cash += fee
    for instrument in sorted(account.slots):
        slot = account.slots[instrument]
        if slot.size:
            _take_over(state, account, slot, fund)
    covered = min(max(0, -account.cash), max(0, equity(fund)))
    account.cash += covered
    fund.cash -= covered
    state.touched[number] = account
    state.touched[fund.number] = fund
    state.out.append(Liquidated(number, before, maintenance, fee, covered))
    return ""


def _deficit_is_beyond_the_fund(state: State) -> bool:
    """A flat account in deficit can only be helped while the fund has something."""
    return equity(state.accounts[ids.INSURANCE_FUND]) <= 0


def _sell_down(state: State, account: Account, slot: Slot) -> None:
    """Immediate-or-cancel against the book, no worse than the band around the mark."""
    inst = slot.inst
    side = ids.SELL if slot.size > 0 else ids.BUY
    band = inst.mark * state.params.liquidation_band_ppm // ids.PPM
    price = inst.mark - band if side == ids.SELL else inst.mark + band
    order = Order(state.next_order_id, account, slot, side, max(price, 1), abs(slot.size))
    state.next_order_id += 1
    state.out.append(
        OrderPlaced(
            order.order_id,
            account.number,
            0,
            inst.id,
            side,
            order.price,
            order.open_lots,
        )
    )
    keys = inst.book.sides[1 - side].keys
    if keys and keys[-1] >= opposite_limit(side, order.price):
        match(state, order)
    if order.open_lots:
        state.out.append(OrderCancelled(order.order_id, order.open_lots, "LIQUIDATION"))


def _take_over(state: State, account: Account, slot: Slot, fund: Account) -> None:
    """Novate what is left to the insurance fund at the mark: neither side's equity changes."""
    inst, size = slot.inst, slot.size
    target = slot_of(state, fund, inst.id)
    settle_funding(account, slot)
    settle_funding(fund, target)
    fold(account, slot, -size, inst.mark, 0)
    fold(fund, target, size, inst.mark, 0)
    state.out.append(PositionTransferred(account.number, fund.number, inst.id, size, inst.mark))
