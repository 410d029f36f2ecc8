# SPDX-License-Identifier: GPL-3.0-or-later
"""The service from a socket to a durable receipt, against the in-process pipeline, in the same rounds.

Two copies of one data directory get the same bytes, signed before anything is timed. One is a node in this process,
which is given everything at once; the other is an operator, whom worker processes load over WebSocket, while idle
connections are held and one client reads every channel. A round: the node alone; then a fresh operator, warmed,
saturated (closed loop), at half of that rate (open loop), and saturated again with and without a client that never
reads. After it, the journal must hold exactly the entries that the workers have receipts for.

Generator, interface and writer share the machine's cores, and the node has them for itself: the ratio is what serving
strangers costs in all, with their clients' work included.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from clearing.client import ApiClient
from clearing.service.node import Node
from tools.bench.link import make_venue
from tools.bench.load import worker
from tools.bench.load.orders import Flow, interleaved
from tools.bench.load.prices import Prices
from tools.bench.load.venue import (
    HOST,
    RAISED,
    Fleet,
    Journalled,
    Size,
    allow_files,
    asks,
    journalled,
    next_seq,
    operating,
)
from tools.bench.load.wire import Sleeper, WireError
from tools.bench.measure import Figure, Plan, at_least, at_most, median, percentile, quotients, seconds

DROPPED = 1013
# A round takes most of a minute: no more of them, whatever the plan says.
_ROUNDS = 3
_PROBES = 30
# Halves: a client is slow after some seconds, when its queue is full, and not after so many orders.
_LONGER = 4
# Per kind of envelope: commands in it, and envelopes of a round's parts at full size.
_KINDS = {1: 20_000, 20: 4_000}


class Sample(NamedTuple):
    """One part of a round: commands per second, and seconds from send to receipt in order of size."""

    rate: float
    latencies: list[float]
    late: list[float]

    def ms(self, percent: float) -> float:
        return percentile(self.latencies, percent) * 1e3


class Round(NamedTuple):
    """Commands per second of the node, seconds of one durable commit in it; and what the service did."""

    direct: float
    commit: float
    full: Sample
    half: Sample
    journal: Journalled
    slow: "Slow | None"


class Slow(NamedTuple):
    """The service with a client that never reads, and without; what that client was closed with."""

    asleep: Sample
    awake: Sample
    code: int | None


def sample(found: Sequence[worker.Done], per_batch: int) -> Sample:
    """What all workers saw together: from the first send to the last receipt."""
    count = sum(len(done.seqs) for done in found)
    span = max(done.last for done in found) - min(done.first for done in found)
    latencies = sorted(latency for done in found for latency in done.latencies)
    return Sample(count * per_batch / span, latencies, [late for done in found for late in done.late])


def agree(seqs: Iterable[int], journal: Sequence[int]) -> None:
    """The receipts are of the journal's entries, each of one. Raises `WireError`."""
    told = sorted(seqs)
    if told != list(journal):
        extra, missing = len(set(told) - set(journal)), len(set(journal) - set(told))
        raise WireError(
            f"{len(told)} receipts, {len(journal)} entries: {extra} of no entry, {missing} entries without, "
            f"{len(told) - len(set(told))} told twice"
        )


class Bench:
    """Two directories of one venue, and orders for both."""

    def __init__(self, folder: Path, size: Size, per_batch: int, envelopes: int) -> None:
        self.size = size
        self.per_batch = per_batch
        self.inside, self.outside = folder / "inside", folder / "outside"
        make_venue(self.inside, size.connections, RAISED)
        shutil.copytree(self.inside, self.outside)
        with closing(Node(self.inside)) as node:
            head = node.pipeline.reducer.state.publishers[0].head
        self.prices = {side: Prices(side, head) for side in (self.inside, self.outside)}
        self.flow = Flow(size.connections, per_batch)
        self.each = max(envelopes // size.connections, 2)

    def round(self, number: int) -> Round:
        """All parts, once."""
        each = self.each
        warm, full, half = (self.flow.take(count) for count in (max(each // 4, 1), each, each))
        # With twenty to a signature too little is told to a client for it to be slow in this time.
        pair = [self.flow.take(each * _LONGER // 2) for _ in range(2)] if self.per_batch == 1 else []
        probes = interleaved(self.flow.take(-(-_PROBES // self.size.connections)))[:_PROBES]
        direct, commit = self._direct(warm, full, [half, *pair], probes)
        before, found = next_seq(self.outside), []
        with (
            operating(self.outside) as port,
            closing(ApiClient(f"http://{HOST}:{port}")) as api,
            self.prices[self.outside].publishing(api.submit),
            closing(Fleet(port, self.size)) as fleet,
        ):

            def part(lists: list[list[bytes]], rate: float = 0.0) -> Sample:
                done = fleet.run(lists, rate, number)
                found.extend(done)
                return sample(done, self.per_batch)

            part(warm)
            saturated = part(full)
            halved = part(half, saturated.rate / self.per_batch / 2)
            slow = self._slow(number, port, pair, part) if pair else None
        journal = journalled(self.outside, before)
        agree((seq for done in found for seq in done.seqs), journal.seqs)
        return Round(direct, commit, saturated, halved, journal, slow)

    def _slow(
        self, number: int, port: int, pair: list[list[list[bytes]]], part: Callable[[list[list[bytes]]], Sample]
    ) -> Slow:
        # Whoever comes second has the warmer service and the fuller book.
        awake = part(pair[0]) if number % 2 else None
        sleeper = Sleeper(HOST, port, list(asks(min(self.size.accounts, self.size.connections))))
        asleep = part(pair[1] if awake else pair[0])
        code = sleeper.wake()
        return Slow(asleep, awake or part(pair[1]), code)

    def _direct(
        self, warm: list[list[bytes]], full: list[list[bytes]], rest: list[list[list[bytes]]], probes: list[bytes]
    ) -> tuple[float, float]:
        """Commands per second of a node in this process, and seconds until one envelope's receipt."""
        with closing(Node(self.inside)) as node:

            def submit(raws: Sequence[bytes]) -> None:
                for future in node.sequencer.submit_many(raws):
                    future.result(60)

            with self.prices[self.inside].publishing(lambda raw: submit([raw])):
                submit(interleaved(warm))
                raws = interleaved(full)
                rate = len(raws) * self.per_batch / seconds(lambda: submit(raws))
                for lists in rest:  # so that both books are alike in the next round
                    submit(interleaved(lists))
                alone = [seconds(lambda raw=raw: submit([raw])) for raw in probes]  # type: ignore[misc]
        return rate, median(alone)


def measure(folder: Path, size: Size, per_batch: int, envelopes: int, rounds: int) -> list[Round]:
    """Rounds of one kind of envelope, in a directory that is removed afterwards."""
    allow_files(2 * (size.idle + size.connections) + 1_000)
    with tempfile.TemporaryDirectory(prefix="load-", dir=folder) as name:
        bench = Bench(Path(name), size, per_batch, envelopes)
        return [bench.round(number) for number in range(rounds)]


def load(plan: Plan, size: Size | None = None) -> list[Figure]:
    """Orders per second and latency of the whole service, one and twenty orders to an envelope."""
    if size is None:
        size = Size() if plan.part < 100 else Size(connections=10, idle=20)
    figures: list[Figure] = []
    for per_batch, envelopes in _KINDS.items():
        rounds = measure(plan.folder, size, per_batch, plan.size(envelopes, 40), min(plan.rounds, _ROUNDS))
        figures += _figures(rounds, per_batch, size)
    return figures


def _between(samples: list[Sample]) -> str:
    p50, p99 = (median([one.ms(percent) for one in samples]) for percent in (50, 99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _figures(rounds: list[Round], per_batch: int, size: Size) -> list[Figure]:
    kind = f"{per_batch} to a signature" if per_batch > 1 else "1 to a signature"
    full, half = [one.full for one in rounds], [one.half for one in rounds]
    direct, commits = [one.direct for one in rounds], [one.commit for one in rounds]
    goals = {1: 0.15, 20: 0.3}[per_batch]
    placed, taken = (sum(getattr(one.journal, name) for one in rounds) for name in ("placed", "taken"))
    remark = (
        f"{size.connections} connections of {size.workers} processes, {size.idle:,} idle; closed loop, "
        f"{size.window} under way on each: {_between(full)}; {taken / placed:.0%} of orders took"
    )
    rates = (f"{median([one.rate for one in full]):,.0f}/s", f"{median(direct):,.0f}/s")
    name = f"service over WebSocket, {kind} / in-process pipeline"
    found = [at_least(name, "commands per second", goals, quotients([s.rate for s in full], direct), *rates, remark)]
    late = median([percentile(one.late, 99) for one in half]) * 1e3
    for percent, goal in ((50, 40.0), (99, 250.0)):
        ratios = [one.ms(percent) / 1e3 / commit for one, commit in zip(half, commits, strict=True)]
        shown = f"{median([one.ms(percent) for one in half]):.1f} ms", f"{median(commits) * 1e3:.2f} ms"
        remark = f"offered {median([one.rate for one in full]) / 2:,.0f}/s, latency from when it was due to be sent; "
        remark += f"the generator's own p99 of lateness, included: {late:.1f} ms"
        name = f"p{percent} from send to durable receipt at half load, {kind} / one commit"
        found.append(at_most(name, "seconds", goal, ratios, *shown, remark if percent == 50 else ""))
    slow = [one.slow for one in rounds if one.slow is not None]
    return [*found, _asleep(slow, kind)] if slow else found


def _asleep(rounds: list[Slow], kind: str) -> Figure:
    """Throughput with a client that never reads, which must be dropped; not judged when it was not."""
    asleep, awake = [one.asleep.rate for one in rounds], [one.awake.rate for one in rounds]
    rates = (f"{median(asleep):,.0f}/s", f"{median(awake):,.0f}/s")
    name = f"with a client that never reads / without, {kind}"
    codes = ", ".join(str(one.code) if one.code else "not in this time" for one in rounds)
    figure = at_least(name, "commands per second", 0.9, quotients(asleep, awake), *rates, f"dropped with: {codes}")
    if any(one.code != DROPPED for one in rounds):
        figure.met = None
        figure.remark = f"not measured: it must be dropped in every round, with {DROPPED}; {figure.remark}"
    return figure
