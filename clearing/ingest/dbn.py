# SPDX-License-Identifier: GPL-3.0-or-later
"""Databento MBO files (`.dbn`, `.dbn.zst`) as events.

Rules:
- Ten units of price (1e-8) are one atom per lot: a lot is worth 100 times the quoted price in the
  settlement asset, and every tick down to 1/256 is exact. A finer price is refused, never rounded. One
  contract is one lot.
- A trade (T) and the fills (F) after it are one `Trade`; so are several T of one aggressor at one time
  (a sweep over prices). Where the aggressor's own order is known it has an F too, which is not a
  resting fill and is left out. Side N is a call auction.
- The cancels and modifies that a trade causes come after it, at the same time. They are passed on as
  they stand: the plan knows from the fills that there is nothing left for them to do. One that
  cancels an order which did not trade was the exchange's self-match prevention, which took that order
  out of the aggressor's way: it is passed on before the trade.
- Records with the snapshot flag are the opening book; they rest since before the file begins.
- A file holds one instrument.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databento_dbn
import zstandard

from clearing.ingest.events import (
    Add,
    Auction,
    Cancel,
    Clear,
    Event,
    Fill,
    Modify,
    Skipped,
    Trade,
    malformed,
)
from clearing.model import ids
from clearing.model.errors import NovateError

_CHUNK_BYTES = 1 << 18
_SNAPSHOT = 32
_UNITS_PER_ATOM = 10
_UNDEFINED_PRICE = 2**63 - 1
_SIDES = {"B": ids.BUY, "A": ids.SELL}
_OF_A_MATCH = ("T", "F", "C", "M", "A")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class DbnSource:
    """One `.dbn` or `.dbn.zst` file. Raises `NovateError` INGEST_MALFORMED or INGEST_UNSUPPORTED."""

    def __init__(self, path: Path) -> None:
        self.symbol = path.name.split(".")[0][:32]
        self._path = path
        self._size = max(1, path.stat().st_size)
        self._read = 0
        self._where = 0

    @property
    def progress_ppm(self) -> int:
        return min(ids.PPM, self._read * ids.PPM // self._size)

    def events(self) -> Iterator[Event]:
        """The events in file order."""
        tape = _Tape()
        failure: NovateError | None = None
        try:
            for record in self._one_instrument(self._records()):
                yield from tape.push(record, self._where)
        except NovateError as error:
            failure = error
        yield from tape.flush()
        if failure is not None:
            raise failure

    def _one_instrument(self, records: Iterator[Any]) -> Iterator[Any]:
        instrument = -1
        for record in records:
            if record.instrument_id != instrument:
                if instrument != -1:
                    raise NovateError(
                        "INGEST_UNSUPPORTED",
                        f"{self._path}:{self._where}: a second instrument ({record.instrument_id} after "
                        f"{instrument}); split the file by instrument",
                    )
                instrument = record.instrument_id
            if record.price % _UNITS_PER_ATOM and record.price != _UNDEFINED_PRICE:
                raise NovateError(
                    "INGEST_UNSUPPORTED",
                    f"{self._path}:{self._where}: price {record.price}e-9 is finer than 1e-8; "
                    "such an instrument needs another scale",
                )
            yield record

    def _records(self) -> Iterator[Any]:
        """MBO records, counted from 1 in `_where`."""
        decoder = databento_dbn.DBNDecoder()
        try:
            for chunk in self._chunks():
                decoder.write(chunk)
                for record in decoder.decode():
                    if isinstance(record, databento_dbn.MBOMsg):
                        self._where += 1
                        yield record
                    elif isinstance(record, databento_dbn.Metadata):
                        self._check(record)
        except (databento_dbn.DBNError, zstandard.ZstdError, EOFError) as error:
            raise malformed(self._path, self._where + 1, f"not a DBN record ({error})", "record") from None
        if not self._where and not self._read:
            raise malformed(self._path, 1, "the file is empty", "record")
        if decoder.buffer():
            raise malformed(self._path, self._where + 1, "the file ends inside a record", "record")

    def _check(self, metadata: Any) -> None:
        if str(metadata.schema) != "mbo":
            raise NovateError(
                "INGEST_UNSUPPORTED",
                f"{self._path} has schema {metadata.schema}; only mbo names single orders",
            )
        if metadata.symbols:
            self.symbol = str(metadata.symbols[0])[:32]

    def _chunks(self) -> Iterator[bytes]:
        """Decompressed pieces of the file."""
        with self._path.open("rb") as file:
            packed = file.read(len(_ZSTD_MAGIC)) == _ZSTD_MAGIC
            file.seek(0)
            unpack = _Frames()
            while chunk := file.read(_CHUNK_BYTES):
                self._read += len(chunk)
                yield unpack.push(chunk) if packed else chunk
            if packed and not unpack.complete:
                raise EOFError("the compressed stream is cut off")


class _Frames:
    """Decompresses zstd frames one after another; a file may hold many."""

    def __init__(self) -> None:
        self.complete = True
        self._frame: Any = None

    def push(self, data: bytes) -> bytes:
        """Take compressed bytes; returns what they give."""
        parts = []
        while data:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._frame.decompress(data))
            self.complete = self._frame.eof
            data = self._frame.unused_data if self.complete else b""
            if self.complete:
                self._frame = None
        return b"".join(parts)


class _Tape:
    """Groups records into events; holds a match (trades, fills, what they caused) back until it is whole."""

    def __init__(self) -> None:
        self._time_us = 0
        self._match: list[tuple[Any, int]] = []

    def push(self, record: Any, where: int) -> Iterator[Event]:
        """Take the next record; yields what it completes."""
        action, match = str(record.action), self._match
        if match:
            if record.ts_event == match[0][0].ts_event and action in _OF_A_MATCH:
                match.append((record, where))
                return
            yield from self.flush()
        # A snapshot's orders carry the times of their making; they all stand at the file's start.
        nanos = record.ts_recv if record.flags & _SNAPSHOT else record.ts_event
        self._time_us = max(self._time_us, nanos // 1_000)
        if action == "T":
            self._match = [(record, where)]
        else:
            yield self._single(record, where)

    def flush(self) -> Iterator[Event]:
        """Yield the match that is held back, if any: first what was pulled, then trades, then the rest."""
        match, self._match = self._match, []
        traded = {record.order_id for record, _ in match if str(record.action) in "TF"}
        pulled = {record.order_id for record, _ in match if record.action == "C" and record.order_id not in traded}
        after: list[tuple[Any, int]] = []
        trades: list[tuple[Any, int, list[Fill]]] = []
        for record, where in match:
            action = str(record.action)
            if action == "T":
                if not trades or not _one_aggressor(trades[-1][0], record):
                    trades.append((record, where, []))
            elif action == "F":
                head, _, fills = trades[-1]
                if record.order_id != head.order_id:
                    fills.append(Fill(record.order_id, _atoms(record), record.size))
            elif record.order_id in pulled:
                if action == "C":
                    yield self._single(record, where)
            else:
                after.append((record, where))
        for head, where, fills in trades:
            yield self._trade(head, where, tuple(fills))
        for record, where in after:
            yield self._single(record, where)

    def _trade(self, head: Any, where: int, fills: tuple[Fill, ...]) -> Event:
        side = _SIDES.get(str(head.side))
        if not fills:
            return Skipped(time_us=self._time_us, where=where, what="trade without resting orders")
        if side is None:
            return Auction(time_us=self._time_us, where=where, fills=fills)
        aggressor = head.order_id
        return Trade(time_us=self._time_us, where=where, aggressor_id=aggressor, side=side, fills=fills)

    def _single(self, record: Any, where: int) -> Event:
        time_us, order_id, action = self._time_us, record.order_id, str(record.action)
        if action == "R":
            return Clear(time_us=time_us, where=where)
        if action == "C":
            return Cancel(time_us=time_us, where=where, order_id=order_id)
        side = _SIDES.get(str(record.side))
        if action not in ("A", "M") or side is None or record.price == _UNDEFINED_PRICE:
            return Skipped(time_us=time_us, where=where, what=f"record {action} without side or price")
        if action == "M":
            return Modify(
                time_us=time_us,
                where=where,
                order_id=order_id,
                side=side,
                price_atoms=_atoms(record),
                size_lots=record.size,
            )
        return Add(
            time_us=time_us,
            where=where,
            order_id=order_id,
            side=side,
            price_atoms=_atoms(record),
            size_lots=record.size,
            opening=bool(record.flags & _SNAPSHOT),
        )


def _atoms(record: Any) -> int:
    """A record's price in atoms per lot."""
    return int(record.price // _UNITS_PER_ATOM)


def _one_aggressor(head: Any, record: Any) -> bool:
    """Are two trades in a row the sweep of one order over several prices?"""
    return bool(head.order_id) and head.order_id == record.order_id and head.side == record.side
