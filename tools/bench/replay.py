# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay: without signatures against the `eventsourcing` library over SQLite, with them against
verification alone.

Both journals hold the same number of order events on the same disk. Ours is read from the journal,
verified block by block, applied with margin and matching, and compared byte by byte; the library's
is read from SQLite, decoded and applied to an aggregate that only remembers open orders.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from clearing.audit.replay import Replayer, ReplayReport, replay
from clearing.model import commands as c
from clearing.service.pipeline import Pipeline
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, median, quotients, seconds
from tools.bench.node import batches, decoded, drive, node, verify_pooled

MEMBERS = 200


def _entries(pipeline: Pipeline) -> Iterator[tuple[int, bytes]]:
    for block in pipeline.committer.store.read():
        yield from enumerate(block.entries, block.first_seq)


def _replay(pipeline: Pipeline, check_signatures: bool) -> ReplayReport:
    fresh = Replayer(w.venue(MEMBERS, real_keys=True), 0)
    report = replay(_entries(pipeline), check_signatures=check_signatures, threads=2, replayer=fresh)
    assert report.ok, report.divergence
    assert report.root == pipeline.committer.store.head().tree_root
    return report


def _library(folder: Path, steps: Sequence[w.Step]) -> Callable[[], Any]:
    """Store the steps as events of one aggregate; the function reconstructs it from SQLite."""
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate, event

    class Market(Aggregate):
        """Open orders of a market, by number."""

        @event("Opened")
        def __init__(self) -> None:
            self.open: dict[int, tuple[int, int, int, int]] = {}

        @event("OrderPlaced")
        def place(self, member: int, number: int, side: int, price: int, lots: int) -> None:
            self.open[number] = (member, side, price, lots)

        @event("OrderCancelled")
        def cancel(self, member: int, number: int) -> None:
            self.open.pop(number, None)

    class Markets(Application[UUID]):
        """Keeps markets in SQLite."""

    database = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "events.sqlite")}
    application = Markets(env=database)
    market = Market()
    for member, command in steps:
        if isinstance(command, c.CancelOrder):
            market.cancel(member, command.client_order_id)
        else:
            market.place(member, command.client_order_id, command.side, command.price_atoms, command.size_lots)
    application.save(market)

    def reconstruct() -> None:
        found: Any = application.repository.get(market.id)
        assert found.version == len(steps) + 1

    return reconstruct


def without_signatures(plan: Plan) -> list[Figure]:
    steps = w.order_stream(plan.size(20_000), MEMBERS)
    ours, library = [], []
    with (
        tempfile.TemporaryDirectory(dir=plan.folder) as name,
        node(plan.folder, MEMBERS, 2) as pipeline,
    ):
        drive(pipeline, batches(w.signed(w.bodies(steps))))
        reconstruct = _library(Path(name), steps)
        funding = []
        for _ in range(plan.rounds):
            funding.append(seconds(lambda: w.venue(MEMBERS, real_keys=True)))
            ours.append(seconds(lambda: _replay(pipeline, False)))
            library.append(seconds(reconstruct))
    ours = [max(spent - median(funding), 1e-9) for spent in ours]
    name = "replay without signatures / eventsourcing 9.5.6 from SQLite"
    rates = (f"{len(steps) / median(ours):,.0f}/s", f"{len(steps) / median(library):,.0f}/s")
    return [at_least(name, "events per second", 3.0, quotients(library, ours), *rates)]


def with_signatures(plan: Plan) -> list[Figure]:
    raw = w.signed(w.bodies(w.order_stream(plan.size(20_000), MEMBERS)))
    ours, bare = [], []
    items = decoded(raw)
    with node(plan.folder, MEMBERS, 2) as pipeline, ThreadPoolExecutor(2) as pool:
        drive(pipeline, batches(raw))
        funding = seconds(lambda: w.venue(MEMBERS, real_keys=True))
        for _ in range(plan.rounds):
            bare.append(seconds(lambda: verify_pooled(pool, 2, items)))
            ours.append(seconds(lambda: _replay(pipeline, True)) - funding)
    name = "replay with signatures on two cores / verify-only"
    rates = (f"{len(raw) / median(ours):,.0f}/s", f"{len(raw) / median(bare):,.0f}/s")
    return [at_least(name, "events per second", 0.85, quotients(bare, ours), *rates)]
