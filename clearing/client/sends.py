# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed envelopes on their way over a stream: sent in the order of calls, many at once, until each has its answer.

Rules:
- What waits is put together, up to 100 envelopes in a frame; fewer after a frame that was more than a limit takes at
  once, since the next one like it would be refused, too. A frame's answer brings a row per envelope.
- When a connection ends, what had no answer goes to the front of the queue again, in its order: the operator gives an
  identical envelope the first one's receipt, so nothing happens twice.
- A refusal that comes after an attempt whose fate is not known says nothing of that attempt: the journal is searched
  (clearing.client.resolve).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from clearing.client import frames as f
from clearing.client.errors import ApiError, OutcomeUnknown, failure, pause_s
from clearing.client.frames import Frame
from clearing.client.resolve import asearch

if TYPE_CHECKING:
    from clearing.client.aio import AsyncApiClient

MAX_PER_FRAME: Final = 100
_MAX_FRAME_CHARS: Final = 200_000


class Sending:
    """One envelope. `before`: the newest entry known before it was first sent."""

    __slots__ = ("attempts", "before", "done", "envelope", "outcomes", "text", "unknown")

    def __init__(self, envelope: bytes, outcomes: bool, before: int, done: "asyncio.Future[dict[str, Any]]") -> None:
        self.envelope = envelope
        self.text = "0x" + envelope.hex()
        self.outcomes = outcomes
        self.before = before
        self.done = done
        self.attempts = 0
        self.unknown = False


class Sends:
    """The queue of a stream. `patience_s`: how long an envelope is tried for."""

    def __init__(self, api: "AsyncApiClient", patience_s: float) -> None:
        self._api = api
        self._patience_s = patience_s
        self._waiting: deque[Sending] = deque()
        self._under_way: dict[int, list[Sending]] = {}
        self._number = 0
        self._most = MAX_PER_FRAME
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """Envelopes without an answer."""
        return len(self._waiting) + sum(map(len, self._under_way.values()))

    async def send(self, envelope: bytes, outcomes: bool) -> dict[str, Any]:
        """The receipt. Raises `ApiError`, `OutcomeUnknown`."""
        done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        sending = Sending(envelope, outcomes, self._api.head, done)
        self._waiting.append(sending)
        self._more.set()
        try:
            async with asyncio.timeout(self._patience_s):
                return await done
        except TimeoutError:
            reason = f"no answer in {self._patience_s:g} s"
            if sending.attempts == 0:
                raise ApiError("OPERATOR_UNREACHABLE", f"{reason}; nothing was sent", sent=False) from None
            raise OutcomeUnknown(envelope, reason) from None

    async def next(self) -> bytes:
        """The next frame to write; waits until there is one."""
        while True:
            group = self._group()
            if group:
                self._number += 1
                self._under_way[self._number] = group
                texts = [sending.text for sending in group]
                ask = {"op": "submit", "id": self._number, "envelopes": texts, "outcomes": group[0].outcomes}
                return f.encode(ask)
            self._more.clear()
            await self._more.wait()

    def _group(self) -> list[Sending]:
        """What goes into one frame. Whoever stopped waiting is not sent (again)."""
        group: list[Sending] = []
        chars = 0
        while self._waiting and len(group) < self._most:
            first = self._waiting[0]
            if first.done.done():
                self._waiting.popleft()
                continue
            chars += len(first.text)
            if group and (first.outcomes != group[0].outcomes or chars > _MAX_FRAME_CHARS):
                break
            first.attempts += 1
            group.append(self._waiting.popleft())
        return group

    def lost(self) -> None:
        """The connection ended: what was sent has an unknown fate, and is sent again."""
        for group in reversed(self._under_way.values()):
            for sending in group:
                sending.unknown = True
            self._waiting.extendleft(reversed(group))
        self._under_way.clear()
        if self._waiting:
            self._more.set()

    def answered(self, frame: Frame) -> None:
        """A `results` frame."""
        group = self._taken(frame)
        self._most = min(MAX_PER_FRAME, self._most + 1)
        rows = f.decode_rows(frame.results)
        for sending, row in zip(group, rows, strict=False):
            if "code" not in row:
                self._api.saw(int(row["seq"]))
                _give(sending, row)
            else:
                self._refused(sending, failure(row))
        for sending in group[len(rows) :]:
            _fail(sending, ApiError("BAD_ANSWER", "the operator's answer has too few rows; check the URL"))

    def refused(self, frame: Frame) -> bool:
        """An `error` frame: nothing of what was asked was sent on. False when it is not about envelopes."""
        group = self._taken(frame)
        retry_s = None if frame.retry_after_ms is None else frame.retry_after_ms / 1_000
        if retry_s is not None and group:
            self._most = max(1, len(group) // 2)
        error = ApiError(frame.code, frame.message, 400 if retry_s is None else 503, retry_s, sent=False)
        for sending in group:
            self._refused(sending, error)
        return bool(group)

    def _taken(self, frame: Frame) -> Sequence[Sending]:
        return self._under_way.pop(frame.id, ()) if isinstance(frame.id, int) else ()

    def _refused(self, sending: Sending, error: ApiError) -> None:
        if error.transient:
            sending.unknown = sending.unknown or error.unknown
            self._start(self._later(sending, max(error.retry_after_s or 0.0, pause_s(sending.attempts - 1, 0.05))))
        elif sending.unknown:
            self._start(self._find(sending, error))
        else:
            _fail(sending, error)

    async def _later(self, sending: Sending, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._waiting.append(sending)
        self._more.set()

    async def _find(self, sending: Sending, error: ApiError) -> None:
        try:
            _give(sending, await asearch(self._api, sending.envelope, sending.before + 1, error))
        except ApiError as found:
            if found.transient:
                await self._later(sending, pause_s(sending.attempts - 1, 0.05))
            else:
                _fail(sending, found)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Nothing is sent any more: who waits is told."""
        for task in self._tasks:
            task.cancel()
        self.lost()
        for sending in self._waiting:
            if sending.attempts:
                _fail(sending, OutcomeUnknown(sending.envelope, "the stream was closed"))
            else:
                _fail(sending, ApiError("STREAM_CLOSED", "the stream was closed; nothing was sent", sent=False))
        self._waiting.clear()


def _give(sending: Sending, receipt: dict[str, Any]) -> None:
    if not sending.done.done():
        sending.done.set_result(receipt)


def _fail(sending: Sending, error: ApiError) -> None:
    if not sending.done.done():
        sending.done.set_exception(error)
