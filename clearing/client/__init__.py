# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's side: read a venue, sign and submit commands, follow markets and accounts as they change.

    api = AsyncApiClient("http://127.0.0.1:8640")
    session = await AsyncSession.open(api, account, seed)
    receipt = await session.submit(PlaceOrder(1, BUY, 60_000_000, 10, client_order_id=1))
    async with AsyncStream(api) as stream:
        book = stream.book(1)
        async for trade in stream.trades(1): ...

`ApiClient`, `Session` and `Stream` are the same without async. Names are loaded when they are first used. Nothing here
imports the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from clearing.client.aio import AsyncApiClient
    from clearing.client.book import Book
    from clearing.client.errors import ApiError, OutcomeUnknown
    from clearing.client.feeds import AccountFeed, AccountUpdate, Latest, Tape
    from clearing.client.guards import CancelOnDisconnect, DeadMansSwitch
    from clearing.client.http import ApiClient
    from clearing.client.session import AsyncSession, Session
    from clearing.client.stream import AsyncStream
    from clearing.client.threaded import Stream

_WHERE: Final = {
    "AccountFeed": "feeds",
    "AccountUpdate": "feeds",
    "ApiClient": "http",
    "ApiError": "errors",
    "AsyncApiClient": "aio",
    "AsyncSession": "session",
    "AsyncStream": "stream",
    "Book": "book",
    "CancelOnDisconnect": "guards",
    "DeadMansSwitch": "guards",
    "Latest": "feeds",
    "OutcomeUnknown": "errors",
    "Session": "session",
    "Stream": "threaded",
    "Tape": "feeds",
}

__all__ = [
    "AccountFeed", "AccountUpdate", "ApiClient", "ApiError", "AsyncApiClient", "AsyncSession", "AsyncStream", "Book",
    "CancelOnDisconnect", "DeadMansSwitch", "Latest", "OutcomeUnknown", "Session", "Stream", "Tape",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
