# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: whole or absent, and never believed when damaged."""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal import errors
from journal.errors import JournalError
from journal.snapshot import Snapshot, Snapshots

HASH = bytes(range(32))


def code_of(snapshots: Snapshots, seq: int) -> str:
    with pytest.raises(JournalError) as caught:
        snapshots.load(seq)
    return caught.value.code


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """save, list, latest, prune tell one story; the newest at or below a seq is found."""
    kept = Snapshots(tmp_path / "snapshots")
    assert (kept.list(), kept.latest(), kept.prune(1)) == ((), None, ())
    for seq in (5, 1000, 70):
        kept.save(seq, HASH, b"state %d" % seq)
    assert kept.list() == (5, 70, 1000)
    assert kept.latest() == Snapshot(1000, HASH, b"state 1000")
    assert kept.latest(999) == Snapshot(70, HASH, b"state 70")
    assert kept.latest(4) is None
    kept.save(70, HASH, b"")
    assert kept.load(70).payload == b""
    (kept.directory / "00000000000000000070.1.tmp").write_bytes(b"left by a killed writer")
    assert kept.prune(2) == (5,)
    assert sorted(os.listdir(kept.directory)) == [kept.path(70).name, kept.path(1000).name]
    assert code_of(kept, 5) == errors.SNAPSHOT_NOT_FOUND


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_damage_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Any changed byte, any truncation and any appended byte makes load refuse; an older sound one is
    used instead, and the damaged one is named."""
    kept = Snapshots(tmp_path)
    kept.save(3, HASH, b"old")
    path = kept.save(9, HASH, bytes(range(200)))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(flipped), good[:at], good + b"\x00"):
        path.write_bytes(bad)
        assert code_of(kept, 9) in (errors.SNAPSHOT_DAMAGED, errors.SNAPSHOT_FOREIGN)
        assert kept.latest() == Snapshot(3, HASH, b"old")
        assert list(kept.damaged()) == [9]
        assert kept.prune(1) == ()


def test_a_snapshot_under_another_name_is_foreign(tmp_path: Path) -> None:
    """A file renamed to another seq would start replay from the wrong point."""
    kept = Snapshots(tmp_path)
    kept.save(8, HASH, b"state").rename(kept.path(9))
    assert code_of(kept, 9) == errors.SNAPSHOT_FOREIGN
    kept.path(10).write_bytes(b"novate-snapshot/2\n" + bytes(200))
    assert code_of(kept, 10) == errors.SNAPSHOT_FOREIGN


def test_a_full_disk_keeps_the_old_snapshot(tmp_path: Path) -> None:
    """When the new file does not fit, the error is DISK_FULL, nothing is left behind, the old one stands."""
    kept = Snapshots(tmp_path)
    kept.save(9, HASH, b"first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(JournalError, match=errors.DISK_FULL):
            kept.save(9, HASH, bytes(50_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept.load(9).payload == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == [kept.path(9).name]
