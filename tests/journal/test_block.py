# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks: one encoding, and every other sequence of bytes is refused by a named error."""

import random
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import block as blocks
from journal import errors
from journal.errors import JournalError

REFUSALS = {
    errors.BLOCK_MALFORMED,
    errors.BLOCK_HASH_MISMATCH,
    errors.BLOCK_EMPTY,
    errors.BLOCK_TOO_LARGE,
    errors.ENTRY_TOO_LARGE,
}
PREV = bytes(range(32))


def forged(fields: object, body_start: bytes = b"\x95") -> bytes:
    """A block around any five fields, with a hash that fits them."""
    body = msgspec.msgpack.encode(fields)
    digest = sha256(b"novate/block/v1\n" + body_start + body[1:]).digest()
    return b"\x96" + body[1:] + b"\xc4\x20" + digest


def refusal(raw: bytes) -> str:
    with pytest.raises(JournalError) as caught:
        blocks.decode(raw)
    assert caught.value.code in REFUSALS
    return caught.value.code


def test_a_block_is_the_bytes_the_protocol_names() -> None:
    """docs/protocol.md: msgpack [term, first_seq, count, prev_hash, entries, hash], hash over the rest."""
    built = blocks.build(3, 7, PREV, [b"a", b"bc"])
    body = [3, 7, 2, PREV, [b"a", b"bc"]]
    digest = sha256(b"novate/block/v1\n" + msgspec.msgpack.encode(body)).digest()
    assert built.raw == msgspec.msgpack.encode([*body, digest])
    assert built.raw.hex().startswith("96030702c420")
    assert (built.hash, built.next_seq) == (digest, 9)


@given(
    st.integers(0, blocks.MAX_INT),
    st.integers(0, blocks.MAX_INT - 50),
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(max_size=300), min_size=1, max_size=40),
)
def test_decode_returns_what_was_built(term: int, seq: int, prev: bytes, entries: list[bytes]) -> None:
    """build, encode, decode is the identity on all fields."""
    built = blocks.build(term, seq, prev, entries)
    assert blocks.decode(built.raw) == built


@given(st.binary(max_size=400))
def test_hostile_bytes_are_refused_by_name(raw: bytes) -> None:
    """No byte string that was not built decodes, and none raises anything but a JournalError."""
    refusal(raw)
    refusal(b"\x96" + raw + b"\xc4\x20" + sha256(b"novate/block/v1\n\x95" + raw).digest())


@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    """A single changed, removed or added byte anywhere in a block is refused."""
    raw = bytearray(blocks.build(1, 5, PREV, [b"x" * 40, b"", b"yz" * 20]).raw)
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[at] ^= data.draw(st.integers(1, 255))
    refusal(bytes(changed))
    refusal(bytes(raw[:at] + raw[at + 1 :]))
    refusal(bytes(raw[:at] + b"\x00" + raw[at:]))


@pytest.mark.parametrize(
    "fields",
    [
        [-1, 0, 1, PREV, [b"a"]],
        [2**63, 0, 1, PREV, [b"a"]],
        [0, 2**63 - 1, 1, PREV, [b"a"]],
        [0, 0, 2, PREV, [b"a"]],
        [0, 0, 1, PREV[1:], [b"a"]],
        [0, 0, 1, "p" * 32, [b"a"]],
        [0, 0, 1, PREV, ["a"]],
        [0, 0, 1, PREV, [None]],
        [0.0, 0, 1, PREV, [b"a"]],
        [True, 0, 1, PREV, [b"a"]],
        [0, 0, 1, PREV, {b"a": 1}],
        [0, 0, 1, PREV, b"a"],
    ],
    ids=repr,
)
def test_a_fitting_hash_does_not_excuse_wrong_fields(fields: list[object]) -> None:
    """A block whose hash is right but whose fields break the format is malformed."""
    assert refusal(forged(fields)) == errors.BLOCK_MALFORMED


def test_a_longer_encoding_of_the_same_fields_is_refused() -> None:
    """The int 1 as `cd 0001` or a bin with a wide length would give one block two hashes."""
    tail = msgspec.msgpack.encode([0, 1, PREV, [b"a"]])[1:]
    assert refusal(forged([1, 0, 1, PREV, [b"a"]])[:0] + _wide(b"\xcd\x00\x01" + tail)) == errors.BLOCK_MALFORMED
    short = msgspec.msgpack.encode([1, 0, 1, PREV])[1:]
    assert refusal(_wide(short + b"\x91\xc5\x00\x01a")) == errors.BLOCK_MALFORMED


def _wide(body: bytes) -> bytes:
    return b"\x96" + body + b"\xc4\x20" + sha256(b"novate/block/v1\n\x95" + body).digest()


def test_limits_are_exact() -> None:
    """65,535 bytes an entry and 999,999 a block are allowed; one more is refused, both ways."""
    assert blocks.decode(blocks.build(0, 0, PREV, [bytes(65_535)]).raw).entries == [bytes(65_535)]
    with pytest.raises(JournalError, match=errors.ENTRY_TOO_LARGE) as caught:
        blocks.build(0, 4, PREV, [b"", bytes(65_536)])
    assert caught.value.seq == 5
    assert refusal(forged([0, 0, 1, PREV, [bytes(65_536)]])) == errors.ENTRY_TOO_LARGE
    with pytest.raises(JournalError, match=errors.BLOCK_EMPTY):
        blocks.build(0, 0, PREV, [])
    assert refusal(forged([0, 0, 0, PREV, []])) == errors.BLOCK_EMPTY
    spare = 999_999 - len(blocks.build(0, 0, PREV, [bytes(60_000)] * 15 + [bytes(60_000)]).raw)
    fitting = [bytes(60_000)] * 15 + [bytes(60_000), bytes(spare - 3)]
    assert len(blocks.build(0, 0, PREV, fitting).raw) == 999_999
    with pytest.raises(JournalError, match=errors.BLOCK_TOO_LARGE):
        blocks.build(0, 0, PREV, [*fitting[:-1], bytes(spare - 2)])
    with pytest.raises(JournalError, match=errors.BLOCK_MALFORMED):
        blocks.build(0, 0, PREV, ["text"])  # type: ignore[list-item]


def test_batches_cut_without_losing_or_reordering(rng: random.Random) -> None:
    """Every run of `batches` fits a block, and the runs add up to the input."""
    entries = [rng.randbytes(rng.choice((0, 10, 3_000, 65_535))) for _ in range(300)]
    runs = list(blocks.batches(entries))
    assert [entry for run in runs for entry in run] == entries
    assert len(runs) > 3
    for run in runs:
        blocks.build(blocks.MAX_INT, blocks.MAX_INT - len(run), PREV, run)
