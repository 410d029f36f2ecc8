# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator signed convicts it: provable faults, slashing, and that nobody honest can be framed."""

from typing import Any

import pytest
from eth_keys.datatypes import PrivateKey

from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Header, Leaf, Node, Tree, entry, journal_path, journal_root
from tests.contract.signing import OPERATOR, STRANGER, address_of, sign_checkpoint, sign_epoch
from tests.contract.world import DEADLINE_S, DEPLOYMENT, TREASURY, VAULT, VETO_BOND, World, owner

DEPOSIT = 50_000_000
BOND = 10**15 + 1
BURNED = "0x" + "00" * 18 + "dead"
REPORTER = 6
NO_DISAGREEMENT: tuple[Any, ...] = (0, bytes(32), [], bytes(32), [])
FAULT = 3
KINDS = {"equivocation": 1, "header conflict": 2, "double header": 3, "false sum": 4, "receipt violation": 5}


def bonded(chain: Chain) -> World:
    """An honest epoch is final, a second one is in its window, and the operator's bond stands."""
    world = World.create(chain)
    world.send("postBond", value=BOND)
    world.deposit(owner(1), DEPOSIT)
    leaves = [Leaf(1, owner(1), (DEPOSIT,), (0,))]
    world.close_epoch(leaves)
    world.pass_window()
    world.close_epoch(leaves)
    return world


def lie(world: World, size: int, index: int) -> list[bytes]:
    """A journal in which one entry is another."""
    entries = list(world.entries(size))
    entries[index] = entry(b"rewritten")
    return entries


def signed(entries: list[bytes], key: PrivateKey = OPERATOR, deployment: bytes = DEPLOYMENT) -> tuple[Any, bytes]:
    root = journal_root(entries)
    return (len(entries), root), sign_checkpoint(key, deployment, len(entries), root)


def disagreement(index: int, one: list[bytes], other: list[bytes]) -> tuple[Any, ...]:
    return index, one[index], journal_path(index, one), other[index], journal_path(index, other)


def convicted(world: World, kind: str, receipt: Any) -> None:
    """Frozen on the last final header, the bond gone: half to the reporter, half burned."""
    reporter = world.chain.accounts[REPORTER]
    assert events(receipt, VAULT, "FaultProven") == [{"kind": KINDS[kind], "reporter": reporter}]
    assert (world.view("freezeReason"), world.view("faultProven"), world.view("operatorBond")) == (FAULT, True, 0)
    assert world.view("escapeEpoch") == 1
    assert world.view("ethCredit", reporter) == BOND // 2
    assert world.view("ethCredit", BURNED) == BOND - BOND // 2
    before = world.chain.balance(reporter)
    world.send("withdrawEth", reporter)
    assert world.chain.balance(reporter) == before + BOND // 2
    with refused("NoEther"):
        world.send("withdrawEth", reporter)
    world.escape(1, 1)
    assert world.balance(owner(1)) == DEPOSIT


def prove(world: World, function: str, *arguments: Any) -> Any:
    return world.send(function, *arguments, sender=REPORTER)


def test_two_roots_of_one_size(evm: Chain) -> None:
    """Equivocation, first kind: two checkpoints of the same size. Their signatures suffice."""
    world = bonded(evm)
    a, b = signed(world.entries(9)), signed(lie(world, 9, 2))
    convicted(world, "equivocation", prove(world, "proveEquivocation", *a, *b, NO_DISAGREEMENT))


@pytest.mark.parametrize(("small", "large", "index"), [(5, 8, 3), (8, 13, 7), (1, 20, 0)])
def test_one_index_with_two_leaves(evm: Chain, small: int, large: int, index: int) -> None:
    """Equivocation, second kind: checkpoints of different sizes, and an entry that each has in its own way."""
    world = bonded(evm)
    honest, other = world.entries(small), lie(world, large, index)
    proof = disagreement(index, honest, other)
    convicted(world, "equivocation", prove(world, "proveEquivocation", *signed(honest), *signed(other), proof))


def test_an_honest_journal_convicts_nobody(evm: Chain) -> None:
    """Framing: prefixes of one journal, the same checkpoint twice, leaves with false paths, checkpoints of a
    stranger or of another deployment. Defence: each is held against the roots and the key."""
    world = bonded(evm)
    small, large = world.entries(5), world.entries(8)
    wrong = lie(world, 8, 3)
    for proof in (
        (*signed(small), *signed(large), disagreement(3, small, large)),
        (*signed(small), *signed(small), NO_DISAGREEMENT),
        (*signed(small), *signed(large), disagreement(3, small, wrong)),
        (*signed(small), *signed(large), (3, small[3], journal_path(3, small), large[4], journal_path(4, large))),
        (*signed(small), *signed(large), (6, large[6], journal_path(6, large), wrong[6], journal_path(6, wrong))),
    ):
        with refused("NoFault"):
            prove(world, "proveEquivocation", *proof)
    for other in (signed(wrong, STRANGER), signed(wrong, OPERATOR, b"\x01" * 32)):
        with refused("InvalidCheckpointSignature"):
            prove(world, "proveEquivocation", *signed(large), *other, NO_DISAGREEMENT)
        with refused("InvalidCheckpointSignature"):
            prove(world, "proveEquivocation", *other, *signed(large), NO_DISAGREEMENT)
    assert (world.view("frozen"), world.view("operatorBond")) == (False, BOND)


def test_a_rotated_key_still_binds(evm: Chain) -> None:
    """The operator signs two journals and hands over. Defence: what a key signed binds for good."""
    world = bonded(evm)
    world.send("rotateOperator", address_of(STRANGER), sender=evm.adopt(OPERATOR))
    a, b = signed(world.entries(9)), signed(lie(world, 9, 2), STRANGER)
    convicted(world, "equivocation", prove(world, "proveEquivocation", *a, *b, NO_DISAGREEMENT))


def test_one_deployment_one_fault_every_vault(evm: Chain, other_chain: Chain) -> None:
    """Checkpoints bind the deployment and no chain: the same two convict the operator on each vault."""
    with other_chain.sandbox():
        for world in (bonded(evm), bonded(other_chain)):
            proof = (*signed(world.entries(9)), *signed(lie(world, 9, 2)), NO_DISAGREEMENT)
            convicted(world, "equivocation", prove(world, "proveEquivocation", *proof))


@pytest.mark.parametrize("size", [20, 26, 14])
def test_a_posted_header_against_a_signed_checkpoint(evm: Chain, size: int) -> None:
    """Header conflict: the operator showed its members another journal than it posted, of the same size (20),
    a larger or a smaller one."""
    world = bonded(evm)
    posted, shown = world.entries(20), lie(world, size, 11)
    header = world.headers[2].encode()
    proof = NO_DISAGREEMENT if size == 20 else disagreement(11, posted, shown)
    convicted(world, "header conflict", prove(world, "proveHeaderConflict", header, *signed(shown), proof))


def test_header_conflicts_need_a_posted_header_and_a_conflict(evm: Chain) -> None:
    world = bonded(evm)
    header = world.headers[2]
    with refused("NoFault"):
        prove(world, "proveHeaderConflict", header.encode(), *signed(world.entries(20)), NO_DISAGREEMENT)
    unposted = header.but(journal_root=bytes(32)).encode()
    for name in (unposted, b"", header.encode()[:100]):
        with refused("UnknownHeader"):
            prove(world, "proveHeaderConflict", name, *signed(world.entries(20)), NO_DISAGREEMENT)
    with refused("InvalidCheckpointSignature"):
        shown = signed(lie(world, 20, 3), STRANGER)
        prove(world, "proveHeaderConflict", header.encode(), *shown, NO_DISAGREEMENT)


def signatures(world: World, *headers: Header, key: PrivateKey = OPERATOR) -> list[bytes]:
    place = (world.chain.chain_id, world.vault)
    return [part for h in headers for part in (h.encode(), sign_epoch(key, h.hash(), *place))]


def test_two_headers_for_one_epoch(evm: Chain) -> None:
    """The operator signs two versions of an epoch, to post whichever suits it. Neither needs to be posted."""
    world = bonded(evm)
    next_header = world.header(world.trees[1].root())
    for first in (next_header, world.headers[2]):
        with evm.sandbox():
            pair = signatures(world, first, first.but(state_root=bytes(32)))
            convicted(world, "double header", prove(world, "proveDoubleHeader", *pair))


def test_rotating_away_does_not_undo_two_headers(evm: Chain) -> None:
    """Sign twice, hand over, and let the new operator be asked. Defence: every operator's ever is looked for."""
    world = bonded(evm)
    pair = signatures(world, world.headers[2], world.headers[2].but(state_root=bytes(32)))
    world.send("rotateOperator", address_of(STRANGER), sender=evm.adopt(OPERATOR))
    convicted(world, "double header", prove(world, "proveDoubleHeader", *pair))


def test_two_headers_that_are_no_fault(evm: Chain) -> None:
    """The same header twice, two epochs, two vaults, or a header that a stranger signed."""
    world = bonded(evm)
    a, b = world.headers[1], world.headers[2]
    foreign = b.but(domain=bytes(32))
    for pair in ((a, a), (a, b), (b, foreign), (foreign, foreign.but(state_root=bytes(32)))):
        with refused("NoFault"):
            prove(world, "proveDoubleHeader", *signatures(world, *pair))
    other = b.but(state_root=bytes(32))
    mine, theirs = signatures(world, b), signatures(world, other, key=STRANGER)
    for proof in ((*mine, *theirs), (*theirs, *mine)):
        with refused("InvalidOperatorSignature"):
            prove(world, "proveDoubleHeader", *proof)
    with refused("MalformedHeader"):
        prove(world, "proveDoubleHeader", b"", mine[1], *mine)
    assert world.view("frozen") is False


def lying(world: World, level: int) -> Tree:
    """A tree that hides half of what the thief's leaf takes, at one node; posted as epoch 3."""
    leaves = [Leaf(1, owner(1), (DEPOSIT,), (0,)), Leaf(9, owner(66), (DEPOSIT,), (0,))]
    honest = world.tree(leaves)
    node = honest.node(level, 9 >> level)
    tree = Tree(world.domain, 1, leaves, {(level, 9 >> level): (node.sums[0] - DEPOSIT,)})
    root = tree.root()
    world.post(world.header(Node(root.hash, root.sums)))
    return tree


@pytest.mark.parametrize("level", [1, 2, 10, 19, 20])
def test_a_false_sum_convicts_at_any_level(evm: Chain, level: int) -> None:
    """A node that claims less than its children have would hide a theft from the solvency gate. Defence: its
    children are in its hash and its sums in its parent's (or the header's), so that both can be shown."""
    world = bonded(evm)
    tree = lying(world, level)
    proof = tree.false_sum(level, 9 >> level)
    receipt = prove(world, "proveFalseSum", world.headers[3].encode(), proof)
    convicted(world, "false sum", receipt)


def test_true_sums_convict_nobody(evm: Chain) -> None:
    """Every node of an honest tree, and nodes of a lying one beside the lie; and only of posted headers."""
    world = bonded(evm)
    honest = world.trees[2]
    for level in (1, 7, 20):
        with refused("NoFault"):
            prove(world, "proveFalseSum", world.headers[2].encode(), honest.false_sum(level, 1 >> level))
    foreign = world.tree([Leaf(1, owner(1), (1,), (0,))])
    with refused("NoFault"):
        prove(world, "proveFalseSum", world.headers[2].encode(), foreign.false_sum(1, 0))
    with refused("UnknownHeader"):
        prove(world, "proveFalseSum", world.headers[2].but(epoch=3).encode(), honest.false_sum(1, 0))
    with refused("MalformedProof"):
        prove(world, "proveFalseSum", world.headers[2].encode(), (*honest.false_sum(1, 0)[:4], 21, 0, [], [], []))
    tree = lying(world, 2)
    for level, place in ((1, 4), (3, 1), (1, 0)):
        with refused("NoFault"):
            prove(world, "proveFalseSum", world.headers[3].encode(), tree.false_sum(level, place))


def test_the_conviction_lasts(evm: Chain) -> None:
    """After a fault nothing is posted, and what is left of a bond stays."""
    world = bonded(evm)
    proof = (*signed(world.entries(9)), *signed(lie(world, 9, 2)), NO_DISAGREEMENT)
    prove(world, "proveEquivocation", *proof)
    with refused("VaultFrozen"):
        world.post(world.header(world.trees[1].root()))
    world.send("postBond", value=500)
    evm.advance(2 * DEADLINE_S)
    operator = evm.adopt(OPERATOR)
    with refused("BondLocked"):
        world.send("withdrawBond", sender=operator)
    prove(world, "proveEquivocation", *proof)
    assert world.view("operatorBond") == 0


def test_a_fault_after_a_freeze_still_slashes(evm: Chain) -> None:
    """The bond outlives the freeze by a deadline, so that what comes to light then is paid for; the escape
    header stays as it is."""
    world = bonded(evm)
    world.freeze()
    epoch = world.view("escapeEpoch")
    operator = evm.adopt(OPERATOR)
    with refused("BondLocked"):
        world.send("withdrawBond", sender=operator)
    proof = (*signed(world.entries(9)), *signed(lie(world, 9, 2)), NO_DISAGREEMENT)
    prove(world, "proveEquivocation", *proof)
    assert (world.view("freezeReason"), world.view("escapeEpoch"), world.view("operatorBond")) == (1, epoch, 0)
    evm.advance(DEADLINE_S)
    with refused("BondLocked"):
        world.send("withdrawBond", sender=operator)


def test_the_bond_of_an_honest_operator_comes_back_late(evm: Chain) -> None:
    """Only after a freeze without fault, a deadline later, to the operator alone. Defence: BondLocked."""
    world = bonded(evm)
    operator = evm.adopt(OPERATOR)
    with refused("BondLocked"):
        world.send("withdrawBond", sender=operator)
    world.freeze()
    evm.advance(DEADLINE_S - 60)
    with refused("BondLocked"):
        world.send("withdrawBond", sender=operator)
    evm.advance(60)
    with refused("NotOperator"):
        world.send("withdrawBond", sender=3)
    world.send("withdrawBond", sender=operator)
    assert world.view("ethCredit", address_of(OPERATOR)) == BOND


def test_ether_that_is_refused_stays(evm: Chain) -> None:
    """A receiver that takes no ether blocks nobody else. The bond of an operator that is a contract without
    receive is such."""
    token = World.create(evm).tokens[0]
    world = World.create(evm, tokens=[token], treasury=token, attestors=3, threshold=2)
    world.post(world.header(world.tree([]).root()))
    world.veto(1, 0)
    evm.advance(world.setup.seconding_s)
    world.send("settleVeto", 1)
    with refused("EtherRefused"):
        world.send("withdrawEth", token)
    assert world.view("ethCredit", token) == VETO_BOND


def challenged(world: World, index: int = 21) -> int:
    """A member has a receipt for an entry that no posted journal holds yet, and asks for it."""
    shown = world.entries(24)
    arguments = (*signed(shown), index, shown[index], journal_path(index, shown))
    receipt = world.send("challengeReceipt", *arguments, sender=REPORTER, value=VETO_BOND)
    (event,) = events(receipt, VAULT, "ReceiptChallenged")
    assert event["deadline"] == world.chain.now() + DEADLINE_S
    return int(event["id"])


def test_a_challenge_that_is_answered_costs_its_bond(evm: Chain) -> None:
    """Griefing by challenges is paid for, and the operator goes on: anyone may answer with the next header."""
    world = bonded(evm)
    number = challenged(world)
    world.post(world.header(world.trees[1].root()))
    answer = (world.headers[3].encode(), journal_path(21, world.entries(30)))
    world.send("answerReceipt", number, *answer, sender=4)
    assert (world.view("ethCredit", TREASURY), world.view("frozen")) == (VETO_BOND, False)
    for again in (
        lambda: world.send("answerReceipt", number, *answer),
        lambda: prove(world, "proveUnanswered", number),
    ):
        with refused("NoChallenge"):
            again()


def test_a_challenge_that_is_not_answered_convicts(evm: Chain) -> None:
    """Receipt violation: the operator drops an entry it gave a receipt for, and posts around it. Defence: a
    posted journal must hold it at its index by the deadline; another entry there is no answer."""
    world = bonded(evm)
    number = challenged(world)
    dropped = [*world.entries(21), entry(b"instead"), *world.entries(30)[22:]]
    header = world.header(world.trees[1].root()).but(journal_root=journal_root(dropped))
    world.journal[:] = dropped
    world.post(header)
    for path in (journal_path(21, dropped), []):
        with refused("NotIncluded"):
            world.send("answerReceipt", number, header.encode(), path)
    with refused("UnknownHeader"):
        world.send("answerReceipt", number, header.but(epoch=9).encode(), [])
    with refused("AnswerNotDue"):
        prove(world, "proveUnanswered", number)
    reporter = evm.accounts[REPORTER]
    evm.backend.mine_at(world.view("challengeOf", number)[1])
    assert world.view("frozen") is False
    receipt = prove(world, "proveUnanswered", number)
    assert events(receipt, VAULT, "FaultProven") == [{"kind": KINDS["receipt violation"], "reporter": reporter}]
    assert (world.view("freezeReason"), world.view("operatorBond")) == (FAULT, 0)
    assert world.view("ethCredit", reporter) == VETO_BOND + BOND // 2


def test_challenges_need_a_receipt_and_a_bond(evm: Chain) -> None:
    """An entry that was never signed for, a stranger's checkpoint, or the wrong bond."""
    world = bonded(evm)
    shown = world.entries(24)
    path = journal_path(21, shown)
    good = (*signed(shown), 21, shown[21], path)
    for bond in (0, VETO_BOND - 1, VETO_BOND + 1):
        with refused("WrongBond"):
            world.send("challengeReceipt", *good, value=bond)
    for error, bad in (
        ("NotIncluded", (*signed(shown), 21, entry(b"never"), path)),
        ("NotIncluded", (*signed(shown), 22, shown[21], path)),
        ("InvalidCheckpointSignature", (*signed(shown, STRANGER), 21, shown[21], path)),
    ):
        with refused(error):
            world.send("challengeReceipt", *bad, value=VETO_BOND)
    with refused("NoChallenge"):
        prove(world, "proveUnanswered", 1)


def test_a_challenge_that_a_freeze_overtook_gives_the_bond_back(evm: Chain) -> None:
    """The operator can no longer answer, so that it is no fault; the member was not wrong either."""
    world = bonded(evm)
    number = challenged(world)
    world.freeze()
    prove(world, "proveUnanswered", number)
    assert world.view("ethCredit", evm.accounts[REPORTER]) == VETO_BOND
    assert (world.view("faultProven"), world.view("operatorBond")) == (False, BOND)
    with refused("VaultFrozen"):
        challenged(world)
