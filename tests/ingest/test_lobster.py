# SPDX-License-Identifier: GPL-3.0-or-later
"""LOBSTER message files: a market with known fills is reproduced, and damage is reported by line."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.audit.replay import replay
from clearing.ingest.driver import ingest
from clearing.ingest.events import Add, Cancel, Event, Fill, Halt, PartialCancel, Skipped, Trade
from clearing.ingest.lobster import LobsterSource
from clearing.ingest.summary import IngestFailed
from clearing.model import ids
from clearing.model.errors import NovateError
from journal import Store
from journal.replay import entries
from tests.ingest.exchange import message_file

NAME = "TEST_2012-06-21_34200000_57600000_message_10.csv"
_MIDNIGHT_US = 1_340_236_800_000_000  # 2012-06-21 UTC


def _file(folder: Path, lines: list[str], name: str = NAME) -> Path:
    path = folder / name
    path.write_text("".join(line + "\n" for line in lines), encoding="ascii")
    return path


def _kinds(lines: list[str]) -> Counter[int]:
    return Counter(int(line.split(",")[1]) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(4))
def test_a_market_with_known_fills_is_reproduced_to_the_last_one(
    tmp_path: Path, rng: random.Random, round_: int
) -> None:
    """Another book's fills come out of ours order by order, through implied resting orders, partial
    cancels, deletions, sweeps, hidden executions and halts; nothing is refused and the journal replays."""
    exchange = message_file(rng)
    path = _file(tmp_path, exchange.lines)
    kinds = _kinds(exchange.lines)
    summary = ingest(path, "lobster", tmp_path / "node", members=3)

    wanted = sum(len(fills) for fills in exchange.fills)
    assert wanted == kinds[4] > 20
    assert summary.source_fills_continuous == summary.reproduced_exactly == wanted
    assert summary.reproduced_in_order == summary.fills == wanted
    assert summary.disagreements.total == summary.unexpected_fills == 0
    assert summary.refusals == {}
    counted = summary.not_replayed
    assert counted.get("hidden execution", 0) == kinds[5]
    assert counted.get("cross trade", 0) == kinds[6]
    assert counted.get("halt notice", 0) == kinds[7]
    born = {line.split(",")[2] for line in exchange.lines if line.split(",")[1] == "1"}
    touched = {line.split(",")[2] for line in exchange.lines if line.split(",")[1] in "234"}
    assert touched - born, "some orders must have rested before the file"
    with Store.open(tmp_path / "node" / "journal", True) as store:
        report = replay(entries(store))
    assert report.ok and report.root.hex() == summary.root


def _opening(time_us: int, order_id: int, price: int, size: int) -> Add:
    return Add(
        time_us=time_us,
        where=1,
        order_id=order_id,
        side=ids.SELL,
        price_atoms=price,
        size_lots=size,
        opening=True,
    )


def test_every_message_type_becomes_what_it_says(tmp_path: Path) -> None:
    """The format, line by line: times, prices x 10,000, directions, implied orders, one aggressor for
    executions in a row at one time."""
    lines = [
        "34200.000000001,1,11,5,1000100,1",
        "34200.5,2,7,3,1000200,-1",
        "34201,4,7,2,1000200,-1",
        "34201,4,8,1,1000300,-1",
        "34201.1,4,11,5,1000100,1",
        "34202.25,5,0,9,1000250,1",
        "34203,3,8,4,1000300,-1",
        "34204,7,0,0,-1,-1",
    ]
    found = list(LobsterSource(_file(tmp_path, lines)).events())
    second = 1_000_000
    start = _MIDNIGHT_US + 34_200 * second
    assert found == [
        _opening(start, 7, 100_020_000, 5),
        _opening(start, 8, 100_030_000, 5),
        Add(time_us=start, where=1, order_id=11, side=ids.BUY, price_atoms=100_010_000, size_lots=5),
        PartialCancel(time_us=start + second // 2, where=2, order_id=7, size_lots=3),
        Trade(
            time_us=start + second,
            where=3,
            aggressor_id=0,
            side=ids.BUY,
            fills=(Fill(7, 100_020_000, 2), Fill(8, 100_030_000, 1)),
        ),
        Trade(
            time_us=start + second * 11 // 10,
            where=5,
            aggressor_id=0,
            side=ids.SELL,
            fills=(Fill(11, 100_010_000, 5),),
        ),
        Skipped(time_us=start + second * 9 // 4, where=6, what="hidden execution"),
        Cancel(time_us=start + 3 * second, where=7, order_id=8),
        Halt(time_us=start + 4 * second, where=8),
    ]


def test_orders_implied_by_later_messages_stand_before_all_others(tmp_path: Path) -> None:
    """An order seen only when it is hit keeps its place in front of orders that the file shows arriving."""
    lines = [
        "34200,1,50,10,1000000,-1",  # behind order 9, which rested before
        "34201,4,9,4,1000000,-1",
        "34201,4,50,3,1000000,-1",
    ]
    summary = ingest(_file(tmp_path, lines), "lobster", tmp_path / "node", members=2)
    assert summary.source_fills_continuous == summary.reproduced_in_order == 2


MALFORMED = [
    ("34200.0,1,11,5,1000100", "5 fields instead of 6"),
    ("34200.0,1,11,5,1000100,1,9", "7 fields instead of 6"),
    ("34200.0,8,11,5,1000100,1", "type 8 is not 1 to 7"),
    ("34200.0,1,11,five,1000100,1", "size 'five' is not a whole number"),
    ("34200.0,1,11,0,1000100,1", "must be positive"),
    ("34200.0,1,11,5,-1,1", "must be positive"),
    ("34200.0,1,11,5,1000100,0", "direction 0"),
    ("9:30,1,11,5,1000100,1", "is not seconds after midnight"),
    ("34100.0,1,11,5,1000100,1", "before the line above"),
    ("", "1 fields instead of 6"),
    ("34200.0,1,11,5,99999999999999999999,1", "is not a whole number"),
]


@pytest.mark.parametrize(("bad", "says"), MALFORMED)
def test_a_malformed_line_is_named_and_nothing_before_it_is_lost(tmp_path: Path, bad: str, says: str) -> None:
    """INGEST_MALFORMED with file and line number; the journal holds, closed and replayable, what the same
    file without that line and the ones after it gives."""
    good = ["34200.0,1,1,5,1000100,-1", "34200.0,4,1,2,1000100,-1", "34200.0,4,1,2,1000100,-1"]
    path = _file(tmp_path, [*good, bad, "34300.0,1,12,5,1000000,1"])
    with pytest.raises(IngestFailed) as caught:
        ingest(path, "lobster", tmp_path / "node", members=2)
    assert caught.value.code == "INGEST_MALFORMED"
    assert f"{path}:4: " in caught.value.message
    assert says in caught.value.message

    summary = caught.value.summary
    assert not summary.complete
    assert summary.problem is not None and summary.problem.code == "INGEST_MALFORMED"
    shorter = tmp_path / "shorter"
    shorter.mkdir()
    whole = ingest(_file(shorter, good), "lobster", tmp_path / "other", members=2)
    assert (whole.root, whole.fills) == (summary.root, summary.fills)
    assert whole.fills == 1
    with Store.open(tmp_path / "node" / "journal", True) as store:
        report = replay(entries(store))
    assert report.ok and report.size == summary.journal_size and len(report.epochs) == 1


def _drain(source: LobsterSource) -> tuple[list[Event], NovateError | None]:
    """All events up to the end or the error."""
    events: list[Event] = []
    try:
        for event in source.events():
            events.append(event)  # noqa: PERF402 - keeps what came before the error
    except NovateError as error:
        return events, error
    return events, None


@settings(max_examples=300)
@given(damage=st.binary(min_size=1, max_size=12), at=st.integers(0, 120), where=st.integers(0, 5))
def test_damaged_bytes_give_an_error_with_a_line_or_valid_events(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, at: int, where: int
) -> None:
    """No bytes make the decoder fail in any other way, and events before the damage are all there."""
    lines = [f"3420{n}.5,1,{n + 1},5,{1_000_000 + n},1".encode() for n in range(6)]
    lines[where] = lines[where][:at] + damage + lines[where][at:]
    path = tmp_path_factory.getbasetemp() / NAME
    path.write_bytes(b"\n".join(lines) + b"\n")
    events, error = _drain(LobsterSource(path))
    if error is not None:
        assert error.code == "INGEST_MALFORMED"
        assert int(error.message.removeprefix(f"{path}:").split(":")[0]) > where
    seen = [event.where for event in events if isinstance(event, Add) and not event.opening]
    assert seen[:where] == list(range(1, where + 1))


def test_an_empty_file_is_malformed_and_makes_no_journal(tmp_path: Path) -> None:
    path = _file(tmp_path, [])
    with pytest.raises(IngestFailed, match=r"INGEST_MALFORMED.*empty"):
        ingest(path, "lobster", tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_bad_arguments_have_names(tmp_path: Path) -> None:
    """Each a stable code, before anything is written."""
    path = _file(tmp_path, ["34200.0,1,11,5,1000100,1"])
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("x")
    new = tmp_path / "node"
    for code, source, fmt, folder, members, shared in (
        ("INGEST_NO_FILE", tmp_path / "absent", "lobster", new, 2, 1),
        ("INGEST_UNSUPPORTED", path, "csv", new, 2, 1),
        ("INGEST_DATA_DIR", path, "lobster", full, 2, 1),
        ("INGEST_ARGUMENT", path, "lobster", new, 0, 1),
        ("INGEST_ARGUMENT", path, "lobster", new, 2, 51),
    ):
        with pytest.raises(NovateError) as caught:
            ingest(source, fmt, folder, members=members, commands_per_signature=shared)
        assert caught.value.code == code
    assert not (tmp_path / "node").exists()
    assert [child.name for child in full.iterdir()] == ["precious"]


@pytest.mark.slow
def test_sharing_signatures_changes_the_journal_and_not_the_fills(tmp_path: Path, rng: random.Random) -> None:
    """Several commands of one member in a row under one signature: fewer entries, the same trades."""
    path = _file(tmp_path, message_file(rng, steps=150).lines)
    single = ingest(path, "lobster", tmp_path / "a", members=1)
    shared = ingest(path, "lobster", tmp_path / "b", members=1, commands_per_signature=20)
    assert shared.journal_size < single.journal_size
    assert shared.commands == single.commands
    assert shared.reproduced_exactly == shared.source_fills_continuous == single.reproduced_exactly


def test_limit_ends_the_run_early_and_completely(tmp_path: Path, rng: random.Random) -> None:
    """`limit` counts source events; the journal is closed as at the end of a file."""
    path = _file(tmp_path, message_file(rng).lines)
    heard: list[tuple[int, int]] = []
    summary = ingest(
        path, "lobster", tmp_path / "node", members=2, limit=40, on_progress=lambda *now: heard.append(now)
    )
    assert (summary.events, summary.complete) == (40, True)
    with Store.open(tmp_path / "node" / "journal", True) as store:
        report = replay(entries(store))
    assert report.ok and report.epochs[-1].journal_size == summary.journal_size
    assert heard[-1][0] == 40 and 0 < heard[-1][1] <= 1_000_000
