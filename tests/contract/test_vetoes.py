# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestors' objections: what one can delay, what enough can stop, and what nobody can undo."""

import pytest

from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf
from tests.contract.world import DEADLINE_S, SECONDING_S, TREASURY, VAULT, VETO_BOND, WINDOW_S, World, owner

DEPOSIT = 50_000_000
ALICE, THIEF = owner(1), owner(66)
OPEN, UPHELD, FAILED = 1, 2, 3


def watched(chain: Chain, attestors: int = 3, threshold: int = 2) -> World:
    """One final honest epoch, and a second one in its window that gives everything to a thief."""
    world = World.create(chain, attestors=attestors, threshold=threshold)
    world.deposit(ALICE, DEPOSIT)
    world.close_epoch([Leaf(1, ALICE, (DEPOSIT,), (0,))])
    world.pass_window()
    world.close_epoch([Leaf(1, ALICE, (0,), (0,)), Leaf(2, THIEF, (0,), (DEPOSIT,))])
    return world


def test_a_seconded_veto_voids_the_header_for_good(evm: Chain) -> None:
    """Theft root stopped by attestors. Defence: n - k + 1 objections freeze on the header before, and the bond
    comes back."""
    world = watched(evm)
    (opened,) = events(world.veto(2, 0), VAULT, "VetoOpened")
    assert (opened["epoch"], opened["headerHash"]) == (2, world.headers[2].hash())
    assert world.view("vetoOf", 2)[2:] == (1, OPEN)
    receipt = world.second(2, 1)
    (frozen,) = events(receipt, VAULT, "Frozen")
    assert frozen == {"epoch": 1, "headerHash": world.headers[1].hash(), "reason": 2}
    assert [event["count"] for event in events(receipt, VAULT, "VetoSeconded")] == [2]
    assert world.view("vetoOf", 2)[2:] == (2, UPHELD)
    assert (world.view("freezeReason"), world.view("escapeEpoch")) == (2, 1)
    evm.advance(WINDOW_S + SECONDING_S)
    with refused("HeaderNotFinal"):
        world.claim(2, 2)
    with refused("NotEscapeHeader"):
        world.escape(2, 2)
    world.escape(1, 1)
    assert world.balance(ALICE) == DEPOSIT
    objector = world.setup.attestors[0]
    assert world.view("ethCredit", objector) == VETO_BOND
    before = evm.balance(objector)
    world.send("withdrawEth", objector)
    assert evm.balance(objector) == before + VETO_BOND


def test_a_standing_veto_holds_the_header_and_all_after_it(evm: Chain) -> None:
    """No later header may become final over one that is doubted. Defence: the first held epoch bounds what is
    usable."""
    world = watched(evm)
    evm.advance(WINDOW_S - 120)
    world.veto(2, 0)
    world.close_epoch(list(world.trees[2].leaves.values()))
    until = evm.now() + SECONDING_S
    assert abs(world.view("finalAt", 2) - until) <= 2
    evm.advance(SECONDING_S - 120)
    assert world.view("finalisedEpoch") == 1
    with refused("HeaderNotFinal"):
        world.claim(2, 2)
    evm.backend.mine_at(world.view("finalAt", 2))
    assert world.view("finalisedEpoch") == 2
    with refused("HeaderNotFinal"):
        world.claim(3, 2)
    evm.backend.mine_at(world.view("finalAt", 3))
    world.claim(3, 2)


def test_a_veto_that_holds_at_a_deadline_freezes_before_the_header(evm: Chain) -> None:
    """A freeze while a veto stands takes the header before it, even when the window is over meanwhile."""
    world = World.create(evm, attestors=3, threshold=2, deadline_s=WINDOW_S + SECONDING_S)
    world.deposit(ALICE, DEPOSIT)
    world.close_epoch([Leaf(1, ALICE, (DEPOSIT,), (0,))])
    world.pass_window()
    message = world.deposit(ALICE, DEPOSIT)
    evm.backend.mine_at(message.l1_time + 1_000)
    world.close_epoch([Leaf(2, THIEF, (DEPOSIT,), (0,))], consumed=1)
    evm.backend.mine_at(world.view("headerTime", 2) + WINDOW_S - 60)
    world.veto(2, 0)
    evm.backend.mine_at(message.l1_time + WINDOW_S + SECONDING_S)
    assert world.view("headerTime", 2) + WINDOW_S < evm.now() < world.view("finalAt", 2)
    world.send("freeze")
    assert world.view("escapeEpoch") == 1
    evm.advance(SECONDING_S)
    with refused("HeaderNotFinal"):
        world.claim(2, 2)
    world.escape(1, 1)
    world.refund(message)
    assert world.balance(ALICE) == 2 * DEPOSIT


def test_a_griefing_veto_costs_its_bond_and_changes_nothing(evm: Chain) -> None:
    """One attestor against an honest header. Defence: unseconded in time the veto lapses by itself, the bond is
    the treasury's, and the same attestor cannot object to the same header again."""
    world = watched(evm)
    world.veto(2, 0)
    with refused("SecondingNotOver"):
        world.send("settleVeto", 2)
    evm.advance(SECONDING_S)
    with refused("AlreadyObjected"):
        world.veto(2, 0)
    (failed,) = events(world.send("settleVeto", 2), VAULT, "VetoFailed")
    assert failed == {"epoch": 2, "attestor": world.setup.attestors[0]}
    assert world.view("vetoOf", 2)[2:] == (1, FAILED)
    assert world.view("ethCredit", TREASURY) == VETO_BOND
    assert world.view("ethCredit", world.setup.attestors[0]) == 0
    with refused("NoStandingVeto"):
        world.send("settleVeto", 2)
    with refused("AlreadyObjected"):
        world.veto(2, 0)
    evm.backend.mine_at(world.view("headerTime", 2) + WINDOW_S)
    world.claim(2, 2)


def test_an_unsettled_veto_holds_nothing_once_it_lapsed(evm: Chain) -> None:
    """Nobody has to send a transaction for the header to go on."""
    world = watched(evm)
    world.veto(2, 0)
    evm.advance(WINDOW_S)
    world.claim(2, 2)
    assert world.balance(THIEF) == DEPOSIT


@pytest.mark.parametrize(("attestors", "threshold", "needed"), [(3, 2, 2), (5, 3, 3), (4, 4, 1), (5, 1, 5)])
def test_fewer_than_the_quorum_void_nothing(evm: Chain, attestors: int, threshold: int, needed: int) -> None:
    """n - k + 1 are needed: so many that the others could not have signed by themselves."""
    world = watched(evm, attestors, threshold)
    assert world.view("vetoQuorum") == needed
    for number in range(needed):
        assert world.view("frozen") is False
        world.second(2, number) if number else world.veto(2, number)
    assert world.view("frozen") is True


def test_two_attestors_cannot_undo_their_losses(evm: Chain) -> None:
    """Two of five lost money in an honest epoch and object together. Defence: two are fewer than n - k + 1 = 3;
    after the window there is no veto at all, however many they are."""
    world = watched(evm, 5, 3)
    world.veto(2, 0)
    world.second(2, 1)
    evm.advance(WINDOW_S)
    assert (world.view("frozen"), world.view("finalisedEpoch")) == (False, 2)
    for number in (2, 3, 4):
        with refused("WindowOver"):
            world.veto(2, number)
        with refused("NoStandingVeto"):
            world.second(2, number)
    world.claim(2, 2)


def test_objections_add_up_and_nobody_counts_twice(evm: Chain) -> None:
    """A second veto inside the window goes on where the first one lapsed."""
    world = watched(evm, 5, 3)
    world.veto(2, 0)
    with refused("AlreadyObjected"):
        world.second(2, 0)
    world.second(2, 1)
    evm.advance(SECONDING_S)
    with refused("NoStandingVeto"):
        world.second(2, 2)
    world.veto(2, 2)
    assert world.view("freezeReason") == 2
    assert world.view("ethCredit", TREASURY) == VETO_BOND
    assert world.view("ethCredit", world.setup.attestors[2]) == VETO_BOND


def test_what_is_no_veto_is_refused_by_name(evm: Chain) -> None:
    world = watched(evm)
    hashes = world.headers[2].hash(), bytes(32)
    attestor = evm.adopt(world.attestors[0])

    def veto(epoch: int, hash_: bytes, bond: int = VETO_BOND, sender: int | str = attestor) -> None:
        world.send("veto", epoch, hash_, bytes(32), sender=sender, value=bond)

    with refused("NotAttestor"):
        veto(2, hashes[0], sender=3)
    with refused("NotAttestor"):
        world.send("second", 2, hashes[0], sender=3)
    with refused("WrongBond"):
        veto(2, hashes[0], VETO_BOND - 1)
    with refused("WrongBond"):
        veto(2, hashes[0], VETO_BOND + 1)
    with refused("UnknownHeader"):
        veto(2, world.headers[1].hash())
    with refused("UnknownHeader"):
        veto(3, hashes[1])
    with refused("WindowOver"):
        veto(1, world.headers[1].hash())
    veto(2, hashes[0])
    with refused("VetoStanding"):
        world.veto(2, 1)
    world.close_epoch(list(world.trees[2].leaves.values()))
    with refused("VetoUnsettled"):
        veto(3, world.headers[3].hash())
    with refused("UnknownHeader"):
        world.send("second", 2, hashes[1], sender=evm.adopt(world.attestors[1]))


def test_other_vetoes_end_with_the_freeze_and_give_their_bonds_back(evm: Chain) -> None:
    """A freeze for another reason voids open vetoes: whoever objected was not wrong."""
    world = watched(evm, 5, 3)
    world.close_epoch(list(world.trees[2].leaves.values()))
    world.veto(3, 0)
    world.veto(2, 1)
    world.second(2, 2)
    world.second(2, 3)
    assert world.view("escapeEpoch") == 1
    for number, function in ((4, "veto"), (4, "second")):
        with refused("VaultFrozen"):
            getattr(world, function)(3, number)
    world.send("settleVeto", 3)
    assert world.view("ethCredit", world.setup.attestors[0]) == VETO_BOND
    assert world.view("ethCredit", world.setup.attestors[1]) == VETO_BOND
    assert world.view("ethCredit", TREASURY) == 0


def test_vetoes_cannot_stop_an_operator_who_goes_on(evm: Chain) -> None:
    """A griefer with a bond for every epoch delays each by the seconding time and no more; the clock of the
    deadline is the header's and never stands still."""
    world = watched(evm)
    for epoch in range(2, 5):
        evm.backend.mine_at(world.view("headerTime", epoch) + WINDOW_S - 60)
        if epoch > 2:
            world.send("settleVeto", epoch - 1)
        world.veto(epoch, 0)
        evm.backend.mine_at(world.view("finalAt", epoch))
        assert world.view("finalisedEpoch") == epoch
        assert evm.now() <= world.view("headerTime", epoch) + WINDOW_S + SECONDING_S
        world.close_epoch(list(world.trees[2].leaves.values()))
    assert world.view("freezeAt") >= world.view("headerTime", 5) + DEADLINE_S - 1
    assert world.view("ethCredit", TREASURY) == 2 * VETO_BOND
