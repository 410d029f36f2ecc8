# SPDX-License-Identifier: GPL-3.0-or-later
"""What concerns one account: open orders, what became of an order, fills, events, withdrawals.

Account data is public here, as it is in the journal that anyone can mirror.
"""

import asyncio
import time
from typing import Annotated, Any, Final

from msgspec import Meta
from starlette.requests import Request

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.history.orders import SIDES
from clearing.api.http.market import PAGE_DOC, PAGED, cursor_of, natural
from clearing.api.http.table import Param, Resource
from clearing.api.messages.member import (
    Events,
    Fills,
    OpenOrder,
    OpenOrders,
    OpenTrigger,
    OrderStatus,
    Withdrawal,
    Withdrawals,
)
from clearing.core.book import Order
from clearing.core.state import Account, State, Trigger
from clearing.model import ids
from clearing.model.errors import NovateError, Refused

ACCOUNT: Final = Param("account", Annotated[int, Meta(ge=0)], "number of an account", required=True)
_CLIENT: Final = Param(
    "client_order_id", Annotated[str, Meta(pattern="^[0-9]{1,19}$")], "as given when it was placed", required=True
)
_GROUP: Final = "accounts"
_POSTED_S: Final = 1.0


def account_of(state: State, request: Request) -> Account:
    """The account of the path. Raises `Refused` UNKNOWN_ACCOUNT, BAD_PARAMETER."""
    number = natural(request.path_params["account"], "account")
    if number >= len(state.accounts):
        raise Refused("UNKNOWN_ACCOUNT", f"there is no account {number}; deposit first, then ask with its number")
    return state.accounts[number]


def _order(order: Order) -> OpenOrder:
    return OpenOrder(
        order.order_id, str(order.client_order_id), order.slot.inst.id, SIDES[order.side], str(order.price),
        str(order.open_lots), order.expiry_us,
    )  # fmt: skip


def _trigger(trigger: Trigger) -> OpenTrigger:
    return OpenTrigger(
        trigger.order_id, str(trigger.client_order_id), trigger.instrument, SIDES[trigger.side],
        "market" if trigger.kind == ids.MARKET else "limit", "or above" if trigger.above else "or below",
        str(trigger.trigger), str(trigger.price), str(trigger.lots), str(trigger.oco), trigger.expiry_us,
    )  # fmt: skip


def open_orders(found: Account, seq: int) -> OpenOrders:
    """An account's open orders and waiting triggers in a state after entry `seq`."""
    placed = [_order(order) for order in found.orders.values()]
    return OpenOrders(found.number, seq, placed, [_trigger(trigger) for trigger in found.triggers.values()])


class _Posted:
    """Which epoch each vault holds, as the sequencer knows it; asked at most once a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked = -_POSTED_S
        self._found: list[int] | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> list[int] | None:
        """Per vault; None when the sequencer cannot be asked."""
        async with self._lock:
            if time.monotonic() - self._asked >= _POSTED_S:
                try:
                    self._found = await self._context.link.ask("posted")
                except NovateError:
                    self._found = None
                self._asked = time.monotonic()
            return self._found


class _Member:
    """The handlers."""

    def __init__(self, context: Context, history: History) -> None:
        self._context = context
        self._history = history
        self._posted = _Posted(context)

    async def _account(self, request: Request, history: bool = True) -> Account:
        if history:
            await self._history.ready()
        return account_of(await self._context.replica.settled(), request)

    async def orders(self, request: Request) -> OpenOrders:
        found = await self._account(request, history=False)
        return open_orders(found, self._context.replica.seq - 1)

    async def order(self, request: Request) -> OrderStatus:
        client = _wide(request.path_params["client_order_id"])
        return self._history.order((await self._account(request)).number, client)

    async def fills(self, request: Request) -> Fills:
        asked = cursor_of(request)
        page = await self._history.fills((await self._account(request)).number, asked)
        return Fills(page.items, page.next)

    async def events(self, request: Request) -> Any:
        asked = cursor_of(request)
        page = await self._history.events((await self._account(request)).number, asked)
        return Events(page.items, page.next)

    async def withdrawals(self, request: Request) -> Withdrawals:
        asked = cursor_of(request)
        page = await self._history.withdrawals((await self._account(request)).number, asked)
        posted = await self._posted.get() if page.items else None
        return Withdrawals([await self._withdrawal(event, posted) for event in page.items], page.next)

    async def _withdrawal(self, event: Any, posted: list[int] | None) -> Withdrawal:
        epoch = await self._history.epoch_after(event.seq)
        state = self._context.replica.state
        lane = state.lane_of(event.vault, event.asset)
        symbol = state.assets[lane].spec.symbol if lane is not None else ""
        is_posted = None if posted is None else epoch is not None and epoch <= posted[event.vault]
        return Withdrawal(
            event.seq, event.index, event.time_us, event.vault, event.asset, symbol, event.amount_atoms,
            event.cumulative_atoms, None, epoch, is_posted,
        )  # fmt: skip


def _wide(text: str) -> int:
    """A number of 64 bits. Raises `Refused` BAD_PARAMETER."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > ids.MAX_AMOUNT_ATOMS:
        raise Refused("BAD_PARAMETER", f"client_order_id {text[:40]!r} is not a number below 2^63")
    return int(text)


def resources(context: Context, history: History) -> list[Resource]:
    """Routes of one account."""
    member = _Member(context, history)
    place = "/v1/accounts/{account}"
    errors = ("UNKNOWN_ACCOUNT", "BAD_PARAMETER", "HISTORY_STARTING", "OVERLOADED")

    def read(path: str, handler: Any, summary: str, answer: Any, *params: Param, doc: str = "") -> Resource:
        return Resource("GET", place + path, handler, summary, answer, _GROUP, (ACCOUNT, *params), None, errors, doc)

    return [
        read("/orders", member.orders, "Open orders and triggers", OpenOrders),
        read(
            "/orders/{client_order_id}", member.order, "What became of an order", OrderStatus, _CLIENT,
            doc='The newest order with this id. Of orders that ended the newest 100,000 are known, else "unknown".',
        ),
        read("/fills", member.fills, "An account's part in trades", Fills, *PAGED, doc=PAGE_DOC),
        read(
            "/history", member.events, "What happened to an account beside orders and fills", Events, *PAGED,
            doc=PAGE_DOC + " Funding is settled when a position is next touched; GET /v1/funding/{instrument} has it.",
        ),
        read("/withdrawals", member.withdrawals, "Acknowledged withdrawals", Withdrawals, *PAGED, doc=PAGE_DOC),
    ]  # fmt: skip
