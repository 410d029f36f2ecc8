# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles, proofs and keys by the real code, to be read by the page."""

from dataclasses import dataclass, field

import msgspec
from nacl.signing import SigningKey

from proofs import bundle as b
from proofs import checkpoint as notes
from proofs import cosignature, log, tlogproof
from proofs.hashing import exit_domain, state_domain
from proofs.hashtree import StateTree
from proofs.header import Header
from proofs.leaf import ExitLeaf, StateLeaf
from proofs.sumtree import SumTree
from tests.exit.scene import ENTRIES_PER_EPOCH, Scene

SEED, DEPLOYMENT, OWNER = b"s" * 32, b"\x77" * 32, b"O" * 20
PUBLIC = bytes(SigningKey(SEED).verify_key)
ORIGIN = notes.origin_of("novate.example", DEPLOYMENT)
LOG_KEY = notes.verifier_key(ORIGIN, notes.ED25519, PUBLIC)


@dataclass
class Staged(Scene):
    """A scene whose state tree has OWNER's two accounts."""

    states: StateTree = field(default_factory=lambda: StateTree(state_domain(DEPLOYMENT)))

    def _header(self, epoch: int, count: int, hashes: list[bytes], root: bytes | None) -> Header:
        header = super()._header(epoch, count, hashes, root)
        self.states.update((held.account, held.hash(self.states.domain)) for held in ACCOUNTS)
        return msgspec.structs.replace(header, state_root=self.states.root)


ACCOUNTS = (
    StateLeaf(OWNER, 3, 0, b"3" * 32, 5_000_000, 0, 50, 30, 7, b"d" * 32),
    StateLeaf(OWNER, 4, 1, b"4" * 32, 0, 2**64 - 1, 50, 30, 0, b"d" * 32),
)


def bundle(
    header: Header, exits: SumTree, states: StateTree, journal: list[bytes], chain: int, vault: bytes
) -> b.Bundle:
    """OWNER's bundle: its leaf, its two accounts, the first and the last entry."""
    leaf = next(leaf for leaf in exits.leaves() if leaf.owner == OWNER)
    path = exits.proof(leaf.index)
    part = b.ExitPart(
        leaf.index, leaf.owner.hex(), tuple(map(str, leaf.exits)), tuple(map(str, leaf.withdraw_acks)),
        tuple(item.hex() for item in path.hashes), tuple(tuple(map(str, row)) for row in path.sums),
    )  # fmt: skip
    accounts = tuple(
        b.StatePart(
            held.account, held.sub, held.salt.hex(), str(held.equity), str(held.deficit), str(held.margin_initial),
            str(held.margin_maintenance), str(held.stress_loss), held.details.hex(),
            tuple(item.hex() for item in states.proof(held.account)),
        )
        for held in ACCOUNTS
    )  # fmt: skip
    size = header.journal_size
    shown = tuple(
        b.EntryPart(
            seq, (b"entry %d" % seq).hex(), tuple(item.hex() for item in log.inclusion_proof(seq, journal[:size]))
        )
        for seq in (0, size - 1)
    )
    signed = notes.sign(notes.Checkpoint(ORIGIN, size, header.journal_root), SEED)
    assets = tuple("USDC EURC DAI WETH".split()[: len(leaf.exits)])
    return b.Bundle(
        b.FORMAT, DEPLOYMENT.hex(), chain, vault.hex(), ORIGIN, PUBLIC.hex(), assets, header.encode().hex(), part,
        signed, accounts, shown,
    )  # fmt: skip


def offline(lanes: int = 2, index: int = 1, epochs: int = 4, chain: int = 31337, vault: bytes = b"V" * 20) -> b.Bundle:
    """A bundle of a vault that no chain has."""
    exits = SumTree(exit_domain(chain, vault), lanes)
    exits.update([
        ExitLeaf(0 if index else 1, b"T" * 20, (2**96 - 1,) * lanes, (0,) * lanes),
        ExitLeaf(index, OWNER, tuple(10**15 + lane for lane in range(lanes)), (250,) * lanes),
        ExitLeaf(2**20 - 1, b"P" * 20, (9,) * lanes, (1,) * lanes),
    ])  # fmt: skip
    states = StateTree(state_domain(DEPLOYMENT))
    states.update((held.account, held.hash(states.domain)) for held in ACCOUNTS)
    journal = [log.leaf_hash(b"entry %d" % number) for number in range(epochs * ENTRIES_PER_EPOCH)]
    header = Header(
        domain=exits.domain, epoch=epochs, close_time_us=1_700_000_000_000_000, prev_header=b"p" * 32,
        journal_size=len(journal), journal_root=log.root(journal), state_root=states.root, exit_root=exits.root,
        exit_sums=exits.sums, inbox_count=3, inbox_hash=b"i" * 32, marks_hash=b"m" * 32, params_hash=b"q" * 32,
        diff_hash=b"f" * 32, l1_number=5, l1_hash=b"l" * 32,
    )  # fmt: skip
    return bundle(header, exits, states, journal, chain, vault)


def of_scene(scene: Staged) -> b.Bundle:
    """OWNER's bundle for the last header that the scene posted."""
    assert scene.last is not None
    chain, vault = scene.rpc.chain_id(), scene.vault.address
    return bundle(scene.last, scene.tree, scene.states, scene.journal, chain, vault)


# -- a log of its own, with witnesses: as C2SP tlog-proof, signed-note and tlog-cosignature have it


@dataclass(frozen=True)
class Witness:
    name: str
    seed: bytes

    @property
    def key(self) -> str:
        return cosignature.verifier_key(self.name, bytes(SigningKey(self.seed).verify_key))

    def line(self, checkpoint: notes.Checkpoint, time_s: int = 1_700_000_000) -> str:
        return cosignature.sign(checkpoint, self.name, self.seed, time_s)


WITNESSES = tuple(Witness(f"witness{number}.example/w", bytes([number]) * 32) for number in (1, 2, 3))
ENTRIES = [b"entry %d" % number for number in range(11)]


def note(signers: tuple[Witness, ...] = WITNESSES, seed: bytes = SEED, origin: str = ORIGIN) -> str:
    checkpoint = notes.Checkpoint(origin, len(ENTRIES), log.root([log.leaf_hash(entry) for entry in ENTRIES]))
    return notes.sign(checkpoint, seed, tuple(one.line(checkpoint) for one in signers))


def tlog_proof(index: int = 7, text: str | None = None, extra: bytes = b"") -> bytes:
    path = log.inclusion_proof(index, [log.leaf_hash(entry) for entry in ENTRIES])
    return tlogproof.build(index, path, note() if text is None else text, extra).encode()
