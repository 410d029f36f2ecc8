# SPDX-License-Identifier: GPL-3.0-or-later
"""Public market data as it is sent: trades, tickers, candles, marks, funding.

Rules: prices, sizes and amounts are decimal strings in atoms and lots; `seq` is the journal entry that caused an item
and `index` its place among that entry's outcomes, so (seq, index) names it for good. `next` is a cursor to hand back
as `before` or `after`, whichever was asked with; null: there is no more.
"""

from typing import Literal

import msgspec

from clearing.api.messages.common import Amount

SideName = Literal["buy", "sell"]


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One fill on the public tape; `side` is the taker's."""

    seq: int
    index: int
    time_us: int
    instrument: int
    price_atoms: Amount
    size_lots: Amount
    side: SideName


class Trades(msgspec.Struct, frozen=True):
    items: list[Trade]
    next: str | None


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """A market at a glance. Figures of 24 hours cover the current minute and the 1,439 before it; without a trade in
    them volume is "0" and prices are null. `seq` and `time_us` are of the newest entry. `halted`: why, or ""."""

    instrument: int
    symbol: str
    seq: int
    time_us: int
    best_bid_atoms: Amount | None
    best_bid_lots: Amount | None
    best_ask_atoms: Amount | None
    best_ask_lots: Amount | None
    last_atoms: Amount | None
    last_lots: Amount | None
    mark_atoms: Amount | None
    index_atoms: Amount | None
    funding_rate_ppm: int | None
    open_interest_lots: Amount
    volume_lots_24h: Amount
    turnover_atoms_24h: Amount
    high_atoms_24h: Amount | None
    low_atoms_24h: Amount | None
    open_atoms_24h: Amount | None
    trades_24h: int
    halted: str


class Tickers(msgspec.Struct, frozen=True):
    items: list[Ticker]
    seq: int


class Candle(msgspec.Struct, frozen=True, gc=False):
    """Trades from `time_us` on, for an interval's length. An interval without a trade has no candle."""

    time_us: int
    open_atoms: Amount
    high_atoms: Amount
    low_atoms: Amount
    close_atoms: Amount
    volume_lots: Amount
    trades: int


class Candles(msgspec.Struct, frozen=True):
    """Newest first; the first may still change. `next` is a time in microseconds."""

    instrument: int
    interval: int
    items: list[Candle]
    next: str | None


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Mark and index prices after the prices of entry `seq`."""

    seq: int
    time_us: int
    mark_atoms: Amount
    index_atoms: Amount


class Marks(msgspec.Struct, frozen=True):
    """What this process saw since it started: a mark is a part of the state and no outcome, so an older one comes
    from replaying the journal."""

    items: list[Mark]
    next: str | None


class Funding(msgspec.Struct, frozen=True, gc=False):
    """A settlement of funding: each long lot paid `per_lot_atoms` (negative: received); `cumulative_atoms` after it."""

    seq: int
    index: int
    time_us: int
    instrument: int
    rate_ppm: int
    per_lot_atoms: Amount
    cumulative_atoms: Amount


class Fundings(msgspec.Struct, frozen=True):
    items: list[Funding]
    next: str | None
