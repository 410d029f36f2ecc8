# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaving costs, with a full path: 20 random siblings, every sum non-zero, one asset and more."""

import itertools
import random

import pytest

from tests.contract.chain import Chain
from tests.contract.reference import DEPTH, Leaf, Node, climb
from tests.contract.world import TOKEN, VAULT, Proof, World, owner

CLAIM_GAS = 115_000
ESCAPE_GAS = 150_000
FURTHER_ASSET_GAS = 45_000
EPOCH_GAS = 200_000
DEPOSIT = 10**15


def crowded(chain: Chain, rng: random.Random, assets: int, depositor: bool = True) -> tuple[World, Proof]:
    """A final epoch of a full tree, in which user 1 is owed an exit and a withdrawal in every asset."""
    world = World.create(chain, tokens=[chain.deploy(TOKEN, "Token", "T") for _ in range(assets)])
    for asset in range(assets):
        world.deposit(owner(1) if depositor else owner(2), DEPOSIT, asset)
    amounts = [tuple(rng.randrange(10**10, 10**12) for _ in range(assets)) for _ in range(2)]
    leaf = Leaf(rng.randrange(1, 1 << DEPTH), owner(1), amounts[0], amounts[1])
    path = [Node(rng.randbytes(32), tuple(rng.randrange(10**12, 10**13) for _ in range(assets))) for _ in range(DEPTH)]
    root = climb(Node(leaf.hash(world.domain), leaf.sums()), leaf.index, path)
    header = world.header(root)
    gas = world.post(header).gas_used
    print(f"postEpoch with {assets} asset(s): {gas} gas")
    assert gas <= EPOCH_GAS
    world.pass_window()
    return world, Proof(header.encode(), leaf, path)


@pytest.mark.parametrize("depositor", [True, False], ids=["depositor", "newcomer"])
def test_claim_and_escape_stay_within_their_gas(chain: Chain, rng: random.Random, depositor: bool) -> None:
    """For an owner whose token balance was zero, the dearest case. A newcomer was owed without having
    deposited: its counter's slot is new, which costs 17,100 gas more than a depositor's."""
    world, proof = crowded(chain, rng, 1, depositor)
    extra = 0 if depositor else 17_100
    with chain.sandbox():
        claim = chain.send(VAULT, world.vault, "claim", *proof.arguments()).gas_used
    world.freeze()
    escape = chain.send(VAULT, world.vault, "escape", *proof.arguments()).gas_used
    print(f"claim {claim} gas, escape {escape} gas ({'depositor' if depositor else 'newcomer'})")
    assert world.balance(owner(1)) == proof.leaf.exits[0] + proof.leaf.acks[0]
    assert claim <= CLAIM_GAS + extra
    assert escape <= ESCAPE_GAS


def test_a_further_asset_costs_little(chain: Chain, rng: random.Random) -> None:
    """Lanes share the path, the header and (in pairs) the counters' slots. The owner holds some of each
    token already; an empty balance costs 17,100 gas per asset more, in the token."""
    costs = []
    for assets in (1, 2, 3, 4):
        with chain.sandbox():
            world, proof = crowded(chain, rng, assets)
            for token in world.tokens:
                chain.send(TOKEN, token, "mint", owner(1), 1)
            world.freeze()
            costs.append(chain.send(VAULT, world.vault, "escape", *proof.arguments()).gas_used)
    further = [after - before for before, after in itertools.pairwise(costs)]
    print(f"escape by number of assets: {costs}, each further one: {further}")
    assert all(cost <= FURTHER_ASSET_GAS for cost in further)
