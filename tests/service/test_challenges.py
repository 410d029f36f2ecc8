# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipt challenges on a real vault: the operator answers with what the journal holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.chain.structs import Checkpoint
from clearing.chain.wallet import Wallet, checkpoint_digest
from clearing.service.challenges import Answerer
from clearing.service.node import Node
from proofs.checkpoint import parse, secp256k1_signature
from tests.nodes import ChainNode, start_node
from tests.service.chains import Deployed, deploy_venue, refusal, take_in
from tests.service.world import DEPLOYMENT, USD

BOND_WEI = 10**15


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", [evm], veto_bond_wei=BOND_WEI)
    venue.deposit("alice", 1_000 * USD)
    yield venue
    venue.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    running = deployed.node()
    take_in(running)
    yield running
    running.close()


def answerer(node: Node) -> Answerer:
    return Answerer(node.store, node.book, node._links[0])


def test_a_challenged_receipt_is_answered_once_a_header_covers_it(deployed: Deployed, node: Node) -> None:
    """With the checkpoint that came with a receipt anybody may ask where the entry went. It is answered from the next
    posted header, once, by this process or the one after it."""
    node.poster.turn()
    deployed.deposit("bob", 5 * USD)
    take_in(node)
    found = node.pipeline.committer.latest
    assert found is not None
    signature = secp256k1_signature(parse(found.note), node.pipeline.reducer.state.operator_address)
    assert signature is not None
    index = found.size - 1
    arguments = index, node.store.leaf(index), node.store.inclusion(index, found.size)
    receipt = deployed.vault.challenge_receipt(Checkpoint(found.size, found.root), signature, *arguments)
    number = deployed.vault.challenge_in(receipt)
    working = answerer(node)
    assert working.turn() == 0
    assert deployed.vault.challenge_of(number).open
    node.poster.turn()
    assert working.turn() == 1
    assert not deployed.vault.challenge_of(number).open
    assert working.turn() == 0
    assert answerer(node).turn() == 0


def test_a_receipt_of_another_journal_is_for_people(deployed: Deployed, node: Node) -> None:
    """Somebody with the operator's key signed an entry that is not in our journal: no answer, and a loud fault."""
    node.poster.turn()
    leaf = b"\x66" * 32
    key = node._operator_secp256k1()
    signature = Wallet(key).sign_digest(checkpoint_digest(DEPLOYMENT, 1, leaf))
    deployed.vault.challenge_receipt(Checkpoint(1, leaf), signature, 0, leaf, [])
    assert refusal(answerer(node).turn) == "RECEIPT_DIVERGED"
