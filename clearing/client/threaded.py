# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream for programs without asyncio: it runs in a thread of its own, and calls here wait for it.

    with Stream("http://127.0.0.1:8640") as stream:
        book = stream.book(1)
        print(book.read(lambda it: (it.best_bid, it.best_ask)))
        for trade in stream.trades(1):
            ...

Rules: a feed changes in the stream's thread, so `read` looks at it there: what a call sees is of one moment. Any number
of threads may call. Iteration waits for the next item; another thread ends it with `close`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from clearing.client.aio import AsyncApiClient
from clearing.client.feeds import Feed
from clearing.client.stream import AsyncStream

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Feed[Any])


class Following(Generic[F]):
    """A feed of another thread."""

    def __init__(self, feed: F, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._feed = feed
        self._run = run

    def read(self, look: Callable[[F], R]) -> R:
        """What `look` finds in the feed, at one moment; it must not keep the feed."""

        async def at_once() -> R:
            return look(self._feed)

        found: R = self._run(at_once())
        return found

    def ready(self, timeout_s: float = 30.0) -> "Following[F]":
        """Wait for the first snapshot. Raises `ApiError`, TimeoutError."""
        self._run(self._feed.ready(timeout_s))
        return self

    def changed(self, timeout_s: float | None = None) -> bool:
        """Wait for an update since the last call; False when none came in time. Raises `ApiError`."""

        async def wait() -> bool:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._feed.changed()
            except TimeoutError:
                return False
            return True

        return bool(self._run(wait()))

    @property
    def stale(self) -> bool:
        return self.read(lambda feed: feed.stale)

    def close(self) -> None:
        """Unsubscribe."""
        self._run(self._feed.close())

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._feed)

        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        while True:
            more, item = self._run(following())
            if not more:
                return
            yield item


class Stream:
    """As `AsyncStream`, at the URL of an operator."""

    def __init__(self, url: str, patience_s: float = 60.0) -> None:
        self._url = url
        self._patience_s = patience_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stream", daemon=True)
        self._stream: AsyncStream | None = None

    def __enter__(self) -> "Stream":
        self._thread.start()
        try:
            self._stream = self._run(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._end()

    async def _open(self) -> AsyncStream:
        stream = AsyncStream(AsyncApiClient(self._url), self._patience_s)
        stream.start()
        return stream

    async def _close(self) -> None:
        if self._stream is not None:
            await self._stream.close()
            await self._stream.api.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _follow(self, make: Callable[[AsyncStream], F]) -> Following[F]:
        stream = self._stream
        assert stream is not None, "enter it first"

        async def made() -> F:
            return make(stream)

        return Following(self._run(made()), self._run)

    def connected(self, timeout_s: float = 30.0) -> None:
        """Wait for a connection. Raises `ApiError` OPERATOR_UNREACHABLE."""
        assert self._stream is not None, "enter it first"
        self._run(self._stream.connected(timeout_s))

    def send(self, envelope: bytes, *, outcomes: bool = False) -> dict[str, Any]:
        """Submit signed bytes until there is an answer: the receipt. Raises `ApiError`, `OutcomeUnknown`."""
        assert self._stream is not None, "enter it first"
        return self._run(self._stream.send(envelope, outcomes=outcomes))

    def book(self, instrument: int) -> Following[Any]:
        return self._follow(lambda stream: stream.book(instrument))

    def trades(self, instrument: int, after: int | None = None) -> Following[Any]:
        return self._follow(lambda stream: stream.trades(instrument, after))

    def funding(self, instrument: int, after: int | None = None) -> Following[Any]:
        return self._follow(lambda stream: stream.funding(instrument, after))

    def ticker(self, instrument: int) -> Following[Any]:
        return self._follow(lambda stream: stream.ticker(instrument))

    def mark(self, instrument: int) -> Following[Any]:
        return self._follow(lambda stream: stream.mark(instrument))

    def account(self, account: int, after: int | None = None) -> Following[Any]:
        return self._follow(lambda stream: stream.account(account, after))

    def instruments(self) -> Following[Any]:
        return self._follow(lambda stream: stream.instruments())

    def epochs(self) -> Following[Any]:
        return self._follow(lambda stream: stream.epochs())

    def checkpoint(self) -> Following[Any]:
        return self._follow(lambda stream: stream.checkpoint())

    def status(self) -> Following[Any]:
        return self._follow(lambda stream: stream.status())
