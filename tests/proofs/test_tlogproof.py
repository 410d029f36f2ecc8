# SPDX-License-Identifier: GPL-3.0-or-later
"""A proof file shows one entry at one place of one signed log, has one form, and no bit of it may differ."""

import base64
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from proofs import log, tlogproof
from proofs.checkpoint import Checkpoint, sign, verify
from proofs.errors import ProofError

SEED = b"\x07" * 32
ORIGIN = "venue.example/00ff/journal"
CHECK = partial(verify, public_key=bytes(SigningKey(SEED).verify_key), origin=ORIGIN)


def entry(number: int) -> bytes:
    return b"entry %d" % number


def made(index: int, size: int, extra: bytes = b"", origin: str = ORIGIN) -> str:
    leaves = [log.leaf_hash(entry(number)) for number in range(size)]
    note = sign(Checkpoint(origin, size, log.root(leaves)), SEED)
    return tlogproof.build(index, log.inclusion_proof(index, leaves), note, extra)


@given(st.integers(1, 300).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))), st.binary())
def test_what_was_built_is_read_and_holds(place: tuple[int, int], extra: bytes) -> None:
    """Any entry of any log, with any extra data; the leaf alone decides."""
    index, size = place
    text = made(index, size, extra)
    found = tlogproof.parse(text)
    assert (found.index, found.extra, tlogproof.build(*_fields(found))) == (index, extra, text)
    assert tlogproof.verify(text, entry(index), CHECK)[0] == index
    with pytest.raises(ProofError):
        tlogproof.verify(text, entry(index + 1), CHECK)


def _fields(found: tlogproof.TlogProof) -> tuple[int, tuple[bytes, ...], str, bytes]:
    return found.index, found.path, found.note, found.extra


def test_the_form_is_the_standards() -> None:
    """Written out by hand from C2SP tlog-proof."""
    text = made(2, 3, b"more")
    sibling = log.node_hash(log.leaf_hash(entry(0)), log.leaf_hash(entry(1)))
    head = f"c2sp.org/tlog-proof@v1\nextra {base64.b64encode(b'more').decode()}\nindex 2\n"
    assert text.startswith(head + base64.b64encode(sibling).decode() + f"\n\n{ORIGIN}\n3\n")
    assert made(0, 1).startswith(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{ORIGIN}\n1\n")


def test_every_single_bit_flip_is_refused() -> None:
    """Of header, index, path, size, root and signature."""
    data = made(5, 11).encode()
    accepted = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            tlogproof.verify(flipped.decode(), entry(5), CHECK)
        except (ProofError, UnicodeDecodeError):
            continue
        accepted.append(bit)
    assert accepted == []


def test_another_log_is_another_log() -> None:
    """The same entries and key under another origin."""
    with pytest.raises(ProofError, match="the checkpoint is of"):
        tlogproof.verify(made(1, 2, origin="venue.example/00fe/journal"), entry(1), CHECK)


NOTE = made(0, 1).partition("\n\n")[2]
HOSTILE = {
    "empty": "",
    "no checkpoint": "c2sp.org/tlog-proof@v1\nindex 0\n",
    "another version": made(0, 1).replace("@v1", "@v2"),
    "no index": f"c2sp.org/tlog-proof@v1\n\n{NOTE}",
    "leading zero": made(0, 1).replace("index 0", "index 00"),
    "sign": made(0, 1).replace("index 0", "index +0"),
    "other digits": made(0, 1).replace("index 0", "index \u0660"),
    "huge index": made(0, 1).replace("index 0", "index " + "9" * 5_000),
    "index beyond 2^63": made(0, 1).replace("index 0", f"index {1 << 63}"),
    "short hash": f"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n{NOTE}",
    "hash that is none": f"c2sp.org/tlog-proof@v1\nindex 0\n?\n\n{NOTE}",
    "loose base64": made(1, 2).replace("=\n\n", "=\n=\n\n"),
    "64 hashes": f"c2sp.org/tlog-proof@v1\nindex 0\n{(base64.b64encode(bytes(32)).decode() + chr(10)) * 64}\n{NOTE}",
    "empty extra": made(0, 1).replace("index", "extra \nindex"),
    "extra twice": made(0, 1, b"x").replace("index", "extra eA==\nindex"),
    "extra that is none": made(0, 1).replace("index", "extra ?\nindex"),
    "carriage returns": made(0, 1).replace("\n", "\r\n"),
    "no note": "c2sp.org/tlog-proof@v1\nindex 0\n\nnothing\n",
    "too long": made(0, 1, b"x") + "x" * tlogproof.MAX_PROOF_BYTES,
    "surrogates": made(0, 1).replace("index", "extra \udc80\nindex"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_named_errors(name: str) -> None:
    with pytest.raises(ProofError):
        tlogproof.parse(HOSTILE[name])


def test_what_cannot_be_held_is_not_built() -> None:
    for arguments in ((-1, []), (1 << 63, []), (0, [bytes(31)]), (0, [bytes(32)] * 64)):
        with pytest.raises(ProofError):
            tlogproof.build(*arguments, NOTE)
    with pytest.raises(ProofError):
        tlogproof.build(0, [], "no note")
    with pytest.raises(ProofError, match="less extra data"):
        tlogproof.build(0, [], NOTE, bytes(tlogproof.MAX_PROOF_BYTES))
