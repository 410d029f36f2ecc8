# SPDX-License-Identifier: Apache-2.0
"""A log as static files (C2SP tlog-tiles, https://c2sp.org/tlog-tiles): paths, widths, bundles, proofs.

Rules:
- Tile (L, N) holds the roots of up to 256 consecutive subtrees of 256^L leaves each, from number 256 N
  on, 32 bytes each. It lies at `tile/<L>/<N>`; one that is not full at `tile/<L>/<N>.p/<W>`, W being the
  number of its hashes. N is written in groups of three digits, all but the last with an x before them.
- An entry bundle, `tile/entries/<N>[.p/<W>]`, holds the entries of the leaves in tile (0, N), each
  after its length as a 16-bit big-endian number.
- What lies at a path never changes. Which width a tile has follows from the size of the tree, and from
  nothing else.
- Nothing here is believed: a proof from tiles is verified by `proofs.log` against a root that the
  reader trusts, and a tile is that of a tree only if its hashes lead to the root (`TiledTree.root`).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from proofs.errors import TileError
from proofs.hashing import HASH_BYTES
from proofs.log import leaf_hash, node_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
MAX_ENTRY_BYTES: Final = 65_535
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)
CHECKPOINT_PATH: Final = "checkpoint"
OPEN_ENTRIES: Final = "tile/entries"
PRIVATE_ENTRIES: Final = "private/entries"

_PATH: Final = re.compile(
    r"(?P<room>tile/(?P<level>[0-9]{1,2})|tile/entries|private/entries)/"
    r"(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?",
    re.ASCII,
)
_CACHED_TILES: Final = 1_024


class Tile(NamedTuple):
    """Coordinates of a tile: level, number in the level, and width (1 to 256 hashes)."""

    level: int
    n: int
    width: int = TILE_WIDTH

    @property
    def full(self) -> bool:
        return self.width == TILE_WIDTH

    @property
    def path(self) -> str:
        """Where it lies below the root of the log."""
        return f"tile/{self.level}/{_name(self.n, self.width)}"

    def bundle_path(self, room: str = OPEN_ENTRIES) -> str:
        """Where the bundle with the entries of this tile (of level 0) lies."""
        return f"{room}/{_name(self.n, self.width)}"

    def widened(self) -> "Tile":
        """The same tile when it is full."""
        return Tile(self.level, self.n)


def _name(index: int, width: int) -> str:
    if not 0 <= index < 1 << 63 or not 1 <= width <= TILE_WIDTH:
        raise TileError(f"there is no tile {index} of width {width}")
    groups = [f"{index % 1_000:03d}"]
    while index := index // 1_000:
        groups.insert(0, f"x{index % 1_000:03d}")
    return "/".join(groups) + ("" if width == TILE_WIDTH else f".p/{width}")


def parse_path(path: str) -> tuple[str, Tile]:
    """The room (`tile`, `tile/entries` or `private/entries`) and the tile that a path names.

    Only the one canonical spelling is accepted. Raises `TileError`.
    """
    match = _PATH.fullmatch(path)
    if match is not None:
        level, width = match["level"], match["width"]
        index = int(match["index"].replace("x", "").replace("/", ""))
        try:
            tile = Tile(int(level or 0), index, TILE_WIDTH if width is None else int(width))
            if tile.level < 64 and path == (tile.path if level else tile.bundle_path(match["room"])):
                return "tile" if level else match["room"], tile
        except TileError:
            pass
    raise TileError(f"{path[:120]!r} is not the path of a tile or an entry bundle")


def tile_of(level: int, index: int, size: int) -> Tile:
    """The tile as it is in a tree of `size` leaves. Raises `TileError` if that tree has none there."""
    width = min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
    if level < 0 or index < 0 or width < 1:
        raise TileError(f"a log of {size} entries has no tile {level}/{index}")
    return Tile(level, index, width)


def levels(size: int) -> int:
    """How many levels of tiles a tree of `size` leaves has."""
    return (size.bit_length() + TILE_HEIGHT - 1) // TILE_HEIGHT


def tiles(size: int, start: int = 0) -> Iterator[Tile]:
    """The tiles of a tree of `size` leaves that a tree of `start` leaves does not have in the same width,
    level by level from the leaves up."""
    for level in range(levels(size)):
        nodes, known = size >> TILE_HEIGHT * level, start >> TILE_HEIGHT * level
        for index in range(known // TILE_WIDTH, -(-nodes // TILE_WIDTH)):
            tile = tile_of(level, index, size)
            if tile.n * TILE_WIDTH + tile.width > known:
                yield tile


def edge(size: int) -> list[Tile]:
    """The partial tiles of a tree of `size` leaves, at most one per level. Together they give its root, so
    that a reader who has compared the roots knows every hash in them to be the tree's."""
    nodes = (size >> TILE_HEIGHT * level for level in range(levels(size)))
    return [
        Tile(level, count // TILE_WIDTH, count % TILE_WIDTH)
        for level, count in enumerate(nodes)
        if count % TILE_WIDTH
    ]  # fmt: skip


def split_tile(data: bytes, width: int) -> list[bytes]:
    """The hashes of a tile. Raises `TileError` unless it holds exactly `width`."""
    if len(data) != width * HASH_BYTES:
        raise TileError(f"a tile of {width} hashes has {width * HASH_BYTES} bytes, not {len(data)}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root of the perfect subtree over 1, 2, 4, ... hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries (at most 65,535 bytes each) as a bundle. Raises `TileError`."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise TileError(f"an entry of {len(entry)} bytes does not fit a bundle; the most is {MAX_ENTRY_BYTES}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The entries of a bundle. Raises `TileError` unless it holds exactly `width`."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if len(data) < at + 2 or len(data) < end:
            raise TileError(f"the bundle ends inside entry {len(entries)}")
        entries.append(data[at + 2 : end])
        at = end
    if len(entries) != width:
        raise TileError(f"the bundle holds {len(entries)} entries, not {width}")
    return entries


def check_bundle(entries: Sequence[bytes], hashes: Sequence[bytes], first: int) -> None:
    """Check that entries are those of a tile's leaf hashes; `first` is the number of the first entry.

    Raises `TileError` naming the first entry that is not.
    """
    if len(entries) != len(hashes):
        raise TileError(f"{len(entries)} entries do not belong to {len(hashes)} leaves")
    for number, (entry, expected) in enumerate(zip(entries, hashes, strict=True), first):
        if leaf_hash(entry) != expected:
            raise TileError(f"entry {number} is not the one that the log committed to")


class TiledTree:
    """A tree of `size` leaves over its tiles, read as needed: roots and RFC 9162 proofs at any size up to it.

    `read` gives the bytes of a tile. What it raises passes through; tiles of a wrong length raise
    `TileError`. The proofs are only as good as the tiles: verify them with `proofs.log`.
    """

    def __init__(self, size: int, read: Callable[[Tile], bytes]) -> None:
        self.size = size
        self._read = read
        self._cache: dict[Tile, list[bytes]] = {}

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile of this tree."""
        tile = tile_of(level, index, self.size)
        found = self._cache.get(tile)
        if found is None:
            found = split_tile(self._read(tile), tile.width)
            if len(self._cache) >= _CACHED_TILES:
                self._cache.clear()
            self._cache[tile] = found
        return found

    def node(self, level: int, index: int) -> bytes:
        """The root of the perfect subtree number `index` among those of 2^`level` leaves."""
        room, above = divmod(level, TILE_HEIGHT)
        number, start = divmod(index << above, TILE_WIDTH)
        found = self.hashes(room, number)[start : start + (1 << above)]
        if len(found) != 1 << above:
            raise TileError(f"a log of {self.size} entries has no subtree {index} of 2^{level} leaves")
        return fold(found)

    def leaf(self, index: int) -> bytes:
        """The leaf hash of entry `index`. Raises `TileError` outside the tree."""
        return self.node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves (default: all). Raises `TileError`."""
        return self._range(0, self._sized(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The path of leaf `index` in the tree of the first `size` leaves (RFC 9162, 2.1.3.1)."""
        begin, end = 0, self._sized(size)
        if not 0 <= index < end:
            raise TileError(f"entry {index} is outside a log of {end} entries")
        parts: list[tuple[int, int]] = []
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                parts.append((middle, end))
                end = middle
            else:
                parts.append((begin, middle))
                begin = middle
        return [self._range(*part) for part in reversed(parts)]

    def consistency(self, size1: int, size2: int | None = None) -> list[bytes]:
        """The proof that the first `size2` leaves begin with the first `size1` (RFC 9162, 2.1.4.1).

        Empty where nothing is to be proven: equal sizes, or an empty first tree.
        """
        begin, end = 0, self._sized(size2)
        if not 0 <= size1 <= end:
            raise TileError(f"a log of {end} entries does not begin with {size1}")
        if size1 in (0, end):
            return []
        parts: list[tuple[int, int]] = []
        while size1 != end:
            middle = begin + _split(end - begin)
            if size1 <= middle:
                parts.append((middle, end))
                end = middle
            else:
                parts.append((begin, middle))
                begin = middle
        if begin:  # otherwise this is the whole first tree, whose root the verifier has
            parts.append((begin, end))
        return [self._range(*part) for part in reversed(parts)]

    def _sized(self, size: int | None) -> int:
        wanted = self.size if size is None else size
        if not 0 <= wanted <= self.size:
            raise TileError(f"a log of {self.size} entries has no first {wanted}")
        return wanted

    def _range(self, begin: int, end: int) -> bytes:
        """The tree hash of leaves `begin` to `end`, where `begin` is a multiple of a power of two that is no
        smaller than their number: folded from its perfect subtrees, the smallest first."""
        if begin == end:
            return sha256(b"").digest()
        folded = b""
        while begin < end:
            count = end - begin
            level = (count & -count).bit_length() - 1
            end -= 1 << level
            right = self.node(level, end >> level)
            folded = node_hash(right, folded) if folded else right
        return folded


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)
