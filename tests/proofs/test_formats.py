# SPDX-License-Identifier: GPL-3.0-or-later
"""Diff, header, checkpoint: one value has one encoding, and nothing else decodes."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from proofs import checkpoint as note
from proofs.diff import MAX_CHUNK_BYTES, DiffRow, decode_chunk, encode_chunks
from proofs.errors import CheckpointError, DiffError, EncodingError
from proofs.header import Header

HASH = st.binary(min_size=32, max_size=32)
COUNT = st.integers(0, 2**64 - 1)
SEED = b"s" * 32
PUBLIC = bytes(SigningKey(SEED).verify_key)
ORIGIN = note.origin_of("novate.example", b"\x01" * 32)


@st.composite
def diffs(draw: st.DrawFn) -> tuple[int, list[DiffRow]]:
    lanes = draw(st.integers(1, 4))
    indexes = sorted(draw(st.sets(st.integers(0, 2**32 - 1), max_size=20)))
    value = st.one_of(st.integers(0, 300), st.integers(0, 2**96 - 1))
    lane = st.tuples(*[value] * lanes)
    owner = st.one_of(st.none(), st.binary(min_size=20, max_size=20))
    return lanes, [DiffRow(index, draw(owner), draw(lane), draw(lane)) for index in indexes]


@given(diffs(), COUNT)
def test_diffs_come_back_as_they_went(case: tuple[int, list[DiffRow]], epoch: int) -> None:
    """Rows, lanes and epoch survive; no rows are no chunks."""
    lanes, rows = case
    chunks = [decode_chunk(chunk) for chunk in encode_chunks(epoch, lanes, rows)]
    assert [row for chunk in chunks for row in chunk.rows] == rows
    assert all((chunk.epoch, chunk.lanes) == (epoch, lanes) for chunk in chunks)


def test_large_diffs_are_cut_on_rows_within_the_limit() -> None:
    """Every chunk decodes by itself and none is larger than the limit."""
    rows = [DiffRow(index, b"o" * 20, (10**18 + index,), (index,)) for index in range(12_000)]
    chunks = encode_chunks(7, 1, rows)
    assert len(chunks) > 1
    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
    assert [row for chunk in chunks for row in decode_chunk(chunk).rows] == rows


@given(diffs(), st.data())
@settings(max_examples=200)
def test_a_damaged_chunk_is_an_error_or_another_exact_chunk(
    case: tuple[int, list[DiffRow]], data: st.DataObject
) -> None:
    """Whatever decodes encodes to the very same bytes."""
    chunks = encode_chunks(1, *case)
    if not chunks:
        return
    raw = bytearray(chunks[0])
    at = data.draw(st.integers(0, len(raw) - 1))
    action = data.draw(st.sampled_from(["set", "cut", "add"]))
    if action == "set":
        raw[at] = data.draw(st.integers(0, 255))
    elif action == "cut":
        del raw[at:]
    else:
        raw.insert(at, data.draw(st.integers(0, 255)))
    try:
        chunk = decode_chunk(bytes(raw))
    except DiffError:
        return
    assert encode_chunks(chunk.epoch, chunk.lanes, chunk.rows) == [bytes(raw)]


HEADERS = st.integers(1, 4).flatmap(
    lambda lanes: st.builds(
        Header,
        **{name: HASH for name in Header.__struct_fields__ if Header.__annotations__[name] is bytes},
        **dict.fromkeys(("epoch", "close_time_us", "journal_size", "inbox_count", "l1_number"), COUNT),
        exit_sums=st.tuples(*[st.integers(0, 2**128 - 1)] * lanes),
    )
)


@given(HEADERS, st.integers(-3, 3))
def test_headers_come_back_and_have_one_length(header: Header, change: int) -> None:
    """A header longer or shorter by a byte is not a header."""
    raw = header.encode()
    assert Header.decode(raw) == header
    if change:
        with pytest.raises(EncodingError):
            Header.decode(raw[:change] if change < 0 else raw + bytes(change))


def test_a_checkpoint_is_its_signers_and_its_origins_only() -> None:
    """Body, key, origin and signature are all bound; foreign lines are skipped."""
    made = note.Checkpoint(ORIGIN, 42, b"\x07" * 32)
    extra = note.secp256k1_line(ORIGIN, b"a" * 20, b"\x01" * 65)
    text = note.sign(made, SEED, (extra,))
    assert note.verify(text, PUBLIC, ORIGIN) == made
    parsed = note.parse(text)
    assert note.secp256k1_signature(parsed, b"a" * 20) == b"\x01" * 65
    assert note.secp256k1_signature(parsed, b"b" * 20) is None
    other = bytes(SigningKey(b"t" * 32).verify_key)
    for bad, key, origin in (
        (text.replace("\n42\n", "\n43\n"), PUBLIC, ORIGIN),
        (text.replace("\n42\n", "\n042\n"), PUBLIC, ORIGIN),
        (text, other, ORIGIN),
        (text, PUBLIC, ORIGIN + "x"),
        (text[:-1], PUBLIC, ORIGIN),
        (text.replace("\n\n", "\n"), PUBLIC, ORIGIN),
    ):
        with pytest.raises(CheckpointError):
            note.verify(bad, key, origin)


def test_the_signature_line_follows_the_published_format() -> None:
    """Key id = first 4 bytes of SHA-256(name, newline, 01, key); the body is three lines."""
    text = note.sign(note.Checkpoint(ORIGIN, 1, b"\x00" * 32), SEED)
    body, line = text.split("\n\n")
    assert body.split("\n") == [ORIGIN, "1", base64.b64encode(bytes(32)).decode()]
    prefix, name, encoded = line.rstrip("\n").split(" ")
    assert (prefix, name) == ("\u2014", ORIGIN)
    raw = base64.b64decode(encoded)
    SigningKey(SEED).verify_key.verify((body + "\n").encode(), raw[4:])


@given(st.text(max_size=400))
def test_hostile_notes_are_named_errors(text: str) -> None:
    """No text gives anything but a CheckpointError."""
    with pytest.raises(CheckpointError):
        note.verify(text, PUBLIC, ORIGIN)
