# SPDX-License-Identifier: GPL-3.0-or-later
"""The middle of the stream: hears what the replica applied, and tells those who subscribed.

Rules:
- Listeners only note what changed. One task, the pump, tells it, between entries, when the state is whole; after a
  burst of work it leaves the loop to others for as long as it took itself. So the stream never holds the replica up,
  and under load deltas grow rather than multiply.
- What was heard must be without a gap. If the history begins anew, its topics are reset; if the books here cannot
  follow, they are made again from the state and reset.
- Nobody is waited for: a subscriber costs one put into its queue.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from clearing.api.context import Context
from clearing.api.history import History, Slice
from clearing.api.http.guard import age_ms
from clearing.api.messages import frames as f
from clearing.api.replica import Applied
from clearing.api.stream.backfill import Backfiller
from clearing.api.stream.books import Books
from clearing.api.stream.limits import Limits
from clearing.api.stream.protocol import framed
from clearing.api.stream.topics import (
    AccountTopic,
    BookTopic,
    FundingTopic,
    InstrumentsTopic,
    MarkTopic,
    TickerTopic,
    Topic,
    TradesTopic,
    encode,
)
from clearing.api.stream.venue import CheckpointTopic, EpochsTopic, StatusTopic
from clearing.core.state import State
from clearing.model.errors import NovateError, Refused

if TYPE_CHECKING:
    from clearing.api.stream.session import Session

KINDS: Final[dict[str, type[Topic]]] = {
    kind.channel: kind
    for kind in (
        BookTopic, TradesTopic, TickerTopic, MarkTopic, FundingTopic, InstrumentsTopic, AccountTopic, EpochsTopic,
        CheckpointTopic, StatusTopic,
    )
}  # fmt: skip
OF_INSTRUMENT: Final = frozenset(("book", "trades", "ticker", "mark", "funding"))
OF_HISTORY: Final = ("trades", "ticker", "mark", "funding", "instruments", "account")
BACKFILLED: Final = frozenset(("trades", "funding", "account"))
_READY_S: Final = 10.0
_REACH_S: Final = 2.0
_TICK_S: Final = 0.005
_BURST_S: Final = 0.004
Key = tuple[str, int]


class Hub:
    """One per application. Construct it on the event loop; it begins by itself."""

    def __init__(self, context: Context, history: History, limits: Limits) -> None:
        self.context = context
        self.history = history
        self.replica = context.replica
        self.limits = limits
        self.books: Books
        self.sessions: set[Session] = set()
        self._topics: dict[Key, Topic] = {}
        self._dirty: dict[Topic, None] = {}
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._books_lost = False
        self._next: int | None = None  # the entry that the history is due to tell next
        self._leave = history.on_events(self._hear_slice)
        self._leave_entries: Callable[[], None] = lambda: None
        self._tasks = [
            asyncio.create_task(self._pump(), name="stream pump"),
            asyncio.create_task(self._beat(), name="stream beat"),
        ]

    @property
    def seq(self) -> int:
        """The newest entry that was applied."""
        return self.replica.seq - 1

    def now(self) -> float:
        """Seconds, for `Topic.due`."""
        return time.monotonic()

    async def close(self) -> None:
        """Stop telling. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if tasks:
            self._leave()
            self._leave_entries()

    # --- subscribing ---

    async def subscribe(self, session: "Session", ask: f.Subscribe, key: int) -> None:
        """Answer, send a snapshot, and tell `session` from then on. Raises `NovateError`, `JournalError`."""
        try:
            async with asyncio.timeout(_READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise NovateError("OVERLOADED", "the operator is busy with starting; subscribe again in a second") from None
        channel, replica, history = ask.channel, self.replica, self.history
        told_by_history = channel in OF_HISTORY
        await session.outbox.calm()
        reader = None
        if ask.after is not None and channel in BACKFILLED:
            await replica.wait_for(ask.after, _REACH_S)  # who was told of it by another process, or before a restart
            reader = Backfiller(history, channel, key, ask.after, lambda: replica.seq - 1)
        prepared = await self._prepared(channel)
        while True:
            if told_by_history:
                await history.ready()
            if reader is not None:
                await reader.read()
            seq, state = replica.seq, await replica.settled()
            if replica.seq == seq and (history.is_ready or not told_by_history):
                break
        # No await from here: topic, backfill and snapshot are of one moment.
        _known(state, channel, key)
        if session.closed:
            return
        topic = self._topics.get((channel, key))
        if topic is None:
            topic = self._topics[channel, key] = prepared or KINDS[channel](self, key)
        if told_by_history and self._next is None:
            self._next = history.seq
        session.tell(f.Subscribed(ask.id, True, channel, **topic.place()))
        topic.join(session, session.outbox, reader.found() if reader is not None else None)
        session.topics[channel, key] = topic

    async def _prepared(self, channel: str) -> Topic | None:
        """A topic that has to read before it can say anything, if there is none yet."""
        if channel != EpochsTopic.channel or (channel, 0) in self._topics:
            return None
        await self.replica.settled()
        topic = EpochsTopic(self, 0)
        await topic.begin()
        return topic

    def unsubscribe(self, session: "Session", channel: str, key: int) -> None:
        """Tell `session` no more. Idempotent."""
        topic = session.topics.pop((channel, key), None)
        if topic is not None:
            topic.outboxes.pop(session, None)
            self._forget(topic)

    def drop(self, session: "Session") -> None:
        """The session ended."""
        self.sessions.discard(session)
        for channel, key in tuple(session.topics):
            self.unsubscribe(session, channel, key)

    def _forget(self, topic: Topic) -> None:
        if not topic.outboxes and self._topics.get((topic.channel, topic.key)) is topic:
            del self._topics[topic.channel, topic.key]
            self._dirty.pop(topic, None)

    # --- hearing ---

    def mark(self, topic: Topic) -> None:
        """Have a topic flushed soon."""
        self._dirty[topic] = None
        self._wake.set()

    def _hear_entries(self, done: list[Applied]) -> None:
        """What the replica tells. Never raises."""
        try:
            books = self.books
            books.fold(self.replica.state, done)
            for instrument in tuple(books.dirty):
                topic = self._topics.get(("book", instrument))
                if topic is None:
                    books.forget(instrument)
                else:
                    self.mark(topic)
        except Exception as error:  # noqa: BLE001 - our fault must not end the replica
            self.context.report("stream books", error)
            self._books_lost = True
            self._wake.set()

    def _hear_slice(self, events: Slice) -> None:
        """What the history tells."""
        if self._next is not None and events.first_seq != self._next:
            self._lose(OF_HISTORY, "HISTORY_RESTARTED")
        self._next = events.seq + 1
        topics = self._topics
        for channel, keys in (
            ("trades", events.trades), ("ticker", events.instruments), ("mark", events.marks),
            ("funding", events.funding), ("account", events.accounts), ("instruments", (0,)),
        ):  # fmt: skip
            for key in keys:
                topic = topics.get((channel, key))
                if topic is not None:
                    topic.take(events)

    def _lose(self, channels: tuple[str, ...], reason: str) -> None:
        for topic in self._topics.values():
            if topic.channel in channels:
                topic.lost = reason
                self.mark(topic)

    # --- telling ---

    async def _pump(self) -> None:
        await self._begin()
        while True:
            if not self._dirty and not self._books_lost:
                self._wake.clear()
                await self._wake.wait()
            try:
                await self.replica.settled()
            except NovateError:  # the process is about to end
                await asyncio.sleep(1.0)
                continue
            began = time.monotonic()
            if self._books_lost:
                self._again()
            self._flush(began)
            await asyncio.sleep(max(_TICK_S, time.monotonic() - began) if self._dirty else time.monotonic() - began)

    async def _begin(self) -> None:
        state = await self.replica.settled()
        self.books = Books(state, self.replica.seq, self.limits.depth)
        self._leave_entries = self.replica.on_entries(self._hear_entries)
        self._ready.set()

    def _again(self) -> None:
        """Make the books again from the state."""
        self._books_lost = False
        self.books = Books(self.replica.state, self.replica.seq, self.limits.depth)
        self._lose(("book",), "BOOK_RESTARTED")

    def _flush(self, began: float) -> None:
        for topic in tuple(self._dirty):
            if topic.due > began:
                continue
            del self._dirty[topic]
            try:
                topic.flush(began)
            except Exception as error:  # noqa: BLE001 - one topic's fault is not the others'
                self.context.report(f"stream {topic.channel}", error)
                topic.lost, topic.due = "FAULT", began + 1.0
                self.mark(topic)
            if time.monotonic() - began > _BURST_S:
                return

    async def _beat(self) -> None:
        """Heartbeats, and the topics that are looked at rather than told."""
        await self._ready.wait()
        while True:
            await asyncio.sleep(self.limits.heartbeat_s)
            replica = self.replica
            frame = framed(encode(f.Heartbeat(self.seq, age_ms(replica), replica.stale, time.time_ns() // 1_000)))
            for session in tuple(self.sessions):
                session.outbox.put(frame)
            for topic in (self._topics.get(("checkpoint", 0)), self._topics.get(("status", 0))):
                if isinstance(topic, CheckpointTopic | StatusTopic):
                    topic.look()
            epochs = self._topics.get(("epochs", 0))
            if isinstance(epochs, EpochsTopic):
                try:
                    await epochs.poll()
                except Exception as error:  # noqa: BLE001 - tried again in a second
                    self.context.report("stream epochs", error)


def _known(state: State, channel: str, key: int) -> None:
    """Raises `Refused` UNKNOWN_INSTRUMENT, UNKNOWN_ACCOUNT."""
    if channel in OF_INSTRUMENT and key not in state.instruments:
        raise Refused("UNKNOWN_INSTRUMENT", f"there is no instrument {key}; GET /v1/instruments lists them")
    if channel == "account" and key >= len(state.accounts):
        raise Refused("UNKNOWN_ACCOUNT", f"there is no account {key}; deposit first, then ask with its number")
