# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole audit of an operator's directory against real vaults on an embedded EVM: what agrees, what does not, and what
was not looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from clearing.audit.chain.anchor import anchored
from clearing.audit.chain.money import balances
from clearing.audit.chain.reading import read
from clearing.audit.chain.times import check_entries, check_times
from clearing.audit.pieces.ranges import Plan
from clearing.audit.pieces.starts import start_of_epoch
from clearing.audit.run import audit
from clearing.audit.source import LogSource, Source, StoreSource, StreamSource
from clearing.audit.summary import summary
from clearing.audit.verdict import Audit, Request
from clearing.chain.structs import Payment
from clearing.chain.vault import VaultClient
from clearing.model import outcomes as o
from clearing.model.codec import decode_entry, encode_entry
from clearing.model.errors import NovateError
from clearing.model.signature import public_key_of
from clearing.report.audit import audit_page
from journal import Store
from journal.folder import directory
from journal.published import PublishedLog, unsigned
from journal.tiles import publish
from proofs import checkpoint as notes
from proofs.cosignature import verifier_key
from proofs.header import Header
from proofs.log import leaf_hash
from proofs.log import root as log_root
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S, Deployed, deploy_venue, take_in, trade
from tests.service.world import USD, seed_of

ASKS_FOR_ONE = f"witness w {verifier_key('witness.example', public_key_of(seed_of('a witness'))[1:])}\nquorum w\n"


class Scene(NamedTuple):
    """A venue that closed three epochs and stopped; `note` is its last signed checkpoint."""

    deployed: Deployed
    note: str

    def signed(self, size: int, source: Source) -> str:
        """The operator's note over the first `size` entries."""
        root = log_root([leaf_hash(data) for _, data in source.entries(0, size)])
        tip = notes.parse(self.note).checkpoint
        key = bytes.fromhex((self.deployed.path / "keys" / "operator.ed25519").read_text().strip())
        return notes.sign(tip.__class__(tip.origin, size, root), key)

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
        "witnesses: no --policy was given, so nobody but the operator vouches that there is one history",
    ]


def test_what_no_epoch_and_no_checkpoint_commits_to_is_said(scene: Scene) -> None:
    """Entries after the last posted epoch, entries after the note, and a note from before the start."""
    whole = audit(scene.request())
    source = scene.request().source
    first = whole.report.epochs[0].journal_size
    cut = StreamSource(partial(source.entries, 0, first - 1), scene.signed(first - 2, source))
    found = audit(replace(scene.request(), source=cut))
    assert found.verdict == "agrees" and found.checkpoint is not None and found.checkpoint.size == first - 2
    assert "entries from 0 on were in no posted epoch when the chains were read" in found.unchecked
    assert f"entries from {first - 2} on are not in the signed checkpoint yet" in found.unchecked
    later = audit(scene.request(epoch=2, note=scene.signed(first, source), policy="quorum none\n"))
    assert "the signed checkpoint: it is older than the start" in later.unchecked
    assert codes(later) == ["POLICY_UNSATISFIED"] and "before the start" in later.findings[0].message


def test_a_vault_given_twice_does_not_stand_for_another(scene: Scene) -> None:
    (vault,) = scene.request().vaults
    with pytest.raises(NovateError) as error:
        audit(scene.request(vaults=[vault, vault]))
    assert error.value.code == "SAME_VAULT"


def test_a_diverging_journal_has_no_checkpoint_that_holds(scene: Scene) -> None:
    """What was not reached was not compared, and neither data nor page say that it holds."""
    data = [entry for _, entry in scene.request().source.entries()]
    entry = decode_entry(data[3])
    data[3] = encode_entry(3, entry.time_us + 1, entry.envelope, [*entry.outcomes, o.Rejected(0, "X")])
    found = audit(replace(scene.request(), source=StreamSource(lambda: iter(enumerate(data)), scene.note)))
    assert found.verdict == "diverges" and found.report.divergence is not None and found.report.divergence.seq == 3
    told = summary(found, [])
    assert told["checkpoint"]["ok"] is False and told["checkpoint"]["compared"] is False
    assert "not compared" in audit_page(told) and found.unchecked == ["everything after the divergence"]


def test_a_start_that_is_not_what_was_posted_is_refused(scene: Scene, tmp_path: Path) -> None:
    """A journal with another history before the start, a true snapshot and a proof that leads to its own root; a close
    with another figure; and vaults of which none has a header there."""
    data = [entry for _, entry in scene.request().source.entries()]
    sizes = [epoch.journal_size for epoch in audit(scene.request()).report.epochs]
    for at, says in ((2, "journal_root: the vault has"), (sizes[1] - 1, "marks_hash: the vault has")):
        forged, entry = list(data), decode_entry(data[at])
        outcomes: list[o.Outcome] = [
            msgspec.structs.replace(x, marks_hash=bytes(32)) for x in entry.outcomes if isinstance(x, o.EpochClosed)
        ]
        forged[at] = encode_entry(at, entry.time_us, entry.envelope, outcomes)
        with Store.create(tmp_path / f"forged-{at}") as store:
            store.append(forged, store.head())
        request = replace(scene.request(epoch=2), source=StoreSource(tmp_path / f"forged-{at}"))
        with pytest.raises(NovateError, match=says) as other:
            audit(request)
        assert other.value.code == "START_DIFFERS"
    genesis = audit(scene.request()).genesis
    request = scene.request(epoch=2)
    assert genesis is not None and request.plan.snapshots is not None
    start = start_of_epoch(request.source, request.plan.snapshots, 2)
    parts = tuple(msgspec.structs.replace(part, live=False) for part in start.outcome.vaults)
    frozen = replace(start, outcome=msgspec.structs.replace(start.outcome, vaults=parts))
    with pytest.raises(NovateError, match="no chain has a header of it"):
        anchored(genesis, frozen, request.vaults)


def test_an_audit_from_an_epoch_rests_on_what_the_vault_has(scene: Scene) -> None:
    """The start's roots are the posted ones; the headers after it are compared; a snapshot of an epoch that the vault
    does not have, or has otherwise, is refused."""
    found = audit(scene.request(epoch=2))
    assert found.ok, found.findings
    assert found.report.first_epoch == 2 and len(found.report.epochs) == 1
    assert "its roots are those that the vaults have" in found.unchecked[0]
    request = scene.request(epoch=3)
    (vault,) = request.vaults
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "epoch_count", lambda: 2)
        with pytest.raises(NovateError, match="no header of epoch 3 yet") as missing:
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
    assert (late.verdict, late.findings) == ("undecided", []) and late.behind == [late.unchecked[0]]
    assert "no verdict" in audit_page(summary(late, []))
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
    (vault,) = request.vaults
    reading = read(vault, vault.epoch_count())
    headers = [one.header for one in reading.posted]
    assert check_times(headers, reading)[1] == []
    for shift_s, says in ((7_200, "after block"), (-1_200, "before block"), (-DEADLINE_S - 1_200, "the deadline is")):
        moved = [msgspec.structs.replace(h, close_time_us=h.close_time_us + shift_s * 1_000_000) for h in headers]
        found = check_times(moved, reading)[1]
        assert {finding.code for finding in found} == {"ENTRY_TIME"}
        assert any(says in finding.message for finding in found), found
    for change in ({"l1_hash": b"\x01" * 32}, {"l1_number": headers[0].l1_number + 10_000}):
        other = [msgspec.structs.replace(headers[0], **change)]
        assert [f.code for f in check_times(other, reading)[1]] == ["L1_BLOCK_DIFFERS"]


def test_entries_before_their_messages_or_after_now_are_found(scene: Scene) -> None:
    """A deposit that was taken in before its block, and an entry that is later than both the chain and the auditor."""
    report = audit(scene.request()).report
    assert report.state is not None
    last_s = report.state.time_us // 1_000_000
    assert 0 <= report.lead[0] < report.size and report.lead[1] <= 2_000_000
    assert check_entries(report, last_s, 900, last_s) == []
    (early,) = check_entries(replace(report, lead=(7, 901_000_000)), last_s, 900, last_s)
    assert early.code == "ENTRY_TIME" and "entry 7 takes in a message whose block is 901 s younger" in early.message
    (late,) = check_entries(report, last_s - 2_000, 900, last_s - 1_000)
    assert late.code == "ENTRY_TIME" and "1000 s from now" in late.message


def test_money_that_does_not_add_up_is_found(scene: Scene) -> None:
    """An endpoint that hides a payment, and a vault whose tokens are gone."""
    request = scene.request()
    (vault,) = request.vaults
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "payments", lambda *_: [Payment(0, 5, 1)])
        found = audit(request)
    assert codes(found) == ["HOLDINGS_DIFFER"]
    assert f"{3_007 * USD} atoms of asset 0 came in and 5 went out" in found.findings[0].message
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "token_balance", lambda *_: 1)
        assert codes(audit(request)) == ["TOKENS_MISSING"]


def test_money_is_held_against_every_epoch(scene: Scene) -> None:
    """Promised, consumed, paid and held at each; an epoch that promises what did not come in, or what came later."""
    found = audit(scene.request())
    (vault,) = found.vaults
    assert [(row.epoch, row.consumed, row.promised, row.paid_out, row.held) for row in vault.balances] == [
        (epoch, 3_000 * USD, 3_000 * USD, 0, 3_000 * USD) for epoch in (1, 2, 3)
    ]
    (client,) = scene.request().vaults
    reading = read(client, client.epoch_count())
    headers = [one.header for one in reading.posted]
    less = replace(reading, messages=reading.messages[1:])
    assert [(f.code, f.epoch) for f in balances(less, headers)[1]] == [("INSOLVENT", epoch) for epoch in (1, 2, 3)]
    after = reading.posted[0].event.block_number + 1
    late = replace(reading, messages=tuple(m._replace(block_number=after) for m in reading.messages))
    assert [(f.code, f.epoch) for f in balances(late, headers)[1]] == [("INSOLVENT", 1)]
    assert "the vault held 0 at block" in balances(late, headers)[1][0].message


# --- the private form ---


@pytest.mark.parametrize("form", ["private", "tiles alone"])
def test_a_log_without_readable_entries_gives_no_verdict(scene: Scene, tmp_path: Path, form: str) -> None:
    """Posted journal roots, money and times are checked by hashes alone, all else is named, and nothing says ok; a
    posted root that is not the log's is found all the same. With the key it is an audit like any other."""
    key = bytes(range(32))
    with Store.open(scene.deployed.path / "journal", read_only=True) as store:
        publish(store, tmp_path, scene.note, key if form == "private" else None)
    if form != "private":
        shutil.rmtree(tmp_path / "tile" / "entries")
    request = replace(scene.request(), source=published(tmp_path, scene.note))
    found = audit(request)
    assert (found.verdict, found.findings, found.ok) == ("undecided", [], False)
    (vault,) = found.vaults
    assert len(vault.posted) == len(vault.times) == len(vault.balances) == 3
    told = " ".join(found.unchecked)
    assert "no signature, outcome, balance" in told and "who signed the checkpoint" in told
    page = audit_page(summary(found, []))
    assert "no verdict: the entries could not be read" in page and "everything that was checked agrees" not in page
    (client,) = request.vaults
    other = scene.request().vaults[0]
    with pytest.MonkeyPatch.context() as patch:
        events = other.epochs(other.first_block())
        header = msgspec.structs.replace(Header.decode(events[1].header), journal_root=bytes(32))
        events[1] = events[1]._replace(header=header.encode(), header_hash=header.hash())
        patch.setattr(client, "epochs", lambda *_: events)
        wrong = audit(request)
    assert (wrong.verdict, codes(wrong)) == ("differs", ["HEADER_DIFFERS", "HEADER_DIFFERS"])
    assert {finding.epoch for finding in wrong.findings} == {2}
    assert codes(audit(replace(request, policy=ASKS_FOR_ONE))) == ["POLICY_UNSATISFIED"]
    if form == "private":
        opened = audit(replace(request, source=published(tmp_path, scene.note, key)))
        assert opened.verdict == "agrees" and opened.report.root == found.root


def published(folder: Path, note: str, key: bytes | None = None) -> LogSource:
    def reader() -> PublishedLog:
        log = PublishedLog(directory(folder), unsigned, key)
        log.at(note)
        return log

    return LogSource(reader)


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
    with Store.create(tmp_path / "other") as store:
        store.append([b"nothing"], store.head())
    found = audit(Request(StoreSource(tmp_path / "other")))
    assert found.report.divergence is not None and found.report.divergence.seq == 0
    assert "diverges at entry 0" in audit_page(summary(found, ["novate"]))
    Store.create(tmp_path / "empty").close()
    with pytest.raises(NovateError, match="not a Novate journal"):
        audit(Request(StoreSource(tmp_path / "empty")))
