# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection for commands: submissions go to the sequencer as they come, results come back as they are committed.

Rules: one thread reads and one writes, so that neither end's pause stops the other direction. What is answered and
not yet taken by the client is bounded: past it the connection is cut, and its commands are in the journal all the
same. Questions run in a pool, so that a slow one delays no receipt.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from clearing.model.errors import NovateError, Refused
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.link import frames as f
from clearing.service.link.answers import Answers
from clearing.service.pipeline import Receipt
from clearing.service.sequencer import Result, Sequencer

MAX_UNREAD_BYTES: Final = 64 << 20
MAX_ASKING: Final = 256
# What a result costs besides its entry: a request of many refusals is not free either.
_RESULT_BYTES: Final = 200
# Answers in one system call: a busy writer resolves many at once.
_TOGETHER: Final = 64


class Wire(Protocol):
    """The connection's frames (clearing.service.link.server.Channel)."""

    def receive(self, limit: int) -> bytes | None: ...

    def send(self, *messages: f.ToClient) -> None: ...

    def end(self) -> None: ...


class _Request:
    """A submission on its way: one result per envelope. The writer's thread fills it in."""

    __slots__ = ("_finish", "_left", "id", "results")

    def __init__(self, number: int, count: int, finish: "Callable[[_Request], None]") -> None:
        self.id = number
        self.results: list[Result] = [_UNANSWERED] * count
        self._left = count
        self._finish = finish

    def waiters(self) -> "list[_Slot]":
        return [_Slot(self, index) for index in range(len(self.results))]

    def resolve(self, index: int, result: Result) -> None:
        self.results[index] = result
        self._left -= 1
        if not self._left:
            self._finish(self)

    @property
    def size_bytes(self) -> int:
        """About what it holds in memory."""
        return sum(_RESULT_BYTES + (len(r.entry) if isinstance(r, Receipt) else 0) for r in self.results)

    def frame(self) -> f.Results:
        heads: list[f.Signed] = []
        seen: dict[int, int] = {}
        rows: list[f.Done | f.Failed] = []
        for result in self.results:
            if isinstance(result, Receipt):
                rows.append(f.Done(result.seq, result.entry, _index(result.checkpoint, heads, seen)))
            else:
                rows.append(f.Failed(result.code, result.message, isinstance(result, Refused)))
        return f.Results(self.id, heads, rows)


_UNANSWERED: Final = NovateError("NODE_HALTED", "the operator stopped before this was answered; retry")


def _index(checkpoint: SignedCheckpoint, heads: list[f.Signed], seen: dict[int, int]) -> int:
    found = seen.get(checkpoint.size)
    if found is None:
        found = seen[checkpoint.size] = len(heads)
        heads.append(f.Signed(*checkpoint))
    return found


class _Slot:
    """Waits for one envelope of a request: what a Future would be, at a tenth of its price."""

    __slots__ = ("_index", "_request")

    def __init__(self, request: _Request, index: int) -> None:
        self._request = request
        self._index = index

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def set_result(self, result: Receipt, /) -> None:
        self._request.resolve(self._index, result)

    def set_exception(self, exception: BaseException, /) -> None:
        error = exception if isinstance(exception, NovateError) else NovateError("NODE_HALTED", str(exception))
        self._request.resolve(self._index, error)


class Commands:
    """One connection, for as long as `run` lasts, which is called on a thread of its own."""

    def __init__(self, wire: Wire, sequencer: Sequencer, answers: Answers, pool: ThreadPoolExecutor) -> None:
        self._wire = wire
        self._sequencer = sequencer
        self._answers = answers
        self._pool = pool
        self._wake = threading.Condition()
        self._ready: list[_Request | f.Answer] = []
        self._unread_bytes = 0
        self._asking = 0
        self._ended = False

    def run(self) -> None:
        """Read until the client is done. Raises `NovateError` for what is no message, OSError."""
        sender = threading.Thread(target=self._send, name="link sender", daemon=True)
        sender.start()
        try:
            while (body := self._next()) is not None:
                self._take(f.to_server(body))
        finally:
            with self._wake:
                self._ended = True
                self._wake.notify()
            sender.join(5.0)

    def _next(self) -> bytes | None:
        while True:
            try:
                return self._wire.receive(f.MAX_REQUEST_BYTES)
            except TimeoutError:
                continue  # an idle client is as good as any

    def _take(self, message: f.ToServer) -> None:
        match message:
            case f.Submit():
                self._submit(message.id, message.envelopes)
            case f.Ask():
                self._ask(message)
            case _:
                raise f.BadFrame(f"a {type(message).__name__} after the Hello")

    def _submit(self, number: int, envelopes: Sequence[bytes]) -> None:
        if not 1 <= len(envelopes) <= f.MAX_SUBMIT:
            raise f.BadFrame(f"a submission of {len(envelopes)} envelopes; it must have 1 to {f.MAX_SUBMIT}")
        request = _Request(number, len(envelopes), self._done)
        self._sequencer.enqueue(envelopes, request.waiters())

    def _ask(self, ask: f.Ask) -> None:
        with self._wake:
            full = self._asking >= MAX_ASKING
            self._asking += not full
        if full:
            text = f"{MAX_ASKING} questions of this connection wait already; retry in a second"
            self._put(f.Answer(ask.id, None, "OVERLOADED", text, True), _RESULT_BYTES)
        else:
            self._pool.submit(self._answer, ask)

    def _answer(self, ask: f.Ask) -> None:
        answer = self._answers.answer(ask)
        size = len(answer.value) if isinstance(answer.value, bytes) else _RESULT_BYTES
        with self._wake:
            self._asking -= 1
        self._put(answer, size)

    def _done(self, request: _Request) -> None:
        """On the writer's thread."""
        self._put(request, request.size_bytes)

    def _put(self, item: _Request | f.Answer, size_bytes: int) -> None:
        with self._wake:
            if self._ended:
                return
            self._unread_bytes += size_bytes
            self._ready.append(item)
            if self._unread_bytes > MAX_UNREAD_BYTES:
                self._ended = True  # it does not read: cut
            self._wake.notify()
        if self._ended:
            self._wire.end()

    def _send(self) -> None:
        """Send what is ready, in the order in which it became so."""
        try:
            while True:
                with self._wake:
                    while not self._ready and not self._ended:
                        self._wake.wait()
                    ready, self._ready, self._unread_bytes = self._ready, [], 0
                if not ready:
                    return
                for at in range(0, len(ready), _TOGETHER):
                    part = ready[at : at + _TOGETHER]
                    self._wire.send(*(item if isinstance(item, f.Answer) else item.frame() for item in part))
        except (OSError, NovateError):
            with self._wake:
                self._ended = True
            self._wire.end()
