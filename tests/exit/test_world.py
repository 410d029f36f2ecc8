# SPDX-License-Identifier: GPL-3.0-or-later
"""Random worlds: whatever happened before, everyone leaves with exactly what is theirs, and nobody with more.

A world is deposits, epochs, claims, vouchers and a token that refuses some owners, in random order and amounts,
with a tool that is killed at random moments. The books kept here say what each owner must end up with.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from clearing.chain.abi import interface
from clearing.chain.deploy import deploy
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet
from clearing.exit.plan import Kind
from clearing.exit.run import Event, exit_all, run
from tests.exit.scene import DEADLINE_S, HOUSE, WINDOW_S, Leaves, Scene, wallet_of

BLOCKING = interface("BlockingToken")
DEATHS = 12
OWNERS = [Wallet(bytes([0x51] * 31) + bytes([number])) for number in range(1, 6)]


class Killed(BaseException):
    """kill -9: nothing may be caught, tidied up or remembered."""


@dataclass
class World:
    """A vault of two assets, the second one's token refusing whom it lists; amounts by (owner, asset)."""

    scene: Scene
    rng: random.Random
    token: bytes
    leaves: Leaves = field(default_factory=dict)
    final: Leaves = field(default_factory=dict)
    consumed: int = 0
    deposits: list[tuple[bytes, int, int]] = field(default_factory=list)
    advanced: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    floats: list[int] = field(default_factory=lambda: [0, 0])
    listed: set[bytes] = field(default_factory=set)

    def deposit(self) -> None:
        owner, asset = self.rng.choice(OWNERS).address, self.rng.randrange(2)
        amount = self.rng.randrange(1, 10**9)
        self.scene.deposit(owner, *(amount if a == asset else 0 for a in range(2)))
        self.deposits.append((owner, asset, amount))

    def epoch(self) -> None:
        """Split what was deposited at random over leaves; what was acknowledged before stays so."""
        self.consumed = self.rng.randrange(self.consumed, len(self.deposits) + 1)
        rest = [sum(amount for _, asset, amount in self.deposits[: self.consumed] if asset == a) for a in range(2)]
        acked = {index: leaf[2] for index, leaf in self.leaves.items()}
        for a in range(2):
            rest[a] -= sum(acks[a] for acks in acked.values())
        owners = [HOUSE, *(wallet.address for wallet in OWNERS)]
        for index, owner in enumerate(owners):
            last = index == len(owners) - 1
            share = [part if last else self.rng.randrange(part + 1) for part in rest]
            rest = [left - part for left, part in zip(rest, share, strict=True)]
            more = [self.rng.randrange(part + 1) if index else 0 for part in share]
            exits = tuple(part - one for part, one in zip(share, more, strict=True))
            old = acked.get(index, (0, 0))
            self.leaves[index] = owner, exits, tuple(was + one for was, one in zip(old, more, strict=True))
        self.scene.close(dict(self.leaves), consumed=self.consumed, split=self.rng.choice([0, 1, 4]))
        if self.rng.random() < 0.7:
            self.scene.pass_time(WINDOW_S)
            self.final, self.final_count = dict(self.leaves), self.consumed

    final_count: int = 0

    def voucher(self) -> None:
        """Advance at most what a final leaf acknowledges and no claim has paid."""
        index, asset = self.rng.randrange(1, len(OWNERS) + 1), self.rng.randrange(2)
        if index not in self.final:
            return
        wallet = OWNERS[index - 1]
        most = self.final[index][2][asset] - self.scene.vault.claimed_of(wallet.address, asset)
        before = self.advanced[wallet.address, asset]
        outstanding = before - self.scene.vault.advanced_of(wallet.address, asset).repaid
        if most <= outstanding:
            return
        added = self.rng.randrange(1, most - outstanding + 1)
        self.scene.vault.fund_float(asset, added)
        self.floats[asset] += added
        self.scene.vault.redeem_voucher(*self.scene.voucher(wallet, asset, before + added))
        self.advanced[wallet.address, asset] += added

    def claim(self) -> None:
        run(self.scene.stranger(), self.rng.choice(OWNERS).address)

    def refuse(self) -> None:
        owner = self.rng.choice(OWNERS).address
        listing = owner not in self.listed
        self.listed ^= {owner}
        Sender(self.scene.rpc, self.scene.wallet, [BLOCKING]).send(self.token, BLOCKING.call("list", owner, listing))

    def forgive(self) -> None:
        for owner in sorted(self.listed):
            Sender(self.scene.rpc, self.scene.wallet, [BLOCKING]).send(self.token, BLOCKING.call("list", owner, False))
        self.listed.clear()

    def due(self) -> dict[bytes, list[int]]:
        """What every owner must have in the end: the final leaf and what no final epoch consumed."""
        found = {owner: [0, 0] for owner in (HOUSE, *(wallet.address for wallet in OWNERS))}
        for owner, exits, acks in self.final.values():
            found[owner] = [exit_ + ack for exit_, ack in zip(exits, acks, strict=True)]
        for owner, asset, amount in self.deposits[self.final_count :]:
            found[owner][asset] += amount
        return found


def _world(scene: Scene, rng: random.Random) -> World:
    token = deploy(scene.rpc, scene.wallet, "BlockingToken").contract
    plain = scene.vault.tokens()[0]
    place = Scene.deploy(scene.rpc, tokens=[plain, token], beside=scene.vault.address)
    return World(place, rng, token)


def _live(world: World, steps: int) -> None:
    world.deposit()
    world.epoch()
    actions = [world.deposit, world.deposit, world.epoch, world.voucher, world.voucher, world.claim, world.refuse]
    for _ in range(steps):
        world.rng.choice(actions)()


def _killed_at(moment: int, scene: Scene, in_flight: int) -> bool:
    """Run for everyone and be killed at this event; whether it came to that."""
    seen = 0

    def listener(_: Event) -> None:
        nonlocal seen
        if seen == moment:
            raise Killed
        seen += 1

    try:
        exit_all(scene.stranger(), listener, in_flight=in_flight)
    except Killed:
        return True
    return False


def _leave(world: World) -> None:
    """Everyone leaves, through as many deaths of the tool as it takes; then tokens pay again."""
    scene, rng = world.scene, world.rng
    scene.pass_time(DEADLINE_S + WINDOW_S)
    if scene.vault.finalised_epoch() and scene.vault.finalised_epoch() == scene.vault.epoch_count():
        world.final, world.final_count = dict(world.leaves), world.consumed
    # Bounded: what a token refuses is tried anew by every run, and many refusals reach any moment without a payment.
    for _ in range(DEATHS):
        if not _killed_at(rng.randrange(1, 9), scene, rng.choice([1, 3])):
            break
    world.forgive()
    exit_all(scene.stranger())


def _check(world: World) -> None:
    scene, due = world.scene, world.due()
    assert {owner: scene.balances(owner) for owner in due} == due
    assert scene.holdings() == [0, 0]
    assert scene.floats() == world.floats, "every advance was repaid"
    assert scene.balances(scene.vault.address) == world.floats, "and nothing else is left in the vault"
    again = exit_all(scene.stranger())
    assert (again.done, again.failed, again.paid) == ([], [], [0, 0])


def test_everyone_is_paid_what_is_owed_to_the_atom_through_any_interruptions(scene: Scene, rng: random.Random) -> None:
    """Sum paid is sum owed; running again changes nothing; killing the tool anywhere changes nothing."""
    world = _world(scene, rng)
    _live(world, 10)
    _leave(world)
    _check(world)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_many_worlds(scene: Scene, rng: random.Random, number: int) -> None:
    """The same over longer histories."""
    world = _world(scene, rng)
    _live(world, 25)
    _leave(world)
    _check(world)


def test_an_advance_is_deducted_once_and_the_rest_is_paid(scene: Scene) -> None:
    """An owner who was advanced 40 of 90 acknowledged gets 50 by claim, the float gets its 40 back."""
    owner = wallet_of(8)
    scene.deposit(owner.address, 1_000)
    scene.close({1: (owner.address, (910, 0), (90, 0))})
    scene.pass_time(WINDOW_S)
    scene.advance(owner, 0, 40)
    report = run(scene.stranger(), owner.address)
    assert [(event.step.kind, event.step.amounts, event.step.repaid) for event in report.done] == [
        (Kind.CLAIM, (50, 0), (40, 0))
    ]
    assert (report.paid, report.repaid, scene.floats()) == ([50, 0], [40, 0], [40, 0])
    assert scene.balances(owner.address) == [90, 0]
    scene.pass_time(DEADLINE_S)
    assert run(scene.stranger(), owner.address).paid == [910, 0]
    assert scene.balances(owner.address) == [1_000, 0]


def test_a_claim_that_would_only_repay_the_float_costs_the_owner_no_fee(scene: Scene) -> None:
    """What vouchers paid already is not claimed again at the owner's expense; the escape settles it."""
    owner = wallet_of(8)
    scene.deposit(owner.address, 100)
    scene.close({1: (owner.address, (10, 0), (90, 0))})
    scene.pass_time(WINDOW_S)
    scene.advance(owner, 0, 90)
    assert run(scene.stranger(), owner.address).done == []
    scene.pass_time(DEADLINE_S)
    report = run(scene.stranger(), owner.address)
    assert (report.paid, report.repaid) == ([10, 0], [90, 0])
    assert (scene.balances(owner.address), scene.holdings()) == ([100, 0], [0, 0])


def test_a_reorganisation_that_drops_payments_is_made_good_by_running_again(fresh_vault: tuple[Rpc, bytes]) -> None:
    """Blocks that held the escapes vanish; the next run plans from what is there and pays them again, once."""
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    scene = Scene.attach(rpc, address)
    first, second = (wallet.address for wallet in OWNERS[:2])
    scene.deposit(first, 70)
    scene.deposit(second, 30)
    scene.close({1: (first, (70, 0), (0, 0)), 2: (second, (30, 0), (0, 0))})
    scene.pass_time(DEADLINE_S)
    assert exit_all(scene.stranger()).paid == [100, 0]
    rpc.request("anvil_reorg", 2, [])
    assert scene.vault.frozen() and sum(scene.balances(owner)[0] for owner in (first, second)) == 0
    assert exit_all(scene.stranger()).paid == [100, 0]
    assert (scene.balances(first), scene.balances(second), scene.holdings()) == ([70, 0], [30, 0], [0, 0])
    assert rpc.request("evm_revert", snapshot) is True
