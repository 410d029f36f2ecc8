# SPDX-License-Identifier: GPL-3.0-or-later
"""The single writer: one thread, one queue, batches as large as what waits.

Rules:
- Whoever submits gets a future; it is resolved after the commit that holds the command, never before.
- An adaptive batch: everything that waits, up to `max_batch`. An idle venue commits single commands
  at the latency of one fsync; a busy one shares it. When a whole batch more is waiting, its signatures
  are checked while the one before it is applied and synced; a smaller one is better left to grow.
- The clock is read once per batch, here, and handed in: below this module time is data.
- What is not a `NovateError` per command is fatal: every waiting future fails with NODE_HALTED,
  `on_fatal` is told, and the process is expected to exit and recover from the journal.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from clearing.model.errors import NovateError, Refused
from clearing.service.pipeline import Begun, Pipeline, Receipt

Result = Receipt | NovateError


class Waiter(Protocol):
    """Who waits for one envelope: a `Future[Receipt]`, or what costs less than one. Called once, on the writer's
    thread or within `enqueue`; must be quick and must not fail."""

    def set_running_or_notify_cancel(self) -> bool: ...

    def set_result(self, result: Receipt, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


_Waiting = tuple[bytes, Waiter]


class Sequencer:
    """Owns the writer thread. `clock_us` gives microseconds UTC; `on_fatal` runs on the writer thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        clock_us: Callable[[], int],
        *,
        max_batch: int = 1_000,
        max_waiting: int = 50_000,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.fatal: BaseException | None = None
        self._clock_us = clock_us
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._on_fatal = on_fatal
        # Hears how many commands came (together) and how many were answered, of them refused; in one order.
        self.on_queued: Callable[[int], None] | None = None
        self.on_answered: Callable[[int, int], None] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._thread.start()

    def submit(self, raw: bytes) -> Future[Receipt]:
        """Queue one envelope. The future gives a `Receipt` or raises the `NovateError`."""
        return self.submit_many((raw,))[0]

    def submit_many(self, raws: Sequence[bytes]) -> list[Future[Receipt]]:
        """Queue envelopes in order, under one lock."""
        futures: list[Future[Receipt]] = [Future() for _ in raws]
        self.enqueue(raws, futures)
        return futures

    def enqueue(self, raws: Sequence[bytes], waiters: Sequence[Waiter]) -> None:
        """Queue envelopes in order, each with who hears of it; when they cannot be queued, all hear that at once."""
        refusal: NovateError | None = None
        with self._wake:
            if self.fatal is not None:
                refusal = _halted()
            elif self._closing:
                refusal = Refused("SHUTTING_DOWN", "the operator is stopping; retry when it is back")
            elif len(self._waiting) + len(raws) > self._max_waiting:
                refusal = Refused("OVERLOADED", f"more than {self._max_waiting} commands wait; retry in a second")
            else:
                if self.on_queued is not None:
                    self.on_queued(len(raws))
                self._waiting.extend(zip(raws, waiters, strict=True))
                self._wake.notify()
        if refusal is not None:
            for waiter in waiters:
                waiter.set_exception(refusal)

    @property
    def waiting(self) -> int:
        """Commands in the queue."""
        return len(self._waiting)

    def close(self, timeout_s: float = 30.0) -> None:
        """Commit everything that waits, then stop. Idempotent. Raises `NovateError` STILL_BUSY."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise NovateError("STILL_BUSY", f"the sequencer did not finish its queue in {timeout_s:g} s")

    # --- the writer thread ---

    def _take(self) -> list[_Waiting]:
        """The next batch; empty only when closing and nothing waits."""
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            count = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft() for _ in range(count)]

    def _take_full(self) -> list[_Waiting]:
        """A whole batch, or nothing."""
        with self._wake:
            full = len(self._waiting) >= self._max_batch
            return [self._waiting.popleft() for _ in range(self._max_batch)] if full else []

    def _run(self) -> None:
        batch = self._take()
        begun: Begun | None = None
        ahead: Begun | None = None
        while batch:
            following: list[_Waiting] = []
            try:
                if begun is None and len(self._waiting) < self._max_batch:
                    results = self.pipeline.process([raw for raw, _ in batch], self._clock_us())
                else:
                    begun = begun or self._begin(batch)
                    following = self._take_full()
                    ahead = self._begin(following) if following else None
                    results = self.pipeline.finish(begun, self._clock_us())
            except BaseException as error:  # noqa: BLE001 - whatever it was, nobody may be left waiting
                self._stop(error, [*batch, *following])
                return
            for (_, future), result in zip(batch, results, strict=True):
                _resolve(future, result)
            if self.on_answered is not None:
                self.on_answered(len(results), sum(isinstance(result, NovateError) for result in results))
            if self.pipeline.halted is not None:
                self._stop(self.pipeline.halted, following)
                return
            batch, begun = (following, ahead) if following else (self._take(), None)

    def _begin(self, batch: list[_Waiting]) -> Begun:
        return self.pipeline.begin([raw for raw, _ in batch])

    def _stop(self, error: BaseException, batch: list[_Waiting]) -> None:
        with self._wake:
            self.fatal = error
            batch = [*batch, *self._waiting]
            self._waiting.clear()
        for _, future in batch:
            _resolve(future, _halted())
        if self._on_fatal is not None:
            self._on_fatal(error)


def _halted() -> NovateError:
    return NovateError(
        "NODE_HALTED", "the operator stopped on a fault; whether this was journalled is not known: retry"
    )


def _resolve(future: Waiter, result: Result) -> None:
    if not future.set_running_or_notify_cancel():
        return  # the caller went away; what it sent is journalled all the same
    if isinstance(result, NovateError):
        future.set_exception(result)
    else:
        future.set_result(result)
