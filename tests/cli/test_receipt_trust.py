# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signed decides: no bit of a receipt may differ, and only a log that the operator signed accuses the operator."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from nacl.signing import SigningKey

from clearing.cli.main import main
from clearing.model.codec import encode_entry
from clearing.model.errors import NovateError
from clearing.watch.receipts import read_receipt, steps
from journal import Store
from journal.tiles import publish
from proofs import log, tlogproof
from proofs.checkpoint import ED25519, Checkpoint, sign, verifier_key
from proofs.errors import ProofError
from proofs.verify import FAILED

OPERATOR, STRANGER = b"\x01" * 32, b"\x02" * 32
ORIGIN = "venue.example/00ff/journal"
KEY = verifier_key(ORIGIN, ED25519, bytes(SigningKey(OPERATOR).verify_key))
SEQ, SIZE = 2, 5
HONEST = [encode_entry(number, 1_700_000_000_000_000 + number, b"command %d" % number, []) for number in range(SIZE)]
DENIED = [*HONEST[:SEQ], encode_entry(SEQ, 1_700_000_000_000_009, b"another command", []), *HONEST[SEQ + 1 :]]


def receipt_text(index: int = SEQ, origin: str = ORIGIN) -> str:
    leaves = [log.leaf_hash(entry) for entry in HONEST]
    note = sign(Checkpoint(origin, SIZE, log.root(leaves)), OPERATOR)
    return tlogproof.build(index, log.inclusion_proof(index, leaves), note, HONEST[index])


@pytest.fixture
def receipt(tmp_path: Path) -> str:
    path = tmp_path / f"{SEQ}.tlog-proof"
    path.write_text(receipt_text())
    return str(path)


def log_of(folder: Path, entries: list[bytes], seed: bytes, origin: str = ORIGIN) -> str:
    """A published log of these entries, whoever signs it."""
    with Store.create(folder / "journal", grow_bytes=65_536, reserve_bytes=4_096) as store:
        store.append(entries, store.head())
        publish(store, folder / "log", sign(Checkpoint(origin, len(entries), store.root(len(entries))), seed))
    return str(folder / "log")


def verify(*arguments: str) -> Result:
    done = CliRunner().invoke(main, ["receipt", "verify", *arguments], env={"NOVATE_RPC": None, "NOVATE_VAULT": None})
    assert "Traceback" not in done.output
    return done


def ended(done: Result, status: int, code: str) -> bool:
    return done.exit_code == status and f"novate: {code}: " in done.output


def test_every_single_bit_flip_of_a_receipt_is_refused() -> None:
    """Of the entry, its index, path, size, root and signature, in the file as it is kept."""
    data = receipt_text().encode()
    assert all(step.status != FAILED for step in steps(read_receipt(data.decode()), KEY))
    accepted = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = steps(read_receipt(flipped.decode()), KEY)
        except (ProofError, NovateError, UnicodeDecodeError):
            continue
        if all(step.status != FAILED for step in found):
            accepted.append(bit)
    assert accepted == []


def test_every_single_bit_flip_of_an_entry_beside_its_proof_is_refused() -> None:
    proof = tlogproof.parse(receipt_text())
    text = tlogproof.build(proof.index, proof.path, proof.note)
    for bit in range(8 * len(proof.extra)):
        flipped = bytearray(proof.extra)
        flipped[bit // 8] ^= 1 << bit % 8
        assert any(step.status == FAILED for step in steps(read_receipt(text, bytes(flipped)), KEY)), bit


def test_a_log_of_the_operators_decides(receipt: str, tmp_path: Path) -> None:
    """It keeps the receipt, or denies it: of the same size and of a longer one."""
    kept = log_of(tmp_path / "kept", [*HONEST, HONEST[0]], OPERATOR)
    assert verify(receipt, "--key", KEY, "--log", kept).exit_code == 0
    for name, entries in {"same": DENIED, "longer": [*DENIED, HONEST[0]]}.items():
        denied = log_of(tmp_path / name, entries, OPERATOR)
        assert ended(verify(receipt, "--key", KEY, "--log", denied), 5, "RECEIPT_VIOLATED")
    short = log_of(tmp_path / "short", HONEST[:SEQ], OPERATOR)
    assert ended(verify(receipt, "--key", KEY, "--log", short), 4, "LOG_BEHIND")


def test_a_strangers_log_accuses_nobody(receipt: str, tmp_path: Path) -> None:
    """It contradicts the receipt under the operator's own origin, and only its signature is not the operator's."""
    forged = log_of(tmp_path / "forged", DENIED, STRANGER)
    policy = tmp_path / "policy"
    policy.write_text(f"log {KEY}\nquorum none\n")
    for trust in (("--key", KEY), ("--policy", str(policy))):
        assert ended(verify(receipt, *trust, "--log", forged), 4, "LOG_UNSIGNED")
    assert ended(verify(receipt, "--log", forged), 4, "SIGNER_UNKNOWN")


def test_a_policy_that_names_the_log_says_whose_it_is(receipt: str, tmp_path: Path) -> None:
    """One without logs does not; one that names another log refuses the receipt."""
    stranger = verifier_key(ORIGIN, ED25519, bytes(SigningKey(STRANGER).verify_key))
    policy = tmp_path / "policy"
    cases = {f"log {KEY}\nquorum none\n": 0, "quorum none\n": 4, f"log {stranger}\nquorum none\n": 3}
    for text, status in cases.items():
        policy.write_text(text)
        assert verify(receipt, "--policy", str(policy)).exit_code == status, text
    policy.write_text(f"log {KEY}\nquorum none\n")
    denied = log_of(tmp_path / "denied", DENIED, OPERATOR)
    assert ended(verify(receipt, "--policy", str(policy), "--log", denied), 5, "RECEIPT_VIOLATED")


def test_another_origin_is_another_operator(tmp_path: Path) -> None:
    """The same entries and the same key under another name."""
    path = tmp_path / "other.tlog-proof"
    path.write_text(receipt_text(origin="venue.example/00fe/journal"))
    assert ended(verify(str(path), "--key", KEY), 3, "RECEIPT_INVALID")
