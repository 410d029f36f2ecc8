# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed heads of the journal: one note per group commit, two signatures.

The Ed25519 line is for people and witnesses, the secp256k1 line for the contracts, which check it
over EIP-712 in the deployment's domain, the same on every chain. coincurve signs directly, since
eth-account takes ten times as long and this is once per commit.
"""

from typing import NamedTuple

from clearing.chain.abi import keccak
from clearing.chain.wallet import checkpoint_digest
from clearing.model.commands import Genesis
from clearing.service.layout import KeyRing
from proofs.checkpoint import Checkpoint, origin_of, secp256k1_line, sign


class SignedCheckpoint(NamedTuple):
    """Size (entries) and root (32 bytes) of the journal, and the signed note that says so."""

    size: int
    root: bytes
    note: str


class CheckpointSigner:
    """Signs heads of one deployment. `secp256k1` is the operator's 32-byte key, or None to leave the
    second line out."""

    def __init__(self, genesis: Genesis, ring: KeyRing, secp256k1: bytes | None) -> None:
        self.origin = origin_of(genesis.origin, genesis.deployment)
        self._ring = ring
        self._deployment = genesis.deployment
        self._address = b""
        if secp256k1 is not None:
            from coincurve import PrivateKey

            self._key = PrivateKey(secp256k1)
            self._address = keccak(self._key.public_key.format(compressed=False)[1:])[12:]

    def sign(self, operator_key: bytes, size: int, root: bytes) -> SignedCheckpoint:
        """The note of a head, signed by the key with this tagged public half (33 bytes).

        Raises `NovateError` KEY_NOT_HELD.
        """
        seed = self._ring.ed25519(operator_key).seed
        lines = (self._contract_line(size, root),) if self._address else ()
        return SignedCheckpoint(size, root, sign(Checkpoint(self.origin, size, root), seed, lines))

    def _contract_line(self, size: int, root: bytes) -> str:
        raw = self._key.sign_recoverable(checkpoint_digest(self._deployment, size, root), hasher=None)
        return secp256k1_line(self.origin, self._address, raw[:64] + bytes([raw[64] + 27]))
