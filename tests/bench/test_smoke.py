# SPDX-License-Identifier: GPL-3.0-or-later
"""Each benchmark runs, at a size that says nothing about speed: no verdict here depends on the clock."""

import importlib.util
import json
from pathlib import Path

import pytest

from tools.bench.__main__ import BENCHMARKS, main
from tools.bench.measure import Figure, Plan, at_least, at_most, unmeasured

NEEDS = {"matching": "orderbook", "replay": "eventsourcing", "greeks": "QuantLib", "risk-array": "QuantLib"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_gives_positive_ratios(name: str, tmp_path: Path) -> None:
    """Every row has a positive ratio, except one that says why it could not be measured."""
    peer = NEEDS.get(name)
    if peer is not None and importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: run `tools/bootstrap.sh --group bench`")
    figures = BENCHMARKS[name](Plan(tmp_path, rounds=1, part=1_000))
    assert figures
    for figure in figures:
        assert figure.ratio > 0 or (figure.met is None and "not measured" in figure.remark), figure


def test_goals_are_judged_by_the_median_and_at_the_boundary() -> None:
    """One bad round of three decides nothing, and a goal that is just reached is met."""
    assert at_least("a", "", 3.0, [0.1, 3.0, 9.0], "", "").met is True
    assert at_least("a", "", 3.0, [2.9, 2.9, 9.0], "", "").met is False
    assert at_most("a", "", 3.0, [9.0, 3.0, 0.1], "", "").met is True
    assert at_most("a", "", 3.0, [3.1, 3.1, 0.1], "", "").met is False
    assert unmeasured("a", "", 3.0, "", "", "why").met is None


def test_the_report_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says goal and verdict of each row; the JSON holds the same figures and the rounds."""
    rows = [
        at_least("fast enough", "per second", 1.0, [2.0, 3.0, 4.0], "3/s", "1/s", "a remark"),
        at_most("too slow", "seconds", 1.0, [2.0], "2 s", "1 s"),
        unmeasured("no disk", "microseconds", 3.0, "1 us", "1 us", "not measured: no disk"),
    ]

    def fixed(_: Plan) -> list[Figure]:
        return rows

    monkeypatch.setitem(BENCHMARKS, "gas", fixed)
    out = tmp_path / "deep" / "bench.json"
    assert main(["--only", "gas", "--quick", "--out", str(out), "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert [line.split("  goal")[0].split()[-1] for line in printed.splitlines() if "  goal" in line] == ["3", "2", "-"]
    for part in (" met ", "NOT MET", "not measured: no disk", "missed: too slow", "a remark"):
        assert part in printed
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [figure["ratio"] for figure in report["figures"]] == [3.0, 2.0, 0.0]
    assert report["figures"][0]["rounds"] == [2.0, 3.0, 4.0]
    assert report["quick"] is True
