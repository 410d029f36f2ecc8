# SPDX-License-Identifier: Apache-2.0
"""What the chain says to the journal (inbox) and what two parties say to each other (voucher)."""

import msgspec

from proofs.hashing import HASH_BYTES, OWNER_BYTES, fixed, sha256, unsigned

DEPOSIT, FORCED_WITHDRAWAL, FORCED_EXIT, GOVERNANCE = 1, 2, 3, 4


class InboxMessage(msgspec.Struct, frozen=True):
    """One message of a vault's queue; `amount` in atoms, `l1_time` in seconds."""

    kind: int
    index: int
    owner: bytes
    asset: int
    amount: int
    l1_time: int
    data: bytes

    def encode(self) -> bytes:
        """The bytes that the rolling hash covers. Raises `EncodingError`."""
        return (
            unsigned(self.kind, 8, "kind")
            + unsigned(self.index, 64, "index")
            + fixed(self.owner, OWNER_BYTES, "owner")
            + unsigned(self.asset, 8, "asset")
            + unsigned(self.amount, 128, "amount")
            + unsigned(self.l1_time, 64, "l1_time")
            + fixed(self.data, HASH_BYTES, "data")
        )

    def roll(self, previous: bytes) -> bytes:
        """The rolling hash after this message (zero before the first)."""
        return sha256(b"\x04" + fixed(previous, HASH_BYTES, "rolling hash") + self.encode())


class Voucher(msgspec.Struct, frozen=True):
    """Operator and owner agree that `cumulative` atoms may be paid at once; `expiry` in seconds."""

    domain: bytes
    owner: bytes
    asset: int
    cumulative: int
    expiry: int

    def encode(self) -> bytes:
        """Preimage of the voucher hash. Raises `EncodingError`."""
        return (
            b"\x05"
            + fixed(self.domain, HASH_BYTES, "domain")
            + fixed(self.owner, OWNER_BYTES, "owner")
            + unsigned(self.asset, 8, "asset")
            + unsigned(self.cumulative, 128, "cumulative")
            + unsigned(self.expiry, 64, "expiry")
        )

    def hash(self) -> bytes:
        """What both parties sign (32 bytes)."""
        return sha256(self.encode())
