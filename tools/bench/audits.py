# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor: commands per second with and without signatures, in one process and side by side, memory, and what
100 million commands would take.

Rules:
- The journal is whole, from genesis on: deposits, keys, prices, orders, epochs, as the service writes it, and read as
  anyone has it: published, every bundle checked against the signed root. The book stays as large as it is at the
  start, so that what grows with the journal is the journal alone.
- An event is a command. At one command per signature each is an entry of its own; at 20, an entry has 20.
- Each run is a process of its own (`python -m tools.bench.audits JOURNAL JOBS SIGNATURES`), which says what it used.
- The slope is a straight line through several lengths of one kind of journal (least squares over the medians), so that
  starting costs nothing; hours for 100 million events are that slope times 100 million, and only as good as the line.
- Memory is the peak resident size of the process that holds the state, at the shortest and the longest journal, four
  times as long; it may not grow by more than a tenth.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from clearing.audit.pieces.ranges import Plan as Replaying
from clearing.audit.pieces.ranges import run
from clearing.audit.pieces.starts import keeper
from clearing.audit.source import LogSource
from clearing.core.reducer import Reducer
from clearing.model import commands as c
from clearing.model import ids, signature
from clearing.model.ids import MAX_TIME_US
from clearing.service.pipeline import Receipt
from journal.folder import directory
from journal.published import PublishedLog, unsigned
from journal.tiles import publish
from proofs import checkpoint as notes
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_most, median, unmeasured
from tools.bench.node import batches, node

MEMBERS = 200
LIVE = 2_000
EPOCHS = 8
HUNDRED_MILLION = 100_000_000
ORIGIN = "bench.invalid/journal"
_CASH = 10**12


class Cost(NamedTuple):
    """One audit: seconds of wall time and of processors' time, entries, and the peak resident size (MiB) of the process
    that holds the state."""

    seconds: float
    cpu_s: float
    entries: int
    peak_mib: float


def steady_stream(count: int, seed: int = 11) -> Iterator[w.Step]:
    """Limit orders around the mid, one in six crossing; beyond LIVE the oldest is cancelled for each new one."""
    rng = random.Random(seed)
    live: list[tuple[int, int]] = []
    for number in range(1, count + 1):
        if len(live) > LIVE:
            member, order = live.pop(0)
            yield w.Step(member, c.CancelOrder(order))
            continue
        member, side = rng.randrange(MEMBERS), rng.randrange(2)
        distance = 5 + rng.randrange(60) if rng.random() < 5 / 6 else -rng.randrange(20)
        price = w.MID - distance if side == ids.BUY else w.MID + distance
        yield w.Step(member, c.PlaceOrder(1, side, price, 1 + rng.randrange(5), number))
        live.append((member, number))


def opening() -> list[bytes]:
    """Genesis, a deposit and a session key for everyone, a price."""
    raw = [signature.sign(w.genesis(), w.OPERATOR)]
    wallets = [w.member_seed(member) for member in range(MEMBERS)]
    owners = [_address(key) for key in wallets]
    for member, owner in enumerate(owners):
        deposit = c.ConsumeInbox(0, member, ids.INBOX_DEPOSIT, owner, 0, _CASH, w.NOW // 1_000_000, bytes(32))
        raw.append(_operator(member + 1, deposit))
    for member, owner in enumerate(owners):
        action = c.RegisterKey(owner, w.key_of(member, True), ids.SCOPE_ALL, MAX_TIME_US, 1, bytes(32))
        raw.append(signature.sign_owner(w.DEPLOYMENT, action, wallets[member]))
    price = c.OracleUpdate(w.DEPLOYMENT, 0, bytes(32), w.NOW, (c.Price(1, w.MID, 1),))
    return [*raw, signature.sign(price, w.PUBLISHER)]


def _address(key: bytes) -> bytes:
    from clearing.chain.wallet import Wallet

    return Wallet(key).address


def _operator(nonce: int, command: c.OperatorCommand) -> bytes:
    return signature.sign(c.OperatorBatch(w.DEPLOYMENT, nonce, (command,)), w.OPERATOR)


def commands(count: int, per_signature: int) -> Iterator[list[bytes]]:
    """The journal's envelopes in groups; each group but the first ends with an epoch."""
    yield opening()
    signed = w.signed(w.bodies(list(steady_stream(count)), per_signature))
    step = -(-len(signed) // EPOCHS)
    for epoch, at in enumerate(range(0, len(signed), step), 1):
        close = c.CloseEpoch(epoch, ((epoch, bytes(32)),))
        yield [*signed[at : at + step], _operator(MEMBERS + 1 + epoch, close)]


@contextmanager
def recorded(plan: Plan, count: int, per_signature: int) -> Iterator[Path]:
    """A published journal of so many commands, with snapshots beside it, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="audit-", dir=plan.folder) as name:
        folder = Path(name)
        with node(folder, MEMBERS, 2, Reducer(w.genesis())) as pipeline:
            for group in commands(count, per_signature):
                for some in batches(group):
                    results = pipeline.finish(pipeline.begin(some), w.NOW)
                    refused = [result for result in results if not isinstance(result, Receipt)]
                    assert not refused, refused[:3]
            store = pipeline.committer.store
            tip = notes.Checkpoint(ORIGIN, store.head().tree_size, store.root())
            publish(store, folder / "log", notes.sign(tip, w.OPERATOR))
        report = run(_source(folder), Replaying(1, False, on_epoch=keeper(folder / "snapshots", 1)))
        assert report.ok, report.divergence
        yield folder


def _source(folder: Path) -> LogSource:
    return LogSource(partial(_opened, folder / "log"))


def _opened(folder: Path) -> PublishedLog:
    log = PublishedLog(directory(folder), unsigned)
    log.checkpoint()
    return log


def measured(folder: Path, jobs: int, signatures: bool) -> Cost:
    """One audit in a process of its own."""
    command = [sys.executable, "-m", "tools.bench.audits", str(folder), str(jobs), str(int(signatures))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."})
    return Cost(*json.loads(done.stdout))


def _child(folder: Path, jobs: int, signatures: bool) -> Cost:
    plan = Replaying(jobs, signatures, folder / "snapshots" if jobs > 1 else None, least=1_000)
    started = time.perf_counter()
    report = run(_source(folder), plan)
    spent = time.perf_counter() - started
    assert report.ok and not report.notes, (report.divergence, report.notes)
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return Cost(spent, cpu_s, report.entries, _peak_mib())


def _peak_mib() -> float:
    """Of this process since it began. Not `ru_maxrss`, which an exec inherits from the process that started it: here
    the one that built the journal."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def lengths(plan: Plan, sizes: list[int], per_signature: int, ways: list[tuple[int, bool]]) -> list[list[Cost]]:
    """Per way (jobs, signatures): the median of the rounds at each size. Turn by turn, so that a noisy machine slows
    all ways alike."""
    found: list[list[Cost]] = [[] for _ in ways]
    for size in sizes:
        with recorded(plan, size, per_signature) as folder:
            rounds = [[measured(folder, *way) for way in ways] for _ in range(plan.rounds)]
        for at, runs in enumerate(zip(*rounds, strict=True)):
            middle = [median([float(run[part]) for run in runs]) for part in (0, 1, 3)]
            found[at].append(Cost(middle[0], middle[1], runs[0].entries, middle[2]))
    return found


def audits(plan: Plan) -> list[Figure]:
    """Rows for 1 and 20 commands per signature; the goal is 100 million in an hour."""
    figures = []
    ways = [(1, False), (1, True), (2, False), (2, True)]
    for per_signature, full in ((1, 40_000), (20, 400_000)):
        size = plan.size(full, 4_000)
        sizes = [size // 4, size // 2, size]
        for way, costs in zip(ways, lengths(plan, sizes, per_signature, ways), strict=True):
            figures.append(_speed(way, 1 / per_signature, sizes, costs))
            if way == (1, True):
                figures.append(_memory(per_signature, sizes, costs))
    return figures


def _slope(sizes: list[int], values: list[float]) -> float:
    """Of the straight line through these points, by least squares."""
    x, y = sum(sizes) / len(sizes), sum(values) / len(values)
    across = sum((one - x) * (other - y) for one, other in zip(sizes, values, strict=True))
    return across / sum((one - x) ** 2 for one in sizes)


def _speed(way: tuple[int, bool], per_event: float, sizes: list[int], costs: list[Cost]) -> Figure:
    jobs, signatures = way
    spent = _slope(sizes, [cost.seconds for cost in costs])
    cpu_us = _slope(sizes, [cost.cpu_s for cost in costs]) * 1e6
    how = f"{per_event:g} signatures per event" if signatures else f"signatures not checked ({per_event:g} per event)"
    name = f"audit of 100M events, {how}, {jobs} job{'s' * (jobs > 1)}"
    told = ", ".join(f"{size:,} in {cost.seconds:.2f} s" for size, cost in zip(sizes, costs, strict=True))
    remark = (
        f"slope over {told} ({costs[-1].entries:,} entries in the last); {cpu_us:.1f} us of processor time per event, "
        f"so {cpu_us / 36 / 2:.2f} h if two cores did nothing else"
    )
    if spent <= 0:  # so short that noise is larger
        return unmeasured(name, "hours", 1.0, "-", "-", f"not measured: no {remark}")
    hours = spent * HUNDRED_MILLION / 3_600
    figure = at_most(name, "hours", 1.0, [hours], f"{1 / spent:,.0f} events/s", f"{hours:.2f} h, extrapolated", remark)
    figure.points = [(float(size), cost.seconds) for size, cost in zip(sizes, costs, strict=True)]
    return figure


def _memory(per_signature: int, sizes: list[int], costs: list[Cost]) -> Figure:
    small, large = costs[0].peak_mib, costs[-1].peak_mib
    name = f"memory of an audit, journal {sizes[-1] // sizes[0]} times as long, {per_signature} commands per signature"
    remark = f"peak resident size at {sizes[0]:,} and {sizes[-1]:,} commands"
    return at_most(name, "long / short", 1.1, [large / small], f"{large:.1f} MiB", f"{small:.1f} MiB", remark)


if __name__ == "__main__":
    print(json.dumps(_child(Path(sys.argv[1]), int(sys.argv[2]), bool(int(sys.argv[3])))))
