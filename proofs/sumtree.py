# SPDX-License-Identifier: Apache-2.0
"""The exit tree: fixed depth 20, every node commits to both children's hashes and sums.

Why so: with both child sums in the preimage a prover cannot hide a liability in a sibling; lanes
are unsigned, so nothing nets negatively; depth is exact, so a node never passes for a leaf.
A node is kept as `hash | sums`, which is also what its parent hashes.
"""

from collections.abc import Iterable, Sequence

import msgspec

from proofs.errors import SumTreeError
from proofs.hashing import HASH_BYTES, sha256, shown
from proofs.leaf import MAX_LANES, ExitLeaf

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


def _node(leaf: ExitLeaf, domain: bytes) -> bytes:
    return leaf.hash(domain) + b"".join([value.to_bytes(_LANE, "big") for value in leaf.sums])


def _carries(lanes: int) -> int:
    """The bits that only an overflowing lane changes when all lanes are added as one integer."""
    return sum(1 << 8 * _LANE * lane for lane in range(1, lanes + 1))


def _parent(left: bytes, right: bytes, carries: int) -> bytes:
    """The node over two nodes. One addition serves all lanes: a bit of `carries` differs from the
    sum without carry exactly where the lane below it overflowed."""
    one, other = int.from_bytes(left[HASH_BYTES:], "big"), int.from_bytes(right[HASH_BYTES:], "big")
    total = one + other
    if (one ^ other ^ total) & carries:
        raise SumTreeError("a sum overflows 128 bits")
    return sha256(b"\x01" + left + right) + total.to_bytes(len(left) - HASH_BYTES, "big")


class SumTree:
    """Exit leaves by index. `update` rehashes each touched node once."""

    def __init__(self, domain: bytes, lanes: int, depth: int = DEPTH) -> None:
        """Raises `SumTreeError`. At most 31 levels: then leaves below 2^97 cannot overflow a sum, so that
        an update whose leaves are good never fails half-way."""
        if not 1 <= lanes <= MAX_LANES or not 1 <= depth <= 31:
            raise SumTreeError(f"a tree has 1 to 4 lanes and 1 to 31 levels, not {lanes} and {depth}")
        self.domain = domain
        self.lanes = lanes
        self.depth = depth
        self._carries = _carries(lanes)
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
        """Set leaves, all or none. Raises `SumTreeError` (index, lanes, owner changed) or `EncodingError`."""
        changed: dict[int, ExitLeaf] = {}
        nodes: dict[int, bytes] = {}
        for leaf in leaves:
            index = leaf.index
            if not 0 <= index < 1 << self.depth or len(leaf.exits) != self.lanes:
                raise SumTreeError(f"leaf {shown(index)} does not fit a tree of depth {self.depth}, {self.lanes} lanes")
            known = changed.get(index) or self._leaves.get(index)
            if known is not None and known.owner != leaf.owner:
                raise SumTreeError(f"leaf {index} belongs to another owner")
            nodes[index] = _node(leaf, self.domain)
            changed[index] = leaf
        self._leaves.update(changed)
        self._levels[0].update(nodes)
        parents = sorted({index >> 1 for index in changed})
        for height in range(self.depth):
            self._rehash(height, parents)
            parents = sorted({parent >> 1 for parent in parents})

    def _rehash(self, height: int, parents: list[int]) -> None:
        below, above, empty = self._levels[height], self._levels[height + 1], self._empty[height]
        get, carries = below.get, self._carries
        for parent in parents:
            above[parent] = _parent(get(parent << 1, empty), get(parent << 1 | 1, empty), carries)

    def leaf(self, index: int) -> ExitLeaf | None:
        """The leaf at `index`, if there is one."""
        return self._leaves.get(index)

    def leaves(self) -> list[ExitLeaf]:
        """All leaves in index order."""
        return [self._leaves[index] for index in sorted(self._leaves)]

    def proof(self, index: int) -> SumProof:
        """Path of a leaf. Raises `SumTreeError` outside the tree."""
        if not 0 <= index < 1 << self.depth:
            raise SumTreeError(f"index {shown(index)} is outside a tree of depth {self.depth}")
        nodes = [self._levels[height].get((index >> height) ^ 1, self._empty[height]) for height in range(self.depth)]
        return SumProof(tuple(node[:HASH_BYTES] for node in nodes), tuple(_sums(node, self.lanes) for node in nodes))


def verify_exit(
    leaf: ExitLeaf, proof: SumProof, root: bytes, sums: Sequence[int], domain: bytes, depth: int = DEPTH
) -> None:
    """Check that `leaf` is in the tree with `root` and `sums`. Raises `SumTreeError` or `EncodingError`."""
    if not isinstance(leaf, ExitLeaf) or not isinstance(proof, SumProof):
        raise SumTreeError("an exit leaf and its path are an ExitLeaf and a SumProof")
    rows = (leaf.exits, leaf.withdraw_acks, proof.hashes, proof.sums, sums)
    if any(not isinstance(row, (list, tuple)) for row in rows):
        raise SumTreeError("lanes, sibling hashes and sums are tuples or lists")
    lanes = len(leaf.exits)
    if not isinstance(leaf.index, int) or not 0 <= leaf.index < 1 << depth:
        raise SumTreeError(f"index {shown(leaf.index)} is outside a tree of depth {depth}")
    if len(proof.hashes) != depth or len(proof.sums) != depth or len(sums) != lanes:
        raise SumTreeError(f"an exit proof has exactly {depth} siblings, and sums for {lanes} lanes")
    node, carries = _node(leaf, domain), _carries(lanes)
    for height in range(depth):
        sibling_hash, sibling_sums = proof.hashes[height], proof.sums[height]
        if not isinstance(sibling_hash, bytes) or len(sibling_hash) != HASH_BYTES:
            raise SumTreeError(f"sibling {height} is not 32 bytes")
        if not isinstance(sibling_sums, (list, tuple)) or len(sibling_sums) != lanes:
            raise SumTreeError(f"sibling {height} does not have {lanes} sums")
        if any(type(value) is not int or not 0 <= value < _LIMIT for value in sibling_sums):
            raise SumTreeError(f"sibling {height} has a sum outside 128 bits")
        sibling = sibling_hash + b"".join([value.to_bytes(_LANE, "big") for value in sibling_sums])
        right = leaf.index >> height & 1
        node = _parent(sibling, node, carries) if right else _parent(node, sibling, carries)
    if node[:HASH_BYTES] != root:
        raise SumTreeError("the path does not lead to the exit root")
    if _sums(node, lanes) != tuple(sums):
        raise SumTreeError("the path's sums are not the header's")
