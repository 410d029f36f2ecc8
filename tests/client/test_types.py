# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's description of the interface does not drift: from the server's, nor one of the twins from the other."""

import inspect
from typing import Any

import msgspec
import pytest

from clearing.api.messages import frames as served
from clearing.api.messages import market, member, state
from clearing.client import ApiClient, AsyncApiClient, AsyncStream, Stream, frames, types

PAIRS: list[tuple[type[Any], type[Any]]] = [
    (types.Trade, market.Trade),
    (types.Ticker, market.Ticker),
    (types.Candle, market.Candle),
    (types.Mark, market.Mark),
    (types.Funding, market.Funding),
    (types.Fill, member.Fill),
    (types.OrderStatus, member.OrderStatus),
    (types.OpenOrder, member.OpenOrder),
    (types.OpenTrigger, member.OpenTrigger),
    (types.OpenOrders, member.OpenOrders),
    (types.Position, state.Position),
    (types.Account, state.Account),
    (types.Withdrawal, member.Withdrawal),
    (types.Margin, member.Margin),
    (types.EstimatedOrder, member.EstimatedOrder),
    (types.Estimate, member.Estimate),
    (frames.BookData, served.BookData),
    (frames.AccountSnapshot, served.AccountState),
    (frames.AccountDelta, served.AccountChange),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_fields_are_those_of_the_server(ours: type[Any], theirs: type[Any]) -> None:
    """Every field of the client's is served under its name, and nothing that is served is missing."""
    assert {field.encode_name for field in msgspec.structs.fields(ours)} == {
        field.encode_name for field in msgspec.structs.fields(theirs)
    }


def methods(kind: type[Any]) -> dict[str, list[str]]:
    """Public methods and the names of their parameters."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: list(inspect.signature(made).parameters) for name, made in found if not name.startswith("_")}


def test_the_sync_and_the_async_client_are_twins() -> None:
    """The same methods, with the same parameters."""
    assert methods(ApiClient) == methods(AsyncApiClient)
    assert len(methods(ApiClient)) > 30


def test_the_stream_of_threads_follows_all_that_the_other_does() -> None:
    """What can be subscribed to is the same in both; the rest is the event loop's."""
    beside = {"start", "close", "ask", "call", "forget", "leave"}
    ours, theirs = methods(Stream), methods(AsyncStream)
    assert set(theirs) - beside == set(ours)
    assert all(ours[name] == theirs[name] for name in ours)
