# SPDX-License-Identifier: Apache-2.0
"""The exit tree: fixed depth 20, every node commits to both children's hashes and sums.

Why so: with both child sums in the preimage a prover cannot hide a liability in a sibling; lanes
are unsigned, so nothing nets negatively; depth is exact, so a node never passes for a leaf.
A node is kept as `hash | sums`, which is also what its parent hashes.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from proofs.errors import SumTreeError
from proofs.hashing import HASH_BYTES, sha256
from proofs.leaf import ExitLeaf

DEPTH = 20
_LANE = 16
_LIMIT = 1 << 128


class SumProof(msgspec.Struct, frozen=True):
    """Siblings from the bottom up: hashes (32 bytes each) and sums (atoms per lane)."""

    hashes: tuple[bytes, ...]
    sums: tuple[tuple[int, ...], ...]


def _sums(node: bytes, lanes: int) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(node[HASH_BYTES + _LANE * lane : HASH_BYTES + _LANE * (lane + 1)], "big")
        for lane in range(lanes)
    )


def _add(left: Sequence[int], right: Sequence[int]) -> bytes:
    total = b""
    for one, other in zip(left, right, strict=True):
        if one + other >= _LIMIT:
            raise SumTreeError("a sum overflows 128 bits")
        total += (one + other).to_bytes(_LANE, "big")
    return total


class SumTree:
    """Exit leaves by index. `update` rehashes each touched node once."""

    def __init__(self, domain: bytes, lanes: int, depth: int = DEPTH) -> None:
        self.domain = domain
        self.lanes = lanes
        self.depth = depth
        self._leaves: dict[int, ExitLeaf] = {}
        self._levels: list[dict[int, bytes]] = [{} for _ in range(depth + 1)]
        node = sha256(b"\x02" + domain) + bytes(_LANE * lanes)
        self._empty = [node]
        for _ in range(depth):
            node = sha256(b"\x01" + node + node) + bytes(_LANE * lanes)
            self._empty.append(node)

    def _top(self) -> bytes:
        return self._levels[self.depth].get(0, self._empty[self.depth])

    @property
    def root(self) -> bytes:
        """Root hash (32 bytes)."""
        return self._top()[:HASH_BYTES]

    @property
    def sums(self) -> tuple[int, ...]:
        """Sums of all leaves, atoms per lane."""
        return _sums(self._top(), self.lanes)

    def update(self, leaves: Iterable[ExitLeaf]) -> None:
        """Set leaves. Raises `SumTreeError` (index, lanes, owner changed, overflow) or `EncodingError`."""
        below = self._levels[0]
        touched: list[int] = []
        for leaf in leaves:
            if not 0 <= leaf.index < 1 << self.depth or len(leaf.exits) != self.lanes:
                raise SumTreeError(
                    f"leaf {leaf.index} does not fit a tree of depth {self.depth}, {self.lanes} lanes"
                )
            known = self._leaves.get(leaf.index)
            if known is not None and known.owner != leaf.owner:
                raise SumTreeError(f"leaf {leaf.index} belongs to another owner")
            below[leaf.index] = leaf.hash(self.domain) + b"".join(s.to_bytes(_LANE, "big") for s in leaf.sums)
            self._leaves[leaf.index] = leaf
            touched.append(leaf.index)
        parents = sorted({index >> 1 for index in touched})
        for height in range(self.depth):
            self._rehash(height, parents)
            parents = sorted({parent >> 1 for parent in parents})

    def _rehash(self, height: int, parents: list[int]) -> None:
        below, above, empty = self._levels[height], self._levels[height + 1], self._empty[height]
        get, hasher, single = below.get, hashlib.sha256, self.lanes == 1
        for parent in parents:
            left, right = get(parent << 1, empty), get(parent << 1 | 1, empty)
            if single:
                total = int.from_bytes(left[HASH_BYTES:], "big") + int.from_bytes(right[HASH_BYTES:], "big")
                if total >= _LIMIT:
                    raise SumTreeError("a sum overflows 128 bits")
                sums = total.to_bytes(_LANE, "big")
            else:
                sums = _add(_sums(left, self.lanes), _sums(right, self.lanes))
            above[parent] = hasher(b"\x01" + left + right).digest() + sums

    def leaf(self, index: int) -> ExitLeaf | None:
        """The leaf at `index`, if there is one."""
        return self._leaves.get(index)

    def leaves(self) -> list[ExitLeaf]:
        """All leaves in index order."""
        return [self._leaves[index] for index in sorted(self._leaves)]

    def proof(self, index: int) -> SumProof:
        """Path of a leaf. Raises `SumTreeError` outside the tree."""
        if not 0 <= index < 1 << self.depth:
            raise SumTreeError(f"index {index} is outside a tree of depth {self.depth}")
        nodes = [
            self._levels[height].get((index >> height) ^ 1, self._empty[height])
            for height in range(self.depth)
        ]
        return SumProof(
            tuple(node[:HASH_BYTES] for node in nodes), tuple(_sums(node, self.lanes) for node in nodes)
        )


def verify_exit(
    leaf: ExitLeaf, proof: SumProof, root: bytes, sums: Sequence[int], domain: bytes, depth: int = DEPTH
) -> None:
    """Check that `leaf` is in the tree with `root` and `sums`. Raises `SumTreeError` or `EncodingError`."""
    lanes = len(leaf.exits)
    if not 0 <= leaf.index < 1 << depth:
        raise SumTreeError(f"index {leaf.index} is outside a tree of depth {depth}")
    if len(proof.hashes) != depth or len(proof.sums) != depth or len(sums) != lanes:
        raise SumTreeError(f"an exit proof has exactly {depth} siblings, and sums for {lanes} lanes")
    node = leaf.hash(domain) + b"".join(value.to_bytes(_LANE, "big") for value in leaf.sums)
    for height in range(depth):
        sibling_hash, sibling_sums = proof.hashes[height], proof.sums[height]
        if (
            not isinstance(sibling_hash, bytes)
            or len(sibling_hash) != HASH_BYTES
            or len(sibling_sums) != lanes
        ):
            raise SumTreeError(f"sibling {height} is not 32 bytes with {lanes} sums")
        if any(not isinstance(value, int) or not 0 <= value < _LIMIT for value in sibling_sums):
            raise SumTreeError(f"sibling {height} has a sum outside 128 bits")
        sibling = sibling_hash + b"".join(value.to_bytes(_LANE, "big") for value in sibling_sums)
        total = _add(_sums(node, lanes), sibling_sums)
        pair = sibling + node if (leaf.index >> height) & 1 else node + sibling
        node = sha256(b"\x01" + pair) + total
    if node[:HASH_BYTES] != root:
        raise SumTreeError("the path does not lead to the exit root")
    if _sums(node, lanes) != tuple(sums):
        raise SumTreeError("the path's sums are not the header's")
