# SPDX-License-Identifier: GPL-3.0-or-later
"""A receipt binds the operator: a log that keeps it is shown to, and one that breaks it costs the bond."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clearing.chain import structs
from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.wallet import Wallet
from clearing.model.errors import NovateError
from clearing.service.node import Node
from clearing.watch.receipts import (
    Broken,
    Receipt,
    against,
    challenge,
    equivocation,
    read_receipt,
    signed_checkpoint,
    signed_for,
    steps,
)
from journal import Store
from journal.folder import directory
from journal.published import PublishedLog, unsigned
from journal.replay import entries
from journal.tiles import publish
from proofs.checkpoint import ED25519, sign, verifier_key
from proofs.errors import CheckpointError
from proofs.verify import FAILED, OK, SKIPPED
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S, Deployed, deploy_place, deploy_venue, take_in, trade
from tests.service.world import USD

BOND, STAKE = 10**16, 10**18
SEQ = 3


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", [evm], veto_bond_wei=BOND, operator_bond_wei=STAKE)
    venue.vault.post_bond(STAKE)
    venue.deposit("alice", 1_000 * USD)
    venue.deposit("bob", 1_000 * USD)
    yield venue
    venue.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    running = deployed.node()
    take_in(running)
    trade(running)
    yield running
    running.close()


def receipt_of(node: Node, seq: int) -> Receipt:
    """As the operator's interface hands it out, through its file."""
    shown = node.venue.proven_receipt(seq)
    path = tuple(bytes.fromhex(item[2:]) for item in shown["proof"])
    return read_receipt(Receipt(seq, bytes.fromhex(shown["entry"][2:]), path, shown["checkpoint"]["note"]).text())


def log_of(node: Node, folder: Path, data: list[bytes]) -> PublishedLog:
    """A log of these entries, signed with the operator's keys and published."""
    with Store.create(folder / "journal", grow_bytes=65_536, reserve_bytes=4_096) as store:
        store.append(data, store.head())
        key = node.pipeline.reducer.state.operator_key
        note = node._signer.sign(key, len(data), store.root(len(data))).note
        publish(store, folder / "log", note)
    return PublishedLog(directory(folder / "log"), unsigned)


def honest(node: Node) -> list[bytes]:
    return [entry for _, entry in entries(node.store)]


def test_a_receipt_is_checked_step_by_step(node: Node, deployed: Deployed, evm: ChainNode) -> None:
    """Entry, inclusion, the log's key, the signature that a vault takes; and each fails by itself."""
    found = receipt_of(node, SEQ)
    key = verifier_key(found.tip.origin, ED25519, node.pipeline.reducer.state.operator_key[1:])
    good = {step.name: step.status for step in steps(found, key, deployed.vault)}
    assert good == {"entry": OK, "inclusion": OK, "signature": OK, "contract": OK, "witnesses": SKIPPED}
    other = receipt_of(node, SEQ - 1)
    cases = {
        "entry": replace(found, entry=other.entry),
        "inclusion": replace(found, path=other.path[1:]),
        "signature": replace(found, note=found.note.replace(" " + found.note.split(" ")[2], " AAAA" + "A" * 88)),
    }
    for name, broken in cases.items():
        assert {step.name: step.status for step in steps(broken, key, deployed.vault)}[name] == FAILED, name
    stranger = deploy_place(evm, b"\x11" * 20, Wallet(dev_key(3)))
    assert {step.name: step.status for step in steps(found, key, stranger.vault)}["contract"] == FAILED
    stranger.rpc.close()


def test_the_published_log_keeps_it(node: Node, tmp_path: Path) -> None:
    """The same log, and a longer one; a shorter one cannot tell."""
    data, found = honest(node), receipt_of(node, SEQ)
    said = against(found, log_of(node, tmp_path / "a", data))
    assert isinstance(said, str) and said.startswith(f"entry {SEQ} is in the published log")
    assert isinstance(against(found, log_of(node, tmp_path / "b", [*data, data[-1]])), str)
    for count in (SEQ, len(data) - 1):
        with pytest.raises(NovateError, match="LOG_BEHIND"):
            against(found, log_of(node, tmp_path / str(count), data[:count]))


@pytest.mark.parametrize("growth", [0, 3, -2])
def test_a_log_that_excludes_it_is_a_fault_of_the_operators(
    node: Node, deployed: Deployed, tmp_path: Path, growth: int
) -> None:
    """Another entry stands at its place: in a log of the same size, a longer and a shorter one. The vault freezes and
    half of the bond is the reporter's."""
    data, found = honest(node), receipt_of(node, SEQ)
    data[SEQ] = data[SEQ] + b"!"
    data = data[:growth] if growth < 0 else data + data[:growth]
    broken = against(found, log_of(node, tmp_path, data))
    assert isinstance(broken, Broken) and (growth == 0 or "is another one" in broken.reason)
    vault = deployed.places[0].as_member("alice")
    vault.prove_equivocation(*equivocation(found, broken, vault))
    assert (vault.freeze_reason(), vault.fault_proven()) == (structs.FREEZE_FAULT, True)
    (fault,) = vault.faults(vault.first_block())
    assert (fault.kind, vault.eth_credit(fault.reporter)) == (structs.FAULT_EQUIVOCATION, STAKE // 2)


def test_where_only_another_entry_differs_the_reader_is_told(node: Node, deployed: Deployed, tmp_path: Path) -> None:
    """The history before the receipt was altered: its root shows it, and the contract wants the entry."""
    data, found = honest(node), receipt_of(node, SEQ)
    broken = against(found, log_of(node, tmp_path, [data[0], data[1] + b"!", *data[2:], data[-1]]))
    assert isinstance(broken, Broken) and broken.shown is None and "another root" in broken.reason
    with pytest.raises(NovateError, match="NO_EVIDENCE"):
        equivocation(found, broken, deployed.vault)


def test_an_entry_that_is_never_shown_is_a_fault_too(node: Node, deployed: Deployed) -> None:
    """Asked for with the bond; not answered in time, the operator pays and the bond comes back."""
    vault = deployed.places[0].as_member("bob")
    number = vault.challenge_in(vault.challenge_receipt(*challenge(receipt_of(node, SEQ), vault)))
    with pytest.raises(ChainError, match="AnswerNotDue"):
        vault.prove_unanswered(number)
    deployed.places[0].pass_time(DEADLINE_S + 1)
    vault.prove_unanswered(number)
    (fault,) = vault.faults(vault.first_block())
    assert (fault.kind, vault.freeze_reason()) == (structs.FAULT_RECEIPT_VIOLATION, structs.FREEZE_FAULT)
    assert fault.reporter == vault.wallet.address and vault.eth_credit(fault.reporter) == STAKE // 2 + BOND


def test_a_foreign_log_is_none_of_ours(node: Node, tmp_path: Path) -> None:
    found = receipt_of(node, SEQ)
    other = replace(found, note=found.note.replace(found.tip.origin, "elsewhere.example/00/journal"))
    with pytest.raises(NovateError, match="LOG_FOREIGN"):
        against(other, log_of(node, tmp_path, honest(node)))


@pytest.mark.slow
def test_every_single_bit_flip_of_the_contracts_line_is_refused(node: Node, deployed: Deployed) -> None:
    """The signature that a vault takes: no bit of the line, nor of the size and root that it signs, may differ."""
    note = receipt_of(node, SEQ).note
    origin, _, rest = note.partition("\n")
    signed, ed25519, contract = rest.partition("\n\n")[0], *note[:-1].split("\n")[-2:]
    data, accepted = note.encode(), []
    spans = [len(origin.encode()) + 1, data.index(contract.encode())]
    bits = range(8 * spans[0], 8 * (spans[0] + len(signed))), range(8 * spans[1], 8 * len(data))
    assert ed25519 != contract and len(bits[1]) > 1_000
    for bit in (bit for part in bits for bit in part):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            signed_checkpoint(flipped.decode(), deployed.vault)
        except (CheckpointError, UnicodeDecodeError):
            continue
        accepted.append(bit)
    assert accepted == []


def test_a_strangers_log_is_not_the_operators(node: Node, deployed: Deployed, tmp_path: Path) -> None:
    """Under the vault's own check, a log that contradicts the receipt must bear a signature that binds the operator."""
    data = honest(node)
    data[SEQ] = data[SEQ] + b"!"
    theirs = log_of(node, tmp_path, data)
    check, fetch = signed_for(deployed.vault), directory(tmp_path / "log")
    assert isinstance(against(receipt_of(node, SEQ), PublishedLog(fetch, check)), Broken)
    tip = theirs.checkpoint()
    forged = sign(tip, b"\x02" * 32) + theirs.note[:-1].split("\n")[-1].replace(" ", " AAAA", 2) + "\n"
    for note in (sign(tip, b"\x02" * 32), forged):
        (tmp_path / "log" / "checkpoint").write_text(note)
        with pytest.raises(CheckpointError):
            PublishedLog(fetch, check).checkpoint()
