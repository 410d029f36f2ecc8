# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of the stream, both ways: text frames, each a JSON object.

Rules:
- A client's frame says what it wants in `op`; its `id` comes back in the answer. A server's frame says what it is in
  `type`; frames of a channel name `channel` and, where it has one, `instrument` or `account`.
- `seq`: the data is complete up to this entry of the journal. `prev_seq`: `seq` of the frame before it in the same
  subscription, null in a snapshot. Who finds another `prev_seq` than the `seq` it saw last has missed something and
  subscribes again, which brings a new snapshot.
- Fields may be added to what the server sends; what a client sends is taken strictly.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from clearing.api.messages.commands import Failure, Head, Rejection
from clearing.api.messages.common import Amount, Hex
from clearing.api.messages.market import Funding, Mark, Ticker, Trade
from clearing.api.messages.member import AccountEvent, Fill, OrderStatus
from clearing.api.messages.state import Account

if TYPE_CHECKING:
    _Event = Any
else:
    _Event = AccountEvent

Id = Annotated[str, Meta(max_length=64)] | int | None
Channel = Literal[
    "book", "trades", "ticker", "mark", "funding", "instruments", "account", "epochs", "checkpoint", "status"
]
_Natural = Annotated[int, Meta(ge=0, le=2**53)]
SCHEMAS: Final = "#/components/schemas"
MAX_ENVELOPES: Final = 100
MAX_CANCELS: Final = 16
MAX_GRACE_MS: Final = 60_000


class _Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    pass


class Subscribe(_Ask, frozen=True, tag="subscribe"):
    """Book, trades, ticker, mark and funding are of an `instrument`; account is of an `account`; the others have
    neither. `after`: the last `seq` that was seen; trades, funding and account then begin with what came after it. Who
    is subscribed already gets a new snapshot."""

    channel: Channel
    id: Id = None
    instrument: _Natural | None = None
    account: _Natural | None = None
    after: _Natural | None = None


class Unsubscribe(_Ask, frozen=True, tag="unsubscribe"):
    channel: Channel
    id: Id = None
    instrument: _Natural | None = None
    account: _Natural | None = None


class Ping(_Ask, frozen=True, tag="ping"):
    id: Id = None


class Submit(_Ask, frozen=True, tag="submit"):
    """Signed envelopes as 0x-hexadecimal, sequenced in this order, and in the order of a connection's frames. The
    answers come in the order of completion."""

    envelopes: Annotated[list[str], Meta(min_length=1, max_length=MAX_ENVELOPES)]
    id: Id = None
    outcomes: bool = False


class CancelOnDisconnect(_Ask, frozen=True, tag="cancel_on_disconnect"):
    """Signed envelopes that the server submits when this connection ends in any way but `leave`; they hold nothing but
    CancelAll, CancelOrder and ScheduleCancelAll. A new frame replaces what was handed over; an empty list withdraws it.
    `grace_ms`: how long the server waits after the end for the same key to hand over anew on another connection."""

    envelopes: Annotated[list[str], Meta(max_length=MAX_CANCELS)]
    id: Id = None
    grace_ms: Annotated[int, Meta(ge=0, le=MAX_GRACE_MS)] = 0


class Leave(_Ask, frozen=True, tag="leave"):
    """End the connection; what was handed over is not submitted."""

    id: Id = None


Ask = Subscribe | Unsubscribe | Ping | Submit | CancelOnDisconnect | Leave
ASKS: Final = (Subscribe, Unsubscribe, Ping, Submit, CancelOnDisconnect, Leave)


# --- answers -----------------------------------------------------------------------------------


class _Tell(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Subscribed(_Tell, frozen=True, tag="subscribed", omit_defaults=True):
    """The snapshot comes next."""

    id: Id
    ok: Literal[True]
    channel: Channel
    instrument: int | None = None
    account: int | None = None


class Unsubscribed(_Tell, frozen=True, tag="unsubscribed", omit_defaults=True):
    """Nothing of it comes any more. Also for what was not subscribed."""

    id: Id
    ok: Literal[True]
    channel: Channel
    instrument: int | None = None
    account: int | None = None


class Pong(_Tell, frozen=True, tag="pong"):
    op: Literal["pong"]
    id: Id
    seq: int
    time_us: int


class StreamReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The entry is on disk and in the log. `outcomes` only when they were asked for."""

    seq: int
    time_us: int
    entry_hash: Hex
    rejected: list[Rejection]
    checkpoint: Head
    outcomes: list[dict[str, Any]] | None = None


# Two kinds of object without a tag are no type that msgspec would read.
_Row = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"anyOf": [{"$ref": f"{SCHEMAS}/StreamReceipt"}, {"$ref": f"{SCHEMAS}/Failure"}]}),
]


class Results(_Tell, frozen=True, tag="results"):
    """Per envelope its receipt, or why it was not taken. `seq`: the newest of the entries, null without any."""

    id: Id
    results: list[_Row]
    seq: int | None


class Armed(_Tell, frozen=True, tag="cancel_on_disconnect"):
    """How many envelopes will be submitted when this connection ends."""

    id: Id
    ok: Literal[True]
    envelopes: int
    grace_ms: int


class Left(_Tell, frozen=True, tag="left"):
    """The connection is closed next, with 1000."""

    id: Id
    ok: Literal[True]


class StreamError(_Tell, frozen=True, tag="error"):
    """What was asked was not done. `retry_after_ms` where the same may be asked again later."""

    id: Id
    code: str
    message: str
    retry_after_ms: int | None = None


class Notice(_Tell, frozen=True, tag="notice"):
    """Something that the client should act on and did not ask for: CANCEL_UNUSABLE, CANCEL_SUPERSEDED."""

    code: str
    message: str


class Heartbeat(_Tell, frozen=True, tag="heartbeat"):
    """Once a second. `seq`: the newest entry that was applied; `age_ms` since the sequencer was heard; `stale`: too
    long ago, or not connected."""

    seq: int
    age_ms: int
    stale: bool
    time_us: int


class Reset(_Tell, frozen=True, tag="reset", omit_defaults=True):
    """The sequence of a subscription was broken on the server's side: a new snapshot comes next."""

    channel: Channel
    reason: str
    instrument: int | None = None
    account: int | None = None


# --- channels ----------------------------------------------------------------------------------


class _Snapshot(_Tell, frozen=True, tag="snapshot", kw_only=True):
    seq: int
    prev_seq: None = None


class _Delta(_Tell, frozen=True, tag="delta", kw_only=True):
    seq: int
    prev_seq: int


class BookData(msgspec.Struct, frozen=True):
    """Levels as [price atoms, lots, orders], best first in a snapshot: the best 1,000 of a side. In a delta: levels
    that changed; lots "0" and no orders: it is gone, or no longer among the best 1,000."""

    bids: list[tuple[Amount, Amount, int]]
    asks: list[tuple[Amount, Amount, int]]


class BookSnapshot(_Snapshot, frozen=True, kw_only=True):
    channel: Literal["book"] = "book"
    instrument: int
    data: BookData


class BookDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["book"] = "book"
    instrument: int
    data: BookData


class TradesData(msgspec.Struct, frozen=True):
    """Oldest first."""

    items: list[Trade]


class TradesSnapshot(_Snapshot, frozen=True, kw_only=True):
    """The newest 50, or with `after` what came after it. `gap`: that was too much, or is not known; the newest 50
    instead, and GET /v1/trades has the others."""

    channel: Literal["trades"] = "trades"
    instrument: int
    gap: bool
    data: TradesData


class TradesDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["trades"] = "trades"
    instrument: int
    data: TradesData


class FundingData(msgspec.Struct, frozen=True):
    """Oldest first."""

    items: list[Funding]


class FundingSnapshot(_Snapshot, frozen=True, kw_only=True):
    """As of trades."""

    channel: Literal["funding"] = "funding"
    instrument: int
    gap: bool
    data: FundingData


class FundingDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["funding"] = "funding"
    instrument: int
    data: FundingData


class TickerSnapshot(_Snapshot, frozen=True, kw_only=True):
    channel: Literal["ticker"] = "ticker"
    instrument: int
    data: Ticker


class TickerDelta(_Delta, frozen=True, kw_only=True):
    """The whole ticker, at most four times a second."""

    channel: Literal["ticker"] = "ticker"
    instrument: int
    data: Ticker


class MarkSnapshot(_Snapshot, frozen=True, kw_only=True):
    """Null before the first price."""

    channel: Literal["mark"] = "mark"
    instrument: int
    data: Mark | None


class MarkDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["mark"] = "mark"
    instrument: int
    data: Mark


class InstrumentsData(msgspec.Struct, frozen=True):
    """As GET /v1/instruments. In a delta: those that were listed, halted or resumed, or whose breaker changed."""

    instruments: list[dict[str, Any]]
    delisted: list[int]


class InstrumentsSnapshot(_Snapshot, frozen=True, kw_only=True):
    channel: Literal["instruments"] = "instruments"
    data: InstrumentsData


class InstrumentsDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["instruments"] = "instruments"
    data: InstrumentsData


class AccountState(Account, frozen=True):
    """As GET /v1/accounts/{n}; `fills` and `events` with `after` only: what came after it, oldest first."""

    fills: list[Fill]
    events: list[_Event]


class AccountChange(msgspec.Struct, frozen=True):
    """The whole account as it stands, its orders that changed (each once, with its newest status), and what was filled
    and happened since the frame before, oldest first."""

    account: Account
    orders: list[OrderStatus]
    fills: list[Fill]
    events: list[_Event]


class AccountSnapshot(_Snapshot, frozen=True, kw_only=True):
    """`gap` as of trades; `fills` and `events` are then empty, and GET /v1/accounts/{n}/fills and /history have them.
    Equity and margin follow the mark between frames."""

    channel: Literal["account"] = "account"
    account: int
    gap: bool
    data: AccountState


class AccountDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["account"] = "account"
    account: int
    data: AccountChange


class VaultHeader(msgspec.Struct, frozen=True):
    vault: int
    header_hash: Hex


class Epoch(msgspec.Struct, frozen=True):
    """`closed`: its headers are made; `posted`: every live vault holds its header."""

    epoch: int
    state: Literal["closed", "posted"]
    header_hashes: list[VaultHeader]


class EpochsSnapshot(_Snapshot, frozen=True, kw_only=True):
    """The newest; null before the first."""

    channel: Literal["epochs"] = "epochs"
    data: Epoch | None


class EpochsDelta(_Delta, frozen=True, kw_only=True):
    channel: Literal["epochs"] = "epochs"
    data: Epoch


class CheckpointSnapshot(_Snapshot, frozen=True, kw_only=True):
    """Null until the sequencer was heard."""

    channel: Literal["checkpoint"] = "checkpoint"
    data: Head | None


class CheckpointDelta(_Delta, frozen=True, kw_only=True):
    """At most once a second."""

    channel: Literal["checkpoint"] = "checkpoint"
    data: Head


class StatusSnapshot(_Snapshot, frozen=True, kw_only=True):
    """The venue's counters, as in GET /v1/status."""

    channel: Literal["status"] = "status"
    data: dict[str, Any]


class StatusDelta(_Delta, frozen=True, kw_only=True):
    """The whole, at most once a second."""

    channel: Literal["status"] = "status"
    data: dict[str, Any]


# Types that are parts of frames without being named by them.
PARTS: Final = (StreamReceipt, Failure)
TELLS: Final[tuple[type[msgspec.Struct], ...]] = (
    Subscribed, Unsubscribed, Pong, Results, Armed, Left, StreamError, Notice, Heartbeat, Reset,
    BookSnapshot, BookDelta, TradesSnapshot, TradesDelta, TickerSnapshot, TickerDelta, MarkSnapshot, MarkDelta,
    FundingSnapshot, FundingDelta, InstrumentsSnapshot, InstrumentsDelta, AccountSnapshot, AccountDelta,
    EpochsSnapshot, EpochsDelta, CheckpointSnapshot, CheckpointDelta, StatusSnapshot, StatusDelta,
)  # fmt: skip
