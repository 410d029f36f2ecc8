# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds, medians and the report's rows.

Both sides of a figure are measured turn by turn in the same rounds (A B A B ...): a noisy machine
slows both, and the ratio of each round is what is compared. The median over the rounds counts.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """How much to measure: `rounds`, every size divided by `part`, and a `folder` on the disk to use."""

    folder: Path
    rounds: int = 5
    part: int = 1

    def size(self, full: int, least: int = 100) -> int:
        return max(full // self.part, least)


@dataclass
class Figure:
    """One row: `ratio` is what `meaning` says, judged against `goal`.

    `met` is None where it was not measured, and `remark` says why. A figure of growth has its `points` too:
    (size, seconds) over sizes of what `axis` names; `label` is the title of its panel in the plot.
    """

    name: str
    meaning: str
    goal: str
    ratio: float
    met: bool | None
    ours: str
    other: str
    rounds: list[float] = field(default_factory=list)
    remark: str = ""
    label: str = ""
    axis: str = ""
    points: list[tuple[float, float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call, with the cyclic collector off as in the writer's loop."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    finally:
        gc.enable()


def median(values: list[float]) -> float:
    return statistics.median(values)


def quotients(above: list[float], below: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def at_least(
    name: str, meaning: str, goal: float, ratios: list[float], ours: str, other: str, remark: str = ""
) -> Figure:
    ratio = median(ratios)
    return Figure(name, meaning, f">= {goal:g}", ratio, ratio >= goal, ours, other, ratios, remark)


def at_most(
    name: str, meaning: str, goal: float, ratios: list[float], ours: str, other: str, remark: str = ""
) -> Figure:
    ratio = median(ratios)
    return Figure(name, meaning, f"<= {goal:g}", ratio, ratio <= goal, ours, other, ratios, remark)


def unmeasured(name: str, meaning: str, goal: float, ours: str, other: str, remark: str) -> Figure:
    """A row that no honest judgement can be made of here."""
    return Figure(name, meaning, f"<= {goal:g}", 0.0, None, ours, other, [], remark)
