# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as one self-contained page: tables and inline figures, light and dark, no request to anywhere.

Rule: every page ends with what it rests on (entry, hashes, version) and the command that makes it again.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from clearing.report import charts
from clearing.report.account import AccountReport, ScenarioRow
from clearing.report.history import MarginPoint
from clearing.report.provenance import Provenance
from clearing.report.reverse import ReverseReport
from clearing.report.stress import StressReport
from clearing.report.tables import (
    Table,
    account_tables,
    overview,
    provenance_table,
    reverse_table,
    stress_tables,
    venue_tables,
)
from clearing.report.venue import VenueReport
from clearing.report.whatif import Grid

# Pairs with a value longer than this are text: flush left and wrapped.
_LONG = 24
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --rule: #d5dae0; --soft: #f3f5f7; --dim: #5b6570; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #14181d; --rule: #333b44; --soft: #1d232a; --dim: #98a3ae; }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; overflow-wrap: anywhere; } .dim { color: var(--dim); }
figure { margin: 1rem 0; overflow-x: auto; } svg { width: 100%; min-width: 36rem; height: auto; color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { background: var(--soft); font-weight: 600; }
.text td { white-space: normal; } .text td + td { text-align: left; overflow-wrap: anywhere; }
code { font: .82rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
"""


class Section(NamedTuple):
    """A heading, a sentence of explanation (may be empty), tables and figures."""

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[str] = ()


def page(title: str, lead: str, sections: Iterable[Section], stamp: Provenance, command: str) -> str:
    """The whole document of figures that stand at an entry."""
    rests_on = Section("What this rests on", "", (provenance_table(stamp),))
    return document(title, lead, [*sections, rests_on], command)


def document(title: str, lead: str, sections: Iterable[Section], command: str) -> str:
    """The whole document."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p class=dim>{escape(lead)}</p>",
    ]
    parts += [_section(section) for section in sections]
    parts.append(f"<p>Made again by</p><p><code>{escape(command)}</code></p></body></html>\n")
    return "\n".join(parts)


def _section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    figures = "".join(f"<figure>{figure}</figure>" for figure in section.figures)
    return f"<h2>{escape(section.heading)}</h2>{text}{figures}{''.join(map(_table, section.tables))}"


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    caption = f"<p class=dim>{escape(table.title)}</p>" if table.title else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    head = "" if table.is_pairs else f"<thead><tr>{names}</tr></thead>"
    long = table.is_pairs and any(len(cell) > _LONG for row in table.rows for cell in row)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    kind = " class=text" if long else ""
    return f"{caption}<div class=scroll><table{kind}>{head}<tbody>{rows}</tbody></table></div>"


def account_page(report: AccountReport, grid: Grid | None, points: Sequence[MarginPoint], command: str) -> str:
    """`points`: the account's margin through time, from the journal."""
    tables = account_tables(report)
    sections = [Section("Margin", "", (tables.pop("summary")._replace(title=""), tables.pop("requirements")))]
    if grid is not None:
        what = "P&L if all prices and vols moved at once. Outlined: equity would be below maintenance margin."
        sections.append(Section("Prices and vols", what, (), (charts.heat_map(grid),)))
    for at, scan in enumerate(report.scans):
        labels = [scenario_label(row) for row in scan.scenarios]
        bars = charts.scenario_bars(labels, [row.pnl_atoms for row in scan.scenarios], f"scan{at}")
        told = "binding" if scan.binding else "for information: standard margin binds"
        text = f"Preset {scan.preset}, {told}. Array {scan.array_hash}."
        sections.append(
            Section(f"{scan.underlying}: scenarios", text, (tables.pop(f"scan {scan.underlying}"),), (bars,))
        )
    if len(points) > 1:
        what = "As journalled after every entry that changed it, and as prices have it at each epoch's close."
        sections.append(Section("Margin through time", what, (), (charts.margin_history(points),)))
    sections += [Section(table.title, "", (table._replace(title=""),)) for table in tables.values() if table.rows]
    lead = f"{report.mode} margin, {report.status.lower().replace('_', ' ')}, owner {report.owner}"
    return page(f"Account {report.account}", lead, sections, report.provenance, command)


def scenario_label(row: ScenarioRow) -> str:
    return f"{row.spot * 100:+.1f}% {row.vol}"


def venue_page(report: VenueReport, command: str) -> str:
    sections = [Section(t.title, "", (t._replace(title=""),)) for t in venue_tables(report).values() if t.rows]
    lead = f"{report.accounts} accounts after entry {report.provenance.seq}"
    return page("Venue risk", lead, sections, report.provenance, command)


def stress_page(reports: Sequence[StressReport], turned: ReverseReport | None, command: str) -> str:
    """An overview of several runs, the runs and, if made, the reverse stress. Runs that cost nothing have no figure
    of losses."""
    sections = [Section("Overview", "", (overview(reports),))] if len(reports) > 1 else []
    for at, report in enumerate(reports):
        summary, *rest = stress_tables(report)
        figures = [charts.cascade(report, f"run{at}")]
        if any(row.drawn_atoms or row.adl_atoms or row.shortfall_atoms for row in report.cascade):
            figures.append(charts.losses(report, f"loss{at}"))
        sections.append(Section(f"{report.title} ({report.scenario})", report.source, (summary, *rest), figures))
    if turned is not None:
        what = "The smallest move of all prices within ten minutes that exhausts each tranche."
        sections.append(Section("Reverse stress", what, (reverse_table(turned),)))
    stamp = reports[0].provenance if reports else turned.provenance if turned is not None else None
    assert stamp is not None, "a page has a run or the reverse stress"
    failed = [report.scenario for report in reports if report.depth > 1]
    lead = f"{len(reports)} scenarios on entry {stamp.seq}; the waterfall is reached in {len(failed)} of them"
    return page("Stress", lead, sections, stamp, command)
