# SPDX-License-Identifier: GPL-3.0-or-later
"""The Merkle log over the journal's entries: SHA-256, RFC 9162 (leaf 00, node 01).

Two paths over the same tiles, which the tests hold against each other:

- `Frontier` is the write path: level by level over a whole batch, about one hash per leaf beyond the
  leaf hash itself, and never a read from disk.
- `TileTree` is the read path: pymerkle generates the proofs, and reads tiles through its storage
  methods. Its inclusion path is RFC 9162's after the leaf is dropped; its consistency path is not and
  is converted here.

A tile holds up to 256 hashes of level 8 * L; tile (L, N) holds the nodes 256 * N and following. Full
tiles never change. The last tile of each level is rewritten as it fills.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, Protocol

from pymerkle import BaseMerkleTree

from journal import errors
from journal.errors import JournalError

HASH_BYTES: Final = 32
TILE_LEVELS: Final = 8
TILE_WIDTH: Final = 1 << TILE_LEVELS
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """The leaf hash of each entry."""
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def tile_key(level: int, index: int) -> bytes:
    """The storage key of a tile: level u8, index u64, big-endian, so that keys sort as tiles do."""
    return level.to_bytes(1, "big") + index.to_bytes(8, "big")


class TileSource(Protocol):
    """Whatever holds tiles: returns the stored bytes of a tile, whole hashes, or raises JournalError."""

    def tile(self, level: int, index: int) -> bytes: ...


class Frontier:
    """The right edge of the tree: all that is needed to append, and nothing else.

    `peaks` are the roots of the perfect subtrees, by level (None where the size's bit is 0); `tails`
    are the hashes of each level's unfinished tile. Immutable: `extend` returns the next frontier, so
    that an aborted commit leaves nothing to undo.
    """

    __slots__ = ("peaks", "size", "tails")

    def __init__(self, size: int = 0, peaks: Sequence[bytes | None] = (), tails: Sequence[bytes] = ()) -> None:
        self.size = size
        self.peaks = tuple(peaks)
        self.tails = tuple(tails)

    @classmethod
    def load(cls, size: int, peaks: Sequence[bytes], source: TileSource) -> "Frontier":
        """Rebuild the frontier of a stored tree of `size` leaves from its peaks and last tiles.

        Raises JournalError: JOURNAL_CORRUPT if a last tile does not have the width that `size` gives it.
        """
        remaining = iter(peaks)
        by_level = [next(remaining) if size >> level & 1 else None for level in range(size.bit_length())]
        tails = []
        for level in range(tile_levels(size)):
            nodes = size >> (TILE_LEVELS * level)
            width = nodes % TILE_WIDTH
            tail = source.tile(level, nodes // TILE_WIDTH) if width else b""
            if len(tail) != width * HASH_BYTES:
                raise errors.corrupt(
                    f"tile {level}/{nodes // TILE_WIDTH} holds {len(tail)} bytes where {width * HASH_BYTES} belong",
                )
            tails.append(tail)
        return cls(size, by_level, tails)

    def extend(self, leaves: list[bytes]) -> tuple["Frontier", list[tuple[bytes, bytes]]]:
        """Append leaf hashes. Returns the next frontier and the (key, value) of each tile to store."""
        peaks, tails = list(self.peaks), list(self.tails)
        writes: list[tuple[bytes, bytes]] = []
        nodes, level = leaves, 0
        while nodes:
            if level % TILE_LEVELS == 0:
                tile_level = level // TILE_LEVELS
                if tile_level == len(tails):
                    tails.append(b"")
                first_tile = (self.size >> level) // TILE_WIDTH
                tails[tile_level] = _cut_tiles(tile_level, first_tile, tails[tile_level], nodes, writes)
            if level == len(peaks):
                peaks.append(None)
            left = peaks[level]
            if left is not None:
                nodes = [left, *nodes]
            peaks[level] = nodes[-1] if len(nodes) & 1 else None
            nodes = [
                sha256(b"\x01" + first + second).digest()
                for first, second in zip(nodes[::2], nodes[1::2], strict=False)
            ]
            level += 1
        return Frontier(self.size + len(leaves), peaks, tails), writes

    def stored_peaks(self) -> list[bytes]:
        """The peaks that exist, smallest subtree first."""
        return [peak for peak in self.peaks if peak is not None]

    def root(self) -> bytes:
        """The RFC 9162 root."""
        folded = b""
        for peak in self.peaks:
            if peak is not None:
                folded = node_hash(peak, folded) if folded else peak
        return folded or sha256(b"").digest()


def _cut_tiles(
    level: int, first_tile: int, tail: bytes, nodes: list[bytes], writes: list[tuple[bytes, bytes]]
) -> bytes:
    """Append `nodes` to a level's unfinished tile; add what must be stored to `writes`.

    Returns the new tail.
    """
    row = tail + b"".join(nodes)
    full = len(row) // TILE_BYTES
    writes.extend((tile_key(level, first_tile + i), row[i * TILE_BYTES : (i + 1) * TILE_BYTES]) for i in range(full))
    rest = row[full * TILE_BYTES :]
    if rest:
        writes.append((tile_key(level, first_tile + full), rest))
    return rest


def tile_levels(size: int) -> int:
    """How many levels of tiles a tree of `size` leaves has: the levels 8 * L that have a node."""
    return (size.bit_length() + TILE_LEVELS - 1) // TILE_LEVELS


def tile_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Every tile of a tree of `size` leaves in key order: (level, index, width in hashes)."""
    for level in range(tile_levels(size)):
        nodes = size >> (TILE_LEVELS * level)
        for index in range(0, nodes, TILE_WIDTH):
            yield level, index // TILE_WIDTH, min(TILE_WIDTH, nodes - index)


class TileTree(BaseMerkleTree):  # type: ignore[misc]  # pymerkle has no type information
    """pymerkle's tree over stored tiles, for reading: roots and proofs at any size up to `size`."""

    def __init__(self, source: TileSource, size: int) -> None:
        super().__init__("sha256")
        self._source = source
        self._leaves = size

    def _encode_entry(self, data: bytes) -> bytes:
        return data

    def _store_leaf(self, data: bytes, digest: bytes) -> int:
        # A leaf without its block would be an entry nobody can read: only Store.append writes both.
        raise JournalError(errors.JOURNAL_READ_ONLY, "leaves are appended with their block, by Store.append")

    def _get_size(self) -> int:
        return self._leaves

    def _get_leaf(self, index: int) -> bytes:
        return self._hashes(0, index - 1, 1)[0]

    def _get_leaves(self, offset: int, width: int) -> list[bytes]:
        return self._hashes(0, offset, width)

    def _get_subroot(self, offset: int, width: int) -> bytes:
        """The root of the perfect subtree of `width` leaves at `offset`, from at most one tile."""
        height = width.bit_length() - 1
        level, above = divmod(height, TILE_LEVELS)
        nodes = self._hashes(level, offset >> (TILE_LEVELS * level), 1 << above)
        while len(nodes) > 1:
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        return nodes[0]

    def _hashes(self, level: int, first: int, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            index, start = divmod(first + len(found), TILE_WIDTH)
            end = min(TILE_WIDTH, start + count - len(found))
            tile = self._source.tile(level, index)
            if len(tile) < end * HASH_BYTES or len(tile) % HASH_BYTES:
                raise errors.corrupt(f"tile {level}/{index} is too short")
            found.extend(tile[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(start, end))
        return found


def inclusion_proof(tree: TileTree, index: int, size: int) -> tuple[bytes, list[bytes], bytes]:
    """The leaf hash at zero-based `index`, its RFC 9162 inclusion path in the tree of `size`, and the
    root that the path leads to. The caller compares the root with one it trusts."""
    proof = tree.prove_inclusion(index + 1, size)
    return proof.path[0], proof.path[1:], proof.compute_root()


def consistency_proof(tree: TileTree, size1: int, size2: int) -> tuple[list[bytes], bytes, bytes]:
    """The RFC 9162 consistency path between two sizes, 0 < size1 < size2, and both roots it leads to.

    pymerkle starts from a leaf right of the old tree and climbs; RFC 9162 names the subtree that those
    first hashes (the ones outside the old tree) add up to, after the first subtree of the old tree.
    That first one is left out where it is the whole old tree, which the verifier already has.
    """
    proof = tree.prove_consistency(size1, size2)
    outside = proof.subset.index(1)
    folded = proof.path[0]
    for bit, sibling in zip(proof.rule, proof.path[1:outside], strict=False):
        folded = node_hash(sibling, folded) if bit else node_hash(folded, sibling)
    path = [proof.path[outside], folded, *proof.path[outside + 1 :]]
    if size1 & (size1 - 1) == 0:
        del path[0]
    return path, proof.retrieve_prior_state(), proof.compute_root()
