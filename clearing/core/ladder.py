# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder's selling step: close linear positions against the book, as little as heals the account.

Rules:
- Positions go largest notional first (ties by instrument id), each against its book, best price first, within
  liquidation_band_ppm of the mark. Halted and expired markets are left alone.
- Selling ends when equity after all fees reaches target_ppm of maintenance margin.
- Above slice_from_atoms of notional one step closes at most slice_ppm of the book, step_atoms, and
  step_position_ppm of each position (always at least one lot), and a cool-down follows. One follows too when
  nothing could be sold: the book is tried again then.
- No fill raises maintenance margin or lowers equity / maintenance, taker fees included: it is tried before it
  is made, halved until it passes, and left out if no part of it does. The liquidation fee is cut so that the
  whole step does not either.
"""

from clearing.core import whatif
from clearing.core.backstop import fee_limit, notional, pay_fee, positions
from clearing.core.book import Order
from clearing.core.fees import roll_day
from clearing.core.margin import assess
from clearing.core.matching import drop, match
from clearing.core.state import Account, InstrumentState, Slot, State
from clearing.model import ids
from clearing.model.ids import PPM
from clearing.model.outcomes import OrderCancelled, OrderPlaced

# Trial margins of accounts that are not plain take a while, so that one entry sees fewer fills.
MAX_SLOW_FILLS = 60


class _Sale:
    """One step of one account. `closed`: notional at mark so far; `budget`: what may still be closed."""

    def __init__(self, state: State, account: Account) -> None:
        rules = state.params.ladder
        self.state = state
        self.account = account
        self.equity, _, self.maintenance = assess(account)
        self.target_ppm = rules.target_ppm
        self.fee_ppm = state.params.liquidation_fee_ppm
        whole = notional(account)
        self.large = whole > rules.slice_from_atoms
        self.budget = min(whole * rules.slice_ppm // PPM, rules.step_atoms) if self.large else whole
        self.position_ppm = rules.step_position_ppm if self.large else PPM
        self.closed = 0
        self.healed = False

    def most(self, slot: Slot) -> int:
        """Lots of a position that this step may close."""
        size = abs(slot.size)
        return min(size, max(1, size * self.position_ppm // PPM))

    def within_budget(self, lots: int, mark: int) -> int:
        """At most `lots`, as far as the budget goes; a step that has closed nothing may close a lot."""
        if not mark:
            return lots
        return min(lots, max(self.budget // mark, 0 if self.closed else 1))

    def try_fill(self, order: Order, lots: int, price: int) -> tuple[int, int]:
        """(equity, maintenance) after `lots` more at `price`, taker fee paid."""
        account = self.account
        fee = -(-(order.fee_acc + lots * price * account.taker_ppm) // PPM) - order.fee_paid
        signed = lots if order.side == ids.BUY else -lots
        now, _, maintenance = whatif.after(account, [(order.slot.inst, signed, price)], -fee, assess)
        return now, maintenance

    def improves(self, now: int, maintenance: int) -> bool:
        return maintenance <= self.maintenance and now * self.maintenance >= self.equity * maintenance

    def reaches(self, now: int, maintenance: int, lots: int, mark: int) -> bool:
        fee = (self.closed + lots * mark) * self.fee_ppm // PPM
        return (now - fee) * PPM >= self.target_ppm * maintenance

    def fitting(self, order: Order, lots: int, price: int) -> int:
        """The fewest lots that reach the target, else as many of `lots` as do no harm."""
        mark = order.slot.inst.mark
        now, maintenance = self.try_fill(order, lots, price)
        while lots and not self.improves(now, maintenance):
            lots //= 2
            now, maintenance = self.try_fill(order, lots, price)
        if not lots or not self.reaches(now, maintenance, lots, mark):
            return lots
        low, high = 1, lots
        while low < high:
            middle = (low + high) // 2
            if self.reaches(*self.try_fill(order, middle, price), middle, mark):
                high = middle
            else:
                low = middle + 1
        least = self.try_fill(order, high, price)
        return high if self.improves(*least) and self.reaches(*least, high, mark) else lots

    def check(self) -> None:
        """Is the target reached by now?"""
        now, _, maintenance = assess(self.account)
        self.healed = self.reaches(now, maintenance, 0, 0)

    def fee(self) -> int:
        """The liquidation fee, cut so that the step does not lower equity / maintenance."""
        now, _, maintenance = assess(self.account)
        spare = now - -(-self.equity * maintenance // self.maintenance) if self.maintenance else now
        return max(0, min(self.closed * self.fee_ppm // PPM, fee_limit(self.account), spare))


def sell_down(state: State, account: Account) -> tuple[int, int, bool]:
    """One selling step. Returns (notional closed, fee, whether a cool-down must follow), atoms."""
    sale = _Sale(state, account)
    day = state.time_us // ids.DAY_US
    if account.day != day:
        roll_day(state, account, day)
    if not account.plain:
        state.fills_left = min(state.fills_left, MAX_SLOW_FILLS)
    for slot in sorted(positions(account), key=lambda slot: (-abs(slot.size) * slot.inst.mark, slot.inst.id)):
        if not sale.healed and _is_open(state, slot.inst):
            _sell(sale, slot)
    fee = sale.fee()
    pay_fee(state, account, fee)
    return sale.closed, fee, sale.large or not sale.closed


def _is_open(state: State, inst: InstrumentState) -> bool:
    expired = inst.settle or 0 < inst.spec.expiry_us <= state.time_us
    return bool(inst.mark) and not inst.halted and not expired and inst.kind != ids.OPTION


def _sell(sale: _Sale, slot: Slot) -> None:
    """Close the position against its book, maker by maker."""
    state, account, inst = sale.state, sale.account, slot.inst
    side = ids.SELL if slot.size > 0 else ids.BUY
    band = inst.mark * state.params.liquidation_band_ppm // PPM
    limit = max(1, inst.mark - band if side == ids.SELL else inst.mark + band)
    left = sale.most(slot)
    order = Order(state.next_order_id, account, slot, side, limit, left)
    placed = False
    while left and not sale.healed and state.fills_left > 0:
        maker, tradable = _best_maker(state, inst, side, limit)
        if maker is None:
            break
        lots = sale.fitting(order, sale.within_budget(min(left, tradable), inst.mark), maker.price)
        if not lots:
            break
        if not placed:
            placed = True
            state.next_order_id += 1
            state.out.append(OrderPlaced(order.order_id, account.number, 0, inst.id, side, limit, left))
        order.price, order.open_lots = maker.price, lots
        match(state, order)
        left -= lots - order.open_lots
        sale.closed += (lots - order.open_lots) * inst.mark
        sale.budget -= (lots - order.open_lots) * inst.mark
        sale.check()
        if order.open_lots:
            break
    if placed and left:
        state.out.append(OrderCancelled(order.order_id, left, "LIQUIDATION"))


def _best_maker(state: State, inst: InstrumentState, side: int, limit: int) -> tuple[Order | None, int]:
    """The first order on the other side within the limit that may trade, and its lots. Those that may not are
    cancelled on the way, as matching does it."""
    opposite = inst.book.sides[1 - side]
    while opposite.keys and state.fills_left > 0:
        maker = opposite.levels[opposite.keys[-1]].head
        assert maker is not None, "levels are never empty"
        if maker.price < limit if side == ids.SELL else maker.price > limit:
            break
        lots, reason = maker.open_lots, ""
        if maker.expiry_us and maker.expiry_us <= state.time_us:
            lots, reason = 0, "EXPIRED"
        elif maker.reduce_only:
            lots = min(lots, max(0, maker.slot.size if maker.side == ids.SELL else -maker.slot.size))
            reason = "REDUCE_ONLY"
        if lots:
            return maker, lots
        state.fills_left -= 2 if maker.oco else 1
        drop(state, maker, reason)
    return None, 0
