# SPDX-License-Identifier: GPL-3.0-or-later
"""Run slither over the contracts: exit 1 unless every finding is explained and every explanation is needed.

python -m tools.slither            what `make slither` runs after it made slither's own environment
python -m tools.slither --all      show the explained findings too
"""

import argparse
import sys
from collections import Counter

from tools.slither.findings import TRIAGE, AnalysisError, check


def main() -> int:
    parser = argparse.ArgumentParser(description="Static analysis of the contracts.")
    parser.add_argument("--all", action="store_true", help="show the explained findings too")
    show_all: bool = parser.parse_args().all
    try:
        found, problems = check()
    except AnalysisError as error:
        print(f"slither: {error}", file=sys.stderr)
        return 1
    if show_all:
        for one in found:
            print(f"{one.impact:13}  {one.check:24}  {one.place}\n    {one.what}")
    for problem in problems:
        print(problem)
    by_impact = Counter(one.impact for one in found)
    told = ", ".join(f"{count} {impact.lower()}" for impact, count in by_impact.items())
    print(f"slither: {len(found)} findings ({told}), {len(problems)} to deal with; see {TRIAGE.name}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
