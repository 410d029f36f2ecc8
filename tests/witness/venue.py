# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator who signs what it publishes with both of its keys, and may keep two journals."""

from hashlib import sha256
from pathlib import Path

from clearing.chain.embedded import dev_key
from clearing.chain.structs import Checkpoint, Disagreement
from clearing.chain.wallet import Wallet, checkpoint_digest
from journal.published import PublishedLog
from proofs import checkpoint as notes
from tests.tlog.logs import PUBLIC, SEED, Journal

STAKE = 10**18
DEPLOYMENT = sha256(b"a deployment").digest()
OPERATOR = Wallet(dev_key(0))
ORIGIN = notes.origin_of("venue.example", DEPLOYMENT)
LOG_KEY = notes.verifier_key(ORIGIN, notes.ED25519, PUBLIC)


class Venue:
    """One journal of the operator's, which has its own entries from `fork_at` on, where it is published and how."""

    def __init__(self, folder: Path, fork_at: int | None = None) -> None:
        folder.mkdir()
        self.journal = Journal(folder / "journal", fork_at=fork_at)
        self.directory = folder / "log"

    def note(self, size: int) -> str:
        """The operator's note: Ed25519 for readers of logs, secp256k1 for the contract."""
        self.journal.grow(size)
        root = self.journal.store.root(size)
        signature = OPERATOR.sign_digest(checkpoint_digest(DEPLOYMENT, size, root))
        line = notes.secp256k1_line(ORIGIN, OPERATOR.address, signature)
        return self.journal.note(size, SEED, ORIGIN) + line


def evidence(note: str) -> tuple[Checkpoint, bytes]:
    """A signed note in the contract's words: checkpoint and signature."""
    parsed = notes.parse(note)
    signature = notes.secp256k1_signature(parsed, OPERATOR.address)
    assert signature is not None
    return Checkpoint(parsed.checkpoint.size, parsed.checkpoint.root), signature


def disagreement(one: PublishedLog, two: PublishedLog) -> Disagreement:
    """The first entry that two published logs have each in its own way, with its paths in both."""
    a, b = one.tree(), two.tree()
    at = next(index for index in range(min(a.size, b.size)) if a.leaf(index) != b.leaf(index))
    return Disagreement(at, a.leaf(at), tuple(a.inclusion(at)), b.leaf(at), tuple(b.inclusion(at)))
