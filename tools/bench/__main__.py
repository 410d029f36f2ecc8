# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tools.bench`: run benchmarks, print the table, write JSON.

The exit code is 0 whether goals are met or not: a benchmark reports, and whoever reads it judges.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.bench import audits, core, disk, gas, growth, link, liquidations, live, plot, replay, risk
from tools.bench.load import figures as load
from tools.bench.measure import Figure, Plan

GROWTH = "risk-growth"
BENCHMARKS: dict[str, Callable[[Plan], list[Figure]]] = {
    "live": live.live,
    "batched": live.batched,
    "outside": live.outside,
    "link": link.link,
    "load": load.load,
    "matching": core.matching,
    "replay": replay.without_signatures,
    "replay-signed": replay.with_signatures,
    "audit": audits.audits,
    "append": disk.append,
    "latency": disk.latency,
    "accounts": core.accounts_growth,
    "orders": core.orders_growth,
    "epoch": core.epoch_close,
    "restore": core.restore,
    "gas": gas.gas,
    "greeks": risk.greeks,
    "risk-array": risk.risk_array,
    "order-check": risk.order_check,
    "sweep": risk.sweeps,
    "liquidation": liquidations.latency,
    GROWTH: growth.growth,
}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Medians with ratios, side by side.")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="one benchmark; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, three rounds")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="where journals go: the disk that counts")
    parser.add_argument("--plot", type=Path, help=f"picture of growth to write (.svg, .png); needs {GROWTH}")
    chosen = parser.parse_args(argv)
    if chosen.plot and chosen.only and GROWTH not in chosen.only:
        parser.error(f"--plot draws what {GROWTH} measures; add --only {GROWTH}")
    return chosen


def _verdict(figure: Figure) -> str:
    return "not measured" if figure.met is None else "met" if figure.met else "NOT MET"


def show(figure: Figure) -> None:
    """One row on stdout."""
    ratio = "-" if figure.met is None else f"{figure.ratio:.3g}"
    print(f"{figure.name:66} {ratio:>7}  goal {figure.goal:8} {_verdict(figure):12} {figure.ours} | {figure.other}")
    if figure.remark:
        print(f"{'':4}{figure.remark}")
    sys.stdout.flush()


def _machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_before": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; returns the exit code."""
    chosen = _arguments(argv)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(chosen.folder.absolute(), 3, 10) if chosen.quick else Plan(chosen.folder.absolute())
    machine = _machine()
    where = f"{machine['cores']} cores, Python {machine['python']}, load {machine['load_before']:.1f}"
    print(f"{where}; ours | the other side")
    figures: list[Figure] = []
    for name in chosen.only or BENCHMARKS:
        for figure in BENCHMARKS[name](plan):
            show(figure)
            figures.append(figure)
    missed = [figure.name for figure in figures if figure.met is False]
    print(
        f"{len(figures) - len(missed)} of {len(figures)} within their goals"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    if chosen.plot:
        plot.draw(figures, chosen.plot)
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine, "quick": chosen.quick, "figures": [figure.as_dict() for figure in figures]}
        chosen.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
