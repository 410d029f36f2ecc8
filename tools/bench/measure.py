# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds, medians and the report."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass
class Figure:
    """One row: `ratio` is ours / other (or other / ours: `meaning` says), judged against `goal`."""

    name: str
    meaning: str
    goal: str
    ratio: float
    met: bool
    ours: str
    other: str
    rounds: list[float] = field(default_factory=list)
    remark: str = ""

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


def at_least(name: str, meaning: str, goal: float, ratios: list[float], ours: str, other: str, remark: str = "") -> Figure:
    ratio = median(ratios)
    return Figure(name, meaning, f">= {goal:g}", ratio, ratio >= goal, ours, other, ratios, remark)


def at_most(name: str, meaning: str, goal: float, ratios: list[float], ours: str, other: str, remark: str = "") -> Figure:
    ratio = median(ratios)
    return Figure(name, meaning, f"<= {goal:g}", ratio, ratio <= goal, ours, other, ratios, remark)
