# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a venue on two chains: steps by the ticker, a final epoch at once, everyone paid by claims."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.exit.rebuild import rebuild
from clearing.model import commands as c
from clearing.service.node import Node
from tests.nodes import ChainNode, start_node
from tests.service.chains import WINDOW_S, Deployed, command, deploy_venue, findings, refusal, take_in, trade
from tests.service.world import USD, order, owner_of


@pytest.fixture(scope="module")
def evms() -> Iterator[list[ChainNode]]:
    running = [start_node() for _ in range(2)]
    yield running
    for evm in running:
        evm.stop()


@pytest.fixture
def deployed(evms: list[ChainNode], tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", evms)
    yield venue
    for place in venue.places:
        place.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    """Members with a position, a resting order and money on both chains."""
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 3_000 * USD, 1)
    running = deployed.node()
    take_in(running)
    trade(running)
    command(running, "alice", order(price=10_000, coid=9))
    running.poster.turn()
    yield running
    running.close()


def end(node: Node) -> None:
    """Start the wind-down and let the ticker do what is due."""
    node.operator.run(c.StartWindDown("the test ends it"))
    assert node.ticker.turn() > 0
    assert node.ending.done


def test_everyone_is_paid_to_the_atom_by_claims(deployed: Deployed, node: Node) -> None:
    """The final epoch closes without waiting for its turn, on both chains; every owner's claims on both vaults empty
    them; nothing is closed afterwards, and the audit agrees."""
    end(node)
    assert node.poster.post_missing() == 0  # the close that was asked for posts by itself
    assert node.ending.view() == {"reason": "the test ends it", "done": True, "final_epoch": 2}
    assert [place.vault.epoch_count() for place in deployed.places] == [2, 2]
    assert node.poster.turn().epoch == 2
    assert node.pipeline.reducer.state.epoch == 2
    deployed.deposit("alice", 5 * USD)
    assert take_in(node) == 0  # too late: a freeze refunds it
    paid = 0
    for place in deployed.places:
        place.pass_time(WINDOW_S + 1)
        tree = rebuild(place.vault, 2)
        assert tree is not None
        for leaf in tree.leaves.values():
            assert leaf.exits == (0,)
            if any(leaf.withdraw_acks):
                place.vault.claim(tree.claim(leaf))
        assert place.vault.holdings(0) == (5 * USD if place is deployed.places[0] else 0)
        paid += sum(place.vault.token_balance(0, owner_of(name)) for name in ("alice", "bob"))
    assert 3_999 * USD < paid <= 4_000 * USD
    assert findings(node, deployed) == []


def test_a_restart_finds_the_end_again(deployed: Deployed, node: Node) -> None:
    """A crash between the last step and the final epoch, and one after it: the next process goes on and closes it
    once."""
    node.operator.run(c.StartWindDown("the test ends it"))
    node.ticker._on_done = None
    node.ticker.turn()
    assert node.ending.view() == {"reason": "the test ends it", "done": True, "final_epoch": None}
    node.close()
    again = deployed.node()
    again.poster.post_missing()
    assert again.ending.final_epoch() == 2
    again.close()
    later = deployed.node()
    assert later.ending.final_epoch() == 2
    later.poster.post_missing()
    assert later.pipeline.reducer.state.epoch == 2
    later.close()


def test_no_voucher_while_winding_down(deployed: Deployed, node: Node) -> None:
    """What is owed then comes with the final epoch."""
    node.operator.run(c.StartWindDown("the test ends it"))
    arguments = 0, 0, USD, 2**40, owner_of("alice"), bytes(65)
    assert refusal(node.vouchers.countersign, *arguments) == "WINDING_DOWN"
