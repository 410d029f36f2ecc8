# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leaf must prove, and that nobody is paid twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf, Node
from tests.contract.world import DEADLINE_S, TREASURY, VAULT, WINDOW_S, Proof, World, owner

DEPOSIT = 50_000_000
ACK = 7_000_000
MINE, YOURS = 5, 6


def leaves() -> list[Leaf]:
    return [
        Leaf(0, TREASURY, (1_000,), (500,)),
        Leaf(MINE, owner(1), (DEPOSIT - ACK,), (ACK,)),
        Leaf(YOURS, owner(2), (DEPOSIT,), (0,)),
    ]


def posted(chain: Chain) -> World:
    """Two users and the treasury; one withdrawal acknowledged to user 1 and one to the treasury."""
    world = World.create(chain)
    world.deposit(owner(1), DEPOSIT)
    world.deposit(owner(2), DEPOSIT)
    world.deposit(TREASURY, 1_500)
    world.close_epoch(leaves())
    return world


def test_a_claim_pays_the_owner_whoever_submits(chain: Chain) -> None:
    world = posted(chain)
    world.pass_window()
    (event,) = events(world.claim(1, MINE), VAULT, "Claimed")
    assert event == {"owner": owner(1), "asset": 0, "amount": ACK, "cumulative": ACK}
    assert world.balance(owner(1)) == world.view("claimedOf", owner(1), 0) == ACK
    assert world.view("holdings", 0) == world.balance(world.vault) == 2 * DEPOSIT + 1_500 - ACK


def test_the_treasury_claims_its_leaf_like_anyone(chain: Chain) -> None:
    world = posted(chain)
    world.pass_window()
    world.claim(1, 0)
    assert world.balance(TREASURY) == 500


def test_a_double_claim_pays_nothing(chain: Chain) -> None:
    world = posted(chain)
    world.pass_window()
    world.claim(1, MINE)
    with refused("NothingToClaim"):
        world.claim(1, MINE)


def test_claims_are_cumulative_across_headers(chain: Chain) -> None:
    """A newer header pays the difference, and an older one nothing more afterwards."""
    world = posted(chain)
    world.pass_window()
    world.claim(1, MINE)
    grown = [replace(leaf, exits=(0,), acks=(DEPOSIT,)) if leaf.index == MINE else leaf for leaf in leaves()]
    world.close_epoch(grown)
    world.pass_window()
    world.claim(2, MINE)
    assert world.balance(owner(1)) == DEPOSIT
    for epoch in (1, 2):
        with refused("NothingToClaim"):
            world.claim(epoch, MINE)


def test_one_owner_in_two_leaves_is_not_paid_twice(chain: Chain) -> None:
    """The counter is the owner's and not the leaf's."""
    world = posted(chain)
    twice = [replace(leaf, exits=(0,), acks=(ACK,), owner=owner(1)) for leaf in leaves()]
    epoch = world.close_epoch(twice)
    world.pass_window()
    world.claim(epoch, MINE)
    with refused("NothingToClaim"):
        world.claim(epoch, YOURS)


def test_a_claim_before_the_window_ends_is_refused(chain: Chain) -> None:
    world = posted(chain)
    with refused("HeaderNotFinal"):
        world.claim(1, MINE)
    chain.advance(WINDOW_S - 60)
    assert world.view("finalisedEpoch") == 0
    with refused("HeaderNotFinal"):
        world.claim(1, MINE)
    chain.advance(60)
    assert world.view("finalisedEpoch") == 1
    world.claim(1, MINE)


def test_a_leaf_that_acknowledges_nothing_claims_nothing(chain: Chain) -> None:
    world = posted(chain)
    world.pass_window()
    with refused("NothingToClaim"):
        world.claim(1, YOURS)


def _nudge(node: Node, hash_flip: int = 0, more: int = 0) -> Node:
    return Node(bytes([node.hash[0] ^ hash_flip]) + node.hash[1:], (node.sums[0] + more,))


def _swap(path: list[Node], level: int, node: Node) -> list[Node]:
    return [*path[:level], node, *path[level + 1 :]]


def _leaf(**changes: Any) -> Callable[[Proof], Proof]:
    return lambda proof: replace(proof, leaf=replace(proof.leaf, **changes))


def _path(change: Callable[[list[Node]], list[Node]]) -> Callable[[Proof], Proof]:
    return lambda proof: replace(proof, path=change(proof.path))


FORGERIES: dict[str, tuple[Callable[[Proof], Proof], str]] = {
    "a larger acknowledgement": (_leaf(acks=(ACK + 1,)), "RootMismatch"),
    "acknowledgement moved from the exit": (_leaf(exits=(0,), acks=(DEPOSIT,)), "RootMismatch"),
    "another owner": (_leaf(owner=owner(2)), "RootMismatch"),
    "another index": (_leaf(index=YOURS), "RootMismatch"),
    "the same index mirrored": (_leaf(index=MINE ^ 0xFFFFF), "RootMismatch"),
    "an index outside the tree": (_leaf(index=MINE + (1 << 20)), "WrongIndex"),
    "no lane": (_leaf(exits=(), acks=()), "WrongLeafLanes"),
    "two lanes": (_leaf(exits=(1, 1), acks=(1, 1)), "WrongLeafLanes"),
    "uneven lanes": (_leaf(exits=(1, 1)), "WrongLeafLanes"),
    "a leaf value of 2^96": (_leaf(acks=(1 << 96,)), "LeafValueTooLarge"),
    "a forged sibling hash": (_path(lambda p: _swap(p, 3, _nudge(p[3], hash_flip=1))), "RootMismatch"),
    "a forged sum below": (_path(lambda p: _swap(p, 0, _nudge(p[0], more=1))), "RootMismatch"),
    "a forged sum above": (_path(lambda p: _swap(p, 19, _nudge(p[19], more=1))), "RootMismatch"),
    "a sum that overflows": (_path(lambda p: _swap(p, 9, Node(p[9].hash, ((1 << 128) - 1,)))), "SumOverflow"),
    "a path too short": (_path(lambda p: p[:-1]), "WrongProofLength"),
    "a path too long": (_path(lambda p: [*p, p[-1]]), "WrongProofLength"),
    "no path": (_path(lambda p: []), "WrongProofLength"),
    "a sum missing": (_path(lambda p: [*p[:-1], Node(p[-1].hash, ())]), "WrongProofLength"),
    "a sum too many": (_path(lambda p: [*p[:-1], Node(p[-1].hash, (0, 0))]), "WrongProofLength"),
    "a changed header": (
        lambda p: replace(p, header=p.header[:-1] + bytes([p.header[-1] ^ 1])),
        "UnknownHeader",
    ),
    "a cut header": (lambda p: replace(p, header=p.header[:30]), "UnknownHeader"),
    "no header": (lambda p: replace(p, header=b""), "UnknownHeader"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_proof_is_refused_by_name(chain: Chain, name: str) -> None:
    """For a claim now and an escape later; the true proof passes beside it."""
    change, error = FORGERIES[name]
    world = posted(chain)
    world.pass_window()
    true = world.proof(1, MINE)
    forged = change(true)
    with refused(error):
        world.send("claim", *forged.arguments())
    world.send("claim", *true.arguments())
    world.freeze()
    with refused("NotEscapeHeader" if error == "UnknownHeader" else error):
        world.send("escape", *forged.arguments())
    world.send("escape", *true.arguments())
    assert world.balance(owner(1)) == DEPOSIT


def test_a_proof_from_another_vault_is_refused(chain: Chain) -> None:
    """The same leaves under another vault's domain: header unknown, and the leaf does not fit."""
    world = posted(chain)
    other = World.create(chain, tokens=world.tokens)
    for who, amount in ((owner(1), DEPOSIT), (owner(2), DEPOSIT), (TREASURY, 1_500)):
        other.deposit(who, amount)
    other.close_epoch(leaves())
    world.pass_window()
    foreign = other.proof(1, MINE)
    with refused("UnknownHeader"):
        world.send("claim", *foreign.arguments())
    with refused("RootMismatch"):
        world.send("claim", *replace(foreign, header=world.headers[1].encode()).arguments())


def test_a_header_whose_sums_are_not_its_trees_pays_nobody(chain: Chain) -> None:
    """Sums in the header below the tree's would pass solvency; no proof fits such a header."""
    world = posted(chain)
    tree = world.tree(leaves())
    root = tree.root()
    false = world.header(Node(root.hash, (root.sums[0] - 1,)))
    world.post(false)
    world.pass_window()
    proof = Proof(false.encode(), tree.leaves[MINE], tree.path(MINE))
    with refused("SumMismatch"):
        world.send("claim", *proof.arguments())


def test_headers_that_a_freeze_overtook_stay_void(chain: Chain) -> None:
    """A window that was open at the freeze never ends; older headers can still be claimed."""
    world = posted(chain)
    chain.advance(DEADLINE_S - 600)
    grown = [replace(leaf, exits=(0,), acks=leaf.sums()) for leaf in leaves()]
    world.deposit(owner(1), 1)
    world.close_epoch(grown, consumed=3)
    chain.advance(WINDOW_S - 60)
    # Only an overdue message can freeze a vault whose last epoch is this young.
    with refused("DeadlineNotPassed"):
        world.send("freeze")
    wait = world.messages[3].l1_time + DEADLINE_S - chain.now()
    world.close_epoch(grown, consumed=3)
    chain.advance(wait - 1_800)
    world.close_epoch(grown, consumed=3)
    chain.advance(1_800)
    world.send("freeze")
    assert world.view("escapeEpoch") == 3
    chain.advance(2 * WINDOW_S)
    with refused("HeaderNotFinal"):
        world.claim(4, MINE)
    world.claim(1, MINE)
    world.claim(3, MINE)
    assert world.balance(owner(1)) == DEPOSIT
