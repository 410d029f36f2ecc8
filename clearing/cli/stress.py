# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate stress`: named scenarios and reverse stress on a copy of the venue, from the journal alone."""

from pathlib import Path

import click

from clearing.cli.options import json_option
from clearing.cli.output import emit, note, reports_errors
from clearing.cli.risk import command_line, replayed, report_options, source_words, write_page


@click.group()
def stress() -> None:
    """Stress the venue: named scenarios, reverse stress."""


@stress.command("list")
@json_option
@reports_errors
def list_command(as_json: bool) -> None:
    """List the scenarios and what each is made of."""
    from clearing.report.provenance import to_json
    from clearing.report.scenarios import SCENARIOS

    lines = [line for item in SCENARIOS for line in (f"{item.name}: {item.title}", f"    {item.source}")]
    emit({"scenarios": to_json(SCENARIOS)}, as_json, lines)


@stress.command("run")
@click.argument("scenarios", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every scenario.")
@click.option("--reverse", is_flag=True, help="Find the smallest price move that exhausts each tranche.")
@report_options
@reports_errors
def run_command(
    scenarios: tuple[str, ...],
    everything: bool,
    reverse: bool,
    journal: Path | None,
    api: str | None,
    at: int | None,
    no_signatures: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Run SCENARIOS (see `novate stress list`) on a copy of the venue, to the end of the waterfall.

    The rules of the venue itself liquidate and share losses; money is checked after every step. Members are
    taken to do nothing: nobody quotes, deposits or bids.
    """
    from clearing.report import stress as engine
    from clearing.report.provenance import to_json
    from clearing.report.reverse import reverse as turn
    from clearing.report.scenarios import SCENARIOS, named
    from clearing.report.tables import overview, provenance_table, reverse_table, stress_tables

    if everything == bool(scenarios) and (everything or not reverse):
        raise click.UsageError("name scenarios, or give --all, or --reverse")
    chosen = SCENARIOS if everything else tuple(map(named, scenarios))
    found = replayed(journal, api, at, no_signatures)
    reports = []
    for scenario in chosen:
        note(f"running {scenario.name}")
        reports.append(engine.run(found, scenario))
    turned = turn(found) if reverse else None
    lines = list(overview(reports).lines())
    if len(reports) == 1:
        lines = [reports[0].title, reports[0].source]
        lines += [line for table in stress_tables(reports[0]) for line in table.lines()]
    if turned is not None:
        lines += ["reverse stress: the smallest move of all prices that exhausts a tranche"]
        lines += reverse_table(turned).lines()
    lines += provenance_table(found.provenance)._replace(title="From").lines()
    data = {
        "provenance": to_json(found.provenance),
        "runs": to_json(reports),
        "reverse": to_json(turned) if turned is not None else None,
    }
    emit(data, as_json, lines)
    if html is not None:
        from clearing.report.html import stress_page

        flags = [word for word, given in (("--all", everything), ("--reverse", reverse)) if given]
        words = [*scenarios, *flags, *source_words(journal, api), "--html", str(html)]
        write_page(html, stress_page(reports, turned, command_line("stress run", found.provenance.seq, *words)))
