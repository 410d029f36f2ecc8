# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as SVG that lives inside a page: no fonts, no scripts, no addresses, and the page's own text colour.

Rules:
- matplotlib is loaded only when a figure is drawn, draws off screen, and keeps text as text.
- The same data give the same bytes: no date, no random ids.
- Lines and letters follow the page (`currentColor`), so that light and dark need one figure.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from clearing.report.history import MarginPoint
from clearing.report.stress import StressReport
from clearing.report.whatif import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# A colour that nothing else has, replaced by the page's.
_INK = "#010203"
_BLUE, _ORANGE, _GREEN, _RED = "#4c8dd6", "#d98324", "#3fa06b", "#cf4a4a"
_MAX_POINTS = 1_500
_WHOLE = 1_000_000


def _style(name: str) -> AbstractContextManager[None]:
    """Settings of one figure; `name` seeds what would be random in it."""
    from matplotlib import rc_context

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(inked, _INK) | {
        "svg.fonttype": "none",
        "svg.hashsalt": f"novate {name}",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "legend.frameon": False,
    }
    return rc_context(settings)


def _svg(figure: "Figure", name: str) -> str:
    """The figure as an element that can stand in HTML beside others; `name` makes its ids its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(_INK, "currentColor").strip()


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _legend(figure: "Figure", lines: "Sequence[Line2D]") -> None:
    """Above the plot, where it covers nothing."""
    labels = [str(line.get_label()) for line in lines]
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels))


def heat_map(grid: Grid) -> str:
    """P&L by price and vol; cells in which maintenance fails are outlined."""
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.patches import Rectangle

    with _style("grid"):
        figure, axes = _figure(3.2)
        values = [[cell / _WHOLE for cell in row] for row in grid.pnl_atoms]
        peak = max((abs(cell) for row in values for cell in row), default=0) or 1
        # Wider than the values, so that no cell is too dark for its text.
        axes.pcolormesh(values, cmap="RdYlGn", norm=TwoSlopeNorm(0, -1.5 * peak, 1.5 * peak), edgecolors="none")
        for y, row in enumerate(values):
            for x, cell in enumerate(row):
                axes.text(x + 0.5, y + 0.5, _short(cell), ha="center", va="center", fontsize=7, color="#111111")
                if grid.failing[y][x]:
                    axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor="#111111", lw=1.6))
        axes.set_xticks([x + 0.5 for x in range(len(grid.spot_percent))], [f"{p:+d} %" for p in grid.spot_percent])
        axes.set_yticks([y + 0.5 for y in range(len(grid.vol_percent))], [f"{p} %" for p in grid.vol_percent])
        axes.set_xlabel("move of all prices")
        axes.set_ylabel("vol against now")
        return _svg(figure, "grid")


def margin_history(points: Sequence[MarginPoint]) -> str:
    """Equity against initial and maintenance margin over time."""
    with _style("margin"):
        figure, axes = _figure(2.8)
        shown = _thinned(points)
        start = shown[0].time_us
        hours = [(point.time_us - start) / 3.6e9 for point in shown]
        series = (
            ("equity", [p.equity for p in shown], _BLUE),
            ("initial margin", [p.initial for p in shown], _ORANGE),
            ("maintenance margin", [p.maintenance for p in shown], _RED),
        )
        for label, values, colour in series:
            heights = [value / _WHOLE for value in values]
            axes.step(hours, heights, where="post", label=label, color=colour, lw=1.4)
        axes.axhline(0, color=_INK, lw=0.6)
        axes.set_xlabel("hours since the account's first entry")
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.set_ylabel("settlement asset")
        _legend(figure, axes.get_lines()[: len(series)])
        return _svg(figure, "margin")


def _thinned(points: Sequence[MarginPoint]) -> list[MarginPoint]:
    """Every n-th point and the last one."""
    step = max(1, -(-len(points) // _MAX_POINTS))
    chosen = list(points[::step])
    if chosen[-1] is not points[-1]:
        chosen.append(points[-1])
    return chosen


def scenario_bars(labels: Sequence[str], pnl: Sequence[int], name: str) -> str:
    """The scenario vector, losses red."""
    with _style(name):
        figure, axes = _figure(2.6)
        values = [value / _WHOLE for value in pnl]
        colours = [_RED if value < 0 else _GREEN for value in values]
        axes.bar(range(len(values)), values, color=colours)
        axes.axhline(0, color=_INK, lw=0.6)
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
        axes.set_ylabel("P&L")
        axes.yaxis.set_major_formatter("{x:,.10g}")
        return _svg(figure, name)


def cascade(report: StressReport, name: str) -> str:
    """How a stress run unfolds: the index, and how many accounts fail and were liquidated."""
    from matplotlib.ticker import MaxNLocator

    with _style(name):
        figure, upper = _figure(3.6)
        rows = report.cascade
        minutes = [row.minutes for row in rows]
        upper.plot(minutes, [row.index_ppm / 10_000 for row in rows], color=_BLUE, lw=1.4, label="index, %")
        upper.set_ylabel(f"{report.reference} index, %")
        upper.set_xlabel("minutes")
        lower = upper.twinx()
        lower.spines["right"].set_visible(True)
        series = (
            ("accounts liquidated", [row.liquidated for row in rows], _ORANGE, "-"),
            ("accounts failing", [row.failing + row.frozen for row in rows], _RED, ":"),
        )
        for label, values, colour, style in series:
            lower.step(minutes, values, where="post", color=colour, lw=1.4, ls=style, label=label)
        lower.set_ylabel("accounts")
        # One account at least, so that an axis on which nothing happens has whole numbers.
        lower.set_ylim(0, 1.05 * max([1, *(count for _, counts, _, _ in series for count in counts)]))
        lower.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, [*upper.get_lines(), *lower.get_lines()])
        return _svg(figure, name)


def losses(report: StressReport, name: str) -> str:
    """Losses over the run: what the waterfall paid, what ADL closed, what is left."""
    with _style(name):
        figure, axes = _figure(2.6)
        minutes = [row.minutes for row in report.cascade]
        series = (
            ("paid by tranches", [row.drawn_atoms for row in report.cascade], _ORANGE),
            ("closed by ADL", [row.adl_atoms for row in report.cascade], _RED),
            ("insurance fund", [row.insurance_atoms for row in report.cascade], _GREEN),
            ("shortfall", [row.shortfall_atoms for row in report.cascade], _BLUE),
        )
        for label, values, colour in series:
            axes.step(minutes, [value / _WHOLE for value in values], where="post", color=colour, lw=1.4, label=label)
        axes.set_xlabel("minutes")
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.set_ylabel("settlement asset")
        _legend(figure, axes.get_lines()[: len(series)])
        return _svg(figure, name)


def _short(value: float) -> str:
    """Three digits and a suffix."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"
