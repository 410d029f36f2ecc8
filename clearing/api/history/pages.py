# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of tapes: from memory, and below its floor from the journal.

Rules:
- Every item is on one page, in either direction, also while more arrive and memory forgets.
- The journal is read on threads of our own, so much per page (clearing.api.history.journal): a page may then hold fewer
  items than asked for, or none, and still have a `next`. What does not fit into their queue is refused: whoever pages
  through old times holds up neither the replica nor those who read what is new.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from clearing.api.history.cursor import Cursor, Page, Place, text
from clearing.api.history.journal import Budget, Found, Pick, Reader, is_kind
from clearing.api.history.rings import Own, above, below, place_of
from clearing.api.history.tapes import UNREAD, Tapes
from clearing.api.messages.member import Fill
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook

T = TypeVar("T")
_THREADS: Final = 2
_MAX_QUEUED: Final = 64
# For a single binary search; blocks without any order lie in its way at worst.
_UNBOUND: Final = 1 << 40


class Pages:
    """`tapes`: those of now; `entries`: what is looked into on disk for one page."""

    def __init__(self, reader: Reader, tapes: Callable[[], Tapes], entries: int) -> None:
        self._reader = reader
        self._tapes = tapes
        self._entries = entries
        self._pool = ThreadPoolExecutor(_THREADS, "history")
        self._queued = 0

    def close(self) -> None:
        """Let no more begin."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def aside(self, work: Callable[[], T]) -> T:
        """On a thread. Raises `NovateError` OVERLOADED, and what `work` raises."""
        if self._queued >= _MAX_QUEUED:
            raise NovateError("OVERLOADED", "too many pages of old times are being read from disk; retry in a second")
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._queued -= 1

    async def fills(self, account: int, cursor: Cursor) -> Page[Fill]:
        """A page of an account's fills. Raises `JournalError`."""
        page: Page[Fill] = await self.page(lambda tapes: tapes.fills, account, cursor)
        if all(fill.client_order_id != UNREAD for fill in page.items):
            return page
        return Page(await self.aside(partial(self._identified, page.items)), page.next)

    def _identified(self, fills: list[Fill]) -> list[Fill]:
        """With the client order ids of makers that were placed before what was read."""
        found = []
        for fill in fills:
            client = fill.client_order_id
            if client == UNREAD:
                located = self._reader.locate(fill.order_id, Budget(_UNBOUND))
                client = str(located[1].client_order_id) if located is not None else "0"
            found.append(msgspec.structs.replace(fill, client_order_id=client))
        return found

    async def page(self, pick: Pick, key: int, cursor: Cursor, kind: str = "") -> Page[Any]:
        """A page: `kind` chooses events by their type."""
        if cursor.after is not None:
            return await self._above(pick, key, cursor, cursor.after, kind)
        ring = pick(self._tapes())
        floor = ring.floor(key)
        items, more = below(_of_kind(ring.items(key), kind), cursor.before, cursor.limit)
        if floor is None or more:
            return Page(items, text(place_of(items[-1])) if more else None)
        if len(items) >= cursor.limit:
            return Page(items, text(place_of(items[-1])))
        top = (floor[0], floor[1] + 1)
        top = top if cursor.before is None else min(top, cursor.before)
        limit = cursor.limit - len(items)
        below_floor = partial(self._reader.below, top, limit, key, pick, self._tapes(), self._budget(), kind)
        found = await self.aside(below_floor)
        return Page(items + found.items, None if found.rest is None else text(found.rest))

    async def _above(self, pick: Pick, key: int, cursor: Cursor, after: Place, kind: str) -> Page[Any]:
        floor = pick(self._tapes()).floor(key)
        items: list[Any] = []
        if floor is not None and after < floor:
            to_floor = partial(
                self._reader.above, after, floor, cursor.limit, key, pick, self._tapes(), self._budget(), kind
            )
            found: Found = await self.aside(to_floor)
            if found.rest is not None:
                return Page(found.items, text(found.rest))
            items, after = found.items, floor
            if pick(self._tapes()).floor(key) != floor:  # meanwhile memory forgot some of what comes next
                return Page(items, text(floor))
        limit = cursor.limit - len(items)
        tape = _of_kind(pick(self._tapes()).items(key), kind)
        rest, more = above(tape, after, limit) if limit > 0 else ([], bool(tape))
        items += rest
        return Page(items, text(place_of(items[-1])) if more else None)

    def _budget(self) -> Budget:
        return Budget(entries=self._entries)


def from_memory(ring: Own[Any], key: int, cursor: Cursor) -> Page[Any]:
    """A page of a tape that is in memory only."""
    tape = ring.items(key)
    if cursor.after is not None:
        items, more = above(tape, cursor.after, cursor.limit)
    else:
        items, more = below(tape, cursor.before, cursor.limit)
    return Page(items, text(place_of(items[-1])) if more else None)


def epoch_on_disk(book: EpochBook, seq: int, last: int) -> int | None:
    """The first of the epochs 1 to `last` that closed after an entry, by the records. Raises `NovateError`."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        if book.load(middle).snapshot_seq > seq:
            high = middle
        else:
            low = middle + 1
    return low if low <= last else None


def _of_kind(tape: deque[Any], kind: str) -> deque[Any]:
    return deque(item for item in tape if is_kind(item, kind)) if kind else tape
