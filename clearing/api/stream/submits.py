# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of streams, on their way to the sequencer and back.

Rules:
- What comes in one turn of the loop, of all connections, goes over the link together, in the order of arrival; so a
  connection's envelopes are sequenced in the order of its frames. Each frame has an answer of its own.
- An answer that is lost is not the end of a command: SEQUENCER_UNREACHABLE means that the same bytes may be sent again.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from clearing.api.context import Context
from clearing.api.http.shown import shown
from clearing.api.messages import frames as f
from clearing.api.messages.commands import Failure, Rejection
from clearing.api.stream.protocol import framed
from clearing.api.stream.topics import encode
from clearing.model.errors import NovateError
from clearing.model.outcomes import Rejected
from clearing.service import views
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.pipeline import Receipt

MOST_TOGETHER: Final = 1_000
INTERNAL: Final = NovateError("INTERNAL", "the operator failed on this; its log says why. The outcome is not known")


class Job(NamedTuple):
    """A frame's envelopes; `done` gets the frame that answers."""

    id: f.Id
    raws: Sequence[bytes]
    outcomes: bool
    done: Callable[[bytes], None]


class _Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """clearing.api.messages.frames.StreamReceipt with a head that is encoded already: many share it."""

    seq: int
    time_us: int
    entry_hash: str
    rejected: list[Rejection]
    checkpoint: msgspec.Raw
    outcomes: Any = None


class _Results(msgspec.Struct, frozen=True, tag_field="type", tag="results"):
    id: f.Id
    results: list[_Row | Failure]
    seq: int | None


class Submits:
    """One per application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._head: tuple[SignedCheckpoint, msgspec.Raw] | None = None

    def add(self, job: Job) -> None:
        """Send a frame's envelopes with what else comes now."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(job)

    async def drain(self, timeout_s: float) -> None:
        """Wait for answers that are under way, for a time."""
        await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        group: list[Job] = []
        count = 0
        for job in waiting:
            if group and count + len(job.raws) > MOST_TOGETHER:
                self._start(group)
                group, count = [], 0
            group.append(job)
            count += len(job.raws)
        self._start(group)

    def _start(self, group: list[Job]) -> None:
        task = asyncio.create_task(self._run(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, group: list[Job]) -> None:
        raws = [raw for job in group for raw in job.raws]
        results: Sequence[Receipt | NovateError]
        try:
            results = await self._context.link.submit(raws)
        except NovateError as error:
            results = [error] * len(raws)
        except Exception as error:  # noqa: BLE001 - who submitted gets an answer, never silence
            self._context.report("stream submit", error)
            results = [INTERNAL] * len(raws)
        at = 0
        for job in group:
            job.done(self._answer(job, results[at : at + len(job.raws)]))
            at += len(job.raws)

    def _answer(self, job: Job, results: Sequence[Receipt | NovateError]) -> bytes:
        rows = [self._row(result, job.outcomes) for result in results]
        seq = max((result.seq for result in results if isinstance(result, Receipt)), default=None)
        return framed(encode(_Results(job.id, rows, seq)))

    def _row(self, result: Receipt | NovateError, outcomes: bool) -> _Row | Failure:
        if isinstance(result, NovateError):
            return Failure(result.code, result.message)
        rejected = [Rejection("Rejected", o.index, o.code) for o in result.outcomes if isinstance(o, Rejected)]
        told = shown(views.plain(result.outcomes)) if outcomes else None
        entry_hash = "0x" + result.entry_hash.hex()
        return _Row(result.seq, result.time_us, entry_hash, rejected, self._raw(result.checkpoint), told)

    def _raw(self, head: SignedCheckpoint) -> msgspec.Raw:
        if self._head is None or self._head[0] is not head:
            told = {"size": head.size, "root": "0x" + head.root.hex(), "note": head.note}
            self._head = head, msgspec.Raw(encode(told))
        return self._head[1]
