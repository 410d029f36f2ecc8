# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account would be worth and need after some trades, without making them.

Rule: whatever is asked, and also if asking fails, the account is then as it was, to the byte of a snapshot.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from clearing.core.state import Account, InstrumentState, Slot

T = TypeVar("T")
# (market, signed lots, atoms per lot)
Trade = tuple[InstrumentState, int, int]


def after(account: Account, trades: Sequence[Trade], cash: int, measure: Callable[[Account], T]) -> T:
    """`measure(account)` as if it had done `trades` and received `cash` atoms (negative: paid)."""
    before, plain = account.cash, account.plain
    slots = account.slots
    saved: list[tuple[Slot, int, int]] = []
    opened: list[int] = []
    try:
        account.cash += cash
        for inst, lots, price in trades:
            slot = slots.get(inst.id)
            if slot is None:
                slots[inst.id] = slot = Slot(inst)
                opened.append(inst.id)
            else:
                saved.append((slot, slot.size, slot.funding))
                account.cash -= slot.size * (inst.funding_index - slot.funding)
                slot.funding = inst.funding_index
            slot.size += lots
            account.cash -= lots * price
        if opened:
            account.set_plain()
        return measure(account)
    finally:
        for slot, size, funding in reversed(saved):
            slot.size, slot.funding = size, funding
        for number in opened:
            del slots[number]
        account.cash, account.plain = before, plain
