# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks: the unit of commit, storage and replication.

A block is the canonical msgpack array `[term, first_seq, count, prev_hash, entries, hash]` with
`hash = SHA-256("novate/block/v1\\n" | msgpack([term, first_seq, count, prev_hash, entries]))`.

Rules:
- One block has exactly one encoding: `decode` refuses everything that `build` would not have produced.
- A block holds 1 or more entries of at most 65,535 bytes and is under 1,000,000 bytes in all.
- Integers are 0 to 2^63 - 1. The first block has `first_seq` 0 and 32 zero bytes as `prev_hash`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from journal import errors
from journal.errors import JournalError

MAX_ENTRY_BYTES: Final = 65_535
MAX_BLOCK_BYTES: Final = 999_999
MAX_INT: Final = 2**63 - 1
ZERO_HASH: Final = bytes(32)

_DOMAIN: Final = b"novate/block/v1\n"
_HASH_BYTES: Final = 32
# The two encodings share the bytes of the five hashed fields, so one pass of msgpack serves both:
# only the array header in front and the hash behind differ.
_ARRAY_5: Final = b"\x95"
_ARRAY_6: Final = b"\x96"
_BIN_32: Final = b"\xc4\x20"
_TAIL_BYTES: Final = len(_BIN_32) + _HASH_BYTES
# An entry costs at most 3 bytes of header, the other fields of a block at most 75.
_ENTRY_OVERHEAD_BYTES: Final = 3
_BLOCK_OVERHEAD_BYTES: Final = 96

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, int, int, bytes, list[bytes], bytes])


@dataclass(frozen=True, slots=True)
class Block:
    """A verified block. Made by `build` or `decode` only; `raw` is its one encoding."""

    term: int
    first_seq: int
    count: int
    prev_hash: bytes
    entries: Sequence[bytes]
    hash: bytes
    raw: bytes

    @property
    def next_seq(self) -> int:
        """The seq after the block's last entry."""
        return self.first_seq + self.count


def build(term: int, first_seq: int, prev_hash: bytes, entries: Sequence[bytes]) -> Block:
    """Make the block that holds `entries` from `first_seq` on.

    Raises JournalError: BLOCK_EMPTY, ENTRY_TOO_LARGE (with the entry's seq), BLOCK_TOO_LARGE,
    BLOCK_MALFORMED (an integer out of range, a hash that is not 32 bytes, an entry that is not bytes).
    """
    kept = list(entries)
    _check_fields(term, first_seq, len(kept), prev_hash, kept)
    body = _encoder.encode((term, first_seq, len(kept), prev_hash, kept))
    if len(body) + _TAIL_BYTES > MAX_BLOCK_BYTES:
        raise _too_large(len(body) + _TAIL_BYTES, first_seq)
    digest = sha256(_DOMAIN + body).digest()
    raw = b"".join((_ARRAY_6, memoryview(body)[1:], _BIN_32, digest))
    return Block(term, first_seq, len(kept), prev_hash, kept, digest, raw)


def decode(raw: bytes) -> Block:
    """Read a block from bytes that may be hostile or damaged.

    Raises JournalError: BLOCK_TOO_LARGE, BLOCK_MALFORMED (not the one canonical encoding),
    BLOCK_HASH_MISMATCH (the content is not what the hash commits to), ENTRY_TOO_LARGE, BLOCK_EMPTY.
    """
    if len(raw) > MAX_BLOCK_BYTES:
        raise _too_large(len(raw), None)
    if raw[:1] != _ARRAY_6 or raw[-_TAIL_BYTES:-_HASH_BYTES] != _BIN_32:
        raise JournalError(errors.BLOCK_MALFORMED, "these bytes are not an array of six ending in a hash")
    hasher = sha256(_DOMAIN + _ARRAY_5)
    hasher.update(memoryview(raw)[1:-_TAIL_BYTES])
    digest = hasher.digest()
    if digest != raw[-_HASH_BYTES:]:
        raise JournalError(
            errors.BLOCK_HASH_MISMATCH,
            f"the content hashes to {digest.hex()}, the block says {raw[-_HASH_BYTES:].hex()}",
        )
    # msgspec raises UnicodeDecodeError (a ValueError) and OverflowError besides its own errors.
    try:
        term, first_seq, count, prev_hash, entries, _ = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise JournalError(errors.BLOCK_MALFORMED, f"these bytes are not a block: {error}") from None
    if count != len(entries):
        raise JournalError(errors.BLOCK_MALFORMED, f"the block says {count} entries and holds {len(entries)}")
    _check_fields(term, first_seq, count, prev_hash, entries)
    if _encoder.encode((term, first_seq, count, prev_hash, entries, digest)) != raw:
        raise JournalError(errors.BLOCK_MALFORMED, "the block is not in its canonical encoding")
    return Block(term, first_seq, count, prev_hash, entries, digest, raw)


def check_link(block: Block, first_seq: int, prev_hash: bytes, term: int) -> None:
    """Refuse a block that does not continue the chain at (`first_seq`, `prev_hash`, `term`).

    Raises JournalError: JOURNAL_CORRUPT with the seq at which the chain breaks.
    """
    if block.first_seq != first_seq:
        message = f"a block that begins at seq {block.first_seq} stands where seq {first_seq} is due"
    elif block.prev_hash != prev_hash:
        message = f"the block at seq {first_seq} does not continue the block before it"
    elif block.term < term:
        message = f"the block at seq {first_seq} has term {block.term}, below the term {term} before it"
    else:
        return
    raise errors.corrupt(message, first_seq)


def batches(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut `entries` into runs that each fit one block, in order.

    Raises JournalError: ENTRY_TOO_LARGE.
    """
    if entries and _sound(entries):
        whole = sum(map(len, entries)) + _ENTRY_OVERHEAD_BYTES * len(entries) + _BLOCK_OVERHEAD_BYTES
        if whole <= MAX_BLOCK_BYTES:
            yield entries
            return
    start, used = 0, _BLOCK_OVERHEAD_BYTES
    for position, entry in enumerate(entries):
        _check_entry(entry, None)
        cost = len(entry) + _ENTRY_OVERHEAD_BYTES
        if used + cost > MAX_BLOCK_BYTES:
            yield entries[start:position]
            start, used = position, _BLOCK_OVERHEAD_BYTES
        used += cost
    if start < len(entries):
        yield entries[start:]


def _check_fields(term: int, first_seq: int, count: int, prev_hash: bytes, entries: Sequence[bytes]) -> None:
    if count == 0:
        raise JournalError(errors.BLOCK_EMPTY, "a block holds at least one entry", first_seq)
    if not (0 <= term <= MAX_INT and 0 <= first_seq <= MAX_INT - count):
        raise JournalError(errors.BLOCK_MALFORMED, f"term {term} or seq {first_seq} is out of range")
    if type(prev_hash) is not bytes or len(prev_hash) != _HASH_BYTES:
        raise JournalError(errors.BLOCK_MALFORMED, "the previous hash must be 32 bytes")
    # The hot path asks once for all entries; which one it is matters only when there is one.
    if not _sound(entries):
        for offset, entry in enumerate(entries):
            _check_entry(entry, first_seq + offset)


def _sound(entries: Sequence[bytes]) -> bool:
    return set(map(type, entries)) == {bytes} and max(map(len, entries)) <= MAX_ENTRY_BYTES


def _check_entry(entry: bytes, seq: int | None) -> None:
    if type(entry) is not bytes:
        raise JournalError(errors.BLOCK_MALFORMED, f"an entry must be bytes, not {type(entry).__name__}", seq)
    if len(entry) > MAX_ENTRY_BYTES:
        raise JournalError(
            errors.ENTRY_TOO_LARGE,
            f"an entry of {len(entry)} bytes is over the limit of {MAX_ENTRY_BYTES}; split the command",
            seq,
        )


def _too_large(size_bytes: int, seq: int | None) -> JournalError:
    return JournalError(
        errors.BLOCK_TOO_LARGE,
        f"a block of {size_bytes} bytes is over the limit of {MAX_BLOCK_BYTES}; put fewer entries in it",
        seq,
    )
