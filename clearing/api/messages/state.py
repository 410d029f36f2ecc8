# SPDX-License-Identifier: GPL-3.0-or-later
"""The state as it is sent: venue, markets, books, accounts, owners. Shapes are clearing.service.views'."""

from typing import Any

import msgspec

from clearing.api.messages.commands import Head
from clearing.api.messages.common import Amount, Hex


class Health(msgspec.Struct, frozen=True):
    """`status`: ok, stale (the sequencer is not heard), or halted. `seq`: the state is after this entry; `head`: the
    newest entry heard of; `checkpoint`: signed at the newest commit."""

    status: str
    seq: int
    head: int
    age_ms: int
    time_us: int
    posted_epoch: int | None
    checkpoint: Head | None


class Vault(msgspec.Struct, frozen=True):
    vault: int
    chain_id: int
    address: Hex
    inbox_count: int
    frozen: int | None
    escape_settled: bool


class Asset(msgspec.Struct, frozen=True):
    """A lane: an asset of a vault. `price_atoms`: settlement atoms per unit at the index, "0" without a price."""

    lane: int
    vault: int
    asset: int
    symbol: str
    unit_atoms: Amount
    held_atoms: Amount
    cap_atoms: Amount
    price_atoms: Amount
    maintenance_haircut_ppm: int
    initial_weight_ppm: int
    fresh: bool


class Publisher(msgspec.Struct, frozen=True):
    key: Hex
    head: Hex
    time_us: int


class Status(msgspec.Struct, frozen=True):
    """The venue's counters, and what the operator's parts are doing. What only the sequencer knows is null until it
    was heard once: `posted` and what follows it."""

    deployment: Hex
    origin: str
    operator_key: Hex
    operator_address: Hex
    publishers: list[Publisher]
    time_us: int
    accounts: int
    open_orders: int
    open_interest_lots: Amount
    epoch: int
    inbox_count: int
    vaults: list[Vault]
    holdings_atoms: Amount
    assets: list[Asset]
    haircut: Any
    size: int
    root: Hex
    posted: list[int] | None
    posted_epoch: int | None
    posting: list[dict[str, Any]] | None
    wind_down: dict[str, Any] | None
    waiting: int | None
    halted: str | None
    faults: dict[str, str]


class Genesis(msgspec.Struct, frozen=True):
    """Entry 0, and the genesis in it."""

    genesis: dict[str, Any]
    entry: Hex


class Instruments(msgspec.Struct, frozen=True):
    """Specification (see the protocol page) and prices of each market; sizes in lots, prices in atoms per lot."""

    instruments: list[dict[str, Any]]
    seq: int


class Instrument(msgspec.Struct, frozen=True):
    instrument: dict[str, Any]
    seq: int


class Pending(msgspec.Struct, frozen=True):
    version: int
    effective_us: int


class Parameters(msgspec.Struct, frozen=True):
    """The governed parameters; `raw` is the msgpack of [params, instruments], whose hash is committed."""

    version: int
    params_hash: Hex
    raw: Hex
    pending: Pending | None


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    instrument: int
    symbol: str
    size_lots: Amount
    entry_cost_atoms: Amount | None = None
    mark_atoms: Amount | None = None


class Auction(msgspec.Struct, frozen=True):
    account: int
    start_us: int
    value_atoms: Amount
    pay_atoms: Amount
    positions: list[Position]


class Auctions(msgspec.Struct, frozen=True):
    auctions: list[Auction]


class Level(msgspec.Struct, frozen=True):
    price_atoms: Amount
    size_lots: Amount
    orders: int


class Book(msgspec.Struct, frozen=True):
    """The best levels of both sides, best first, after entry `seq`."""

    instrument: int
    bids: list[Level]
    asks: list[Level]
    seq: int


class Holding(msgspec.Struct, frozen=True):
    lane: int
    vault: int
    asset: int
    symbol: str
    amount_atoms: Amount
    value_atoms: Amount


class Account(msgspec.Struct, frozen=True):
    """Balances, margin, positions and open orders."""

    account: int
    owner: Hex
    sub: int
    cash_atoms: Amount
    equity_atoms: Amount
    margin_initial_atoms: Amount
    margin_maintenance_atoms: Amount
    free_atoms: Amount
    maker_ppm: int
    taker_ppm: int
    mode: str
    pledged_atoms: Amount
    pledge_us: int
    debt_atoms: Amount
    auction: bool
    holdings: list[Holding]
    positions: list[Position]
    triggers: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    seq: int


class OwnedAccount(msgspec.Struct, frozen=True):
    account: int
    sub: int


class SessionKey(msgspec.Struct, frozen=True):
    key: Hex
    scope: int
    expiry_us: int | str
    revoked: bool
    nonce: Amount


class Owner(msgspec.Struct, frozen=True):
    """Accounts, session keys, and the exits of the last closed epoch by lane; `leaves`: per vault the index of the exit
    leaf, null where nothing was owed yet."""

    owner: Hex
    leaf_index: int
    leaves: list[int | None]
    accounts: list[OwnedAccount]
    keys: list[SessionKey]
    nonce: Amount
    exits_atoms: list[Amount]
    withdraw_acks_atoms: list[Amount]
    seq: int
