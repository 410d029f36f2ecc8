# SPDX-License-Identifier: GPL-3.0-or-later
"""Folding trades, funding and transfers into accounts. Every function here conserves money:
what one account pays another receives, to the atom."""

from clearing.core.state import Account, Slot, State
from clearing.model.ids import OPTION


def slot_of(state: State, account: Account, instrument: int) -> Slot:
    """The account's slot in an instrument, opened on first use."""
    slot = account.slots.get(instrument)
    if slot is None:
        slot = Slot(state.instruments[instrument])
        account.slots[instrument] = slot
        if slot.inst.kind == OPTION:
            account.plain = False
    return slot


def is_empty(slot: Slot) -> bool:
    """Neither a position nor open orders: nothing of it is worth keeping."""
    return not (slot.size or slot.buy_lots or slot.sell_lots)


def drop_slot(state: State, account: Account, instrument: int) -> None:
    """Forget an account's empty slot, if there is one."""
    slot = account.slots.get(instrument)
    if slot is not None and is_empty(slot):
        del account.slots[instrument]
        account.set_plain()
        state.dirty[account.number] = account


def settle_funding(account: Account, slot: Slot) -> None:
    """Pay what funding accrued since the slot was last touched (longs pay a rising index)."""
    now = slot.inst.funding_index
    if slot.funding != now:
        account.cash -= slot.size * (now - slot.funding)
        slot.funding = now


def fold(account: Account, slot: Slot, lots: int, price: int, fee: int) -> None:
    """Apply one leg of a trade: signed `lots` at `price` (atoms per lot), `fee` in atoms.

    `entry_cost` follows average cost, for reports only: no balance depends on it.
    """
    inst = slot.inst
    if slot.funding != inst.funding_index:
        settle_funding(account, slot)
    old = slot.size
    new = old + lots
    cost = lots * price
    account.cash -= cost + fee
    slot.size = new
    if not old:
        slot.entry_cost = cost
        inst.holders[account.number] = account
    elif (old > 0) == (lots > 0):
        slot.entry_cost += cost
    elif not new:
        slot.entry_cost = 0
        del inst.holders[account.number]
    elif (new > 0) == (old > 0):
        slot.entry_cost -= slot.entry_cost * -lots // old
    else:
        slot.entry_cost = new * price
    if old > 0:
        inst.open_interest -= old
    if new > 0:
        inst.open_interest += new
