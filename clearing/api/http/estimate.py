# SPDX-License-Identifier: GPL-3.0-or-later
"""Margin estimates: what an account would be worth and need with some more orders. Nothing is changed."""

import msgspec
from starlette.requests import Request

from clearing.api.context import Context
from clearing.api.estimates import Figures, Placed, estimate
from clearing.api.history import History
from clearing.api.http.member import ACCOUNT, account_of
from clearing.api.http.table import Resource
from clearing.api.messages.member import Estimate, EstimatedOrder, EstimateOrder, EstimateRequest, Margin
from clearing.core.state import Account
from clearing.model import ids
from clearing.model.commands import PlaceOrder
from clearing.model.errors import Refused

_JSON = "application/json"
_MAX_BODY_BYTES = 65_536
_decode = msgspec.json.Decoder(EstimateRequest).decode


async def read_request(request: Request) -> EstimateRequest:
    """The body. Raises `Refused` MALFORMED, BODY_TOO_LARGE."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise Refused("BODY_TOO_LARGE", f"an estimate takes at most {_MAX_BODY_BYTES} bytes; send fewer orders")
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused("MALFORMED", f"not a list of orders: {error}; see /v1/openapi.json") from None


def _commands(account: Account, asked: list[EstimateOrder]) -> list[PlaceOrder]:
    """Under client order ids that are free."""
    free = 1 + max([0, *account.orders, *account.triggers])
    return [
        PlaceOrder(
            order.instrument, ids.BUY if order.side == "buy" else ids.SELL, _bounded(order.price_atoms),
            _bounded(order.size_lots), free + number,
        )
        for number, order in enumerate(asked)
    ]  # fmt: skip


def _bounded(number: str | int) -> int:
    """What is out of range is refused by the rules anyway, and need not be exact."""
    return min(int(number), ids.MAX_AMOUNT_ATOMS)


def _margin(figures: Figures) -> Margin:
    return Margin(*map(str, figures))


def _order(placed: Placed) -> EstimatedOrder:
    code = placed.code or None
    return EstimatedOrder(
        code is None, code, str(placed.filled), str(placed.resting), str(placed.cost), str(placed.fee)
    )


def resources(context: Context, history: History) -> list[Resource]:
    """The route of estimates. (`history` is not needed: an estimate is made of the state.)"""

    async def answer(request: Request) -> Estimate:
        asked = await read_request(request)
        state = await context.replica.settled()
        account = account_of(state, request)
        outlook = estimate(state, account, _commands(account, asked.orders))
        code = next((placed.code for placed in outlook.orders if placed.code), None)
        orders = [_order(placed) for placed in outlook.orders]
        seq = context.replica.seq - 1
        return Estimate(
            account.number, seq, code is None, code, _margin(outlook.before), _margin(outlook.after), orders
        )

    return [
        Resource(
            "POST",
            "/v1/accounts/{account}/estimate",
            answer,
            "What margin would be with some more orders",
            Estimate,
            "accounts",
            (ACCOUNT,),
            {_JSON: EstimateRequest},
            ("UNKNOWN_ACCOUNT", "BAD_PARAMETER", "MALFORMED", "BODY_TOO_LARGE"),
            "The orders are taken as one batch of limit orders, in order, by the matching engine's own rules. "
            "Nothing is placed or reserved.",
        )
    ]
