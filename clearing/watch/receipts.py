# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's receipt: what it shows, whether the published log keeps it, and what a broken one proves.

Rules:
- A receipt is an entry's bytes and a C2SP tlog-proof that leads from them to a checkpoint which the operator signed,
  for readers with Ed25519 and for contracts with EIP-712. Who holds one needs nobody's word that the entry was taken.
- The published log breaks a receipt when no one journal can hold both: another entry stands at its number, or
  another root at its checkpoint's size.
- Two signed checkpoints that exclude each other are a fault that a vault takes at once. An entry that is simply not
  published is none yet: the vault is asked to have it shown, and its silence is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from clearing.chain.structs import Checkpoint, Disagreement
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import checkpoint_digest, recover
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import Outcome
from journal.published import Check, PublishedLog, unsigned
from proofs import checkpoint as notes
from proofs import tlogproof
from proofs.errors import CheckpointError, ProofError
from proofs.log import leaf_hash
from proofs.policy import Policy
from proofs.verify import FAILED, OK, SKIPPED, Step


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry's number, its bytes, its path and the note. Nothing is checked yet."""

    index: int
    entry: bytes
    path: tuple[bytes, ...]
    note: str

    @property
    def leaf(self) -> bytes:
        return leaf_hash(self.entry)

    @property
    def tip(self) -> notes.Checkpoint:
        """What the note says. Raises `CheckpointError`."""
        return unsigned(self.note)

    def outcomes(self) -> tuple[int, list[Outcome]]:
        """Time (microseconds UTC) and outcomes of the entry. Raises `NovateError` ENTRY_MALFORMED."""
        entry = decode_entry(self.entry)
        if entry.seq != self.index:
            raise NovateError("ENTRY_MALFORMED", f"these are the bytes of entry {entry.seq}, not of {self.index}")
        return entry.time_us, entry.outcomes

    def text(self) -> str:
        """As one file: a tlog-proof that carries the entry as extra data."""
        return tlogproof.build(self.index, self.path, self.note, self.entry)


def read_receipt(text: str, entry: bytes | None = None) -> Receipt:
    """A tlog-proof with its entry, given beside it or carried in it. Raises `ProofError`, `NovateError` NO_ENTRY."""
    proof = tlogproof.parse(text)
    found = proof.extra if entry is None else entry
    if not found:
        raise NovateError("NO_ENTRY", "the proof does not carry its entry; give the .entry file that came with it")
    return Receipt(proof.index, found, proof.path, proof.note)


# --- what it shows ---


def steps(
    receipt: Receipt, key: str | None = None, vault: VaultClient | None = None, policy: Policy | None = None
) -> list[Step]:
    """The checks in order: entry, inclusion, signature (by `key`, a verifier key), contract (the signature that a
    vault takes), witnesses. What nothing was given for is skipped. Raises `ChainError` for a vault out of reach."""
    found = [_step("entry", lambda: _entry(receipt)), _step("inclusion", lambda: _inclusion(receipt))]
    given = (
        ("signature", key is not None, lambda: _signed(receipt, key or ""), "no verifier key was given"),
        ("contract", vault is not None, lambda: _named_signer(receipt, vault), "no vault was named"),
        ("witnesses", policy is not None, lambda: _witnessed(receipt, policy), "no policy was given"),
    )
    for name, present, work, why in given:
        found.append(_step(name, work) if present else Step(name, SKIPPED, why))
    return found


def _step(name: str, work: Callable[[], str]) -> Step:
    try:
        return Step(name, OK, work())
    except ProofError as error:
        return Step(name, FAILED, f"{error.code}: {error.message}")
    except NovateError as error:
        return Step(name, FAILED, f"{error.code}: {error.message}")


def _entry(receipt: Receipt) -> str:
    time_us, outcomes = receipt.outcomes()
    kinds = ", ".join(dict.fromkeys(type(outcome).__name__ for outcome in outcomes)) or "no outcome"
    # Not by datetime, which ends at the year 9999: a false receipt may be of any.
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_us // 1_000_000))
    return f"entry {receipt.index} of {moment}: {kinds}"


def _inclusion(receipt: Receipt) -> str:
    text = tlogproof.build(receipt.index, receipt.path, receipt.note)
    _, tip = tlogproof.verify(text, receipt.entry, unsigned)
    return f"in the log of {tip.size} entries with root {tip.root.hex()[:16]}…"


def _signed(receipt: Receipt, key: str) -> str:
    origin, algorithm, public = notes.parse_verifier_key(key)
    if algorithm != notes.ED25519:
        raise CheckpointError(f"the key of {origin} is not an Ed25519 key of a log (algorithm 01)")
    notes.verify(receipt.note, public, origin)
    return f"signed by {origin}"


def _named_signer(receipt: Receipt, vault: VaultClient | None) -> str:
    assert vault is not None
    _, signer = signed_checkpoint(receipt.note, vault)
    return f"signed by 0x{signer.hex()}, whose word binds the operator at vault 0x{vault.address.hex()}"


def _witnessed(receipt: Receipt, policy: Policy | None) -> str:
    assert policy is not None
    return f"cosigned by {', '.join(policy.check(receipt.note)) or 'nobody, as the policy allows'}"


def signed_checkpoint(note: str, vault: VaultClient) -> tuple[bytes, bytes]:
    """The note's EIP-712 signature (65 bytes) by somebody whose word binds the vault's operator, and that address.

    Raises `CheckpointError` when there is none, `ChainError`.
    """
    parsed = notes.parse(note)
    tip = parsed.checkpoint
    digest = checkpoint_digest(vault.deployment_id(), tip.size, tip.root)
    for name, identity, signature in parsed.signatures:
        signer = recover(digest, signature) if name == tip.origin and len(signature) == 65 else b""
        if signer and identity == notes.key_id(tip.origin, notes.EIP712, signer) and vault.is_signer(signer):
            return signature, signer
    raise CheckpointError("it has no signature that this vault takes as the operator's; is it the right vault?")


def signed_for(vault: VaultClient) -> Check:
    """A check of notes that takes those whose EIP-712 signature binds the vault's operator."""

    def check(note: str) -> notes.Checkpoint:
        signed_checkpoint(note, vault)
        return unsigned(note)

    return check


# --- what the published log makes of it ---


@dataclass(frozen=True, slots=True)
class Broken:
    """A published log that excludes a receipt. `shown`: the entry at which they differ, None where only roots are known
    to, which convinces a reader and not a contract."""

    note: str
    reason: str
    shown: Disagreement | None


def against(receipt: Receipt, log: PublishedLog) -> Broken | str:
    """Whether the log keeps the receipt: how it breaks it, or in words how it keeps it.

    What breaks it is the operator's doing only if the log's own check holds its note for the operator's.
    Raises `NovateError` LOG_BEHIND when the log is too short to tell, and what the log raises.
    """
    tip, theirs = receipt.tip, log.tip or log.checkpoint()
    if theirs.origin != tip.origin:
        raise NovateError("LOG_FOREIGN", f"the log is {theirs.origin[:200]!r}, the receipt of {tip.origin[:200]!r}")
    if theirs.size == tip.size and theirs.root != tip.root:
        return Broken(log.note, f"two roots of {tip.size} entries are signed", Disagreement())
    tree = log.tree()
    if theirs.size > receipt.index and tree.leaf(receipt.index) != receipt.leaf:
        other = tree.leaf(receipt.index), tuple(tree.inclusion(receipt.index))
        shown = Disagreement(receipt.index, receipt.leaf, receipt.path, *other)
        return Broken(log.note, f"entry {receipt.index} is another one in the published log", shown)
    if theirs.size < tip.size:
        short = f"the log has {theirs.size} entries and the receipt's checkpoint is of {tip.size}"
        raise NovateError("LOG_BEHIND", f"{short}; look again later, and challenge the receipt if it stays so")
    if tree.root(tip.size) != tip.root:
        return Broken(log.note, f"the log's first {tip.size} entries have another root than was signed", None)
    return f"entry {receipt.index} is in the published log of {theirs.size} entries, which extends the receipt's"


# --- what a contract takes ---


def equivocation(
    receipt: Receipt, broken: Broken, vault: VaultClient
) -> tuple[Checkpoint, bytes, Checkpoint, bytes, Disagreement]:
    """Arguments of the vault's `proveEquivocation`: the receipt's checkpoint, the log's, and where they differ.

    Raises `CheckpointError` when one of them lacks a signature that the vault takes, `NovateError` NO_EVIDENCE where
    no single entry shows the difference, `ChainError`.
    """
    if broken.shown is None:
        raise NovateError("NO_EVIDENCE", f"{broken.reason}, but at this entry they agree: another receipt shows it")
    mine, theirs = receipt.tip, unsigned(broken.note)
    own, _ = signed_checkpoint(receipt.note, vault)
    other, _ = signed_checkpoint(broken.note, vault)
    return Checkpoint(mine.size, mine.root), own, Checkpoint(theirs.size, theirs.root), other, broken.shown


def challenge(receipt: Receipt, vault: VaultClient) -> tuple[Checkpoint, bytes, int, bytes, list[bytes]]:
    """Arguments of the vault's `challengeReceipt`. Raises `CheckpointError`, `ChainError`."""
    tip = receipt.tip
    signature, _ = signed_checkpoint(receipt.note, vault)
    return Checkpoint(tip.size, tip.root), signature, receipt.index, receipt.leaf, list(receipt.path)
