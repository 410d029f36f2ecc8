# SPDX-License-Identifier: GPL-3.0-or-later
"""The live path, signed and durable, against the rate at which signatures alone can be verified."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor

from clearing.service.pipeline import Pipeline
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, at_most, median, quotients, seconds
from tools.bench.node import batches, decoded, drive, node, verify_all, verify_pooled

MEMBERS = 200


def live(plan: Plan) -> list[Figure]:
    """Signed orders, one to an envelope, on two cores."""
    each = plan.size(10_000)
    raw = w.signed(w.bodies(w.order_stream(each * (plan.rounds + 1), MEMBERS)))
    ours, bare = [], []
    with node(plan.folder, MEMBERS, 2) as pipeline, ThreadPoolExecutor(2) as pool:
        drive(pipeline, batches(raw[:each]))  # warm: caches, file growth, the interpreter's own specialising
        for turn in range(1, plan.rounds + 1):
            part = raw[turn * each : (turn + 1) * each]
            items, groups = decoded(part), batches(part)
            bare.append(seconds(lambda items=items: verify_pooled(pool, 2, items)) / each)  # type: ignore[misc]
            ours.append(seconds(lambda groups=groups: drive(pipeline, groups)) / each)  # type: ignore[misc]
    name = "live, durable, signed orders on two cores / verify-only"
    rates = (f"{1 / median(ours):,.0f}/s", f"{1 / median(bare):,.0f}/s")
    return [at_least(name, "orders per second", 0.75, quotients(bare, ours), *rates)]


def batched(plan: Plan) -> list[Figure]:
    """Commands per second at 20 to a signature, against verifications per second; one core for each."""
    each = plan.size(40_000, 2_000)
    stream = w.order_stream(each * (plan.rounds + 1), 50)
    raw = w.signed(w.bodies(stream, 20))
    part = len(raw) // (plan.rounds + 1)
    ours, bare = [], []
    with node(plan.folder, 50, 1) as pipeline:
        drive(pipeline, batches(raw[:part]))
        for turn in range(1, plan.rounds + 1):
            chosen = raw[turn * part : (turn + 1) * part]
            items, groups = decoded(chosen), batches(chosen)
            commands = sum(len(body.commands) for _, body in items if hasattr(body, "commands"))
            bare.append(seconds(lambda items=items: verify_all(items)) / len(items))  # type: ignore[misc]
            ours.append(seconds(lambda groups=groups: drive(pipeline, groups)) / commands)  # type: ignore[misc]
    name = "20 commands per signature, one core / verify-only"
    rates = (f"{1 / median(ours):,.0f} commands/s", f"{1 / median(bare):,.0f} verifications/s")
    return [at_least(name, "commands per second / verifications per second", 7.0, quotients(bare, ours), *rates)]


class _Stages:
    """Wall time by stage of a pipeline: its own methods, each between two readings of the clock."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.spent = {"decode": 0.0, "apply, encode, receipt": 0.0, "Merkle, block, LMDB, sync, checkpoint": 0.0}
        self._wrap(pipeline, "_decode", "decode")
        self._wrap(pipeline, "_apply", "apply, encode, receipt")
        self._wrap(pipeline, "_commit", "Merkle, block, LMDB, sync, checkpoint")

    def _wrap(self, pipeline: Pipeline, method: str, stage: str) -> None:
        inner = getattr(pipeline, method)

        def timed(*arguments: object) -> object:
            start = time.perf_counter()
            try:
                return inner(*arguments)
            finally:
                self.spent[stage] += time.perf_counter() - start

        setattr(pipeline, method, timed)

    def line(self, commands: int) -> str:
        return ", ".join(f"{stage} {spent / commands * 1e6:.2f}" for stage, spent in self.spent.items())


def outside(plan: Plan) -> list[Figure]:
    """Everything but signatures, on one core: the same pipeline with the check of signatures left out."""
    each = plan.size(10_000)
    raw = w.signed(w.bodies(w.order_stream(each * (plan.rounds + 1), MEMBERS)))
    ours, bare = [], []
    with node(plan.folder, MEMBERS, 1) as pipeline:
        pipeline.begin_checks = lambda items: []  # type: ignore[method-assign]
        drive(pipeline, batches(raw[:each]))
        stages = _Stages(pipeline)
        for turn in range(1, plan.rounds + 1):
            part = raw[turn * each : (turn + 1) * each]
            items, groups = decoded(part), batches(part)
            bare.append(seconds(lambda items=items: verify_all(items)) / each)  # type: ignore[misc]
            ours.append(seconds(lambda groups=groups: drive(pipeline, groups)) / each)  # type: ignore[misc]
        gc.collect()
    name = "time per command outside cryptography / one verification"
    micros = (f"{median(ours) * 1e6:.1f} us", f"{median(bare) * 1e6:.1f} us")
    remark = f"us per command: {stages.line(each * plan.rounds)}"
    return [at_most(name, "microseconds", 0.20, quotients(ours, bare), *micros, remark)]
