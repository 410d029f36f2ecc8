# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate demo`: the whole story, each party in a process of its own.

What it shows is real: an EVM behind a localhost port, an LMDB journal on disk, an operator process,
signed orders over HTTP, proofs checked against the chain. It ends in a table of what was proven and
exits non-zero if anything did not hold.
"""

import tempfile
from pathlib import Path

import click

from clearing.cli.output import ERROR, reports_errors


@click.command()
@click.option("--members", default=6, show_default=True, type=click.IntRange(4, 40), help="Members of the venue.")
@click.option("--orders", default=1_500, show_default=True, type=click.IntRange(100, 200_000), help="Signed orders.")
@click.option("--seed", default=2026, show_default=True, help="Seed of the simulated market.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep keys, logs and bundles here.")
@reports_errors
def demo(members: int, orders: int, seed: int, keep: Path | None) -> None:
    """Trade, verify, audit; then the operator disappears and everyone leaves with everything."""
    from clearing.cli.story import Story

    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        ok = Story(keep, members, orders, seed).tell()
    else:
        with tempfile.TemporaryDirectory(prefix="novate-demo-") as folder:
            ok = Story(Path(folder), members, orders, seed).tell()
    if not ok:
        raise SystemExit(ERROR)
