# SPDX-License-Identifier: GPL-3.0-or-later
"""A place on a chain is number and hash: reorganisations are seen, on the embedded chain and on anvil."""

from collections.abc import Iterator

import pytest

from clearing.chain.embedded import EmbeddedEvm
from clearing.chain.errors import ChainError
from clearing.chain.finality import FINALIZED, FinalView, Mark
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet
from tests.chain.nodes import Anvil

ANYBODY = bytes(19) + b"\xf1"


@pytest.fixture(params=["embedded", "anvil"])
def node(request: pytest.FixtureRequest) -> Iterator[Rpc]:
    """Either chain, mining each transaction at once."""
    running: EmbeddedEvm | Anvil = request.getfixturevalue("evm" if request.param == "embedded" else "anvil")
    with Rpc(running.url) as rpc:
        if request.param == "anvil":
            rpc.request("evm_setAutomine", True)
        snapshot = rpc.request("evm_snapshot")
        yield rpc
        rpc.request("evm_revert", snapshot)


def pay(rpc: Rpc, wallet: Wallet, times: int = 1) -> list[Mark]:
    """Blocks with a payment each."""
    sender = Sender(rpc, wallet)
    numbers = [sender.send(ANYBODY, b"", value=1).block_number for _ in range(times)]
    return [Mark(number, rpc.block(number).hash) for number in numbers]


def test_a_block_is_final_when_enough_lie_on_top(node: Rpc, wallet: Wallet) -> None:
    marks = pay(node, wallet, 4)
    for depth in range(4):
        view = FinalView(node, depth)
        assert view.final() == marks[-1 - depth]
        assert [view.is_final(mark) for mark in marks] == [n <= 3 - depth for n in range(4)]
    assert FinalView(node, 10_000).final() == FinalView(node, 0).mark(0)


def test_a_reorganisation_is_seen_by_hash_and_the_way_back_is_found(node: Rpc, wallet: Wallet) -> None:
    view, marks = FinalView(node, 1), pay(node, wallet, 4)
    node.request("anvil_reorg", 2, [])
    assert [view.is_canonical(mark) for mark in marks] == [True, True, False, False]
    assert view.last_canonical(reversed(marks)) == marks[1]
    assert view.last_canonical(marks[2:]) is None
    view.require(marks[1])
    with pytest.raises(ChainError, match=f"REORGED: block {marks[2].number} "):
        view.require(marks[2])
    assert view.mark(marks[2].number).hash != marks[2].hash


def test_a_shorter_chain_knows_nothing_of_the_blocks_it_lost(node: Rpc, wallet: Wallet) -> None:
    view, marks = FinalView(node, 0), pay(node, wallet, 3)
    node.request("anvil_rollback", 2)
    assert node.block_number() == marks[0].number
    assert [view.is_canonical(mark) for mark in marks] == [True, False, False]
    assert view.final() == marks[0]


def test_a_mined_transaction_that_a_reorganisation_took_is_not_settled_and_is_sent_again(
    node: Rpc, wallet: Wallet
) -> None:
    sender, view = Sender(node, wallet), FinalView(node, 2)
    gone = sender.send(ANYBODY, b"", value=10)
    assert view.still(gone) == gone
    assert not view.settled(gone)
    node.request("anvil_reorg", 1, [])
    assert view.still(gone) is None
    assert not view.settled(gone)
    before = node.balance(ANYBODY)
    again = sender.send(ANYBODY, b"", value=10)
    node.request("evm_mine")
    node.request("evm_mine")
    assert view.settled(again)
    assert node.balance(ANYBODY) - before == 10


def test_the_nodes_own_finality_is_taken_by_its_tag(anvil: Anvil, wallet: Wallet) -> None:
    """anvil calls a block final when 64 lie on top."""
    anvil.mine(70)
    with Rpc(anvil.url) as rpc:
        final = FinalView(rpc, FINALIZED).final()
        assert 0 < final.number <= rpc.block_number() - 64
        assert final == FinalView(rpc, rpc.block_number() - final.number).final()


def test_a_negative_depth_is_refused(rpc: Rpc) -> None:
    with pytest.raises(ChainError, match="INVALID_ARGUMENT"):
        FinalView(rpc, -1)


def test_rolling_back_more_than_there_is_is_refused(rpc: Rpc) -> None:
    for request in (("anvil_rollback", 10_000), ("anvil_reorg", 10_000, []), ("anvil_reorg", 1, [["0x00", 0]])):
        with pytest.raises(ChainError):
            rpc.request(*request)
