# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 9162: what the definitions build, the verifiers accept; everything else they refuse by name."""

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from proofs import log
from proofs.errors import ConsistencyError, InclusionError

LEAVES = [log.leaf_hash(number.to_bytes(4, "big")) for number in range(300)]


def flips(data: bytes) -> list[bytes]:
    """Every single-bit change of `data`."""
    return [
        data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]
        for bit in range(8 * len(data))
    ]


def test_every_inclusion_proof_to_size_130_is_accepted_at_its_own_place_only() -> None:
    """Each leaf proves its index and no neighbouring one."""
    for size in range(1, 131):
        root = log.root(LEAVES[:size])
        for index in range(size):
            proof = log.inclusion_proof(index, LEAVES[:size])
            log.verify_inclusion(index, size, LEAVES[index], proof, root)
            for wrong in {index - 1, index + 1, index ^ 1, size, size - 1} - {index}:
                with pytest.raises(InclusionError):
                    log.verify_inclusion(wrong, size, LEAVES[index], proof, root)


@pytest.mark.slow
def test_every_consistency_proof_to_size_130_is_accepted() -> None:
    """From each smaller size, and not from or to a wrong root."""
    for size2 in range(1, 131):
        root2 = log.root(LEAVES[:size2])
        for size1 in range(size2 + 1):
            root1 = log.root(LEAVES[:size1])
            proof = log.consistency_proof(size1, LEAVES[:size2])
            log.verify_consistency(size1, size2, proof, root1, root2)
            with pytest.raises(ConsistencyError):
                log.verify_consistency(size1, size2, [*proof, root1], root1, root2)
            if 0 < size1 < size2:
                with pytest.raises(ConsistencyError):
                    log.verify_consistency(size1, size2, proof, root2, root1)
                with pytest.raises(ConsistencyError):
                    log.verify_consistency(size1, size2, proof[:-1], root1, root2)


def test_a_path_of_another_length_is_refused_even_where_it_leads_to_the_root() -> None:
    """Nor does a node pass for a leaf, or for a root, at every place to size 40."""
    for size in range(1, 41):
        root = log.root(LEAVES[:size])
        for index in range(size):
            proof = log.inclusion_proof(index, LEAVES[:size])
            nodes = [LEAVES[index]]
            for item, side in zip(proof, inclusion_shape(index, size), strict=True):
                nodes.append(log.node_hash(*((item, nodes[-1]) if side == "left" else (nodes[-1], item))))
            assert nodes[-1] == root
            longer = log.node_hash(root, LEAVES[299]), log.node_hash(LEAVES[299], root)
            wrong = [(LEAVES[index], [*proof, LEAVES[299]], found) for found in (root, *longer)]
            for cut in range(1, len(proof) + 1):
                wrong.append((LEAVES[index], proof[:-cut], nodes[-1 - cut]))
                wrong.append((LEAVES[index], proof[:-cut], root))
                wrong.append((nodes[cut], proof[cut:], root))
            for leaf, path, top in wrong:
                with pytest.raises(InclusionError):
                    log.verify_inclusion(index, size, leaf, path, top)


def inclusion_shape(index: int, size: int) -> tuple[str, ...]:
    """Sides of the siblings from the bottom up, by the definition. A path binds its shape, and the
    size only through it: that the root is of a log of `size` is for the checkpoint to say."""
    if size == 1:
        return ()
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        return (*inclusion_shape(index, split), "right")
    return (*inclusion_shape(index - split, size - split), "left")


def consistency_shape(size1: int, size2: int, whole: bool = True) -> tuple[str, ...]:
    """Where the fold starts (the old root or the first hash), then the sides of what is folded in."""
    if size1 == size2:
        return ("old root" if whole else "first hash",)
    split = 1 << (size2 - 1).bit_length() - 1
    if size1 <= split:
        return (*consistency_shape(size1, split, whole), "right")
    return (*consistency_shape(size1 - split, size2 - split, False), "left")


def test_an_inclusion_proof_serves_another_place_only_if_the_path_has_the_same_shape() -> None:
    """Every proof to size 24 against every other index and size to 26."""
    places = [(index, size) for size in range(1, 27) for index in range(size)]
    for index, size in places:
        if size > 24:
            continue
        proof, root = log.inclusion_proof(index, LEAVES[:size]), log.root(LEAVES[:size])
        for wrong in places:
            try:
                log.verify_inclusion(*wrong, LEAVES[index], proof, root)
            except InclusionError:
                accepted = False
            else:
                accepted = True
            assert accepted == (inclusion_shape(*wrong) == inclusion_shape(index, size)), (index, size, wrong)


def test_a_consistency_proof_serves_other_sizes_only_if_the_fold_has_the_same_shape() -> None:
    """Every proof to size 20 against every other pair of sizes to 22."""
    pairs = list(itertools.combinations(range(1, 23), 2))
    for size1, size2 in pairs:
        if size2 > 20:
            continue
        proof = log.consistency_proof(size1, LEAVES[:size2])
        roots = log.root(LEAVES[:size1]), log.root(LEAVES[:size2])
        for wrong in pairs:
            try:
                log.verify_consistency(*wrong, proof, *roots)
            except ConsistencyError:
                accepted = False
            else:
                accepted = True
            assert accepted == (consistency_shape(*wrong) == consistency_shape(size1, size2)), (size1, size2, wrong)
        for backwards in ((size2, size1), (size1, size1), (0, size2)):
            with pytest.raises(ConsistencyError):
                log.verify_consistency(*backwards, proof or [roots[0]], *roots)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 64, 65, 130])
def test_every_flipped_bit_of_an_inclusion_proof_is_refused(size: int) -> None:
    """Of the proof, the leaf and the root, for one index per size."""
    index = random.Random(size).randrange(size)
    proof = log.inclusion_proof(index, LEAVES[:size])
    root = log.root(LEAVES[:size])
    for place, item in enumerate(proof):
        for bad in flips(item):
            with pytest.raises(InclusionError):
                log.verify_inclusion(index, size, LEAVES[index], [*proof[:place], bad, *proof[place + 1 :]], root)
    for bad in flips(root):
        with pytest.raises(InclusionError):
            log.verify_inclusion(index, size, LEAVES[index], proof, bad)
    for bad in flips(LEAVES[index]):
        with pytest.raises(InclusionError):
            log.verify_inclusion(index, size, bad, proof, root)


@pytest.mark.parametrize(("size1", "size2"), [(1, 2), (3, 7), (4, 8), (6, 100), (64, 65), (65, 130)])
def test_every_flipped_bit_of_a_consistency_proof_is_refused(size1: int, size2: int) -> None:
    """Of the proof and of both roots."""
    proof = log.consistency_proof(size1, LEAVES[:size2])
    roots = log.root(LEAVES[:size1]), log.root(LEAVES[:size2])
    for place, item in enumerate(proof):
        for bad in flips(item):
            with pytest.raises(ConsistencyError):
                log.verify_consistency(size1, size2, [*proof[:place], bad, *proof[place + 1 :]], *roots)
    for bad in flips(roots[0]):
        with pytest.raises(ConsistencyError):
            log.verify_consistency(size1, size2, proof, bad, roots[1])
    for bad in flips(roots[1]):
        with pytest.raises(ConsistencyError):
            log.verify_consistency(size1, size2, proof, roots[0], bad)


def test_pymerkle_agrees_on_roots_and_inclusion_paths() -> None:
    """An implementation of other people; its path starts with the leaf."""
    tree = InmemoryTree(algorithm="sha256")
    for size in range(1, 131):
        tree.append_entry((size - 1).to_bytes(4, "big"))
        assert tree.get_root() == log.root(LEAVES[:size])
        for index in range(size):
            path = tree.prove_inclusion(index + 1).path
            assert list(path[1:]) == log.inclusion_proof(index, LEAVES[:size])


HOSTILE = [
    None,
    -1,
    True,
    1.0,
    "1",
    1 << 63,
    10**5_000,  # more digits than Python prints
    b"",
    b"x" * 31,
    b"x" * 33,
    bytearray(32),
    "x" * 32,
    [b"x" * 31],
    [None],
    7,
]


@given(st.sampled_from(HOSTILE), st.integers(0, 4))
def test_hostile_types_are_named_errors(value: object, place: int) -> None:
    """No argument, however wrong, gives anything but the verifier's own error."""
    good: list[object] = [1, 3, LEAVES[1], log.inclusion_proof(1, LEAVES[:3]), log.root(LEAVES[:3])]
    consistent: list[object] = [2, 3, log.consistency_proof(2, LEAVES[:3]), log.root(LEAVES[:2]), log.root(LEAVES[:3])]
    good[place] = consistent[place] = value
    with pytest.raises(InclusionError):
        log.verify_inclusion(*good)  # type: ignore[arg-type]
    with pytest.raises(ConsistencyError):
        log.verify_consistency(*consistent)  # type: ignore[arg-type]


def test_the_empty_log_and_equal_sizes_need_empty_proofs() -> None:
    """Nothing is proven between them, so nothing may be sent."""
    empty = hashlib.sha256(b"").digest()
    root = log.root(LEAVES[:5])
    log.verify_consistency(0, 5, [], empty, root)
    log.verify_consistency(5, 5, [], root, root)
    for arguments in (
        (0, 5, [root], empty, root),
        (0, 5, [], root, root),
        (5, 5, [root], root, root),
        (5, 5, [], root, empty),
    ):
        with pytest.raises(ConsistencyError):
            log.verify_consistency(*arguments)
    with pytest.raises(InclusionError):
        log.verify_inclusion(0, 0, LEAVES[0], [], empty)
