# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree: the fast frontier, pymerkle over tiles and RFC 9162's own definitions agree."""

import importlib
import importlib.util
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import tree
from journal.errors import JournalError
from tests.journal.reference import Reference

LEAVES = tree.leaf_hashes([index.to_bytes(4, "big") for index in range(70_000)])


class Tiles:
    """Tiles in a dict."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}

    def tile(self, level: int, index: int) -> bytes:
        return self.stored[tree.tile_key(level, index)]


def grown(batches: list[int]) -> tuple[tree.Frontier, Tiles]:
    frontier, tiles = tree.Frontier(), Tiles()
    for count in batches:
        frontier, writes = frontier.extend(LEAVES[frontier.size : frontier.size + count])
        tiles.stored.update(writes)
    return frontier, tiles


@settings(deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_frontier_does_not_depend_on_batching(batches: list[int]) -> None:
    """Any split of the same leaves into batches gives the same root, peaks and tiles."""
    frontier, tiles = grown(batches)
    whole, whole_tiles = grown([sum(batches)])
    assert frontier.root() == whole.root() == Reference(LEAVES).root(frontier.size)
    assert (frontier.peaks, frontier.tails) == (whole.peaks, whole.tails)
    assert tiles.stored == whole_tiles.stored
    loaded = tree.Frontier.load(frontier.size, frontier.stored_peaks(), tiles)
    assert (loaded.peaks, loaded.tails) == (frontier.peaks, frontier.tails)


@settings(deadline=None)
@given(st.integers(1, 3000), st.data())
def test_proofs_are_those_of_rfc_9162(size: int, data: st.DataObject) -> None:
    """Roots, inclusion and consistency paths from tiles equal the recursive definitions, hash by hash."""
    frontier, tiles = grown([size])
    read, reference = tree.TileTree(tiles, size), Reference(LEAVES)
    assert read.get_root() == frontier.root() == reference.root(size)
    later = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, later - 1))
    expected = LEAVES[index], reference.path(index, later), reference.root(later)
    assert tree.inclusion_proof(read, index, later) == expected
    if later > 1:
        prior = data.draw(st.integers(1, later - 1))
        roots = reference.root(prior), reference.root(later)
        assert tree.consistency_proof(read, prior, later) == (reference.proof(prior, later), *roots)


def test_every_pair_of_small_sizes() -> None:
    """All inclusion and consistency proofs up to 40 leaves."""
    _, tiles = grown([40])
    read, reference = tree.TileTree(tiles, 40), Reference(LEAVES)
    for later in range(1, 41):
        for index in range(later):
            assert tree.inclusion_proof(read, index, later)[1] == reference.path(index, later)
        for prior in range(1, later):
            assert tree.consistency_proof(read, prior, later)[0] == reference.proof(prior, later)


def test_three_levels_of_tiles(rng: random.Random) -> None:
    """Past 65,536 leaves the third tile level is used; proofs still equal the definitions."""
    frontier, tiles = grown([65_535, 1, 1, 4_463])
    assert frontier.size == len(LEAVES)
    keys = [tree.tile_key(level, index) for level, index, _ in tree.tile_widths(frontier.size)]
    assert sorted(tiles.stored) == keys
    widths = [len(tiles.stored[key]) // tree.HASH_BYTES for key in keys]
    assert widths == [width for _, _, width in tree.tile_widths(frontier.size)]
    read, reference = tree.TileTree(tiles, frontier.size), Reference(LEAVES)
    for later in (65_535, 65_536, 65_537, 70_000, *(rng.randint(2, 70_000) for _ in range(20))):
        index, prior = rng.randrange(later), rng.randint(1, later - 1)
        assert tree.inclusion_proof(read, index, later)[1] == reference.path(index, later)
        assert tree.consistency_proof(read, prior, later)[0] == reference.proof(prior, later)


def test_proofs_verify_for_a_wallet(rng: random.Random) -> None:
    """What the journal proves, the vendored verifier accepts; with one changed hash it refuses."""
    if importlib.util.find_spec("proofs.log") is None:
        pytest.skip("proofs.log is not there")
    log = importlib.import_module("proofs.log")
    _, tiles = grown([3000])
    read, reference = tree.TileTree(tiles, 3000), Reference(LEAVES)
    for _ in range(200):
        later = rng.randint(2, 3000)
        index, prior = rng.randrange(later), rng.randint(1, later - 1)
        leaf, path, root = tree.inclusion_proof(read, index, later)
        log.verify_inclusion(index, later, leaf, path, root)
        proof, root1, root2 = tree.consistency_proof(read, prior, later)
        log.verify_consistency(prior, later, proof, root1, root2)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the name of the error is that package's
            log.verify_inclusion(index, later, leaf, [bytes(32), *path[1:]], root)
        assert root == root2 == reference.root(later)


def test_a_short_tile_is_named() -> None:
    """A tile that lost hashes is an error, not a shorter answer."""
    _, tiles = grown([300])
    tiles.stored[tree.tile_key(0, 1)] = tiles.stored[tree.tile_key(0, 1)][:-32]
    with pytest.raises(JournalError, match="JOURNAL_CORRUPT"):
        tree.TileTree(tiles, 300).get_root()
    with pytest.raises(JournalError, match="JOURNAL_CORRUPT"):
        tree.Frontier.load(300, [bytes(32)] * 4, tiles)


def test_leaves_cannot_be_appended_past_the_store() -> None:
    """pymerkle's own append is refused: a leaf without its block would be an entry nobody can read."""
    with pytest.raises(JournalError, match="JOURNAL_READ_ONLY"):
        tree.TileTree(Tiles(), 0).append_entry(b"x")
