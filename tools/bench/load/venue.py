# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator under load, and what stands around it: idle connections, a reader, workers, and the journal after it.

Rules:
- The operator is a process that anybody would start: the sequencer with the public interface beside it. Its directory
  differs from a default one in the limits per key, address and connection, which are raised (`RAISED`): the limit of
  the service is measured, and not the one that it sets to a single member.
- Everything is ended that was started, also after a fault.
"""

import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, NamedTuple

from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import decode_entry, decode_envelope
from clearing.service.config import ApiConfig
from clearing.service.layout import Layout
from clearing.service.recover import open_store
from tools.bench import workload as w
from tools.bench.link import MAP_BYTES
from tools.bench.load import worker
from tools.bench.load.wire import WireError

HOST = "127.0.0.1"
RAISED = ApiConfig(
    reads_per_second=1_000_000,
    reads_burst=10_000_000,
    commands_per_second=1_000_000,
    commands_burst=10_000_000,
    max_streams_per_address=10_000,
)
PATIENCE_S = 180.0
_OF_INSTRUMENT = ("book", "trades", "ticker", "mark", "funding")
_OF_VENUE = ("instruments", "epochs", "checkpoint", "status")


def allow_files(wanted: int) -> None:
    """Let this process and those that it starts have so many files open, as far as they may be allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def asks(accounts: int) -> tuple[bytes, ...]:
    """Frames that subscribe to every channel, and to the first so many members' accounts."""
    places: list[dict[str, Any]] = [{"channel": name, "instrument": 1} for name in _OF_INSTRUMENT]
    places += [{"channel": name} for name in _OF_VENUE]
    places += [{"channel": "account", "account": w.account_number(member)} for member in range(accounts)]
    return tuple(json.dumps({"op": "subscribe", "id": number} | place).encode() for number, place in enumerate(places))


@contextmanager
def operating(folder: Path) -> Iterator[int]:
    """An operator of a data directory, serving; its port. Raises `WireError` when it does not serve or fails."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "clearing.service.node", str(folder), str(port_file)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise WireError(f"the operator of {folder} does not serve; its log says why")
                time.sleep(0.02)
            yield int(port_file.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE_S)
    if code:
        raise WireError(f"the operator ended with status {code}; its log says why")


class Worker:
    """A worker's process, as its parent sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, ask: object) -> None:
        self._pipe.send(ask)

    def answer(self) -> Any:
        """What it says to the last `tell`. Raises `WireError`."""
        if not self._pipe.poll(PATIENCE_S):
            raise WireError("a worker says nothing")
        try:
            found = self._pipe.recv()
        except EOFError:
            raise WireError("a worker died") from None
        if isinstance(found, worker.Failed):
            raise WireError(found.why)
        return found

    def ask(self, ask: object) -> Any:
        """Tell, and wait for the answer."""
        self.tell(ask)
        return self.answer()

    def close(self) -> None:
        """End it, and wait for that."""
        with suppress(OSError):
            self._pipe.send(None)
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._pipe.close()


def _work(pipe: Pipe) -> None:
    worker.main(pipe)


class Size(NamedTuple):
    """How many processes and connections; `window`: frames of a connection under way in a closed loop; `accounts`:
    that the reader, and the one that never reads, are subscribed to."""

    workers: int = 2
    connections: int = 100
    idle: int = 1_000
    window: int = 4
    accounts: int = 20


class Fleet:
    """Everything that is connected to one operator."""

    def __init__(self, port: int, size: Size) -> None:
        self.port = port
        self.size = size
        self._stack = ExitStack()
        try:
            others = self._worker()
            others.ask(worker.Open(HOST, port, size.idle))
            others.ask(worker.Open(HOST, port, 1, asks(min(size.accounts, size.connections))))
            self._workers = [self._worker() for _ in range(size.workers)]
            for number, one in enumerate(self._workers):
                one.tell(worker.Open(HOST, port, len(range(number, size.connections, size.workers))))
            self._answers()
        except BaseException:
            self.close()
            raise

    def _worker(self) -> Worker:
        made = Worker()
        self._stack.callback(made.close)
        return made

    def _answers(self) -> list[Any]:
        return [one.answer() for one in self._workers]

    def run(self, lists: list[list[bytes]], rate: float = 0.0, seed: int = 0) -> list[worker.Done]:
        """Send each connection's envelopes, in a closed loop or at so many envelopes per second together."""
        count = len(self._workers)
        for number, one in enumerate(self._workers):
            one.tell(worker.Load(lists[number::count]))
        self._answers()
        start = time.perf_counter() + 0.2
        for number, one in enumerate(self._workers):
            one.tell(worker.Go(start, self.size.window, rate / count, seed * count + number))
        return self._answers()

    def close(self) -> None:
        """End every process."""
        self._stack.close()


class Journalled(NamedTuple):
    """What the journal holds of members: entries, and what came of orders."""

    seqs: list[int]
    placed: int
    taken: int
    cancelled: int
    rejected: Counter[str]


def journalled(folder: Path, from_seq: int) -> Journalled:
    """From an entry on. Nobody may have the directory open for writing in this process."""
    seqs: list[int] = []
    placed = cancelled = 0
    rejected: Counter[str] = Counter()
    takers: set[int] = set()
    with open_store(Layout(folder), MAP_BYTES, read_only=True) as store:
        for block in store.read(from_seq):
            for raw in block.entries:
                entry = decode_entry(raw)
                if entry.seq < from_seq or not isinstance(decode_envelope(entry.envelope)[1], c.MemberBatch):
                    continue
                seqs.append(entry.seq)
                placed += sum(isinstance(outcome, o.OrderPlaced) for outcome in entry.outcomes)
                cancelled += sum(isinstance(outcome, o.OrderCancelled) for outcome in entry.outcomes)
                rejected.update(outcome.code for outcome in entry.outcomes if isinstance(outcome, o.Rejected))
                takers.update(out.taker_order_id for out in entry.outcomes if isinstance(out, o.TradeNovated))
    return Journalled(seqs, placed, len(takers), cancelled, rejected)


def next_seq(folder: Path) -> int:
    """Where the journal ends."""
    with open_store(Layout(folder), MAP_BYTES, read_only=True) as store:
        return store.head().next_seq
