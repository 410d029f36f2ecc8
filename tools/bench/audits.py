# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor: commands per second with and without signatures, in one process and side by side, memory, and what
100 million commands would take.

Rules:
- The journal is whole, from genesis on: deposits, keys, prices, orders, epochs, as the service writes it. The book
  stays as large as it is at the start, so that what grows with the journal is the journal alone.
- An event is a command. At one command per signature each is an entry of its own; at 20, an entry has 20.
- Each run is a process of its own (`python -m tools.bench.audits JOURNAL JOBS SIGNATURES`), which says what it used.
- The slope is taken between two lengths of one journal's kind, so that starting costs nothing; hours for 100 million
  events are that slope times 100 million, and only as good as a straight line is.
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
from pathlib import Path
from typing import NamedTuple

from clearing.audit.ranges import Plan as Replaying
from clearing.audit.ranges import run
from clearing.audit.source import StoreSource
from clearing.audit.starts import keeper
from clearing.core.reducer import Reducer
from clearing.model import commands as c
from clearing.model import ids, signature
from clearing.model.ids import MAX_TIME_US
from clearing.service.pipeline import Receipt
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_most, median, unmeasured
from tools.bench.node import batches, node

MEMBERS = 200
LIVE = 2_000
EPOCHS = 8
HUNDRED_MILLION = 100_000_000
_CASH = 10**12


class Cost(NamedTuple):
    """One audit: seconds of wall time and of processors' time, entries, and the peak memory of the process that holds
    the state in MiB."""

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
    """A journal of so many commands, with snapshots beside it, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="audit-", dir=plan.folder) as name:
        folder = Path(name)
        with node(folder, MEMBERS, 2, Reducer(w.genesis())) as pipeline:
            for group in commands(count, per_signature):
                for some in batches(group):
                    results = pipeline.finish(pipeline.begin(some), w.NOW)
                    refused = [result for result in results if not isinstance(result, Receipt)]
                    assert not refused, refused[:3]
            (inner,) = folder.glob("node-*/journal")
            pipeline.committer.store.close()
            inner.rename(folder / "journal")
            inner.mkdir()
        report = run(StoreSource(folder / "journal"), Replaying(1, False, on_epoch=keeper(folder / "snapshots", 1)))
        assert report.ok, report.divergence
        yield folder


def measured(folder: Path, jobs: int, signatures: bool) -> Cost:
    """One audit in a process of its own."""
    command = [sys.executable, "-m", "tools.bench.audits", str(folder), str(jobs), str(int(signatures))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."})
    return Cost(*json.loads(done.stdout))


def _child(folder: Path, jobs: int, signatures: bool) -> Cost:
    source = StoreSource(folder / "journal")
    plan = Replaying(jobs, signatures, folder / "snapshots" if jobs > 1 else None, least=1_000)
    peak = 0.0

    def look(_: int) -> None:
        nonlocal peak
        peak = max(peak, _memory_mib())

    started = time.perf_counter()
    report = run(source, plan, on_progress=look)
    spent = time.perf_counter() - started
    assert report.ok and not report.notes, (report.divergence, report.notes)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Cost(spent, sum(one.ru_utime + one.ru_stime for one in used), report.entries, peak)


def _memory_mib() -> float:
    """Of this process, without the pages of the journal's file, which the system maps as it likes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def slope(plan: Plan, sizes: tuple[int, int], per_signature: int, ways: list[tuple[int, bool]]) -> list[list[Cost]]:
    """Per way (jobs, signatures): the median of the rounds at each of the two sizes."""
    found: list[list[Cost]] = [[] for _ in ways]
    for size in sizes:
        with recorded(plan, size, per_signature) as folder:
            for at, (jobs, signatures) in enumerate(ways):
                runs = [measured(folder, jobs, signatures) for _ in range(plan.rounds)]
                middle = median([run.seconds for run in runs]), median([run.cpu_s for run in runs])
                found[at].append(Cost(*middle, runs[0].entries, max(run.peak_mib for run in runs)))
    return found


def audits(plan: Plan) -> list[Figure]:
    """Rows for 1 and 20 commands per signature; the goal is 100 million in an hour."""
    figures = []
    ways = [(1, False), (1, True), (2, True)]
    for per_signature, full in ((1, 40_000), (20, 320_000)):
        size = plan.size(full, 4_000)
        sizes = size // 4, size
        for way, (small, large) in zip(ways, slope(plan, sizes, per_signature, ways), strict=True):
            figures.append(_figure(way, 1 / per_signature, sizes, small, large))
    return figures


def _figure(way: tuple[int, bool], per_event: float, sizes: tuple[int, int], small: Cost, large: Cost) -> Figure:
    jobs, signatures = way
    spent = (large.seconds - small.seconds) / (sizes[1] - sizes[0])
    cpu_us = (large.cpu_s - small.cpu_s) / (sizes[1] - sizes[0]) * 1e6
    how = f"{per_event:g} signatures per event" if signatures else f"signatures not checked ({per_event:g} per event)"
    name = f"audit of 100M events, {how}, {jobs} job{'s' * (jobs > 1)}"
    remark = (
        f"slope between {sizes[0]:,} and {sizes[1]:,} commands ({small.entries:,} and {large.entries:,} entries); "
        f"{cpu_us:.1f} us of processor time per event, so {cpu_us / 36 / 2:.2f} h if two cores did nothing else; "
        f"peak memory {small.peak_mib:.0f} and {large.peak_mib:.0f} MiB"
    )
    if spent <= 0:  # so short that noise is larger
        return unmeasured(name, "hours", 1.0, "-", "-", f"not measured: no {remark}")
    hours = spent * HUNDRED_MILLION / 3_600
    figure = at_most(name, "hours", 1.0, [hours], f"{1 / spent:,.0f} events/s", f"{hours:.2f} h, extrapolated", remark)
    figure.points = [(float(sizes[0]), small.seconds), (float(sizes[1]), large.seconds)]
    return figure


if __name__ == "__main__":
    print(json.dumps(_child(Path(sys.argv[1]), int(sys.argv[2]), bool(int(sys.argv[3])))))
