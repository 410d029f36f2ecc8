# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole risk engine under random use: every command, every contract, defaults and their waterfall, by seed.

`machine_steps` says what may happen and `machine_checks` what must hold after every entry; `machine_run` ends each
run with replays from genesis and from snapshots, and makes a failing run shorter.
"""

from __future__ import annotations

import time

import pytest

from clearing.core.snapshot import dump, load
from clearing.core.sweep import sweep
from clearing.model import commands as c
from clearing.service.ticker import liquidations
from tests.core import machine_run
from tests.core import venue as v

SEEDS = (1, 2, 5)
# Met in the long run: every step of the ladder, every tranche, and what time, prices and governance bring about.
EXPECTED = (
    "Liquidated.SEIZE", "Liquidated.CANCEL", "Liquidated.SLICE", "Liquidated.AUCTION", "Liquidated.BACKSTOP",
    "Liquidated.DEFAULT", "Liquidated.ADL", "TrancheDrawn.0", "TrancheDrawn.1", "TrancheDrawn.2", "TrancheDrawn.3",
    "TrancheDrawn.4", "AuctionFilled", "PositionSettled", "InterestCharged", "FundingApplied", "ParamsChanged",
    "TradeNovated", "TriggerFired", "MarginModeSet", "InstrumentListed", "InstrumentDelisted", "MarginAdapted",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds_after_every_entry(seed: int) -> None:
    """A run in which any rule of `machine_checks` breaks, anything but a refusal is raised, what is due is refused or
    never ends, or a replay differs, fails."""
    assert len(machine_run.run(seed, range(120)).journal) > 120


@pytest.mark.slow
def test_everything_holds_for_longer() -> None:
    """The same for three minutes; and the runs met what they are there for."""
    seen: dict[str, int] = {}
    end, seed = time.monotonic() + 180, 100
    while time.monotonic() < end:
        for name, count in machine_run.run(seed, range(300)).counts.items():
            seen[name] = seen.get(name, 0) + count
        seed += 1
    assert [name for name in EXPECTED if name not in seen] == []


def test_a_run_is_its_steps() -> None:
    """The same seed and steps give the same journal, so that a failure is found again; leaving steps out is a run."""
    first, again = (machine_run.run(7, range(40)).journal for _ in range(2))
    assert first == again
    assert machine_run.run(7, [*range(10), *range(25, 40)]).journal != first


def test_shrinking_finds_the_step_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forty steps, of which one kind fails, a single one of that kind remains."""
    kind = machine_run.step_of(7, 17)[0]

    def broken(seed: int, steps: list[int]) -> str:
        return "fault" if any(machine_run.step_of(seed, n)[0] == kind for n in steps) else ""

    assert machine_run.fault(7, []) == ""
    monkeypatch.setattr(machine_run, "fault", broken)
    left = machine_run.shrink(7, list(range(40)))
    assert len(left) == 1 and machine_run.step_of(7, left[0])[0] == kind


def test_an_expiry_outlives_its_first_instrument_in_a_snapshot() -> None:
    """Two expiries, and the first instrument of the older one is delisted: the state keeps the order in which the
    expiries came, and a snapshot restores it, although the instruments that are left say otherwise."""
    early, late = v.START_US + v.DAY, v.START_US + 2 * v.DAY
    venue = v.Venue()
    for number, expiry_us in ((11, late), (12, early), (13, late)):
        venue.operator(c.ListInstrument(v.option(number, number * v.USD, expiry_us, True)))
    venue.operator(c.DelistInstrument(11))
    closed = venue.close_epoch()
    assert list(venue.state.symbols["BTC"].expiries) == [late, early]
    restored = load(dump(venue.state), closed)
    assert list(restored.symbols["BTC"].expiries) == [late, early]
    assert dump(restored) == dump(venue.state)


def test_the_clock_liquidates_nobody_at_prices_that_grew_old_meanwhile() -> None:
    """An account fails at fresh prices and then the oracle falls silent: nothing is submitted, which would only be
    refused, until prices come again."""
    venue = v.Venue()
    ann, _ = venue.fund("ann", 6_000 * v.USD), venue.fund("bob", 60_000 * v.USD)
    venue.oracle({v.BTC: 50 * v.USD})
    venue.buy("ann", 50 * v.USD, 1_000)
    venue.sell("bob", 50 * v.USD, 1_000)
    venue.oracle({v.BTC: 45 * v.USD})
    found = sweep(venue.state)
    assert [number for number, _ in found] == [ann.number]
    assert liquidations(venue.state, venue.now_us, found) == [c.Liquidate(ann.number)]
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    assert liquidations(venue.state, venue.now_us, found) == []
