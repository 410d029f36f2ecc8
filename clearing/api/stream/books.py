# SPDX-License-Identifier: GPL-3.0-or-later
"""Books as they are streamed: price levels, kept beside the replica's, and what of them changed.

Rules:
- Levels follow the outcomes of entries: each order that an outcome names is looked up in the state after the slice, and
  the difference to what was known of it goes into its level. So an entry costs what it touched, whatever the depth.
- What is shown is the best `depth` levels of a side. A level that comes into that range, because a better one went, is
  told like a change; one that leaves it is told as gone. So who applies the changes holds what a snapshot holds.
- Everything is plain numbers of our own: it can be read while the replica applies an entry on a thread.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

from clearing.api.messages.frames import BookData
from clearing.api.replica import Applied
from clearing.core.book import Order
from clearing.core.state import State
from clearing.model import ids
from clearing.model import outcomes as o

Row = tuple[str, str, int]
# Where an order rests: instrument, side, key of its level, and lots.
_Place = tuple[int, int, int, int]


class SideLevels:
    """One side: `totals` by key [lots, orders]; keys as in clearing.core.book, so that the best is the last."""

    __slots__ = ("changed", "depth", "floor", "keys", "totals")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.keys: list[int] = []
        self.totals: dict[int, list[int]] = {}
        self.changed: set[int] = set()
        # The lowest key that was shown when all `depth` were; None: everything was.
        self.floor: int | None = None

    def add(self, key: int, lots: int, orders: int) -> None:
        """Change a level by some lots and orders."""
        total = self.totals.get(key)
        if total is None:
            self.totals[key] = [lots, orders]
            insort(self.keys, key)
        else:
            total[0] += lots
            total[1] += orders
            if not total[1]:
                del self.totals[key]
                del self.keys[bisect_left(self.keys, key)]
        self.changed.add(key)

    def rows(self) -> list[Row]:
        """The best levels, best first."""
        return [self._row(key) for key in reversed(self.keys[-self.depth :])]

    def take(self) -> list[Row]:
        """The levels that are shown otherwise than when this was last called, best first."""
        keys, before = self.keys, self.floor
        now = keys[-self.depth] if len(keys) > self.depth else None
        self.floor = now
        changed, self.changed = self.changed, set()
        if before is None and now is None:
            shown = changed
        else:
            low_before = before if before is not None else _BELOW
            low_now = now if now is not None else _BELOW
            # What came into the range, or left it, without a change of its own.
            between = keys[bisect_left(keys, min(low_before, low_now)) : bisect_left(keys, max(low_before, low_now))]
            shown = {key for key in (*changed, *between) if key >= low_before or key >= low_now}
        low = now if now is not None else _BELOW
        return [self._row(key) if key >= low else _gone(key) for key in sorted(shown, reverse=True)]

    def _row(self, key: int) -> Row:
        total = self.totals.get(key)
        return _gone(key) if total is None else (str(abs(key)), str(total[0]), total[1])


_BELOW: Final = -(2**63)


def _gone(key: int) -> Row:
    return str(abs(key)), "0", 0


class Books:
    """All books. `seq`: the entry that is due next; `dirty`: instruments with changes since `take`."""

    def __init__(self, state: State, seq: int, depth: int) -> None:
        self.seq = seq
        self.dirty: set[int] = set()
        self._depth = depth
        self._sides: dict[int, tuple[SideLevels, SideLevels]] = {}
        self._places: dict[int, _Place] = {}
        for order in state.orders.values():
            self._rest(order)
        for instrument in self._sides:
            self.take(instrument)
        self.dirty.clear()

    def fold(self, state: State, done: Sequence[Applied]) -> None:
        """Take entries; `state` is after the last of them."""
        touched: set[int] = set()
        for applied in done:
            for outcome in applied.outcomes:
                kind = type(outcome)
                if kind is o.OrderPlaced or kind is o.OrderCancelled or kind is o.OrderReplaced:
                    touched.add(outcome.order_id)  # type: ignore[union-attr]
                elif kind is o.TradeNovated:
                    touched.add(outcome.maker_order_id)  # type: ignore[union-attr]
                    touched.add(outcome.taker_order_id)  # type: ignore[union-attr]
        self.seq = done[-1].seq + 1
        orders, places = state.orders, self._places
        for number in touched:
            order = orders.get(number)
            place = places.get(number)
            if order is not None and place is not None and _stands(order, place):
                continue
            if place is not None:
                self._leave(number, place)
            if order is not None:
                self._rest(order)

    def snapshot(self, instrument: int) -> BookData:
        """The best levels of both sides."""
        sides = self._sides.get(instrument)
        return BookData([], []) if sides is None else BookData(sides[ids.BUY].rows(), sides[ids.SELL].rows())

    def take(self, instrument: int) -> BookData:
        """What changed since this was last called for the instrument; each change is told once."""
        self.dirty.discard(instrument)
        sides = self._sides.get(instrument)
        return BookData([], []) if sides is None else BookData(sides[ids.BUY].take(), sides[ids.SELL].take())

    def forget(self, instrument: int) -> None:
        """Nobody is told of what changed in an instrument; call `take` before somebody is."""
        self.dirty.discard(instrument)
        for side in self._sides.get(instrument, ()):
            side.changed.clear()

    def _rest(self, order: Order) -> None:
        instrument = order.slot.inst.id
        key = -order.price if order.side else order.price
        self._places[order.order_id] = instrument, order.side, key, order.open_lots
        sides = self._sides.get(instrument)
        if sides is None:
            sides = self._sides[instrument] = (SideLevels(self._depth), SideLevels(self._depth))
        sides[order.side].add(key, order.open_lots, 1)
        self.dirty.add(instrument)

    def _leave(self, number: int, place: _Place) -> None:
        instrument, side, key, lots = place
        del self._places[number]
        self._sides[instrument][side].add(key, -lots, -1)
        self.dirty.add(instrument)


def _stands(order: Order, place: _Place) -> bool:
    return order.open_lots == place[3] and (-order.price if order.side else order.price) == place[2]
