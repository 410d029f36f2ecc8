# SPDX-License-Identifier: GPL-3.0-or-later
"""Money is conserved whatever happens in whatever order, and nothing remains when everyone has left.

Rules: an honest operator over a toy clearinghouse (balances that move between owners), two assets of which
one refuses to pay a listed owner, and a random script of deposits, gains, withdrawals, epochs that consume
any part of the inbox, claims on any header, and the passing of time. Then the operator disappears, and
claims on every kind of header go on between the escapes.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import load
from tests.contract.chain import Chain, Reverted
from tests.contract.reference import Leaf
from tests.contract.world import MIN_FIRST, TOKEN, TREASURY, WINDOW_S, World, owner

BLOCKING = load("BlockingToken")
OWNERS = [TREASURY, *(owner(n) for n in range(1, 5))]
LISTED = OWNERS[1]
ASSETS = (0, 1)

Step = tuple[str, int, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["deposit", "gain", "withdraw", "epoch", "claim", "wait"]),
        st.integers(0, len(OWNERS) - 1),
        st.integers(0, 1),
        st.integers(1, 10**9),
    ),
    min_size=4,
    max_size=25,
)


@dataclass
class Books:
    """The toy clearinghouse: what it owes by owner and asset, and what the escape header will say."""

    world: World
    consumed: int = 0
    balance: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    acked: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))

    def leaves(self) -> list[Leaf]:
        return [
            Leaf(
                index,
                who,
                tuple(self.balance[index, a] for a in ASSETS),
                tuple(self.acked[index, a] for a in ASSETS),
            )
            for index, who in enumerate(OWNERS)
        ]

    def epoch(self, amount: int) -> None:
        waiting = self.world.messages[self.consumed :]
        for message in waiting[: amount % (len(waiting) + 1)]:
            self.balance[OWNERS.index(message.owner), message.asset] += message.amount
            self.consumed += 1
        self.world.close_epoch(self.leaves(), self.consumed)

    def step(self, step: Step) -> None:
        kind, who, asset, amount = step
        if kind == "deposit":
            self.world.deposit(OWNERS[who], MIN_FIRST + amount, asset)
        elif kind == "gain":
            moved = min(amount, self.balance[who, asset])
            self.balance[who, asset] -= moved
            self.balance[(who + amount) % len(OWNERS), asset] += moved
        elif kind == "withdraw":
            taken = min(amount, self.balance[who, asset])
            self.balance[who, asset] -= taken
            self.acked[who, asset] += taken
        elif kind == "epoch":
            self.epoch(amount)
        elif kind == "claim" and self.world.headers:
            try_claim(self.world, 1 + amount % len(self.world.headers), who)
        elif kind == "wait":
            self.world.chain.advance(WINDOW_S // 2)


def try_claim(world: World, epoch: int, index: int) -> None:
    try:
        world.claim(epoch, index)
    except Reverted as error:
        if error.name not in ("HeaderNotFinal", "NothingToClaim"):
            raise


def check(world: World) -> None:
    """Paid + credited + held = deposited, and the token agrees."""
    for asset in ASSETS:
        deposited = sum(m.amount for m in world.messages if m.asset == asset)
        received = sum(world.balance(who, asset) for who in OWNERS)
        credited = sum(world.view("credit", who, asset) for who in OWNERS)
        held = world.view("holdings", asset)
        assert received + credited <= deposited
        assert received + credited + held == deposited
        assert world.balance(world.vault, asset) == held + credited


def everyone_leaves(world: World) -> dict[tuple[str, int], int]:
    """Freeze, escape, refund, credit; returns what each owner must have received in all."""
    world.freeze()
    epoch = world.view("escapeEpoch")
    owed: dict[tuple[str, int], int] = defaultdict(int)
    for leaf in world.trees[epoch].leaves.values() if epoch else ():
        for older in world.headers:
            try_claim(world, older, leaf.index)
            if older == 1 + leaf.index:
                break
        world.escape(epoch, leaf.index)
        try_claim(world, 1, leaf.index)
        for asset in ASSETS:
            owed[leaf.owner, asset] += leaf.sums()[asset]
    for message in world.messages[world.view("escapeInboxCount") :]:
        world.refund(message)
        owed[message.owner, message.asset] += message.amount
    check(world)
    world.chain.send(BLOCKING, world.tokens[1], "list", LISTED, False)
    if world.view("credit", LISTED, 1):
        world.send("withdrawCredit", 1, LISTED)
    return owed


def run(chain: Chain, script: list[Step]) -> None:
    with chain.sandbox():
        tokens = [chain.deploy(TOKEN, "Token", "T"), chain.deploy(BLOCKING)]
        # A deadline of four waits: many scripts end with headers that are not final and never will be.
        world = World.create(chain, tokens=tokens, deadline_s=2 * WINDOW_S)
        chain.send(BLOCKING, world.tokens[1], "list", LISTED, True)
        books = Books(world)
        for step in script:
            books.step(step)
        check(world)
        owed = everyone_leaves(world)
        for asset in ASSETS:
            assert world.balance(world.vault, asset) == world.view("holdings", asset) == 0
            for who in OWNERS:
                assert world.balance(who, asset) == owed[who, asset]


@pytest.mark.slow
@settings(max_examples=3)
@given(script=steps)
def test_nothing_is_created_and_nothing_remains(embedded: Chain, script: list[Step]) -> None:
    run(embedded, script)


@settings(max_examples=4)
@given(script=steps)
def test_nothing_is_created_and_nothing_remains_on_anvil(anvil: Chain, script: list[Step]) -> None:
    run(anvil, script)


@pytest.mark.slow
@settings(max_examples=100)
@given(script=steps)
def test_nothing_is_created_and_nothing_remains_at_length(embedded: Chain, script: list[Step]) -> None:
    run(embedded, script)
