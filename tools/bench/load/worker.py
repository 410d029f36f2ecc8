# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of the generator: its connections, and orders that it sends over them as it is told through a pipe.

Rules:
- Closed loop: each connection has `window` frames under way, and sends one when one is answered. Latency counts from
  the sending.
- Open loop: when to send is drawn before the start (a Poisson process), whatever the service does meanwhile. Latency
  counts from the moment that was drawn: a service that stalls, or a generator that is late, is not flattered.
- A frame is one envelope. Its answer must be a receipt: anything else ends the run.
"""

import asyncio
import random
import time
from array import array
from collections import deque
from multiprocessing.connection import Connection as Pipe
from typing import NamedTuple

import msgspec

from tools.bench.load.wire import Connection, WireError, masked

PATIENCE_S = 120.0


class Open(NamedTuple):
    """So many connections; each subscribes to what `asks` say."""

    host: str
    port: int
    sockets: int
    asks: tuple[bytes, ...] = ()


class Load(NamedTuple):
    """Per connection its envelopes, for the next `Go`."""

    lists: list[list[bytes]]


class Go(NamedTuple):
    """Send what is loaded, from `start` on (seconds of the machine's monotonic clock). `rate`: envelopes per second of
    this process; 0 is a closed loop with `window`."""

    start: float
    window: int = 1
    rate: float = 0.0
    seed: int = 0


class Done(NamedTuple):
    """What one process saw. Seconds; `late`: how far behind its own plan it sent."""

    first: float
    last: float
    seqs: "array[int]"
    latencies: "array[float]"
    late: "array[float]"
    told: int


class Failed(NamedTuple):
    """Why it cannot go on."""

    why: str


class _Row(msgspec.Struct):
    seq: int = -1
    code: str = ""
    message: str = ""


class _Results(msgspec.Struct):
    id: int = -1
    type: str = ""
    code: str = ""
    message: str = ""
    results: list[_Row] = []


_decode = msgspec.json.Decoder(_Results).decode


class Worker:
    """On one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections: list[Connection] = []
        self._frames: list[deque[tuple[int, bytes]]] = []
        self._sent: array[float] = array("d")
        self._owner: array[int] = array("i")
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._reset(0)

    def _reset(self, count: int) -> None:
        self._left, self._told = count, 0
        self._seqs, self._latencies, self._late = array("q"), array("d"), array("d")
        self._last = 0.0
        self._closed_loop = False
        self._finished: asyncio.Future[None] = self._loop.create_future()

    async def open(self, ask: Open) -> int:
        """Connect; how many are connected now."""
        for _ in range(ask.sockets):
            made = await Connection.open(ask.host, ask.port, self._take, self._fail)
            if ask.asks:
                made.transport.write(b"".join(map(masked, ask.asks)))
            self._connections.append(made)
        return len(self._connections)

    def load(self, ask: Load) -> int:
        """Make the frames; how many."""
        frames: list[deque[tuple[int, bytes]]] = []
        self._owner = array("i")
        for at, raws in enumerate(ask.lists):
            mine: deque[tuple[int, bytes]] = deque()
            for raw in raws:
                number = len(self._owner)
                text = b'{"op":"submit","id":%d,"envelopes":["0x%s"]}' % (number, raw.hex().encode())
                mine.append((number, masked(text)))
                self._owner.append(at)
            frames.append(mine)
        self._frames, self._sent = frames, array("d", bytes(8 * len(self._owner)))
        self._reset(len(self._owner))
        return len(self._owner)

    async def go(self, ask: Go) -> Done:
        """Send, and wait for every receipt. Raises `WireError`."""
        await asyncio.sleep(max(0.0, ask.start - time.perf_counter()))
        self._closed_loop = not ask.rate
        first = time.perf_counter()
        if self._closed_loop:
            for at in range(len(self._frames)):
                for _ in range(ask.window):
                    self._send_next(at)
            sending = None
        else:
            sending = asyncio.create_task(self._pace(ask))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait({self._finished, self._failed}, return_when=asyncio.FIRST_COMPLETED)
                if self._failed.done():
                    self._failed.result()
        except TimeoutError:
            raise WireError(f"{self._left} envelopes have no answer after {PATIENCE_S:g} s") from None
        finally:
            if sending is not None:
                sending.cancel()
        return Done(first, self._last, self._seqs, self._latencies, self._late, self._told)

    def _send_next(self, at: int) -> None:
        if self._frames[at]:
            number, frame = self._frames[at].popleft()
            self._sent[number] = time.perf_counter()
            self._connections[at].transport.write(frame)

    async def _pace(self, ask: Go) -> None:
        rng, due = random.Random(ask.seed), ask.start
        for turn in range(max(map(len, self._frames))):
            for at, mine in enumerate(self._frames):
                if turn and not mine:
                    continue
                due += rng.expovariate(ask.rate)
                now = time.perf_counter()
                if now < due:
                    await asyncio.sleep(due - now)
                    now = time.perf_counter()
                number, frame = mine.popleft()
                self._sent[number] = due
                self._late.append(max(0.0, now - due))
                self._connections[at].transport.write(frame)

    def _take(self, payload: bytes) -> None:
        self._told += 1
        if not payload.startswith((b'{"type":"results"', b'{"type":"error"')):
            return
        now, found = time.perf_counter(), _decode(payload)
        if found.type != "results":
            self._fail(f"{found.code}: {found.message}")
            return
        (row,) = found.results
        if row.code:
            self._fail(f"{row.code}: {row.message}")
            return
        self._seqs.append(row.seq)
        self._latencies.append(now - self._sent[found.id])
        self._left -= 1
        if self._closed_loop:
            self._send_next(self._owner[found.id])
        if not self._left:
            self._last = now
            self._finished.set_result(None)

    def _fail(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(WireError(why))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


async def _serve(pipe: Pipe) -> None:
    worker, loop = Worker(), asyncio.get_running_loop()
    answer: object
    try:
        # Read in a thread: pings are answered while there is nothing to do.
        while (ask := await loop.run_in_executor(None, pipe.recv)) is not None:
            match ask:
                case Open():
                    answer = await worker.open(ask)
                case Load():
                    answer = worker.load(ask)
                case Go():
                    answer = await worker.go(ask)
                case _:
                    raise WireError(f"a {type(ask).__name__} is nothing to do")
            pipe.send(answer)
    except (WireError, OSError, TimeoutError) as error:
        pipe.send(Failed(f"{type(error).__name__}: {error}"))
    finally:
        worker.close()


def main(pipe: Pipe) -> None:
    """What the process does until it is told None, or its parent is gone."""
    try:
        asyncio.run(_serve(pipe))
    except (EOFError, BrokenPipeError):
        return
