# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate risk`: what an account and the venue stand to lose, computed from the journal alone."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clearing.cli.options import NUMBER, F, json_option
from clearing.cli.output import DIVERGED, emit, fail, note, reports_errors

if TYPE_CHECKING:
    from clearing.report.history import Read


def report_options(command: F) -> F:
    """Where the journal is, how far to read it, and where the page goes; for all reports."""
    options = (
        click.option(
            "--journal",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Journal or data directory.",
        ),
        click.option("--api", envvar="NOVATE_API", help="Read the journal from the operator at this URL instead."),
        click.option("--at", type=NUMBER, help="Stop after entry AT instead of at the end."),
        click.option("--no-signatures", is_flag=True, help="Trust the signatures; replay only."),
        click.option(
            "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a self-contained page to HTML."
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def replayed(journal: Path | None, api: str | None, at: int | None, no_signatures: bool, account: int = -1) -> "Read":
    """The journal's state and course. Exits 5 if the journal is not what its commands give."""
    from clearing.cli.sources import entries
    from clearing.model.errors import NovateError
    from clearing.report.history import read

    started = time.perf_counter()
    show = sys.stderr.isatty()

    def progress(count: int) -> None:
        if show:
            rate = count / (time.perf_counter() - started)
            click.echo(f"\rreplayed {count:,} entries, {rate:,.0f}/s ", err=True, nl=False)

    source = entries(journal, api)
    try:
        found = read(source, account=account, at=at, check_signatures=not no_signatures, on_progress=progress)
    except NovateError as error:
        if error.code == "REPLAY_DIVERGED":
            fail(error.code, error.message, DIVERGED)
        raise
    if show:
        click.echo("", err=True)
    return found


def command_line(name: str, at: int, *arguments: str | Path | None) -> str:
    """The command that makes a report again, at the same entry."""
    words = ["novate", *name.split(), *(str(word) for word in arguments if word is not None), "--at", str(at)]
    return shlex.join(words)


def source_words(journal: Path | None, api: str | None) -> tuple[str, str]:
    return ("--journal", str(journal)) if journal is not None else ("--api", str(api))


def write_page(html: Path, text: str) -> None:
    html.write_text(text, encoding="utf-8")
    note(f"wrote {html}")


@click.group()
def risk() -> None:
    """Risk reports of an account or the venue, from the journal."""


@risk.command("account")
@click.argument("number", type=NUMBER, envvar="NOVATE_ACCOUNT")
@report_options
@reports_errors
def account_command(
    number: int,
    journal: Path | None,
    api: str | None,
    at: int | None,
    no_signatures: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Show what account NUMBER is worth, must hold and risks: margin, scenarios, Greeks, distance to liquidation.

    The journal is replayed and compared entry by entry; exits 5 if it is not what its commands give.
    """
    from clearing.report.account import account_report
    from clearing.report.provenance import to_json
    from clearing.report.tables import account_tables, provenance_table

    found = replayed(journal, api, at, no_signatures, number)
    report = account_report(found, number)
    tables = [*account_tables(report).values(), provenance_table(report.provenance)._replace(title="From")]
    emit(to_json(report), as_json, [line for table in tables for line in table.lines()])
    if html is not None:
        from clearing.report.html import account_page
        from clearing.report.whatif import grid

        again = command_line(
            f"risk account {number}", report.provenance.seq, *source_words(journal, api), "--html", html
        )
        write_page(html, account_page(report, grid(found.state, number), found.history.margin, again))


@risk.command("venue")
@report_options
@reports_errors
def venue_command(
    journal: Path | None, api: str | None, at: int | None, no_signatures: bool, html: Path | None, as_json: bool
) -> None:
    """Show what stands behind defaults and what could hit it: tranches, cover-1 and cover-2, concentration.

    Also how data and margins have held so far: oracle uptime, backtest breaches, liquidations and ADL.
    """
    from clearing.report.provenance import to_json
    from clearing.report.tables import provenance_table, venue_tables
    from clearing.report.venue import venue_report

    found = replayed(journal, api, at, no_signatures)
    report = venue_report(found)
    tables = [*venue_tables(report).values(), provenance_table(report.provenance)._replace(title="From")]
    emit(to_json(report), as_json, [line for table in tables for line in table.lines()])
    if html is not None:
        from clearing.report.html import venue_page

        again = command_line("risk venue", report.provenance.seq, *source_words(journal, api), "--html", html)
        write_page(html, venue_page(report, again))
