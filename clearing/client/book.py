# SPDX-License-Identifier: GPL-3.0-or-later
"""A market's order book, kept from a snapshot and the deltas after it: the best 1,000 levels of each side.

Rules: the book is changed by whole frames, so that between two awaits it is the book after entry `seq`. While `stale`
it is an old one; it is whole again after the next snapshot, without anything to be done.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

from clearing.client import frames as f
from clearing.client.feeds import Feed, Host
from clearing.client.frames import Frame


class Level(NamedTuple):
    """`orders`: how many rest there."""

    price_atoms: int
    size_lots: int
    orders: int


class Book(Feed["Book"]):
    """Iterate to be woken by changes: each time it is this object, after at least one more frame."""

    def __init__(self, host: Host, instrument: int) -> None:
        super().__init__(host, "book", instrument)
        self._bids: dict[int, Level] = {}
        self._asks: dict[int, Level] = {}
        self._sorted: tuple[list[Level], list[Level]] | None = None

    @property
    def bids(self) -> list[Level]:
        """Best first."""
        return self._sides()[0]

    @property
    def asks(self) -> list[Level]:
        """Best first."""
        return self._sides()[1]

    @property
    def best_bid(self) -> Level | None:
        return self.bids[0] if self._bids else None

    @property
    def best_ask(self) -> Level | None:
        return self.asks[0] if self._asks else None

    def _sides(self) -> tuple[list[Level], list[Level]]:
        if self._sorted is None:
            self._sorted = sorted(self._bids.values(), reverse=True), sorted(self._asks.values())
        return self._sorted

    def _snapshot(self, frame: Frame) -> None:
        self._bids, self._asks = {}, {}
        self._delta(frame)

    def _delta(self, frame: Frame) -> None:
        data = f.decode_book(frame.data)
        self._sorted = None
        for levels, rows in ((self._bids, data.bids), (self._asks, data.asks)):
            for row in rows:
                if row[1]:
                    levels[row[0]] = Level(*row)
                else:
                    levels.pop(row[0], None)

    async def _items(self) -> AsyncIterator["Book"]:
        while await self._another():
            yield self
