# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor's replay: an honest journal passes, and every forgery is named by its entry."""

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from clearing.audit.replay import ReplayReport, replay
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import decode_entry, encode, encode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed, TradeNovated
from journal.replay import entries
from proofs.log import leaf_hash
from proofs.log import root as log_root
from tests.service.world import World, make_data_dir, order

Entries = list[bytes]


@cache
def honest() -> tuple[Entries, bytes, list[bytes]]:
    """(entries, final state, header hashes) of a small venue's day, made by the real pipeline."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "venue"
        make_data_dir(path)
        world = World(path)
        world.open()
        for n in range(1, 30):
            world.ok(
                world.batch("alice", order(coid=n, size=n)),
                world.batch("bob", order(ids.SELL, size=n - n // 3, coid=n), c.Withdraw(0, 0, 10 + n)),
            )
            if n % 10 == 0:
                world.ok(world.operator(c.CloseEpoch(n // 10, ((n, bytes(32)),))))
        records = world.book.flush()
        found = [data for _, data in entries(world.store)]
        state = dump(world.reducer.state)
        world.close()
    return found, state, [record.part(0).header_hash for record in records]


def audit(data: Entries, check_signatures: bool = True) -> ReplayReport:
    return replay(enumerate(data), check_signatures=check_signatures)


def test_an_honest_journal_replays_to_its_state_and_headers() -> None:
    """State, log root and every header come out as the operator had them, with and without signatures."""
    data, state, headers = honest()
    for check in (True, False):
        report = audit(data, check_signatures=check)
        assert report.ok, report.divergence
        assert (report.entries, report.size) == (len(data), len(data))
        assert report.root == log_root([leaf_hash(entry) for entry in data])
        assert [epoch.header_hashes[0] for epoch in report.epochs] == headers
        assert report.state is not None
        assert dump(report.state) == state


def test_progress_reaches_the_end() -> None:
    seen: list[int] = []
    data, _, _ = honest()
    replay(enumerate(data), on_progress=seen.append)
    assert seen[-1] == len(data)


def forged_price(data: Entries) -> tuple[int, Entries]:
    """The journal with the price of one fill changed in its outcomes, canonically encoded."""
    forged = list(data)
    for seq, raw in enumerate(data):
        entry = decode_entry(raw)
        outcomes = [
            replace(o, price_atoms=o.price_atoms + 1) if isinstance(o, TradeNovated) else o for o in entry.outcomes
        ]
        if outcomes != entry.outcomes:
            forged[seq] = encode_entry(seq, entry.time_us, entry.envelope, outcomes)
            return seq, forged
    raise AssertionError("no fill to forge")


def test_a_forged_fill_price_is_named_with_its_field() -> None:
    """The divergence has the entry's seq, and says which field differs with both values."""
    seq, forged = forged_price(honest()[0])
    divergence = audit(forged).divergence
    assert divergence is not None
    assert (divergence.seq, divergence.what) == (seq, "OUTCOMES")
    assert len(divergence.fields) == 1
    assert "TradeNovated.price_atoms: the journal says 500000001, replay 500000000" in divergence.fields[0]


def test_a_forged_commitment_is_found() -> None:
    """An EpochClosed with another exit root than the accounts give diverges at its entry."""
    data = list(honest()[0])
    for seq, raw in enumerate(data):
        entry = decode_entry(raw)
        if isinstance(entry.outcomes[0], EpochClosed):
            closed = entry.outcomes[0]
            assert isinstance(closed, EpochClosed)
            forged = replace(closed.vaults[0], exit_root=bytes(32))
            outcomes = [replace(closed, vaults=(forged,)), *entry.outcomes[1:]]
            data[seq] = encode_entry(seq, entry.time_us, entry.envelope, outcomes)
            break
    divergence = audit(data).divergence
    assert divergence is not None
    assert divergence.seq == seq
    assert "EpochClosed.vaults[0] VaultEpoch.exit_root" in divergence.fields[0]


@pytest.mark.slow
@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_diverges_at_its_entry(where: float, at: float, bit: int) -> None:
    """Whatever bit of whatever entry is changed, the first divergence is that entry. The time alone is the
    operator's to choose: another one may replay, but then the log's root is not the one that was signed."""
    data = list(honest()[0])
    seq = int(where * len(data))
    raw = bytearray(data[seq])
    raw[int(at * len(raw))] ^= 1 << bit
    data[seq] = bytes(raw)
    report = audit(data)
    if _only_time(seq, data):
        assert report.root != log_root([leaf_hash(entry) for entry in honest()[0]])
        return
    assert report.divergence is not None
    assert report.divergence.seq == seq, report.divergence


def _only_time(seq: int, data: Entries) -> bool:
    """Whether entry `seq` differs from the honest one in its time and nothing else."""
    try:
        found, was = decode_entry(data[seq]), decode_entry(honest()[0][seq])
    except NovateError:
        return False
    return replace(found, time_us=was.time_us) == was and found != was


@pytest.mark.parametrize("change", ["dropped", "doubled", "swapped", "no genesis", "time back", "unsigned"])
def test_structural_forgeries_are_found(change: str) -> None:
    """Entries left out, repeated, reordered, dated back or never signed diverge at the first of them."""
    data = list(honest()[0])
    seq = len(data) // 2
    rows = list(enumerate(data))
    if change == "dropped":
        del rows[seq]
    elif change == "doubled":
        rows.insert(seq, rows[seq - 1])
    elif change == "swapped":
        rows[seq], rows[seq + 1] = rows[seq + 1], rows[seq]
    elif change == "no genesis":
        seq, rows = 0, [(0, data[1])]
    else:
        entry = decode_entry(data[seq])
        time_us, envelope = entry.time_us, entry.envelope
        if change == "time back":
            time_us = 1
        else:
            envelope = encode(c.Envelope(*_body_and_key(envelope), bytes(64)))
        rows[seq] = (seq, encode_entry(seq, time_us, envelope, entry.outcomes))
    divergence = replay(rows).divergence
    assert divergence is not None
    assert divergence.seq == seq
    expected = {"no genesis": ("SEQUENCE",), "time back": ("TIME",), "unsigned": ("SIGNATURE",)}
    assert divergence.what in expected.get(change, ("SEQUENCE",))


def _body_and_key(raw: bytes) -> tuple[bytes, bytes]:
    from clearing.model.codec import decode_any_envelope

    envelope, _ = decode_any_envelope(raw)
    return envelope.body, envelope.key


def test_the_first_of_several_divergences_is_reported(rng: random.Random) -> None:
    """Signatures are checked ahead in chunks; that must not change which fault is first."""
    seq, forged = forged_price(honest()[0])
    later = rng.randrange(seq + 1, len(forged))
    forged[later] = forged[later][:-1] + bytes([forged[later][-1] ^ 1])
    early = audit(forged).divergence
    assert early is not None
    assert early.seq == seq


def test_entries_are_not_kept() -> None:
    """Memory is flat: the replay takes entries from an iterator chunk by chunk and asks for no length."""
    data, _, _ = honest()

    def stream() -> Iterator[tuple[int, bytes]]:
        yield from enumerate(data)

    assert replay(stream()).entries == len(data)
