# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the operator's HTTP interface. Synchronous; one object per thread. `AsyncApiClient` is its twin.

Rules:
- Errors are `ApiError` (clearing.client.errors). Nothing is believed: what matters is checked with `proofs`.
- What is read is never older than what this client's receipts have told.
- Resources of markets and members are typed (clearing.client.types, amounts are ints). The others are returned as
  decoded: dictionaries in which amounts are decimal strings, so `int(...)` them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import httpx

from clearing.client import asks
from clearing.client import types as t
from clearing.client.asks import JSON, MSGPACK, Ask, Paging
from clearing.client.errors import ApiError, refusal, unreachable
from clearing.model.commands import PlaceOrder

__all__ = ["JSON", "MSGPACK", "ApiClient", "ApiError"]

T = TypeVar("T")


def checked_url(url: str) -> str:
    """The base of the interface. Raises `ApiError`."""
    if not url.startswith(("http://", "https://")):
        raise ApiError("OPERATOR_UNREACHABLE", f"{url!r} is not an http(s) URL, such as http://127.0.0.1:8640")
    return url.rstrip("/")


class ApiClient:
    """The interface at `url`, such as http://127.0.0.1:8640. `timeout_s` bounds one request. Every method raises
    `ApiError`."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.url = checked_url(url)
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s)
        self._seen = -1  # the last entry that a receipt named
        self.head = -1  # the newest entry that any answer told of

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- transport ---

    def request(self, method: str, path: str, content: bytes | None = None, kind: str = MSGPACK) -> bytes:
        """The body of a successful answer."""
        headers = {"content-type": kind} if content is not None else {}
        try:
            response = self._http.request(method, path, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.url, error) from None
        self.head = max(self.head, head_of(response))
        if response.is_success:
            return response.content
        raise refusal(self.url, response.content, response.status_code, response.headers)

    def call(self, ask: Ask[T]) -> T:
        """What a resource answers."""
        return ask.read(self.request(ask.method, ask.path_after(self._seen), ask.content, ask.kind))

    def saw(self, seq: int) -> None:
        """What is read from now on is not older than entry `seq`."""
        self._seen = max(self._seen, seq)

    # --- commands ---

    def submit(self, envelope: bytes, proof: bool = False) -> dict[str, Any]:
        """Submit one signed envelope; its receipt once it is durable, with `proof` the entry and its inclusion too."""
        receipt = self.call(asks.submit(envelope, proof))
        self.saw(int(receipt.get("seq", -1)))
        return receipt

    def submit_many(self, envelopes: Sequence[bytes]) -> list[dict[str, Any]]:
        """Submit up to 1,000 envelopes; per envelope its receipt, or `code` and `message`."""
        results = self.call(asks.submit_many(envelopes))
        self.saw(max((int(result.get("seq", -1)) for result in results), default=-1))
        return results

    # --- venue ---

    def health(self) -> dict[str, Any]:
        """As the operator says, also when it is not well: `status` "ok", "stale" or "halted", and a signed head."""
        try:
            response = self._http.get("/v1/health")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(self.url, error) from None
        return health_of(self.url, response)

    def status(self) -> dict[str, Any]:
        return self.call(asks.resource("/v1/status"))

    def genesis(self) -> dict[str, Any]:
        return self.call(asks.resource("/v1/genesis"))

    def params(self) -> dict[str, Any]:
        """The governed parameters in force: version, hash, a pending proposal, and `raw` to decode."""
        return self.call(asks.resource("/v1/params"))

    # --- market ---

    def instruments(self) -> list[dict[str, Any]]:
        return self.call(asks.rows("/v1/instruments", "instruments"))

    def instrument(self, number: int) -> dict[str, Any]:
        return dict(self.call(asks.resource(f"/v1/instruments/{number}"))["instrument"])

    def auctions(self) -> list[dict[str, Any]]:
        return self.call(asks.rows("/v1/auctions", "auctions"))

    def book(self, instrument: int, depth: int = 20) -> dict[str, Any]:
        return self.call(asks.resource(f"/v1/books/{instrument}?depth={depth}"))

    def trades(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Trade]:  # noqa: B008 - frozen
        return self.call(asks.trades(instrument, paging))

    def ticker(self, instrument: int) -> t.Ticker:
        return self.call(asks.ticker(instrument))

    def tickers(self) -> list[t.Ticker]:
        return self.call(asks.tickers()).items

    def candles(self, instrument: int, interval_s: int = 60, paging: Paging = Paging()) -> t.Page[t.Candle]:  # noqa: B008
        """Of 60, 300, 3,600 or 86,400 seconds. `before` and `after` are times in microseconds here."""
        return self.call(asks.candles(instrument, interval_s, paging))

    def marks(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Mark]:  # noqa: B008
        return self.call(asks.marks(instrument, paging))

    def funding(self, instrument: int, paging: Paging = Paging()) -> t.Page[t.Funding]:  # noqa: B008
        return self.call(asks.funding(instrument, paging))

    # --- member ---

    def account(self, number: int) -> dict[str, Any]:
        return self.call(asks.resource(f"/v1/accounts/{number}"))

    def owner(self, address: bytes) -> dict[str, Any]:
        return self.call(asks.resource(f"/v1/owners/{asks.hexed(address)}"))

    def orders(self, account: int) -> t.OpenOrders:
        return self.call(asks.orders(account))

    def order(self, account: int, client_order_id: int) -> t.OrderStatus:
        """What became of an order; also of one that ended."""
        return self.call(asks.order(account, client_order_id))

    def fills(self, account: int, paging: Paging = Paging()) -> t.Page[t.Fill]:  # noqa: B008
        return self.call(asks.fills(account, paging))

    def events(self, account: int, paging: Paging = Paging()) -> t.Page[t.Event]:  # noqa: B008
        """What happened to an account beside orders and fills: deposits, liquidations, transfers ..."""
        return self.call(asks.events(account, paging))

    def withdrawals(self, account: int, paging: Paging = Paging()) -> t.Page[t.Withdrawal]:  # noqa: B008
        return self.call(asks.withdrawals(account, paging))

    def estimate(self, account: int, orders: Sequence[PlaceOrder]) -> t.Estimate:
        """What margin would be with some more limit orders. Nothing is placed."""
        return self.call(asks.estimate(account, orders))

    def every(self, page: Callable[[Paging], t.Page[T]], after: int | str) -> Iterator[T]:
        """All items after an entry, oldest first, page by page: `api.every(lambda p: api.trades(1, p), after=0)`."""
        cursor: int | str | None = after
        while cursor is not None:
            found = page(Paging(after=cursor, limit=1_000))
            yield from found.items
            cursor = found.next

    # --- journal and epochs ---

    def receipt(self, seq: int) -> dict[str, Any]:
        """Entry bytes, leaf hash, inclusion proof and the signed checkpoint it leads to."""
        return self.call(asks.resource(f"/v1/receipts/{seq}"))

    def entry(self, seq: int) -> dict[str, Any]:
        return self.call(asks.resource(f"/v1/entries/{seq}"))

    def checkpoint(self) -> str:
        """The latest checkpoint, a signed note."""
        return self.call(asks.text("/v1/checkpoint"))

    def blocks(self, from_seq: int) -> list[bytes]:
        """Raw journal blocks from the one that holds `from_seq` on, as many as one answer holds."""
        return self.call(asks.blocks(from_seq))

    def epochs(self) -> dict[str, Any]:
        return self.call(asks.resource("/v1/epochs"))

    def epoch(self, number: int) -> dict[str, Any]:
        return self.call(asks.resource(f"/v1/epochs/{number}"))

    def headers(self, epoch: int) -> list[dict[str, Any]]:
        """Per live vault: `vault`, `header` (hex), `header_hash`, `chunk_hashes`, `posted`."""
        return self.call(asks.rows(f"/v1/epochs/{epoch}/headers", "headers"))

    def bundle(self, owner: bytes, vault: int = 0) -> bytes:
        """The owner's offline proof file of the latest epoch that was posted to a vault."""
        return self.call(asks.raw(f"/v1/proofs/{asks.hexed(owner)}?vault={vault}"))

    # --- attestors and vouchers ---

    def attest(self, vault: int, epoch: int, header_hash: bytes, signature: bytes) -> dict[str, Any]:
        """Hand in an attestor's signature (65 bytes) over a header; who has signed by now."""
        return self.call(asks.attest(vault, epoch, header_hash, signature))

    def attestations(self, epoch: int) -> list[dict[str, Any]]:
        """Per live vault: `threshold`, `signed` (address and signature each) and `missing` addresses."""
        return self.call(asks.rows(f"/v1/attestations/{epoch}", "vaults"))

    def voucher(
        self, vault: int, asset: int, cumulative: int, expiry_s: int, owner: bytes, signature: bytes
    ) -> dict[str, Any]:
        """Ask the operator to countersign a voucher that its owner signed: `operator_signature` beside its fields."""
        return self.call(asks.voucher(vault, asset, cumulative, expiry_s, owner, signature))


def head_of(response: httpx.Response) -> int:
    """The entry after which the operator's state stood when it answered; -1 when it does not say."""
    text = response.headers.get("x-novate-seq", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 17 else -1


def health_of(url: str, response: httpx.Response) -> dict[str, Any]:
    """An answer of /v1/health, which has the same body with 200 and 503."""
    if response.status_code in (200, 503):
        found = asks.json(response.content)
        if isinstance(found, dict) and "status" in found:
            return found
    raise refusal(url, response.content, response.status_code, response.headers)
