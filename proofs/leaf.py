# SPDX-License-Identifier: Apache-2.0
"""The two leaves: what an owner is paid (exit tree) and what an account holds (state tree)."""

import msgspec

from proofs.errors import EncodingError
from proofs.hashing import HASH_BYTES, OWNER_BYTES, fixed, sha256, unsigned

MAX_LANES = 4
LEAF_VALUE_BITS = 96
STATE_LEAF_VERSION = 1
_PAD = bytes(4)  # a lane is 128 bits wide and a leaf's value at most 96


class ExitLeaf(msgspec.Struct, frozen=True):
    """An owner's payouts: `exits` and cumulative `withdraw_acks`, atoms per lane (1 to 4)."""

    index: int
    owner: bytes
    exits: tuple[int, ...]
    withdraw_acks: tuple[int, ...]

    def encode(self, domain: bytes) -> bytes:
        """Preimage of the leaf hash. Raises `EncodingError`."""
        count = len(self.exits)
        if not 1 <= count <= MAX_LANES or len(self.withdraw_acks) != count:
            raise EncodingError("an exit leaf has 1 to 4 lanes, as many exits as withdraw_acks")
        return (
            b"\x00"
            + fixed(domain, HASH_BYTES, "domain")
            + unsigned(self.index, 32, "index")
            + fixed(self.owner, OWNER_BYTES, "owner")
            + b"".join([_PAD + unsigned(value, LEAF_VALUE_BITS, "leaf value") for value in self.exits])
            + b"".join([_PAD + unsigned(value, LEAF_VALUE_BITS, "leaf value") for value in self.withdraw_acks])
        )

    def hash(self, domain: bytes) -> bytes:
        """Leaf hash (32 bytes)."""
        return sha256(self.encode(domain))

    @property
    def sums(self) -> tuple[int, ...]:
        """The summed lanes: exit + withdraw_ack, atoms."""
        return tuple(exit_ + ack for exit_, ack in zip(self.exits, self.withdraw_acks, strict=True))


class StateLeaf(msgspec.Struct, frozen=True):
    """An account's margin attestation; amounts in atoms, one of equity and deficit is zero."""

    owner: bytes
    account: int
    sub: int
    salt: bytes
    equity: int
    deficit: int
    margin_initial: int
    margin_maintenance: int
    stress_loss: int
    details: bytes
    reserved: bytes = bytes(32)

    def encode(self, domain: bytes) -> bytes:
        """Preimage of the leaf hash. Raises `EncodingError`."""
        if self.equity and self.deficit:
            raise EncodingError("one of equity and deficit is zero; this leaf states both")
        amounts = (self.equity, self.deficit, self.margin_initial, self.margin_maintenance, self.stress_loss)
        return (
            b"\x00"
            + bytes([STATE_LEAF_VERSION])
            + fixed(domain, HASH_BYTES, "domain")
            + fixed(self.owner, OWNER_BYTES, "owner")
            + unsigned(self.account, 32, "account")
            + unsigned(self.sub, 16, "sub-account")
            + fixed(self.salt, HASH_BYTES, "salt")
            + b"".join(unsigned(amount, 64, "amount") for amount in amounts)
            + fixed(self.details, HASH_BYTES, "details")
            + fixed(self.reserved, HASH_BYTES, "reserved")
        )

    def hash(self, domain: bytes) -> bytes:
        """Leaf hash (32 bytes)."""
        return sha256(self.encode(domain))
