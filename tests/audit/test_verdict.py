# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole audit of an operator's directory against real vaults on an embedded EVM: what agrees, what does not, and what
was not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from clearing.audit.ranges import Plan
from clearing.audit.source import StoreSource, StreamSource
from clearing.audit.summary import summary
from clearing.audit.times import check_times
from clearing.audit.verdict import Audit, Request, audit
from clearing.chain.vault import VaultClient
from clearing.model.errors import NovateError
from clearing.report.audit import audit_page
from proofs import checkpoint as notes
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S, Deployed, deploy_venue, take_in, trade
from tests.service.world import USD, seed_of


class Scene(NamedTuple):
    """A venue that closed three epochs and stopped; `note` is its last signed checkpoint."""

    deployed: Deployed
    note: str

    def request(self, **choices: Any) -> Request:
        source = StoreSource(self.deployed.path / "journal", choices.pop("note", self.note))
        vault = VaultClient(self.deployed.rpc, self.deployed.vault.address)
        plan = Plan(1, True, self.deployed.path / "snapshots")
        return Request(source, choices.pop("vaults", [vault]), plan, **choices)


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def scene(evm: ChainNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    deployed = deploy_venue(tmp_path_factory.mktemp("audited") / "venue", [evm])
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 2_000 * USD)
    node = deployed.node()
    take_in(node)
    trade(node)
    for _ in range(3):
        node.poster.turn()
    deployed.deposit("carol", 7 * USD)
    note = node.venue.checkpoint().note
    node.close()
    yield Scene(deployed, note)
    deployed.rpc.close()


def codes(found: Audit) -> list[str]:
    return [finding.code for finding in found.findings]


def test_an_honest_venue_is_found_so(scene: Scene) -> None:
    """Every posted header, the money to the atom with a deposit that waits, the times, the signed checkpoint; and
    what nobody vouches for is said."""
    found = audit(scene.request())
    assert found.ok, found.findings
    (vault,) = found.vaults
    assert len(vault.posted) == len(found.report.epochs) == len(vault.times) == 3
    (row,) = vault.money
    assert (row.deposited, row.waiting, row.paid_out, row.holdings) == (3_007 * USD, 7 * USD, 0, 3_007 * USD)
    assert found.report.epochs[-1].outcome.vaults[0].exit_sums == (3_000 * USD,)
    assert found.checkpoint is not None and found.checkpoint.size == found.report.size
    assert found.unchecked == [
        "witnesses: no --policy was given, so nobody but the operator vouches that there is one history"
    ]


def test_an_audit_from_an_epoch_rests_on_what_the_vault_has(scene: Scene) -> None:
    """The start's roots are the posted ones; the headers after it are compared; a snapshot of an epoch that the vault
    does not have, or has otherwise, is refused."""
    found = audit(scene.request(epoch=2))
    assert found.ok, found.findings
    assert found.report.first_epoch == 2 and len(found.report.epochs) == 1
    assert "its roots are those that the vaults have" in found.unchecked[0]
    request = scene.request(epoch=2)
    (vault,) = request.vaults
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "epochs", lambda *_: [])
        with pytest.raises(NovateError, match="no header of epoch 2 yet") as missing:
            audit(request)
        assert missing.value.code == "START_DIFFERS"
    with pytest.raises(NovateError) as none:
        audit(scene.request(epoch=9))
    assert none.value.code == "SNAPSHOT_NOT_FOUND"


def test_epochs_that_an_older_copy_does_not_reach_are_not_checked(scene: Scene) -> None:
    """They are no disagreement, and the verdict names them; once they are older than a copy has reason to lag, it is no
    verdict, since entries may be withheld."""
    whole = audit(scene.request())
    size = whole.report.epochs[2].journal_size - 1
    request = scene.request(note="")
    older = replace(request, source=StreamSource(partial(request.source.entries, 0, size)))
    found = audit(older)
    assert (found.ok, found.report.size, len(found.report.epochs), found.behind) == (True, size, 2, [])
    assert found.unchecked[0].startswith("epoch 3 of vault 0: posted up to ")
    assert [sorted(vault.posted) for vault in found.vaults] == [[1, 2]]
    late = audit(replace(older, tolerance_s=-1, times=False))
    assert late.ok and late.behind == [late.unchecked[0]]
    assert summary(late, [])["behind"] == late.behind


def test_a_checkpoint_that_is_not_the_logs_is_found(scene: Scene) -> None:
    """Another root under the true key, a stranger's signature, no note at all; and a policy needs a note."""
    tip = notes.parse(scene.note).checkpoint
    key = bytes.fromhex((scene.deployed.path / "keys" / "operator.ed25519").read_text().strip())
    forged = notes.sign(tip.__class__(tip.origin, tip.size, bytes(32)), key)
    assert codes(audit(scene.request(note=forged))) == ["CHECKPOINT_DIFFERS"]
    stranger = notes.sign(tip, seed_of("a stranger"))
    assert codes(audit(scene.request(note=stranger))) == ["CHECKPOINT_UNSIGNED"]
    assert codes(audit(scene.request(note="nonsense"))) == ["CHECKPOINT_DIFFERS"]
    ahead = notes.sign(tip.__class__(tip.origin, tip.size + 1, tip.root), key)
    assert codes(audit(scene.request(note=ahead))) == ["CHECKPOINT_DIFFERS"]
    assert codes(audit(scene.request(note="", policy="quorum none\n"))) == ["POLICY_UNSATISFIED"]


def test_times_that_the_chain_contradicts_are_found(scene: Scene) -> None:
    """A close after its posting block, one from before the block that it names, one older than the deadline; a named
    block that the chain does not have."""
    request = scene.request()
    report = audit(request).report
    (vault,) = request.vaults
    events = vault.epochs(vault.first_block())
    assert check_times(report, 0, vault, events)[1] == []
    for shift_s, says in ((7_200, "after block"), (-1_200, "before block"), (-DEADLINE_S - 1_200, "the deadline is")):
        moved = [replace(e, close_time_us=e.close_time_us + shift_s * 1_000_000) for e in report.epochs]
        found = check_times(replace(report, epochs=moved), 0, vault, events)[1]
        assert {finding.code for finding in found} == {"ENTRY_TIME"}
        assert any(says in finding.message for finding in found), found
    part = report.epochs[0].outcome.vaults[0]
    for change in ({"l1_hash": b"\x01" * 32}, {"l1_number": part.l1_number + 10_000}):
        outcome = msgspec.structs.replace(
            report.epochs[0].outcome, vaults=(msgspec.structs.replace(part, **change),)
        )  # fmt: skip
        other = replace(report, epochs=[replace(report.epochs[0], outcome=outcome)])
        assert [f.code for f in check_times(other, 0, vault, events[:1])[1]] == ["L1_BLOCK_DIFFERS"]


def test_money_that_does_not_add_up_is_found(scene: Scene) -> None:
    """An endpoint that hides a payment, and a vault whose tokens are gone."""
    request = scene.request()
    (vault,) = request.vaults
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "paid_out", lambda *_: {0: 5})
        found = audit(request)
    assert codes(found) == ["HOLDINGS_DIFFER"]
    assert f"{3_007 * USD} atoms of asset 0 came in and 5 went out" in found.findings[0].message
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "token_balance", lambda *_: 1)
        assert codes(audit(request)) == ["TOKENS_MISSING"]


def test_the_report_is_one_page_that_asks_nobody_for_anything(scene: Scene) -> None:
    """Verdict, version, parameter hashes, epochs, the command that makes it again; no address is loaded."""
    found = summary(audit(scene.request()), ["novate", "audit", "run", "--journal", "a'b<c"])
    text = audit_page(found)
    for part in (
        "everything that was checked agrees", found["deployment"], found["parameters"][0]["hash"],
        found["epoch_table"][2]["state_root"][:18], "&lt;c", "What an audit cannot show",
    ):  # fmt: skip
        assert part in text
    for banned in ("http:", "https:", "src=", "<link", "<script", "@import", "url("):
        assert banned not in text
    assert found["ok"] and found["epoch_table"][0]["vaults"][0]["posted"] is True


def test_a_journal_without_a_genesis_diverges_at_its_first_entry(scene: Scene, tmp_path: Path) -> None:
    """And an empty one is none."""
    from journal import Store

    with Store.create(tmp_path / "other") as store:
        store.append([b"nothing"], store.head())
    found = audit(Request(StoreSource(tmp_path / "other")))
    assert found.report.divergence is not None and found.report.divergence.seq == 0
    assert "diverges at entry 0" in audit_page(summary(found, ["novate"]))
    Store.create(tmp_path / "empty").close()
    with pytest.raises(NovateError, match="not a Novate journal"):
        audit(Request(StoreSource(tmp_path / "empty")))
