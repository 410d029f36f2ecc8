# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded market's own book, as far as the feed tells it: which orders are open, with how much,
and whether a new one would cross them. No queues and no matching: who trades is for the reducer.
"""

from bisect import bisect_left, insort

from clearing.model import ids


class Resting:
    """An open order of the source. `held`: it was not submitted yet (see plan)."""

    __slots__ = ("held", "order_id", "price", "side", "size")

    def __init__(self, order_id: int, side: int, price: int, size: int) -> None:
        self.order_id = order_id
        self.side = side
        self.price = price
        self.size = size
        self.held = False


class _Prices:
    """Prices of one side that have submitted orders; `keys` ascend by sign-folded price, best last."""

    __slots__ = ("counts", "keys")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.keys: list[int] = []

    def add(self, key: int) -> None:
        count = self.counts.get(key, 0)
        self.counts[key] = count + 1
        if not count:
            insort(self.keys, key)

    def remove(self, key: int) -> None:
        count = self.counts[key] - 1
        if count:
            self.counts[key] = count
            return
        del self.counts[key]
        del self.keys[bisect_left(self.keys, key)]


def _key(side: int, price: int) -> int:
    return price if side == ids.BUY else -price


class SourceBook:
    """`orders` by source id; `held` are those not submitted, oldest first."""

    def __init__(self) -> None:
        self.orders: dict[int, Resting] = {}
        self.held: dict[int, Resting] = {}
        self._sides = (_Prices(), _Prices())

    def best(self, side: int) -> int:
        """Best submitted price of a side, atoms per lot; 0 when it is empty."""
        keys = self._sides[side].keys
        return abs(keys[-1]) if keys else 0

    def must_wait(self, side: int, price: int) -> bool:
        """Would an order trade at once with a submitted one, or overtake a held one of its price?"""
        opposite = self._sides[1 - side].keys
        if opposite and opposite[-1] >= -_key(side, price):
            return True
        return any(order.side == side and order.price == price for order in self.held.values())

    def crosses(self, order: Resting) -> bool:
        """Would this held order trade at once with a submitted one?"""
        opposite = self._sides[1 - order.side].keys
        return bool(opposite) and opposite[-1] >= -_key(order.side, order.price)

    def insert(self, order: Resting, held: bool) -> None:
        """Take a new order in, as submitted or as held."""
        self.orders[order.order_id] = order
        order.held = held
        if held:
            self.held[order.order_id] = order
        else:
            self._sides[order.side].add(_key(order.side, order.price))

    def remove(self, order: Resting) -> None:
        """Take an order out."""
        del self.orders[order.order_id]
        if order.held:
            del self.held[order.order_id]
        else:
            self._sides[order.side].remove(_key(order.side, order.price))

    def reduce(self, order: Resting, lots: int) -> None:
        """Take `lots` off an order, and the order out when nothing is left."""
        order.size -= lots
        if order.size <= 0:
            self.remove(order)

    def clear(self) -> None:
        """Forget everything."""
        self.orders.clear()
        self.held.clear()
        self._sides = (_Prices(), _Prices())
