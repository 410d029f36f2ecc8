# SPDX-License-Identifier: GPL-3.0-or-later
"""The library that judges proofs about journals and trees, against RFC 9162's own recursive definitions.

Rules: it is called directly, as the vault calls it; honest proofs of every size pass, and any change of an
honest proof or of what it is about is refused.
"""

from hashlib import sha256
from typing import Any

import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import abi, load
from tests.contract import reference as ref
from tests.contract.chain import GAS, Chain, RawRevert, Reverted, refused

EVIDENCE = load("Evidence")
ENTRIES = [ref.entry(b"%d" % n) for n in range(70)]
EXAMPLES = 60

sizes = st.integers(1, len(ENTRIES))


# A library's selectors are over the names of its structs, and its arguments over their fields.
NAMED = {
    "included": "included(bytes32,uint64,Checkpoint,bytes32[])",
    "disagree": "disagree(Checkpoint,Checkpoint,Disagreement)",
    "falseSum": "falseSum(bytes,FalseSum)",
}


def ask(chain: Chain, function: str, *arguments: Any) -> bool:
    """The library's answer. Raises `Reverted`."""
    calldata = abi.encode_call(EVIDENCE, function, *arguments)
    if function in NAMED:
        calldata = keccak(NAMED[function].encode())[:4] + calldata[4:]
    transaction = {"from": chain.accounts[0], "to": chain.libraries["Evidence"], "data": "0x" + calldata.hex()}
    try:
        return bool(int.from_bytes(chain.backend.call({**transaction, "gas": GAS}), "big"))
    except RawRevert as error:
        raise Reverted(error.data, EVIDENCE) from None


def root(size: int) -> bytes:
    return ref.journal_root(ENTRIES[:size])


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


@settings(max_examples=EXAMPLES)
@given(pair=st.tuples(sizes, sizes).map(sorted))
def test_a_journal_extends_every_beginning_of_itself(embedded: Chain, pair: list[int]) -> None:
    old, new = pair
    proof = ref.consistency(old, ENTRIES[:new])
    assert ask(embedded, "consistent", old, root(old), new, root(new), proof) is True


def test_every_pair_of_small_sizes(embedded: Chain) -> None:
    """All shapes up to 9 entries, powers of two and their neighbours among them."""
    for new in range(1, 10):
        for old in range(1, new + 1):
            proof = ref.consistency(old, ENTRIES[:new])
            assert ask(embedded, "consistent", old, root(old), new, root(new), proof) is True, (old, new)


@settings(max_examples=EXAMPLES)
@given(data=st.data(), pair=st.tuples(sizes, sizes).filter(lambda p: p[0] < p[1]))
@pytest.mark.slow
def test_a_changed_proof_shows_nothing(embedded: Chain, data: st.DataObject, pair: tuple[int, int]) -> None:
    """Another root, another size, a step changed, missing or too many: a rewritten history needs one of these."""
    old, new = pair
    proof = ref.consistency(old, ENTRIES[:new])
    honest = [old, root(old), new, root(new), proof]
    at = data.draw(st.integers(0, len(proof) - 1))
    changes: list[tuple[int, Any]] = [
        (1, flipped(root(old))),
        (3, flipped(root(new))),
        (4, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]),
        (4, [*proof[:at], *proof[at + 1 :]]),
        (4, [*proof, bytes(32)]),
        (4, []),
        (0, new + 1),
    ]
    for place, value in changes:
        assert ask(embedded, "consistent", *honest[:place], value, *honest[place + 1 :]) is False


def test_equal_sizes_and_nothing(embedded: Chain) -> None:
    """Equal sizes need equal roots and no proof; a first journal extends nothing, whatever it is."""
    assert ask(embedded, "consistent", 5, root(5), 5, root(5), []) is True
    assert ask(embedded, "consistent", 5, root(5), 5, root(6), []) is False
    assert ask(embedded, "consistent", 5, root(5), 5, root(5), [bytes(32)]) is False
    assert ask(embedded, "consistent", 0, bytes(32), 7, root(7), []) is True
    assert ask(embedded, "consistent", 0, bytes(32), 7, root(7), [bytes(32)]) is False
    assert ask(embedded, "consistent", 7, root(7), 0, bytes(32), []) is False


@settings(max_examples=EXAMPLES)
@given(data=st.data(), size=sizes)
@pytest.mark.slow
def test_entries_are_included_where_they_are(embedded: Chain, data: st.DataObject, size: int) -> None:
    """At its index with its path, and nowhere else, with no other path and under no other root."""
    index = data.draw(st.integers(0, size - 1))
    leaf, path = ENTRIES[index], ref.journal_path(index, ENTRIES[:size])
    journal = (size, root(size))
    assert ask(embedded, "included", leaf, index, journal, path) is True
    assert ask(embedded, "included", flipped(leaf), index, journal, path) is False
    assert ask(embedded, "included", leaf, index, (size, flipped(root(size))), path) is False
    assert ask(embedded, "included", leaf, size, journal, path) is False
    assert ask(embedded, "included", leaf, index, journal, [*path, bytes(32)]) is False
    if path:
        other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index))
        assert ask(embedded, "included", leaf, other, journal, path) is False
        assert ask(embedded, "included", leaf, index, journal, path[:-1]) is False


@settings(max_examples=EXAMPLES)
@given(data=st.data(), pair=st.tuples(sizes, sizes))
@pytest.mark.slow
def test_two_journals_disagree_only_where_an_entry_differs(
    embedded: Chain, data: st.DataObject, pair: tuple[int, int]
) -> None:
    """An honest operator signs prefixes of one journal: no choice of index and paths makes a fault of two."""
    a, b = pair
    index = data.draw(st.integers(0, min(a, b) - 1))
    paths = [ref.journal_path(index, ENTRIES[:size]) for size in (a, b)]
    honest = (index, ENTRIES[index], paths[0], ENTRIES[index], paths[1])
    assert ask(embedded, "disagree", (a, root(a)), (b, root(b)), honest) is False
    lie = [*ENTRIES[:index], ref.entry(b"rewritten"), *ENTRIES[index + 1 :]]
    other = (b, ref.journal_root(lie[:b]))
    found = (index, ENTRIES[index], paths[0], lie[index], ref.journal_path(index, lie[:b]))
    assert ask(embedded, "disagree", (a, root(a)), other, found) is True
    if a != b:
        assert ask(embedded, "disagree", (a, root(a)), other, (*found[:1], *honest[1:])) is False


@st.composite
def trees(draw: st.DrawFn) -> tuple[ref.Tree, int]:
    """An honest tree with a leaf in use."""
    lanes = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, (1 << 90) - 1), min_size=lanes, max_size=lanes).map(tuple)
    indexes = sorted(draw(st.sets(st.integers(0, (1 << 20) - 1), min_size=1, max_size=4)))
    leaves = [ref.Leaf(i, "0x" + sha256(b"%d" % i).hexdigest()[:40], draw(row), draw(row)) for i in indexes]
    return ref.Tree(sha256(b"domain").digest(), lanes, leaves), draw(st.sampled_from(indexes))


def header_of(tree: ref.Tree) -> ref.Header:
    root_node = tree.root()
    rest: dict[str, Any] = {"prev_header": bytes(32), "inbox_hash": bytes(32), "diff_hash": bytes(32)}
    numbers: dict[str, Any] = {"inbox_count": 0, "l1_number": 1, "l1_hash": bytes(32), "journal_size": 1}
    sums: dict[str, Any] = {"exit_root": root_node.hash, "exit_sums": root_node.sums}
    return ref.Header(domain=tree.domain, epoch=1, close_time_us=1, **rest, **numbers, **sums)


@pytest.mark.slow
@settings(max_examples=15)
@given(made=trees(), level=st.integers(1, ref.DEPTH))
def test_no_node_of_an_honest_tree_is_a_false_sum(embedded: Chain, made: tuple[ref.Tree, int], level: int) -> None:
    """Nor can claimed sums be invented: they stand in the preimages above."""
    tree, leaf = made
    header = header_of(tree)
    proof = tree.false_sum(level, leaf >> level)
    assert ask(embedded, "falseSum", header.encode(), proof) is False
    own = list(proof[8])  # type: ignore[call-overload]
    if own:
        own[0] += 1
        assert ask(embedded, "falseSum", header.encode(), (*proof[:8], own)) is False


@pytest.mark.slow
@settings(max_examples=15)
@given(made=trees(), level=st.integers(1, ref.DEPTH), data=st.data())
def test_every_false_node_is_found(
    embedded: Chain, made: tuple[ref.Tree, int], level: int, data: st.DataObject
) -> None:
    """Whatever the level and the lane, upwards or downwards, by one atom or by many."""
    honest, leaf = made
    sums = list(honest.node(level, leaf >> level).sums)
    lane = data.draw(st.integers(0, len(sums) - 1))
    sums[lane] = data.draw(st.integers(0, (1 << 91) - 1).filter(lambda n: n != sums[lane]))
    lies = {(level, leaf >> level): tuple(sums)}
    tree = ref.Tree(honest.domain, len(sums), list(honest.leaves.values()), lies)
    header = header_of(tree)
    assert ask(embedded, "falseSum", header.encode(), tree.false_sum(level, leaf >> level)) is True
    if level > 1:
        below = tree.false_sum(level - 1, leaf >> (level - 1))
        assert ask(embedded, "falseSum", header.encode(), below) is False


def test_proofs_of_another_shape_are_refused_by_name(embedded: Chain) -> None:
    """Lengths follow from level and lanes; a level or a position outside the tree is none."""
    tree = ref.Tree(sha256(b"domain").digest(), 2, [ref.Leaf(5, "0x" + "11" * 20, (1, 2), (3, 4))])
    header = header_of(tree).encode()
    good = list(tree.false_sum(3, 0))
    shapes: list[tuple[int, Any]] = [
        (1, [1]),
        (3, [1, 2, 3]),
        (4, 0),
        (4, 21),
        (4, 4),
        (5, 1 << 17),
        (6, good[6][:-1]),  # type: ignore[index]
        (7, good[7][:-1]),  # type: ignore[index]
        (8, good[8][:-1]),  # type: ignore[index]
    ]
    for place, value in shapes:
        with refused("MalformedProof"):
            ask(embedded, "falseSum", header, (*good[:place], value, *good[place + 1 :]))
    with pytest.raises(Reverted):
        ask(embedded, "falseSum", b"", tuple(good))
