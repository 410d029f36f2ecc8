# SPDX-License-Identifier: GPL-3.0-or-later
"""One journal in pieces: hashes joined from ranges, ranges replayed side by side, audits that begin at a snapshot.
Whatever the cut, the result is that of one replay from the start."""

from __future__ import annotations

import random
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from clearing.audit.checks import Checker, Inline, Processes, Threads
from clearing.audit.pieces import ranges
from clearing.audit.pieces.compact import CompactRange, of_leaves, of_prefix
from clearing.audit.pieces.ranges import Plan, run
from clearing.audit.pieces.starts import keeper, start_of_epoch
from clearing.audit.replay import ReplayReport, replay
from clearing.audit.run import audit
from clearing.audit.source import StoreSource, StreamSource, genesis_in
from clearing.audit.verdict import Request
from clearing.core.snapshot import dump
from clearing.model import outcomes as o
from clearing.model.codec import decode_entry, encode_entry
from clearing.model.errors import NovateError
from journal import Store
from journal.snapshot import Snapshots
from proofs import log
from tests.audit.stories import story

LEAVES = [sha256(b"leaf %d" % n).digest() for n in range(1_000)]


@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=6))
@settings(max_examples=150, deadline=None)
def test_ranges_of_leaves_join_to_the_log(size: int, cuts: list[int]) -> None:
    """RFC 9162's root, and the same subtrees, wherever the leaves were cut and in whatever order they are joined."""
    edges = [0, *sorted(cut for cut in cuts if cut <= size), size]
    parts = [of_leaves(a, LEAVES[a:b]) for a, b in pairwise(edges)]
    left = CompactRange(0, 0)
    for part in parts:
        left = left.joined(part)
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part.joined(right)
    assert left == right == of_leaves(0, LEAVES[:size])
    assert left.root() == log.root(LEAVES[:size])


@given(st.integers(1, 1_000))
@settings(max_examples=60, deadline=None)
def test_a_prefix_is_rebuilt_from_the_proof_of_its_last_leaf(size: int) -> None:
    """And one hash too few, or another leaf, gives no prefix or another root."""
    path = log.inclusion_proof(size - 1, LEAVES[:size])
    assert of_prefix(size, path, LEAVES[size - 1]) == of_leaves(0, LEAVES[:size])
    if path:
        with pytest.raises(ValueError, match="no inclusion proof"):
            of_prefix(size, path[1:], LEAVES[size - 1])
    assert of_prefix(size, path, b"x" * 32).root() != log.root(LEAVES[:size])


def test_ranges_that_do_not_meet_do_not_join() -> None:
    with pytest.raises(ValueError, match="does not continue"):
        of_leaves(0, LEAVES[:3]).joined(of_leaves(4, LEAVES[4:6]))
    with pytest.raises(ValueError, match="has no root"):
        of_leaves(3, LEAVES[3:4]).root()


@pytest.mark.slow
@pytest.mark.parametrize("signatures", [True, False])
def test_checks_find_the_same_wherever_they_run(signatures: bool) -> None:
    """Here, over threads and in other processes: the same hashes, the same bad signatures at the same places."""
    entries = list(story("adl").entries)
    for seq in (0, 7, len(entries) - 1):
        entry = decode_entry(entries[seq])
        raw = bytearray(entry.envelope)
        raw[-1] ^= 1
        entries[seq] = encode_entry(seq, entry.time_us, bytes(raw), entry.outcomes)
    entries[3] = b"no entry"
    ways: list[Checker] = [Inline(signatures), Processes(2, signatures)]
    if signatures:
        ways.append(Threads(2))
    results = []
    for way in ways:
        leaves: list[bytes] = []
        bad: list[int] = []
        for check in way.submit(entries):
            found = check()
            bad += [len(leaves) + at for at, _ in found[1]]
            leaves += found[0]
        results.append((leaves, bad))
        way.close()
    assert all(result == results[0] for result in results)
    assert results[0] == ([log.leaf_hash(data) for data in entries], [0, 7, len(entries) - 1] if signatures else [])


# --- a journal with snapshots ---


def stored(folder: Path, entries: list[bytes]) -> StoreSource:
    with Store.create(folder) as store:
        for first in range(0, len(entries), 40):
            store.append(entries[first : first + 40], store.head())
    return StoreSource(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreSource, Path, ReplayReport]:
    """The golden journal on disk, a snapshot at every epoch, and its replay in one go."""
    folder = tmp_path_factory.mktemp("whole")
    source = stored(folder / "journal", list(story("golden").entries))
    report = run(source, Plan(on_epoch=keeper(folder / "snapshots", 1), marks=(33,)))
    return source, folder / "snapshots", report


def same(one: ReplayReport, other: ReplayReport) -> None:
    assert (one.entries, one.size, one.root, one.marks) == (other.entries, other.size, other.root, other.marks)
    assert one.epochs == other.epochs
    assert str(one.divergence) == str(other.divergence)
    if one.ok:
        assert one.state is not None and other.state is not None
        assert dump(one.state) == dump(other.state)


@pytest.mark.parametrize("jobs", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranges_side_by_side_give_the_report_of_one_replay(
    whole: tuple[StoreSource, Path, ReplayReport], jobs: int
) -> None:
    """Entries, root, every header, marks and final state; and progress reaches the end."""
    source, snapshots, one = whole
    seen: list[int] = []
    plan = Plan(jobs, True, snapshots, (33,), least=100)
    assert len(ranges.cuts_of(source, plan, 0)) == jobs - 1
    many = run(source, plan, on_progress=seen.append)
    same(many, one)
    assert many.notes == [] and seen[-1] == one.entries
    assert one.epochs[-1].header_hashes == story("golden").posted[-1].header_hashes


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first range", "last range"])
def test_a_divergence_is_the_same_whatever_range_it_is_in(
    whole: tuple[StoreSource, Path, ReplayReport], tmp_path: Path, place: str
) -> None:
    """The first one in the journal's order, though a later range diverges as well."""
    told = story("golden")
    trades = told.seqs(o.TradeNovated)
    entries = list(told.entries)
    for seq in (trades[0], trades[-1]) if place == "first range" else (trades[-1],):
        changed = [altered(x, price_atoms=1) if isinstance(x, o.TradeNovated) else x for x in told.outcomes[seq]]
        entry = decode_entry(entries[seq])
        entries[seq] = encode_entry(seq, entry.time_us, entry.envelope, changed)
    source, snapshots = stored(tmp_path / "journal", entries), whole[1]
    one = run(source, Plan())
    many = run(source, Plan(2, True, snapshots, least=100))
    assert many.divergence == one.divergence and many.entries == one.entries and many.root == one.root
    assert one.divergence is not None
    assert one.divergence.seq == (trades[0] if place == "first range" else trades[-1])


@pytest.mark.slow
def test_a_snapshot_that_is_not_the_journals_is_passed_over(
    whole: tuple[StoreSource, Path, ReplayReport], tmp_path: Path
) -> None:
    """Damaged, or another state under sound hashes: the journal is replayed in one go, with the same report."""
    source, snapshots, one = whole
    (cut,) = ranges.cuts_of(source, Plan(2, True, snapshots, least=100), 0)
    mine = Snapshots(tmp_path / "snapshots")
    good = Snapshots(snapshots).load(cut).payload
    mine.save(cut, bytes(32), good[:-1] + bytes([good[-1] ^ 1]))
    many = run(source, Plan(2, True, mine.directory, (33,), least=100))
    same(many, one)
    assert len(many.notes) == 1 and f"snapshot of {cut} entries" in many.notes[0]
    path = mine.path(cut)
    path.write_bytes(path.read_bytes()[:-9])
    again = run(source, Plan(2, True, mine.directory, (33,), least=100))
    same(again, one)
    assert "damaged" in again.notes[0]


def test_an_audit_begins_at_a_snapshot(whole: tuple[StoreSource, Path, ReplayReport]) -> None:
    """Roots and state at the end are those of an audit from genesis; the verdict says what it did not look at."""
    source, snapshots, one = whole
    epoch = one.epochs[3]
    found = audit(Request(source, plan=Plan(1, True, snapshots), epoch=epoch.outcome.epoch))
    assert found.ok and found.report.first == epoch.journal_size
    assert found.report.entries == one.entries - epoch.journal_size
    assert (found.report.size, found.report.root) == (one.size, one.root)
    assert [e.journal_root for e in found.report.epochs] == [e.journal_root for e in one.epochs[4:]]
    assert found.report.state is not None and one.state is not None
    assert dump(found.report.state) == dump(one.state)
    assert f"entries before {epoch.journal_size}" in found.unchecked[0]


def test_a_start_that_cannot_be_had_says_what_there_is(whole: tuple[StoreSource, Path, ReplayReport]) -> None:
    source, snapshots, _ = whole
    with pytest.raises(NovateError, match="has no snapshot of epoch 99; it has those of: 1, 2, 3") as missing:
        start_of_epoch(source, snapshots, 99)
    assert missing.value.code == "SNAPSHOT_NOT_FOUND"
    with pytest.raises(NovateError, match="--snapshots"):
        audit(Request(source, epoch=1))
    start = start_of_epoch(source, snapshots, 2)
    forged = replace(start, payload=start.payload[:-1] + bytes([start.payload[-1] ^ 1]))
    with pytest.raises(NovateError):
        forged.reducer()


@pytest.mark.slow
def test_a_stream_is_audited_in_one_go() -> None:
    """What can only be read from its beginning is neither cut nor asked for proofs."""
    told = story("adl")
    source = StreamSource(lambda: enumerate(told.entries))
    assert genesis_in(source) == told.bodies[0]
    found = audit(Request(source, plan=Plan(4, least=1)))
    assert found.ok and found.report.root == told.root
    assert any("checkpoint" in text for text in found.unchecked)
    with pytest.raises(NovateError, match="directory or a published log"):
        source.inclusion(0, 1)


def test_memory_does_not_grow_with_the_journal() -> None:
    """Leaves are folded chunk by chunk: what a replay holds of a long journal's hashes is logarithmic."""
    rng = random.Random(5)
    found = CompactRange(0, 0)
    for _ in range(200):
        count = rng.randrange(1, 900)
        found = found.joined(of_leaves(found.end, [bytes(32)] * count))
        assert len(found.subtrees) == found.end.bit_count() <= 18
    report = replay(enumerate(story("adl").entries))
    assert report.ok
