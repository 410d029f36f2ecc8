# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of the stream as a client reads them: the outside of a frame first, its data when it is known whose it is."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from clearing.client import types as t

EMPTY: Final = msgspec.Raw(b"null")


class Frame(msgspec.Struct, frozen=True):
    """Any frame of the server; what it has not is at its default. Fields as clearing.api.messages.frames has them."""

    type: str
    id: str | int | None = None
    channel: str = ""
    instrument: int | None = None
    account: int | None = None
    seq: int | None = None
    prev_seq: int | None = None
    gap: bool = False
    data: msgspec.Raw = EMPTY
    results: msgspec.Raw = EMPTY
    code: str = ""
    message: str = ""
    reason: str = ""
    retry_after_ms: int | None = None
    age_ms: int = 0
    stale: bool = False

    @property
    def place(self) -> tuple[str, int]:
        """Channel, and the instrument or account that it is of (0: the venue's)."""
        return self.channel, (self.account if self.instrument is None else self.instrument) or 0


class BookData(msgspec.Struct, frozen=True):
    """Levels: price atoms, lots (0: gone), orders."""

    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


class TradesData(msgspec.Struct, frozen=True):
    items: list[t.Trade]


class FundingData(msgspec.Struct, frozen=True):
    items: list[t.Funding]


class AccountSnapshot(t.Account, frozen=True, kw_only=True):
    fills: list[t.Fill] = msgspec.field(default_factory=list)
    events: list[dict[str, Any]] = msgspec.field(default_factory=list)


class AccountDelta(msgspec.Struct, frozen=True):
    account: t.Account
    orders: list[t.OrderStatus]
    fills: list[t.Fill]
    events: list[dict[str, Any]]


decode_frame: Final = msgspec.json.Decoder(Frame).decode
decode_rows: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode
# Not strict: decimal strings become ints.
decode_book: Final = msgspec.json.Decoder(BookData, strict=False).decode
decode_trades: Final = msgspec.json.Decoder(TradesData, strict=False).decode
decode_funding: Final = msgspec.json.Decoder(FundingData, strict=False).decode
decode_account: Final = msgspec.json.Decoder(AccountSnapshot, strict=False).decode
decode_account_delta: Final = msgspec.json.Decoder(AccountDelta, strict=False).decode
decode_ticker: Final = msgspec.json.Decoder(t.Ticker, strict=False).decode
decode_mark: Final = msgspec.json.Decoder(t.Mark | None, strict=False).decode
decode_any: Final[Callable[[msgspec.Raw], Any]] = msgspec.json.Decoder(Any).decode
encode: Final = msgspec.json.Encoder().encode
