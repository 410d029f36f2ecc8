# SPDX-License-Identifier: GPL-3.0-or-later
"""What memory no longer has, from the journal on disk.

Rules:
- Every question has a `Budget` of blocks to read and entries to look into: it answers what it found within that, and
  where to go on. One block is always looked into, so that every page leads on.
- A block is read with the code that made the tapes (`Tapes.fold` into tapes that are thrown away), so what comes from
  disk is what memory had.
- Order ids are given out in the order of entries, so the journal itself is the index of where an order was placed:
  a binary search over blocks. An order that a trigger becomes keeps the trigger's id, and says nothing of order.
- All of it runs on threads, beside the event loop.
"""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Final, NamedTuple

import msgspec

from clearing.api.history.cursor import LAST, Place
from clearing.api.history.rings import Ring, place_of
from clearing.api.history.tapes import Limits, Slice, Tapes
from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import Entry, decode_any_envelope
from journal import Store
from journal.block import Block

BLOCKS_PER_PAGE: Final = 512
ENTRIES_PER_PAGE: Final = 20_000
_CACHED_BLOCKS: Final = 32
_CACHED_SUMMARIES: Final = 200_000
_ALL: Final = 1 << 62
# Of candles nothing is asked here.
_UNBOUND: Final = Limits(trades=_ALL, funding=_ALL, candles=2, fills=_ALL, events=_ALL, orders=_ALL)

# The journal is the operator's own, and checked by hash: canonical form was checked when it was written.
_decode = msgspec.msgpack.Decoder(Entry).decode
Placing = o.OrderPlaced | o.TriggerPlaced
Pick = Callable[[Tapes], Ring[Any]]


class Budget:
    """Blocks that a request may still read, and entries that it may still look into."""

    def __init__(self, blocks: int = BLOCKS_PER_PAGE, entries: int = ENTRIES_PER_PAGE) -> None:
        self.blocks = blocks
        self.entries = entries

    def read(self) -> None:
        """Before a block is read. Raises `Spent`."""
        if self.blocks <= 0:
            raise Spent
        self.blocks -= 1

    def look(self, entries: int) -> None:
        """Before so many entries are looked into; the last ones may be more than are left. Raises `Spent`."""
        if self.entries <= 0:
            raise Spent
        self.entries -= entries


class Spent(Exception):
    """The budget is used up."""


class Found(NamedTuple):
    """Items in the order asked for. `rest`: the place to go on from (None: the end was reached)."""

    items: list[Any]
    rest: Place | None


class _Summary(NamedTuple):
    """A block's span, and the smallest and largest order id that it gave out (0: none)."""

    first_seq: int
    next_seq: int
    least: int
    most: int


def entries_of(block: Block) -> Iterator[Entry]:
    """A block's entries, decoded."""
    return map(_decode, block.entries)


def is_kind(item: Any, kind: str) -> bool:
    """Whether an event is of a type; "" is any."""
    return not kind or item.__struct_config__.tag == kind


def _placings(entry: Entry) -> list[Placing]:
    """What gave out order ids: not the orders that fired triggers became."""
    found = [outcome for outcome in entry.outcomes if isinstance(outcome, o.OrderPlaced | o.TriggerPlaced)]
    if found and isinstance(found[0], o.OrderPlaced):
        body = decode_any_envelope(entry.envelope)[1]
        if isinstance(body, c.OperatorBatch) and isinstance(body.commands[0], c.RunTriggers):
            return []
    return found


class Reader:
    """Reads a journal; may be asked from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._summaries: dict[int, _Summary] = {}
        self._firsts: list[int] = []  # their keys, sorted

    def head(self) -> int:
        """The entries that the journal holds."""
        return self._store.head().next_seq

    def read(self, from_seq: int) -> Iterator[Block]:
        """Blocks from the one that holds `from_seq` on. Raises `JournalError`."""
        return self._store.read(from_seq)

    def block(self, seq: int, budget: Budget) -> Block:
        """The block that holds `seq`. Raises `Spent`, `JournalError`."""
        with self._lock:
            for first, block in self._blocks.items():
                if first <= seq < block.next_seq:
                    self._blocks.move_to_end(first)
                    return block
        budget.read()
        block = next(self._store.read(seq))
        with self._lock:
            self._blocks[block.first_seq] = block
            if len(self._blocks) > _CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        return block

    def entry(self, seq: int) -> bytes | None:
        """An entry's bytes; None if the journal has none there. Raises `JournalError` JOURNAL_CORRUPT."""
        return self._store.entry(seq) if 0 <= seq < self.head() else None

    # --- where an order was placed ---

    def locate(self, order_id: int, budget: Budget) -> tuple[int, Placing] | None:
        """(entry, placing) of an order or trigger. Raises `Spent`, `JournalError`."""
        low, high = 0, self.head()
        while low < high:
            first = at = self._summary((low + high) // 2, budget)
            while not at.most and at.next_seq < high:
                at = self._summary(at.next_seq, budget)
            if not at.most or order_id < at.least:
                high = first.first_seq
            elif order_id > at.most:
                low = at.next_seq
            else:
                return self._placing(at.first_seq, order_id, budget)
        return None

    def _placing(self, first_seq: int, order_id: int, budget: Budget) -> tuple[int, Placing] | None:
        for entry in entries_of(self.block(first_seq, budget)):
            for placing in _placings(entry):
                if placing.order_id == order_id:
                    return entry.seq, placing
        return None

    def _summary(self, seq: int, budget: Budget) -> _Summary:
        with self._lock:
            at = bisect_right(self._firsts, seq) - 1
            known = self._summaries[self._firsts[at]] if at >= 0 else None
        if known is not None and seq < known.next_seq:
            return known
        block = self.block(seq, budget)
        given = [placing.order_id for entry in entries_of(block) for placing in _placings(entry)]
        known = _Summary(block.first_seq, block.next_seq, min(given, default=0), max(given, default=0))
        with self._lock:
            if len(self._firsts) >= _CACHED_SUMMARIES:
                self._summaries, self._firsts = {}, []
            if block.first_seq not in self._summaries:
                insort(self._firsts, block.first_seq)
            self._summaries[block.first_seq] = known
        return known

    # --- pages ---

    def below(
        self, before: Place, limit: int, key: int, pick: Pick, like: Tapes, budget: Budget, kind: str = ""
    ) -> Found:
        """Up to `limit` items of a tape at places below `before`, newest first. `kind`: of events, the type."""
        items: list[Any] = []
        end = before[0] + 1 if before[1] >= 0 else before[0]
        end = min(end, self.head())
        try:
            while end > 0:
                block = self.block(end - 1, budget)
                for item in reversed(self._fold(block, end, key, pick, like, budget)):
                    if place_of(item) >= before or not is_kind(item, kind):
                        continue
                    if len(items) >= limit and place_of(item) != place_of(items[-1]):
                        return Found(items, place_of(items[-1]))
                    items.append(item)
                end = block.first_seq
        except Spent:
            return Found(items, (end, -1))
        return Found(items, None)

    def above(
        self, after: Place, until: Place, limit: int, key: int, pick: Pick, like: Tapes, budget: Budget, kind: str = ""
    ) -> Found:
        """Up to `limit` items above `after` and not above `until`, oldest first."""
        items: list[Any] = []
        seq = max(0, after[0] if after[1] < LAST else after[0] + 1)
        last = min(until[0] + 1, self.head())
        try:
            while seq < last:
                block = self.block(seq, budget)
                for item in self._fold(block, block.next_seq, key, pick, like, budget):
                    if not after < place_of(item) <= until or not is_kind(item, kind):
                        continue
                    if len(items) >= limit and place_of(item) != place_of(items[-1]):
                        return Found(items, place_of(items[-1]))
                    items.append(item)
                seq = block.next_seq
        except Spent:
            return Found(items, (seq - 1, LAST))
        return Found(items, None)

    def _fold(self, block: Block, end: int, key: int, pick: Pick, like: Tapes, budget: Budget) -> list[Any]:
        """The items of one tape that a block's entries below `end` made, oldest first. Raises `Spent`."""
        budget.look(block.count)

        def resolve(order_id: int) -> Placing | None:
            found = self.locate(order_id, Budget(_ALL))
            return found[1] if found is not None else None

        tapes = Tapes(block.first_seq, _UNBOUND, (), like.symbols, like.owners, resolve)
        into = Slice()
        for entry in entries_of(block):
            if entry.seq >= end:
                break
            tapes.fold(entry.seq, entry.time_us, entry.outcomes, entry.envelope, into)
        return list(pick(tapes).items(key))
