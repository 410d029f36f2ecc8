# SPDX-License-Identifier: GPL-3.0-or-later
"""The head: where the journal ends, and the record that keeps it on disk.

Rules: the head is what an append compares against; two heads are equal only if the whole history
before them is. The record carries the tree's frontier and its own SHA-256, since the database below
has no checksums.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from journal import errors
from journal.block import MAX_INT, ZERO_HASH

EMPTY_ROOT: Final = sha256(b"").digest()

_DOMAIN: Final = b"novate/head/v1\n"
_HASH_BYTES: Final = 32
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, int, bytes, int, bytes, list[bytes]])


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a journal: entries [0, next_seq) exist, the last block has `block_hash`.

    `tree_size` equals `next_seq`, and `tree_root` is the RFC 9162 root over all entries.
    """

    term: int = 0
    next_seq: int = 0
    block_hash: bytes = ZERO_HASH
    tree_size: int = 0
    tree_root: bytes = EMPTY_ROOT


def encode(head: Head, peaks: list[bytes]) -> bytes:
    """The record of a head and the roots of its perfect subtrees, smallest first."""
    body = _encoder.encode((head.term, head.next_seq, head.block_hash, head.tree_size, head.tree_root, peaks))
    return body + sha256(_DOMAIN + body).digest()


def decode(record: bytes) -> tuple[Head, list[bytes]]:
    """Read a head record. Raises JournalError: JOURNAL_CORRUPT."""
    body, digest = record[:-_HASH_BYTES], record[-_HASH_BYTES:]
    if sha256(_DOMAIN + body).digest() != digest:
        raise errors.corrupt("the head record does not match its own hash")
    try:
        term, next_seq, block_hash, tree_size, tree_root, peaks = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise errors.corrupt(f"the head record cannot be read: {error}") from None
    sound = (
        0 <= term <= MAX_INT
        and 0 <= next_seq == tree_size <= MAX_INT
        and len(block_hash) == len(tree_root) == _HASH_BYTES
        and len(peaks) == tree_size.bit_count()
        and all(len(peak) == _HASH_BYTES for peak in peaks)
    )
    if not sound:
        raise errors.corrupt("the head record's fields contradict each other")
    return Head(term, next_seq, block_hash, tree_size, tree_root), peaks
