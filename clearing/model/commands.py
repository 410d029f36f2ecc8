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
    """To a sub-account of the same owner, opened on first use; `asset` is a lane of the deployment (vault 0's
    assets first), any lane of the settlement asset meaning cash."""

    to_sub: int
    amount_atoms: int
    asset: int = 0


class PlaceTrigger(_Wire, frozen=True, tag=6):
    """An order that arrives when the mark price reaches `trigger_atoms` (`above`: from below).

    Stop and take-profit differ only in `above`. `oco` names another trigger or open order of the account
    by client order id: whichever is filled, fired or cancelled first cancels the other.
    """

    instrument: int
    side: int
    trigger_atoms: int
    above: bool
    price_atoms: int
    size_lots: int
    client_order_id: int
    kind: int = 0
    reduce_only: bool = False
    oco: int = 0
    expiry_us: int = 0


class SetMarginMode(_Wire, frozen=True, tag=7):
    """ids.STANDARD or ids.PORTFOLIO; initial margin must hold under the new one. Stands alone in its batch: it may
    build the risk arrays of all underlyings."""

    mode: int


class ProposeLiquidation(_Wire, frozen=True, tag=8):
    """What any keeper may submit; like the operator's `Liquidate`. Stands alone in its batch."""

    account: int
    scenario: int = -1


class BidAuction(_Wire, frozen=True, tag=9):
    """Take `share_ppm` of the book that is auctioned, for at most `max_pay_atoms` (negative: be paid at least)."""

    account: int
    share_ppm: int
    max_pay_atoms: int


class PledgeDefaultFund(_Wire, frozen=True, tag=10):
    """Move own cash into (negative: out of) the default fund; it stays the member's until drawn."""

    amount_atoms: int


class ScheduleCancelAll(_Wire, frozen=True, tag=11):
    """Dead man's switch: at `at_us` all orders and triggers are cancelled; 0 disarms."""

    at_us: int


MemberCommand = (
    PlaceOrder
    | CancelOrder
    | CancelAll
    | ReplaceOrder
    | Withdraw
    | Transfer
    | PlaceTrigger
    | SetMarginMode
    | ProposeLiquidation
    | BidAuction
    | PledgeDefaultFund
    | ScheduleCancelAll
)


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
    """One step of the ladder. `scenario` is the witness of a portfolio account: the first index whose loss
    takes equity below maintenance (ids.BASIS for the basis contingency); ids.NO_SCENARIO otherwise."""

    account: int
    scenario: int = -1


class CloseEpoch(_Wire, frozen=True, tag=4):
    """`l1_blocks`: per vault of genesis, (number, hash) of a final L1 block; (0, zero) for a frozen one."""

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


class ListInstrument(_Wire, frozen=True, tag=8):
    instrument: Instrument


class DelistInstrument(_Wire, frozen=True, tag=9):
    """Only without positions and open orders, or after its expiry was settled."""

    instrument: int


class SettleExpiry(_Wire, frozen=True, tag=10):
    """Pay out the holders of an expired instrument, as many as fit into an entry, by account number."""

    instrument: int


class RunTriggers(_Wire, frozen=True, tag=11):
    """Let the orders arrive whose triggers fired, in the order of firing, as far as the entry's budget goes."""


class HaltMarket(_Wire, frozen=True, tag=12):
    """Halted: orders may be cancelled, none may be placed. `reason` is shown to users."""

    instrument: int
    halted: bool
    reason: str


class ResolveDeficit(_Wire, frozen=True, tag=13):
    """Take a flat account's deficit, or the insurance fund's, down the default waterfall."""

    account: int


class Deleverage(_Wire, frozen=True, tag=14):
    """Close a defaulter's position against the best ranked counterparties (ADL), as many as fit."""

    account: int
    instrument: int


class ProposeParams(_Wire, frozen=True, tag=15):
    """A new parameter set, in force from the first epoch close at or after `effective_us`."""

    params: Params
    effective_us: int


class ChargeInterest(_Wire, frozen=True, tag=16):
    """Settle interest of borrowers, as many as fit, by account number."""


class FreezeVault(_Wire, frozen=True, tag=17):
    """The chain says that a vault is frozen, with the escape header of `epoch` (0: there is none).

    From then on nothing goes in or out through that vault, and no epoch closes until its escape is settled.
    """

    vault: int
    epoch: int


class EscapeLeaf(_Wire, frozen=True):
    """An exit leaf as the escape header holds it: atoms per asset of that vault."""

    index: int
    owner: bytes
    exits: tuple[int, ...]
    acks: tuple[int, ...]


class EscapeLeaves(_Wire, frozen=True, tag=18):
    """Leaves of the escape header, ascending by index; several commands make the whole tree."""

    vault: int
    leaves: tuple[EscapeLeaf, ...]


class EscapeDeposits(_Wire, frozen=True, tag=19):
    """Messages that were consumed here after the escape header and that the vault therefore refunds, in order."""

    vault: int
    messages: tuple[ConsumeInbox, ...]


class SettleEscape(_Wire, frozen=True, tag=20):
    """Debit everything that the frozen vault pays out, once the leaves give the escape header's root and the
    messages its rolling hash."""

    vault: int


class RunForced(_Wire, frozen=True, tag=21):
    """One bounded step of the oldest forced exit that waits on the account."""

    account: int


class StartWindDown(_Wire, frozen=True, tag=22):
    """Halt for good: from now on orders end, positions close at the mark, everyone is paid out."""

    reason: str


class RunWindDown(_Wire, frozen=True, tag=23):
    """The next bounded step: cancel, close at the mark, then acknowledge what everyone is owed."""


class ReleaseHouse(_Wire, frozen=True, tag=24):
    """Pay house money out to the treasury's leaf; only as a governance message approved it."""

    account: int
    vault: int
    asset: int
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
    | ListInstrument
    | DelistInstrument
    | SettleExpiry
    | RunTriggers
    | HaltMarket
    | ResolveDeficit
    | Deleverage
    | ProposeParams
    | ChargeInterest
    | FreezeVault
    | EscapeLeaves
    | EscapeDeposits
    | SettleEscape
    | RunForced
    | StartWindDown
    | RunWindDown
    | ReleaseHouse
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
    """One chain's vault. Asset 0 of every vault is the settlement asset. `attestors`: addresses, ascending, of
    whom `threshold` sign each header; `governor`: who alone may send governance messages (empty: nobody)."""

    chain_id: int
    address: bytes
    tokens: tuple[bytes, ...]
    attestors: tuple[bytes, ...] = ()
    threshold: int = 0
    governor: bytes = b""


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
    """Spot price of an underlying (`underlying` is its id), atoms per lot, plus and minus the confidence."""

    underlying: int
    price_atoms: int
    confidence_atoms: int


class Surface(_Wire, frozen=True):
    """What a publisher says of one expiry: forward +- confidence in atoms per lot; rate, vols and
    confidence levels (0 to 1) in 1e-12; vols at ascending strikes (atoms per lot), linear between them."""

    underlying: int
    expiry_us: int
    forward_atoms: int
    forward_confidence_atoms: int
    rate: int
    rate_confidence: int
    vol_confidence: int
    strikes: tuple[int, ...]
    vols: tuple[int, ...]


class OracleUpdate(_Wire, frozen=True, tag=3):
    """`prev_hash`: SHA-256 of the publisher's previous update body, zero before the first."""

    deployment: bytes
    publisher: int
    prev_hash: bytes
    time_us: int
    prices: tuple[Price, ...]
    surfaces: tuple[Surface, ...] = ()


class OperatorBatch(_Wire, frozen=True, tag=4):
    deployment: bytes
    nonce: int
    commands: tuple[OperatorCommand, ...]


Body = Genesis | MemberBatch | OwnerAction | OracleUpdate | OperatorBatch
