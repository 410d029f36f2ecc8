# SPDX-License-Identifier: GPL-3.0-or-later
"""Past the operator: forced withdrawals and exits, and what happens to whoever ignores the inbox."""

import pytest

from tests.contract.chain import Chain, refused
from tests.contract.reference import Leaf
from tests.contract.signing import address_of, key
from tests.contract.world import DEADLINE_S, TOKEN, World, member, owner

DEPOSIT = 50_000_000
TREASURER = key("treasurer")
ALICE = address_of(member(1))


def housed(chain: Chain, assets: int = 1) -> World:
    """One final epoch in which Alice owns everything; the treasury is an account with a key."""
    tokens = [chain.deploy(TOKEN, f"Token {n}", "T") for n in range(assets)]
    world = World.create(chain, tokens=tokens, treasury=address_of(TREASURER))
    world.deposit(ALICE, DEPOSIT)
    rest = (0,) * (assets - 1)
    world.close_epoch([Leaf(1, ALICE, (DEPOSIT, *rest), (0, *rest))])
    world.pass_window()
    return world


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("forceWithdrawal", (1, 7, 0), (2, 1, 7, 0)),
        ("forceWithdrawal", (0, 0, 3), (2, 0, 0, 3)),
        ("forceWithdrawal", (1, (1 << 96) - 1, 65_535), (2, 1, (1 << 96) - 1, 65_535)),
        ("forceExit", (0,), (3, 0, 0, 0)),
        ("forceExit", (65_535,), (3, 0, 0, 65_535)),
    ],
)
def test_requests_stand_in_the_inbox(
    evm: Chain, function: str, arguments: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """Kind, asset, amount and sub-account as asked, the sender as owner, rolled into the same hash; money and
    totals are untouched."""
    world = housed(evm, 2)
    before = [(world.view("depositsAt", 1, a), world.view("holdings", a)) for a in (0, 1)]
    message = world.note(world.send(function, *arguments, sender=evm.adopt(member(1))))
    kind, asset, amount, sub = expected
    assert (message.kind, message.owner, message.asset, message.amount) == (kind, ALICE, asset, amount)
    assert int.from_bytes(message.data, "big") == sub
    assert message.l1_time == evm.now() == world.view("inboxTime", 1)
    assert world.view("inboxHash", 2) == world.rolling[2]
    assert [(world.view("depositsAt", 2, a), world.view("holdings", a)) for a in (0, 1)] == before


def test_requests_that_cannot_be_served_are_refused(evm: Chain) -> None:
    """Unknown assets, amounts no vault can hold, and the house: its tranches answer for everyone's losses."""
    world = housed(evm)
    for error, function, arguments in (
        ("UnknownAsset", "forceWithdrawal", (1, 1, 0)),
        ("DepositTooLarge", "forceWithdrawal", (0, 1 << 96, 0)),
    ):
        with refused(error):
            world.send(function, *arguments, sender=3)
    house = evm.adopt(TREASURER)
    with refused("HouseRequest"):
        world.send("forceWithdrawal", 0, 0, 0, sender=house)
    with refused("HouseRequest"):
        world.send("forceExit", 0, sender=house)
    world.freeze()
    with refused("VaultFrozen"):
        world.send("forceExit", 0, sender=3)
    with refused("VaultFrozen"):
        world.send("forceWithdrawal", 0, 0, 0, sender=3)


@pytest.mark.parametrize("function", ["forceWithdrawal", "forceExit"])
def test_a_censored_request_freezes_a_vault_whose_epochs_go_on(evm: Chain, function: str) -> None:
    """Censored forced request. Defence: the oldest message that no header consumed counts for the deadline, so
    that posting epochs around it does not help; then the escape pays."""
    world = housed(evm)
    arguments = (0, 0, 0) if function == "forceWithdrawal" else (0,)
    request = world.note(world.send(function, *arguments, sender=evm.adopt(member(1))))
    leaves = list(world.trees[1].leaves.values())
    for _ in range(3):
        evm.advance(DEADLINE_S // 3 - 600)
        world.close_epoch(leaves, consumed=1)
    assert world.view("freezeAt") == request.l1_time + DEADLINE_S
    with refused("DeadlineNotPassed"):
        world.send("freeze", sender=5)
    evm.backend.mine_at(request.l1_time + DEADLINE_S)
    world.send("freeze", sender=5)
    assert world.view("freezeReason") == 1
    world.escape(world.view("escapeEpoch"), 1)
    assert world.balance(ALICE) == DEPOSIT


def test_a_request_that_a_header_consumed_freezes_nothing(evm: Chain) -> None:
    """Anyone may send requests, also owners of nothing: consuming them is all that the contract asks."""
    world = housed(evm)
    world.note(world.send("forceExit", 0, sender=3))
    world.close_epoch(list(world.trees[1].leaves.values()))
    assert world.view("freezeAt") == world.view("headerTime", 2) + DEADLINE_S


def test_a_request_is_no_deposit(evm: Chain) -> None:
    """After a freeze an unconsumed request cannot be refunded as if its amount had been paid in. Defence: the
    kind is part of the rolling hash, and refunds are for deposits only."""
    world = housed(evm)
    request = world.note(world.send("forceWithdrawal", 0, DEPOSIT, 0, sender=evm.adopt(member(1))))
    world.freeze()
    with refused("WrongMessage"):
        world.refund(request)
    world.escape(1, 1)
    assert world.balance(ALICE) == DEPOSIT


def test_a_censored_deposit_freezes_and_is_refunded(evm: Chain) -> None:
    """The operator takes a deposit and never credits it. Defence: the same deadline; the money is not the escape
    header's to promise, and goes back to its owner to the atom."""
    world = housed(evm)
    taken = world.deposit(owner(2), 3_000_000)
    for _ in range(3):
        evm.advance(DEADLINE_S // 3 - 600)
        world.close_epoch(list(world.trees[1].leaves.values()), consumed=1)
    evm.backend.mine_at(taken.l1_time + DEADLINE_S)
    world.send("freeze", sender=5)
    world.refund(taken)
    world.escape(world.view("escapeEpoch"), 1)
    assert (world.balance(owner(2)), world.balance(ALICE)) == (3_000_000, DEPOSIT)
    assert world.view("holdings", 0) == 0


def test_the_order_of_the_inbox_cannot_be_skipped(evm: Chain) -> None:
    """An operator who dislikes one message cannot consume those after it: a header consumes a prefix, and its
    hash is the vault's."""
    world = housed(evm)
    world.note(world.send("forceExit", 0, sender=evm.adopt(member(1))))
    liked = world.deposit(owner(2), 3_000_000)
    skipping = liked.after(world.rolling[1])
    header = world.header(world.trees[1].root()).but(inbox_count=2, inbox_hash=skipping)
    with refused("InboxHashMismatch"):
        world.post(header)
