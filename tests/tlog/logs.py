# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals to publish, their signed notes, and a real web server to mirror them from."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from journal import JournalError, Store
from journal.block import batches
from journal.published import signed_by
from proofs.checkpoint import ED25519, Checkpoint, sign, verifier_key
from proofs.errors import ProofError

SEED = sha256(b"the log's key").digest()
PUBLIC = bytes(SigningKey(SEED).verify_key)
ORIGIN = "venue.example/00ff/journal"
KEY = verifier_key(ORIGIN, ED25519, PUBLIC)
CHECK = signed_by(KEY)
LOG_KEY = sha256(b"the private log's key").digest()


def entry(number: int) -> bytes:
    """An entry of its own length and bytes; every 40th is empty."""
    return sha256(b"%d" % number).digest() * (number % 4) + b"%d" % number if number % 40 else b""


class Journal:
    """A journal at `path` that grows by `entry(n)`, except where `other` says that history differs."""

    def __init__(self, path: Path, size: int = 0, fork_at: int | None = None) -> None:
        self.store = Store.create(path, grow_bytes=65_536, reserve_bytes=4_096)
        self.fork_at = fork_at
        self.grow(size)

    def entry(self, number: int) -> bytes:
        return entry(number) + (b"!" if self.fork_at is not None and number >= self.fork_at else b"")

    def grow(self, to: int) -> None:
        first = self.store.head().next_seq
        for part in batches([self.entry(number) for number in range(first, to)]):
            self.store.append(part, self.store.head())

    def note(self, size: int | None = None, seed: bytes = SEED, origin: str = ORIGIN) -> str:
        count = self.store.head().tree_size if size is None else size
        return sign(Checkpoint(origin, count, self.store.root(count)), seed)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a log, except the writer's own."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def code_of(error: Exception) -> str:
    """The stable code that every error of ours has."""
    return str(error.code) if isinstance(error, JournalError | ProofError) else ""


def refused(code: str, action: Any, *arguments: Any, **named: Any) -> JournalError:
    with pytest.raises(JournalError) as caught:
        action(*arguments, **named)
    assert caught.value.code == code, caught.value
    return caught.value


class _Handler(SimpleHTTPRequestHandler):
    """Files, and the faults that the test asks for: `faults` maps a path to the statuses of its next answers."""

    faults: dict[str, list[int]]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        waiting = self.faults.get(self.path)
        if waiting:
            self.send_error(waiting.pop(0))
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Served:
    """Where a folder is served."""

    def __init__(self, url: str, faults: dict[str, list[int]], asked: list[str]) -> None:
        self.url, self.faults, self.asked = url, faults, asked


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Any web server will do: the standard library's."""
    faults: dict[str, list[int]] = {}
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"faults": faults, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_port}", faults, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
