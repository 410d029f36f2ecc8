# SPDX-License-Identifier: GPL-3.0-or-later
"""LOBSTER message files as events: `time,type,order id,size,price,direction`, one message a line.

Rules:
- Prices are dollars x 10,000 in the file and x 1,000,000 (atoms) here; one share is one lot. Times are
  seconds after midnight, read as decimals and never as floats; the day is the one in the file's
  name (`AAPL_2012-06-21_...csv`), else 1970-01-02.
- Types: 1 new, 2 partial cancel, 3 delete, 4 execution of a visible order, 5 of a hidden one, 6 cross
  trade, 7 halt. Hidden executions and crosses touch no visible order: counted, not replayed.
- Direction is the resting order's, so an execution's aggressor is on the other side. Executions in a
  row with one time and direction are one aggressor.
- An order that is first seen by anything but type 1 rested before the file starts. A first pass over the
  file finds these and how much of each is ever taken away, which is the least it can have held; they
  are placed before everything else, in order of id, which is the order of arrival at that exchange.
- A line that cannot be read ends both passes there: what came before it stands.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from clearing.ingest.events import (
    Add,
    Cancel,
    Event,
    Fill,
    Halt,
    PartialCancel,
    Skipped,
    Trade,
    malformed,
)
from clearing.model import ids
from clearing.model.errors import NovateError

_ATOMS_PER_UNIT = 100
_DAY = re.compile(r"_(\d{4})-(\d{2})-(\d{2})_")
_TIME = re.compile(r"(\d{1,6})(?:\.(\d{1,12}))?")
_NEW, _PARTIAL, _DELETE, _VISIBLE, _HIDDEN, _CROSS, _HALT = range(1, 8)
_SKIPPED = {_HIDDEN: "hidden execution", _CROSS: "cross trade"}

# (time_us, type, order id, size, price in atoms, resting side)
_Row = tuple[int, int, int, int, int, int]


class LobsterSource:
    """One message file. Raises `NovateError` INGEST_MALFORMED."""

    def __init__(self, path: Path) -> None:
        self.symbol = path.name.split("_")[0].split(".")[0][:32]
        self._path = path
        self._size = max(1, path.stat().st_size)
        self._read = 0
        self._midnight_us = _midnight_us(path)

    @property
    def progress_ppm(self) -> int:
        return min(ids.PPM, self._read * ids.PPM // self._size)

    def events(self) -> Iterator[Event]:
        """The implied opening book, then the events in file order."""
        yield from self._opening()
        held: list[tuple[int, _Row]] = []
        failure: NovateError | None = None
        try:
            for where, row in self._rows():
                if held and (row[0], row[1], row[5]) != (held[0][1][0], _VISIBLE, held[0][1][5]):
                    yield _trade(held)
                    held = []
                if row[1] == _VISIBLE:
                    held.append((where, row))
                else:
                    yield _single(where, row)
        except NovateError as error:
            failure = error
        if held:
            yield _trade(held)
        if failure is not None:
            raise failure

    def _opening(self) -> list[Event]:
        """Orders that must have rested before the first line, by order id."""
        taken: dict[int, list[int]] = {}
        born: set[int] = set()
        start_us = -1
        try:
            for _, (time_us, kind, order_id, size, price, side) in self._rows():
                start_us = time_us if start_us < 0 else start_us
                if kind == _NEW:
                    born.add(order_id)
                elif kind in (_PARTIAL, _DELETE, _VISIBLE) and order_id not in born:
                    taken.setdefault(order_id, [side, price, 0])[2] += size
        except NovateError:
            pass  # the second pass meets the same line and reports it, after what came before
        return [
            Add(
                time_us=start_us,
                where=1,
                order_id=order_id,
                side=side,
                price_atoms=price,
                size_lots=size,
                opening=True,
            )
            for order_id, (side, price, size) in sorted(taken.items())
        ]

    def _rows(self) -> Iterator[tuple[int, _Row]]:
        """(line number, row) of every line."""
        self._read = 0
        last_us = 0
        where = 0
        with self._path.open("rb") as file:
            for where, line in enumerate(file, start=1):
                self._read += len(line)
                try:
                    row = _parse(line, self._midnight_us)
                except ValueError as error:
                    raise malformed(self._path, where, str(error)) from None
                if row[0] < last_us:
                    raise malformed(self._path, where, "the time is before the line above")
                last_us = row[0]
                yield where, row
        if not where:
            raise malformed(self._path, 1, "the file is empty")


def _midnight_us(path: Path) -> int:
    """Midnight of the day in the file's name, microseconds UTC; a day after the epoch without one."""
    found = _DAY.search(path.name)
    if found is None:
        return ids.DAY_US
    try:
        day = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
    except ValueError:
        return ids.DAY_US
    return int(day.timestamp()) * 1_000_000


def _parse(line: bytes, midnight_us: int) -> _Row:
    """Raises ValueError with what is wrong."""
    try:
        fields = line.decode("ascii").strip().split(",")
    except UnicodeDecodeError:
        raise ValueError("not ASCII text") from None
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields instead of 6")
    time = _TIME.fullmatch(fields[0])
    if time is None:
        raise ValueError(f"time {fields[0]!r} is not seconds after midnight")
    micros = int((time[2] or "").ljust(6, "0")[:6])
    numbers = [_integer(name, text) for name, text in zip(_NAMES, fields[1:], strict=True)]
    kind, order_id, size, price, direction = numbers
    if not _NEW <= kind <= _HALT:
        raise ValueError(f"type {kind} is not 1 to 7")
    if kind <= _VISIBLE and (order_id <= 0 or size <= 0 or price <= 0):
        raise ValueError("order id, size and price must be positive")
    if kind <= _VISIBLE and direction not in (1, -1):
        raise ValueError(f"direction {direction} is neither 1 (buy) nor -1 (sell)")
    time_us = midnight_us + int(time[1]) * 1_000_000 + micros
    return time_us, kind, order_id, size, price * _ATOMS_PER_UNIT, ids.BUY if direction == 1 else ids.SELL


_NAMES = ("type", "order id", "size", "price", "direction")


def _integer(name: str, text: str) -> int:
    # int() also takes signs, spaces and underscores, which no such file has
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 19:
        raise ValueError(f"{name} {text[:24]!r} is not a whole number")
    return int(text)


def _trade(rows: list[tuple[int, _Row]]) -> Trade:
    where, first = rows[0]
    return Trade(
        time_us=first[0],
        where=where,
        aggressor_id=0,
        side=1 - first[5],
        fills=tuple(Fill(row[2], row[4], row[3]) for _, row in rows),
    )


def _single(where: int, row: _Row) -> Event:
    time_us, kind, order_id, size, price, side = row
    if kind == _NEW:
        return Add(
            time_us=time_us,
            where=where,
            order_id=order_id,
            side=side,
            price_atoms=price,
            size_lots=size,
        )
    if kind == _PARTIAL:
        return PartialCancel(time_us=time_us, where=where, order_id=order_id, size_lots=size)
    if kind == _DELETE:
        return Cancel(time_us=time_us, where=where, order_id=order_id)
    if kind == _HALT:
        return Halt(time_us=time_us, where=where)
    return Skipped(time_us=time_us, where=where, what=_SKIPPED[kind])
