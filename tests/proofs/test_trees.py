# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit and state trees: updates equal rebuilding, proofs bind everything, and nothing else passes."""

import hashlib

import msgspec
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


def u128(values: tuple[int, ...]) -> bytes:
    return b"".join(value.to_bytes(16, "big") for value in values)


def written_out(
    leaves: dict[int, ExitLeaf], lanes: int, height: int = 20, at: int = 0
) -> tuple[bytes, tuple[int, ...]]:
    """Hash and sums of the node `at` of `height`, straight from the format's text."""
    if not any(index >> height == at for index in leaves):
        digest = hashlib.sha256(b"\x02" + DOMAIN).digest()
        for _ in range(height):
            digest = hashlib.sha256(b"\x01" + 2 * (digest + bytes(16 * lanes))).digest()
        return digest, (0,) * lanes
    if height == 0:
        found = leaves[at]
        fields = at.to_bytes(4, "big") + found.owner + u128(found.exits) + u128(found.withdraw_acks)
        sums = tuple(map(sum, zip(found.exits, found.withdraw_acks, strict=True)))
        return hashlib.sha256(b"\x00" + DOMAIN + fields).digest(), sums
    left, left_sums = written_out(leaves, lanes, height - 1, 2 * at)
    right, right_sums = written_out(leaves, lanes, height - 1, 2 * at + 1)
    preimage = b"\x01" + left + u128(left_sums) + right + u128(right_sums)
    return hashlib.sha256(preimage).digest(), tuple(map(sum, zip(left_sums, right_sums, strict=True)))


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
    assert written_out(last, lanes) == (tree.root, totals)
    again = SumTree(DOMAIN, lanes)
    again.update(tree.leaves())
    assert again.root == tree.root
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


@pytest.mark.parametrize(
    "bad",
    [
        leaf(2**20, (1,), (0,)),
        ExitLeaf(-1, b"Z" * 20, (1,), (0,)),
        leaf(9, (2**96,), (0,)),
        leaf(9, (-1,), (0,)),
        leaf(9, (True,), (0,)),
        leaf(9, (1, 1), (0, 0)),
        leaf(9, (1,), (0, 0)),
        leaf(9, (), ()),
        ExitLeaf(9, b"short", (1,), (0,)),
        ExitLeaf(1, b"Z" * 20, (1,), (0,)),
        ExitLeaf(8, b"Z" * 20, (1,), (0,)),
    ],
    ids=lambda bad: f"{bad.index} {bad.exits} {bad.owner[:2].hex()}",
)
def test_an_update_with_a_bad_leaf_changes_nothing(bad: ExitLeaf) -> None:
    """All or none: the good leaf 8 in the same batch is not set either, and what was there still proves."""
    made = SumTree(DOMAIN, 1)
    made.update([leaf(1, (5,), (1,))])
    before = made.root, made.sums, made.leaves()
    with pytest.raises((SumTreeError, EncodingError)):
        made.update([leaf(8, (7,), (0,)), bad])
    assert (made.root, made.sums, made.leaves()) == before
    made.update([leaf(9, (2,), (0,))])  # rehashes the parent of 8, where a half-set leaf would show
    assert made.sums == (8,)
    for found in made.leaves():
        verify_exit(found, made.proof(found.index), made.root, made.sums, DOMAIN)


def test_every_flipped_bit_of_an_exit_proof_is_refused() -> None:
    """Of each sibling's hash and of each of its sums, with two lanes."""
    made = SumTree(DOMAIN, 2)
    made.update(leaf(index, (index + 1, 2**90), (3, index)) for index in range(40))
    good, proof = made.leaf(21), made.proof(21)
    assert good is not None
    for height in range(20):
        for bit in range(256):
            digest = (int.from_bytes(proof.hashes[height], "big") ^ 1 << bit).to_bytes(32, "big")
            bad = SumProof((*proof.hashes[:height], digest, *proof.hashes[height + 1 :]), proof.sums)
            with pytest.raises(SumTreeError):
                verify_exit(good, bad, made.root, made.sums, DOMAIN)
            one, other = proof.sums[height]
            flipped = (one ^ 1 << bit, other) if bit < 128 else (one, other ^ 1 << bit - 128)
            bad = SumProof(proof.hashes, (*proof.sums[:height], flipped, *proof.sums[height + 1 :]))
            with pytest.raises(SumTreeError):
                verify_exit(good, bad, made.root, made.sums, DOMAIN)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_lane_of_the_total_and_of_each_sibling_is_bound(lanes: int) -> None:
    """One atom more, one less, or moved to the next lane: in any lane, at any height and in the header."""
    made = SumTree(DOMAIN, lanes)
    made.update(leaf(index, (index + 1,) * lanes, (9,) * lanes) for index in range(30))
    assert made.sums == (30 * 31 // 2 + 30 * 9,) * lanes
    good, proof = made.leaf(13), made.proof(13)
    assert good is not None
    for lane in range(lanes):
        for delta in (1, -1):
            total = tuple(value + delta * (at == lane) for at, value in enumerate(made.sums))
            with pytest.raises(SumTreeError):
                verify_exit(good, proof, made.root, total, DOMAIN)
        for height in range(20):
            row = proof.sums[height]
            for deltas in ({lane: 1}, {lane: -1}, {lane: 1, (lane + 1) % lanes: -1}):
                altered = tuple(value + deltas.get(at, 0) for at, value in enumerate(row))
                if altered == row:
                    continue
                bad = SumProof(proof.hashes, (*proof.sums[:height], altered, *proof.sums[height + 1 :]))
                with pytest.raises(SumTreeError):
                    verify_exit(good, bad, made.root, made.sums, DOMAIN)


@pytest.mark.parametrize("index", [2**20 + 5, 2**31 + 5])
def test_a_leaf_of_an_index_outside_the_tree_is_refused_where_an_operator_hid_it(index: int) -> None:
    """The root is honest about the leaf at place 5; the leaf is not about its index."""
    hidden = leaf(index, (7,), (1,))
    empty = SumTree(DOMAIN, 1)
    proof = empty.proof(5)
    digest = hidden.hash(DOMAIN)
    for height, sibling in enumerate(proof.hashes):
        mine, theirs = digest + u128((8,)), sibling + u128((0,))
        digest = hashlib.sha256(b"\x01" + (theirs + mine if 5 >> height & 1 else mine + theirs)).digest()
    with pytest.raises(SumTreeError, match="outside"):
        verify_exit(hidden, proof, digest, (8,), DOMAIN)


HOSTILE: list[object] = [None, True, -1, 1.0, "1", b"", b"x" * 31, [None], [b"x" * 20], ((None,),) * 20, {}, 10**5_000]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_hostile_types_in_an_exit_proof_are_named_errors(tree: SumTree, value: object) -> None:
    """In place of any argument, and of any part of the leaf and of the path."""
    good, proof = tree.leaf(5), tree.proof(5)
    assert good is not None
    arguments: list[object] = [good, proof, tree.root, tree.sums, DOMAIN]
    wrong = [[*arguments[:place], value, *arguments[place + 1 :]] for place in range(5)]
    leaves = [msgspec.structs.replace(good, **{name: value}) for name in ExitLeaf.__struct_fields__]
    wrong += [[bad, *arguments[1:]] for bad in leaves]
    paths = [
        msgspec.structs.replace(proof, **{name: part})
        for name in SumProof.__struct_fields__
        for part in (value, (*getattr(proof, name)[:-1], value))
    ]
    wrong += [[good, bad, *arguments[2:]] for bad in paths]
    for bad in wrong:
        with pytest.raises((SumTreeError, EncodingError)):
            verify_exit(*bad)  # type: ignore[arg-type]


def test_every_flipped_bit_of_a_state_proof_is_refused() -> None:
    """Of each sibling, of the leaf's hash and of the root; nor does a part of the path prove a part of the tree."""
    made = StateTree(state_domain(b"D" * 32))
    made.update((account, sha256(bytes([account]))) for account in range(40))
    found, proof = sha256(bytes([21])), made.proof(21)
    verify_state(21, found, proof, made.root)
    for bit in range(256):

        def flip(item: bytes, bit: int = bit) -> bytes:
            return (int.from_bytes(item, "big") ^ 1 << bit).to_bytes(32, "big")

        wrong = [(found, [*proof[:at], flip(item), *proof[at + 1 :]], made.root) for at, item in enumerate(proof)]
        for leaf_hash, path, root in [*wrong, (flip(found), proof, made.root), (found, proof, flip(made.root))]:
            with pytest.raises(StateTreeError):
                verify_state(21, leaf_hash, path, root)
    node = found
    for height, sibling in enumerate(proof):
        with pytest.raises(StateTreeError):  # the subtree's root in place of the tree's
            verify_state(21, found, proof[:height], node)
        if height:
            with pytest.raises(StateTreeError):  # the subtree's root in place of a leaf
                verify_state(21 >> height, node, proof[height:], made.root)
        node = sha256(b"\x01" + (sibling + node if 21 >> height & 1 else node + sibling))
    assert node == made.root


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_a_full_lane_does_not_spill_into_the_next(lanes: int) -> None:
    """An overflow in any lane is refused; a lane that is just full is not."""
    made = SumTree(DOMAIN, lanes)
    made.update([leaf(0, (1,) * lanes, (0,) * lanes)])
    good, proof = made.leaf(0), made.proof(0)
    assert good is not None
    for lane in range(lanes):
        for value, message in ((2**128 - 1, "overflow"), (2**128 - 2, "root")):
            sums = tuple(value if place == lane else 0 for place in range(lanes))
            with pytest.raises(SumTreeError, match=message):
                verify_exit(good, SumProof(proof.hashes, (sums, *proof.sums[1:])), made.root, made.sums, DOMAIN)


@pytest.mark.parametrize(("lanes", "depth"), [(0, 20), (5, 20), (1, 0), (1, 32)])
def test_a_tree_whose_sums_could_overflow_is_not_made(lanes: int, depth: int) -> None:
    """1 to 4 lanes, 1 to 31 levels."""
    with pytest.raises(SumTreeError):
        SumTree(DOMAIN, lanes, depth)


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
    again = StateTree(domain)
    again.update(whole.leaves())
    assert again.root == whole.root
    with pytest.raises(StateTreeError):
        again.update([(0, sha256(b"good")), (1, b"short")])
    with pytest.raises(StateTreeError):
        again.update([(0, sha256(b"good")), (2**24, sha256(b"outside"))])
    assert (again.root, again.leaves()) == (whole.root, whole.leaves())
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
        (position ^ 1 << height, leaves[position], proof, whole.root),
        (position, leaves[position], [*proof, proof[-1]], whole.root),
        (True, leaves[position], proof, whole.root),
        (10**5_000, leaves[position], proof, whole.root),
        (position, leaves[position] + proof[0], proof[1:], whole.root),
        (position, None, proof, whole.root),
        (position, leaves[position], None, whole.root),
        (position, leaves[position], [None] * 24, whole.root),
    ):
        with pytest.raises(StateTreeError):
            verify_state(*arguments)
