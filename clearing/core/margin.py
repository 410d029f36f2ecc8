# SPDX-License-Identifier: GPL-3.0-or-later
"""Risk: what an account is worth and what it must hold. This is the room that portfolio margin,
options and collateral haircuts will fill; the rest of the core only asks these questions.

Requirements round up, so that splitting never profits. Linear instruments, cross margin:
margin_initial = sum of ceil(lots x mark x IMF), with the larger of |position + bids| and
|position - asks| as lots.
"""

from clearing.core.state import Account, Slot
from clearing.model.ids import BUY, PPM, SELL


def equity(account: Account) -> int:
    """Cash plus positions at mark, less unsettled funding; atoms, may be negative."""
    total = account.cash
    for slot in account.slots.values():
        inst = slot.inst
        total += slot.size * (inst.mark - inst.funding_index + slot.funding)
    return total


def assess(account: Account) -> tuple[int, int, int]:
    """(equity, margin_initial, margin_maintenance) of the positions held, in atoms."""
    total = account.cash
    initial = maintenance = 0
    for slot in account.slots.values():
        size = slot.size
        if size:
            inst = slot.inst
            total += size * (inst.mark - inst.funding_index + slot.funding)
            notional = (size if size > 0 else -size) * inst.mark
            initial -= -notional * inst.imf // PPM
            maintenance -= -notional * inst.mmf // PPM
    return total, initial, maintenance


def order_loss(side: int, price: int, lots: int, mark: int) -> int:
    """Loss at mark if the order fills: a bid above the mark or an ask below it; atoms >= 0."""
    edge = price - mark if side == BUY else mark - price
    return edge * lots if edge > 0 else 0


def open_loss(account: Account, slot: Slot) -> int:
    """Worst fill subset of the slot's orders, cached per mark; atoms >= 0."""
    mark = slot.inst.mark
    if slot.loss_mark != mark:
        slot.loss_atoms = sum(
            order_loss(order.side, order.price, order.open_lots, mark)
            for order in account.orders.values()
            if order.slot is slot
        )
        slot.loss_mark = mark
    return slot.loss_atoms


def add_open(slot: Slot, side: int, price: int, lots: int) -> None:
    """Count `lots` more (or, negative, fewer) open at `price` in the slot's sums."""
    if side == BUY:
        slot.buy_lots += lots
        slot.buy_cost += lots * price
        edge = price - slot.loss_mark
    else:
        slot.sell_lots += lots
        slot.sell_cost += lots * price
        edge = slot.loss_mark - price
    if edge > 0 and slot.loss_mark:
        slot.loss_atoms += edge * lots


def headroom(account: Account, added: Slot | None = None, add_bids: int = 0, add_asks: int = 0) -> int:
    """Equity less initial margin, fees and losses of the worst fill subset; atoms.

    Orders may be accepted and money may leave while this is >= 0. With `added`, that many more
    lots are taken as open in this slot (their own loss and fee are the caller's to count).
    """
    total = account.cash
    cost = 0
    for slot in account.slots.values():
        inst = slot.inst
        size = slot.size
        bids = slot.buy_lots
        asks = slot.sell_lots
        mark = inst.mark
        if size:
            total += size * (mark - inst.funding_index + slot.funding)
        if bids or asks:
            cost += slot.buy_cost + slot.sell_cost
            total -= slot.loss_atoms if slot.loss_mark == mark else open_loss(account, slot)
        if slot is added:
            bids += add_bids
            asks += add_asks
        long, short = size + bids, asks - size
        worst = long if long > short else short
        if worst:
            total += -worst * mark * inst.imf // PPM
    if cost and account.maker_ppm > 0:  # each order's fee rounds up on its own, by less than an atom
        total += -cost * account.maker_ppm // PPM - len(account.orders)
    return total


def _dearest_ppm(account: Account) -> int:
    """An order may pay as taker, and as maker for what rests of it."""
    maker, taker = account.maker_ppm, account.taker_ppm
    return maker if maker > taker else taker


def order_fits(account: Account, slot: Slot, side: int, price: int, lots: int) -> bool:
    """Would initial margin hold for every fill subset with this order added?

    An account below initial margin may still reduce: maintenance must not rise and
    equity / maintenance must not fall (by cross-multiplication).
    """
    inst = slot.inst
    mark, size = inst.mark, slot.size
    long, short = slot.buy_lots + size, slot.sell_lots - size
    if side == BUY:
        long += lots
        edge = price - mark
    else:
        short += lots
        edge = mark - price
    loss = edge * lots if edge > 0 else 0
    dearest = account.taker_ppm if account.taker_ppm > account.maker_ppm else account.maker_ppm
    if slot.loss_mark == mark and len(account.slots) == 1:
        # The account's only slot, and mostly there is plenty: a bound from below settles that without a
        # division. Three requirements round up by less than an atom each, and no order pays above `dearest`.
        total = account.cash - slot.loss_atoms - loss - len(account.orders) - 3
        if size:
            total += size * (mark - inst.funding_index + slot.funding)
        fees = (slot.buy_cost + slot.sell_cost + price * lots) * dearest
        if total * PPM >= (long if long > short else short) * mark * inst.imf + fees:
            return True
    bids, asks = (lots, 0) if side == BUY else (0, lots)
    free = headroom(account, slot, bids, asks) - loss
    if free + (-price * lots * dearest // PPM) >= 0:
        return True
    return _improves(account, slot, side, price, lots)


def _improves(account: Account, slot: Slot, side: int, price: int, lots: int) -> bool:
    size = slot.size
    if side == SELL:
        closing, held = slot.sell_lots + lots, size
    else:
        closing, held = slot.buy_lots + lots, -size
    if held <= 0 or closing > held:
        return False
    inst = slot.inst
    now, _, maintenance = assess(account)
    released = -(-held * inst.mark * inst.mmf // PPM) + (-(held - lots) * inst.mark * inst.mmf // PPM)
    after = now - order_loss(side, price, lots, inst.mark) + (-price * lots * _dearest_ppm(account) // PPM)
    return after * maintenance >= now * (maintenance - released)
