# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaving without the operator: when a vault freezes, and what everyone gets."""

from dataclasses import replace

import pytest

from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf
from tests.contract.world import DEADLINE_S, MARGIN_S, TREASURY, VAULT, WINDOW_S, World, owner

DEPOSIT = 50_000_000
ACK = 7_000_000


def abandoned(chain: Chain) -> World:
    """A final epoch over three leaves, an unconsumed deposit of user 2, and then nothing any more."""
    world = World.create(chain)
    world.deposit(owner(1), DEPOSIT)
    world.deposit(owner(2), DEPOSIT)
    leaves = [
        Leaf(0, TREASURY, (3,), (0,)),
        Leaf(1, owner(1), (DEPOSIT - ACK + 10,), (ACK,)),
        Leaf(2, owner(2), (DEPOSIT - 13,), (0,)),
    ]
    world.close_epoch(leaves)
    world.deposit(owner(2), 1_234)
    world.deposit(owner(3), 2_000_000)
    return world


def test_nothing_can_be_escaped_or_refunded_before_a_freeze(chain: Chain) -> None:
    world = abandoned(chain)
    world.pass_window()
    with refused("NotFrozen"):
        world.escape(1, 1)
    with refused("NotFrozen"):
        world.refund(world.messages[2])
    assert world.view("frozen") is False
    assert world.view("escapeHeader") == bytes(32)


def test_a_freeze_before_the_deadline_is_refused(chain: Chain) -> None:
    """freezeAt is exact to the margin: a minute before it fails, at it it succeeds."""
    world = abandoned(chain)
    due = world.view("freezeAt")
    assert due == world.view("headerTime", 1) + DEADLINE_S
    with refused("DeadlineNotPassed"):
        world.send("freeze")
    chain.backend.mine_at(due - MARGIN_S)
    with refused("DeadlineNotPassed"):
        world.send("freeze")
    chain.backend.mine_at(due)
    (event,) = events(world.send("freeze"), VAULT, "Frozen")
    assert event == {"epoch": 1, "headerHash": world.headers[1].hash(), "reason": 1}
    assert world.view("freezeReason") == 1
    assert world.view("frozen") is True
    assert world.view("escapeHeader") == world.headers[1].hash()
    assert world.view("escapeInboxCount") == 2


def test_an_epoch_that_serves_the_inbox_defers_the_freeze(chain: Chain) -> None:
    """The oldest unconsumed message and the last epoch both count; serving both sets the clock back."""
    world = abandoned(chain)
    chain.advance(DEADLINE_S - 600)
    world.close_epoch(list(world.trees[1].leaves.values()), consumed=2)
    assert world.view("freezeAt") == world.messages[2].l1_time + DEADLINE_S
    world.close_epoch(list(world.trees[1].leaves.values()), consumed=3)
    assert world.view("freezeAt") == world.messages[3].l1_time + DEADLINE_S
    world.close_epoch(list(world.trees[1].leaves.values()))
    assert world.view("freezeAt") == world.view("headerTime", 4) + DEADLINE_S


def test_an_ignored_message_freezes_a_vault_whose_epochs_go_on(chain: Chain) -> None:
    """An operator cannot post epochs for ever while refusing one deposit."""
    world = abandoned(chain)
    leaves = list(world.trees[1].leaves.values())
    for _ in range(4):
        chain.advance(DEADLINE_S // 4)
        world.close_epoch(leaves, consumed=2)
    world.send("freeze")
    assert world.view("escapeEpoch") == 4


def test_a_vault_without_any_epoch_freezes_and_refunds_everyone(chain: Chain) -> None:
    """No header, no escape: every deposit is unconsumed and goes back."""
    world = World.create(chain)
    first = world.deposit(owner(1), DEPOSIT)
    second = world.deposit(owner(2), DEPOSIT)
    assert world.view("freezeAt") == world.view("deployedAt") + DEADLINE_S
    world.freeze()
    assert world.view("escapeEpoch") == 0
    world.refund(first)
    world.refund(second)
    assert (world.balance(owner(1)), world.balance(owner(2))) == (DEPOSIT, DEPOSIT)
    assert world.balance(world.vault) == world.view("holdings", 0) == 0


def test_a_frozen_vault_only_pays_out(chain: Chain) -> None:
    """A freeze is for good: no deposits, no epochs, no second freeze."""
    world = abandoned(chain)
    header = world.header(world.trees[1].root())
    world.freeze()
    with refused("VaultFrozen"):
        world.deposit(owner(1), DEPOSIT)
    with refused("VaultFrozen"):
        world.post(header)
    with refused("VaultFrozen"):
        world.send("freeze")


def test_everyone_leaves_and_nothing_remains(chain: Chain) -> None:
    """Escapes and refunds together pay out the vault to the last atom."""
    world = abandoned(chain)
    world.pass_window()
    world.claim(1, 1)
    world.freeze()
    (event,) = events(world.escape(1, 1), VAULT, "Escaped")
    assert event == {
        "owner": owner(1),
        "asset": 0,
        "amount": DEPOSIT - ACK + 10,
        "cumulative": DEPOSIT + 10,
    }
    world.escape(1, 2)
    world.escape(1, 0)
    (event,) = events(world.refund(world.messages[2]), VAULT, "Refunded")
    assert event == {"index": 2, "owner": owner(2), "asset": 0, "amount": 1_234}
    world.refund(world.messages[3])
    paid = [world.balance(who) for who in (TREASURY, owner(1), owner(2), owner(3))]
    assert paid == [3, DEPOSIT + 10, DEPOSIT - 13 + 1_234, 2_000_000]
    assert world.balance(world.vault) == world.view("holdings", 0) == 0


@pytest.mark.parametrize("index", [0, 1])
def test_a_double_escape_is_refused(chain: Chain, index: int) -> None:
    """Also for the treasury, and also when a claim came between."""
    world = abandoned(chain)
    world.freeze()
    world.escape(1, index)
    assert world.view("escaped", world.trees[1].leaves[index].owner) is True
    with refused("AlreadyEscaped"):
        world.escape(1, index)
    with refused("NothingToClaim"):
        world.claim(1, index)
    with refused("AlreadyEscaped"):
        world.escape(1, index)


def test_escape_pays_what_claims_left_in_either_order(chain: Chain) -> None:
    """exit + withdraw_ack - claimed: with the claim before, or without it."""
    totals = []
    for claim_first in (True, False):
        with chain.sandbox():
            world = abandoned(chain)
            world.pass_window()
            if claim_first:
                world.claim(1, 1)
            world.freeze()
            world.escape(1, 1)
            totals.append(world.balance(owner(1)))
    assert totals == [DEPOSIT + 10, DEPOSIT + 10]


def test_escape_uses_the_escape_header_only(chain: Chain) -> None:
    """Neither an older final header nor a younger one that is not final."""
    world = abandoned(chain)
    leaves = list(world.trees[1].leaves.values())
    poorer = [replace(leaf, exits=(leaf.exits[0] // 2,)) for leaf in leaves]
    world.close_epoch(poorer, consumed=2)
    world.pass_window()
    world.freeze()
    assert world.view("escapeEpoch") == 2
    with refused("NotEscapeHeader"):
        world.escape(1, 1)
    world.escape(2, 1)
    assert world.balance(owner(1)) == (DEPOSIT - ACK + 10) // 2 + ACK


def test_refunds_are_for_unconsumed_deposits_once_and_as_they_were(chain: Chain) -> None:
    world = abandoned(chain)
    world.freeze()
    waiting = world.messages[2]
    with refused("DepositConsumed"):
        world.refund(world.messages[1])
    with refused("UnknownMessage"):
        world.refund(replace(waiting, index=4))
    for forged in (
        replace(waiting, owner=owner(1)),
        replace(waiting, amount=waiting.amount + 1),
        replace(waiting, l1_time=waiting.l1_time + 1),
        replace(waiting, asset=1),
        replace(waiting, data=b"\x01" * 32),
        replace(waiting, index=3),
    ):
        with refused("WrongMessage"):
            world.refund(forged)
    world.refund(waiting)
    assert world.view("refunded", 2) is True
    with refused("AlreadyRefunded"):
        world.refund(waiting)
    assert world.balance(owner(2)) == waiting.amount


def test_deposits_of_a_void_header_are_refunded(chain: Chain) -> None:
    """A header that was not final at the freeze consumed nothing: its deposits go back, and once."""
    world = abandoned(chain)
    due = world.messages[2].l1_time + DEADLINE_S
    leaves = list(world.trees[1].leaves.values())
    chain.backend.mine_at(due - WINDOW_S // 2)
    world.close_epoch(leaves, consumed=2)
    grown = [replace(leaf, exits=(leaf.exits[0] + 1_234,)) if leaf.index == 2 else leaf for leaf in leaves]
    world.close_epoch(grown, consumed=3)
    chain.backend.mine_at(world.messages[3].l1_time + DEADLINE_S)
    world.send("freeze")
    assert (world.view("escapeEpoch"), world.view("escapeInboxCount")) == (1, 2)
    with refused("NotEscapeHeader"):
        world.escape(3, 2)
    world.escape(1, 2)
    world.refund(world.messages[2])
    assert world.balance(owner(2)) == DEPOSIT - 13 + 1_234


def test_finding_the_escape_header_does_not_depend_on_how_many_are_open(chain: Chain) -> None:
    """An operator who floods the vault with headers in one window cannot make the freeze run out of gas."""
    world = abandoned(chain)
    world.pass_window()
    with chain.sandbox():
        world.freeze()
    gas = []
    for posts in (2, 30):
        with chain.sandbox():
            base = dict(world.headers)
            chain.backend.mine_at(world.messages[2].l1_time + DEADLINE_S - WINDOW_S // 2)
            for _ in range(posts):
                world.post(world.header(world.trees[1].root(), consumed=2))
            chain.backend.mine_at(world.messages[2].l1_time + DEADLINE_S)
            gas.append(world.send("freeze").gas_used)
            assert world.view("escapeEpoch") == 1
            world.headers = base
    assert gas[1] - gas[0] < 5 * 5_000
