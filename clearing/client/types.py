# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interface tells, as Python values.

Rules: amounts, prices, sizes and client order ids are decimal strings on the wire and ints here; never floats. Fields
that are not known here are ignored, since the interface may gain some. (seq, index) names an item for good: the journal
entry that caused it, and its place among that entry's outcomes.
"""

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Items in the order asked for. `next`: a cursor for the same direction, None at the end."""

    items: list[T]
    next: str | None


class Trade(msgspec.Struct, frozen=True, gc=False):
    """`side` is the taker's: "buy" or "sell"."""

    seq: int
    index: int
    time_us: int
    instrument: int
    price_atoms: int
    size_lots: int
    side: str


class Ticker(msgspec.Struct, frozen=True, gc=False):
    instrument: int
    symbol: str
    seq: int
    time_us: int
    best_bid_atoms: int | None
    best_bid_lots: int | None
    best_ask_atoms: int | None
    best_ask_lots: int | None
    last_atoms: int | None
    last_lots: int | None
    mark_atoms: int | None
    index_atoms: int | None
    funding_rate_ppm: int | None
    open_interest_lots: int
    volume_lots_24h: int
    turnover_atoms_24h: int
    high_atoms_24h: int | None
    low_atoms_24h: int | None
    open_atoms_24h: int | None
    trades_24h: int
    halted: str


class Tickers(msgspec.Struct, frozen=True):
    items: list[Ticker]
    seq: int


class Candle(msgspec.Struct, frozen=True, gc=False):
    time_us: int
    open_atoms: int
    high_atoms: int
    low_atoms: int
    close_atoms: int
    volume_lots: int
    trades: int


class Mark(msgspec.Struct, frozen=True, gc=False):
    seq: int
    time_us: int
    mark_atoms: int
    index_atoms: int


class Funding(msgspec.Struct, frozen=True, gc=False):
    """Each long lot paid `per_lot_atoms` (negative: received)."""

    seq: int
    index: int
    time_us: int
    instrument: int
    rate_ppm: int
    per_lot_atoms: int
    cumulative_atoms: int


class Fill(msgspec.Struct, frozen=True, gc=False):
    """`role`: "maker" or "taker"; `fee_atoms` negative: a rebate."""

    seq: int
    index: int
    time_us: int
    instrument: int
    symbol: str
    side: str
    role: str
    price_atoms: int
    size_lots: int
    fee_atoms: int
    order_id: int
    client_order_id: int


class OrderStatus(msgspec.Struct, frozen=True, gc=False):
    """`status`: "open", "filled", "cancelled", "rejected" or "unknown"."""

    status: str
    client_order_id: int
    order_id: int | None = None
    account: int | None = None
    instrument: int | None = None
    side: str | None = None
    price_atoms: int | None = None
    size_lots: int | None = None
    filled_lots: int | None = None
    open_lots: int | None = None
    reason: str | None = None
    seq: int | None = None
    place_seq: int | None = None
    is_trigger: bool = False


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    order_id: int
    client_order_id: int
    instrument: int
    side: str
    price_atoms: int
    open_lots: int
    expiry_us: int


class OpenTrigger(msgspec.Struct, frozen=True, gc=False):
    """`when`: "or above" or "or below"; `oco`: client order id of its other half, 0 without one."""

    order_id: int
    client_order_id: int
    instrument: int
    side: str
    kind: str
    when: str
    trigger_atoms: int
    price_atoms: int
    size_lots: int
    oco: int
    expiry_us: int


class OpenOrders(msgspec.Struct, frozen=True):
    account: int
    seq: int
    orders: list[OpenOrder]
    triggers: list[OpenTrigger]


class Position(msgspec.Struct, frozen=True, gc=False):
    """`size_lots` is negative for a short position."""

    instrument: int
    symbol: str
    size_lots: int
    entry_cost_atoms: int | None = None
    mark_atoms: int | None = None


class Account(msgspec.Struct, frozen=True):
    """An account after entry `seq`. `free_atoms`: what new orders and withdrawals may use."""

    account: int
    owner: str
    sub: int
    cash_atoms: int
    equity_atoms: int
    margin_initial_atoms: int
    margin_maintenance_atoms: int
    free_atoms: int
    maker_ppm: int
    taker_ppm: int
    mode: str
    pledged_atoms: int
    pledge_us: int
    debt_atoms: int
    auction: bool
    holdings: list[dict[str, Any]]
    positions: list[Position]
    triggers: list[OpenTrigger]
    orders: list[OpenOrder]
    seq: int

    def position(self, instrument: int) -> int:
        """Lots held of an instrument; negative: short."""
        return sum(held.size_lots for held in self.positions if held.instrument == instrument)


class Withdrawal(msgspec.Struct, frozen=True):
    seq: int
    index: int
    time_us: int
    vault: int
    asset: int
    symbol: str
    amount_atoms: int
    cumulative_atoms: int
    claimed: None
    epoch: int | None
    posted: bool | None


class Margin(msgspec.Struct, frozen=True):
    equity_atoms: int
    margin_initial_atoms: int
    margin_maintenance_atoms: int
    free_atoms: int


class EstimatedOrder(msgspec.Struct, frozen=True):
    accepted: bool
    code: str | None
    filled_lots: int
    resting_lots: int
    cost_atoms: int
    fee_atoms: int


class Estimate(msgspec.Struct, frozen=True):
    """`before` and `after`: the account without and with the orders. `code`: the first refusal."""

    account: int
    seq: int
    accepted: bool
    code: str | None
    before: Margin
    after: Margin
    orders: list[EstimatedOrder]


# An outcome of the journal that concerns an account: `seq`, `index`, `time_us`, `type`, and its own fields.
Event = dict[str, Any]
