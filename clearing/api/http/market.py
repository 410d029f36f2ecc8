# SPDX-License-Identifier: GPL-3.0-or-later
"""Public market data: trades, tickers, candles, marks, funding."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta
from starlette.requests import Request

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.history.candles import INTERVALS_S
from clearing.api.history.cursor import DEFAULT_LIMIT, LAST, MAX_LIMIT, Cursor, cursor
from clearing.api.http.table import Param, Resource
from clearing.api.messages.market import Candle, Candles, Fundings, Marks, Ticker, Tickers, Trades
from clearing.model.errors import Refused

CURSOR: Final = Annotated[str, Meta(pattern="^[0-9]{1,18}(-[0-9]{1,9})?$")]
PAGED: Final = (
    Param("before", CURSOR, "newest first: items before this entry (SEQ), or `next` of such a page"),
    Param("after", CURSOR, "oldest first: items after this entry (SEQ), or `next` of such a page"),
    Param("limit", Annotated[int, Meta(ge=1, le=MAX_LIMIT)], "items on a page", default=str(DEFAULT_LIMIT)),
)
INSTRUMENT: Final = Param("instrument", Annotated[int, Meta(ge=0)], "id of an instrument", required=True)
PAGE_DOC: Final = (
    "Without `before` and `after`: the newest. A page of old items comes from the journal; it may hold fewer than were "
    "asked for, or none, and still have a `next`."
)
_GROUP: Final = "market"
_NO_MARKET: Final = ("UNKNOWN_INSTRUMENT", "BAD_PARAMETER", "HISTORY_STARTING", "OVERLOADED")


def natural(text: str | None, name: str, most: int = 2**53) -> int:
    """A number of path or query. Raises `Refused` BAD_PARAMETER."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > most:
        raise Refused("BAD_PARAMETER", f"{name}={(text or '')[:40]!r} is not a number from 0 to {most}")
    return int(text)


def cursor_of(request: Request) -> Cursor:
    """What page is asked for. Raises `Refused` BAD_PARAMETER."""
    query = request.query_params
    limit = query.get("limit")
    most = None if limit is None else natural(limit, "limit")
    return cursor(query.get("before"), query.get("after"), most)


class _Market:
    """The handlers."""

    def __init__(self, context: Context, history: History) -> None:
        self._context = context
        self._history = history

    async def _instrument(self, request: Request) -> int:
        """The instrument of the path, once there are tapes. Raises `Refused` UNKNOWN_INSTRUMENT; `NovateError`."""
        number = natural(request.path_params["instrument"], "instrument")
        await self._history.ready()
        state = await self._context.replica.settled()
        if number not in state.instruments and not self._history.has_traded(number):
            raise Refused("UNKNOWN_INSTRUMENT", f"there is no instrument {number}; GET /v1/instruments lists them")
        return number

    async def trades(self, request: Request) -> Trades:
        asked = cursor_of(request)
        page = await self._history.trades(await self._instrument(request), asked)
        return Trades(page.items, page.next)

    async def funding(self, request: Request) -> Fundings:
        asked = cursor_of(request)
        page = await self._history.funding(await self._instrument(request), asked)
        return Fundings(page.items, page.next)

    async def marks(self, request: Request) -> Marks:
        asked = cursor_of(request)
        page = self._history.marks(await self._instrument(request), asked)
        return Marks(page.items, page.next)

    async def ticker(self, request: Request) -> Ticker:
        number = await self._instrument(request)
        found = self._history.ticker(number)
        if found is None:
            raise Refused("UNKNOWN_INSTRUMENT", f"instrument {number} is no longer listed; its trades can be read")
        return found

    async def tickers(self, request: Request) -> Tickers:
        await self._history.ready()
        await self._context.replica.settled()
        return Tickers(self._history.tickers(), self._context.replica.seq - 1)

    async def candles(self, request: Request) -> Candles:
        asked = cursor_of(request)
        interval = natural(request.query_params.get("interval", "60"), "interval")
        if interval not in INTERVALS_S:
            raise Refused("BAD_PARAMETER", f"interval {interval} is none of {', '.join(map(str, INTERVALS_S))}")
        number = await self._instrument(request)
        items, following = _page(self._history.candles(number, interval), asked)
        return Candles(number, interval, items, following)


def _page(found: list[Candle], asked: Cursor) -> tuple[list[Candle], str | None]:
    """Candles stand at their times; newest first, or after a time oldest first."""
    if asked.after is not None:
        after = asked.after[0] if asked.after[1] == LAST else asked.after[0] - 1
        chosen = [candle for candle in found if candle.time_us > after]
    else:
        before = LAST if asked.before is None else asked.before[0]
        chosen = [candle for candle in reversed(found) if candle.time_us < before]
    items = chosen[: asked.limit]
    return items, str(items[-1].time_us) if len(items) < len(chosen) else None


def resources(context: Context, history: History) -> list[Resource]:
    """Routes of public market data."""
    market = _Market(context, history)
    interval = Param("interval", Literal[60, 300, 3_600, 86_400], "seconds", default="60")

    def read(path: str, handler: Any, summary: str, answer: type, *params: Param, doc: str = "") -> Resource:
        errors = _NO_MARKET if INSTRUMENT in params else ("HISTORY_STARTING",)
        return Resource("GET", path, handler, summary, answer, _GROUP, params, None, errors, doc)

    return [
        read("/v1/trades/{instrument}", market.trades, "The public tape", Trades, INSTRUMENT, *PAGED, doc=PAGE_DOC),
        read("/v1/tickers", market.tickers, "All markets at a glance", Tickers),
        read("/v1/tickers/{instrument}", market.ticker, "A market at a glance", Ticker, INSTRUMENT),
        read(
            "/v1/candles/{instrument}", market.candles, "Candles, the newest 1,000 of each interval", Candles,
            INSTRUMENT, interval, *PAGED, doc="`before` and `after` are times in microseconds here.",
        ),
        read("/v1/marks/{instrument}", market.marks, "Marks since the process started", Marks, INSTRUMENT, *PAGED),
        read(
            "/v1/funding/{instrument}", market.funding, "Settlements of funding", Fundings, INSTRUMENT, *PAGED,
            doc=PAGE_DOC,
        ),
    ]  # fmt: skip
