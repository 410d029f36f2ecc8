# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of the REST interface: what is sent, and how the answer is read. No I/O.

Both clients (clearing.client.http and .aio) send them, so that a resource is described once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from clearing.client import types as t
from clearing.client.errors import ApiError
from clearing.model import ids
from clearing.model.commands import PlaceOrder

MSGPACK = "application/msgpack"
JSON = "application/json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """`waits`: the answer must not be older than what the client was told before."""

    path: str
    read: Callable[[bytes], T]
    content: bytes | None = None
    kind: str = MSGPACK
    waits: bool = True

    @property
    def method(self) -> str:
        return "GET" if self.content is None else "POST"

    def path_after(self, seq: int) -> str:
        """The path, asking for a state that is not before entry `seq` (-1: any)."""
        if not self.waits or seq < 0:
            return self.path
        return f"{self.path}{'&' if '?' in self.path else '?'}min_seq={seq}"


def _typed(kind: type[T]) -> Callable[[bytes], T]:
    # Not strict: decimal strings become ints.
    decoder = msgspec.json.Decoder(kind, strict=False)

    def read(content: bytes) -> T:
        try:
            return decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise _bad(error) from None

    return read


def _bad(error: Exception) -> ApiError:
    return ApiError("BAD_ANSWER", f"the operator's answer is not what it should be ({error}); check the URL")


def json(content: bytes) -> Any:
    """A JSON value as it came. Raises `ApiError` BAD_ANSWER."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad(error) from None


def _object(content: bytes) -> dict[str, Any]:
    found = json(content)
    if not isinstance(found, dict):
        raise _bad(TypeError("no object"))
    return found


def _under(name: str) -> Callable[[bytes], list[dict[str, Any]]]:
    def read(content: bytes) -> list[dict[str, Any]]:
        found = _object(content).get(name)
        if not isinstance(found, list):
            raise _bad(TypeError(f"no {name}"))
        return found

    return read


def _blocks(content: bytes) -> list[bytes]:
    try:
        return msgspec.msgpack.decode(content, type=list[bytes])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad(error) from None


_TICKER = _typed(t.Ticker)
_TICKERS = _typed(t.Tickers)
_TRADES = _typed(t.Page[t.Trade])
_CANDLES = _typed(t.Page[t.Candle])
_MARKS = _typed(t.Page[t.Mark])
_FUNDING = _typed(t.Page[t.Funding])
_FILLS = _typed(t.Page[t.Fill])
_WITHDRAWALS = _typed(t.Page[t.Withdrawal])
_ORDERS = _typed(t.OpenOrders)
_ORDER = _typed(t.OrderStatus)
_ESTIMATE = _typed(t.Estimate)


def _events(content: bytes) -> t.Page[t.Event]:
    return t.Page(_under("items")(content), _object(content).get("next"))


@dataclass(frozen=True, slots=True)
class Paging:
    """`before`: newest first; `after`: oldest first; a seq, or `next` of the page before. Neither: the newest."""

    before: int | str | None = None
    after: int | str | None = None
    limit: int | None = None

    def on(self, path: str, **more: int) -> str:
        """The path with the query."""
        given = {"before": self.before, "after": self.after, "limit": self.limit} | more
        query = {name: value for name, value in given.items() if value is not None}
        return f"{path}?{urlencode(query)}" if query else path


# --- commands ----------------------------------------------------------------------------------


def submit(envelope: bytes, proof: bool) -> Ask[dict[str, Any]]:
    return Ask("/v1/commands?proof=1" if proof else "/v1/commands", _object, envelope, waits=False)


def submit_many(envelopes: Sequence[bytes]) -> Ask[list[dict[str, Any]]]:
    return Ask("/v1/commands/batch", _under("results"), msgspec.msgpack.encode(list(envelopes)), waits=False)


# --- venue -------------------------------------------------------------------------------------


def resource(path: str, waits: bool = True) -> Ask[dict[str, Any]]:
    """Any resource that is a JSON object."""
    return Ask(path, _object, waits=waits)


def rows(path: str, name: str) -> Ask[list[dict[str, Any]]]:
    """The list that a resource holds under a name."""
    return Ask(path, _under(name))


def text(path: str) -> Ask[str]:
    return Ask(path, lambda content: content.decode("utf-8", "replace"), waits=False)


def raw(path: str) -> Ask[bytes]:
    return Ask(path, bytes, waits=False)


def blocks(from_seq: int) -> Ask[list[bytes]]:
    return Ask(f"/v1/blocks?from={from_seq}", _blocks, waits=False)


def post(path: str, body: dict[str, Any]) -> Ask[dict[str, Any]]:
    return Ask(path, _object, msgspec.json.encode(body), JSON, waits=False)


# --- market ------------------------------------------------------------------------------------


def trades(instrument: int, paging: Paging) -> Ask[t.Page[t.Trade]]:
    return Ask(paging.on(f"/v1/trades/{instrument}"), _TRADES)


def ticker(instrument: int) -> Ask[t.Ticker]:
    return Ask(f"/v1/tickers/{instrument}", _TICKER)


def tickers() -> Ask[t.Tickers]:
    return Ask("/v1/tickers", _TICKERS)


def candles(instrument: int, interval_s: int, paging: Paging) -> Ask[t.Page[t.Candle]]:
    return Ask(paging.on(f"/v1/candles/{instrument}", interval=interval_s), _CANDLES)


def marks(instrument: int, paging: Paging) -> Ask[t.Page[t.Mark]]:
    return Ask(paging.on(f"/v1/marks/{instrument}"), _MARKS)


def funding(instrument: int, paging: Paging) -> Ask[t.Page[t.Funding]]:
    return Ask(paging.on(f"/v1/funding/{instrument}"), _FUNDING)


# --- member ------------------------------------------------------------------------------------


def orders(account: int) -> Ask[t.OpenOrders]:
    return Ask(f"/v1/accounts/{account}/orders", _ORDERS)


def order(account: int, client_order_id: int) -> Ask[t.OrderStatus]:
    return Ask(f"/v1/accounts/{account}/orders/{client_order_id}", _ORDER)


def fills(account: int, paging: Paging) -> Ask[t.Page[t.Fill]]:
    return Ask(paging.on(f"/v1/accounts/{account}/fills"), _FILLS)


def events(account: int, paging: Paging) -> Ask[t.Page[t.Event]]:
    return Ask(paging.on(f"/v1/accounts/{account}/history"), _events)


def withdrawals(account: int, paging: Paging) -> Ask[t.Page[t.Withdrawal]]:
    return Ask(paging.on(f"/v1/accounts/{account}/withdrawals"), _WITHDRAWALS)


def estimate(account: int, orders: Sequence[PlaceOrder]) -> Ask[t.Estimate]:
    """Limit orders, good till cancelled; what else a `PlaceOrder` says is not looked at."""
    asked = [
        {
            "instrument": order.instrument,
            "side": "buy" if order.side == ids.BUY else "sell",
            "price_atoms": str(order.price_atoms),
            "size_lots": str(order.size_lots),
        }
        for order in orders
    ]
    content = msgspec.json.encode({"orders": asked})
    return Ask(f"/v1/accounts/{account}/estimate", _ESTIMATE, content, JSON)


# --- attestors, vouchers -----------------------------------------------------------------------


def hexed(value: bytes) -> str:
    """Bytes as they are sent."""
    return "0x" + value.hex()


def attest(vault: int, epoch: int, header_hash: bytes, signature: bytes) -> Ask[dict[str, Any]]:
    body = {"vault": vault, "epoch": epoch} | {"header_hash": hexed(header_hash), "signature": hexed(signature)}
    return post("/v1/attestations", body)


def voucher(
    vault: int, asset: int, cumulative: int, expiry_s: int, owner: bytes, signature: bytes
) -> Ask[dict[str, Any]]:
    body = {"vault": vault, "asset": asset, "cumulative": str(cumulative), "expiry": expiry_s}
    return post("/v1/vouchers", body | {"owner": hexed(owner), "signature": hexed(signature)})
