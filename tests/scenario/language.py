# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a scenario file, as data.

    scenario: <what it shows>
    given venue        setting, value (`ladder.cooldown_us | 10s`; `publishers | 5`)
    given fee tiers    volume, maker ppm, taker ppm
    given underlyings  name, and what differs from the default: preset, depth, oi lower, oi upper, size factor
    given instruments  name, kind (future, call, put), on, expiry (from the start), strike, and tick, imf, mmf
    given assets       name, priced by, and haircut, weight, cap, order, reference, redemption, band
    given accounts     name, deposit, and one column per asset; fees, insurance and capital are the house's
    given prices       market, price (and vol, forward, rate of its expiries), and by: the publisher
    when               who (empty: the venue), does (see sentences.py), so (what happened, in words)
    then accounts      name, and what of it: cash, equity, initial, maintenance, a market, an asset, ...
    then exits | then markets | then book M | then scenarios of A in M | then line for A in M

Rules:
- A line is a comment (#), a heading, or a table row; anything else is an error with its line number.
- The first row of a table names its columns. Money is in USD with up to six decimals, sizes in lots. Every asset
  has six decimals too, and a unit of it is a lot of what prices it. Times are 10s, 5m, 1h, 30d.
- BTC and ETH are always there: perpetuals, initial margin 10 %, maintenance 5 %, tick 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from clearing.model.ids import UNIT
from clearing.model.params import Params


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


_TIMES = {"us": 1, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6}


def duration_us(text: str) -> int:
    """`10s`, `5m`, `1h`, `30d`, `1us`, with an optional minus."""
    digits = text.rstrip("usmhd")
    return int(digits) * _TIMES[text[len(digits) :]]


def duration(value_us: int) -> str:
    """The largest unit that says it exactly."""
    for unit, size in reversed(_TIMES.items()):
        if value_us % size == 0:
            return f"{value_us // size}{unit}"
    raise AssertionError("a microsecond divides every time")


def part(text: str, whole: int) -> int:
    """`5%` (or `5`, taken as it is) of a whole. Raises `ScenarioError` if that is no integer."""
    if not text.endswith("%"):
        return int(text)
    value = Decimal(text.removesuffix("%")) * whole / 100
    if value != int(value):
        raise ScenarioError(f"{text} of {whole} is not an integer")
    return int(value)


def percent(value: int, whole: int) -> str:
    """The other way round, exactly."""
    return f"{(Decimal(value) * 100 / whole).normalize():f}%"


def _number(name: str, text: str) -> int:
    """A setting, in the unit that its name ends with."""
    if name.endswith("_us"):
        return duration_us(text)
    if name.endswith("_atoms"):
        return atoms(text)
    return part(text, 10**6 if name.endswith(("_ppm", "_ppm_per_day", "_ppm_per_year")) else UNIT)


def changed(params: Params, name: str, text: str) -> Params:
    """`params` with a setting such as `funding_cap_ppm`, `ladder.cooldown_us` or `assets.WBTC.cap_atoms`."""
    group, _, rest = name.partition(".")
    if not rest:
        return msgspec.structs.replace(params, **{name: _number(name, text)})
    before: Any = getattr(params, group)
    if isinstance(before, tuple):
        symbol, _, field_name = rest.partition(".")
        new = {field_name: _number(field_name, text)}
        after: Any = tuple(msgspec.structs.replace(x, **new) if x.symbol == symbol else x for x in before)
        if after == before:
            raise ScenarioError(f"{name} {text} changes nothing")
    else:
        after = msgspec.structs.replace(before, **{rest: _number(rest, text)})
    return msgspec.structs.replace(params, **{group: after})


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
