# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures that the gas tests measured, for the table in README: collected by name, written as JSON.

Rules: a figure is asserted against its limit where it is noted, so the table holds nothing that was not
tested; it is written at the end of the run to the file that NOVATE_GAS_JSON names, and nowhere without it.
"""

import json
import os
from pathlib import Path

_ROWS: dict[str, dict[str, object]] = {}


def note(name: str, gas: float, limit: int, detail: str = "", unit: str = "gas") -> None:
    """Prints a figure, refuses one above its limit, and keeps it for the table."""
    shown = round(gas, 1) if gas < 1_000 else round(gas)
    print(f"{name}: {shown:,} {unit} (at most {limit:,}){f'; {detail}' if detail else ''}")
    _ROWS[name] = {"gas": shown, "limit": limit, "unit": unit, "detail": detail}
    assert gas <= limit, f"{name} costs {shown:,} {unit}, more than {limit:,}"


def write() -> None:
    """Adds this run's rows to the file's, in the order in which they were measured."""
    name = os.environ.get("NOVATE_GAS_JSON")
    if not name or not _ROWS:
        return
    path = Path(name)
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**old, **_ROWS}, indent=1) + "\n")
