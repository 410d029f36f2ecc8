# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue for tests of the link: a data directory with funded members, a sequencer's process over it, and raw sockets.

Rules: real processes, a real journal, real signatures. A `World` makes the directory and signs; it holds the journal
only until a writer's process takes over.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.core.snapshot import dump
from clearing.model import ids
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.link import frames as f
from clearing.service.link.unix import address
from clearing.service.node import Node
from clearing.service.recover import open_store, read_genesis, recover
from journal import Store
from tests.service.world import MAP_BYTES, World, make_data_dir, order

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


def make_venue(path: Path) -> World:
    """A data directory with two funded members; its journal is free for another process."""
    make_data_dir(path)
    world = World(path)
    world.open()
    world.close()
    return world


class Writer:
    """The sequencer's process of a data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        command = [sys.executable, "-m", "tests.api.sequencer", str(path)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A sequencer's process, gone at the end."""
    writer = Writer(path)
    try:
        yield writer
    finally:
        if writer.process.poll() is None:
            writer.kill()


# A journal is opened once per process: a node's, or the first follower's.
_OPEN: dict[Path, Store] = {}


@contextmanager
def journal(path: Path) -> Iterator[Store]:
    """The journal of a data directory for reading, shared with whoever of this process has it open."""
    if path in _OPEN:
        yield _OPEN[path]
        return
    with open_store(Layout(path), MAP_BYTES, read_only=True) as store:
        _OPEN[path] = store
        try:
            yield store
        finally:
            del _OPEN[path]


@contextmanager
def node_of(path: Path) -> Iterator[Node]:
    """A node in this process, for tests that look into it."""
    node = Node(path)
    _OPEN[path] = node.store
    try:
        yield node
    finally:
        del _OPEN[path]
        node.close()


@asynccontextmanager
async def linked(path: Path, **choices: Any) -> AsyncIterator[Link]:
    """A link that is connected."""
    link = Link(Layout(path).link, **choices)
    await link.start()
    try:
        assert await link.wait_connected(PATIENCE_S)
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[Replica]:
    """A replica that follows."""
    layout = Layout(path)
    with journal(path) as store:
        replica = Replica(store, EpochBook(layout, read_genesis(store)), layout.link)
        await replica.start()
        try:
            yield replica
        finally:
            await replica.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; a test that waits for what never comes fails."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def run(body: Coroutine[Any, Any, None]) -> None:
    """A test's own event loop."""
    asyncio.run(body)


Step = Callable[[], Awaitable[None]]


def trades(world: World, first: int, count: int) -> list[bytes]:
    """`count` resting buys, each taken by a sale, from client order id `first` on."""
    raws = []
    for coid in range(first, first + count):
        raws.append(world.batch("alice", order(coid=coid, size=2)))
        raws.append(world.batch("bob", order(ids.SELL, size=2, coid=coid)))
    return raws


def state_on_disk(path: Path) -> bytes:
    """The state that the journal gives, recovered as a restart would. Nobody else may hold the journal."""
    layout = Layout(path)
    with open_store(layout, MAP_BYTES) as store:
        return dump(recover(store, layout).reducer.state)


class Raw:
    """A plain socket on the link: what anybody could send."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        with address(Layout(path).link) as name:
            self.sock.connect(name)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, *messages: f.ToServer) -> None:
        self.sock.sendall(b"".join(map(f.encode, messages)))

    def receive(self) -> f.ToClient | None:
        """The next message; None at the end."""
        header = self._file.read(f.HEADER.size)
        if len(header) < f.HEADER.size:
            return None
        return f.to_client(self._file.read(f.length(header, f.MAX_ANSWER_BYTES)))
