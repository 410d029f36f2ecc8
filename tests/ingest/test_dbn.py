# SPDX-License-Identifier: GPL-3.0-or-later
"""Databento MBO files, written record by record with the vendor's own encoder."""

from pathlib import Path
from typing import Any

import databento_dbn as db
import pytest
import zstandard

from clearing.ingest.dbn import DbnSource
from clearing.ingest.driver import ingest
from clearing.ingest.events import Add, Auction, Cancel, Event, Fill, Modify, Trade
from clearing.ingest.summary import IngestFailed
from clearing.model import ids
from clearing.model.errors import NovateError

_SECOND = 1_000_000_000
_START = 1_700_000_000 * _SECOND
_ACTIONS = {"A": "ADD", "C": "CANCEL", "M": "MODIFY", "T": "TRADE", "F": "FILL", "R": "CLEAR"}
_SIDES = {"B": "BID", "A": "ASK", "N": "NONE"}


def record(second: float, what: str, order_id: int, price: float, size: int, **other: int) -> Any:
    """One record; `what` is action and side, as in "AB". Price in units, scaled by 1e9 here."""
    when = _START + int(second * _SECOND)
    return db.MBOMsg(
        publisher_id=1,
        instrument_id=other.get("instrument", 7),
        ts_event=when,
        order_id=order_id,
        price=int(price * 1_000_000_000),
        size=size,
        action=getattr(db.Action, _ACTIONS[what[0]]),
        side=getattr(db.Side, _SIDES[what[1]]),
        ts_recv=other.get("received", when),
        flags=other.get("flags", 0),
        channel_id=0,
    )


def encoded(records: list[Any], schema: str = "mbo") -> bytes:
    """A whole file, not compressed."""
    metadata = db.Metadata(
        dataset="GLBX.MDP3",
        start=_START,
        stype_in=db.SType.from_str("raw_symbol"),
        stype_out=db.SType.from_str("instrument_id"),
        schema=db.Schema.from_str(schema),
        symbols=["TEST"],
        partial=[],
        not_found=[],
        mappings=[],
        version=3,
    )
    return bytes(metadata.encode()) + b"".join(bytes(r) for r in records)


def _source(folder: Path, records: list[Any]) -> DbnSource:
    path = folder / "test.mbo.dbn"
    path.write_bytes(encoded(records))
    return DbnSource(path)


def _shape(event: Event) -> tuple[Any, ...]:
    """An event without time and place."""
    if isinstance(event, Trade):
        return ("trade", event.aggressor_id, event.side, event.fills)
    if isinstance(event, Auction):
        return ("auction", event.fills)
    if isinstance(event, Cancel):
        return ("cancel", event.order_id)
    if isinstance(event, Modify):
        return ("modify", event.order_id, event.price_atoms, event.size_lots)
    if isinstance(event, Add):
        return ("add", event.order_id, event.side, event.price_atoms, event.size_lots)
    return (type(event).__name__.lower(),)


def shapes(folder: Path, records: list[Any]) -> list[tuple[Any, ...]]:
    return [_shape(event) for event in _source(folder, records).events()]


_UNIT = 100_000_000


def test_a_sweep_is_one_trade_and_its_own_fill_is_left_out(tmp_path: Path) -> None:
    """Several T of one aggressor at one time, each with F; the aggressor's own F is no resting fill."""
    records = [
        record(1, "TB", 90, 10.0, 3),
        record(1, "FB", 90, 10.0, 3),
        record(1, "FA", 1, 10.0, 1),
        record(1, "FA", 2, 10.0, 2),
        record(1, "TB", 90, 10.25, 4),
        record(1, "FA", 3, 10.25, 4),
        record(1, "TB", 91, 10.25, 1),
        record(1, "FA", 3, 10.25, 1),
        record(1, "CA", 1, 10.0, 1),
        record(1, "MA", 3, 10.25, 5),
        record(2, "TB", 91, 10.25, 1),
        record(2, "FA", 3, 10.25, 1),
    ]
    assert shapes(tmp_path, records) == [
        ("trade", 90, ids.BUY, (Fill(1, 10 * _UNIT, 1), Fill(2, 10 * _UNIT, 2), Fill(3, 1_025_000_000, 4))),
        ("trade", 91, ids.BUY, (Fill(3, 1_025_000_000, 1),)),
        ("cancel", 1),
        ("modify", 3, 1_025_000_000, 5),
        ("trade", 91, ids.BUY, (Fill(3, 1_025_000_000, 1),)),
    ]


def test_an_order_pulled_by_self_match_prevention_goes_before_the_trade(tmp_path: Path) -> None:
    """A cancel in a match's own time of an order that did not trade happened on the way, even behind the
    aggressor's remainder; the same cancel a moment later happened later."""
    match = [
        record(1, "TB", 90, 10.0, 1),
        record(1, "FA", 2, 10.0, 1),
        record(1, "AB", 90, 10.0, 6),
        record(1, "CA", 2, 10.0, 1),
        record(1, "CA", 1, 10.0, 1),
    ]
    trade = ("trade", 90, ids.BUY, (Fill(2, 10 * _UNIT, 1),))
    rest = ("add", 90, ids.BUY, 10 * _UNIT, 6)
    assert shapes(tmp_path, match) == [("cancel", 1), trade, rest, ("cancel", 2)]
    match[-1] = record(1.5, "CA", 1, 10.0, 1)
    assert shapes(tmp_path, match) == [trade, rest, ("cancel", 2), ("cancel", 1)]


def test_side_n_is_an_auction_and_r_clears(tmp_path: Path) -> None:
    """An auction print has both sides among its fills and no aggressor."""
    records = [
        record(0, "RN", 0, 0.0, 0),
        record(1, "TN", 0, 10.0, 2),
        record(1, "FN", 1, 10.0, 2),
        record(1, "FN", 2, 10.0, 2),
    ]
    assert shapes(tmp_path, records) == [
        ("clear",),
        ("auction", (Fill(1, 10 * _UNIT, 2), Fill(2, 10 * _UNIT, 2))),
    ]


def test_a_snapshot_stands_at_its_arrival_and_time_never_decreases(tmp_path: Path) -> None:
    """Snapshot records keep the times of their making, days ago; the file's clock is when they came."""
    records = [
        record(-90_000, "AB", 1, 9.0, 1, flags=32, received=_START),
        record(-5, "AA", 2, 11.0, 1, flags=32, received=_START),
        record(3, "AB", 3, 9.0, 1),
        record(2, "AB", 4, 9.0, 1),
    ]
    events = list(_source(tmp_path, records).events())
    start = _START // 1_000
    assert [event.time_us for event in events] == [start, start, start + 3_000_000, start + 3_000_000]
    assert [event.opening for event in events if isinstance(event, Add)] == [True, True, False, False]
    assert [event.where for event in events] == [1, 2, 3, 4]


def test_compressed_frames_and_plain_files_say_the_same(tmp_path: Path) -> None:
    """A file may hold several zstd frames, cut anywhere."""
    data = encoded([record(n, "AB", n, 9.0, 1) for n in range(1, 200)])
    frames = tmp_path / "frames.dbn.zst"
    pack = zstandard.ZstdCompressor().compress
    frames.write_bytes(b"".join(pack(data[at : at + 1_000]) for at in range(0, len(data), 1_000)))
    plain = tmp_path / "plain.dbn"
    plain.write_bytes(data)
    assert list(DbnSource(frames).events()) == list(DbnSource(plain).events())
    assert len(list(DbnSource(plain).events())) == 199


@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_file_is_named_with_its_record_and_keeps_what_came_before(tmp_path: Path, packed: bool) -> None:
    """INGEST_MALFORMED with file and record; the journal holds every order before the cut."""
    data = encoded([record(n, "AB", n, 9.0, 1) for n in range(1, 30)])
    path = tmp_path / "cut.dbn"
    path.write_bytes(zstandard.ZstdCompressor().compress(data)[:-4] if packed else data[:-20])
    with pytest.raises(IngestFailed) as caught:
        ingest(path, "dbn", tmp_path / "node", members=2)
    summary = caught.value.summary
    assert caught.value.code == "INGEST_MALFORMED"
    assert f"{path}:{summary.events + 1}: " in caught.value.message
    if not packed:
        assert summary.commands == 28 and summary.epochs == 1


def test_what_is_no_single_instrument_mbo_file_is_refused(tmp_path: Path) -> None:
    """Another schema, a second instrument, a price between two atoms, no DBN at all: each has a name."""
    path = tmp_path / "bad.dbn"
    two = [record(1, "AB", 1, 9.0, 1), record(2, "AB", 2, 9.0, 1, instrument=8)]
    fine = [record(1, "AB", 1, 9.000000001, 1)]
    for content, code, says in (
        (encoded([], "trades"), "INGEST_UNSUPPORTED", "trades"),
        (encoded(two), "INGEST_UNSUPPORTED", "second instrument"),
        (encoded(fine), "INGEST_UNSUPPORTED", "finer"),
        (b"time,type\n34200.0,1,11,5,1000100,1\n", "INGEST_MALFORMED", "not a DBN record"),
        (b"", "INGEST_MALFORMED", "empty"),
    ):
        path.write_bytes(content)
        with pytest.raises(NovateError, match=says) as caught:
            list(DbnSource(path).events())
        assert caught.value.code == code
