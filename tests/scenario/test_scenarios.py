# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scenario of every text file in this folder, played on a real venue and then replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearing.core.snapshot import dump
from tests.core import venue as v
from tests.scenario.language import Scenario, ScenarioError, parse
from tests.scenario.stage import Stage

FILES = sorted(Path(__file__).parent.glob("*.txt"))
SCENARIOS = [scenario for path in FILES for scenario in parse(path)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: f"{s.path.stem}: {s.title}")
def test_scenario(scenario: Scenario) -> None:
    """What the text says happens, happens; and the journal of it replays to the same state."""
    stage = Stage(scenario)
    stage.run()
    assert any(t.heading.startswith("when") for t in scenario.tables), "a scenario does something"
    assert dump(v.replay(stage.venue.journal).state) == dump(stage.venue.state)


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [("so", "rests 5"), ("cash", "-5"), ("book", "sell")],
)
def test_a_wrong_scenario_fails(cell: str, wrong: str, tmp_path: Path) -> None:
    """The player itself: a false claim in any kind of cell is an AssertionError with file and line."""
    good = {"so": "rests 4", "cash": "500", "book": "buy"} | {cell: wrong}
    text = f"""
    scenario: one resting bid
    given accounts
    | name | deposit |
    | ann  | 500     |
    given prices
    | market | price |
    | BTC    | 100   |
    when
    | who | does                   | so           |
    | ann | buy 4 BTC at 99 as a1  | {good["so"]} |
    then accounts
    | name | cash           |
    | ann  | {good["cash"]} |
    then book BTC
    | side           | id | size | price |
    | {good["book"]} | a1 | 4    | 99    |
    """
    path = tmp_path / "made.txt"
    path.write_text(text)
    with pytest.raises(AssertionError, match=r"made\.txt:\d+"):
        Stage(parse(path)[0]).run()


@pytest.mark.parametrize("line", ["nonsense", "| 1 | 2 | 3 |", "then miracles\n| a |\n| b |"])
def test_what_cannot_be_played_is_an_error_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "made.txt"
    path.write_text(f"scenario: x\ngiven accounts\n| name | deposit |\n{line}\n")
    with pytest.raises(ScenarioError, match=r"made\.txt:\d+"):
        Stage(parse(path)[0]).run()
