# SPDX-License-Identifier: GPL-3.0-or-later
"""Subscriptions: what a channel told, kept whole across lost frames and connections.

Rules:
- A feed begins with a snapshot, and takes a delta only when the delta's `prev_seq` is the `seq` that it has. After any
  other delta it is not whole, ignores what comes, and asks for a new snapshot; after `reset` the server sends one by
  itself; after a new connection it is subscribed again, with `after` where the channel can tell what was missed.
- `stale` is True whenever what the feed holds may not be the newest: before a snapshot, without a connection, or while
  the server itself does not hear the sequencer.
- Items of a tape (trades, funding, an account's fills and events) are handed out once each, in order, whatever
  happened to connections in between. What the stream cannot tell any more is paged through over REST, when the reader
  gets there.
- A reader that is slow holds nobody up: states are conflated to the newest, and a tape that was not read for long is
  dropped here and read again over REST.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from clearing.client import frames as f
from clearing.client import types as t
from clearing.client.asks import Ask, Paging, events, fills, funding, trades
from clearing.client.errors import ApiError, pause_s
from clearing.client.frames import Frame

T = TypeVar("T")
BACKFILLED: Final = frozenset(("trades", "funding", "account"))
OF_ACCOUNT: Final = "account"
MAX_WAITING: Final = 10_000
_LAST: Final = 2**63
Place = tuple[int, int]


class Host(Protocol):
    """The stream that a feed belongs to."""

    @property
    def stale(self) -> bool: ...

    async def call(self, ask: Ask[T]) -> T: ...

    def forget(self, feed: "Feed[Any]") -> None: ...


class Feed(ABC, Generic[T]):
    """One channel of an instrument, of an account, or of the venue (`key` 0). `seq`: complete up to this entry.

    Iterate to be told; `ready` waits for the first snapshot. Raises `ApiError` where the operator refused the
    subscription. `close` ends it.
    """

    def __init__(self, host: Host, channel: str, key: int, after: int | None = None) -> None:
        self.channel = channel
        self.key = key
        self.seq: int | None = after
        self.whole = False
        self.updates = 0
        self.resyncs = 0  # snapshots after the first one
        self.failed: ApiError | None = None
        self.closed = False
        self._host = host
        self._seen = 0
        self._begun = False
        self._wake = asyncio.Event()

    # --- the stream's side ---

    def place(self) -> dict[str, int]:
        """The fields that name its key."""
        if self.channel == OF_ACCOUNT:
            return {"account": self.key}
        return {"instrument": self.key} if self.channel in ("book", "trades", "ticker", "mark", "funding") else {}

    def asking(self) -> dict[str, Any]:
        """The frame that subscribes, but for its id."""
        ask: dict[str, Any] = {"op": "subscribe", "channel": self.channel} | self.place()
        if self.channel in BACKFILLED and self.seq is not None:
            ask["after"] = self.seq
        return ask

    def take(self, frame: Frame) -> bool:
        """A frame of this channel; False when a new snapshot must be asked for."""
        if frame.type == "reset":
            self.whole = False
            self._touch()
            return True
        assert frame.seq is not None, "snapshots and deltas have one"
        if frame.type == "snapshot":
            self._snapshot(frame)
            self.resyncs += self._begun
            self._begun = True
        elif not self.whole:
            return True  # of before the snapshot that was asked for
        elif frame.prev_seq != self.seq:
            self.lost()
            return False
        else:
            self._delta(frame)
        self.seq, self.whole = frame.seq, True
        self.updates += 1
        self._touch()
        return True

    def lost(self) -> None:
        """What follows is not the next: the connection ended, or a frame was missed."""
        self.whole = False
        self._touch()

    def fail(self, error: ApiError) -> None:
        """The operator refuses the subscription."""
        self.failed = error
        self.whole = False
        self._touch()

    def _touch(self) -> None:
        self._wake.set()

    @abstractmethod
    def _snapshot(self, frame: Frame) -> None: ...

    @abstractmethod
    def _delta(self, frame: Frame) -> None: ...

    # --- the reader's side ---

    @property
    def stale(self) -> bool:
        """Whether what is held may not be the newest."""
        return not self.whole or self._host.stale

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it is whole. Raises `ApiError`, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.whole:
                await self._wait()

    async def changed(self) -> None:
        """Wait for an update since this was last awaited. One task at a time. Raises `ApiError`."""
        while self.updates == self._seen:
            await self._wait()
        self._seen = self.updates

    async def _another(self) -> bool:
        """As `changed`; False when it was closed."""
        try:
            await self.changed()
        except ApiError:
            if self.closed:
                return False
            raise
        return True

    async def close(self) -> None:
        """Unsubscribe; iterations end."""
        if not self.closed:
            self.closed = True
            self._host.forget(self)
            self._touch()

    def __aiter__(self) -> AsyncIterator[T]:
        return self._items()

    @abstractmethod
    def _items(self) -> AsyncIterator[T]: ...

    async def _wait(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self.closed:
            raise ApiError("STREAM_CLOSED", f"the subscription to {self.channel} was closed; subscribe again")
        self._wake.clear()
        await self._wake.wait()


class Latest(Feed[T]):
    """A state that replaces itself: ticker, mark, status and the like. `value`: the newest; None before the first."""

    def __init__(self, host: Host, channel: str, key: int, read: Callable[[msgspec.Raw], T | None]) -> None:
        super().__init__(host, channel, key)
        self.value: T | None = None
        self._read = read

    def _snapshot(self, frame: Frame) -> None:
        self.value = self._read(frame.data)

    def _delta(self, frame: Frame) -> None:
        self.value = self._read(frame.data)

    async def _items(self) -> AsyncIterator[T]:
        while await self._another():
            if self.value is not None:
                yield self.value


class Instruments(Latest[dict[int, dict[str, Any]]]):
    """All markets by number, as GET /v1/instruments has them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "instruments", 0, f.decode_any)

    def _snapshot(self, frame: Frame) -> None:
        self.value = {}
        self._delta(frame)

    def _delta(self, frame: Frame) -> None:
        data: dict[str, Any] = f.decode_any(frame.data)
        changed = {int(row["id"]): row for row in data["instruments"]}
        gone = set(data["delisted"])
        self.value = {number: row for number, row in ((self.value or {}) | changed).items() if number not in gone}


class _Missed:
    """What came after `after`, up to entry `until`, is to be paged through."""

    __slots__ = ("after", "until")

    def __init__(self, after: Place, until: int) -> None:
        self.after = after
        self.until = until

    @property
    def cursor(self) -> str:
        seq, index = self.after
        return str(seq) if index == _LAST else f"{seq}-{index}"


async def _paged(host: Host, ask: Callable[[Paging], Ask[t.Page[Any]]], missed: _Missed) -> AsyncIterator[Any]:
    """Items from REST, oldest first. The operator may be starting or away: it is asked again until it answers."""
    cursor: str | None = missed.cursor
    attempt = 0
    while cursor is not None:
        try:
            found = await host.call(ask(Paging(after=cursor, limit=1_000)))
        except ApiError as error:
            if not error.transient:
                raise
            await asyncio.sleep(max(error.retry_after_s or 0.0, pause_s(attempt, 0.1)))
            attempt += 1
            continue
        attempt, cursor = 0, found.next
        for item in found.items:
            seq = _place_of(item)[0]
            if seq > missed.until:
                return
            yield item


def _place_of(item: Any) -> Place:
    return (item["seq"], item["index"]) if isinstance(item, dict) else (item.seq, item.index)


class Tape(Feed[T]):
    """Items that each happened once: iterate to get every one, oldest first. It begins with the newest 50, or with what
    came after entry `after`."""

    def __init__(
        self,
        host: Host,
        channel: str,
        key: int,
        after: int | None,
        read: Callable[[msgspec.Raw], list[T]],
        ask: Callable[[Paging], Ask[t.Page[T]]],
        most: int = MAX_WAITING,
    ) -> None:
        super().__init__(host, channel, key, after)
        self._read = read
        self._ask = ask
        self._most = most
        # Everything up to here was put into the queue, or is in a gap that was.
        self._place: Place | None = None if after is None else (after, _LAST)
        self._queue: deque[T | _Missed] = deque()

    def _snapshot(self, frame: Frame) -> None:
        assert frame.seq is not None
        items = self._read(frame.data)
        if frame.gap and self._place is not None:
            self._queue.append(_Missed(self._place, frame.seq))
            self._place = frame.seq, _LAST
            return
        place = self._place
        self._put([item for item in items if place is None or _place_of(item) > place])
        if place is None and not items:
            self._place = frame.seq, _LAST

    def _delta(self, frame: Frame) -> None:
        self._put(self._read(frame.data))

    def _put(self, items: list[T]) -> None:
        if not items:
            return
        self._queue.extend(items)
        self._place = _place_of(items[-1])
        if len(self._queue) > self._most:
            self._drop()

    def _drop(self) -> None:
        """Nobody reads: forget what waits, and where it began."""
        first = self._queue[0]
        if isinstance(first, _Missed):
            after = first.after
        else:
            seq, index = _place_of(first)
            after = (seq, index - 1) if index else (seq - 1, _LAST)
        assert self._place is not None
        self._queue.clear()
        self._queue.append(_Missed(after, self._place[0]))

    async def _items(self) -> AsyncIterator[T]:
        while True:
            while not self._queue:
                try:
                    await self._wait()
                except ApiError:
                    if self.closed:
                        return
                    raise
            # What is read from here on is the reader's: `_drop` does not see it any more.
            item = self._queue.popleft()
            if isinstance(item, _Missed):
                async for missed in _paged(self._host, self._ask, item):
                    yield missed
            else:
                yield item


class AccountUpdate(msgspec.Struct, frozen=True):
    """The account as it stands after entry `seq`, with what was filled and happened since the update before. `orders`:
    those that changed, with their newest status. `resynced`: frames were missed, so that `orders` may lack some whose
    end was not seen: compare with `account.orders`, which are all that are open."""

    seq: int
    account: t.Account
    orders: list[t.OrderStatus]
    fills: list[t.Fill]
    events: list[dict[str, Any]]
    resynced: bool = False


class AccountFeed(Feed[AccountUpdate]):
    """An account. `value`: the newest. Iterate for updates, in which each fill and event appears once."""

    def __init__(self, host: Host, account: int, after: int | None, most: int = 1_000) -> None:
        super().__init__(host, "account", account, after)
        self.value: t.Account | None = None
        self._most = most
        self._queue: deque[tuple[AccountUpdate, _Missed | None]] = deque()

    def _snapshot(self, frame: Frame) -> None:
        assert frame.seq is not None
        found = f.decode_account(frame.data)
        self.value = found
        missed = _Missed((self.seq, _LAST), frame.seq) if frame.gap and self.seq is not None else None
        update = AccountUpdate(frame.seq, found, [], found.fills, found.events, True)
        self._queue.append((update, missed))

    def _delta(self, frame: Frame) -> None:
        assert frame.seq is not None and frame.prev_seq is not None
        found = f.decode_account_delta(frame.data)
        self.value = found.account
        update = AccountUpdate(frame.seq, found.account, found.orders, found.fills, found.events)
        self._queue.append((update, None))
        if len(self._queue) > self._most:
            first, missed = self._queue[0]
            after = missed.after if missed is not None else self._before(first, frame.prev_seq)
            self._queue.clear()
            self._queue.append((AccountUpdate(frame.seq, found.account, [], [], [], True), _Missed(after, frame.seq)))

    @staticmethod
    def _before(first: AccountUpdate, otherwise: int) -> Place:
        """The place before all that an update holds."""
        places = [(item.seq, item.index) for item in first.fills]
        places += [(int(item["seq"]), int(item["index"])) for item in first.events]
        if not places:
            return first.seq, _LAST
        seq, _ = min(places)
        return min(seq - 1, otherwise), _LAST

    async def _items(self) -> AsyncIterator[AccountUpdate]:
        while True:
            while not self._queue:
                try:
                    await self._wait()
                except ApiError:
                    if self.closed:
                        return
                    raise
            update, missed = self._queue.popleft()
            if missed is not None:
                filled = [item async for item in _paged(self._host, lambda paging: fills(self.key, paging), missed)]
                happened = [item async for item in _paged(self._host, lambda paging: events(self.key, paging), missed)]
                update = msgspec.structs.replace(update, fills=filled, events=happened)
            yield update


# --- makers ------------------------------------------------------------------------------------


def trades_of(host: Host, instrument: int, after: int | None) -> Tape[t.Trade]:
    """The public tape of a market."""
    return Tape(
        host, "trades", instrument, after, lambda raw: f.decode_trades(raw).items,
        lambda paging: trades(instrument, paging),
    )  # fmt: skip


def funding_of(host: Host, instrument: int, after: int | None) -> Tape[t.Funding]:
    """Settlements of funding of a market."""
    return Tape(
        host, "funding", instrument, after, lambda raw: f.decode_funding(raw).items,
        lambda paging: funding(instrument, paging),
    )  # fmt: skip
