# SPDX-License-Identifier: GPL-3.0-or-later
"""The growth figures as one picture: a panel for each, time against size, both logarithmic.

The dashed line is what growth in proportion from the smallest size would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.measure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3


def draw(figures: Sequence[Figure], path: Path) -> int:
    """Write the picture (the format follows the name, .svg or .png) of all figures that have points; returns how
    many there are. Nothing is written when there is none."""
    shown = [figure for figure in figures if figure.points]
    if not shown:
        return 0
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = -(-len(shown) // COLUMNS)
    page, panels = plt.subplots(lines, COLUMNS, figsize=(4.2 * COLUMNS, 3.1 * lines), squeeze=False)
    for panel, figure in zip(panels.flat, shown, strict=False):
        _panel(panel, figure)
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    page.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(page)
    return len(shown)


def _panel(panel: Axes, figure: Figure) -> None:
    across = [size for size, _ in figure.points]
    spent = [seconds * 1e3 for _, seconds in figure.points]
    panel.plot(across, spent, marker="o", markersize=4)
    panel.plot(across, [spent[0] * size / across[0] for size in across], linestyle="--", linewidth=0.8, color="0.6")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(figure.label, fontsize=10)
    panel.set_xlabel(figure.axis)
    panel.set_ylabel("ms")
    panel.grid(True, which="major", linewidth=0.4)
