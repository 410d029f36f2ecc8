# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate ingest`: recorded order flow through the same sequencer."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from clearing.cli.output import ERROR, emit, note, reports_errors


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--format", "fmt", required=True, type=click.Choice(["dbn", "lobster"]), help="What FILE holds.")
@click.option("--members", default=50, show_default=True, help="Funded members that share the orders.")
@click.option("--per-signature", default=1, show_default=True, help="Commands in a row that share a signature.")
@click.option("--limit", type=int, help="Stop after so many source events.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Keep the journal in this new directory.")
@reports_errors
def ingest(file: Path, fmt: str, members: int, per_signature: int, limit: int | None, out: Path | None) -> None:
    """Replay FILE order by order and print a JSON summary of what was reproduced."""
    import msgspec

    from clearing.ingest.driver import ingest as run
    from clearing.ingest.summary import IngestFailed

    def progress(events: int, ppm: int) -> None:
        if sys.stderr.isatty():
            width = ppm * 40 // 1_000_000
            bar = "#" * width + "." * (40 - width)
            click.echo(f"\r[{bar}] {ppm / 10_000:5.1f} %  {events:,} events ", err=True, nl=False)

    def go(directory: Path) -> dict[str, Any]:
        try:
            summary = run(
                file,
                fmt,
                directory,
                members=members,
                commands_per_signature=per_signature,
                on_progress=progress,
                limit=limit,
            )
        except IngestFailed as error:
            emit(msgspec.to_builtins(error.summary), True)
            note(f"novate: {error.code}: {error.message}")
            raise SystemExit(ERROR) from None
        finally:
            if sys.stderr.isatty():
                click.echo("", err=True)
        found: dict[str, Any] = msgspec.to_builtins(summary)
        return found

    if out is not None:
        emit(go(out), True)
        return
    with tempfile.TemporaryDirectory(prefix="novate-ingest-") as folder:
        emit(go(Path(folder) / "data"), True)
