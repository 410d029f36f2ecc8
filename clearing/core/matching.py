# SPDX-License-Identifier: GPL-3.0-or-later
"""Price-time matching and what a fill does. Orders come in already checked by `orders`.

A maker that may not trade (expired, reduce-only with nothing left to reduce, self-trade) is
cancelled on the way. Fills and such cancels share the entry's budget, so an entry stays bounded.

Whoever leaves, filled or cancelled, takes its OCO partner along (reason OCO): an order's partner is
a trigger, a trigger's partner either. A maker that has a partner therefore costs twice the budget.
"""

from bisect import bisect_left

from clearing.core.book import Order, Side
from clearing.core.fees import roll_day
from clearing.core.margin import add_open
from clearing.core.positions import fold
from clearing.core.state import Account, InstrumentState, State, Trigger
from clearing.model import ids
from clearing.model.ids import DAY_US, PPM
from clearing.model.outcomes import OrderCancelled, TradeNovated


def opposite_limit(side: int, price: int) -> int:
    """The smallest key on the opposite side that an order at `price` may trade with."""
    return -price if side == ids.BUY else price


def drop(state: State, order: Order, reason: str) -> None:
    """Take a resting order out of book and indexes, and say so."""
    slot, side, lots, order_id = order.slot, order.side, order.open_lots, order.order_id
    slot.inst.book.sides[side].remove(order)
    add_open(slot, side, order.price, -lots)
    account = order.account
    del account.orders[order.client_order_id]
    del state.orders[order_id]
    state.dirty[account.number] = account
    state.out.append(OrderCancelled(order_id, lots, reason))
    if order.oco:
        cancel_partner(state, account, order.oco)


def queue_key(trigger: Trigger) -> tuple[int, int]:
    """Where a waiting trigger stands in `InstrumentState.above` or `below`: nearest price first, then oldest."""
    return trigger.trigger, trigger.order_id


def below_key(item: tuple[int, int]) -> tuple[int, int]:
    """Sort key of `InstrumentState.below`: the highest price is reached first."""
    return -item[0], item[1]


def discard(state: State, trigger: Trigger, reason: str) -> None:
    """Take a trigger, waiting or fired, out of its queue and the indexes, and say so."""
    inst, account = state.instruments[trigger.instrument], trigger.account
    item = queue_key(trigger)
    if trigger.above:
        queue, at = inst.above, bisect_left(inst.above, item)
    else:
        queue, at = inst.below, bisect_left(inst.below, below_key(item), key=below_key)
    if at < len(queue) and queue[at] == item:
        del queue[at]
    else:
        inst.fired.remove(trigger)
    del account.triggers[trigger.client_order_id]
    del state.triggers[trigger.order_id]
    state.dirty[account.number] = account
    state.out.append(OrderCancelled(trigger.order_id, trigger.lots, reason))
    if trigger.oco:
        cancel_partner(state, account, trigger.oco)


def cancel_partner(state: State, account: Account, client_order_id: int) -> None:
    """Cancel what an OCO pair's other half names. The pair is dissolved first, so that it does not answer."""
    trigger = account.triggers.get(client_order_id)
    if trigger is not None:
        trigger.oco = 0
        discard(state, trigger, "OCO")
    else:
        order = account.orders[client_order_id]
        order.oco = 0
        drop(state, order, "OCO")


def rest(state: State, order: Order) -> None:
    """Put an accepted order into book and indexes with fresh time priority."""
    order.rank = rank = state.next_rank
    state.next_rank = rank + 1
    slot, side = order.slot, order.side
    slot.inst.book.sides[side].add(order)
    add_open(slot, side, order.price, order.open_lots)
    order.account.orders[order.client_order_id] = order
    state.orders[order.order_id] = order


def _tradable(state: State, maker: Order, taker: Order) -> tuple[int, str]:
    """(lots the maker may trade, reason to cancel it when zero)."""
    if maker.expiry_us and maker.expiry_us <= state.time_us:
        return 0, "EXPIRED"
    if maker.reduce_only:
        size = maker.slot.size
        free = size if maker.side == ids.SELL else -size
        if free <= 0:
            return 0, "REDUCE_ONLY"
        return min(free, maker.open_lots), ""
    return maker.open_lots, ""


def match(state: State, taker: Order) -> str:
    """Trade `taker` against the book within its price; `taker.open_lots` is what remains.

    Returns the reason why the rest must be cancelled (STP, FILL_LIMIT), or "".
    """
    inst = taker.slot.inst
    side = inst.book.sides[1 - taker.side]
    keys, levels = side.keys, side.levels
    limit = opposite_limit(taker.side, taker.price)
    owner = taker.account.owner if taker.stp else None
    day = state.time_us // DAY_US
    while taker.open_lots and keys and keys[-1] >= limit:
        if state.fills_left <= 0:
            return "FILL_LIMIT"
        maker = levels[keys[-1]].head
        assert maker is not None, "levels are never empty"
        state.fills_left -= 2 if maker.oco else 1
        if maker.account.owner is owner:
            if taker.stp != ids.STP_CANCEL_TAKER:
                drop(state, maker, "STP")
            if taker.stp != ids.STP_CANCEL_MAKER:
                return "STP"
            continue
        lots = maker.open_lots
        if maker.expiry_us or maker.reduce_only:
            lots, reason = _tradable(state, maker, taker)
            if not lots:
                drop(state, maker, reason)
                continue
        if lots > taker.open_lots:
            lots = taker.open_lots
        _trade(state, inst, side, maker, taker, lots, day)
        if taker.reduce_only and not taker.slot.size:
            return "REDUCE_ONLY" if taker.open_lots else ""
    return ""


def _trade(
    state: State,
    inst: InstrumentState,
    side: Side,
    maker: Order,
    taker: Order,
    lots: int,
    day: int,
) -> None:
    """One fill at the maker's price: both legs, both fees, the maker's open sums."""
    price = inst.last = maker.price
    notional = lots * price
    buyer, seller = maker.account, taker.account
    if buyer.day != day:
        roll_day(state, buyer, day)
    if seller.day != day:
        roll_day(state, seller, day)
    buyer.volume_today += notional
    seller.volume_today += notional

    maker.fee_acc += notional * buyer.maker_ppm
    total = -(-maker.fee_acc // PPM)
    maker_fee = total - maker.fee_paid
    maker.fee_paid = total
    taker.fee_acc += notional * seller.taker_ppm
    total = -(-taker.fee_acc // PPM)
    taker_fee = total - taker.fee_paid
    taker.fee_paid = total
    state.accounts[0].cash += maker_fee + taker_fee

    signed = lots if maker.side == 0 else -lots
    fold(buyer, maker.slot, signed, price, maker_fee)
    fold(seller, taker.slot, -signed, price, taker_fee)
    taker.open_lots -= lots
    add_open(maker.slot, maker.side, price, -lots)
    left = maker.open_lots - lots
    maker.open_lots = left
    if not left:
        side.remove(maker)
        del buyer.orders[maker.client_order_id]
        del state.orders[maker.order_id]
    state.touched[buyer.number] = buyer
    state.touched[seller.number] = seller
    state.out.append(
        TradeNovated(
            inst.id,
            price,
            lots,
            maker.order_id,
            taker.order_id,
            buyer.number,
            seller.number,
            maker_fee,
            taker_fee,
        )
    )
    if maker.oco and not left:
        cancel_partner(state, buyer, maker.oco)


def fillable(state: State, side: int, price: int, lots: int, inst: InstrumentState, taker: Order) -> bool:
    """Fill-or-kill's question: would the whole size trade now, within the entry's budget?

    Walks the book as `match` would and changes nothing; `moved` is what the fills before would
    have done to positions, on which reduce-only makers depend.
    """
    opposite = inst.book.sides[1 - side]
    limit = opposite_limit(side, price)
    budget = state.fills_left
    owner = taker.account.owner if taker.stp else None
    moved: dict[int, int] = {}
    for key in reversed(opposite.keys):
        if key < limit:
            break
        maker = opposite.levels[key].head
        while maker is not None and lots > 0:
            cost = 2 if maker.oco else 1
            if maker.account.owner is owner:
                if taker.stp != ids.STP_CANCEL_MAKER or budget <= 0:
                    return False
                budget -= cost
            else:
                traded, visits = _would_trade(state, maker, taker, lots, moved)
                lots -= traded
                if budget <= (visits - 1) * cost:
                    return False
                budget -= visits * cost
            maker = maker.next
    return lots <= 0


def _would_trade(state: State, maker: Order, taker: Order, lots: int, moved: dict[int, int]) -> tuple[int, int]:
    """(lots that `match` would trade with this maker, visits that it would take)."""
    left, visits = maker.open_lots, 0
    expired = maker.expiry_us and maker.expiry_us <= state.time_us
    number, sign = maker.account.number, (1 if maker.side == ids.BUY else -1)
    while left and lots > 0:
        visits += 1
        free = 0 if expired else left
        if maker.reduce_only and free:
            size = maker.slot.size + moved.get(number, 0)
            free = min(free, max(0, -sign * size))
        if not free:
            break
        free = min(free, lots)
        left -= free
        lots -= free
        moved[number] = moved.get(number, 0) + sign * free
        other = taker.account.number
        moved[other] = moved.get(other, 0) - sign * free
    return maker.open_lots - left, visits


def visits(inst: InstrumentState, account: Account, side: int, price: int, lots: int, most: int) -> int:
    """A bound from above of the budget that `match` would take for this order; counts to just beyond `most`.

    Makers that may turn out not to trade are counted and fill nothing.
    """
    opposite = inst.book.sides[1 - side]
    limit = opposite_limit(side, price)
    count = 0
    for key in reversed(opposite.keys):
        if key < limit:
            break
        maker = opposite.levels[key].head
        while maker is not None and lots > 0 and count <= most:
            count += 2 if maker.oco else 1
            if not (maker.expiry_us or maker.reduce_only or maker.account.owner is account.owner):
                lots -= maker.open_lots
            maker = maker.next
        if lots <= 0 or count > most:
            break
    return count
