# SPDX-License-Identifier: Apache-2.0
"""The state tree: fixed depth 24, no sums, sparse. Position is the account number."""

import hashlib
from collections.abc import Iterable, Sequence

from proofs.errors import StateTreeError
from proofs.hashing import HASH_BYTES, sha256, shown

DEPTH = 24


def _empties(domain: bytes, depth: int) -> list[bytes]:
    """Hash of an empty subtree per height."""
    found = [sha256(b"\x02" + domain)]
    for _ in range(depth):
        found.append(sha256(b"\x01" + found[-1] + found[-1]))
    return found


class StateTree:
    """Leaf hashes by position. `update` rehashes each touched node once."""

    def __init__(self, domain: bytes, depth: int = DEPTH) -> None:
        self.domain = domain
        self.depth = depth
        self._empty = _empties(domain, depth)
        self._levels: list[dict[int, bytes]] = [{} for _ in range(depth + 1)]

    @property
    def root(self) -> bytes:
        """Root (32 bytes)."""
        return self._levels[self.depth].get(0, self._empty[self.depth])

    def update(self, leaves: Iterable[tuple[int, bytes]]) -> None:
        """Set leaf hashes, all or none. Raises `StateTreeError` (position outside the tree, not 32 bytes)."""
        changed = dict(leaves)
        for position, leaf_hash in changed.items():
            if not 0 <= position < 1 << self.depth:
                raise StateTreeError(f"position {shown(position)} is outside a tree of depth {self.depth}")
            if len(leaf_hash) != HASH_BYTES:
                raise StateTreeError(f"the leaf hash at position {position} is not 32 bytes")
        self._levels[0].update(changed)
        parents = sorted({position >> 1 for position in changed})
        for height in range(self.depth):
            below, above, empty = self._levels[height], self._levels[height + 1], self._empty[height]
            get, hasher = below.get, hashlib.sha256
            for parent in parents:
                left = parent << 1
                above[parent] = hasher(b"\x01" + get(left, empty) + get(left | 1, empty)).digest()
            parents = sorted({parent >> 1 for parent in parents})

    def leaves(self) -> list[tuple[int, bytes]]:
        """(position, leaf hash) in order: what `update` fills an equal tree from."""
        return sorted(self._levels[0].items())

    def proof(self, position: int) -> list[bytes]:
        """Sibling hashes from the bottom up. Raises `StateTreeError` outside the tree."""
        if not 0 <= position < 1 << self.depth:
            raise StateTreeError(f"position {position} is outside a tree of depth {self.depth}")
        return [self._levels[height].get((position >> height) ^ 1, self._empty[height]) for height in range(self.depth)]


def verify_state(position: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes, depth: int = DEPTH) -> None:
    """Check a state leaf's path. Raises `StateTreeError`."""
    if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < 1 << depth:
        raise StateTreeError(f"position {shown(position)} is outside a tree of depth {depth}")
    if not isinstance(leaf_hash, bytes) or len(leaf_hash) != HASH_BYTES:
        raise StateTreeError("the leaf hash must be 32 bytes")
    if not isinstance(proof, (list, tuple)) or len(proof) != depth:
        raise StateTreeError(f"a state proof is a list of exactly {depth} hashes")
    if any(not isinstance(item, bytes) or len(item) != HASH_BYTES for item in proof):
        raise StateTreeError("every hash of a state proof has 32 bytes")
    current = leaf_hash
    for height, sibling in enumerate(proof):
        pair = sibling + current if (position >> height) & 1 else current + sibling
        current = sha256(b"\x01" + pair)
    if current != root:
        raise StateTreeError("the path does not lead to the state root")
