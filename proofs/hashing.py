# SPDX-License-Identifier: Apache-2.0
"""SHA-256, fixed-width big-endian integers, and the domains that bind trees to a deployment."""

import hashlib
from collections.abc import Iterable

from proofs.errors import EncodingError

HASH_BYTES = 32
OWNER_BYTES = 20


def sha256(data: bytes) -> bytes:
    """SHA-256 (32 bytes)."""
    return hashlib.sha256(data).digest()


def shown(value: object) -> str:
    """`value` for an error message: short whatever it is, since hostile input may hold any number or type."""
    if not isinstance(value, int) or isinstance(value, bool):
        return f"of type {type(value).__name__}"
    return str(value) if value.bit_length() <= 256 else f"of {value.bit_length()} bits"


def unsigned(value: int, bits: int, what: str = "value") -> bytes:
    """`value` as `bits`/8 big-endian bytes. Raises `EncodingError` when it does not fit."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise EncodingError(f"{what} {shown(value)} is not an unsigned {bits}-bit integer")
    return value.to_bytes(bits // 8, "big")


def lanes(values: Iterable[int], what: str = "lane") -> bytes:
    """u128 lanes, concatenated."""
    return b"".join(unsigned(value, 128, what) for value in values)


def fixed(value: bytes, length: int, what: str) -> bytes:
    """`value` itself. Raises `EncodingError` unless it is `length` bytes."""
    if not isinstance(value, bytes) or len(value) != length:
        raise EncodingError(f"{what} must be {length} bytes")
    return value


def exit_domain(chain_id: int, vault: bytes) -> bytes:
    """Domain of a vault's exit tree: SHA-256("novate/exit/v1" | chain id u256 | vault)."""
    return sha256(b"novate/exit/v1" + unsigned(chain_id, 256, "chain id") + fixed(vault, OWNER_BYTES, "vault"))


def state_domain(deployment_id: bytes) -> bytes:
    """Domain of a deployment's state tree: SHA-256("novate/state/v1" | deployment id)."""
    return sha256(b"novate/state/v1" + fixed(deployment_id, HASH_BYTES, "deployment id"))
