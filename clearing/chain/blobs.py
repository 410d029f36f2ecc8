# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in blobs (EIP-4844), and the KZG commitments that name them.

A blob is 4096 field elements of 32 bytes, each below a 255-bit prime, so 31 bytes of ours go into one,
behind a zero byte. The stream of 126,976 bytes is: length u32 big-endian | data | zeros. The form is
strict: one blob has one content and one content one blob, so that the versioned hash names the content.

Rules: the trusted setup (1.5 s, 50 MB) is loaded once per process, on first use of a commitment; encoding
and decoding need no library. Blobs come from archives that nobody vouches for: `verified` checks the hash.
"""

import hashlib
import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

from clearing.chain.errors import ChainError

ELEMENTS: Final = 4096
ELEMENT_BYTES: Final = 32
BLOB_BYTES: Final = ELEMENTS * ELEMENT_BYTES
STREAM_BYTES: Final = ELEMENTS * (ELEMENT_BYTES - 1)
LENGTH_BYTES: Final = 4
CAPACITY_BYTES: Final = STREAM_BYTES - LENGTH_BYTES
VERSION_KZG: Final = b"\x01"
MAX_BLOBS_PER_TRANSACTION: Final = 6
_SETUP_LOCK = threading.Lock()


def encode(data: bytes) -> bytes:
    """The blob (131,072 bytes) of up to 126,972 bytes. Raises `ChainError` BAD_BLOB."""
    if len(data) > CAPACITY_BYTES:
        raise ChainError("BAD_BLOB", f"{len(data)} bytes do not fit into a blob, which holds {CAPACITY_BYTES}")
    stream = (len(data).to_bytes(LENGTH_BYTES, "big") + data).ljust(STREAM_BYTES, b"\0")
    step = ELEMENT_BYTES - 1
    return b"".join(b"\0" + stream[at : at + step] for at in range(0, STREAM_BYTES, step))


def decode(blob: bytes) -> bytes:
    """The bytes in a blob. Raises `ChainError` BAD_BLOB for any blob that `encode` would not make."""
    if len(blob) != BLOB_BYTES:
        raise ChainError("BAD_BLOB", f"a blob has {BLOB_BYTES} bytes, not {len(blob)}")
    if any(blob[::ELEMENT_BYTES]):
        raise ChainError("BAD_BLOB", "a field element of the blob does not begin with a zero byte")
    elements = (blob[at + 1 : at + ELEMENT_BYTES] for at in range(0, BLOB_BYTES, ELEMENT_BYTES))
    stream = b"".join(elements)
    end = LENGTH_BYTES + int.from_bytes(stream[:LENGTH_BYTES], "big")
    if end > STREAM_BYTES or any(stream[end:]):
        raise ChainError("BAD_BLOB", "the blob's length does not fit its content")
    return stream[LENGTH_BYTES:end]


def encode_all(data: bytes) -> list[bytes]:
    """As many blobs as the data needs, at least one; `decode_all` joins them again."""
    starts = range(0, max(1, len(data)), CAPACITY_BYTES)
    return [encode(data[at : at + CAPACITY_BYTES]) for at in starts]


def decode_all(blobs: Sequence[bytes]) -> bytes:
    """The bytes in several blobs, joined. Raises `ChainError` BAD_BLOB."""
    return b"".join(decode(blob) for blob in blobs)


def versioned_hash(blob: bytes) -> bytes:
    """The 32 bytes that transactions and headers name a blob by. Raises `ChainError` BAD_BLOB."""
    return hash_of_commitment(commitment(blob))


def hash_of_commitment(value: bytes) -> bytes:
    """01 and the last 31 bytes of SHA-256 of a KZG commitment (48 bytes)."""
    return VERSION_KZG + hashlib.sha256(value).digest()[1:]


def verified(blob: bytes, digest: bytes) -> bytes:
    """The bytes in a blob that is really the one of this versioned hash. Raises `ChainError` BAD_BLOB."""
    if versioned_hash(blob) != digest:
        raise ChainError("BAD_BLOB", f"the blob is not the one of 0x{digest.hex()}; try another archive")
    return decode(blob)


@lru_cache(maxsize=MAX_BLOBS_PER_TRANSACTION)
def commitment(blob: bytes) -> bytes:
    """The KZG commitment (48 bytes). Raises `ChainError` BAD_BLOB when an element is above the modulus."""
    import ckzg

    return bytes(_checked(lambda: ckzg.blob_to_kzg_commitment(blob, _setup()), blob))


def wrapped(raw: bytes, blobs: Sequence[bytes], cells: bool) -> bytes:
    """The form in which nodes take a signed type-3 transaction: with blobs, commitments and proofs.

    `cells` True gives EIP-7594's (version 1, 128 cell proofs a blob), False EIP-4844's.
    """
    import rlp

    commitments = [commitment(blob) for blob in blobs]
    proofs = [proof for blob, known in zip(blobs, commitments, strict=True) for proof in _proofs(blob, known, cells)]
    version = [b"\x01"] if cells else []
    return raw[:1] + bytes(rlp.encode([rlp.decode(raw[1:]), *version, list(blobs), commitments, proofs]))


def unwrapped(raw: bytes) -> tuple[bytes, list[bytes]]:
    """(transaction without blobs, its blobs) of either form, proofs checked. Raises `ChainError` BAD_BLOB."""
    import rlp

    try:
        body, *rest = rlp.decode(raw[1:])
        cells = rest[:1] == [b"\x01"]
        blobs, commitments, proofs = rest[1:] if cells else rest
        hashes = list(body[10])
    except (rlp.DecodingError, ValueError, IndexError, TypeError):
        raise ChainError("BAD_BLOB", "not a type-3 transaction with its blobs") from None
    if [hash_of_commitment(known) for known in commitments] != hashes or len(blobs) != len(hashes):
        raise ChainError("BAD_BLOB", "the commitments are not those that the transaction names")
    if not _proven(blobs, commitments, proofs, cells):
        raise ChainError("BAD_BLOB", "the blobs do not open the commitments")
    return raw[:1] + bytes(rlp.encode(body)), list(blobs)


@lru_cache(maxsize=2 * MAX_BLOBS_PER_TRANSACTION)  # the same blobs are signed again in every dearer form
def _proofs(blob: bytes, known: bytes, cells: bool) -> list[bytes]:
    import ckzg

    if cells:
        return [bytes(proof) for proof in ckzg.compute_cells_and_kzg_proofs(blob, _setup())[1]]
    return [bytes(ckzg.compute_blob_kzg_proof(blob, known, _setup()))]


def _proven(blobs: list[bytes], commitments: list[bytes], proofs: list[bytes], cells: bool) -> bool:
    import ckzg

    def check() -> bool:
        if not cells:
            joined = b"".join(blobs), b"".join(commitments), b"".join(proofs)
            return bool(ckzg.verify_blob_kzg_proof_batch(*joined, _setup()))
        made = [cell for blob in blobs for cell in ckzg.compute_cells(blob, _setup())]
        places = list(range(128)) * len(blobs)
        named = [known for known in commitments for _ in range(128)]
        return bool(ckzg.verify_cell_kzg_proof_batch(named, places, made, proofs, _setup()))

    # Joined, wrong sizes could make up for one another.
    if any(len(blob) != BLOB_BYTES for blob in blobs) or any(len(item) != 48 for item in [*commitments, *proofs]):
        return False
    return bool(_checked(check, b""))


def _checked(run: Any, blob: bytes) -> Any:
    try:
        return run()
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ChainError("BAD_BLOB", f"{len(blob)} bytes are not a blob: {error}") from None


def _setup() -> Any:
    with _SETUP_LOCK:  # two threads that come first together would each load it
        return _load_setup()


@cache
def _load_setup() -> Any:
    import ckzg

    name = "typed_transactions/blob_transactions/kzg_trusted_setup.txt"
    with resources.as_file(resources.files("eth_account") / name) as path:
        return ckzg.load_trusted_setup(str(path), 0)
