# SPDX-License-Identifier: GPL-3.0-or-later
"""From recorded events to the commands of members.

Rules:
- An order belongs to member `order id modulo members`; its client order id is its id in the source.
- A recorded trade becomes an immediate-or-cancel order of the aggressor's member: the traded size at
  the worst traded price. Whom it meets is for our book to say; that is what is compared. An aggressor
  whose own order was resting (it was modified into the market) takes that order off first; what it
  leaves resting comes back by the source's own next message.
- Of a fill that took more than the feed had shown of an order, the aggressor asks for the shown part.
- The cancels and modifies that follow a trade find nothing left to do and are not applied again.
- A resting order that crosses the recorded book says that the source is in a call phase, when it does
  not match. Such an order is held, and so are later ones of its price, until it no longer crosses; so
  the auction's own fills never reach our book as trades, and queue order survives the opening. What of
  them was submitted already is cancelled or reduced as the print says.
- Plans depend on the source alone, never on what our book did with the commands before.
"""

from collections import Counter

import msgspec

from clearing.ingest.book import Resting, SourceBook
from clearing.ingest.events import (
    Add,
    Auction,
    Cancel,
    Clear,
    Event,
    Fill,
    Halt,
    Modify,
    PartialCancel,
    Skipped,
    Trade,
)
from clearing.model import ids
from clearing.model.commands import CancelAll, CancelOrder, MemberCommand, PlaceOrder, ReplaceOrder

INSTRUMENT = 1
# Client order ids of aggressors that the feed does not name: above every id of a real feed.
_NAMELESS = 2**62


class Step(msgspec.Struct, frozen=True, gc=False):
    """Commands of one member that belong together. `trade` is what they are to reproduce, if anything;
    then the last command is the aggressor's."""

    member: int
    commands: tuple[MemberCommand, ...]
    time_us: int
    where: int
    trade: Trade | None = None


class Planner:
    """Folds events into steps. `counts` says what was not turned into commands, and why."""

    def __init__(self, members: int) -> None:
        self.book = SourceBook()
        self.counts: Counter[str] = Counter()
        self._members = members
        self._nameless = _NAMELESS

    def plan(self, event: Event) -> list[Step]:
        """The steps of the next event, in the order in which they must be submitted."""
        if isinstance(event, Add):
            steps = self._add(event, event.order_id, event.side, event.price_atoms, event.size_lots)
        elif isinstance(event, Cancel):
            steps = self._cancel(event)
        elif isinstance(event, Modify):
            steps = self._modify(event)
        elif isinstance(event, Trade):
            steps = self._trade(event)
        elif isinstance(event, PartialCancel):
            steps = self._partial(event)
        elif isinstance(event, Auction):
            steps = self._auction(event)
        elif isinstance(event, Clear):
            steps = self._clear(event)
        else:
            self.counts[_name(event)] += 1
            steps = []
        if self.book.held:
            steps += self._release(event)
        return steps

    def _step(self, event: Event, owner: int, *commands: MemberCommand, trade: Trade | None = None) -> Step:
        return Step(owner % self._members, commands, event.time_us, event.where, trade)

    def _place(self, event: Event, order: Resting) -> Step:
        price, size, order_id = order.price, order.size, order.order_id
        command = PlaceOrder(INSTRUMENT, order.side, price, size, order_id, stp=ids.STP_NONE)
        return self._step(event, order_id, command)

    def _add(self, event: Event, order_id: int, side: int, price: int, size: int) -> list[Step]:
        if order_id in self.book.orders:
            self.counts["new order with the id of an open one"] += 1
            return []
        order = Resting(order_id, side, price, size)
        held = self.book.must_wait(side, price)
        self.book.insert(order, held)
        if held:
            self.counts["order held while the recorded book was crossed"] += 1
            return []
        return [self._place(event, order)]

    def _cancel(self, event: Cancel) -> list[Step]:
        order = self.book.orders.get(event.order_id)
        if order is None:
            self.counts["cancel of an order that is gone"] += 1
            return []
        self.book.remove(order)
        return [] if order.held else [self._step(event, order.order_id, CancelOrder(order.order_id))]

    def _partial(self, event: PartialCancel) -> list[Step]:
        order = self.book.orders.get(event.order_id)
        if order is None:
            self.counts["cancel of an order that is gone"] += 1
            return []
        return self._shrink(event, order, event.size_lots)

    def _shrink(self, event: Event, order: Resting, lots: int) -> list[Step]:
        """Take `lots` off a resting order by a command of its member."""
        self.book.reduce(order, lots)
        if order.held:
            return []
        if order.size <= 0:
            return [self._step(event, order.order_id, CancelOrder(order.order_id))]
        return [self._step(event, order.order_id, ReplaceOrder(order.order_id, order.price, order.size))]

    def _modify(self, event: Modify) -> list[Step]:
        order = self.book.orders.get(event.order_id)
        price, size = event.price_atoms, event.size_lots
        if order is None:
            # What an aggressor left resting, or the next slice of an order that shows only a part.
            return self._add(event, event.order_id, event.side, price, size)
        if order.side == event.side and order.price == price and order.size == size:
            self.counts["modify that a trade had done already"] += 1
            return []
        if order.side == event.side and order.price == price and size < order.size:
            return self._shrink(event, order, order.size - size)
        self.book.remove(order)
        was_held = order.held
        order = Resting(event.order_id, event.side, price, size)
        held = self.book.must_wait(event.side, price)
        self.book.insert(order, held)
        if was_held:
            return [] if held else [self._place(event, order)]
        if held:
            self.counts["order held while the recorded book was crossed"] += 1
            return [self._step(event, order.order_id, CancelOrder(order.order_id))]
        return [self._step(event, order.order_id, ReplaceOrder(order.order_id, price, size))]

    def _trade(self, event: Trade) -> list[Step]:
        commands: list[MemberCommand] = []
        aggressor = event.aggressor_id
        if not aggressor:
            self._nameless += 1
            aggressor = self._nameless
        own = self.book.orders.get(aggressor)
        if own is not None:
            self.book.remove(own)
            if not own.held:
                commands.append(CancelOrder(aggressor))
        prices = [fill.price_atoms for fill in event.fills]
        worst = max(prices) if event.side == ids.BUY else min(prices)
        size = sum(self._shown(fill) for fill in event.fills)
        if not size:
            size = event.fills[0].size_lots  # nobody we know: let our book answer for itself
        commands.append(PlaceOrder(INSTRUMENT, event.side, worst, size, aggressor, tif=ids.IOC, stp=ids.STP_NONE))
        return [self._step(event, aggressor, *commands, trade=event)]

    def _shown(self, fill: Fill) -> int:
        """Take a fill off the recorded book; returns how much of it the book had shown.

        The rest came from an order's hidden reserve. Our book has none, so an aggressor with the full
        size would go on into orders that were never hit.
        """
        order = self.book.orders.get(fill.order_id)
        if order is None:
            self.counts["fill of an order that the feed never showed"] += 1
            return 0
        shown = min(order.size, fill.size_lots)
        if shown < fill.size_lots:
            self.counts["fill from a hidden reserve"] += 1
        self.book.reduce(order, fill.size_lots)
        return shown

    def _auction(self, event: Auction) -> list[Step]:
        steps: list[Step] = []
        for fill in event.fills:
            steps += self._uncross(event, fill)
        return steps

    def _uncross(self, event: Auction, fill: Fill) -> list[Step]:
        self.counts["fill of a call auction"] += 1
        order = self.book.orders.get(fill.order_id)
        return [] if order is None else self._shrink(event, order, fill.size_lots)

    def _clear(self, event: Clear) -> list[Step]:
        members = {order.order_id % self._members for order in self.book.orders.values() if not order.held}
        self.book.clear()
        return [self._step(event, member, CancelAll(INSTRUMENT)) for member in sorted(members)]

    def _release(self, event: Event) -> list[Step]:
        """Submit held orders that no longer cross, oldest first."""
        steps: list[Step] = []
        for order in list(self.book.held.values()):
            if not self.book.crosses(order):
                self.book.remove(order)
                self.book.insert(order, False)
                steps.append(self._place(event, order))
        return steps


def _name(event: Halt | Skipped) -> str:
    return event.what if isinstance(event, Skipped) else "halt notice"
