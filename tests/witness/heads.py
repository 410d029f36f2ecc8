# SPDX-License-Identifier: GPL-3.0-or-later
"""A log with two heads, notes that its operator signs of either, and witnesses to show them to."""

import base64
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from starlette.applications import Starlette

from clearing.model.errors import NovateError
from clearing.witness.server import Server, build_app, listen
from clearing.witness.state import State
from clearing.witness.witness import Witness
from proofs import cosignature, log
from proofs.checkpoint import Checkpoint, sign
from tests.tlog.logs import KEY as LOG_KEY
from tests.tlog.logs import ORIGIN
from tests.tlog.logs import PUBLIC as LOG_PUBLIC
from tests.tlog.logs import SEED as LOG_SEED

__all__ = ["LOG_KEY", "LOG_PUBLIC", "LOG_SEED", "ORIGIN"]

LOGS = {ORIGIN: (LOG_PUBLIC,)}
NAME, SEED = "witness.example/w", sha256(b"a witness's key").digest()
PUBLIC = bytes(SigningKey(SEED).verify_key)
KEY = cosignature.verifier_key(NAME, PUBLIC)
NOW = 1_700_000_000


@dataclass(frozen=True)
class Head:
    """One history of the log: leaf hashes."""

    leaves: Sequence[bytes]

    def tip(self, size: int, origin: str = ORIGIN) -> Checkpoint:
        return Checkpoint(origin, size, log.root(self.leaves[:size]))

    def note(self, size: int, seed: bytes = LOG_SEED, origin: str = ORIGIN) -> str:
        return sign(self.tip(size, origin), seed)

    def proof(self, old: int, new: int) -> list[bytes]:
        return log.consistency_proof(old, self.leaves[:new])


def head(size: int, fork_at: int | None = None, word: bytes = b"other") -> Head:
    """`size` leaves, which differ from the plain history from `fork_at` on."""
    return Head([log.leaf_hash(b"%d" % n if fork_at is None or n < fork_at else word + b"%d" % n) for n in range(size)])


def request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of an add-checkpoint request, as C2SP tlog-witness has it."""
    return "".join([f"old {old}\n", *(base64.b64encode(item).decode() + "\n" for item in proof), "\n", note]).encode()


def asked(history: Head, old: int, size: int) -> bytes:
    """An honest request: from `old` to `size` of a history."""
    return request(old, history.proof(old, size), history.note(size))


class Clock:
    """Seconds UTC, as the test says."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def witness(folder: Path, clock: Clock | None = None, told: list[Any] | None = None) -> Iterator[Witness]:
    """A witness on a folder, which is made when there is none."""

    def tell(event: str, **fields: Any) -> None:
        if told is not None:
            told.append((event, fields))

    with State(folder, KEY, new=not folder.exists()) as state:
        yield Witness(NAME, SEED, LOGS, state, clock or Clock(), tell)


@contextlib.contextmanager
def served(one: Witness) -> Iterator[str]:
    """A witness behind its real server; its URL."""
    with served_app(build_app(one)) as url:
        yield url


@contextlib.contextmanager
def served_app(app: Starlette) -> Iterator[str]:
    """Any application behind that server; its URL."""
    server = Server(app, listen("127.0.0.1", 0))
    up = threading.Event()
    thread = threading.Thread(target=server.run, args=(up.set,), daemon=True)
    thread.start()
    assert up.wait(20)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def refused(code: str, action: Any, *arguments: Any, **named: Any) -> NovateError:
    with pytest.raises(NovateError) as caught:
        action(*arguments, **named)
    assert caught.value.code == code, caught.value
    return caught.value
