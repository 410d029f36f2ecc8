# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened: the reducer's answer to one envelope, journalled beside it and recomputed by replay."""

import msgspec


class _Wire(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    pass


class Rejected(_Wire, frozen=True, tag=0):
    """Command `index` of the envelope was refused; `code` is a key of errors.REJECTIONS."""

    index: int
    code: str


class OrderPlaced(_Wire, frozen=True, tag=1):
    order_id: int
    account: int
    client_order_id: int
    instrument: int
    side: int
    price_atoms: int
    size_lots: int


class TradeNovated(_Wire, frozen=True, tag=2):
    """One fill: maker and taker each now face the house."""

    instrument: int
    price_atoms: int
    size_lots: int
    maker_order_id: int
    taker_order_id: int
    maker_account: int
    taker_account: int
    maker_fee_atoms: int
    taker_fee_atoms: int


class OrderCancelled(_Wire, frozen=True, tag=3):
    """`reason`: USER, IOC, STP, EXPIRED, REDUCE_ONLY, LIQUIDATION, FILL_LIMIT, MARGIN."""

    order_id: int
    open_lots: int
    reason: str


class OrderReplaced(_Wire, frozen=True, tag=4):
    order_id: int
    price_atoms: int
    open_lots: int
    kept_priority: bool


class MarginChanged(_Wire, frozen=True, tag=5):
    account: int
    cash_atoms: int
    equity_atoms: int
    margin_initial_atoms: int
    margin_maintenance_atoms: int


class AccountOpened(_Wire, frozen=True, tag=6):
    account: int
    owner: bytes
    sub: int
    leaf_index: int


class Deposited(_Wire, frozen=True, tag=7):
    account: int
    vault: int
    asset: int
    amount_atoms: int
    inbox_index: int


class InboxIgnored(_Wire, frozen=True, tag=8):
    vault: int
    inbox_index: int
    code: str


class WithdrawalAcked(_Wire, frozen=True, tag=9):
    """`cumulative_atoms`: the owner's withdraw_ack after this one; claimable once posted."""

    account: int
    vault: int
    asset: int
    amount_atoms: int
    cumulative_atoms: int


class Transferred(_Wire, frozen=True, tag=10):
    from_account: int
    to_account: int
    amount_atoms: int


class KeyRegistered(_Wire, frozen=True, tag=11):
    owner: bytes
    key: bytes
    scope: int
    expiry_us: int


class KeyRevoked(_Wire, frozen=True, tag=12):
    owner: bytes
    key: bytes


class PriceAccepted(_Wire, frozen=True, tag=13):
    publisher: int
    instrument: int
    index_atoms: int
    mark_atoms: int


class FundingApplied(_Wire, frozen=True, tag=14):
    """Each long lot pays `per_lot_atoms` (negative: receives); `cumulative_atoms` after it."""

    instrument: int
    rate_ppm: int
    per_lot_atoms: int
    cumulative_atoms: int


class Liquidated(_Wire, frozen=True, tag=15):
    """The account failed maintenance; what the insurance fund then paid in."""

    account: int
    equity_atoms: int
    margin_maintenance_atoms: int
    fee_atoms: int
    covered_atoms: int


class PositionTransferred(_Wire, frozen=True, tag=16):
    from_account: int
    to_account: int
    instrument: int
    size_lots: int
    price_atoms: int


class EpochClosed(_Wire, frozen=True, tag=17):
    """The commitment: everything of the header that the reducer knows."""

    epoch: int
    state_root: bytes
    exit_root: bytes
    exit_sums: tuple[int, ...]
    inbox_count: int
    inbox_hash: bytes
    marks_hash: bytes
    params_hash: bytes
    diff_hash: bytes
    globals_hash: bytes
    l1_number: int
    l1_hash: bytes
    shortfall_atoms: int


class OperatorRotated(_Wire, frozen=True, tag=18):
    new_key: bytes
    new_address: bytes


class PublisherRotated(_Wire, frozen=True, tag=19):
    publisher: int
    new_key: bytes


class GenesisApplied(_Wire, frozen=True, tag=20):
    deployment: bytes
    params_hash: bytes


Outcome = (
    Rejected
    | OrderPlaced
    | TradeNovated
    | OrderCancelled
    | OrderReplaced
    | MarginChanged
    | AccountOpened
    | Deposited
    | InboxIgnored
    | WithdrawalAcked
    | Transferred
    | KeyRegistered
    | KeyRevoked
    | PriceAccepted
    | FundingApplied
    | Liquidated
    | PositionTransferred
    | EpochClosed
    | OperatorRotated
    | PublisherRotated
    | GenesisApplied
)
