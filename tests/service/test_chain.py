# SPDX-License-Identifier: GPL-3.0-or-later
"""Intake, poster and audit against a real vault on the embedded EVM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from clearing.audit.chain import compare_with_chain
from clearing.chain.deploy import VaultParams, deploy_vault
from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.signature import sign
from clearing.service.epochs import EpochRecord
from clearing.service.layout import Layout, read_key
from clearing.service.node import Node
from proofs.verify import verify_bytes
from tests.nodes import ChainNode, start_node
from tests.service.chains import Deployed, deploy_venue, replayed, trade
from tests.service.world import BTC, DEPLOYMENT, TREASURY, USD, make_data_dir, order, owner_of, seed_of


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", [evm])
    yield venue
    venue.rpc.close()


def close_unposted(node: Node) -> EpochRecord:
    """Close an epoch in a process that dies before it reaches the chain."""

    def dies(*_: Any) -> None:
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node.poster.vaults[0], "_post", dies)
        with pytest.raises(InterruptedError):
            node.poster.turn()
    return node.book.load(node.pipeline.reducer.state.epoch)


def test_deposits_come_in_epochs_go_out_and_the_audit_agrees(deployed: Deployed) -> None:
    """Deposits are consumed once and in order; posted headers, sums and inbox equal the replayed journal's;
    a member's bundle verifies against what the vault stores."""
    deployed.deposit("alice", 1_000 * USD)
    node = deployed.node()
    assert node.intake is not None
    assert node.intake.turn() == 1
    assert node.intake.turn() == 0
    deployed.deposit("bob", 2_000 * USD)
    assert node.intake.turn() == 1
    trade(node)
    first = node.poster.turn()
    deployed.deposit("carol", 7 * USD)
    assert node.intake.turn() == 1
    second = node.poster.turn()
    assert deployed.vault.epoch_count() == 2
    assert deployed.vault.header_hash(1) == first.part(0).header_hash
    bundle = node.prover.bundle(owner_of("bob"))
    verdict = verify_bytes(bundle, header_hash=deployed.vault.header_hash(2))
    assert verdict.complete, verdict.steps
    report = replayed(node)
    assert report.ok
    assert [epoch.header_hashes[0] for epoch in report.epochs] == [
        first.part(0).header_hash,
        second.part(0).header_hash,
    ]
    assert report.root == node.store.head().tree_root
    assert compare_with_chain(report, VaultClient(deployed.rpc, deployed.vault.address)) == []
    node.close()


def test_a_crash_between_close_and_post_is_made_up_for(deployed: Deployed) -> None:
    """An epoch that was closed but not posted is posted after the restart, byte for byte; nothing twice."""
    deployed.deposit("alice", 1_000 * USD)
    node = deployed.node()
    assert node.intake is not None
    node.intake.turn()
    record = close_unposted(node)
    node.close()
    assert deployed.vault.epoch_count() == 0
    again = deployed.node()
    assert deployed.vault.header_hash(1) == record.part(0).header_hash
    assert again.poster.post_missing() == 0
    assert again.intake is not None
    assert again.intake.turn() == 0
    assert again.pipeline.reducer.state.vaults[0].inbox_count == 1
    assert verify_bytes(again.prover.bundle(owner_of("alice")), header_hash=record.part(0).header_hash).complete
    again.close()


@pytest.mark.slow
def test_an_unreachable_chain_does_not_stop_trading(deployed: Deployed) -> None:
    """Without the chain the node starts and serves; its faults say why nothing is posted."""
    deployed.deposit("alice", 1_000 * USD)
    first = deployed.node()
    assert first.intake is not None
    first.intake.turn()
    first.close()
    silent = structlog.wrap_logger(structlog.ReturnLogger())
    node = Node(deployed.path, log=silent, rpc_url="http://127.0.0.1:9")
    assert node.faults.current()["poster"] == "RPC_UNREACHABLE"
    assert node.operator.run(c.HouseTransfer(0, 1, 1)).seq
    with pytest.raises(ChainError):
        node.poster.turn()
    node.close()


def test_another_deployments_vault_is_refused(deployed: Deployed, tmp_path: Path) -> None:
    """A node never posts to a vault that is not its own."""
    wallet = Wallet(dev_key(0))
    token = deployed.vault.tokens()[0]
    other = deploy_vault(deployed.rpc, wallet, VaultParams(b"\x01" * 32, wallet.address, TREASURY, [token], 100, 10))
    path = tmp_path / "other"
    make_data_dir(path, vaults=(c.Vault(deployed.rpc.chain_id(), other.address, (token,)),))
    with pytest.raises(NovateError) as raised:
        Node(path, log=structlog.wrap_logger(structlog.ReturnLogger()), rpc_url=deployed.rpc.url)
    assert raised.value.code == "WRONG_VAULT"


def test_a_false_header_is_found(deployed: Deployed) -> None:
    """An operator who posts another header than the journal gives is caught by the comparison."""
    from msgspec.structs import replace

    from clearing.chain.wallet import post_epoch_digest
    from proofs.header import Header

    deployed.deposit("alice", 1_000 * USD)
    node = deployed.node()
    assert node.intake is not None
    node.intake.turn()
    vault = node._links[0].require()
    part = close_unposted(node).part(0)
    forged = replace(Header.decode(part.header), marks_hash=b"\x66" * 32)
    for chunk in part.chunks:
        vault.publish_diff(chunk)
    digest = post_epoch_digest(deployed.rpc.chain_id(), vault.address, forged.hash())
    vault.post_epoch(forged.encode(), part.chunk_hashes, [], vault.wallet.sign_digest(digest), [])
    findings = compare_with_chain(replayed(node), deployed.vault)
    assert [(finding.code, finding.epoch) for finding in findings] == [("HEADER_DIFFERS", 1)]
    with pytest.raises(NovateError) as raised:
        node.poster.turn()
    assert raised.value.code == "POST_DIVERGED"
    node.close()


def test_the_ticker_liquidates_after_a_shock(deployed: Deployed) -> None:
    """A price that breaks maintenance leads to a journalled liquidation; a calm tick submits nothing."""
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 100_000 * USD)
    node = deployed.node()
    assert node.intake is not None
    node.intake.turn()
    trade(node)
    state = node.pipeline.reducer.state
    alice = state.owners[owner_of("alice")].accounts[0]
    seed = read_key(Layout(deployed.path).keys / "publisher-0.ed25519")
    node.ticker.turn()
    assert node.ticker.turn() == 0
    for lots, side, name in ((20, ids.SELL, "bob"), (20, ids.BUY, "alice")):
        account = state.owners[owner_of(name)].accounts[0].number
        body = c.MemberBatch(DEPLOYMENT, account, 2, ids.MAX_TIME_US, (order(side, size=lots, coid=2),))
        node.sequencer.submit(sign(body, seed_of(f"{name} session"))).result(20)
    assert sum(slot.size for slot in alice.slots.values()) == 21
    head = state.publishers[0].head
    shock = c.OracleUpdate(DEPLOYMENT, 0, head, node._clock_us(), (c.Price(BTC, 452_000_000, 1),))
    node.sequencer.submit(sign(shock, seed)).result(20)
    assert node.ticker.turn() == 2  # in default (the fund is empty), and resolved from what bob gained
    assert not any(slot.size for slot in alice.slots.values())
    node.close()
