# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness that is killed again and again, while both heads of many logs ask it for cosignatures at once."""

import contextlib
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

from clearing.witness.state import read_memory
from proofs import cosignature
from proofs.checkpoint import ED25519, Checkpoint, parse, verifier_key
from tests.witness.heads import LOG_PUBLIC, NAME, Head, head, request
from tests.witness.processes import Process

pytestmark = pytest.mark.slow

ROUNDS: Final = 14
LOGS_PER_ROUND: Final = 4
SIZE: Final = 160
# From the second entry on, the two histories differ: every contest is open.
HEADS: Final = (head(SIZE, 1, b"one"), head(SIZE, 1, b"two"))
ROOTS: Final = [[history.tip(size).root for size in range(SIZE + 1)] for history in HEADS]


@dataclass
class Crowd:
    """Threads that ask for both heads of some logs until `stop`; what they got, by origin."""

    process: Process
    origins: list[str]
    seed: float
    got: dict[str, list[Checkpoint]]
    stop: threading.Event = field(default_factory=threading.Event)
    answers: int = 0

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """The threads run within, and end with it whatever happens there."""
        threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(6)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(30)

    def _ask(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        which = number % 2
        known: dict[str, int] = defaultdict(int)
        name, key = cosignature.parse_witness_key(self.process.key)
        with httpx.Client(timeout=5) as http:
            while not self.stop.is_set():
                origin = rng.choice(self.origins)
                old = known[origin]
                size = min(SIZE, old + rng.randrange(1, 4))
                note = HEADS[which].note(size, origin=origin)
                try:
                    body = request(old, HEADS[which].proof(old, size), note)
                    answer = http.post(f"{self.process.url}/add-checkpoint", content=body)
                except httpx.HTTPError:
                    time.sleep(0.005)  # it was killed: its answer, if there was one, has reached nobody
                    continue
                self.answers += 1
                if answer.status_code == 200:
                    cosigned = parse(note + answer.text)
                    assert cosignature.verify(cosigned, name, key) is not None
                    self.got[origin].append(cosigned.checkpoint)  # appending is atomic
                    known[origin] = size
                elif answer.status_code == 409:
                    known[origin] = min(int(answer.content), SIZE - 1)
                else:
                    assert answer.status_code == 422, answer.text


def head_of(tip: Checkpoint) -> int | None:
    """Which history a checkpoint is of; None where they are the same."""
    found = [which for which in (0, 1) if ROOTS[which][tip.size] == tip.root]
    assert found, "the witness cosigned what nobody asked for"
    return found[0] if len(found) == 1 else None


def check(process: Process, got: dict[str, list[Checkpoint]]) -> None:
    """One root per size, one history per log, and a memory that knows of everything that was shown."""
    memory = {known.checkpoint.origin: known.checkpoint for known in read_memory(process.memory).logs}
    for origin, tips in got.items():
        last = memory[origin]
        roots: dict[int, bytes] = {}
        for tip in [*tips, last]:
            assert roots.setdefault(tip.size, tip.root) == tip.root, f"two roots of {tip.size} entries of {origin}"
            assert tip.size <= last.size, f"{origin}: {tip.size} entries were cosigned, and it remembers {last.size}"
        assert len({head_of(tip) for tip in [*tips, last]} - {None}) <= 1, f"both heads of {origin} were cosigned"


def test_a_killed_witness_never_cosigns_two_histories(tmp_path: Path, rng: random.Random) -> None:
    """kill -9 at any moment, many times: whatever was shown to anybody is remembered, nothing contradicts it later,
    and the memory always reads."""
    origins = [f"venue.example/{number}/journal" for number in range(ROUNDS * LOGS_PER_ROUND)]
    keys = [verifier_key(origin, ED25519, LOG_PUBLIC) for origin in origins]
    got: dict[str, list[Checkpoint]] = {origin: [] for origin in origins}
    process = Process(tmp_path / "w", NAME, *keys)
    answers = contested = 0
    with process:
        for round_ in range(ROUNDS):
            # New logs, whose first checkpoint is open, beside those of the round before, which the kill interrupted.
            first = max(0, round_ - 1) * LOGS_PER_ROUND
            crowd = Crowd(process, origins[first : (round_ + 1) * LOGS_PER_ROUND], rng.random(), got)
            with crowd.asking():
                time.sleep(rng.uniform(0.02, 0.4))
                assert process.stop(signal.SIGKILL) == -signal.SIGKILL
                check(process, {origin: tips for origin, tips in got.items() if tips})
                process.start()
                time.sleep(0.15)
            check(process, {origin: tips for origin, tips in got.items() if tips})
            answers += crowd.answers
        assert process.stop() == 0
    heads = [head_of(tips[-1]) for tips in got.values() if tips]
    contested = sum(which is not None for which in heads)
    assert answers > 20 * ROUNDS
    assert contested > ROUNDS  # most logs did take a side
    assert {0, 1} <= set(heads)  # and not always the same


def test_two_witnesses_cannot_share_a_memory(tmp_path: Path) -> None:
    """A second process on the same folder ends with WITNESS_LOCKED, and the first goes on."""
    history = Head(HEADS[0].leaves)
    key = verifier_key("venue.example/0/journal", ED25519, LOG_PUBLIC)
    with Process(tmp_path / "w", NAME, key) as process:
        url = process.url
        second = Process(tmp_path / "w", NAME, key)
        with pytest.raises(AssertionError, match="WITNESS_LOCKED"):
            second.start()
        note = history.note(3, origin="venue.example/0/journal")
        assert httpx.post(f"{url}/add-checkpoint", content=request(0, [], note)).status_code == 200
