# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting on the writer's path: what must be noted while it happens and cannot be read off the state later.

Rules:
- One writer: everything but `queued` and `answered`'s reader runs on the sequencer's thread, so nothing here locks.
  Readers take copies that may be a command apart from each other; each number in them was true.
- Costs are per batch where they can be: a wait is noted per group of commands that came together.
- Counters begin at zero with the process, as Prometheus expects. The waterfall's stage does not: it is what was drawn
  since the last epoch closed, so `seed` looks at the journal's last entries.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from clearing.model import ids
from clearing.model.outcomes import (
    Deleveraged,
    EpochClosed,
    Liquidated,
    Outcome,
    Rejected,
    TradeNovated,
    TrancheDrawn,
)

# Seconds. An idle venue answers after one fsync; past a second somebody should look.
BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STAGES: Final = ("calm", "liquidating", "insurance fund", "operator's capital", "default fund", "gains", "ADL")
_STAGE_OF: Final = {
    ids.TRANCHE_DEFAULTER: 1,
    ids.TRANCHE_INSURANCE: 2,
    ids.TRANCHE_OPERATOR: 3,
    ids.TRANCHE_DEFAULT_FUND: 4,
    ids.TRANCHE_GAINS: 5,
    ids.TRANCHE_ADL: 6,
}


class Histogram:
    """Counts by upper bound (seconds), the last one unbounded; `total` is the sum of what was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.total += seconds * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The upper bound of the bucket that holds this share of what was observed (the last bound also for what is
        past it); None without any."""
        wanted, seen = share * self.count, 0
        for bound, count in zip((*self.bounds, self.bounds[-1]), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound
        return None


class Meter:
    """The writer's counters. `queued` is called under the sequencer's lock, the rest on its thread."""

    def __init__(self, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.answers = Histogram()
        self.commits = Histogram()
        self.entries = 0
        self.refused = 0
        self.rejected = 0
        self.fills = 0
        self.liquidations: dict[str, int] = {}
        self.drawn_atoms: dict[int, int] = {}
        self.deleveraged = 0
        self.stage = 0
        self._clock_s = clock_s
        self._groups: deque[tuple[int, float]] = deque()

    # --- waits: queued in order, answered in order ---

    def queued(self, count: int) -> None:
        """So many commands came together."""
        self._groups.append((count, self._clock_s()))

    def answered(self, count: int, refused: int = 0) -> None:
        """The oldest `count` commands have their answers; `refused` of them were not journalled."""
        now, groups = self._clock_s(), self._groups
        self.refused += refused
        while count and groups:
            size, since = groups[0]
            if size <= count:
                groups.popleft()
            else:
                groups[0] = (size - count, since)
                size = count
            self.answers.observe(now - since, size)
            count -= size

    def committed(self, entries: int, seconds: float) -> None:
        """One group commit, fsync included."""
        self.entries += entries
        self.commits.observe(seconds)

    # --- outcomes ---

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """What an entry brought about, as it is applied."""
        for outcome in outcomes:
            kind = type(outcome)
            if kind is TradeNovated:
                self.fills += 1
            elif kind is Rejected:
                self.rejected += 1
            elif kind in _RARE:
                self._note_rare(outcome)

    def _note_rare(self, outcome: Outcome) -> None:
        if isinstance(outcome, Liquidated):
            self.liquidations[outcome.step] = self.liquidations.get(outcome.step, 0) + 1
        elif isinstance(outcome, TrancheDrawn):
            drawn = self.drawn_atoms.get(outcome.tranche, 0) + outcome.drawn_atoms
            self.drawn_atoms[outcome.tranche] = drawn
        elif isinstance(outcome, Deleveraged):
            self.deleveraged += 1
        self._move_stage(outcome)

    def _move_stage(self, outcome: Outcome) -> None:
        if isinstance(outcome, EpochClosed):
            self.stage = 0
        elif isinstance(outcome, Liquidated):
            self.stage = max(self.stage, 1)
        elif isinstance(outcome, TrancheDrawn) and outcome.drawn_atoms:
            self.stage = max(self.stage, _STAGE_OF[outcome.tranche])
        elif isinstance(outcome, Deleveraged):
            self.stage = max(self.stage, _STAGE_OF[ids.TRANCHE_ADL])

    def seed(self, entries: Iterable[Iterable[Outcome]]) -> None:
        """The stage as the last entries of the journal left it, oldest first; nothing is counted."""
        for outcomes in entries:
            for outcome in outcomes:
                if type(outcome) in _RARE:
                    self._move_stage(outcome)


_RARE: Final = frozenset({Liquidated, TrancheDrawn, Deleveraged, EpochClosed})
