# SPDX-License-Identifier: Apache-2.0
"""A proof that an entry is in a log, as a text file (C2SP tlog-proof, `.tlog-proof`), to be checked offline.

    c2sp.org/tlog-proof@v1
    extra <base64>                 (may be absent; nobody signed it)
    index <decimal>
    <base64 of a hash>             (the RFC 9162 inclusion path, from the leaf's sibling up)

    <the checkpoint: a signed note, with whatever cosignatures it has>

The leaf is not in it: who checks brings the entry's bytes. The text has one canonical form, and nothing else is read.
"""

import base64
import binascii
from collections.abc import Callable, Sequence

import msgspec

from proofs import checkpoint as notes
from proofs.checkpoint import Checkpoint
from proofs.errors import EncodingError
from proofs.hashing import HASH_BYTES, fixed, shown
from proofs.log import leaf_hash, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = 131_072
_MAX_PATH = 63


class TlogProof(msgspec.Struct, frozen=True):
    """A parsed proof: entry number, path (32-byte hashes, from the leaf up), note, and data that nobody signed."""

    index: int
    path: tuple[bytes, ...]
    note: str
    extra: bytes = b""


def build(index: int, path: Sequence[bytes], note: str, extra: bytes = b"") -> str:
    """The text. Raises `EncodingError` for what it cannot hold, `CheckpointError` for what is no note."""
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 1 << 63:
        raise EncodingError(f"index {shown(index)} is not a number below 2^63")
    if len(path) > _MAX_PATH:
        raise EncodingError(f"a path has at most {_MAX_PATH} hashes, not {len(path)}")
    notes.parse(note)
    lines = [HEADER]
    if extra:
        lines.append(f"extra {_encoded(extra)}")
    lines.append(f"index {index}")
    lines += [_encoded(fixed(item, HASH_BYTES, "hash of the path")) for item in path]
    text = "\n".join(lines) + "\n\n" + note
    if len(text) > MAX_PROOF_BYTES:
        raise EncodingError(f"the proof would have more than {MAX_PROOF_BYTES:,} characters; give less extra data")
    return text


def parse(text: str) -> TlogProof:
    """Strictly read a proof; nothing is checked but its form. Raises `EncodingError`, `CheckpointError`."""
    if len(text) > MAX_PROOF_BYTES:
        raise EncodingError(f"the proof has more than {MAX_PROOF_BYTES:,} characters")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != HEADER or not blank:
        raise EncodingError(f"this is no {HEADER}: its first line is another, or its checkpoint is missing")
    extra = b""
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra = _decoded(lines.pop(1)[len("extra ") :], "extra data")
    index = lines[1].removeprefix("index ") if len(lines) > 1 and lines[1].startswith("index ") else ""
    if not index.isascii() or not index.isdecimal() or len(index) > 19:
        raise EncodingError("the index line should be: index <decimal>")
    path = tuple(_decoded(line, "path") for line in lines[2:])
    if text != build(int(index), path, note, extra):
        raise EncodingError("the proof is not in its one canonical form")
    return TlogProof(int(index), path, note, extra)


def verify(text: str, leaf: bytes, check: Callable[[str], Checkpoint]) -> tuple[int, Checkpoint]:
    """Number of the entry whose bytes are `leaf`, and the checkpoint it is shown to be in.

    `check` says whether the note is believed: it returns its checkpoint or raises ProofError. Raises `ProofError`:
    what `check` does, `InclusionError`, and as `parse`.
    """
    proof = parse(text)
    tip = check(proof.note)
    verify_inclusion(proof.index, tip.size, leaf_hash(leaf), proof.path, tip.root)
    return proof.index, tip


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EncodingError(f"the {what} is not base64") from None
