# SPDX-License-Identifier: GPL-3.0-or-later
"""What someone signed, or the clock or the chain said. Wire form: tagged msgpack arrays.

Field order is the wire format; a change of it is a new rules version. Numbers are not limited
here beyond their type: the reducer refuses out-of-range values with a reason that is journalled.
"""

import msgspec

from clearing.model.params import Instrument, Params


class _Wire(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    pass


class Envelope(_Wire, frozen=True):
    """`body` as signed; `key` = type byte + key; `signature` 64 (Ed25519) or 65 bytes (wallet)."""

    body: bytes
    key: bytes
    signature: bytes


# --- commands of a member, inside a MemberBatch -----------------------------------------------


class PlaceOrder(_Wire, frozen=True, tag=0):
    """kind MARKET takes `price_atoms` as the worst price and never rests."""

    instrument: int
    side: int
    price_atoms: int
    size_lots: int
    client_order_id: int
    kind: int = 0
    tif: int = 0
    post_only: bool = False
    reduce_only: bool = False
    stp: int = 1
    expiry_us: int = 0


class CancelOrder(_Wire, frozen=True, tag=1):
    """By `client_order_id`, or by `order_id` when that is not zero."""

    client_order_id: int
    order_id: int = 0


class CancelAll(_Wire, frozen=True, tag=2):
    """All open orders of the account, in one instrument or (0) in all."""

    instrument: int = 0


class ReplaceOrder(_Wire, frozen=True, tag=3):
    """New price and new *open* size; priority is kept only when the size alone shrinks."""

    client_order_id: int
    price_atoms: int
    size_lots: int


class Withdraw(_Wire, frozen=True, tag=4):
    vault: int
    asset: int
    amount_atoms: int


class Transfer(_Wire, frozen=True, tag=5):
    """To a sub-account of the same owner, opened on first use."""

    to_sub: int
    amount_atoms: int


MemberCommand = PlaceOrder | CancelOrder | CancelAll | ReplaceOrder | Withdraw | Transfer


# --- commands of the operator: the clock, the chain, the house ---------------------------------


class ConsumeInbox(_Wire, frozen=True, tag=0):
    """The next message of a vault's inbox, as its event told it."""

    vault: int
    index: int
    kind: int
    owner: bytes
    asset: int
    amount_atoms: int
    l1_time: int
    data: bytes


class FundingTick(_Wire, frozen=True, tag=1):
    """Settle funding of every instrument that is due."""


class ExpireOrders(_Wire, frozen=True, tag=2):
    """Cancel GTT orders past their expiry (at most 300 in one entry)."""


class Liquidate(_Wire, frozen=True, tag=3):
    account: int


class CloseEpoch(_Wire, frozen=True, tag=4):
    """`l1_blocks`: per vault, (number, hash) of a final L1 block."""

    epoch: int
    l1_blocks: tuple[tuple[int, bytes], ...]


class RotateOperator(_Wire, frozen=True, tag=5):
    """The key that signs journal and checkpoints, and the address that signs headers."""

    new_key: bytes
    new_address: bytes


class RotatePublisher(_Wire, frozen=True, tag=6):
    publisher: int
    new_key: bytes


class HouseTransfer(_Wire, frozen=True, tag=7):
    """Between the house's accounts: fees, insurance fund, operator's capital."""

    from_account: int
    to_account: int
    amount_atoms: int


OperatorCommand = (
    ConsumeInbox
    | FundingTick
    | ExpireOrders
    | Liquidate
    | CloseEpoch
    | RotateOperator
    | RotatePublisher
    | HouseTransfer
)


# --- actions of an owner, signed by a wallet (EIP-712) -----------------------------------------


class RegisterKey(_Wire, frozen=True, tag=0):
    """Delegate `scope` (bits of clearing.model.ids.SCOPE_*) to a session key until `expiry_us`.

    `secret` (32 bytes) seeds the salts of the owner's state leaves.
    """

    owner: bytes
    key: bytes
    scope: int
    expiry_us: int
    nonce: int
    secret: bytes


class RevokeKey(_Wire, frozen=True, tag=1):
    owner: bytes
    key: bytes
    nonce: int


# --- bodies ------------------------------------------------------------------------------------


class Vault(_Wire, frozen=True):
    chain_id: int
    address: bytes
    tokens: tuple[bytes, ...]


class Genesis(_Wire, frozen=True, tag=0):
    """Entry 0: what the deployment is. `origin` is the operator's domain name."""

    rules_version: int
    deployment: bytes
    origin: str
    operator_key: bytes
    operator_address: bytes
    treasury: bytes
    vaults: tuple[Vault, ...]
    publishers: tuple[bytes, ...]
    instruments: tuple[Instrument, ...]
    params: Params


class MemberBatch(_Wire, frozen=True, tag=1):
    deployment: bytes
    account: int
    nonce: int
    expiry_us: int
    commands: tuple[MemberCommand, ...]


class OwnerAction(_Wire, frozen=True, tag=2):
    deployment: bytes
    action: RegisterKey | RevokeKey


class Price(_Wire, frozen=True):
    instrument: int
    price_atoms: int
    confidence_atoms: int


class OracleUpdate(_Wire, frozen=True, tag=3):
    """`prev_hash`: SHA-256 of the publisher's previous update body, zero before the first."""

    deployment: bytes
    publisher: int
    prev_hash: bytes
    time_us: int
    prices: tuple[Price, ...]


class OperatorBatch(_Wire, frozen=True, tag=4):
    deployment: bytes
    nonce: int
    commands: tuple[OperatorCommand, ...]


Body = Genesis | MemberBatch | OwnerAction | OracleUpdate | OperatorBatch
