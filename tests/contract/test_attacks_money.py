# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the money itself: each test names the line of defence without which it fails."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.chain import Chain, refused
from tests.contract.reference import Leaf, Node, Tree
from tests.contract.signing import ATTESTORS, OPERATOR, sign_attestation, sign_epoch
from tests.contract.world import (
    DEADLINE_S,
    SECONDING_S,
    TOKEN,
    TREASURY,
    WINDOW_S,
    Proof,
    World,
    member,
    owner,
)

DEPOSIT = 50_000_000
ALICE, BOB, THIEF = owner(1), owner(2), owner(66)


def shared(chain: Chain, **setup: Any) -> World:
    """Alice and Bob deposited, and one honest epoch is final."""
    world = World.create(chain, **setup)
    for who in (ALICE, BOB):
        world.deposit(who, DEPOSIT)
    world.close_epoch([Leaf(1, ALICE, (DEPOSIT,), (0,)), Leaf(2, BOB, (DEPOSIT,), (0,))])
    world.pass_window()
    return world


def stolen() -> list[Leaf]:
    return [Leaf(1, ALICE, (0,), (0,)), Leaf(2, BOB, (0,), (0,)), Leaf(3, THIEF, (DEPOSIT,), (DEPOSIT,))]


def everyone_leaves(world: World) -> None:
    world.escape(1, 1)
    world.escape(1, 2)
    assert (world.balance(ALICE), world.balance(BOB), world.balance(THIEF)) == (DEPOSIT, DEPOSIT, 0)


def test_a_theft_root_is_not_escaped_inside_its_window(evm: Chain) -> None:
    """The operator posts a root that gives all to itself and has the vault frozen at once. Defence: the freeze
    takes the last header whose window was over, and what came later is void for good."""
    world = shared(evm)
    late = world.deposit(owner(3), DEPOSIT)
    evm.backend.mine_at(late.l1_time + DEADLINE_S - WINDOW_S + 60)
    world.close_epoch(stolen(), consumed=2)
    evm.backend.mine_at(late.l1_time + DEADLINE_S)
    world.send("freeze")
    assert world.view("escapeEpoch") == 1
    with refused("NotEscapeHeader"):
        world.escape(2, 3)
    evm.advance(10 * WINDOW_S)
    with refused("HeaderNotFinal"):
        world.claim(2, 3)
    with refused("NotEscapeHeader"):
        world.escape(2, 3)
    everyone_leaves(world)
    world.refund(late)


def test_a_theft_root_is_not_claimed_inside_its_window(evm: Chain) -> None:
    """Defence: a header pays only when its window is over, and attestors void it before that."""
    world = shared(evm, attestors=3, threshold=2)
    epoch = world.close_epoch(stolen())
    evm.backend.mine_at(world.view("headerTime", epoch) + WINDOW_S - 60)
    with refused("HeaderNotFinal"):
        world.claim(epoch, 3)
    world.veto(epoch, 0)
    world.second(epoch, 1)
    everyone_leaves(world)


@pytest.mark.parametrize("voided_by", ["veto", "deadline"])
def test_refund_after_a_voided_header(evm: Chain, voided_by: str) -> None:
    """A deposit that only a void header consumed is refunded, once; one that the escape header consumed is not.
    Defence: refunds start at the escape header's inbox count and not at the last header's."""
    world = shared(evm, attestors=3, threshold=2)
    late = world.deposit(ALICE, 3_000_000)
    later = world.deposit(BOB, 4_000_000)
    grown = [Leaf(1, ALICE, (DEPOSIT + 3_000_000,), (0,)), Leaf(2, BOB, (DEPOSIT,), (0,))]
    if voided_by == "veto":
        world.close_epoch(grown, consumed=3)
        world.veto(2, 0)
        world.second(2, 1)
    else:
        evm.backend.mine_at(later.l1_time + DEADLINE_S - WINDOW_S + 60)
        world.close_epoch(grown, consumed=3)
        evm.backend.mine_at(later.l1_time + DEADLINE_S)
        world.send("freeze")
    assert (world.view("escapeEpoch"), world.view("escapeInboxCount"), world.view("consumedCount")) == (1, 2, 3)
    with refused("NotEscapeHeader"):
        world.escape(2, 1)
    world.refund(late)
    world.refund(later)
    with refused("AlreadyRefunded"):
        world.refund(late)
    for consumed in world.messages[:2]:
        with refused("DepositConsumed"):
            world.refund(consumed)
    world.escape(1, 1)
    world.escape(1, 2)
    assert (world.balance(ALICE), world.balance(BOB)) == (DEPOSIT + 3_000_000, DEPOSIT + 4_000_000)
    assert world.view("holdings", 0) == 0


def test_an_insolvent_root_is_not_posted(evm: Chain) -> None:
    """More promised than was deposited, by one atom. Defence: the header's sums against the totals of what it
    consumed; neither claims paid, nor donations, nor bonds, nor the float make room."""
    world = shared(evm)
    world.send("fundFloat", 0, DEPOSIT)
    world.send("postBond", value=10**18)
    evm.send(TOKEN, world.tokens[0], "transfer", world.vault, DEPOSIT)
    world.deposit(owner(3), DEPOSIT)
    honest = world.header(world.tree([*world.trees[1].leaves.values(), Leaf(3, THIEF, (1,), (0,))]).root(), consumed=2)
    with refused("Insolvent"):
        world.post(honest)
    world.close_epoch(list(world.trees[1].leaves.values()), consumed=2)


def test_a_root_with_hidden_liabilities_pays_nobody(evm: Chain) -> None:
    """The header says less than its tree sums to, so that it passes the solvency gate. Defence: every proof must
    arrive at the header's sums exactly; no leaf of such a tree is worth anything."""
    world = shared(evm)
    world.deposit(owner(3), 1_000_000)
    tree = world.tree([*world.trees[1].leaves.values(), Leaf(3, THIEF, (0,), (DEPOSIT,))])
    root = tree.root()
    header = world.header(Node(root.hash, (2 * DEPOSIT,)))
    world.post(header)
    world.pass_window()
    for index in (1, 2, 3):
        with refused("SumMismatch"):
            world.send("claim", *Proof(header.encode(), tree.leaves[index], tree.path(index)).arguments())


def test_a_negative_leaf_cannot_make_room(evm: Chain) -> None:
    """Netting a theft against a wrapped-around sibling. Defence: sums are unsigned, and every addition on a path
    is checked against 128 bits."""
    world = shared(evm)
    # Bob's place says minus DEPOSIT modulo 2^128, and the node above what would come out modulo 2^128.
    lies: dict[tuple[int, int], tuple[int, ...]] = {(0, 2): ((1 << 128) - DEPOSIT,), (1, 1): (DEPOSIT,)}
    leaves = [Leaf(1, ALICE, (DEPOSIT,), (0,)), Leaf(2, BOB, (DEPOSIT,), (0,)), Leaf(3, THIEF, (0,), (2 * DEPOSIT,))]
    tree = Tree(world.domain, 1, leaves, lies)
    header = world.header(Node(tree.root().hash, (2 * DEPOSIT,)))
    world.post(header)
    world.pass_window()
    with refused("SumOverflow"):
        world.send("claim", *Proof(header.encode(), tree.leaves[3], tree.path(3)).arguments())


def test_double_exit(evm: Chain) -> None:
    """Escape twice, through another leaf of the same owner, with a claim before, between and after. Defence: the
    nullifier and the counters are the owner's, not the leaf's."""
    world = World.create(evm)
    world.deposit(ALICE, DEPOSIT)
    world.deposit(BOB, DEPOSIT)
    twice = [Leaf(1, ALICE, (DEPOSIT - 5,), (5,)), Leaf(2, ALICE, (DEPOSIT,), (0,))]
    world.close_epoch(twice)
    world.pass_window()
    world.claim(1, 1)
    world.freeze()
    world.escape(1, 1)
    for index in (1, 2):
        with refused("AlreadyEscaped"):
            world.escape(1, index)
        with refused("NothingToClaim"):
            world.claim(1, index)
    assert world.balance(ALICE) == DEPOSIT


def test_an_escape_cannot_be_followed_by_claims_on_older_headers(evm: Chain) -> None:
    """Defence: an escape raises the counter to exit + withdraw_ack, above every acknowledgement before."""
    world = World.create(evm)
    world.deposit(ALICE, DEPOSIT)
    for acknowledged in (10, 20, 30):
        world.close_epoch([Leaf(1, ALICE, (DEPOSIT - acknowledged,), (acknowledged,))])
        world.pass_window()
    world.freeze()
    world.escape(3, 1)
    for epoch in (1, 2, 3):
        with refused("NothingToClaim"):
            world.claim(epoch, 1)
    assert (world.balance(ALICE), world.view("holdings", 0)) == (DEPOSIT, 0)


def test_nobody_takes_anothers_place(evm: Chain) -> None:
    """A thief escapes first with a victim's proof. Defence: whoever submits, the leaf's owner is paid."""
    world = shared(evm)
    world.freeze()
    arguments = world.proof(1, 1).arguments()
    forged = replace(world.proof(1, 1), leaf=replace(world.trees[1].leaves[1], owner=THIEF)).arguments()
    with refused("RootMismatch"):
        world.send("escape", *forged, sender=6)
    world.send("escape", *arguments, sender=6)
    assert world.balance(ALICE) == DEPOSIT
    everyone_leaves_but_alice(world)


def everyone_leaves_but_alice(world: World) -> None:
    world.escape(1, 2)
    assert (world.balance(BOB), world.balance(world.vault)) == (DEPOSIT, 0)


def test_the_treasury_is_paid_like_anyone(evm: Chain) -> None:
    """There is no other way out for the house: no sweep of what remains, of donations or of stray tokens."""
    world = shared(evm)
    evm.send(TOKEN, world.tokens[0], "transfer", world.vault, 777)
    world.freeze()
    everyone_leaves(world)
    assert (world.balance(TREASURY), world.balance(world.vault)) == (0, 777)


def two_chains(one: Chain, other: Chain) -> tuple[World, World]:
    """The same vault address under two chain ids, with the same deposits and the same attestors."""
    worlds = World.create(one, attestors=3, threshold=2), World.create(other, attestors=3, threshold=2)
    assert worlds[0].vault == worlds[1].vault and one.chain_id != other.chain_id
    for world in worlds:
        world.deposit(ALICE, DEPOSIT)
    return worlds


def test_replay_across_chains(embedded_evm: Chain, other_chain: Chain) -> None:
    """One vault address on two chains: headers, signatures, attestations, proofs and vouchers of one on the other.
    Defence: chain id and vault are in the tree's domain and in every signature's domain."""
    with other_chain.sandbox():
        here, there = two_chains(embedded_evm, other_chain)
        here.close_epoch([Leaf(1, ALICE, (0,), (DEPOSIT,))])
        with refused("WrongDomain"):
            there.send("postEpoch", *here.posting(here.headers[1]))
        header = there.header(there.tree([]).root())
        hashed, chain_id = header.hash(), embedded_evm.chain_id
        right, wrong = there.posting(header), list(there.posting(header))
        wrong[3] = sign_epoch(OPERATOR, hashed, chain_id, there.vault)
        with refused("InvalidOperatorSignature"):
            there.send("postEpoch", *wrong)
        wrong = list(right)
        wrong[4] = [sign_attestation(one, hashed, chain_id, there.vault) for one in ATTESTORS[:2]]
        with refused("InvalidAttestation"):
            there.send("postEpoch", *wrong)
        there.send("postEpoch", *right)
        here.pass_window()
        here.claim(1, 1)
        there.pass_window()
        foreign = here.proof(1, 1)
        with refused("UnknownHeader"):
            there.send("claim", *foreign.arguments())
        with refused("RootMismatch"):
            there.send("claim", *replace(foreign, header=header.encode()).arguments())
        there.send("fundFloat", 0, DEPOSIT)
        here.send("fundFloat", 0, DEPOSIT)
        voucher = here.voucher(member(1), 5)
        with refused("WrongVoucherDomain"):
            there.redeem(voucher, member(1))


def test_one_vault_frozen_while_the_other_lives(embedded_evm: Chain, other_chain: Chain) -> None:
    """Two chains of one clearinghouse: an escape on the one takes nothing from the other, whose epochs go on
    and name the frozen one's last header. Defence: money, headers and nullifiers are each vault's own."""
    with other_chain.sandbox():
        dead, alive = two_chains(embedded_evm, other_chain)
        for world in (dead, alive):
            world.close_epoch([Leaf(1, ALICE, (DEPOSIT,), (0,))])
            world.pass_window()
        dead.freeze()
        dead.escape(1, 1)
        assert (dead.balance(ALICE), alive.balance(ALICE)) == (DEPOSIT, 0)
        # What was paid there is debited here by the clearinghouse; the vault's part is to go on.
        tree = alive.tree([Leaf(1, ALICE, (0,), (DEPOSIT,))])
        header = alive.header(tree.root()).but(peers_hash=dead.headers[1].hash())
        alive.post(header)
        alive.trees[2] = tree
        alive.pass_window()
        alive.claim(2, 1)
        assert (alive.view("frozen"), alive.balance(ALICE)) == (False, DEPOSIT)
        with refused("NotFrozen"):
            alive.escape(2, 1)


def test_replay_between_vaults_of_one_chain(evm: Chain) -> None:
    """Two vaults over one token: a header and a claim of the one on the other."""
    world = shared(evm)
    twin = World.create(evm, tokens=world.tokens)
    for who in (ALICE, BOB):
        twin.deposit(who, DEPOSIT)
    with refused("WrongDomain"):
        twin.post(world.headers[1])
    twin.close_epoch(list(world.trees[1].leaves.values()))
    twin.pass_window()
    twin.freeze()
    with refused("NotEscapeHeader"):
        twin.send("escape", *world.proof(1, 1).arguments())
    with refused("RootMismatch"):
        twin.send("escape", *replace(world.proof(1, 1), header=twin.headers[1].encode()).arguments())
    twin.escape(1, 1)
    assert world.view("holdings", 0) == 2 * DEPOSIT


def test_stopping_the_attestors_stops_and_does_not_take(evm: Chain) -> None:
    """Fewer than k attestors left: no header can be posted, so the vault freezes and everyone is paid."""
    world = shared(evm, attestors=3, threshold=2)
    header = world.header(world.tree(stolen()).root())
    with refused("TooFewAttestations"):
        world.post(header, signers=world.attestors[:1])
    world.freeze()
    everyone_leaves(world)


def test_a_window_cannot_be_skipped_by_freezing_and_waiting(evm: Chain) -> None:
    """A header in its window at the freeze never becomes final, also not while a veto on it would have lapsed."""
    world = shared(evm, attestors=3, threshold=2)
    late = world.deposit(owner(3), DEPOSIT)
    evm.backend.mine_at(late.l1_time + DEADLINE_S - SECONDING_S)
    epoch = world.close_epoch(stolen(), consumed=2)
    world.veto(epoch, 0)
    evm.backend.mine_at(late.l1_time + DEADLINE_S)
    world.send("freeze")
    evm.advance(WINDOW_S + SECONDING_S)
    world.send("settleVeto", epoch)
    with refused("HeaderNotFinal"):
        world.claim(epoch, 3)
    assert world.view("escapeEpoch") == 1
    everyone_leaves(world)
