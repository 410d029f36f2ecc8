# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scenario of every text file in this folder, played on a real venue and then replayed."""

from __future__ import annotations

import re
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


VENUE = """
scenario: a book in default
given assets
| name | priced by | haircut |
| USD  |           |         |
| WBTC | BTC       | 25%     |
given accounts
| name | deposit | WBTC |
| ann  | 100     |      |
| bob  | 1000    | 2    |
given prices
| market | price |
| BTC    | 100   |
when
| who | does                     | so                       |
| ann | sell 10 BTC at 100 as a1 | rests 10                 |
| bob | buy 10 BTC at 100 as b1  | trades 10 at 100 with a1 |
|     | price BTC 112            | index 112                |
|     | close epoch              | epoch 1 shortfall 20 failing 1 |
"""
CLAIMS = {
    "then accounts": ("| name | cash | WBTC | initial |", "| bob  | 0 | 2 | {112} |"),
    "then exits": ("| name | exit | WBTC |", "| bob | 1100 | {2} |"),
    "then markets": ("| market | index | open interest |", "| BTC | 112 | {10} |"),
    "then line for ann in BTC": ("| name | profit | notional | equity |", "| bob | 120 | 1120 | {1288} |"),
}


@pytest.mark.parametrize("heading", CLAIMS)
@pytest.mark.parametrize("lie", [False, True])
def test_every_kind_of_claim_can_fail(heading: str, lie: bool, tmp_path: Path) -> None:
    """What stands in braces is true; one off it is an AssertionError with file and line. Ann owes 20, which Bob's gain
    of 120 bears in his exit; his equity is 1000 + 120 and two coins of 112 at 75 %."""
    columns, row = CLAIMS[heading]
    claim = re.sub(r"\{(\d+)\}", lambda found: str(int(found[1]) + lie), row)
    path = tmp_path / "made.txt"
    path.write_text(f"{VENUE}{heading}\n{columns}\n{claim}\n")
    stage = Stage(parse(path)[0])
    if not lie:
        return stage.run()
    with pytest.raises(AssertionError, match=r"made\.txt:\d+"):
        stage.run()


NOT_PLAYABLE = (
    "nonsense",
    "| 1 | 2 | 3 |",
    "then miracles\n| a |\n| b |",
    "then accounts",
    "then accounts\n| name | luck |\n| ann | 7 |",
    "given venue\n| setting | value |\n| ladder.wishes | 3 |",
    "given prices\n| market | price |\n| BTC | 0 |",
    "when\n| who | does | so |\n| ann | fly away | nothing |",
    "when\n| who | does | so |\n| ann | buy 1 BTC at 9 as a1 quickly | nothing |",
    "when\n| who | does | so |\n| | prices BTC 1 2 | nothing |",
)


@pytest.mark.parametrize("line", NOT_PLAYABLE)
def test_what_cannot_be_played_is_an_error_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "made.txt"
    path.write_text(f"scenario: x\ngiven accounts\n| name | deposit |\n{line}\n")
    with pytest.raises(ScenarioError, match=r"made\.txt:\d+"):
        Stage(parse(path)[0]).run()
