# SPDX-License-Identifier: GPL-3.0-or-later
"""Cosignatures: lines as C2SP tlog-cosignature has them, and that nothing of one can change unnoticed."""

import base64
from hashlib import sha256

import pytest
from nacl.signing import SigningKey, VerifyKey

from proofs import cosignature as cos
from proofs.checkpoint import Checkpoint, key_id, parse, sign, signature_line, verify
from proofs.errors import CheckpointError, CosignatureError, ProofError

SEED, LOG_SEED = sha256(b"witness").digest(), sha256(b"log").digest()
PUBLIC = bytes(SigningKey(SEED).verify_key)
NAME, ORIGIN, TIME = "witness.example/w1", "venue.example/00ff/journal", 1_700_000_000
TIP = Checkpoint(ORIGIN, 17, sha256(b"root").digest())
LINE = cos.sign(TIP, NAME, SEED, TIME)


def noted(*lines: str) -> str:
    return sign(TIP, LOG_SEED, lines)


def test_a_line_is_what_the_standard_says() -> None:
    """Key id, big-endian time, and an Ed25519 signature over header, time and body: computed here from scratch."""
    mark, name, data = LINE.removesuffix("\n").split(" ")
    raw = base64.b64decode(data)
    identity = sha256(NAME.encode() + b"\n\x04" + PUBLIC).digest()[:4]
    assert (mark, name, raw[:4], raw[4:12]) == ("\u2014", NAME, identity, TIME.to_bytes(8, "big"))
    VerifyKey(PUBLIC).verify(f"cosignature/v1\ntime {TIME}\n".encode() + TIP.body(), raw[12:])
    assert cos.verify(parse(noted(LINE)), NAME, PUBLIC) == TIME


def test_a_cosigned_note_is_still_the_logs() -> None:
    """Further lines do not disturb who knows the log's key alone."""
    assert verify(noted(LINE), bytes(SigningKey(LOG_SEED).verify_key), ORIGIN) == TIP


def test_the_newest_of_several_lines_counts() -> None:
    older, newer = cos.sign(TIP, NAME, SEED, TIME - 5), cos.sign(TIP, NAME, SEED, TIME + 5)
    assert cos.verify(parse(noted(newer, LINE, older)), NAME, PUBLIC) == TIME + 5


def test_every_flipped_bit_is_noticed() -> None:
    """In the time, the signature, or the checkpoint: an error. In the key id: the line is a stranger's, so nobody's."""
    raw = base64.b64decode(LINE.split(" ")[2])
    for bit in range(8 * len(raw)):
        bent = bytearray(raw)
        bent[bit // 8] ^= 1 << bit % 8
        note = parse(noted(signature_line(NAME, bytes(bent[:4]), bytes(bent[4:]))))
        if bit < 32:
            assert cos.verify(note, NAME, PUBLIC) is None
        else:
            with pytest.raises(CosignatureError):
                cos.verify(note, NAME, PUBLIC)
    for other in (
        Checkpoint(ORIGIN, 18, TIP.root),
        Checkpoint(ORIGIN, 17, sha256(b"another").digest()),
        Checkpoint(ORIGIN + "x", 17, TIP.root),
    ):
        with pytest.raises(CosignatureError):
            cos.verify(parse(sign(other, LOG_SEED, (LINE,))), NAME, PUBLIC)


def test_a_valid_line_does_not_make_up_for_a_false_one() -> None:
    """C2SP signed-note: a signature of a known key that fails spoils the note."""
    forged = cos.sign(Checkpoint(ORIGIN, 18, TIP.root), NAME, SEED, TIME)
    with pytest.raises(CosignatureError, match="does not match"):
        cos.verify(parse(noted(LINE, forged)), NAME, PUBLIC)


def test_lines_of_others_are_skipped() -> None:
    """Another name, another key, and a plain signature (type 01) of the very same key and name: all are not it."""
    other = cos.sign(TIP, "witness.example/w2", SEED, TIME)
    stranger = cos.sign(TIP, NAME, sha256(b"stranger").digest(), TIME)
    plain = signature_line(NAME, key_id(NAME, b"\x01", PUBLIC), SigningKey(SEED).sign(TIP.body()).signature)
    assert cos.verify(parse(noted(other, stranger, plain)), NAME, PUBLIC) is None


def test_a_payload_of_another_length_is_false() -> None:
    identity = key_id(NAME, cos.COSIGNATURE, PUBLIC)
    for length in (1, 8, 64, 71, 73, 2428):
        with pytest.raises(CosignatureError, match="72"):
            cos.verify(parse(noted(signature_line(NAME, identity, bytes(length)))), NAME, PUBLIC)


def test_times_that_the_standard_does_not_allow() -> None:
    """Up to 2^63 - 1, and no more, signed or read."""
    edge = cos.sign(TIP, NAME, SEED, cos.MAX_TIME_S)
    assert cos.verify(parse(noted(edge)), NAME, PUBLIC) == cos.MAX_TIME_S
    for time_s in (-1, 1 << 63):
        with pytest.raises(CosignatureError, match="below 2"):
            cos.sign(TIP, NAME, SEED, time_s)
    late = (1 << 63).to_bytes(8, "big")
    signed = SigningKey(SEED).sign(b"cosignature/v1\ntime %d\n" % (1 << 63) + TIP.body()).signature
    line = signature_line(NAME, key_id(NAME, cos.COSIGNATURE, PUBLIC), late + signed)
    with pytest.raises(CosignatureError, match="below 2"):
        cos.verify(parse(noted(line)), NAME, PUBLIC)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\t", "line\n"])
def test_names_that_no_line_can_bear(name: str) -> None:
    with pytest.raises(CosignatureError, match="no name"):
        cos.sign(TIP, name, SEED, TIME)


def test_verifier_keys_go_both_ways() -> None:
    """And those of logs, or of post-quantum witnesses, are not taken for an Ed25519 witness's."""
    assert cos.parse_witness_key(cos.verifier_key(NAME, PUBLIC)) == (NAME, PUBLIC)
    for algorithm in (b"\x01", b"\x06"):
        text = f"{NAME}+{key_id(NAME, algorithm, PUBLIC).hex()}+{base64.b64encode(algorithm + PUBLIC).decode()}"
        with pytest.raises(CheckpointError, match="not an Ed25519 witness"):
            cos.parse_witness_key(text)
    with pytest.raises(ProofError):
        cos.verifier_key(NAME, b"short")
