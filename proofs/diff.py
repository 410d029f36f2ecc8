# SPDX-License-Identifier: Apache-2.0
"""Data availability: the exit leaves that an epoch changed, as compact deterministic columns.

One value has one encoding, so that anyone can recompute the hash that a header commits to.
"""

from collections.abc import Sequence
from typing import NamedTuple

from proofs.errors import DiffError
from proofs.hashing import OWNER_BYTES, sha256, shown
from proofs.leaf import LEAF_VALUE_BITS, MAX_LANES

VERSION = 1
MAX_CHUNK_BYTES = 96 * 1024
_HEAD_BYTES = 14
_VALUE_LIMIT = 1 << LEAF_VALUE_BITS


class DiffRow(NamedTuple):
    """A changed leaf; `owner` only where the leaf is new. Atoms per lane."""

    index: int  # type: ignore[assignment]
    owner: bytes | None
    exits: tuple[int, ...]
    acks: tuple[int, ...]


class Chunk(NamedTuple):
    """A decoded chunk."""

    epoch: int
    lanes: int
    rows: list[DiffRow]


def _varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(epoch: int, lanes: int, rows: Sequence[DiffRow]) -> bytes:
    bitmap = bytearray((len(rows) + 7) // 8)
    deltas, owners = bytearray(), bytearray()
    previous = -1
    for number, row in enumerate(rows):
        deltas += _varint(row.index - previous - 1 if number else row.index)
        previous = row.index
        if row.owner is not None:
            bitmap[number // 8] |= 1 << number % 8
            owners += row.owner
    values = bytearray()
    for column in ([row.exits for row in rows], [row.acks for row in rows]):
        for lane in range(lanes):
            for lane_values in column:
                values += _varint(lane_values[lane])
    head = bytes([VERSION, lanes]) + epoch.to_bytes(8, "big") + len(rows).to_bytes(4, "big")
    return head + bytes(deltas) + bytes(bitmap) + bytes(owners) + bytes(values)


def _row_bytes(row: DiffRow) -> int:
    """Upper bound of what a row adds to a chunk."""
    values = sum((max(value.bit_length(), 1) + 6) // 7 for value in (*row.exits, *row.acks))
    return 5 + 1 + (OWNER_BYTES if row.owner is not None else 0) + values


def encode_chunks(epoch: int, lanes: int, rows: Sequence[DiffRow]) -> list[bytes]:
    """Chunks of at most 96 KiB, cut on row boundaries; rows in ascending index order.

    Raises `DiffError`. No rows give no chunks.
    """
    if not 0 <= epoch < 1 << 64 or not 1 <= lanes <= MAX_LANES:
        raise DiffError(f"epoch {shown(epoch)} with {shown(lanes)} lanes does not fit a chunk")
    previous = -1
    for row in rows:
        if row.index <= previous or row.index >= 1 << 32:
            raise DiffError(f"row {shown(row.index)} is out of order, or not a 32-bit index")
        if row.owner is not None and len(row.owner) != OWNER_BYTES:
            raise DiffError("an owner has 20 bytes")
        if len(row.exits) != lanes or len(row.acks) != lanes:
            raise DiffError(f"a row has {lanes} lanes")
        if any(not 0 <= value < _VALUE_LIMIT for value in (*row.exits, *row.acks)):
            raise DiffError("a leaf value is outside 96 bits")
        previous = row.index
    chunks: list[bytes] = []
    waiting: list[DiffRow] = []
    size = _HEAD_BYTES
    for row in rows:
        if waiting and size + _row_bytes(row) > MAX_CHUNK_BYTES:
            chunks.append(_encode(epoch, lanes, waiting))
            waiting, size = [], _HEAD_BYTES
        waiting.append(row)
        size += _row_bytes(row)
    if waiting:
        chunks.append(_encode(epoch, lanes, waiting))
    return chunks


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise DiffError("the chunk ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self, bits: int) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 98:
                raise DiffError("a number is too long")
        if (byte == 0 and shift) or value >> bits:
            raise DiffError("a number is not in its shortest form, or too large")
        return value

    def at_end(self) -> bool:
        return self._at == len(self._data)


def decode_chunk(data: bytes) -> Chunk:
    """Strict inverse. Raises `DiffError` for anything that `encode_chunks` would not write."""
    if len(data) > MAX_CHUNK_BYTES:
        raise DiffError("the chunk is larger than 96 KiB")
    reader = _Reader(data)
    version, lanes = reader.take(2)
    if version != VERSION or not 1 <= lanes <= MAX_LANES:
        raise DiffError(f"version {version} with {lanes} lanes is not known")
    epoch = int.from_bytes(reader.take(8), "big")
    count = int.from_bytes(reader.take(4), "big")
    if not 1 <= count <= len(data):
        raise DiffError(f"a chunk of {len(data)} bytes cannot hold {count} rows")
    indexes: list[int] = []
    for number in range(count):
        step = reader.varint(32)
        indexes.append(indexes[-1] + 1 + step if number else step)
    if indexes[-1] >= 1 << 32:
        raise DiffError("an index is outside 32 bits")
    bitmap = reader.take((count + 7) // 8)
    if count % 8 and bitmap[-1] >> count % 8:
        raise DiffError("the owner bitmap has bits past the last row")
    owners = [reader.take(OWNER_BYTES) if bitmap[n // 8] >> n % 8 & 1 else None for n in range(count)]
    columns = [[reader.varint(LEAF_VALUE_BITS) for _ in range(count)] for _ in range(2 * lanes)]
    if not reader.at_end():
        raise DiffError("bytes follow the last column")
    rows = [
        DiffRow(
            indexes[n],
            owners[n],
            tuple(columns[lane][n] for lane in range(lanes)),
            tuple(columns[lanes + lane][n] for lane in range(lanes)),
        )
        for n in range(count)
    ]
    return Chunk(epoch, lanes, rows)


def diff_hash(chunk_hashes: Sequence[bytes]) -> bytes:
    """What the header commits to: SHA-256("novate/diff/v1" | chunk hashes)."""
    return sha256(b"novate/diff/v1" + b"".join(chunk_hashes))
