# SPDX-License-Identifier: GPL-3.0-or-later
"""One instrument's order book: price-time priority.

Per side a dict of levels and one sorted list of *keys*, sign-folded (bids: price, asks: -price) so
that the best is always last and both sides share one code path. A level is an intrusive doubly
linked FIFO. Unlinking clears prev and next, so that nothing leaks with the cyclic collector off.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from clearing.model.ids import BUY

if TYPE_CHECKING:
    from clearing.core.state import Account, Slot


class Order:
    """An open order. `rank` is the time priority: it grows, and is renewed when priority is lost.

    `fee_acc` sums notional x rate (ppm atoms), `fee_paid` is what was charged of it: fees round up
    once per order and not once per fill, so that splitting fills neither costs nor profits. `oco`: client
    order id of the trigger that goes when this order goes, and the other way round; 0 for none.
    """

    __slots__ = (
        "account", "client_order_id", "expiry_us", "fee_acc", "fee_paid", "level", "next", "oco",
        "open_lots", "order_id", "post_only", "prev", "price", "rank", "reduce_only", "side", "slot", "stp",
    )  # fmt: skip

    def __init__(
        self,
        order_id: int,
        account: Account,
        slot: Slot,
        side: int,
        price: int,
        lots: int,
        client_order_id: int = 0,
        stp: int = 0,
    ) -> None:
        self.order_id = order_id
        self.account = account
        self.slot = slot
        self.side = side
        self.price = price
        self.open_lots = lots
        self.client_order_id = client_order_id
        self.post_only = self.reduce_only = False
        self.stp = stp
        self.expiry_us = self.rank = self.fee_acc = self.fee_paid = self.oco = 0
        self.level: Level | None = None
        self.prev: Order | None = None
        self.next: Order | None = None


class Level:
    """Orders at one price, oldest first; never empty."""

    __slots__ = ("head", "key", "tail")

    def __init__(self, key: int, order: Order) -> None:
        self.key = key
        self.head: Order | None = order
        self.tail = order


class Side:
    """Levels of one side; `keys` ascend, so the best is `keys[-1]`."""

    __slots__ = ("keys", "levels")

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}

    def add(self, order: Order) -> None:
        """Queue behind all orders of the same price."""
        key = -order.price if order.side else order.price
        level = self.levels.get(key)
        if level is None:
            self.levels[key] = order.level = level = Level(key, order)
            insort(self.keys, key)
            return
        tail = level.tail
        tail.next = order
        order.prev = tail
        level.tail = order
        order.level = level

    def remove(self, order: Order) -> None:
        """Unlink; drops the level when it was the last."""
        level = order.level
        assert level is not None, "an order is removed once"
        before, after = order.prev, order.next
        order.level = None
        if before is not None:
            order.prev = None
            before.next = after
            if after is None:
                level.tail = before
            else:
                order.next = None
                after.prev = before
        elif after is not None:
            order.next = after.prev = None
            level.head = after
        else:
            key, keys = level.key, self.keys
            del self.levels[key]
            if keys[-1] == key:
                keys.pop()
            else:
                del keys[bisect_left(keys, key)]

    def orders(self) -> list[Order]:
        """All orders, best first and in time priority."""
        found: list[Order] = []
        for key in reversed(self.keys):
            order = self.levels[key].head
            while order is not None:
                found.append(order)
                order = order.next
        return found


class Book:
    """Both sides; `sides[BUY]` are bids."""

    __slots__ = ("sides",)

    def __init__(self) -> None:
        self.sides = (Side(), Side())

    def best(self, side: int) -> int:
        """Best price of a side in atoms per lot, or 0 when it is empty."""
        keys = self.sides[side].keys
        if not keys:
            return 0
        return keys[-1] if side == BUY else -keys[-1]
