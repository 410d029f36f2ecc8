# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals to audit, recorded from venues on which much happens: liquidations, ADL, auctions of options, funding,
expiries, forced requests, defaults. Real commands with real signatures; made once per test run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from clearing.audit.replay import ReplayedEpoch, ReplayReport, replay
from clearing.model import commands as c
from clearing.model.codec import decode_any_envelope, decode_entry, encode_entry
from clearing.model.outcomes import EpochClosed, Outcome
from tests.core.venue import seed_of
from tests.scenario.language import parse
from tests.scenario.stage import Stage
from tools import golden

OPERATOR = seed_of("operator")
SCENARIOS = Path(__file__).parent.parent / "scenario"
# Name -> file and the beginning of the title of the scenario.
PLAYED = {
    "adl": ("cascade", "ADL order"),
    "waterfall": ("cascade", "the waterfall in its order"),
    "auction": ("auctions", ""),
    "portfolio": ("portfolio_margin", ""),
    "expiry": ("expiry", ""),
    "collateral": ("collateral", ""),
}
NAMES = ("golden", *PLAYED)


class Story(NamedTuple):
    """An honest journal, what each entry did, and the epochs that were posted of it."""

    name: str
    entries: tuple[bytes, ...]
    bodies: tuple[c.Body, ...]
    outcomes: tuple[tuple[Outcome, ...], ...]
    posted: tuple[ReplayedEpoch, ...]
    root: bytes

    def seqs(self, *kinds: type) -> list[int]:
        """Entries with an outcome of one of these kinds."""
        return [seq for seq, found in enumerate(self.outcomes) if any(isinstance(o, kinds) for o in found)]

    def closes(self) -> list[int]:
        """The entries that closed an epoch."""
        return self.seqs(EpochClosed)


def _scenario(file: str, title: str) -> list[bytes]:
    scenario = next(s for s in parse(SCENARIOS / f"{file}.txt") if s.title.startswith(title))
    stage = Stage(scenario)
    stage.run()
    stage.venue.close_epoch()
    return golden.entries_of(stage.venue)


@cache
def story(name: str) -> Story:
    """One of NAMES."""
    data = golden.unpack(golden.JOURNAL.read_bytes()) if name == "golden" else _scenario(*PLAYED[name])
    report = honest(data)
    decoded = [decode_entry(entry) for entry in data]
    bodies = tuple(decode_any_envelope(entry.envelope)[1] for entry in decoded)
    outcomes = tuple(tuple(entry.outcomes) for entry in decoded)
    return Story(name, tuple(data), bodies, outcomes, tuple(report.epochs), report.root)


def honest(entries: list[bytes]) -> ReplayReport:
    """The replay of a journal that must hold."""
    report = replay(enumerate(entries))
    assert report.ok, report.divergence
    return report


def renumbered(entries: list[bytes], first: int = 0) -> list[bytes]:
    """The same entries with seqs that count up, canonically encoded again, as a forger would leave them."""
    found = entries[:first]
    for seq, data in enumerate(entries[first:], first):
        entry = decode_entry(data)
        found.append(encode_entry(seq, entry.time_us, entry.envelope, entry.outcomes))
    return found
