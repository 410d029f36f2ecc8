# SPDX-License-Identifier: GPL-3.0-or-later
"""History: the tapes of markets and accounts, fed by the replica and begun from the journal.

Rules:
- Construct it on the event loop; it begins by itself. It takes a seq at which the state is whole, reads the journal up
  to there on a thread (the newest `reach` entries), and is told everything from there on by the replica: each entry
  counts exactly once. `ready` waits for that; until then nothing is told and nothing can be read.
- Candles, the day and the last trade go on from what was saved (clearing.api.history.saved), as long as that is not
  older than ten times what is read; without it they begin where the reading begins.
- Once ready, on the loop, outside of listeners: `seq` is the replica's. Reads without `await` see one moment together
  with the replica's state.
- Listeners (`on_events`) are called after the tapes took a slice of entries, with the state standing after its last:
  a snapshot taken at `seq` - 1 and the slices after it join without gap or double.
- It never raises into the replica. A fault of ours is reported, and the tapes are made again from the journal.
- What memory no longer holds is read from the journal (clearing.api.history.pages).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from clearing.api.context import Context
from clearing.api.history import saved
from clearing.api.history.cursor import Cursor, Page
from clearing.api.history.journal import ENTRIES_PER_PAGE, Budget, Reader, entries_of
from clearing.api.history.orders import Seed, seeds_of
from clearing.api.history.pages import Pages, epoch_on_disk, from_memory
from clearing.api.history.rings import Own, below
from clearing.api.history.tapes import Limits, Slice, Tapes
from clearing.api.history.tickers import ticker
from clearing.api.messages.market import Candle, Funding, Mark, Ticker, Trade
from clearing.api.messages.member import Fill, OrderStatus
from clearing.api.replica import Applied
from clearing.core.state import State
from clearing.model.errors import NovateError
from clearing.model.outcomes import WithdrawalAcked
from journal import JournalError

OnEvents = Callable[[Slice], None]

# Entries that are read from the journal when the process starts: with candles on disk, and without.
REACH: Final = 250_000
REACH_WITHOUT: Final = 1_000_000
STARTING: Final = "HISTORY_STARTING"
_MAX_WAITING: Final = 100_000
_SLICE: Final = 200
_AGAIN_S: Final = 1.0
_SAVE_S: Final = 60.0
_SAVED_REACHES: Final = 10


class _Marked(msgspec.Struct, frozen=True, gc=False):
    """A mark with a place, as tapes want it; one per entry."""

    seq: int
    mark: Mark
    index: int = 0


class _Behind(Exception):
    """More came than may wait: what waits is dropped, and read from the journal instead."""


class History:
    """See the module's rules. `reach`: entries to read at the start; `limits`: what memory keeps; `page_entries`: what
    is looked into on disk for one page."""

    def __init__(
        self, context: Context, *, reach: int | None = None, limits: Limits | None = None,
        page_entries: int = ENTRIES_PER_PAGE,
    ) -> None:  # fmt: skip
        self._context = context
        self._replica = context.replica
        self._reach = reach
        self._limits = limits or Limits()
        self._saved = saved.path_of(context.data_dir)
        self._reader = Reader(context.store)
        self._tapes = Tapes(0, self._limits)
        self._pages = Pages(self._reader, lambda: self._tapes, page_entries)
        self._marks: Own[_Marked] = Own(self._limits.marks, None)
        self._listeners: list[OnEvents] = []
        # What the replica told before the tapes were there; None once they are.
        self._waiting: deque[Applied] | None = deque()
        self._full = False
        self._ready = asyncio.Event()
        self._leave: Callable[[], None] | None = None
        self._task = asyncio.create_task(self._begin(), name="history")
        context.on_close(self.close)

    # --- life ---

    @property
    def is_ready(self) -> bool:
        """Whether it can be read."""
        return self._ready.is_set()

    @property
    def seq(self) -> int:
        """Entries that the tapes have taken: once ready, the replica's `seq`."""
        return self._tapes.seq

    @property
    def from_seq(self) -> int:
        """The first entry that was read: older pages come from the journal, older orders are unknown."""
        return self._tapes.from_seq

    async def ready(self, timeout_s: float = 2.0) -> None:
        """Return once it can be read. Raises `NovateError` HISTORY_STARTING (503)."""
        if self._ready.is_set():
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            message = "the interface is reading the journal and will have its tapes soon; retry in a few seconds"
            raise NovateError(STARTING, message) from None

    def on_events(self, callback: OnEvents) -> Callable[[], None]:
        """Call `callback` on the loop once per slice of entries, after the tapes took it. It must be quick; what it
        raises is reported. Returns what ends it. Await `ready` first: earlier slices are not told."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    async def close(self) -> None:
        """Stop listening, and save the candles. Idempotent."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._leave is not None and self._ready.is_set():
            await self._save()
        self._pages.close()
        if self._leave is not None:
            self._leave()
            self._leave = None

    # --- markets (synchronous: what memory has) ---

    def latest_trades(self, instrument: int, limit: int = 50) -> list[Trade]:
        """The newest trades in memory, oldest first."""
        return below(self._tapes.trades.items(instrument), None, limit)[0][::-1]

    def has_traded(self, instrument: int) -> bool:
        """Whether there are trades in memory; also of an instrument that is no longer listed."""
        return instrument in self._tapes.candles

    def ticker(self, instrument: int) -> Ticker | None:
        """The market at a glance, as of the replica's state; None for an instrument that is not listed."""
        state = self._replica.state
        inst = state.instruments.get(instrument)
        return None if inst is None else ticker(self._tapes, self._replica.seq - 1, state, inst)

    def tickers(self) -> list[Ticker]:
        """All listed markets, in the order of listing."""
        state, seq = self._replica.state, self._replica.seq - 1
        return [ticker(self._tapes, seq, state, inst) for inst in state.instruments.values()]

    def candles(self, instrument: int, interval_s: int) -> list[Candle]:
        """Oldest first, at most the newest 1,000; the last may still change. `interval_s`: 60, 300, 3600, 86400."""
        book = self._tapes.candles.get(instrument)
        return book.candles(interval_s) if book is not None else []

    def mark(self, instrument: int) -> Mark | None:
        """The newest mark and index, as of the replica's state; None without any."""
        state = self._replica.state
        inst = state.instruments.get(instrument)
        if inst is None or not inst.mark:
            return None
        return Mark(self._replica.seq - 1, inst.index_time, str(inst.mark), str(inst.index))

    def marks(self, instrument: int, cursor: Cursor) -> Page[Mark]:
        """A page of the marks that were seen since this process started."""
        page = from_memory(self._marks, instrument, cursor)
        return Page([item.mark for item in page.items], page.next)

    def latest_funding(self, instrument: int, limit: int = 50) -> list[Funding]:
        """The newest settlements of funding in memory, oldest first."""
        return below(self._tapes.funding.items(instrument), None, limit)[0][::-1]

    # --- accounts (synchronous: what memory has) ---

    def order(self, account: int, client_order_id: int) -> OrderStatus:
        """What became of the newest order with this client order id, as far as this process's records go."""
        known = self._tapes.orders.by_client(account, client_order_id)
        return known.message() if known is not None else OrderStatus("unknown", str(client_order_id))

    def latest_fills(self, account: int, limit: int = 50) -> list[Fill]:
        """The newest fills in memory, oldest first."""
        return below(self._tapes.fills.items(account), None, limit)[0][::-1]

    def latest_events(self, account: int, limit: int = 50) -> list[Any]:
        """What happened to the account beside orders and fills, the newest in memory, oldest first."""
        return below(self._tapes.events.items(account), None, limit)[0][::-1]

    # --- pages, from memory and then from the journal ---

    async def trades(self, instrument: int, cursor: Cursor) -> Page[Trade]:
        """A page of the public tape. Raises `JournalError`, `NovateError` OVERLOADED."""
        return await self._pages.page(lambda tapes: tapes.trades, instrument, cursor)

    async def funding(self, instrument: int, cursor: Cursor) -> Page[Funding]:
        """A page of an instrument's settlements of funding. Raises `JournalError`, `NovateError` OVERLOADED."""
        return await self._pages.page(lambda tapes: tapes.funding, instrument, cursor)

    async def fills(self, account: int, cursor: Cursor) -> Page[Fill]:
        """A page of an account's fills. Raises `JournalError`, `NovateError` OVERLOADED."""
        return await self._pages.fills(account, cursor)

    async def events(self, account: int, cursor: Cursor) -> Page[Any]:
        """A page of what happened to an account beside orders and fills. Raises as `fills` does."""
        return await self._pages.page(lambda tapes: tapes.events, account, cursor)

    async def withdrawals(self, account: int, cursor: Cursor) -> Page[Any]:
        """A page of an account's acknowledged withdrawals: events of that type. Raises as `fills` does."""
        return await self._pages.page(lambda tapes: tapes.events, account, cursor, WithdrawalAcked.__name__)

    async def epoch_after(self, seq: int) -> int | None:
        """The first epoch that closed after an entry; None when none has yet. Raises `NovateError`."""
        known = self._tapes.epochs
        if known and (seq >= known[0][0] or known[0][1] == 1):
            return next((epoch for end, epoch in known if end > seq), None)
        last = known[0][1] if known else self._replica.state.epoch
        return await self._pages.aside(partial(epoch_on_disk, self._context.book, seq, last))

    # --- taking entries ---

    def _hear(self, done: list[Applied]) -> None:
        """What the replica tells. Never raises."""
        waiting = self._waiting
        if waiting is not None:
            if len(waiting) + len(done) > _MAX_WAITING:
                self._full = True
                waiting.clear()
            if not self._full:
                waiting.extend(done)
            return
        try:
            self._take(done)
        except Exception as error:  # noqa: BLE001 - our fault must not end the replica
            self._context.report("history", error)
            self._restart()

    def _take(self, done: list[Applied]) -> None:
        into = Slice(done[0].seq)
        fold = self._tapes.fold
        for seq, time_us, _, command, outcomes in done:
            fold(seq, time_us, outcomes, command, into)
        if into.priced:
            self._note_marks(self._replica.state, into)
        if not self._listeners:
            return
        into.finish()
        for listener in tuple(self._listeners):
            try:
                listener(into)
            except Exception as error:  # noqa: BLE001 - one listener's fault is not the others'
                self._context.report("history listener", error)

    def _note_marks(self, state: State, into: Slice) -> None:
        for number, (seq, time_us) in into.priced.items():
            for inst in state.underlyings[number].instruments:
                if inst.mark:
                    mark = Mark(seq, time_us, str(inst.mark), str(inst.index))
                    into.marks[inst.id] = mark
                    into.instruments.add(inst.id)
                    self._marks.add(inst.id, _Marked(seq, mark))

    # --- the beginning ---

    def _restart(self) -> None:
        self._ready.clear()
        self._waiting, self._full = deque(), False
        self._task.cancel()
        if self._leave is not None:
            self._leave()
            self._leave = None
        self._task = asyncio.create_task(self._begin(), name="history")

    async def _begin(self) -> None:
        """Make the tapes, however often it takes."""
        while True:
            try:
                await self._make()
            except _Behind:
                continue
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                self._context.report("history", error)
                await asyncio.sleep(_AGAIN_S)
            else:
                break
        while True:
            await asyncio.sleep(_SAVE_S)
            await self._save()

    async def _save(self) -> None:
        """Put the candles on disk, market by market so that the loop has its turn."""
        rows = []
        try:
            for number in list(self._tapes.candles):
                if not self._ready.is_set():
                    return
                data = self._reader.entry(self._tapes.seq - 1)
                if data is not None:
                    rows.append(self._tapes.row(number, sha256(data).digest()))
                await asyncio.sleep(0)
            await asyncio.to_thread(saved.save, self._saved, rows)
        except (OSError, JournalError) as error:  # a cache: without it a start takes longer
            self._context.report("history", error)

    async def _make(self) -> None:
        """Raises `_Behind`, `JournalError`, `NovateError`."""
        state = await self._replica.settled()
        # No await from here to the listener: the seeds, the seq and what we are told belong together.
        base = self._replica.seq
        seeds = seeds_of(state)
        symbols = {spec.id: spec.symbol for spec in self._context.genesis.instruments}
        symbols |= {inst.id: inst.spec.symbol for inst in state.instruments.values()}
        owners = {owner.address: owner.accounts[0].number for owner in state.owners.values() if owner.accounts}
        waiting: deque[Applied] = deque()
        self._waiting, self._full = waiting, False
        if self._leave is None:
            self._leave = self._replica.on_entries(self._hear)
        tapes = await asyncio.to_thread(self._read, base, seeds, symbols, owners)
        self._tapes = tapes
        while waiting:  # more may come while others have their turn
            into = Slice(waiting[0].seq)
            for _ in range(min(_SLICE, len(waiting))):
                seq, time_us, _, command, outcomes = waiting.popleft()
                tapes.fold(seq, time_us, outcomes, command, into)
            await asyncio.sleep(0)
        if self._full:
            raise _Behind
        self._waiting = None
        self._ready.set()

    def _read(self, base: int, seeds: list[Seed], symbols: dict[int, str], owners: dict[bytes, int]) -> Tapes:
        """Tapes of the newest entries before `base`."""
        reader = self._reader

        def resolve(order_id: int) -> Any:
            found = reader.locate(order_id, Budget(1 << 40))
            return found[1] if found is not None else None

        rows = [row for row in saved.load(self._saved, reader.entry) if row.seq <= base]
        reach = (REACH if rows else REACH_WITHOUT) if self._reach is None else self._reach
        start = max(0, base - reach)
        rows = [row for row in rows if row.seq >= base - _SAVED_REACHES * max(reach, 1)]
        start = min([start, *(row.seq for row in rows)])
        tapes = Tapes(start, self._limits, seeds, symbols, owners, resolve)
        for row in rows if start else ():  # from the first entry on, nothing needs to be remembered
            tapes.restore(row)
        if start < base:
            for block in reader.read(start):
                into = Slice()
                for entry in entries_of(block):
                    if start <= entry.seq < base:
                        tapes.fold(entry.seq, entry.time_us, entry.outcomes, entry.envelope, into)
                if block.next_seq >= base:
                    break
        tapes.counted = {}
        tapes.orders.reconcile()
        return tapes
