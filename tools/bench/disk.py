# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal and the acknowledgement, against what the disk itself takes for the same bytes."""

import os
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import lmdb

from clearing.service.pipeline import Receipt
from clearing.service.sequencer import Sequencer
from journal import Store
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, at_most, median, percentile, quotients, seconds, unmeasured
from tools.bench.node import node

ENTRY_BYTES = 200
GROUP = 1_000
ORDERS_PER_SECOND = 2_000
RAW_FLOOR_US = 50


class _RawFile:
    """A preallocated file that is written to and synced, and nothing else."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(self._fd, 0, size_bytes)
        os.fsync(self._fd)
        self._at = 0

    def write(self, data: bytes) -> None:
        os.pwrite(self._fd, data, self._at)
        os.fdatasync(self._fd)
        self._at += len(data)

    def close(self) -> None:
        os.close(self._fd)


class _BareLmdb:
    """One transaction with one value in an environment like the journal's: what LMDB itself takes."""

    def __init__(self, path: Path) -> None:
        self._env = lmdb.open(os.fspath(path), map_size=1 << 32, writemap=False)
        self._next = 0

    def put(self, data: bytes) -> None:
        with self._env.begin(write=True) as txn:
            txn.put(self._next.to_bytes(8, "big"), data, append=True)
        self._next += 1

    def close(self) -> None:
        self._env.close()


def append(plan: Plan) -> list[Figure]:
    """Groups of 1,000 entries: the whole append, and LMDB's part of it, against pwrite + fdatasync."""
    rng = random.Random(7)
    turns = plan.size(40, 5)
    group = [rng.randbytes(ENTRY_BYTES) for _ in range(GROUP)]
    together = b"".join(group)
    ours, bare, raw = [], [], []
    with tempfile.TemporaryDirectory(dir=plan.folder) as name, Store.create(Path(name) / "journal") as store:
        file = _RawFile(Path(name) / "raw", len(together) * (turns + 1))
        database = _BareLmdb(Path(name) / "lmdb")
        store.append(group, store.head())
        for _ in range(turns):
            raw.append(seconds(lambda: file.write(together)))
            ours.append(seconds(lambda: store.append(group, store.head())))
            bare.append(seconds(lambda: database.put(together)))
        file.close()
        database.close()
    other = f"{median(raw) * 1e3:.2f} ms"
    return [
        at_least(
            "group of 1,000 appends / raw pwrite + fdatasync",
            "groups per second",
            0.3,
            quotients(raw, ours),
            f"{median(ours) * 1e3:.2f} ms",
            other,
            f"beyond LMDB's part: {(median(ours) - median(bare)) * 1e3:.2f} ms for 2,000 hashes, the block, the tiles",
        ),
        at_least(
            "LMDB's part of it alone / raw pwrite + fdatasync",
            "groups per second",
            0.3,
            quotients(raw, bare),
            f"{median(bare) * 1e3:.2f} ms",
            other,
        ),
    ]


def _paced(sequencer: Sequencer, raw: Sequence[bytes]) -> list[float]:
    """Seconds from each order's due time to its receipt at 2,000 a second: a late start counts as waiting."""
    latencies = [0.0] * len(raw)
    left = threading.Semaphore(0)
    begin = time.perf_counter() + 0.01

    def acknowledge(future: "Future[Receipt]", index: int, due: float) -> None:
        latencies[index] = time.perf_counter() - due
        future.result()
        left.release()

    for index, data in enumerate(raw):
        due = begin + index / ORDERS_PER_SECOND
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        sequencer.submit(data).add_done_callback(lambda f, i=index, d=due: acknowledge(f, i, d))  # type: ignore[misc]
    for _ in raw:
        left.acquire()
    return latencies


def _syncs(folder: Path, count: int) -> list[float]:
    """Seconds of single fdatasyncs, each after a write of the size of one small block."""
    data, spent = bytes(4_096), []
    file = _RawFile(folder / "syncs", len(data) * count)
    for _ in range(count):
        start = time.perf_counter()
        file.write(data)
        spent.append(time.perf_counter() - start)
    file.close()
    return spent


def latency(plan: Plan) -> list[Figure]:
    each = plan.size(ORDERS_PER_SECOND * 2)
    raw = w.signed(w.bodies(w.order_stream(each * plan.rounds, 200)))
    ours: dict[int, list[float]] = {50: [], 99: []}
    disk: dict[int, list[float]] = {50: [], 99: []}
    with node(plan.folder, 200, 2) as pipeline, tempfile.TemporaryDirectory(dir=plan.folder) as name:
        sequencer = Sequencer(pipeline, lambda: w.NOW)
        for turn in range(plan.rounds):
            syncs = _syncs(Path(name), plan.size(300))
            acknowledged = _paced(sequencer, raw[turn * each : (turn + 1) * each])
            for percent in (50, 99):
                ours[percent].append(percentile(acknowledged, percent) * 1e6)
                disk[percent].append(percentile(syncs, percent) * 1e6)
        sequencer.close()
    figures = []
    for percent, goal in ((50, 3.0), (99, 6.0)):
        title = f"ack latency p{percent} at 2,000 orders/s / raw fdatasync p{percent}"
        figures.append(_latency_row(title, goal, ours[percent], disk[percent], median(disk[50])))
    return figures


def _latency_row(name: str, goal: float, ours: list[float], disk: list[float], raw_p50: float) -> Figure:
    shown = (f"{median(ours):,.0f} us", f"{median(disk):,.0f} us")
    if raw_p50 < RAW_FLOOR_US:
        remark = f"not measured: this disk's fdatasync takes under {RAW_FLOOR_US} us, so it is not a disk"
        return unmeasured(name, "microseconds", goal, *shown, remark)
    return at_most(name, "microseconds", goal, quotients(ours, disk), *shown)
