# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiles: the published paths and widths, and proofs that RFC 9162's definitions and pymerkle also give."""

import base64
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from pymerkle import InmemoryTree

from proofs import log, sealed, tiles
from proofs.checkpoint import ED25519, Checkpoint, key_id, parse_verifier_key, sign, verifier_key, verify
from proofs.errors import CheckpointError, ConsistencyError, EncodingError, InclusionError, ProofError, TileError
from proofs.tiles import Tile, TiledTree
from tests.journal.reference import Reference

ROOT = Path(__file__).resolve().parents[1]
LEAVES = [log.leaf_hash(number.to_bytes(4, "big")) for number in range(1_000)]
EVERY_SIZE = 130

# The leaves and roots with which Certificate Transparency's implementations test themselves.
CT_LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
CT_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


class Tiled:
    """The tiles over some leaves, by the definition: tile (L, N) holds the roots of 256^L leaves each."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.rows = [list(leaves)]
        while len(row := self.rows[-1]) >= 256:
            self.rows.append([log.root(row[at : at + 256]) for at in range(0, len(row) - 255, 256)])

    def read(self, tile: Tile) -> bytes:
        found = self.rows[tile.level][tile.n * 256 : tile.n * 256 + tile.width]
        assert len(found) == tile.width
        return b"".join(found)

    def tree(self, size: int) -> TiledTree:
        return TiledTree(size, self.read)


@cache
def tiled() -> Tiled:
    return Tiled(LEAVES)


def flips(data: bytes) -> Iterator[bytes]:
    """Every single-bit change of `data`."""
    for bit in range(8 * len(data)):
        yield data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


# --- paths, widths, bundles ---


def test_paths_are_those_of_the_specification() -> None:
    """C2SP tlog-tiles: groups of three digits, x before all but the last, .p/<W> for a partial tile."""
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(0, 0).path == "tile/0/000"
    assert Tile(3, 999, 8).path == "tile/3/999.p/8"
    assert Tile(0, 1_000, 255).bundle_path() == "tile/entries/x001/000.p/255"
    assert Tile(0, 5).bundle_path(tiles.PRIVATE_ENTRIES) == "private/entries/005"
    for level, n, width in ((0, 0, 256), (7, 999_999, 1), (2, 10**9, 255)):
        tile = Tile(level, n, width)
        assert tiles.parse_path(tile.path) == ("tile", tile)
        assert tiles.parse_path(tile.bundle_path()) == ("tile/entries", Tile(0, n, width))


@pytest.mark.parametrize("path", [
    "", "checkpoint", "tile/0/0", "tile/00/000", "tile/0/x000/005", "tile/0/1000", "tile/0/000.p/0", "tile/0/000.p/256",
    "tile/0/000.p/01", "tile/64/000", "tile/0/000/", "tile/0/../000", "/tile/0/000", "tile/0/000\n", "tile/0/٠٠٠",
    "tile/-1/000", "tile/entries/x1/000", "private/0/000",
])  # fmt: skip
def test_every_other_spelling_of_a_path_is_refused(path: str) -> None:
    """One tile, one name."""
    with pytest.raises(TileError):
        tiles.parse_path(path)


def test_widths_follow_from_the_size_alone() -> None:
    """The specification's examples: 70,000 entries, and 256."""
    by_level = [[t for t in tiles.tiles(70_000) if t.level == level] for level in range(3)]
    assert [(len(found), found[-1].width) for found in by_level] == [(274, 112), (2, 17), (1, 1)]
    assert all(tile.full for found in by_level for tile in found[:-1])
    assert list(tiles.tiles(256)) == [Tile(0, 0), Tile(1, 0, 1)] and tiles.edge(256) == [Tile(1, 0, 1)]
    assert list(tiles.tiles(0)) == [] and tiles.edge(70_000) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    for start, size in ((0, 1), (255, 256), (256, 257), (300, 300), (511, 70_000), (65_535, 65_536)):
        assert set(tiles.tiles(size, start)) == set(tiles.tiles(size)) - set(tiles.tiles(start))
    for size, level, n in ((10, 0, 1), (255, 1, 0), (0, 0, 0), (10, 0, -1)):
        with pytest.raises(TileError):
            tiles.tile_of(level, n, size)


def test_a_bundle_holds_its_entries_and_nothing_else() -> None:
    """Lengths of 16 bits, big-endian; the longest entry fits, a longer one does not; no byte is left over."""
    entries = [b"", b"a", b"x" * 65_535]
    data = tiles.encode_bundle(entries)
    assert data[:5] == b"\x00\x00\x00\x01a" and data[5:7] == b"\xff\xff"
    assert tiles.decode_bundle(data, 3) == entries
    with pytest.raises(TileError):
        tiles.encode_bundle([b"x" * 65_536])
    for broken, width in ((data, 2), (data, 4), (data + b"\0", 3), (data[:-1], 3), (b"\x00", 1), (b"", 1)):
        with pytest.raises(TileError):
            tiles.decode_bundle(broken, width)
    hashes = [log.leaf_hash(entry) for entry in entries]
    tiles.check_bundle(entries, hashes, 0)
    with pytest.raises(TileError, match="entry 513 "):
        tiles.check_bundle([entries[0], b"b", entries[2]], hashes, 512)


# --- proofs ---


def agree(tree: TiledTree, leaves: Sequence[bytes], index: int, size1: int, size2: int) -> None:
    """Tiles, RFC 9162's definition and pymerkle give the same root and path, and the verifiers accept them."""
    root1, root2 = log.root(leaves[:size1]), log.root(leaves[:size2])
    assert (tree.root(size1), tree.root(size2)) == (root1, root2)
    path = tree.inclusion(index, size2)
    assert path == log.inclusion_proof(index, leaves[:size2])
    log.verify_inclusion(index, size2, leaves[index], path, root2)
    growth = tree.consistency(size1, size2)
    assert growth == log.consistency_proof(size1, leaves[:size2])
    log.verify_consistency(size1, size2, growth, root1, root2)


@pytest.mark.slow
def test_every_size_to_130_agrees_with_the_definitions() -> None:
    """Every root, every inclusion path, every consistency path."""
    reference = Reference(LEAVES)
    for size in range(1, EVERY_SIZE + 1):
        tree = tiled().tree(size)
        assert tree.root() == reference.root(size) == log.root(LEAVES[:size])
        for index in range(size):
            assert tree.inclusion(index) == reference.path(index, size)
            assert tree.consistency(index + 1) == reference.proof(index + 1, size)


def test_sizes_around_full_tiles_agree_with_the_definitions(rng: random.Random) -> None:
    """Where a level begins, and where a tile becomes full."""
    for size in (255, 256, 257, 511, 512, 513, 767, 1_000):
        tree = tiled().tree(size)
        for index in {0, 254, 255, 256, size - 1, rng.randrange(size)} & set(range(size)):
            agree(tree, LEAVES, index, index + 1, size)


def pymerkle_agrees(theirs: InmemoryTree, tree: TiledTree, index: int, size1: int, size2: int) -> None:
    """Root and inclusion path are the same; its consistency proof leads from our root to our root."""
    proof = theirs.prove_inclusion(index + 1, size2)
    assert proof.path[1:] == tree.inclusion(index, size2) and proof.path[0] == tree.leaf(index)
    assert proof.compute_root() == theirs.get_root(size2) == tree.root(size2)
    growth = theirs.prove_consistency(size1, size2)
    assert (growth.retrieve_prior_state(), growth.compute_root()) == (tree.root(size1), tree.root(size2))


def pymerkle_over(count: int) -> InmemoryTree:
    theirs = InmemoryTree()
    for number in range(count):
        theirs.append_entry(number.to_bytes(4, "big"))
    return theirs


@pytest.mark.slow
def test_pymerkle_agrees_to_130() -> None:
    """Every size and index, and growth to it."""
    theirs = pymerkle_over(EVERY_SIZE)
    for size in range(1, EVERY_SIZE + 1):
        tree = tiled().tree(size)
        for index in range(size):
            pymerkle_agrees(theirs, tree, index, index + 1, size)


@pytest.mark.slow
def test_random_sizes_to_100_000_agree(rng: random.Random) -> None:
    """Against the definition and pymerkle."""
    count = 100_000
    leaves = [log.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]
    theirs, ours = pymerkle_over(count), Tiled(leaves)
    for size in sorted({rng.randint(1, count) for _ in range(25)} | {65_535, 65_536, 65_537, count}):
        tree = ours.tree(size)
        for _ in range(2):
            index = rng.randrange(size)
            pymerkle_agrees(theirs, tree, index, rng.randint(1, size), size)
        agree(tree, leaves, rng.randrange(size), rng.randint(1, size), size)


def same_shape(index: int, size: int, other: int) -> bool:
    """Whether a path of `index` has the same turns in both sizes: then the hashes cannot tell them apart."""
    return index < other and turns(index, size) == turns(index, other)


def turns(index: int, size: int) -> tuple[bool, ...]:
    """The sides of the siblings, from the definition."""
    if size <= 1:
        return ()
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return (*turns(index, split), False)
    return (*turns(index - split, size - split), True)


def refused_inclusion(index: int, size: int, leaf: bytes, path: list[bytes], root: bytes) -> bool:
    try:
        log.verify_inclusion(index, size, leaf, path, root)
    except InclusionError:
        return True
    return False


@pytest.mark.parametrize("size", [1, 2, 3, 7, 130, 300])
def test_every_flipped_bit_of_an_inclusion_proof_is_refused(size: int, rng: random.Random) -> None:
    """Of leaf, path, root and index. A size is bound as far as it shapes the path, and wholly by the signed
    note that gives it: of that, every flipped bit is refused."""
    tree = tiled().tree(size)
    root, origin, seed = tree.root(), "log.example/journal", bytes(range(32))
    note = sign(Checkpoint(origin, size, root), seed)
    public = bytes(SigningKey(seed).verify_key)
    for index in {0, size - 1, rng.randrange(size)}:
        path, leaf = tree.inclusion(index), LEAVES[index]
        for number, item in enumerate(path):
            for wrong in flips(item):
                assert refused_inclusion(index, size, leaf, [*path[:number], wrong, *path[number + 1 :]], root)
        assert all(refused_inclusion(index, size, wrong, path, root) for wrong in flips(leaf))
        assert all(refused_inclusion(index, size, leaf, path, wrong) for wrong in flips(root))
        for bit in range(63):
            assert refused_inclusion(index ^ 1 << bit, size, leaf, path, root)
            other = size ^ 1 << bit
            assert refused_inclusion(index, other, leaf, path, root) != same_shape(index, size, other)
    assert verify(note, public, origin).size == size
    for wrong in flips(note.encode()[: note.index("\n\n") + 1]):
        with pytest.raises(CheckpointError):
            verify(wrong.decode("utf-8", "surrogateescape") + note[note.index("\n\n") + 1 :], public, origin)


@pytest.mark.parametrize("size1, size2", [(1, 2), (2, 3), (4, 7), (6, 8), (64, 130), (100, 130), (256, 300)])
def test_every_flipped_bit_of_a_consistency_proof_is_refused(size1: int, size2: int) -> None:
    """Of path and both roots; and of both sizes wherever the path's shape differs."""
    tree = tiled().tree(size2)
    root1, root2, path = tree.root(size1), tree.root(), tree.consistency(size1)

    def refused(first: int, second: int, proof: list[bytes], old: bytes, new: bytes) -> bool:
        try:
            log.verify_consistency(first, second, proof, old, new)
        except ConsistencyError:
            return True
        return False

    for number, item in enumerate(path):
        for wrong in flips(item):
            assert refused(size1, size2, [*path[:number], wrong, *path[number + 1 :]], root1, root2)
    assert all(refused(size1, size2, path, wrong, root2) for wrong in flips(root1))
    assert all(refused(size1, size2, path, root1, wrong) for wrong in flips(root2))
    for bit in range(63):
        assert refused(size1 ^ 1 << bit, size2, path, root1, root2)
        other = size2 ^ 1 << bit
        bound = not same_shape(size1 - 1, size2, other)
        assert refused(size1, other, path, root1, root2) or not bound


def test_what_is_outside_a_tree_is_refused() -> None:
    """By name, not by an index error."""
    tree = tiled().tree(300)
    for action in (
        lambda: tree.inclusion(300), lambda: tree.inclusion(-1), lambda: tree.inclusion(5, 301), lambda: tree.leaf(300),
        lambda: tree.root(301), lambda: tree.root(-1), lambda: tree.consistency(301), lambda: tree.consistency(5, 4),
        lambda: tree.node(8, 1), lambda: tree.node(9, 0),
    ):  # fmt: skip
        with pytest.raises(TileError):
            action()
    assert tree.consistency(0) == tree.consistency(300) == [] and tree.root(0) == log.root([])
    with pytest.raises(TileError, match="44 hashes"):
        TiledTree(300, lambda tile: b"short").root()


# --- vectors ---


def test_the_published_roots() -> None:
    """Certificate Transparency's reference leaves."""
    leaves = [log.leaf_hash(leaf) for leaf in CT_LEAVES]
    for size, expected in enumerate(CT_ROOTS, 1):
        assert Tiled(leaves).tree(size).root().hex() == log.root(leaves[:size]).hex() == expected


def vectors() -> list[Any]:
    """Whatever lies in tests/vectors/tlog, one proof per file or a list of them, in the shape of
    transparency-dev/merkle: an inclusion proof has leafIdx, treeSize, leafHash, root and proof, a consistency
    proof size1, size2, root1, root2 and proof, both desc and wantErr; hashes in base64."""
    found = []
    for path in sorted((ROOT / "vectors" / "tlog").rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        items = data if isinstance(data, list) else [data]
        name = str(path.relative_to(ROOT / "vectors" / "tlog"))
        found += [pytest.param(item, id=f"{name}:{number}:{item.get('desc')}") for number, item in enumerate(items)]
    return found


@pytest.mark.parametrize("vector", vectors())
def test_published_vectors(vector: dict[str, Any]) -> None:
    """Accepted where it must be, refused where it must not."""

    def raw(name: str) -> bytes:
        return base64.b64decode(vector[name] or "")

    path = [base64.b64decode(item) for item in vector["proof"] or []]
    if "leafIdx" in vector:
        given: tuple[Any, ...] = (vector["leafIdx"], vector["treeSize"], raw("leafHash"), path, raw("root"))
        check: Any = log.verify_inclusion
    else:
        given = (vector["size1"], vector["size2"], path, raw("root1"), raw("root2"))
        check = log.verify_consistency
    if not vector["wantErr"]:
        check(*given)
        return
    with pytest.raises(ProofError):
        check(*given)


# --- sealed bundles, verifier keys ---


def test_a_sealed_bundle_opens_under_its_key_and_number_only() -> None:
    """Any flipped bit, another log's key, another bundle's number: refused. The same bundle seals to the same
    bytes, and the key of one bundle opens no other."""
    key, bundle = bytes(range(32)), tiles.encode_bundle([b"entry", b""])
    box = sealed.seal(key, 7, bundle)
    assert sealed.unseal(key, 7, box) == bundle and sealed.seal(key, 7, bundle) == box
    assert len(box) == len(bundle) + sealed.OVERHEAD_BYTES and bundle not in box
    assert sealed.unseal_with(sealed.bundle_key(key, 7), box) == bundle
    assert box[:24] != sealed.seal(key, 7, bundle + b"\0\0")[:24] and box[:24] != sealed.seal(key, 8, bundle)[:24]
    for wrong in [*flips(box), box[:-1], b"", box[:24]]:
        with pytest.raises(TileError):
            sealed.unseal(key, 7, wrong)
    for other_key, number in ((bytes(32), 7), (key, 8)):
        with pytest.raises(TileError):
            sealed.unseal(other_key, number, box)
    with pytest.raises(TileError):
        sealed.unseal_with(sealed.bundle_key(key, 8), box)
    with pytest.raises(EncodingError):
        sealed.seal(b"short", 0, bundle)


def test_a_verifier_key_names_its_key_or_is_refused() -> None:
    """C2SP signed-note; the example key of golang.org/x/mod/sumdb/note. A mistyped one is no other key."""
    known = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    name, algorithm, key = parse_verifier_key(known)
    assert (name, algorithm) == ("PeterNeumann", ED25519) and key_id(name, algorithm, key).hex() == "c74f20a3"
    assert verifier_key(name, algorithm, key) == known == verifier_key(*parse_verifier_key(known + "\n"))
    for at in range(len(known)):
        for wrong in (known[:at] + known[at + 1 :], known[:at] + ("A" if known[at] != "A" else "B") + known[at + 1 :]):
            with pytest.raises(CheckpointError):
                parse_verifier_key(wrong)
