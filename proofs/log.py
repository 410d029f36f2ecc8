# SPDX-License-Identifier: Apache-2.0
"""RFC 9162 Merkle log: leaf and node hashes, inclusion and consistency verification.

Hashes are 32-byte `bytes`, indexes are zero-based, proofs are lists from the bottom up. The
builders at the end are the plain definitions of RFC 9162 section 2.1: for tests and small tools.
"""

import hashlib
from collections.abc import Sequence

from proofs.errors import ConsistencyError, InclusionError, ProofError
from proofs.hashing import shown


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(00 | entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 | left | right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _hash(value: object, what: str, error: type[ProofError]) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise error(f"{what} must be 32 bytes")
    return value


def _count(value: object, what: str, error: type[ProofError]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or value >= 1 << 63:
        raise error(f"{what} {shown(value)} is not a non-negative integer below 2^63")
    return value


def _path(proof: Sequence[bytes], error: type[ProofError]) -> list[bytes]:
    if not isinstance(proof, (list, tuple)):
        raise error("the proof must be a list of hashes")
    return [_hash(item, f"proof hash {number}", error) for number, item in enumerate(proof)]


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf is number `index` of the log of `size` with `root` (RFC 9162, 2.1.3.2).

    Raises `InclusionError`.
    """
    error = InclusionError
    fn, sn = _count(index, "index", error), _count(size, "size", error) - 1
    current = _hash(leaf_hash, "leaf hash", error)
    expected = _hash(root, "root", error)
    if fn > sn:
        raise error(f"index {index} is outside a log of {size} entries")
    for item in _path(proof, error):
        if sn == 0:
            raise error("the proof is longer than the path")
        if fn & 1 or fn == sn:
            current = node_hash(item, current)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            current = node_hash(current, item)
        fn >>= 1
        sn >>= 1
    if sn:
        raise error("the proof is shorter than the path")
    if current != expected:
        raise error("the path does not lead to the root: the entry is not in this log at this index")


def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """Check that the log of `size1` is a prefix of that of `size2` (RFC 9162, 2.1.4.2).

    Raises `ConsistencyError`. An empty first log is consistent with anything, by an empty proof.
    """
    error = ConsistencyError
    first, second = _count(size1, "size1", error), _count(size2, "size2", error)
    old, new = _hash(root1, "root1", error), _hash(root2, "root2", error)
    path = _path(proof, error)
    if first > second:
        raise error(f"a log of {size2} entries cannot extend one of {size1}")
    if first in (0, second):
        if path:
            raise error("nothing is to be proven between these sizes, so the proof must be empty")
        if first == second and old != new:
            raise error("two logs of the same size have different roots")
        if first == 0 and old != hashlib.sha256(b"").digest():
            raise error("the root of an empty log is SHA-256 of nothing")
        return
    if first & (first - 1) == 0:
        path.insert(0, old)
    _fold_consistency(first - 1, second - 1, path, old, new)


def _fold_consistency(fn: int, sn: int, path: list[bytes], old: bytes, new: bytes) -> None:
    error = ConsistencyError
    while fn & 1:
        fn >>= 1
        sn >>= 1
    if not path:
        raise error("the proof is empty")
    fr = sr = path[0]
    for item in path[1:]:
        if sn == 0:
            raise error("the proof is longer than the path")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(item, fr), node_hash(item, sr)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            sr = node_hash(sr, item)
        fn >>= 1
        sn >>= 1
    if sn:
        raise error("the proof is shorter than the path")
    if fr != old or sr != new:
        raise error("the roots do not follow from the proof: history was rewritten")


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, by the definition of RFC 9162, 2.1.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return node_hash(root(leaves[:split]), root(leaves[split:]))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Path of leaf `index`, by the definition of RFC 9162, 2.1.3.1."""
    if not 0 <= index < len(leaves):
        raise InclusionError(f"index {index} is outside a log of {len(leaves)} entries")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(index, leaves[:split]), root(leaves[split:])]
    return [*inclusion_proof(index - split, leaves[split:]), root(leaves[:split])]


def consistency_proof(size1: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Proof from the first `size1` leaves to all, by the definition of RFC 9162, 2.1.4.1."""
    if not 0 <= size1 <= len(leaves):
        raise ConsistencyError(f"size {size1} is outside a log of {len(leaves)} entries")
    return _subproof(size1, leaves, True) if 0 < size1 < len(leaves) else []


def _subproof(size1: int, leaves: Sequence[bytes], complete: bool) -> list[bytes]:
    if size1 == len(leaves):
        return [] if complete else [root(leaves)]
    split = _split(len(leaves))
    if size1 <= split:
        return [*_subproof(size1, leaves[:split], complete), root(leaves[split:])]
    return [*_subproof(size1 - split, leaves[split:], False), root(leaves[:split])]
