# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.bench.load`: the load alone, with as many processes and connections as asked for."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.bench.__main__ import show
from tools.bench.load.figures import load
from tools.bench.load.venue import Size
from tools.bench.measure import Plan


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print the rows; returns the exit code."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m tools.bench.load", description=__doc__)
    parser.add_argument("--workers", type=_count, default=usual.workers, help="processes that send")
    parser.add_argument("--connections", type=_count, default=usual.connections, help="that send, of all workers")
    parser.add_argument("--idle", type=_count, default=usual.idle, help="connections that do nothing")
    parser.add_argument("--window", type=_count, default=usual.window, help="envelopes under way on a connection")
    parser.add_argument("--rounds", type=_count, default=3, help="at most 3")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where journals go: the disk that counts")
    chosen = parser.parse_args(argv)
    if chosen.connections < chosen.workers:
        parser.error("--connections must be at least --workers: a worker without one has nothing to send")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    size = Size(chosen.workers, chosen.connections, chosen.idle, chosen.window)
    for figure in load(Plan(chosen.folder.absolute(), chosen.rounds, 10 if chosen.quick else 1), size):
        show(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
