# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestors against a real venue: true epochs are signed, false headers are vetoed, and nothing else is."""

import json

from clearing.chain.structs import FREEZE_VETO, VETO_FAILED, VETO_NONE, VETO_OPEN, VETO_UPHELD
from clearing.chain.wallet import attestation_digest, recover
from clearing.watch import evidence
from proofs.header import Header
from tests.service.chains import WINDOW_S
from tests.watch.scene import BOND_WEI, GRACE_S, WATCHERS, Scene, codes


def posted_signers(scene: Scene, epoch: int) -> list[bytes]:
    """Whose signatures the transaction carried that posted an epoch."""
    (event,) = scene.vault.epochs(epoch=epoch)
    found = scene.vault.rpc.transaction(event.tx_hash)
    assert found is not None
    *_, attestations = scene.vault.abi.arguments("postEpoch", found[1])
    digest = attestation_digest(scene.vault.rpc.chain_id(), scene.vault.address, event.header_hash)
    return [recover(digest, signature) for signature in attestations]


def test_two_of_three_run_an_honest_venue(scene: Scene) -> None:
    """Epochs are posted with the signatures of those who replayed them, one attestor missing or not; all headers are
    agreed with, and nobody objects or complains."""
    assert scene.vault.epoch_count() == 2
    assert posted_signers(scene, 1) == [WATCHERS[0].address, WATCHERS[2].address]
    assert len(posted_signers(scene, 2)) == 2
    assert scene.vault.vetoes() == [] and not scene.vault.frozen()
    for number in range(3):
        attestor = scene.watcher(number)
        attestor.turn()
        assert codes(attestor) == [] and attestor.follower.divergence is None
        told = json.loads((scene.folder(f"w{number}") / "status.json").read_text())
        assert told["epoch"] == 3 and told["entries"] == scene.node.store.head().next_seq
        assert told["vaults"] == [{"vault": 0, "agreed_epochs": 2, "last_signed": 3, "objections": []}]
        assert attestor.follower.checkpoint is not None and attestor.follower.checkpoint.size == told["entries"]
        assert not (scene.folder(f"w{number}") / "evidence").exists()
    assert [row.attestor for row in scene.node.attestations.of(0, 3)] == [w.address for w in WATCHERS]


def test_a_forged_header_is_vetoed_seconded_and_void(scene: Scene) -> None:
    """Signed with the operator's key and two attestors', solvent and in order, and still not what the journal gives:
    one vetoes, another seconds, the vault freezes before it with FREEZE_VETO, and the bond is back. The evidence names
    what differs, and its hash is what the veto's event names."""
    first, second = scene.watcher(0), scene.watcher(1)
    forged = scene.steal()
    first.turn()
    assert scene.vault.veto_of(3).by == WATCHERS[0].address and scene.vault.veto_of(3).state == VETO_OPEN
    assert codes(first) == ["HEADER_DIFFERS"] and not scene.vault.frozen()
    first.turn()
    assert scene.vault.veto_of(3).objectors == 1
    second.turn()
    assert scene.vault.veto_of(3).state == VETO_UPHELD and scene.vault.frozen()
    assert scene.vault.freeze_reason() == FREEZE_VETO
    assert scene.vault.escape_epoch() < 3
    assert scene.vault.eth_credit(WATCHERS[0].address) == BOND_WEI
    (event,) = scene.vault.vetoes()
    assert (event.epoch, event.header_hash) == (3, forged.hash())
    digest, content = evidence.load(scene.folder("w0") / "evidence" / f"{event.evidence.hex()}.json")
    assert digest == event.evidence and len(scene.evidence("w0")) == 1
    mine = scene.node.book.load(3).part(0).header
    assert (content["reason"], content["vault"], content["epoch"]) == ("HEADER_DIFFERS", 0, 3)
    assert content["posted_header"] == "0x" + forged.encode().hex() and content["own_header"] == "0x" + mine.hex()
    true = Header.decode(mine)
    assert f"exit_root: posted 0x{forged.exit_root.hex()}, replay 0x{true.exit_root.hex()}" in content["detail"]
    assert "prev_header" not in content["detail"]
    for attestor in (first, second):
        attestor.turn()
        assert sorted(codes(attestor)) == ["ESCAPE_UNSETTLED", "HEADER_DIFFERS", "VAULT_FROZEN"]


def test_a_lone_veto_lapses_and_the_header_goes_on(scene: Scene) -> None:
    """Nobody seconds: the veto holds the header for the seconding time, then it is final, and the objector's bond is
    the house's. The objector does not try again."""
    scene.steal()
    alone = scene.watcher(1)
    alone.turn()
    assert scene.vault.finalised_epoch() < 3
    scene.pass_time(WINDOW_S + 1)
    assert scene.vault.finalised_epoch() == 3 and not scene.vault.frozen()
    for _ in range(2):
        alone.turn()
    assert (scene.vault.veto_of(3).objectors, len(scene.vault.vetoes())) == (1, 1)
    scene.thief().settle_veto(3)
    assert scene.vault.veto_of(3).state == VETO_FAILED
    assert scene.vault.eth_credit(scene.vault.treasury()) == BOND_WEI
    assert codes(alone) == ["HEADER_DIFFERS"]


def test_a_lapsed_veto_is_settled_before_the_next(scene: Scene) -> None:
    """Two forged headers in a row, and one attestor: its first veto lapsed unseconded, and the contract wants it
    settled before the second header can be objected to, which happens in one turn."""
    scene.steal()
    alone = scene.watcher(2)
    alone.turn()
    scene.pass_time(WINDOW_S + 1)
    scene.steal()
    alone.turn()
    assert scene.vault.veto_of(3).state == VETO_FAILED
    assert (scene.vault.veto_of(4).state, scene.vault.veto_of(4).by) == (VETO_OPEN, WATCHERS[2].address)
    assert {row["epoch"] for row in alone.status()["vaults"][0]["objections"]} == {3, 4}


def test_a_header_beyond_the_journal_is_vetoed_without_a_grace(scene: Scene) -> None:
    """The journal up to the forged header's size is here, and no entry closes its epoch: nothing is waited for."""
    scene.steal()
    scene.steal()
    attestor = scene.watcher(0)
    attestor.turn()
    assert codes(attestor)[:2] == ["HEADER_DIFFERS", "NOT_IN_JOURNAL"]
    assert scene.vault.veto_of(3).state == VETO_OPEN
    reasons = sorted(content["reason"] for content in scene.evidence("w0").values())
    assert reasons == ["HEADER_DIFFERS", "NOT_IN_JOURNAL"]
    for _ in range(3):
        scene.something()
        attestor.turn()
    assert len(scene.evidence("w0")) == 2, "the journal grows, and what was found once is not found again"


def test_withheld_entries_are_objected_to_after_the_grace(scene: Scene) -> None:
    """A true header whose journal nobody is shown: waited for during the grace, then vetoed as withheld by one, and
    seconded by another. Not an instant before."""
    scene.post_honest(3)
    scene.gate.shut = ("/v1/blocks",)
    first, second = scene.watcher(0), scene.watcher(1)
    for attestor in (first, second):
        attestor.turn()
    scene.now_s += GRACE_S
    for attestor in (first, second):
        attestor.turn()
        assert codes(attestor) == ["OPERATOR_UNREACHABLE"]
    assert scene.vault.veto_of(3).state == VETO_NONE and not scene.evidence("w0")
    scene.now_s += 0.5
    first.turn()
    assert codes(first) == ["OPERATOR_UNREACHABLE", "DATA_WITHHELD"]
    assert scene.vault.veto_of(3).by == WATCHERS[0].address
    second.turn()
    assert scene.vault.freeze_reason() == FREEZE_VETO
    (content,) = scene.evidence("w1").values()
    assert content["reason"] == "DATA_WITHHELD" and content["own_header"] is None


def test_entries_that_come_within_the_grace_clear_the_header(scene: Scene) -> None:
    """A late operator is no cheat: once the entries are there the header is agreed with, however old it is."""
    scene.post_honest(3)
    scene.gate.shut = ("/v1/",)
    attestor = scene.watcher(0)
    attestor.turn()
    scene.now_s += GRACE_S - 1
    attestor.turn()
    scene.gate.reset()
    scene.now_s += 1_000
    attestor.turn()
    assert scene.vault.vetoes() == [] and attestor.status()["vaults"][0]["agreed_epochs"] == 3
    assert codes(attestor) == ["OPERATOR_UNREACHABLE"]


def test_the_grace_is_each_headers_own(scene: Scene) -> None:
    """A header that a reorganisation put in another's place has its whole grace before it."""
    scene.gate.shut = ("/v1/blocks",)
    attestor = scene.watcher(0)
    before = scene.vault.rpc.request("evm_snapshot")
    scene.post_honest(3)
    attestor.turn()
    assert scene.vault.rpc.request("evm_revert", before)
    other = scene.post_honest(3, state_root=bytes(32))
    scene.now_s += GRACE_S + 1
    attestor.turn()
    assert scene.vault.header_hash(3) == other and scene.vault.vetoes() == []
    scene.now_s += GRACE_S + 1
    attestor.turn()
    assert [event.header_hash for event in scene.vault.vetoes()] == [other]


def test_an_operator_that_is_gone_is_no_reason_to_object(scene: Scene) -> None:
    """Without an answer from the operator: one alert, no veto of what is known to be true, and nothing signed."""
    attestor = scene.watcher(0)
    attestor.turn()
    attestor.close()
    scene.gate.shut = ("/",)
    again = scene.watcher(0)
    for _ in range(3):
        scene.now_s += 10 * GRACE_S
        again.turn()
    assert [(alert["part"], alert["code"]) for alert in again.alerts] == [
        ("journal", "OPERATOR_UNREACHABLE"),
        ("signing 0", "OPERATOR_UNREACHABLE"),
    ]
    assert scene.vault.vetoes() == [] and again.status()["vaults"][0]["agreed_epochs"] == 2
    scene.gate.reset()
    again.turn()
    assert len(again.alerts) == 2
