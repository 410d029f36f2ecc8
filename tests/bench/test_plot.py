# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot of growth: a panel for every figure that has points, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench.__main__ import BENCHMARKS, main
from tools.bench.measure import Figure, Plan, at_most
from tools.bench.plot import draw

PLAIN = at_most("no growth", "seconds", 1.0, [0.5], "1 s", "2 s")


def grown(label: str) -> Figure:
    return replace(PLAIN, label=label, axis="accounts", points=[(10.0, 0.001), (100.0, 0.02)])


@pytest.mark.slow
def test_each_figure_with_points_has_a_panel(tmp_path: Path) -> None:
    """Titles and axes stand in the picture; figures without points do not count."""
    path = tmp_path / "deep" / "growth.svg"
    assert draw([grown("sweep"), PLAIN, grown("array"), grown("check"), grown("vote")], path) == 4
    picture = path.read_text(encoding="utf-8")
    for text in ("sweep", "array", "check", "vote", "accounts"):
        assert f"<!-- {text} -->" in picture


def test_without_points_nothing_is_written(tmp_path: Path) -> None:
    """An empty picture would look like a result."""
    path = tmp_path / "growth.svg"
    assert draw([PLAIN], path) == 0
    assert not path.exists()


@pytest.mark.slow
def test_the_command_line_writes_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--plot` draws what risk-growth measured, and is refused where that was not asked for."""

    def fixed(_: Plan) -> list[Figure]:
        return [grown("sweep")]

    monkeypatch.setitem(BENCHMARKS, "risk-growth", fixed)
    path = tmp_path / "growth.svg"
    assert main(["--only", "risk-growth", "--quick", "--plot", str(path), "--folder", str(tmp_path)]) == 0
    assert "<!-- sweep -->" in path.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--only", "gas", "--plot", str(path), "--folder", str(tmp_path)])
