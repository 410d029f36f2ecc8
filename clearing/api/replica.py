# SPDX-License-Identifier: GPL-3.0-or-later
"""The API process's own copy of the state: what every read is answered from.

Rules:
- It begins as the newest sound snapshot, verified against the roots that the journal holds, plus the tail of the
  journal on disk, and then follows the link. Blocks must continue ours by seq and hash. Signatures are not checked
  again: the journal is the operator's own, on this machine. Every outcome is compared with what our reducer gives,
  byte for byte, so the copy is the sequencer's state or nothing: the first difference is `divergence`, and ends it.
- Everything belongs to one event loop, and needs no lock. Entries are applied in slices of about `SLICE_S`; between
  slices the loop serves others, and the state stands after a whole entry. An entry that may touch every account
  (an epoch's close, a settlement) is applied on a thread: `settled` waits for it, and nothing else does.
- When the link is gone, reads go on; `age_s` and `stale` say so. Who was cut for lagging, or comes back after a while,
  reads what it missed from the journal on disk, which costs the writer nothing.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from clearing.api.entries import DIVERGED, Entry, is_heavy, read
from clearing.api.link import RETRY_FIRST_S, RETRY_MOST_S, Peer, checkpoint_of, receive
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.model import commands as c
from clearing.model.codec import encode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import Outcome
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.epochs import EpochBook
from clearing.service.link import frames as f
from clearing.service.recover import from_snapshot, read_genesis
from journal import JournalError, Store
from journal import block as blocks
from journal.block import Block

SLICE_S: Final = 0.002
STALE_S: Final = 5.0
# The sequencer's journal is not the one that we followed: it was restored from an older copy, or the disk is damaged.
_ANOTHER_JOURNAL: Final = ("JOURNAL_CORRUPT", "LINK_AHEAD", "LINK_JOURNAL_DIFFERS", "OUT_OF_RANGE")
# What may wait to be applied; past it the socket is not read, until the writer cuts us off and the disk serves us.
MAX_PENDING_BYTES: Final = 32 << 20
_READ_BYTES: Final = 4 << 20


class Applied(NamedTuple):
    """One entry that was applied: what was signed, and what came of it."""

    seq: int
    time_us: int
    envelope: c.Envelope
    command: c.Body
    outcomes: list[Outcome]


OnEntries = Callable[[list[Applied]], None]


class Replica:
    """A reducer that follows the journal. `start` it on the event loop that reads it, and `close` it there.

    `store` is the journal, opened for reading; `book` the epoch records beside it; `path` the link's socket.
    """

    def __init__(self, store: Store, book: EpochBook, path: Path) -> None:
        self.store = store
        self.book = book
        self.path = path
        self.reducer: Reducer
        self.seq = 0
        self.head = 0
        self.from_seq = 0
        self.connected = False
        self.divergence: str | None = None
        self.fault: NovateError | None = None
        self.on_divergence: Callable[[str], None] | None = None
        self._checkpoint: SignedCheckpoint | None = None
        self._heard = time.monotonic()
        self._listeners: list[OnEntries] = []
        self._pending: deque[Block] = deque()
        self._pending_bytes = 0
        self._received = (0, bytes(32))  # the seq and hash that the next block must continue
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._joined = asyncio.Event()
        self._whole = asyncio.Event()
        self._whole.set()
        self._moved = asyncio.Condition()
        self._waiters = 0
        self._tasks: list[asyncio.Task[None]] = []

    # --- what it shows ---

    @property
    def state(self) -> State:
        """The state after entry `seq` - 1. Await `settled` first, and read up to your next await."""
        return self.reducer.state

    @property
    def behind(self) -> int:
        """Entries that we have heard of and not applied."""
        return max(0, self.head - self.seq)

    @property
    def age_s(self) -> float:
        """Seconds since the writer was last heard of."""
        return time.monotonic() - self._heard

    @property
    def stale(self) -> bool:
        """Whether what is read here may be old: the writer is silent, or gone."""
        return not self.connected or self.age_s > STALE_S

    @property
    def checkpoint(self) -> SignedCheckpoint:
        """The last signed head that the writer sent. Raises `NovateError` SEQUENCER_UNREACHABLE before the first."""
        if self._checkpoint is None:
            raise NovateError(f.UNREACHABLE, "no signed head was received yet: the sequencer is not running; retry")
        return self._checkpoint

    @property
    def checkpoint_note(self) -> str:
        """The signed note of `checkpoint`."""
        return self.checkpoint.note

    async def settled(self) -> State:
        """The state, once no entry is half applied. Raises `NovateError` REPLICA_DIVERGED."""
        while not self._whole.is_set():
            await self._whole.wait()
        if self.divergence is not None:
            raise NovateError(DIVERGED, "this process's copy of the state is unsound and is being restored; retry")
        return self.reducer.state

    async def wait_for(self, seq: int, timeout_s: float = 5.0) -> bool:
        """Whether entry `seq` is applied within a time: so that who has a receipt reads what it did."""
        if self.seq > seq:
            return True
        self._waiters += 1
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.seq > seq)
        except TimeoutError:
            return False
        finally:
            self._waiters -= 1
        return True

    def on_entries(self, callback: OnEntries) -> Callable[[], None]:
        """Call `callback` on the loop after each slice, with its entries in order; the state stands after the last
        of them. It must be quick and must not raise. Returns what ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    # --- start and stop ---

    async def start(self) -> None:
        """Restore, catch up with the journal on disk, and begin to follow. Raises `NovateError` REPLICA_DIVERGED,
        `JournalError`."""
        await asyncio.to_thread(self._restore)
        self._tasks = [
            asyncio.create_task(self._apply_forever(), name="replica apply"),
            asyncio.create_task(self._follow_forever(), name="replica follow"),
        ]

    async def wait_connected(self, timeout_s: float) -> bool:
        """Whether it follows the sequencer within a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._joined.wait()
        return self.connected

    async def close(self) -> None:
        """Stop following. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._whole.wait()  # a thread may be at an entry; the state is ours to leave whole

    def _restore(self) -> None:
        reducer, size, _ = from_snapshot(self.store, self.book)
        self.reducer = reducer if reducer is not None else Reducer(read_genesis(self.store))
        self.seq = self.from_seq = size
        if size:
            self._received = (size, next(self.store.read(size - 1)).hash)
        for block in self.store.read(size):
            for data in block.entries:
                self._apply(read(self.seq, data))
                self.seq += 1
            self._received = (block.next_seq, block.hash)
        self.head = self.seq

    # --- applying ---

    def _apply(self, entry: Entry) -> Applied:
        """Apply the entry at `seq`. Raises `NovateError` REPLICA_DIVERGED."""
        seq = self.seq
        try:
            outcomes = self.reducer.apply(entry.time_us, entry.envelope, entry.body)
            again = encode_entry(seq, entry.time_us, entry.raw, outcomes)
        except Exception as error:  # whatever it is, this state is no longer the writer's
            raise NovateError(DIVERGED, f"entry {seq} cannot be applied ({error})") from error
        if again != entry.data:
            raise NovateError(DIVERGED, f"entry {seq} has other outcomes here than in the journal")
        return Applied(seq, entry.time_us, entry.envelope, entry.body, outcomes)

    async def _apply_forever(self) -> None:
        try:
            while True:
                if not self._pending:
                    self._work.clear()
                    await self._work.wait()
                block = self._pending[0]
                await self._apply_block(block)
                self._pending.popleft()
                self._pending_bytes -= len(block.raw)
                if self._pending_bytes < MAX_PENDING_BYTES:
                    self._room.set()
        except NovateError as error:
            self._diverged(error.message)
        except Exception as error:  # noqa: BLE001 - a listener's fault: a replica that stands still in silence is worse
            self._diverged(f"after entry {self.seq - 1}: {type(error).__name__}: {error}")

    async def _apply_block(self, block: Block) -> None:
        entries = block.entries
        at = self.seq - block.first_seq
        while at < len(entries):
            done: list[Applied] = []
            until = time.perf_counter() + SLICE_S
            while at < len(entries) and (not done or time.perf_counter() < until):
                entry = read(self.seq, entries[at])
                if is_heavy(entry.body):
                    break
                done.append(self._apply(entry))
                self.seq += 1
                at += 1
            self._tell(done)
            if at < len(entries) and is_heavy(entry.body):
                self._whole.clear()
                # Shielded: the thread cannot be called back, and `close` waits for it: nothing is left half done.
                await asyncio.shield(asyncio.ensure_future(self._apply_aside(entry)))
                at += 1
            await self._wake()

    async def _apply_aside(self, entry: Entry) -> None:
        """On a thread, while readers wait at `settled`; listeners hear of it before they do."""
        try:
            done = await asyncio.to_thread(self._apply, entry)
            self.seq += 1
            self._tell([done])
        finally:
            self._whole.set()

    def _tell(self, done: list[Applied]) -> None:
        if done:
            for listener in tuple(self._listeners):
                listener(done)

    async def _wake(self) -> None:
        """Let others have their turn, and first those who wait for an entry."""
        if self._waiters:
            async with self._moved:
                self._moved.notify_all()
        await asyncio.sleep(0)

    # --- following ---

    async def _follow_forever(self) -> None:
        delay = RETRY_FIRST_S
        while self.divergence is None:
            try:
                await self._follow()
            except (NovateError, JournalError) as error:
                self.fault = NovateError(error.code, error.message)
                if error.code in _ANOTHER_JOURNAL:
                    self._diverged(error.message)
            except Exception as error:  # noqa: BLE001 - whatever ended it, there is a next connection
                self.fault = NovateError(f.UNREACHABLE, f"the link ended ({type(error).__name__})")
            if self.connected:
                self.connected, delay = False, RETRY_FIRST_S
                self._joined.clear()
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MOST_S)

    def _diverged(self, message: str) -> None:
        self.divergence = self.divergence or message
        self._room.set()
        if self.on_divergence is not None:
            self.on_divergence(message)

    async def _follow(self) -> None:
        """One connection, until it ends."""
        await self._read_disk()
        seq, block_hash = self._received
        peer = await Peer.connect(self.path, f.Hello(f.VERSION, f.FOLLOW, seq, block_hash))
        try:
            self.connected, self.fault = True, None
            self._joined.set()
            self._take_head(peer.welcome.head)
            while True:
                self._take(await receive(peer.reader))
                while self._pending_bytes >= MAX_PENDING_BYTES:
                    self._room.clear()
                    await self._room.wait()
        finally:
            peer.close()

    def _take(self, message: f.ToClient) -> None:
        match message:
            case f.Blocks():
                for raw in message.blocks:
                    self._take_block(blocks.decode(raw))
                self._take_head(message.head)
            case f.Beat():
                self._heard = time.monotonic()
                self.head = max(self.head, message.size)
            case f.Farewell():
                raise NovateError(message.code, message.message)
            case _:
                raise f.BadFrame(f"a {type(message).__name__} on a connection that follows")

    def _take_head(self, head: f.Signed) -> None:
        self._heard = time.monotonic()
        self._checkpoint = checkpoint_of(head)
        self.head = max(self.head, head.size)

    def _take_block(self, block: Block) -> None:
        """Raises `JournalError` JOURNAL_CORRUPT for one that does not continue ours."""
        seq, block_hash = self._received
        blocks.check_link(block, seq, block_hash, 0)
        self._received = (block.next_seq, block.hash)
        self._pending.append(block)
        self._pending_bytes += len(block.raw)
        self._work.set()

    async def _read_disk(self) -> None:
        """Take what the journal on disk has and we do not, as fast as it is applied."""
        while True:
            seq, _ = self._received
            found = await asyncio.to_thread(self._read_some, seq)
            if not found:
                return
            for block in found:
                self._take_block(block)
            self.head = max(self.head, self._received[0])
            while self._pending_bytes >= MAX_PENDING_BYTES:
                self._room.clear()
                await self._room.wait()

    def _read_some(self, seq: int) -> list[Block]:
        found: list[Block] = []
        total = 0
        for block in self.store.read(seq):
            total += len(block.raw)
            found.append(block)
            if total > _READ_BYTES:
                break
        return found
