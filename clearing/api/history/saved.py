# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles on disk, so that a restart need not read the days that they are made of.

    interface/candles.msgpack   [version, [row per market]], canonical msgpack

Rules:
- A cache: what it says follows from the journal. A row holds a market's candles, its day and its last trade as of a
  seq, together with the hash of the entry before; a row whose entry the journal does not hold is passed over, and so is
  a file that cannot be read.
- Written beside the old one and renamed. Trades from a row's seq on are counted from the journal.
"""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from clearing.api.messages.market import Candle

_VERSION: Final = 1
# minute, open, high, low, volume, turnover (decimal: it may pass 64 bits), trades
Minute = tuple[int, int, int, int, int, str, int]


class Row(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One market after the entries below `seq`; `entry_hash`: SHA-256 of the last of them. `rate_ppm` of the last
    funding, if any."""

    instrument: int
    seq: int
    entry_hash: bytes
    last_price: int
    last_lots: int
    rate_ppm: int | None
    series: list[list[Candle]]
    minutes: list[Minute]


class _File(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    rows: list[Row]


def path_of(data_dir: Path) -> Path:
    """Where it is."""
    return data_dir / "interface" / "candles.msgpack"


def save(path: Path, rows: list[Row]) -> None:
    """Replace the file. Raises `OSError`."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.msgpack.encode(_File(_VERSION, rows)))
    os.replace(temporary, path)


def load(path: Path, entry: Callable[[int], bytes | None]) -> list[Row]:
    """The rows that fit the journal; `entry(seq)` is an entry of it, or None."""
    try:
        found = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError, ValueError):
        return []
    if found.version != _VERSION:
        return []
    sound = []
    for row in found.rows:
        data = entry(row.seq - 1)
        if data is not None and sha256(data).digest() == row.entry_hash:
            sound.append(row)
    return sound
