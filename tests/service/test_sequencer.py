# SPDX-License-Identifier: GPL-3.0-or-later
"""The writer thread: everybody gets an answer, in order, and only after the commit."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.pipeline import Receipt
from clearing.service.sequencer import Sequencer
from tests.service.world import START_US, World, order


def running(world: World, **choices: Any) -> Sequencer:
    return Sequencer(world.pipeline, lambda: START_US, **choices)


def test_concurrent_submitters_all_get_their_own_receipt(market: World) -> None:
    """Eight threads submit; every receipt names the entry that holds its submitter's bytes."""
    raws = [market.batch("alice", order(coid=n, price=10_000)) for n in range(400)]
    sequencer = running(market, max_batch=64)
    futures: list[Future[Receipt] | None] = [None] * len(raws)

    def submit(start: int) -> None:
        for index in range(start, len(raws), 8):
            futures[index] = sequencer.submit(raws[index])

    threads = [threading.Thread(target=submit, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for raw, future in zip(raws, futures, strict=True):
        assert future is not None
        receipt = future.result(20)
        assert raw in market.store.entry(receipt.seq)
        assert receipt.seq < receipt.checkpoint.size
    sequencer.close()


def test_a_result_is_durable_when_it_is_given(market: World) -> None:
    """At the moment the future resolves the entry can be read from the journal."""
    sequencer = running(market)
    seen: list[bytes] = []
    future = sequencer.submit(market.batch("alice", order()))
    future.add_done_callback(lambda done: seen.append(market.store.entry(done.result().seq)))
    receipt = future.result(20)
    sequencer.close()
    assert seen == [receipt.entry]


def test_close_commits_what_waits_and_refuses_the_rest(market: World) -> None:
    sequencer = running(market, max_batch=1)
    futures = sequencer.submit_many([market.batch("alice", order(coid=n, price=10_000)) for n in range(20)])
    sequencer.close()
    assert all(isinstance(future.result(0), Receipt) for future in futures)
    with pytest.raises(NovateError) as raised:
        sequencer.submit(b"late").result(1)
    assert raised.value.code == "SHUTTING_DOWN"


def test_too_many_waiting_is_refused_at_once(market: World) -> None:
    sequencer = running(market, max_waiting=3)
    with market.pipeline.lock:
        futures = sequencer.submit_many([market.batch("alice", c.CancelAll())] * 4)
        with pytest.raises(NovateError) as raised:
            futures[0].result(1)
    assert raised.value.code == "OVERLOADED"
    sequencer.close()


def test_a_fatal_fault_leaves_nobody_waiting(market: World, monkeypatch: Any) -> None:
    """When the pipeline fails, the batch and everything queued gets NODE_HALTED, and the owner is told."""
    told: list[BaseException] = []

    def fail(*_: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr(market.pipeline, "finish", fail)
    sequencer = running(market, max_batch=1, on_fatal=told.append)
    futures = sequencer.submit_many([b"a", b"b", b"c"])
    for future in futures:
        with pytest.raises(NovateError) as raised:
            future.result(5)
        assert raised.value.code == "NODE_HALTED"
    sequencer.close()
    assert isinstance(told[0], MemoryError)
