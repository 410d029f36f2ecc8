# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders that wait for the mark price: stop, take-profit and OCO.

- A trigger takes no margin while it waits, and is not an order: nobody can trade with it. It shares its
  account's caps on open orders and client order ids.
- It *fires* when the mark reaches it, after any change of mark: those above by ascending trigger price,
  then those below by descending price, equal prices in the order of placing. What fired waits for
  RunTriggers, and so do all new orders of the market: nobody goes before a stop.
- An entry has room for so many. A mark is remembered (`high`, `low`) until all that it reached have fired,
  so a price that comes back at once does not save the last in the queue.
- A fired trigger *arrives* as an order with its own id: markets in the order of their ids, each first in,
  first out, while the market is not halted and its price good for fills. On arrival it is checked like
  any order; if refused it is cancelled (REJECTED). It cancels makers of its own owner rather than itself.
- OCO: a pair knows each other; whichever is filled, fired or cancelled first cancels the other.
"""

from bisect import insort

from clearing.core import orders
from clearing.core.book import Order
from clearing.core.matching import below_key, cancel_partner, visits
from clearing.core.state import Account, InstrumentState, State, Trigger
from clearing.model import ids
from clearing.model.commands import PlaceOrder, PlaceTrigger, RunTriggers
from clearing.model.ids import MAX_PRICE_ATOMS
from clearing.model.outcomes import OrderCancelled, TriggerFired, TriggerPlaced

# Beside the budget of fills: each has up to four outcomes of its own.
MAX_ARRIVALS_PER_ENTRY = 150


def place(state: State, account: Account, command: PlaceTrigger) -> str:
    """Let an order wait for the mark price."""
    inst = state.instruments.get(command.instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    code = _check_fields(state, account, inst, command)
    if not code:
        code = orders.market_is_open(state, account, inst, command.reduce_only) or orders.price_is_good(state, inst)
    if code:
        return code
    if inst.mark >= command.trigger_atoms if command.above else inst.mark <= command.trigger_atoms:
        return "TRIGGER_ALREADY_REACHED"
    if len(account.orders) + len(account.triggers) >= state.params.max_open_orders:
        return "TOO_MANY_ORDERS"
    partner = account.triggers.get(command.oco) or account.orders.get(command.oco)
    code = _check_partner(state, partner) if command.oco else ""
    if code:
        return code
    trigger = Trigger(state.next_order_id, account, command)
    state.next_order_id += 1
    if partner is not None:
        partner.oco = trigger.client_order_id
    state.triggers[trigger.order_id] = account.triggers[trigger.client_order_id] = trigger
    _enqueue(inst, trigger)
    if trigger.expiry_us:
        orders.watch_expiry(state, trigger.expiry_us, trigger.order_id)
    state.out.append(
        TriggerPlaced(
            trigger.order_id,
            account.number,
            trigger.client_order_id,
            trigger.instrument,
            trigger.side,
            trigger.trigger,
            trigger.above,
            trigger.price,
            trigger.lots,
        )
    )
    return ""


def _check_fields(state: State, account: Account, inst: InstrumentState, command: PlaceTrigger) -> str:
    if not 0 <= command.side <= 1 or not ids.LIMIT <= command.kind <= ids.MARKET:
        return "INVALID_FIELD"
    if command.client_order_id <= 0 or command.oco < 0:
        return "INVALID_FIELD"
    code = orders.price_and_size(inst, command.price_atoms, command.size_lots)
    if code:
        return code
    if not 0 < command.trigger_atoms <= MAX_PRICE_ATOMS or command.trigger_atoms % inst.tick:
        return "INVALID_PRICE"
    if command.expiry_us and not state.time_us < command.expiry_us <= ids.MAX_TIME_US:
        return "INVALID_EXPIRY"
    if command.client_order_id in account.orders or command.client_order_id in account.triggers:
        return "DUPLICATE_CLIENT_ORDER_ID"
    return ""


def _check_partner(state: State, partner: Trigger | Order | None) -> str:
    """A pair has two halves, and one that has fired already will not wait for a second."""
    if partner is None:
        return "UNKNOWN_ORDER"
    if partner.oco:
        return "INVALID_FIELD"
    if isinstance(partner, Trigger) and any(t is partner for t in state.instruments[partner.instrument].fired):
        return "TRIGGERS_PENDING"
    return ""


def _enqueue(inst: InstrumentState, trigger: Trigger) -> None:
    item = (trigger.trigger, trigger.order_id)
    if trigger.above:
        insort(inst.above, item)
    else:
        insort(inst.below, item, key=below_key)


def check(state: State, inst: InstrumentState) -> None:
    """Fire what the mark has reached. To be called after every change of `inst.mark`."""
    above, below, mark = inst.above, inst.below, inst.mark
    if (above and above[0][0] <= mark) or (below and below[0][0] >= mark) or inst.high or inst.low:
        _fire(state, inst)


def _fire(state: State, inst: InstrumentState) -> None:
    """Fire, in order, what lies within the marks not answered yet, as far as the entry's budget goes."""
    above, below = inst.above, inst.below
    if not inst.mark or orders.has_expired(inst, state.time_us):
        return
    high, low = max(inst.high, inst.mark), min(inst.low or inst.mark, inst.mark)
    while above and above[0][0] <= high and state.fills_left > 0:
        _fire_one(state, inst, state.triggers[above.pop(0)[1]], high)
    while below and below[0][0] >= low and state.fills_left > 0:
        _fire_one(state, inst, state.triggers[below.pop(0)[1]], low)
    inst.high = high if above and above[0][0] <= high else 0
    inst.low = low if below and below[0][0] >= low else 0


def _fire_one(state: State, inst: InstrumentState, trigger: Trigger, mark: int) -> None:
    inst.fired.append(trigger)
    state.out.append(TriggerFired(trigger.order_id, mark))
    state.fills_left -= 1
    if trigger.oco:
        state.fills_left -= 1
        partner, trigger.oco = trigger.oco, 0
        cancel_partner(state, trigger.account, partner)


def _can_run(state: State, inst: InstrumentState, now_us: int) -> bool:
    """Do triggers wait here for RunTriggers, and could their orders trade?"""
    if not (inst.fired or inst.high or inst.low) or inst.halted or orders.has_expired(inst, now_us):
        return False
    params = state.params
    return inst.index_time + min(params.oracle_max_age_us, params.oracle.fill_max_age_us) >= now_us


def run(state: State, command: RunTriggers) -> str:
    """Let fired triggers arrive as orders, as far as the entry's budget goes; then fire what had no room."""
    numbers = sorted(state.instruments)
    ready = [inst for inst in map(state.instruments.__getitem__, numbers) if _can_run(state, inst, state.time_us)]
    if not ready:
        return "NO_TRIGGERS"
    _arrive_in_turn(state, ready)
    for inst in ready:
        if inst.high or inst.low:
            _fire(state, inst)
    return ""


def _arrive_in_turn(state: State, ready: list[InstrumentState]) -> None:
    """An order that may need more of the budget than is left has the next entry's before it is cut off."""
    arrived = 0
    for inst in ready:
        while inst.fired:
            trigger = inst.fired[0]
            left = state.fills_left
            needed = visits(inst, trigger.account, trigger.side, trigger.price, trigger.lots, left)
            if arrived and (arrived >= MAX_ARRIVALS_PER_ENTRY or needed > left):
                return
            del inst.fired[0]
            _arrive(state, inst, trigger)
            arrived += 1


def _arrive(state: State, inst: InstrumentState, trigger: Trigger) -> None:
    """From here on it is an order like any other, under the id it had."""
    account, expiry_us = trigger.account, trigger.expiry_us
    del account.triggers[trigger.client_order_id]
    del state.triggers[trigger.order_id]
    state.dirty[account.number] = account
    if expiry_us and expiry_us <= state.time_us:
        state.out.append(OrderCancelled(trigger.order_id, trigger.lots, "EXPIRED"))
        return
    rests = trigger.kind == ids.LIMIT
    order = PlaceOrder(
        inst.id,
        trigger.side,
        trigger.price,
        trigger.lots,
        trigger.client_order_id,
        trigger.kind,
        ids.GTT if rests and expiry_us else ids.GTC,
        False,
        trigger.reduce_only,
        ids.STP_CANCEL_MAKER,
        expiry_us if rests else 0,
    )
    if orders.place(state, account, order, trigger.order_id):
        state.out.append(OrderCancelled(trigger.order_id, trigger.lots, "REJECTED"))


def due(state: State, now_us: int) -> RunTriggers | None:
    """RunTriggers when a fired trigger waits in a market that trades."""
    return RunTriggers() if any(_can_run(state, inst, now_us) for inst in state.instruments.values()) else None
