# SPDX-License-Identifier: GPL-3.0-or-later
"""Place, cancel, cancel-all and replace: what is checked, in this order, before anything changes.

Each function returns "" when the command was accepted (its outcomes are in `state.out`) or the
code of the first check that failed, in which case nothing changed.
"""

from heapq import heappop, heappush

from clearing.core.book import Order
from clearing.core.margin import add_open, open_loss, order_fits
from clearing.core.matching import drop, fillable, match, opposite_limit, rest
from clearing.core.positions import slot_of
from clearing.core.state import Account, InstrumentState, State
from clearing.model import ids
from clearing.model.commands import CancelAll, CancelOrder, PlaceOrder, ReplaceOrder
from clearing.model.ids import MAX_LOTS, MAX_PRICE_ATOMS, STP_CANCEL_BOTH
from clearing.model.outcomes import OrderCancelled, OrderPlaced, OrderReplaced

MAX_EXPIRED_PER_ENTRY = 300


def _price_and_size(inst: InstrumentState, price: int, lots: int) -> str:
    if not 0 < lots <= MAX_LOTS:
        return "INVALID_SIZE"
    if lots > inst.max_lots:
        return "ORDER_TOO_LARGE"
    if not 0 < price <= MAX_PRICE_ATOMS or price % inst.tick:
        return "INVALID_PRICE"
    return ""


def _market_is_open(state: State, inst: InstrumentState) -> str:
    if not inst.mark:
        return "NO_MARK_PRICE"
    if inst.index_time + state.params.oracle_max_age_us < state.time_us:
        return "ORACLE_STALE"
    return ""


def _special(state: State, command: PlaceOrder) -> str:
    """Checks of everything that a plain resting limit order does not have."""
    tif, market = command.tif, command.kind == ids.MARKET
    if not 0 <= command.kind <= ids.MARKET or not 0 <= tif <= ids.GTT:
        return "INVALID_FIELD"
    if market and (command.post_only or tif == ids.GTT):
        return "INVALID_FIELD"
    if command.post_only and tif in (ids.IOC, ids.FOK):
        return "INVALID_FIELD"
    if tif == ids.GTT:
        return "" if state.time_us < command.expiry_us <= ids.MAX_TIME_US else "INVALID_EXPIRY"
    return "INVALID_EXPIRY" if command.expiry_us else ""


def _may_rest(state: State, account: Account, inst: InstrumentState, side: int, price: int) -> str:
    """Caps on open orders and levels bound the worst case."""
    params = state.params
    if len(account.orders) >= params.max_open_orders:
        return "TOO_MANY_ORDERS"
    own = inst.book.sides[side]
    if len(own.keys) >= params.max_levels and (-price if side else price) not in own.levels:
        return "TOO_MANY_LEVELS"
    return ""


def place(state: State, account: Account, command: PlaceOrder) -> str:
    """Check, match, and rest or cancel what remains."""
    instrument, side, stp = command.instrument, command.side, command.stp
    price, lots, client_order_id = command.price_atoms, command.size_lots, command.client_order_id
    inst = state.instruments.get(instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    if not 0 <= side <= 1 or not 0 <= stp <= STP_CANCEL_BOTH or client_order_id <= 0:
        return "INVALID_FIELD"
    special = command.kind or command.tif or command.post_only or command.expiry_us
    code = _special(state, command) if special else ""
    if code:
        return code
    if not 0 < lots <= inst.max_lots or not 0 < price <= MAX_PRICE_ATOMS or price % inst.tick:
        return _price_and_size(inst, price, lots)
    if client_order_id in account.orders:
        return "DUPLICATE_CLIENT_ORDER_ID"
    if not inst.mark or inst.index_time + state.params.oracle_max_age_us < state.time_us:
        return _market_is_open(state, inst)
    slot = account.slots.get(instrument) or slot_of(state, account, instrument)
    if command.reduce_only:
        special = True
        lots = min(lots, slot.size if side else -slot.size)
        if lots <= 0:
            return "REDUCE_ONLY_WOULD_INCREASE"
    keys = inst.book.sides[1 - side].keys
    crosses = bool(keys) and keys[-1] >= (price if side else -price)
    order_id = state.next_order_id
    order = Order(order_id, account, slot, side, price, lots, client_order_id, stp)
    immediate = False
    if special:
        if command.post_only and crosses:
            return "POST_ONLY_WOULD_CROSS"
        order.post_only, order.reduce_only = command.post_only, command.reduce_only
        order.expiry_us = command.expiry_us
        immediate = command.kind == ids.MARKET or command.tif == ids.IOC or command.tif == ids.FOK
        if command.tif == ids.FOK and not fillable(state, side, price, lots, inst, order):
            return "FOK_NOT_FILLABLE"
    code = "" if immediate else _may_rest(state, account, inst, side, price)
    if code:
        return code
    if not order_fits(account, slot, side, price, lots):
        return "INSUFFICIENT_MARGIN"
    state.next_order_id = order_id + 1
    state.out.append(OrderPlaced(order_id, account.number, client_order_id, instrument, side, price, lots))
    if special or crosses:
        _execute(state, order, immediate, crosses)
    else:
        rest(state, order)
    return ""


def _execute(state: State, order: Order, immediate: bool, crosses: bool) -> None:
    reason = match(state, order) if crosses else ""
    if not order.open_lots:
        return
    if not reason and immediate:
        reason = "IOC"
    if reason:
        state.out.append(OrderCancelled(order.order_id, order.open_lots, reason))
        return
    rest(state, order)
    if order.expiry_us:
        heappush(state.expiries, (order.expiry_us, order.order_id))


def find(state: State, account: Account, client_order_id: int, order_id: int) -> Order | None:
    """An open order of this account, by order id when given, else by client order id."""
    if order_id:
        order = state.orders.get(order_id)
        return order if order is not None and order.account is account else None
    return account.orders.get(client_order_id)


def cancel(state: State, account: Account, command: CancelOrder) -> str:
    if command.order_id:
        order = find(state, account, command.client_order_id, command.order_id)
    else:
        order = account.orders.get(command.client_order_id)
    if order is None:
        return "UNKNOWN_ORDER"
    drop(state, order, "USER")
    return ""


def cancel_all(state: State, account: Account, command: CancelAll, reason: str = "USER") -> str:
    """Cancel every open order, in the order of placing."""
    if command.instrument and command.instrument not in state.instruments:
        return "UNKNOWN_INSTRUMENT"
    chosen = command.instrument
    for order in list(account.orders.values()):
        if not chosen or order.slot.inst.id == chosen:
            drop(state, order, reason)
    return ""


def replace(state: State, account: Account, command: ReplaceOrder) -> str:
    """New price and open size. Priority is kept only when the size alone shrinks."""
    order = account.orders.get(command.client_order_id)
    if order is None:
        return "UNKNOWN_ORDER"
    if order.expiry_us and order.expiry_us <= state.time_us:
        return "INVALID_EXPIRY"
    slot, inst, side = order.slot, order.slot.inst, order.side
    price, lots = command.price_atoms, command.size_lots
    code = _price_and_size(inst, price, lots)
    if code:
        return code
    if price == order.price and lots <= order.open_lots:
        add_open(slot, side, price, lots - order.open_lots)
        order.open_lots = lots
        state.out.append(OrderReplaced(order.order_id, price, lots, True))
        return ""
    code = _market_is_open(state, inst)
    if code:
        return code
    keys = inst.book.sides[1 - side].keys
    crosses = bool(keys) and keys[-1] >= opposite_limit(side, price)
    if order.post_only and crosses:
        return "POST_ONLY_WOULD_CROSS"
    if order.reduce_only:
        lots = min(lots, slot.size if side == ids.SELL else -slot.size)
        if lots <= 0:
            return "REDUCE_ONLY_WOULD_INCREASE"
    own = inst.book.sides[side]
    key = price if side == ids.BUY else -price
    if len(own.keys) >= state.params.max_levels and key not in own.levels:
        return "TOO_MANY_LEVELS"
    # The order's old claim must not count against its new one; it is put back when refused.
    open_loss(account, slot)
    add_open(slot, side, order.price, -order.open_lots)
    fits = order_fits(account, slot, side, price, lots)
    add_open(slot, side, order.price, order.open_lots)
    if not fits:
        return "INSUFFICIENT_MARGIN"
    _move(state, order, price, lots, crosses)
    return ""


def _move(state: State, order: Order, price: int, lots: int, crosses: bool) -> None:
    """Take the order out, and let it arrive again at its new price."""
    side = order.side
    order.slot.inst.book.sides[side].remove(order)
    add_open(order.slot, side, order.price, -order.open_lots)
    del order.account.orders[order.client_order_id]
    del state.orders[order.order_id]
    order.price = price
    order.open_lots = lots
    state.out.append(OrderReplaced(order.order_id, price, lots, False))
    _execute(state, order, False, crosses)


def expire(state: State) -> str:
    """Cancel orders past their expiry, earliest first, bounded per entry."""
    left = MAX_EXPIRED_PER_ENTRY
    while left and state.expiries and state.expiries[0][0] <= state.time_us:
        _, order_id = heappop(state.expiries)
        order = state.orders.get(order_id)
        if order is not None:
            drop(state, order, "EXPIRED")
            left -= 1
    return ""
