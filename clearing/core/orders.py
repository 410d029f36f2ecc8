# SPDX-License-Identifier: GPL-3.0-or-later
"""Place, cancel, cancel-all and replace, and what time does to orders and triggers.

Each function returns "" when the command was accepted (its outcomes are in `state.out`) or the
code of the first check that failed, in which case nothing changed.

- What waits may always be cancelled, and an order may shrink. New and moved orders need an open
  market: neither halted nor expired, and no fired trigger that goes first. An account in liquidation
  may only reduce.
- Resting needs a price that is good for margin (`oracle_max_age_us`), trading at once one that is
  good for fills (`oracle.fill_max_age_us`).
- An account holds at most `max_positions` slots; when it is full, empty ones make room.
- Orders past their expiry and accounts whose dead man's switch is due are cancelled by ExpireOrders,
  earliest first, as many as fit; a switch stays armed until nothing of its account is left.
"""

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush

from clearing.core import breakers
from clearing.core.book import Order
from clearing.core.margin import add_open, open_loss, order_fits
from clearing.core.matching import cancel_partner, discard, drop, fillable, match, opposite_limit, rest
from clearing.core.positions import is_empty, slot_of
from clearing.core.state import Account, InstrumentState, State
from clearing.model import ids
from clearing.model.commands import CancelAll, CancelOrder, ExpireOrders, PlaceOrder, ReplaceOrder, ScheduleCancelAll
from clearing.model.ids import MAX_LOTS, MAX_PRICE_ATOMS, STP_CANCEL_BOTH
from clearing.model.outcomes import CancelAllScheduled, OrderCancelled, OrderPlaced, OrderReplaced

MAX_EXPIRED_PER_ENTRY = 300


def price_and_size(inst: InstrumentState, price: int, lots: int) -> str:
    """Why these do not make an order of this market, or ""."""
    if not 0 < lots <= MAX_LOTS:
        return "INVALID_SIZE"
    if lots > inst.max_lots:
        return "ORDER_TOO_LARGE"
    if not 0 < price <= MAX_PRICE_ATOMS or price % inst.tick:
        return "INVALID_PRICE"
    return ""


def price_is_good(state: State, inst: InstrumentState) -> str:
    """Is there a price that margin may rely on? "" or the reason why not."""
    if not inst.mark:
        return "NO_MARK_PRICE"
    if inst.index_time + state.params.oracle_max_age_us < state.time_us:
        return "ORACLE_STALE"
    return ""


def has_expired(inst: InstrumentState, time_us: int) -> bool:
    """Trading stops at expiry, whenever it is settled."""
    return inst.expiry is not None and inst.expiry.expiry_us <= time_us


def market_is_open(
    state: State, account: Account, inst: InstrumentState, reduce_only: bool, arriving: bool = False
) -> str:
    """May this account place an order here now? `arriving`: it is a fired trigger, and so its turn."""
    if inst.halted:
        return "MARKET_HALTED"
    if has_expired(inst, state.time_us):
        return "INSTRUMENT_EXPIRED"
    if not arriving and (inst.fired or inst.high or inst.low):
        return "TRIGGERS_PENDING"
    if not reduce_only and (account.auction is not None or account.wait_us > state.time_us):
        return "IN_LIQUIDATION"
    return "EXIT_FORCED" if account.number in state.forced else ""


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


def _specialise(state: State, order: Order, command: PlaceOrder, crosses: bool) -> str:
    """Give an order its flags, and check those that depend on the book."""
    if command.post_only and crosses:
        return "POST_ONLY_WOULD_CROSS"
    order.post_only, order.reduce_only = command.post_only, command.reduce_only
    order.expiry_us = command.expiry_us
    inst = order.slot.inst
    if command.tif == ids.FOK and not fillable(state, order.side, order.price, order.open_lots, inst, order):
        return "FOK_NOT_FILLABLE"
    return ""


def _may_rest(state: State, account: Account, inst: InstrumentState, side: int, price: int) -> str:
    """Caps on open orders and levels bound the worst case."""
    params = state.params
    if len(account.orders) + len(account.triggers) >= params.max_open_orders:
        return "TOO_MANY_ORDERS"
    own = inst.book.sides[side]
    if len(own.keys) >= params.max_levels and (-price if side else price) not in own.levels:
        return "TOO_MANY_LEVELS"
    return ""


def place(state: State, account: Account, command: PlaceOrder, order_id: int = 0) -> str:
    """Check, match, and rest or cancel what remains. `order_id`: of the trigger that arrives, if it is one."""
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
        return price_and_size(inst, price, lots)
    if client_order_id in account.orders or client_order_id in account.triggers:
        return "DUPLICATE_CLIENT_ORDER_ID"
    waits = account.wait_us or account.auction or state.forced
    if inst.halted or inst.fired or inst.high or inst.low or inst.expiry or waits:
        code = market_is_open(state, account, inst, command.reduce_only, order_id > 0)
        if code:
            return code
    params = state.params
    if not inst.mark or inst.index_time + params.oracle_max_age_us < state.time_us:
        return price_is_good(state, inst)
    slot = account.slots.get(instrument)
    if slot is None:
        return _place_first(state, account, command, order_id)
    breaker = params.breaker
    if inst.breaker or breaker.band_ppm or breaker.impact_ppm:
        code = breakers.order_code(state, inst, account, side, price, lots)
        if code:
            return code
    if command.reduce_only:
        special = True
        lots = min(lots, slot.size if side else -slot.size)
        if lots <= 0:
            return "REDUCE_ONLY_WOULD_INCREASE"
    keys = inst.book.sides[1 - side].keys
    crosses = bool(keys) and keys[-1] >= (price if side else -price)
    number = order_id or state.next_order_id
    order = Order(number, account, slot, side, price, lots, client_order_id, stp)
    immediate = False
    if special:
        code = _specialise(state, order, command, crosses)
        if code:
            return code
        immediate = command.kind == ids.MARKET or command.tif == ids.IOC or command.tif == ids.FOK
    if crosses and inst.index_time + params.oracle.fill_max_age_us < state.time_us:
        return "ORACLE_STALE"
    code = "" if immediate else _may_rest(state, account, inst, side, price)
    if code:
        return code
    if not order_fits(account, slot, side, price, lots):
        return "INSUFFICIENT_MARGIN"
    if not order_id:
        state.next_order_id = number + 1
    state.out.append(OrderPlaced(number, account.number, client_order_id, instrument, side, price, lots))
    if special or crosses:
        _execute(state, order, immediate, crosses)
    else:
        rest(state, order)
    return ""


def _place_first(state: State, account: Account, command: PlaceOrder, order_id: int) -> str:
    """`place` with a slot opened for it, which is gone again when the order is refused."""
    before, plain = account.slots, account.plain
    slots = dict(before)
    if len(slots) >= state.params.max_positions:
        slots = {number: slot for number, slot in before.items() if not is_empty(slot)}
        if len(slots) >= state.params.max_positions:
            return "TOO_MANY_POSITIONS"
    account.slots = slots
    slot_of(state, account, command.instrument)
    account.set_plain()
    code = place(state, account, command, order_id)
    if code:
        account.slots, account.plain = before, plain
    return code


def _execute(state: State, order: Order, immediate: bool, crosses: bool) -> None:
    reason = match(state, order) if crosses else ""
    if order.open_lots:
        if not reason and immediate:
            reason = "IOC"
        if not reason:
            rest(state, order)
            if order.expiry_us:
                watch_expiry(state, order.expiry_us, order.order_id)
            return
        state.out.append(OrderCancelled(order.order_id, order.open_lots, reason))
    if order.oco:
        cancel_partner(state, order.account, order.oco)


def find(state: State, account: Account, client_order_id: int, order_id: int) -> Order | None:
    """An open order of this account, by order id when given, else by client order id."""
    if order_id:
        order = state.orders.get(order_id)
        return order if order is not None and order.account is account else None
    return account.orders.get(client_order_id)


def cancel(state: State, account: Account, command: CancelOrder) -> str:
    """Cancel an open order, or a trigger that has not arrived yet."""
    if command.order_id:
        order = find(state, account, command.client_order_id, command.order_id)
    else:
        order = account.orders.get(command.client_order_id)
    if order is not None:
        drop(state, order, "USER")
        return ""
    if command.order_id:
        trigger = state.triggers.get(command.order_id)
    else:
        trigger = account.triggers.get(command.client_order_id)
    if trigger is None or trigger.account is not account:
        return "UNKNOWN_ORDER"
    discard(state, trigger, "USER")
    return ""


def cancel_all(state: State, account: Account, command: CancelAll, reason: str = "USER") -> str:
    """Cancel every open order, and then every trigger, in the order of placing."""
    if command.instrument and command.instrument not in state.instruments:
        return "UNKNOWN_INSTRUMENT"
    cancel_some(state, account, command.instrument, reason, len(account.orders) + len(account.triggers))
    return ""


def cancel_some(state: State, account: Account, chosen: int, reason: str, most: int) -> int:
    """Cancel up to `most` orders and triggers in one instrument (0: all); returns what is left of `most`.

    An OCO partner that goes along counts, so the result may be -1.
    """
    for order in list(account.orders.values()):
        if most <= 0:
            return most
        if (not chosen or order.slot.inst.id == chosen) and order.order_id in state.orders:
            most -= 2 if order.oco else 1
            drop(state, order, reason)
    for trigger in list(account.triggers.values()):
        if most <= 0:
            return most
        if (not chosen or trigger.instrument == chosen) and trigger.order_id in state.triggers:
            most -= 2 if trigger.oco else 1
            discard(state, trigger, reason)
    return most


def replace(state: State, account: Account, command: ReplaceOrder) -> str:
    """New price and open size. Priority is kept only when the size alone shrinks."""
    order = account.orders.get(command.client_order_id)
    if order is None:
        return "UNKNOWN_ORDER"
    if order.expiry_us and order.expiry_us <= state.time_us:
        return "INVALID_EXPIRY"
    slot, inst, side = order.slot, order.slot.inst, order.side
    price, lots = command.price_atoms, command.size_lots
    code = price_and_size(inst, price, lots)
    if code:
        return code
    if price == order.price and lots <= order.open_lots:
        add_open(slot, side, price, lots - order.open_lots)
        order.open_lots = lots
        state.out.append(OrderReplaced(order.order_id, price, lots, True))
        return ""
    code = market_is_open(state, account, inst, order.reduce_only) or price_is_good(state, inst)
    breaker = state.params.breaker
    if not code and (inst.breaker or breaker.band_ppm or breaker.impact_ppm):
        code = breakers.order_code(state, inst, account, side, price, lots)
    if code:
        return code
    keys = inst.book.sides[1 - side].keys
    crosses = bool(keys) and keys[-1] >= opposite_limit(side, price)
    if order.post_only and crosses:
        return "POST_ONLY_WOULD_CROSS"
    if crosses and inst.index_time + state.params.oracle.fill_max_age_us < state.time_us:
        return "ORACLE_STALE"
    if order.reduce_only:
        lots = min(lots, slot.size if side == ids.SELL else -slot.size)
        if lots <= 0:
            return "REDUCE_ONLY_WOULD_INCREASE"
    own = inst.book.sides[side]
    key = price if side == ids.BUY else -price
    if len(own.keys) >= state.params.max_levels and key not in own.levels:
        return "TOO_MANY_LEVELS"
    if not _fits_elsewhere(account, order, price, lots):
        return "INSUFFICIENT_MARGIN"
    _move(state, order, price, lots, crosses)
    return ""


def _fits_elsewhere(account: Account, order: Order, price: int, lots: int) -> bool:
    """Would the order fit at this price and size, if its old claim did not count against its new one?"""
    slot, side, open_lots = order.slot, order.side, order.open_lots
    open_loss(account, slot)
    add_open(slot, side, order.price, -open_lots)
    order.open_lots = 0
    fits = order_fits(account, slot, side, price, lots)
    order.open_lots = open_lots
    add_open(slot, side, order.price, open_lots)
    return fits


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


# --- what time does ----------------------------------------------------------------------------


def watch_expiry(state: State, expiry_us: int, order_id: int) -> None:
    """Remember when an order or a trigger expires. Entries of what is gone are swept out now and then."""
    waiting = state.expiries
    if len(waiting) > 2 * (len(state.orders) + len(state.triggers)) + 1_000:
        waiting[:] = [item for item in waiting if item[1] in state.orders or item[1] in state.triggers]
        heapify(waiting)
    heappush(waiting, (expiry_us, order_id))


def schedule_cancel_all(state: State, account: Account, command: ScheduleCancelAll) -> str:
    """Arm the account's dead man's switch for `at_us`, in place of an earlier time; 0 disarms it."""
    at_us = command.at_us
    if at_us and not state.time_us < at_us <= ids.MAX_TIME_US:
        return "INVALID_EXPIRY"
    _set_switch(state, account, at_us)
    return ""


def _set_switch(state: State, account: Account, at_us: int) -> None:
    """`state.cancel_alls` is sorted and holds every armed account once."""
    if account.cancel_all_us:
        del state.cancel_alls[bisect_left(state.cancel_alls, (account.cancel_all_us, account.number))]
    account.cancel_all_us = at_us
    if at_us:
        insort(state.cancel_alls, (at_us, account.number))
    state.dirty[account.number] = account
    state.out.append(CancelAllScheduled(account.number, at_us))


def expire(state: State, command: ExpireOrders) -> str:
    """Cancel orders and triggers past their expiry, then the accounts whose switch is due; bounded per entry."""
    left, now = MAX_EXPIRED_PER_ENTRY, state.time_us
    while left > 0 and state.expiries and state.expiries[0][0] <= now:
        _, order_id = heappop(state.expiries)
        order = state.orders.get(order_id)
        trigger = state.triggers.get(order_id)
        if order is not None:
            left -= 2 if order.oco else 1
            drop(state, order, "EXPIRED")
        elif trigger is not None:
            left -= 2 if trigger.oco else 1
            discard(state, trigger, "EXPIRED")
    while left > 0 and state.cancel_alls and state.cancel_alls[0][0] <= now:
        account = state.accounts[state.cancel_alls[0][1]]
        left = cancel_some(state, account, 0, "SCHEDULED", left)
        if left > 0:
            _set_switch(state, account, 0)
            left -= 1
    return ""


def due(state: State, now_us: int) -> ExpireOrders | None:
    """ExpireOrders when an expiry or a dead man's switch has come."""
    for waiting in (state.expiries, state.cancel_alls):
        if waiting and waiting[0][0] <= now_us:
            return ExpireOrders()
    return None
