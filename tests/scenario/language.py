# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a scenario file, as data.

    scenario: <what it shows>
    given venue | given fee tiers | given accounts | given prices | when | then ...
    | column | column |
    | cell   | cell   |

Rules:
- A line is a comment (#), a heading, or a table row; anything else is an error with its line number.
- The first row of a table names its columns. Money is in USD with up to six decimals, sizes in lots.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path


class ScenarioError(Exception):
    """The file does not say something that can be run; the message names file and line."""


@dataclass
class Table:
    """One heading with its rows; `line` is that of the heading."""

    heading: str
    line: int
    columns: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)


@dataclass
class Scenario:
    title: str
    path: Path
    line: int
    tables: list[Table] = field(default_factory=list)


def atoms(text: str) -> int:
    """USD as written, in atoms. Raises `ScenarioError` below one atom."""
    value = Decimal(text.replace(",", "")) * 1_000_000
    if value != int(value):
        raise ScenarioError(f"{text} USD is not a whole number of atoms")
    return int(value)


def usd(value: int) -> str:
    """Atoms as USD, without trailing zeros."""
    sign, value = ("-" if value < 0 else ""), abs(value)
    fraction = f"{value % 1_000_000:06}".rstrip("0")
    return f"{sign}{value // 1_000_000}" + (f".{fraction}" if fraction else "")


def duration_us(text: str) -> int:
    """`10s`, `5m`, `1h`, `30d`, `1us`, with an optional minus."""
    units = {"us": 1, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6}
    digits = text.rstrip("usmhd")
    return int(digits) * units[text[len(digits) :]]


def parse(path: Path) -> list[Scenario]:
    """All scenarios of a file. Raises `ScenarioError`."""
    found: list[Scenario] = []
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("scenario:"):
            found.append(Scenario(line.removeprefix("scenario:").strip(), path, number))
        elif line.startswith(("given ", "when", "then ")) and found:
            found[-1].tables.append(Table(line, number))
        elif line.startswith("|") and found and found[-1].tables:
            _row(path, number, line, found[-1].tables[-1])
        else:
            raise ScenarioError(f"{path.name}:{number}: not a heading and not a row: {line}")
    return found


def _row(path: Path, number: int, line: str, table: Table) -> None:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if not table.columns:
        table.columns = cells
    elif len(cells) != len(table.columns):
        raise ScenarioError(f"{path.name}:{number}: {len(cells)} cells, {len(table.columns)} columns")
    else:
        table.rows.append((number, dict(zip(table.columns, cells, strict=True))))
