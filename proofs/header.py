# SPDX-License-Identifier: Apache-2.0
"""The epoch header: what the operator signs and the vault stores the hash of."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from proofs.errors import EncodingError
from proofs.hashing import HASH_BYTES, OWNER_BYTES, fixed, lanes, sha256, unsigned
from proofs.leaf import MAX_LANES

TAG = 3
VERSION = 1
ZERO = bytes(32)
_FIELDS = (
    ("domain", 32),
    ("epoch", 8),
    ("close_time_us", 8),
    ("prev_header", 32),
    ("peers_hash", 32),
    ("journal_size", 8),
    ("journal_root", 32),
    ("state_root", 32),
    ("exit_root", 32),
    ("exit_sums", 0),
    ("inbox_count", 8),
    ("inbox_hash", 32),
    ("marks_hash", 32),
    ("params_hash", 32),
    ("scenarios_hash", 32),
    ("attestors_hash", 32),
    ("diff_hash", 32),
    ("ext_root", 32),
    ("l1_number", 8),
    ("l1_hash", 32),
)
_FIXED_BYTES = 3 + sum(width for _, width in _FIELDS)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Fields in wire order; `exit_sums` are atoms per lane, times microseconds."""

    domain: bytes
    epoch: int
    close_time_us: int
    prev_header: bytes
    peers_hash: bytes = ZERO
    journal_size: int
    journal_root: bytes
    state_root: bytes
    exit_root: bytes
    exit_sums: tuple[int, ...]
    inbox_count: int
    inbox_hash: bytes
    marks_hash: bytes
    params_hash: bytes
    scenarios_hash: bytes = ZERO
    attestors_hash: bytes = ZERO
    diff_hash: bytes
    ext_root: bytes = ZERO
    l1_number: int
    l1_hash: bytes

    def encode(self) -> bytes:
        """Fixed-width bytes. Raises `EncodingError`."""
        count = len(self.exit_sums)
        if not 1 <= count <= MAX_LANES:
            raise EncodingError("a header has 1 to 4 lanes")
        parts = [bytes([TAG, VERSION])]
        for name, width in _FIELDS:
            value = getattr(self, name)
            if name == "exit_sums":
                parts.append(lanes(value))
            elif width == HASH_BYTES:
                parts.append(fixed(value, HASH_BYTES, name))
            else:
                parts.append(unsigned(value, 64, name))
            if name == "domain":
                parts.append(bytes([count]))
        return b"".join(parts)

    def hash(self) -> bytes:
        """What the chain stores (32 bytes)."""
        return sha256(self.encode())

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Inverse of `encode`. Raises `EncodingError` for anything else."""
        if len(data) < 35 or data[0] != TAG or data[1] != VERSION:
            raise EncodingError("not an epoch header of version 1")
        count = data[34]
        if not 1 <= count <= MAX_LANES or len(data) != _FIXED_BYTES + 16 * count:
            raise EncodingError(f"a header of {count} lanes does not have {len(data)} bytes")
        values: dict[str, object] = {}
        at = 2
        for name, width in _FIELDS:
            if name == "exit_sums":
                values[name] = tuple(int.from_bytes(data[at + 16 * i : at + 16 * i + 16], "big") for i in range(count))
                at += 16 * count
                continue
            raw = data[at : at + width]
            values[name] = raw if width == HASH_BYTES else int.from_bytes(raw, "big")
            at += width + (1 if name == "domain" else 0)
        return msgspec.convert(values, cls)


def peers_hash(vault: int, prev_hashes: Sequence[bytes]) -> bytes:
    """What ties a vault's header to the others' (32 bytes): SHA-256 over "novate/peers/v1" and, for every other vault
    ascending, its number (u8) and the hash of its previous header; zero when there is no other.

    `prev_hashes`: by vault, 32 bytes each; zero before a vault's first header, and its last one once it is frozen.
    Raises `EncodingError`.
    """
    if not 0 <= vault < len(prev_hashes):
        raise EncodingError("the vault is one of those whose headers are given")
    if len(prev_hashes) == 1:
        return ZERO
    parts = [
        unsigned(number, 8, "vault") + fixed(previous, HASH_BYTES, "header hash")
        for number, previous in enumerate(prev_hashes)
        if number != vault
    ]
    return sha256(b"novate/peers/v1" + b"".join(parts))


def attestors_hash(threshold: int, attestors: Sequence[bytes]) -> bytes:
    """Who must sign (32 bytes): SHA-256 over "novate/attestors/v1", threshold (u8), number (u8) and the addresses
    ascending, 20 bytes each; zero without attestors. Raises `EncodingError`, also when they do not ascend."""
    if not attestors:
        return ZERO
    if any(one >= other for one, other in pairwise(attestors)):
        raise EncodingError("attestors ascend, each once")
    parts = [fixed(address, OWNER_BYTES, "attestor") for address in attestors]
    head = unsigned(threshold, 8, "threshold") + unsigned(len(attestors), 8, "number of attestors")
    return sha256(b"novate/attestors/v1" + head + b"".join(parts))
