# SPDX-License-Identifier: GPL-3.0-or-later
"""A toy exchange that matches by its own naive rules and writes a LOBSTER message file about it.

Deliberately unlike the book under test: a plain list, scanned from the front for the best order. It knows
every fill it made, so a replay can be held against it.
"""

import random
from dataclasses import dataclass

BUY, SELL = 1, -1
_MID = 1_000_000  # dollars x 10,000


@dataclass
class Order:
    order_id: int
    side: int
    price: int
    size: int


class Exchange:
    """`lines`: the message file since `record` was set; `fills`: (order id, price, size) per aggressor."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.orders: list[Order] = []
        self.lines: list[str] = []
        self.fills: list[list[tuple[int, int, int]]] = []
        self.kinds: set[int] = set()
        self.record = False
        self._next_id = 1
        self._time = 34_200_000_000

    def say(self, kind: int, order_id: int, size: int, price: int, side: int) -> None:
        """One line of the file."""
        if self.record:
            self.kinds.add(kind)
            whole, micros = divmod(self._time, 1_000_000)
            self.lines.append(f"{whole}.{micros:06d}000,{kind},{order_id},{size},{price},{side}")

    def best(self, side: int) -> Order | None:
        """The order that an aggressor against `side` meets next: best price, then oldest."""
        resting = [order for order in self.orders if order.side == side]
        return min(resting, key=lambda order: (-side * order.price, self.orders.index(order)), default=None)

    def step(self) -> None:
        """One random event, at a later time."""
        self._time += self.rng.randrange(1, 40_000_000)
        draw = self.rng.random()
        if draw < 0.5 or len(self.orders) < 8:
            self._limit()
        elif draw < 0.62:
            self._cancel()
        elif draw < 0.7:
            self._reduce()
        elif draw < 0.94:
            self._aggress()
        elif draw < 0.97:
            self.say(5, 0, self.rng.randrange(1, 50), _MID, self.rng.choice((BUY, SELL)))
        elif draw < 0.985:
            self.say(6, -1, 10, _MID, -1)
        else:
            self.say(7, 0, 0, self.rng.choice((-1, 0, 1)), -1)

    def _limit(self) -> None:
        side = self.rng.choice((BUY, SELL))
        price = _MID - side * 100 * self.rng.randrange(0, 6)
        facing = self.best(-side)
        if facing is not None and side * (price - facing.price) >= 0:
            price = facing.price - side * 100
        order = Order(self._next_id, side, price, self.rng.randrange(1, 40))
        self._next_id += 1
        self.orders.append(order)
        self.say(1, order.order_id, order.size, order.price, side)

    def _cancel(self) -> None:
        order = self.rng.choice(self.orders)
        self.orders.remove(order)
        self.say(3, order.order_id, order.size, order.price, order.side)

    def _reduce(self) -> None:
        order = self.rng.choice(self.orders)
        if order.size > 1:
            lots = self.rng.randrange(1, order.size)
            order.size -= lots
            self.say(2, order.order_id, lots, order.price, order.side)

    def _aggress(self) -> None:
        side = self.rng.choice((BUY, SELL))
        left = self.rng.randrange(1, 90)
        fills = []
        while left and (maker := self.best(-side)) is not None:
            lots = min(left, maker.size)
            maker.size -= lots
            left -= lots
            if not maker.size:
                self.orders.remove(maker)
            fills.append((maker.order_id, maker.price, lots))
            self.say(4, maker.order_id, lots, maker.price, maker.side)
        if self.record and fills:
            self.fills.append(fills)


def message_file(rng: random.Random, before: int = 60, steps: int = 300) -> Exchange:
    """An exchange after `before` unrecorded and `steps` recorded events."""
    exchange = Exchange(rng)
    for _ in range(before):
        exchange.step()
    exchange.record = True
    for _ in range(steps):
        exchange.step()
    return exchange
