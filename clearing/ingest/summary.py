# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ingest reports. All but `timing` depends on the file and the arguments alone."""

from collections import Counter
from typing import Any

import msgspec

from clearing.ingest.compare import Disagreement
from clearing.model.errors import NovateError


class Disagreements(msgspec.Struct, frozen=True):
    """`by_reason`: codes of `compare.REASONS` with their counts; `first`: the first ones in full."""

    total: int
    by_reason: dict[str, int]
    first: list[Disagreement]


class Problem(msgspec.Struct, frozen=True):
    """Why the ingest ended before the file did."""

    code: str
    message: str


class Timing(msgspec.Struct, frozen=True):
    """Wall time of the whole run; the only part that differs between two runs."""

    seconds_ms: int
    events_per_s: int


class Summary(msgspec.Struct, frozen=True):
    """Counts of an ingest. `reproduced_exactly` is of `source_fills_continuous`: resting order, price
    and size within one trade; `reproduced_ppm` their ratio (floor); `reproduced_in_order` those of
    them at the same place of the trade's list. `fills` are all of ours,
    `unexpected_fills` those where a resting order traded on arrival. `refusals`: our commands that
    the reducer refused, by code. `not_replayed`: source events that became no command, by reason.
    `journal_bytes` are the entries' bytes, `journal_size` their number. Roots are hex; the state and exit
    roots are those of the last epoch, closed at the end (empty when nothing was journalled).
    """

    file: str
    format: str
    symbol: str
    members: int
    events: int
    commands: int
    fills: int
    source_fills_continuous: int
    reproduced_exactly: int
    reproduced_ppm: int
    reproduced_in_order: int
    disagreements: Disagreements
    unexpected_fills: int
    refusals: dict[str, int]
    not_replayed: dict[str, int]
    oracle_updates: int
    epochs: int
    journal_bytes: int
    journal_size: int
    root: str
    state_root: str
    exit_root: str
    complete: bool
    problem: Problem | None
    timing: Timing

    def deterministic(self) -> dict[str, Any]:
        """Everything but the timing, as plain data."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        del data["timing"]
        return data


class IngestFailed(NovateError):
    """The ingest ended early. `code` and `message` say why; `summary` is of what was journalled."""

    def __init__(self, cause: NovateError, summary: Summary) -> None:
        super().__init__(cause.code, cause.message)
        self.summary = summary


def ordered(counts: Counter[str]) -> dict[str, int]:
    """Counts by name, in a fixed order."""
    return {name: counts[name] for name in sorted(counts)}
