# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at random points of a writer under load.

After every kill: each acknowledged block is there with the hash that was acknowledged, each block is one
that the writer meant to write, whole, at most one block is there that was not acknowledged, the tree
covers exactly the entries, and the next writer starts without help.
"""

import random
import signal
from pathlib import Path

import msgspec
import pytest

from journal.block import Block
from journal.errors import FatalJournalError
from journal.fsck import Checker
from journal.head import Head
from journal.store import Store
from tests.journal import forked


def planned(generation: int, number: int, first_seq: int) -> list[bytes]:
    """The entries of block `number` of a writer: known to both sides, never the same twice."""
    rng = random.Random(generation * 1_000_003 + number)
    count = rng.choice((1, 1, 2, 5, 30))
    return [
        b"%d/%d/%d:" % (generation, number, first_seq + i) + rng.randbytes(rng.randint(0, 300)) for i in range(count)
    ]


def write_until_killed(path: Path, generation: int, send: forked.Send) -> None:
    store = Store.open(path, grow_bytes=1 << 20, reserve_bytes=0)
    head = store.head()
    send([head.next_seq, head.block_hash])
    for number in range(1_000_000):
        head = store.append(planned(generation, number, head.next_seq), head)
        send([head.next_seq, head.block_hash])
    raise FatalJournalError("TEST", "nobody killed this writer")


def check_tail(path: Path, generation: int, acknowledged: list[tuple[int, bytes]], before: Head) -> Head:
    """What a killed writer left, read from where its predecessor ended; returns the head."""
    with Store.open(path, read_only=True) as store:
        head = store.head()
        written: list[Block] = list(store.read(before.next_seq))
        assert store.root(before.tree_size) == before.tree_root
    if written and acknowledged:
        assert acknowledged[0] == (before.next_seq, before.block_hash)
    # The first message only says where the writer started.
    acks = acknowledged[1:]
    assert len(acks) <= len(written) <= len(acks) + 1, "an acknowledged block is lost, or a stray one there"
    for number, block in enumerate(written):
        assert block.entries == planned(generation, number, block.first_seq)
        if number < len(acks):
            assert acks[number] == (block.next_seq, block.hash)
    end = (written[-1].next_seq, written[-1].hash) if written else (before.next_seq, before.block_hash)
    assert (head.next_seq, head.block_hash) == end
    assert head.tree_size == head.next_seq
    return head


def kill_writers(path: Path, kills: int, rng: random.Random, checker: Checker) -> tuple[int, int]:
    """Kill `kills` writers in turn; returns how many got as far as a commit, and the blocks written."""
    with Store.create(path, grow_bytes=1 << 20, reserve_bytes=0) as store:
        head = store.head()
    committed = 0
    for generation in range(kills):

        def writer(send: forked.Send, generation: int = generation) -> None:
            write_until_killed(path, generation, send)

        status, sent = forked.run(writer, kill_after_s=rng.uniform(0.001, 0.015))
        assert status == -signal.SIGKILL
        acknowledged = msgspec.convert(sent, list[tuple[int, bytes]])
        committed += len(acknowledged) > 1
        head = check_tail(path, generation, acknowledged, head)
        if generation % 100 == 99:
            report = checker.check(path)
            assert report.ok and report.entries == head.next_seq, report
    report = checker.check(path)
    assert report.ok and (report.entries, report.root) == (head.next_seq, head.tree_root.hex()), report
    return committed, report.blocks


@pytest.mark.parametrize("kills", [50, pytest.param(5_000, marks=pytest.mark.slow)])
def test_kill_9_loses_nothing(tmp_path: Path, checker: Checker, rng: random.Random, kills: int) -> None:
    """Hundreds of writers, each killed 1 to 15 ms after its fork, continue one journal."""
    committed, blocks = kill_writers(tmp_path / "j", kills, rng, checker)
    print(f"{committed} of {kills} writers committed before they were killed, {blocks} blocks in all")
    assert committed > kills // 50, "the kills came too early to show anything"
