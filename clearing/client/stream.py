# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream of an operator, as one object that outlives connections.

    async with AsyncStream(api) as stream:
        book = stream.book(1)
        await book.ready()
        receipt = await stream.send(session.sign([PlaceOrder(...)]))

Rules:
- A connection that ends is made again, after a growing, jittered pause, until the stream is closed. Then every feed is
  subscribed again (clearing.client.feeds says how it stays whole), every envelope without an answer is sent again
  (clearing.client.sends), and whoever asked in `on_connect` is called.
- An operator that says nothing for `SILENCE_S`, though it sends a heartbeat every second, is gone: the connection is
  ended here.
- Frames are taken by one task, whole; nothing here waits for a reader.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from clearing.client import feeds
from clearing.client import frames as f
from clearing.client import types as t
from clearing.client.aio import AsyncApiClient
from clearing.client.asks import Ask
from clearing.client.book import Book
from clearing.client.errors import AGAIN, ApiError, pause_s
from clearing.client.feeds import AccountFeed, Feed, Instruments, Latest, Tape
from clearing.client.frames import Frame
from clearing.client.sends import Sends

T = TypeVar("T")
F = TypeVar("F", bound=Feed[Any])
SILENCE_S: Final = 10.0
_MAX_FRAME_BYTES: Final = 64 << 20


class AsyncStream:
    """The stream of the operator that `api` names. `patience_s`: how long an envelope is tried for. Enter it, or call
    `start` and `close`."""

    def __init__(self, api: AsyncApiClient, patience_s: float = 60.0) -> None:
        self.api = api
        self.url = "ws" + api.url.removeprefix("http") + "/v1/stream"
        self.connections = 0  # how many were made
        self.seq = -1  # what the operator has applied, as it said last
        self.notices: list[tuple[str, str]] = []  # code and message, the newest hundred
        self.on_connect: list[Callable[[], Awaitable[None]]] = []
        self.on_notice: list[Callable[[str], None]] = []
        self._feeds: dict[tuple[str, int], Feed[Any]] = {}
        self._sends = Sends(api, patience_s)
        self._asked: dict[str, asyncio.Future[Frame]] = {}
        self._number = 0
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._connected = asyncio.Event()
        self._operator_stale = False
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life ---

    async def __aenter__(self) -> "AsyncStream":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Connect, in the background."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="stream")

    async def close(self) -> None:
        """End the connection. What waits for an answer is told so; a cancel that was handed over comes into force."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        for task in tuple(self._tasks):
            task.cancel()
        self._sends.close()
        for feed in tuple(self._feeds.values()):
            await feed.close()

    async def connected(self, timeout_s: float = 30.0) -> None:
        """Wait for a connection. Raises `ApiError` OPERATOR_UNREACHABLE."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise ApiError(
                "OPERATOR_UNREACHABLE", f"no stream at {self.url}; is the operator up?", sent=False
            ) from None

    @property
    def stale(self) -> bool:
        """Whether there is no connection, or the interface itself does not hear the sequencer."""
        return self._operator_stale or not self._connected.is_set()

    # --- subscriptions ---

    def book(self, instrument: int) -> Book:
        return self._of("book", instrument, lambda: Book(self, instrument), Book)

    def trades(self, instrument: int, after: int | None = None) -> Tape[t.Trade]:
        """The newest 50 and what follows, or all that came after an entry."""
        return self._of("trades", instrument, lambda: feeds.trades_of(self, instrument, after), Tape)

    def funding(self, instrument: int, after: int | None = None) -> Tape[t.Funding]:
        return self._of("funding", instrument, lambda: feeds.funding_of(self, instrument, after), Tape)

    def ticker(self, instrument: int) -> Latest[t.Ticker]:
        return self._of("ticker", instrument, lambda: Latest(self, "ticker", instrument, f.decode_ticker), Latest)

    def mark(self, instrument: int) -> Latest[t.Mark]:
        return self._of("mark", instrument, lambda: Latest(self, "mark", instrument, f.decode_mark), Latest)

    def account(self, account: int, after: int | None = None) -> AccountFeed:
        """Its newest state, and its fills and events from now on, or all that came after an entry."""
        return self._of("account", account, lambda: AccountFeed(self, account, after), AccountFeed)

    def instruments(self) -> Instruments:
        return self._of("instruments", 0, lambda: Instruments(self), Instruments)

    def epochs(self) -> Latest[dict[str, Any]]:
        return self._plain("epochs")

    def checkpoint(self) -> Latest[dict[str, Any]]:
        """The newest signed head: `size`, `root`, `note`."""
        return self._plain("checkpoint")

    def status(self) -> Latest[dict[str, Any]]:
        return self._plain("status")

    def _plain(self, channel: str) -> Latest[dict[str, Any]]:
        return self._of(channel, 0, lambda: Latest(self, channel, 0, f.decode_any), Latest)

    def _of(self, channel: str, key: int, make: Callable[[], F], _: type[Any]) -> F:
        """The one feed of a channel: who asks twice gets the same."""
        feed: Any = self._feeds.get((channel, key))
        if feed is None:
            feed = self._feeds[channel, key] = make()
            if self._connected.is_set():
                self._subscribe(feed)
        found: F = feed
        return found

    def _subscribe(self, feed: Feed[Any]) -> None:
        self._put(feed.asking() | {"id": f"feed {feed.channel} {feed.key}"})

    def forget(self, feed: Feed[Any]) -> None:
        """A feed was closed."""
        if self._feeds.get((feed.channel, feed.key)) is feed:
            del self._feeds[feed.channel, feed.key]
            self._put({"op": "unsubscribe", "channel": feed.channel} | feed.place())

    # --- asking ---

    async def call(self, ask: Ask[T]) -> T:
        """What a REST resource answers."""
        return await self.api.call(ask)

    async def send(self, envelope: bytes, *, outcomes: bool = False) -> dict[str, Any]:
        """Submit signed bytes until there is an answer: the receipt. Raises `ApiError`, `OutcomeUnknown`."""
        return await self._sends.send(envelope, outcomes)

    @property
    def pending(self) -> int:
        """Envelopes that wait for an answer."""
        return self._sends.pending

    async def ask(self, frame: dict[str, Any], timeout_s: float = 10.0) -> Frame:
        """Send a frame and wait for its answer, on this connection. Raises `ApiError`."""
        self._number += 1
        name = f"ask {self._number}"
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[name] = answer
        self._put(frame | {"id": name})
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError:
            raise ApiError("OPERATOR_UNREACHABLE", f"no answer to {frame['op']!r} in {timeout_s:g} s") from None
        finally:
            self._asked.pop(name, None)
        if found.type == "error":
            raise ApiError(found.code, found.message, 400 if found.retry_after_ms is None else 503)
        return found

    async def leave(self) -> None:
        """End without setting off cancels that were handed over, then close."""
        with contextlib.suppress(ApiError):
            await self.ask({"op": "leave"})
        await self.close()

    def _put(self, frame: dict[str, Any]) -> None:
        if self._connected.is_set():
            self._frames.put_nowait(f.encode(frame))

    # --- the connection ---

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                async with connect(self.url, compression=None, max_size=_MAX_FRAME_BYTES, max_queue=64) as socket:
                    attempt = 0
                    await self._serve(socket)
            except (OSError, WebSocketException, TimeoutError, EOFError):
                pass  # no connection: try again
            finally:
                self._lost()
            await asyncio.sleep(pause_s(attempt, 0.1))
            attempt += 1

    async def _serve(self, socket: ClientConnection) -> None:
        self._frames = asyncio.Queue()
        self._connected.set()
        self.connections += 1
        for feed in self._feeds.values():
            self._subscribe(feed)
        for hear in self.on_connect:
            self._start(hear())
        writers = [asyncio.create_task(self._write(socket, pull)) for pull in (self._frames.get, self._sends.next)]
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    text = await socket.recv()
                self._hear(text)
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)

    async def _write(self, socket: ClientConnection, pull: Callable[[], Awaitable[bytes]]) -> None:
        # A connection that ended is noticed by the reader.
        with contextlib.suppress(WebSocketException):
            while True:
                await socket.send(await pull(), text=True)

    def _lost(self) -> None:
        self._connected.clear()
        self._sends.lost()
        for feed in self._feeds.values():
            feed.lost()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ApiError("OPERATOR_UNREACHABLE", "the connection ended; ask again"))

    def _hear(self, text: str | bytes) -> None:
        try:
            frame = f.decode_frame(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # of a later version, or no operator; what it means nobody here knows
        match frame.type:
            case "snapshot" | "delta" | "reset":
                feed = self._feeds.get(frame.place if frame.channel else ("", 0))
                if feed is not None and not feed.take(frame):
                    self._subscribe(feed)
            case "results":
                self._sends.answered(frame)
            case "heartbeat":
                self.seq, self._operator_stale = frame.seq if frame.seq is not None else -1, frame.stale
            case "notice":
                self.notices = [*self.notices[-99:], (frame.code, frame.message)]
                for hear in self.on_notice:
                    hear(frame.code)
            case _:
                self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        asked = self._asked.pop(frame.id, None) if isinstance(frame.id, str) else None
        if asked is not None:
            if not asked.done():
                asked.set_result(frame)
        elif frame.type == "error" and not self._sends.refused(frame):
            self._subscription_refused(frame)

    def _subscription_refused(self, frame: Frame) -> None:
        words = str(frame.id).split()
        feed = self._feeds.get((words[1], int(words[2]))) if len(words) == 3 and words[0] == "feed" else None
        if feed is None:
            return
        if frame.retry_after_ms is None and frame.code not in AGAIN:
            feed.fail(ApiError(frame.code, frame.message, 400))
        else:
            self._start(self._subscribe_later(feed, (frame.retry_after_ms or 500) / 1_000))

    async def _subscribe_later(self, feed: Feed[Any], after_s: float) -> None:
        await asyncio.sleep(after_s)
        if not feed.closed:
            self._subscribe(feed)

    def _start(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            with contextlib.suppress(ApiError):  # whoever asked on a connection that ended asks again on the next
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
