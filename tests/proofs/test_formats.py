# SPDX-License-Identifier: GPL-3.0-or-later
"""Diff, header, checkpoint: one value has one encoding, and nothing else decodes."""

import base64
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from proofs import checkpoint as note
from proofs.diff import MAX_CHUNK_BYTES, DiffRow, decode_chunk, encode_chunks
from proofs.errors import CheckpointError, DiffError, EncodingError
from proofs.hashing import exit_domain, shown, state_domain, unsigned
from proofs.header import Header
from proofs.inbox import InboxMessage, Voucher
from proofs.leaf import ExitLeaf, StateLeaf

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


def leb128_length(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def test_diffs_are_cut_exactly_where_the_protocol_says(rng: random.Random) -> None:
    """The hash depends on it: a row that would take the running bound past 98,304 begins a new chunk."""
    rows, index = [], -1
    for _ in range(6_000):
        index += rng.choice((1, 1, 7, 300))
        values = [rng.getrandbits(rng.randrange(97)) for _ in range(4)]
        owner = rng.choice((None, rng.randbytes(20)))
        rows.append(DiffRow(index, owner, (values[0], values[1]), (values[2], values[3])))
    cuts: list[list[DiffRow]] = [[]]
    bound = 14
    for row in rows:
        more = 6 + 20 * (row.owner is not None) + sum(map(leb128_length, (*row.exits, *row.acks)))
        if bound + more > 98_304:
            cuts.append([])
            bound = 14
        cuts[-1].append(row)
        bound += more
    assert len(cuts) > 2
    assert [decode_chunk(chunk).rows for chunk in encode_chunks(3, 2, rows)] == cuts


def test_columns_stand_in_the_published_order() -> None:
    """Per lane the exits, then per lane the acknowledgements: two rows of two lanes, written by hand."""
    rows = [DiffRow(3, None, (1, 2), (3, 4)), DiffRow(300, OWNER, (5, 6), (7, 200))]
    head = b"\x01\x02" + (7).to_bytes(8, "big") + (2).to_bytes(4, "big")
    columns = b"\x01\x05" + b"\x02\x06" + b"\x03\x07" + b"\x04\xc8\x01"
    raw = head + b"\x03" + b"\xa8\x02" + b"\x02" + OWNER + columns
    assert encode_chunks(7, 2, rows) == [raw]
    assert decode_chunk(raw) == (7, 2, rows)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("epoch", "lanes", "row"),
    [
        (-1, 1, DiffRow(0, None, (1,), (1,))),
        (2**64, 1, DiffRow(0, None, (1,), (1,))),
        (1, 0, DiffRow(0, None, (), ())),
        (1, 5, DiffRow(0, None, (1,) * 5, (1,) * 5)),
        (1, 2, DiffRow(0, None, (1,), (1,))),
        (1, 1, DiffRow(-1, None, (1,), (1,))),
        (1, 1, DiffRow(2**32, None, (1,), (1,))),
        (1, 1, DiffRow(0, b"short", (1,), (1,))),
        (1, 1, DiffRow(0, None, (2**96,), (1,))),
        (1, 1, DiffRow(0, None, (1,), (-1,))),
    ],
)
def test_what_no_chunk_can_hold_is_not_encoded(epoch: int, lanes: int, row: DiffRow) -> None:
    """The encoder writes nothing that the decoder would refuse."""
    with pytest.raises(DiffError):
        encode_chunks(epoch, lanes, [row])
    with pytest.raises(DiffError):
        encode_chunks(1, 1, [DiffRow(3, None, (1,), (1,)), DiffRow(3, None, (1,), (1,))])


HEAD = b"\x01\x01" + (7).to_bytes(8, "big")
TWO = HEAD + (2).to_bytes(4, "big")
OWNER = b"o" * 20
BAD_CHUNKS = {
    "longer index": TWO + b"\x83\x00" + b"\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01",
    "longer delta": TWO + b"\x03" + b"\x80\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01",
    "longer exit": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x85\x00\x06" + b"\x00\x01",
    "longer ack": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x81\x80\x00",
    "bitmap past the rows": TWO + b"\x03\x00" + b"\x05" + OWNER + b"\x05\x06" + b"\x00\x01",
    "owner missing": TWO + b"\x03\x00" + b"\x03" + OWNER + b"\x05\x06" + b"\x00\x01",
    "value missing": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00",
    "value cut": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x81",
    "trailing byte": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01" + b"\x00",
    "index of 33 bits": TWO + b"\xff\xff\xff\xff\x0f" + b"\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01",
    "delta of 33 bits": TWO + b"\x03" + b"\x80\x80\x80\x80\x10" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01",
    "value of 97 bits": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05" + b"\x80" * 13 + b"\x20" + b"\x00\x01",
    "endless value": TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05" + b"\x80" * 99 + b"\x01" + b"\x00\x01",
    "no rows": HEAD + bytes(4),
    "more rows than bytes": HEAD + b"\xff" * 4 + b"\x00" * 50,
    "version 2": b"\x02" + TWO[1:] + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01",
    "no lanes": b"\x01\x00" + TWO[2:] + b"\x03\x00" + b"\x01" + OWNER,
    "good but for its size": HEAD + (40_000).to_bytes(4, "big") + bytes(40_000 + 5_000 + 80_000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_every_other_spelling_of_a_chunk_is_refused(name: str) -> None:
    """Each differs in one thing from a chunk that decodes: rows 3 and 4, of which 3 is new."""
    good = TWO + b"\x03\x00" + b"\x01" + OWNER + b"\x05\x06" + b"\x00\x01"
    rows = [DiffRow(3, OWNER, (5,), (0,)), DiffRow(4, None, (6,), (1,))]
    assert decode_chunk(good).rows == rows
    assert encode_chunks(7, 1, rows) == [good]
    with pytest.raises(DiffError):
        decode_chunk(BAD_CHUNKS[name])


@given(st.binary(max_size=120))
def test_whatever_bytes_decode_as_a_chunk_encode_to_themselves(data: bytes) -> None:
    """Hostile chunks are DiffErrors."""
    for raw in (data, b"\x01\x01" + data, b"\x01\x01" + bytes(11) + data):
        try:
            chunk = decode_chunk(raw)
        except DiffError:
            continue
        assert encode_chunks(chunk.epoch, chunk.lanes, chunk.rows) == [raw]


@pytest.mark.parametrize("bits", [8, 16, 32, 64, 96, 128, 256])
def test_integers_have_one_width_and_stay_in_it(bits: int) -> None:
    """Nothing is truncated, wrapped or taken from another type."""
    assert unsigned((1 << bits) - 1, bits) == b"\xff" * (bits // 8)
    assert unsigned(1, bits) == bytes(bits // 8 - 1) + b"\x01"
    for bad in (-1, 1 << bits, True, 1.0, "1", None, 10**5_000):
        with pytest.raises(EncodingError):
            unsigned(bad, bits)  # type: ignore[arg-type]
    assert len(shown(10**5_000)) < 30


VALID: list[InboxMessage | Voucher | StateLeaf | ExitLeaf] = [
    InboxMessage(1, 2, b"o" * 20, 0, 5, 6, b"d" * 32),
    Voucher(b"D" * 32, b"o" * 20, 0, 5, 6),
    StateLeaf(b"o" * 20, 3, 0, b"s" * 32, 5, 0, 1, 1, 0, b"d" * 32),
    ExitLeaf(1, b"o" * 20, (5,), (6,)),
]


@pytest.mark.parametrize("item", VALID, ids=lambda item: type(item).__name__)
def test_structures_have_one_length_and_refuse_what_does_not_fit(
    item: InboxMessage | Voucher | StateLeaf | ExitLeaf,
) -> None:
    """Any field set to another type, a wrong length or a number too large is an EncodingError."""

    def encode(some: InboxMessage | Voucher | StateLeaf | ExitLeaf) -> bytes:
        return some.encode(b"D" * 32) if isinstance(some, StateLeaf | ExitLeaf) else some.encode()

    lengths = {"InboxMessage": 86, "Voucher": 78, "StateLeaf": 1 + 1 + 32 + 20 + 4 + 2 + 32 + 40 + 64, "ExitLeaf": 89}
    assert len(encode(item)) == lengths[type(item).__name__]
    for name in item.__struct_fields__:
        old = getattr(item, name)
        bad: list[object] = (
            [-1, 1 << 256, True, None, "1"] if isinstance(old, int) else [old[:-1], old + old, bytearray(old)]
        )
        if isinstance(old, tuple):
            bad = [(), (5, 6), (2**96,), (-1,), (True,), (None,), (1,) * 5]
        for value in bad:
            with pytest.raises(EncodingError):
                encode(msgspec.structs.replace(item, **{name: value}))


def test_a_state_leaf_states_equity_or_a_deficit() -> None:
    """One of the two is zero; so one signed number has one encoding."""
    leaf = StateLeaf(b"o" * 20, 3, 0, b"s" * 32, 0, 7, 1, 1, 0, b"d" * 32)
    assert len(leaf.hash(b"D" * 32)) == 32
    with pytest.raises(EncodingError):
        msgspec.structs.replace(leaf, equity=1).hash(b"D" * 32)


@pytest.mark.parametrize("arguments", [(-1, b"v" * 20), (2**256, b"v" * 20), (1, b"v" * 19), (1, "v" * 20)])
def test_domains_bind_exact_widths(arguments: tuple[int, bytes]) -> None:
    """A chain id and a vault have one encoding, and so has a deployment."""
    assert exit_domain(1, b"v" * 20) != exit_domain(2, b"v" * 20)
    with pytest.raises(EncodingError):
        exit_domain(*arguments)
    with pytest.raises(EncodingError):
        state_domain(b"d" * 31)


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


def test_any_changed_character_before_the_second_signature_is_refused() -> None:
    """And in the second line, which this reader skips, none changes what was signed."""
    made = note.Checkpoint(ORIGIN, 42, b"\x07" * 32)
    alone = note.sign(made, SEED)
    text = note.sign(made, SEED, (note.secp256k1_line(ORIGIN, b"a" * 20, b"\x01" * 65),))
    assert text.startswith(alone)
    for at, old in enumerate(text):
        for new in {"0", "9", "A", "z", "/", "=", "\n", " ", "\u2014", ""} - {old}:
            bad = text[:at] + new + text[at + 1 :]
            if at < len(alone):
                with pytest.raises(CheckpointError):
                    note.verify(bad, PUBLIC, ORIGIN)
                continue
            try:
                found = note.verify(bad, PUBLIC, ORIGIN)
            except CheckpointError:
                continue
            assert found == made


def ed25519_line(name: str, key_of: str, checkpoint: note.Checkpoint) -> str:
    """A good signature of the operator's, under `name` and the key id of `key_of`."""
    identity = note.key_id(key_of, note.ED25519, PUBLIC)
    return note.signature_line(name, identity, SigningKey(SEED).sign(checkpoint.body()).signature)


def test_a_good_signature_counts_only_under_the_name_and_key_id_of_its_log() -> None:
    """A note of another log does not pass by naming this one in its signature line."""
    mine, foreign = note.Checkpoint(ORIGIN, 42, bytes(32)), note.Checkpoint("other.example/log", 42, bytes(32))
    assert note.verify(mine.body().decode() + "\n" + ed25519_line(ORIGIN, ORIGIN, mine), PUBLIC, ORIGIN) == mine
    for checkpoint, line in (
        (foreign, ed25519_line(ORIGIN, ORIGIN, foreign)),
        (foreign, ed25519_line(foreign.origin, foreign.origin, foreign)),
        (mine, ed25519_line(foreign.origin, ORIGIN, mine)),
        (mine, ed25519_line(ORIGIN, foreign.origin, mine)),
    ):
        with pytest.raises(CheckpointError):
            note.verify(checkpoint.body().decode() + "\n" + line, PUBLIC, ORIGIN)


def test_lines_of_other_keys_are_skipped_wherever_they_stand() -> None:
    """A witness, the operator's next key under the same name, and the contract's line, all before it."""
    made = note.Checkpoint(ORIGIN, 42, bytes(32))
    body, own = note.sign(made, SEED).split("\n\n")
    next_key = note.sign(made, b"t" * 32).split("\n\n")[1]
    witness = note.signature_line("witness.example", b"abcd", b"w" * 64)
    contract = note.secp256k1_line(ORIGIN, b"a" * 20, b"\x01" * 65)
    assert note.verify(body + "\n\n" + witness + next_key + contract + own, PUBLIC, ORIGIN) == made
    with pytest.raises(CheckpointError):
        note.verify(body + "\n\n" + witness + next_key + contract, PUBLIC, ORIGIN)


@pytest.mark.parametrize(
    "char", [" ", "+", "\n", "\t", "\0", "\x0b", "\x7f", "\x85", "\xa0", "\u2003", "\u2028", "\ud800"]
)
def test_a_name_that_a_note_cannot_hold_is_refused(char: str) -> None:
    """In the origin when signing, and in both places when reading."""
    with pytest.raises(CheckpointError):
        note.sign(note.Checkpoint(f"a{char}b", 1, b"\x00" * 32), SEED)
    good = note.sign(note.Checkpoint(ORIGIN, 1, b"\x00" * 32), SEED)
    assert note.parse(good).checkpoint.origin == ORIGIN
    for bad in (good.replace(ORIGIN, f"a{char}b", 1), good + f"\u2014 a{char}b AAAAAAAA\n"):
        with pytest.raises(CheckpointError):
            note.parse(bad)


@pytest.mark.parametrize(
    "line", ["\u2014 a AAAA", "- a AAAAAAAA", "\u2014 a AAAAAAA", "\u2014 a AAAAAAB=", "\u2014  AAAAAAAA", ""]
)
def test_a_malformed_signature_line_is_refused(line: str) -> None:
    """Too short, another dash, base64 that is not the one of its bytes, no name, an empty line."""
    good = note.sign(note.Checkpoint(ORIGIN, 1, b"\x00" * 32), SEED)
    assert len(note.parse(good + "\u2014 a AAAAAAAA\n").signatures) == 2
    with pytest.raises(CheckpointError):
        note.parse(f"{good}{line}\n")


def test_signing_refuses_keys_and_signatures_of_other_lengths() -> None:
    """Before a line is written that no reader would take."""
    for address, signature in ((b"a" * 19, b"s" * 65), (b"a" * 20, b"s" * 64)):
        with pytest.raises(EncodingError):
            note.secp256k1_line(ORIGIN, address, signature)
    with pytest.raises(EncodingError):
        note.sign(note.Checkpoint(ORIGIN, 1, b"\x00" * 32), b"short")
    for size in (-1, 1 << 63, 10**5_000):
        with pytest.raises(CheckpointError):
            note.sign(note.Checkpoint(ORIGIN, size, b"\x00" * 32), SEED)


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
