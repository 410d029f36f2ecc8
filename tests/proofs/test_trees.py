# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit and state trees: updates equal rebuilding, proofs bind everything, and nothing else passes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.errors import EncodingError, StateTreeError, SumTreeError
from proofs.hashing import exit_domain, sha256, state_domain
from proofs.hashtree import StateTree, verify_state
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumProof, SumTree, verify_exit

DOMAIN = exit_domain(1, b"V" * 20)
VALUE = st.integers(0, 2**96 - 1)


def leaf(index: int, exits: tuple[int, ...], acks: tuple[int, ...]) -> ExitLeaf:
    return ExitLeaf(index=index, owner=sha256(index.to_bytes(4, "big"))[:20], exits=exits, withdraw_acks=acks)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[int, list[list[ExitLeaf]]]:
    """A number of lanes, and some updates of a few leaves each."""
    lanes = draw(st.integers(1, 4))
    lane = st.tuples(*[VALUE] * lanes)
    one = st.builds(leaf, st.sampled_from([0, 1, 2, 3, 8, 1023, 2**19, 2**20 - 1]), lane, lane)
    return lanes, draw(st.lists(st.lists(one, max_size=5), min_size=1, max_size=4))


@given(rounds())
@settings(max_examples=60)
def test_updating_equals_rebuilding_and_every_leaf_proves_itself(case: tuple[int, list[list[ExitLeaf]]]) -> None:
    """The root depends on the last leaves only; sums are their sums."""
    lanes, updates = case
    tree = SumTree(DOMAIN, lanes)
    last: dict[int, ExitLeaf] = {}
    for update in updates:
        tree.update(update)
        last |= {found.index: found for found in update}
    fresh = SumTree(DOMAIN, lanes)
    fresh.update(last.values())
    totals = tuple(sum(found.sums[lane] for found in last.values()) for lane in range(lanes))
    assert (tree.root, tree.sums) == (fresh.root, fresh.sums) == (fresh.root, totals)
    for found in last.values():
        verify_exit(found, tree.proof(found.index), tree.root, tree.sums, DOMAIN)


@pytest.fixture(scope="module")
def tree() -> SumTree:
    made = SumTree(DOMAIN, 1)
    made.update(leaf(index, (100 + index,), (index,)) for index in range(8))
    return made


def changed(proof: SumProof, height: int, *, delta: int = 0, digest: bytes | None = None) -> SumProof:
    hashes, sums = list(proof.hashes), list(proof.sums)
    sums[height] = (sums[height][0] + delta,)
    hashes[height] = digest or hashes[height]
    return SumProof(tuple(hashes), tuple(sums))


def test_whatever_is_altered_in_an_exit_proof_is_refused(tree: SumTree) -> None:
    """Leaf, owner, index, amounts, every sibling, its sum, root, sums, domain, length."""
    good, proof = tree.leaf(5), tree.proof(5)
    assert good is not None
    wrong: list[tuple[ExitLeaf, SumProof, bytes, tuple[int, ...], bytes]] = [
        (leaf(4, good.exits, good.withdraw_acks), proof, tree.root, tree.sums, DOMAIN),
        (ExitLeaf(5, b"X" * 20, good.exits, good.withdraw_acks), proof, tree.root, tree.sums, DOMAIN),
        (leaf(5, (106,), (4,)), proof, tree.root, tree.sums, DOMAIN),
        (leaf(5, (106,), (5,)), proof, tree.root, tree.sums, DOMAIN),
        (good, proof, sha256(b""), tree.sums, DOMAIN),
        (good, proof, tree.root, (tree.sums[0] + 1,), DOMAIN),
        (good, proof, tree.root, (tree.sums[0], 0), DOMAIN),
        (good, proof, tree.root, tree.sums, exit_domain(2, b"V" * 20)),
        (good, SumProof(proof.hashes[:-1], proof.sums[:-1]), tree.root, tree.sums, DOMAIN),
        (good, SumProof((*proof.hashes, b"\0" * 32), (*proof.sums, (0,))), tree.root, tree.sums, DOMAIN),
    ]
    for height in range(20):
        wrong.append((good, changed(proof, height, delta=1), tree.root, tree.sums, DOMAIN))
        wrong.append((good, changed(proof, height, delta=2**128), tree.root, tree.sums, DOMAIN))
        wrong.append((good, changed(proof, height, digest=sha256(b"no")), tree.root, tree.sums, DOMAIN))
        other = (height + 1) % 20
        if proof.sums[other][0]:  # what one sibling gains the other loses: the total stays, the proof does not
            both = changed(changed(proof, height, delta=1), other, delta=-1)
            wrong.append((good, both, tree.root, tree.sums, DOMAIN))
    for arguments in wrong:
        with pytest.raises((SumTreeError, EncodingError)):
            verify_exit(*arguments)


def test_a_node_never_passes_for_a_leaf_and_a_leaf_stays_its_owners(tree: SumTree) -> None:
    """Depth is exact, tags differ, and an index cannot change hands."""
    good = tree.leaf(2)
    assert good is not None
    shorter = tree.proof(2)
    with pytest.raises(SumTreeError):
        verify_exit(good, SumProof(shorter.hashes[1:], shorter.sums[1:]), tree.root, tree.sums, DOMAIN, depth=20)
    with pytest.raises(SumTreeError):
        tree.update([ExitLeaf(2, b"Z" * 20, (1,), (0,))])
    with pytest.raises(SumTreeError):
        tree.update([leaf(2**20, (1,), (0,))])
    with pytest.raises(EncodingError):
        tree.update([leaf(9, (2**96,), (0,))])


def test_an_overflowing_sum_is_refused() -> None:
    """Sibling sums that would wrap the lane are an error, not a small number."""
    made = SumTree(DOMAIN, 1)
    made.update([leaf(0, (1,), (0,))])
    good = made.leaf(0)
    assert good is not None
    full = changed(made.proof(0), 0, delta=2**128 - 1)
    with pytest.raises(SumTreeError, match="overflow"):
        verify_exit(good, full, made.root, made.sums, DOMAIN)


@given(
    st.dictionaries(st.integers(0, 2**24 - 1), st.binary(min_size=32, max_size=32), min_size=1, max_size=12), st.data()
)
@settings(max_examples=40)
def test_state_tree_updates_equal_rebuilding_and_proofs_bind_position(
    leaves: dict[int, bytes], data: st.DataObject
) -> None:
    """In one batch or one by one; a proof holds for its own position, leaf and root only."""
    domain = state_domain(b"D" * 32)
    whole, stepwise = StateTree(domain), StateTree(domain)
    whole.update(leaves.items())
    for item in leaves.items():
        stepwise.update([item])
    assert whole.root == stepwise.root
    position = data.draw(st.sampled_from(sorted(leaves)))
    proof = whole.proof(position)
    verify_state(position, leaves[position], proof, whole.root)
    height = data.draw(st.integers(0, 23))
    bad = [*proof[:height], sha256(proof[height]), *proof[height + 1 :]]
    for arguments in (
        (position, leaves[position], bad, whole.root),
        (position, sha256(b"no"), proof, whole.root),
        (position, leaves[position], proof[:-1], whole.root),
        (position, leaves[position], proof, sha256(b"no")),
        (2**24, leaves[position], proof, whole.root),
    ):
        with pytest.raises(StateTreeError):
            verify_state(*arguments)
