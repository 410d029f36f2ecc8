# SPDX-License-Identifier: GPL-3.0-or-later
"""`clearing.client.http` for asyncio: the same resources, answers and errors; one object per event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx

from clearing.client import asks
from clearing.client import types as t
from clearing.client.asks import MSGPACK, Ask, Paging
from clearing.client.errors import refusal, unreachable
from clearing.client.http import checked_url, head_of, health_of
from clearing.model.commands import PlaceOrder

T = TypeVar("T")


class AsyncApiClient:
    """The interface at `url`, such as http://127.0.0.1:8640. `timeout_s` bounds one request. Every method raises
    `ApiError`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = checked_url(url)
        self._http = httpx.AsyncClient(base_url=self.url, timeout=timeout_s)
        self._seen = -1
        self.head = -1

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncApiClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- transport ---

    async def request(self, method: str, path: str, content: bytes | None = None, kind: str = MSGPACK) -> bytes:
        """The body of a successful answer."""
        headers = {"content-type": kind} if content is not None else {}
        try:
            response = await self._http.request(method, path, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.url, error) from None
        self.head = max(self.head, head_of(response))
        if response.is_success:
            return response.content
        raise refusal(self.url, response.content, response.status_code, response.headers)

    async def call(self, ask: Ask[T]) -> T:
        """What a resource answers."""
        return ask.read(await self.request(ask.method, ask.path_after(self._seen), ask.content, ask.kind))

    def saw(self, seq: int) -> None:
        """What is read from now on is not older than entry `seq`."""
        self._seen = max(self._seen, seq)

    # --- commands ---

    async def submit(self, envelope: bytes, proof: bool = False) -> dict[str, Any]:
        """Submit one signed envelope; its receipt once it is durable, with `proof` the entry and its inclusion too."""
        receipt = await self.call(asks.submit(envelope, proof))
        self.saw(int(receipt.get("seq", -1)))
        return receipt

    async def submit_many(self, envelopes: Sequence[bytes]) -> list[dict[str, Any]]:
        """Submit up to 1,000 envelopes; per envelope its receipt, or `code` and `message`."""
        results = await self.call(asks.submit_many(envelopes))
        self.saw(max((int(result.get("seq", -1)) for result in results), default=-1))
        return results

    # --- venue ---

    async def health(self) -> dict[str, Any]:
        """As the operator says, also when it is not well: `status` "ok", "stale" or "halted", and a signed head."""
        try:
            response = await self._http.get("/v1/health")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.url, error) from None
        return health_of(self.url, response)

    async def status(self) -> dict[str, Any]:
        return await self.call(asks.resource("/v1/status"))

    async def genesis(self) -> dict[str, Any]:
        return await self.call(asks.resource("/v1/genesis"))

    async def params(self) -> dict[str, Any]:
        return await self.call(asks.resource("/v1/params"))

    # --- market ---

    async def instruments(self) -> list[dict[str, Any]]:
        return await self.call(asks.rows("/v1/instruments", "instruments"))

    async def instrument(self, number: int) -> dict[str, Any]:
        return dict((await self.call(asks.resource(f"/v1/instruments/{number}")))["instrument"])

    async def auctions(self) -> list[dict[str, Any]]:
        return await self.call(asks.rows("/v1/auctions", "auctions"))

    async def book(self, instrument: int, depth: int = 20) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/books/{instrument}?depth={depth}"))

    async def trades(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Trade]:  # noqa: B008 - frozen
        return await self.call(asks.trades(instrument, paging))

    async def ticker(self, instrument: int) -> t.Ticker:
        return await self.call(asks.ticker(instrument))

    async def tickers(self) -> list[t.Ticker]:
        return (await self.call(asks.tickers())).items

    async def candles(self, instrument: int, interval_s: int = 60, paging: Paging = Paging()) -> t.Page[t.Candle]:  # noqa: B008
        return await self.call(asks.candles(instrument, interval_s, paging))

    async def marks(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Mark]:  # noqa: B008
        return await self.call(asks.marks(instrument, paging))

    async def funding(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Funding]:  # noqa: B008
        return await self.call(asks.funding(instrument, paging))

    # --- member ---

    async def account(self, number: int) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/accounts/{number}"))

    async def owner(self, address: bytes) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/owners/{asks.hexed(address)}"))

    async def orders(self, account: int) -> t.OpenOrders:
        return await self.call(asks.orders(account))

    async def order(self, account: int, client_order_id: int) -> t.OrderStatus:
        return await self.call(asks.order(account, client_order_id))

    async def fills(self, account: int, paging: Paging = Paging()) -> t.Page[t.Fill]:  # noqa: B008
        return await self.call(asks.fills(account, paging))

    async def events(self, account: int, paging: Paging = Paging()) -> t.Page[t.Event]:  # noqa: B008
        return await self.call(asks.events(account, paging))

    async def withdrawals(self, account: int, paging: Paging = Paging()) -> t.Page[t.Withdrawal]:  # noqa: B008
        return await self.call(asks.withdrawals(account, paging))

    async def estimate(self, account: int, orders: Sequence[PlaceOrder]) -> t.Estimate:
        return await self.call(asks.estimate(account, orders))

    async def every(self, page: Callable[[Paging], Awaitable[t.Page[T]]], after: int | str) -> AsyncIterator[T]:
        """All items after an entry, oldest first, page by page: `api.every(lambda p: api.trades(1, p), after=0)`."""
        cursor: int | str | None = after
        while cursor is not None:
            found = await page(Paging(after=cursor, limit=1_000))
            for item in found.items:
                yield item
            cursor = found.next

    # --- journal and epochs ---

    async def receipt(self, seq: int) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/receipts/{seq}"))

    async def entry(self, seq: int) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/entries/{seq}"))

    async def checkpoint(self) -> str:
        return await self.call(asks.text("/v1/checkpoint"))

    async def blocks(self, from_seq: int) -> list[bytes]:
        return await self.call(asks.blocks(from_seq))

    async def epochs(self) -> dict[str, Any]:
        return await self.call(asks.resource("/v1/epochs"))

    async def epoch(self, number: int) -> dict[str, Any]:
        return await self.call(asks.resource(f"/v1/epochs/{number}"))

    async def headers(self, epoch: int) -> list[dict[str, Any]]:
        return await self.call(asks.rows(f"/v1/epochs/{epoch}/headers", "headers"))

    async def bundle(self, owner: bytes, vault: int = 0) -> bytes:
        return await self.call(asks.raw(f"/v1/proofs/{asks.hexed(owner)}?vault={vault}"))

    # --- attestors and vouchers ---

    async def attest(self, vault: int, epoch: int, header_hash: bytes, signature: bytes) -> dict[str, Any]:
        return await self.call(asks.attest(vault, epoch, header_hash, signature))

    async def attestations(self, epoch: int) -> list[dict[str, Any]]:
        return await self.call(asks.rows(f"/v1/attestations/{epoch}", "vaults"))

    async def voucher(
        self, vault: int, asset: int, cumulative: int, expiry_s: int, owner: bytes, signature: bytes
    ) -> dict[str, Any]:
        return await self.call(asks.voucher(vault, asset, cumulative, expiry_s, owner, signature))
