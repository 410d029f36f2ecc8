# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened: the reducer's answer to one envelope, journalled beside it and recomputed by replay."""

import msgspec

from clearing.model.params import Instrument


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
    """`reason`: USER, IOC, STP, EXPIRED, REDUCE_ONLY, LIQUIDATION, FILL_LIMIT, OCO, REJECTED (a fired trigger that
    was refused on arrival), SCHEDULED (dead man's switch), SETTLED (the instrument expired), BAND (breaker)."""

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
    """`owner_number`: the owner's, dense in the order of first deposits. (Leaves are given per vault by an epoch.)"""

    account: int
    owner: bytes
    sub: int
    owner_number: int


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
    """A publisher's vote counted; the underlying's index and confidence after it, atoms per lot."""

    publisher: int
    underlying: int
    index_atoms: int
    confidence_atoms: int


class FundingApplied(_Wire, frozen=True, tag=14):
    """Each long lot pays `per_lot_atoms` (negative: receives); `cumulative_atoms` after it."""

    instrument: int
    rate_ppm: int
    per_lot_atoms: int
    cumulative_atoms: int


class Liquidated(_Wire, frozen=True, tag=15):
    """One step of the ladder: equity and maintenance before it, the witness, and what it did.

    `step`: CANCEL, SEIZE (collateral), SLICE, AUCTION, BACKSTOP, DEFAULT (declared, the waterfall is next), ADL.
    `fee_atoms` go to the insurance fund. `scenario` and `scenario_pnl_atoms`: the proof that
    maintenance failed (NO_SCENARIO and 0 under standard margin). `wait_us`: no step before this time.
    """

    account: int
    step: str
    scenario: int
    scenario_pnl_atoms: int
    equity_atoms: int
    margin_maintenance_atoms: int
    closed_atoms: int
    fee_atoms: int
    wait_us: int


class PositionTransferred(_Wire, frozen=True, tag=16):
    from_account: int
    to_account: int
    instrument: int
    size_lots: int
    price_atoms: int


class VaultEpoch(_Wire, frozen=True):
    """One vault's part of an epoch. `live` is False once the vault is frozen: then no header is made for it."""

    exit_root: bytes
    exit_sums: tuple[int, ...]
    inbox_count: int
    inbox_hash: bytes
    diff_hash: bytes
    l1_number: int
    l1_hash: bytes
    live: bool


class EpochClosed(_Wire, frozen=True, tag=17):
    """The commitment: everything of the headers that the reducer knows. `shortfall_atoms`: debts that no
    collateral covers; `failing_accounts`: members' accounts below maintenance, so that a skipped liquidation
    shows; `vaults`: by number."""

    epoch: int
    state_root: bytes
    marks_hash: bytes
    params_hash: bytes
    globals_hash: bytes
    shortfall_atoms: int
    scenarios_hash: bytes
    failing_accounts: int
    vaults: tuple[VaultEpoch, ...]


class OperatorRotated(_Wire, frozen=True, tag=18):
    new_key: bytes
    new_address: bytes


class PublisherRotated(_Wire, frozen=True, tag=19):
    publisher: int
    new_key: bytes


class GenesisApplied(_Wire, frozen=True, tag=20):
    deployment: bytes
    params_hash: bytes


class TriggerPlaced(_Wire, frozen=True, tag=21):
    order_id: int
    account: int
    client_order_id: int
    instrument: int
    side: int
    trigger_atoms: int
    above: bool
    price_atoms: int
    size_lots: int


class TriggerFired(_Wire, frozen=True, tag=22):
    """The mark reached the trigger; the order arrives with the next RunTriggers, in this order."""

    order_id: int
    mark_atoms: int


class InstrumentListed(_Wire, frozen=True, tag=23):
    instrument: Instrument


class InstrumentDelisted(_Wire, frozen=True, tag=24):
    instrument: int


class ExpiryPriced(_Wire, frozen=True, tag=25):
    """Settlement price of an underlying's expiry: time-weighted mean of the index over the window."""

    underlying: int
    expiry_us: int
    price_atoms: int


class PositionSettled(_Wire, frozen=True, tag=26):
    """`paid_atoms` went to (negative: came from) the account for its `size_lots`."""

    account: int
    instrument: int
    size_lots: int
    paid_atoms: int


class MarginModeSet(_Wire, frozen=True, tag=27):
    account: int
    mode: int


class RiskArrayBuilt(_Wire, frozen=True, tag=28):
    """`inputs_hash` commits to the market (spot, forwards, rates, vols, time), `array_hash` to V."""

    underlying: int
    inputs_hash: bytes
    array_hash: bytes


class SurfaceAccepted(_Wire, frozen=True, tag=29):
    """The forward and rate of an expiry after a publisher's vote."""

    publisher: int
    underlying: int
    expiry_us: int
    forward_atoms: int
    rate: int


class AuctionStarted(_Wire, frozen=True, tag=30):
    """The book of an account is offered; `value_atoms` is its marked value at the start."""

    account: int
    start_us: int
    value_atoms: int


class AuctionFilled(_Wire, frozen=True, tag=31):
    """`bidder` took `share_ppm` of what was left and paid `paid_atoms` (negative: was paid) for its options.

    The positions went over at their marks; the account gave the bidder `discount_atoms` beside them.
    """

    account: int
    bidder: int
    share_ppm: int
    paid_atoms: int
    discount_atoms: int


class AuctionEnded(_Wire, frozen=True, tag=32):
    """`reason`: SOLD, HEALTHY, BACKSTOP."""

    account: int
    reason: str


class TrancheDrawn(_Wire, frozen=True, tag=33):
    """`asked_atoms` was the deficit when the tranche came to bear; `left_atoms` is what it still holds."""

    account: int
    tranche: int
    asked_atoms: int
    drawn_atoms: int
    left_atoms: int


class PledgeDrawn(_Wire, frozen=True, tag=45):
    """`drawn_atoms` of a member's pledge paid for another's default; of what was backed, `pledged_atoms` are left."""

    account: int
    drawn_atoms: int
    pledged_atoms: int


class GainHaircut(_Wire, frozen=True, tag=34):
    """`taken_atoms` of an account's gain since the last settlement cycle (the last epoch close)."""

    account: int
    gain_atoms: int
    taken_atoms: int


class Deleveraged(_Wire, frozen=True, tag=35):
    """ADL: `size_lots` of the counterparty's position (signed) closed at `price_atoms`; rank 0 is the first in line.

    Its score is profit x leverage: `profit_atoms` x `notional_atoms` / `equity_atoms`.
    """

    account: int
    counterparty: int
    instrument: int
    size_lots: int
    price_atoms: int
    rank: int
    profit_atoms: int
    notional_atoms: int
    equity_atoms: int


class DefaultFundPledged(_Wire, frozen=True, tag=36):
    account: int
    amount_atoms: int
    pledged_atoms: int


class ParamsProposed(_Wire, frozen=True, tag=37):
    version: int
    params_hash: bytes
    effective_us: int


class ParamsChanged(_Wire, frozen=True, tag=38):
    version: int
    params_hash: bytes


class MarginAdapted(_Wire, frozen=True, tag=39):
    """Margin fractions of an underlying are scaled by `factor_ppm`; `volatility` (per day, 1e-12) is why."""

    underlying: int
    volatility: int
    target_ppm: int
    factor_ppm: int


class BreakerChanged(_Wire, frozen=True, tag=40):
    """`kind`: BAND (orders away from the index are refused), DIVERGED (mark off the index), HALT, NONE."""

    instrument: int
    kind: str
    mark_atoms: int
    index_atoms: int


class CollateralSeized(_Wire, frozen=True, tag=41):
    """`amount_atoms` of an asset went to the house for `credit_atoms` of the settlement asset."""

    account: int
    asset: int
    amount_atoms: int
    credit_atoms: int


class InterestCharged(_Wire, frozen=True, tag=42):
    account: int
    debt_atoms: int
    interest_atoms: int


class AssetTransferred(_Wire, frozen=True, tag=43):
    """Like Transferred, for an asset other than the settlement asset."""

    from_account: int
    to_account: int
    asset: int
    amount_atoms: int


class CancelAllScheduled(_Wire, frozen=True, tag=44):
    account: int
    at_us: int


class ForcedRequested(_Wire, frozen=True, tag=46):
    """A forced withdrawal (kind 2) or exit (kind 3) was taken from a vault's inbox and waits to be carried out."""

    account: int
    vault: int
    index: int
    kind: int
    asset: int
    amount_atoms: int


class ForcedDone(_Wire, frozen=True, tag=47):
    """The request is fulfilled: `paid_atoms` per lane of the deployment were acknowledged in the course of it."""

    account: int
    vault: int
    index: int
    paid_atoms: tuple[int, ...]


class GovernanceApproved(_Wire, frozen=True, tag=48):
    """The governor approved what hashes to `action`: it may be proposed from now on, once."""

    vault: int
    index: int
    action: bytes


class VaultFrozen(_Wire, frozen=True, tag=49):
    vault: int
    epoch: int


class EscapeSettled(_Wire, frozen=True, tag=50):
    """What a frozen vault pays out was debited: `debited_atoms` per asset of that vault, from `owners` owners."""

    vault: int
    epoch: int
    owners: int
    debited_atoms: tuple[int, ...]


class WindDownStarted(_Wire, frozen=True, tag=51):
    reason: str


class WindDownDone(_Wire, frozen=True, tag=52):
    """Everything that was owed is acknowledged, atoms per lane; the epoch that carries it is the last."""

    paid_atoms: tuple[int, ...]


class PositionClosed(_Wire, frozen=True, tag=53):
    """A position was closed at the mark in the wind-down."""

    account: int
    instrument: int
    size_lots: int
    price_atoms: int


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
    | TriggerPlaced
    | TriggerFired
    | InstrumentListed
    | InstrumentDelisted
    | ExpiryPriced
    | PositionSettled
    | MarginModeSet
    | RiskArrayBuilt
    | SurfaceAccepted
    | AuctionStarted
    | AuctionFilled
    | AuctionEnded
    | TrancheDrawn
    | GainHaircut
    | Deleveraged
    | DefaultFundPledged
    | ParamsProposed
    | ParamsChanged
    | MarginAdapted
    | BreakerChanged
    | CollateralSeized
    | InterestCharged
    | AssetTransferred
    | CancelAllScheduled
    | PledgeDrawn
    | ForcedRequested
    | ForcedDone
    | GovernanceApproved
    | VaultFrozen
    | EscapeSettled
    | WindDownStarted
    | WindDownDone
    | PositionClosed
)
