# SPDX-License-Identifier: GPL-3.0-or-later
"""k of n attestors: what is taken from them, and that nothing is posted without enough of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.chain.wallet import Wallet, attestation_digest
from clearing.model.errors import NovateError
from clearing.service.node import Node
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S, Deployed, Web, deploy_venue, findings, refusal, take_in
from tests.service.world import USD, seed_of

WATCHERS = sorted((Wallet(seed_of(f"watcher {n}")) for n in range(3)), key=lambda wallet: wallet.address)


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    """A venue whose headers two of three attestors sign."""
    attestors = tuple(watcher.address for watcher in WATCHERS)
    venue = deploy_venue(tmp_path / "venue", [evm], attestors=attestors, threshold=2)
    venue.deposit("alice", 1_000 * USD)
    yield venue
    venue.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    running = deployed.node()
    take_in(running)
    yield running
    running.close()


def signature(deployed: Deployed, node: Node, watcher: Wallet, epoch: int) -> tuple[bytes, bytes]:
    """(header hash, a watcher's signature over it)."""
    header_hash = node.book.load(epoch).part(0).header_hash
    digest = attestation_digest(deployed.rpc.chain_id(), deployed.vault.address, header_hash)
    return header_hash, watcher.sign_digest(digest)


def attest(deployed: Deployed, node: Node, watcher: Wallet, epoch: int) -> bytes:
    return node.attestations.add(0, epoch, *signature(deployed, node, watcher, epoch))


def test_a_header_waits_for_enough_attestors(deployed: Deployed, node: Node) -> None:
    """One of two needed is too few: the diff is published, so that they can check it, and the header is not posted;
    no next epoch is closed, and the error names who has not signed. The second signature lets it go."""
    record = node.poster.turn()
    assert deployed.vault.epoch_count() == 0
    for digest in record.part(0).chunk_hashes:
        assert deployed.vault.diff_block(digest)
    assert attest(deployed, node, WATCHERS[2], 1) == WATCHERS[2].address
    assert node.poster.post_missing() == 0
    with pytest.raises(NovateError) as raised:
        node.poster.turn()
    assert raised.value.code == "ATTESTATIONS_MISSING" and WATCHERS[0].address.hex() in raised.value.message
    assert WATCHERS[2].address.hex() not in raised.value.message
    assert node.pipeline.reducer.state.epoch == 1
    attest(deployed, node, WATCHERS[0], 1)
    node.poster.post_missing()
    assert deployed.vault.header_hash(1) == record.part(0).header_hash
    # The next epoch was due all the while, so it closed at once.
    assert node.pipeline.reducer.state.epoch == 2
    assert findings(node, deployed) == []


def test_signatures_outlive_a_restart_and_count_once(deployed: Deployed, node: Node) -> None:
    """What was acknowledged is on disk; handing the same signature in again is no second one."""
    node.poster.turn()
    for _ in range(2):
        attest(deployed, node, WATCHERS[1], 1)
    assert len(node.attestations.of(0, 1)) == 1
    node.close()
    again = deployed.node()
    assert [a.attestor for a in again.attestations.of(0, 1)] == [WATCHERS[1].address]
    view = again.attestations.view(0, 1)
    assert view["missing"] == ["0x" + WATCHERS[n].address.hex() for n in (0, 2)] and view["threshold"] == 2
    assert again.poster.view()[0]["attestations"] == view
    attest(deployed, again, WATCHERS[2], 1)
    assert again.poster.post_missing() == 1
    assert deployed.vault.epoch_count() == 1
    again.close()


def test_what_is_no_attestation_is_refused(deployed: Deployed, node: Node) -> None:
    """Strangers, other headers, other epochs, other vaults and garbage leave nothing behind."""
    node.poster.turn()
    add = node.attestations.add
    header_hash, good = signature(deployed, node, WATCHERS[0], 1)
    stranger = signature(deployed, node, Wallet(seed_of("stranger")), 1)[1]
    assert refusal(add, 0, 1, header_hash, stranger) == "NOT_ATTESTOR"
    assert refusal(add, 0, 1, header_hash, bytes(65)) == "NOT_ATTESTOR"
    assert refusal(add, 0, 1, bytes(32), good) == "HEADER_DIFFERS"
    assert refusal(add, 0, 2, header_hash, good) == "UNKNOWN_EPOCH"
    assert refusal(add, 1, 1, header_hash, good) == "UNKNOWN_VAULT"
    assert node.attestations.of(0, 1) == []


def test_posting_becomes_urgent_as_the_freeze_nears(deployed: Deployed, node: Node) -> None:
    """The status tells how long the deadline is away, and how much a late post matters."""
    node.poster.turn()
    calm = node.poster.view()[0]
    assert calm["urgency"] == 0 and 0 < calm["seconds_to_freeze"] <= DEADLINE_S
    deployed.places[0].pass_time(DEADLINE_S * 9 // 10)
    node.poster.post_missing()
    late = node.poster.view()[0]
    assert 0.5 < late["urgency"] <= 1 and late["seconds_to_freeze"] < DEADLINE_S // 5


@pytest.mark.slow
def test_attestors_are_served_over_http(deployed: Deployed, node: Node) -> None:
    """Headers with their hashes and chunks per vault; a signature handed in by POST; who has signed; stable codes for
    what is no such thing, and no crash for any body."""
    record = node.poster.turn()
    client = Web(node)
    (row,) = client.get("/v1/epochs/1/headers").json()["headers"]
    assert bytes.fromhex(row["header"][2:]) == record.part(0).header and row["posted"] is False
    assert row["chunk_hashes"] == ["0x" + digest.hex() for digest in record.part(0).chunk_hashes]
    header_hash, good = signature(deployed, node, WATCHERS[0], 1)
    body = {"vault": 0, "epoch": 1, "header_hash": "0x" + header_hash.hex(), "signature": "0x" + good.hex()}
    answer = client.post("/v1/attestations", json=body)
    assert answer.status_code == 200 and answer.json()["attestor"] == "0x" + WATCHERS[0].address.hex()
    (told,) = client.get("/v1/attestations/1").json()["vaults"]
    assert [one["attestor"] for one in told["signed"]] == ["0x" + WATCHERS[0].address.hex()]
    assert len(told["missing"]) == 2 and told["threshold"] == 2
    posting = client.get("/v1/status").json()["posting"]
    assert posting[0]["attestations"] == told and posting[0]["posted_epoch"] == 0
    for change, code in (
        ({"vault": -1}, "BAD_PARAMETER"),
        ({"vault": 2**70}, "BAD_PARAMETER"),
        ({"epoch": 9}, "UNKNOWN_EPOCH"),
        ({"epoch": -1}, "BAD_PARAMETER"),
        ({"header_hash": "0x12"}, "BAD_PARAMETER"),
        ({"signature": "zz"}, "BAD_PARAMETER"),
        ({"more": 1}, "BAD_PARAMETER"),
    ):
        refused = client.post("/v1/attestations", json=body | change)
        assert (refused.status_code // 100, refused.json()["code"]) == (4, code), change
    assert client.post("/v1/attestations", content=b"\xff[").json()["code"] == "BAD_PARAMETER"
    assert client.get("/v1/epochs/2/headers").json()["code"] == "UNKNOWN_EPOCH"
