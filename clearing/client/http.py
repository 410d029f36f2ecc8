# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the operator's HTTP interface. Synchronous; one object per thread.

Rules: an error of the operator arrives as `ApiError` with the operator's own code; no answer at all is
OPERATOR_UNREACHABLE, and an answer that is not the interface's is BAD_ANSWER. Nothing is believed:
what matters is checked with `proofs`.
"""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from clearing.model.errors import NovateError

MSGPACK = "application/msgpack"
JSON = "application/json"


class ApiError(NovateError):
    """The operator refused, or did not answer. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(code, message)
        self.status = status

    @property
    def transient(self) -> bool:
        """Whether sending the same bytes again later is the thing to do."""
        return self.status in (0, 502, 503, 504)


class ApiClient:
    """The interface at `url`, such as http://127.0.0.1:8640. `timeout_s` bounds one request.

    Every method raises `ApiError`. JSON is returned as decoded; integers past 2^53 are strings there.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ApiError("OPERATOR_UNREACHABLE", f"{url!r} is not an http(s) URL, such as http://127.0.0.1:8640")
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s)

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
            reason = str(error) or type(error).__name__
            raise ApiError(
                "OPERATOR_UNREACHABLE", f"no answer from {self.url} ({reason}); is the operator up?"
            ) from None
        if response.is_success:
            return response.content
        raise _refusal(response)

    def _get(self, path: str) -> Any:
        return self._json(self.request("GET", path))

    def _json(self, content: bytes) -> Any:
        try:
            return msgspec.json.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError("BAD_ANSWER", f"{self.url} did not answer in JSON ({error}); check the URL") from None

    def _post_json(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._json(self.request("POST", path, msgspec.json.encode(body), JSON)))

    # --- commands ---

    def submit(self, envelope: bytes, proof: bool = False) -> dict[str, Any]:
        """Submit one signed envelope; its receipt once it is durable, with `proof` the entry and its inclusion too."""
        path = "/v1/commands?proof=1" if proof else "/v1/commands"
        answer: dict[str, Any] = self._json(self.request("POST", path, envelope))
        return answer

    def submit_many(self, envelopes: Sequence[bytes]) -> list[dict[str, Any]]:
        """Submit up to 1,000 envelopes; per envelope its receipt, or `code` and `message`."""
        body = msgspec.msgpack.encode(list(envelopes))
        answer = self._json(self.request("POST", "/v1/commands/batch", body))
        results: list[dict[str, Any]] = answer["results"]
        return results

    # --- reads ---

    def status(self) -> dict[str, Any]:
        return dict(self._get("/v1/status"))

    def genesis(self) -> dict[str, Any]:
        return dict(self._get("/v1/genesis"))

    def instruments(self) -> list[dict[str, Any]]:
        return list(self._get("/v1/instruments")["instruments"])

    def params(self) -> dict[str, Any]:
        """The governed parameters in force: version, hash, a pending proposal, and `raw` to decode."""
        return dict(self._get("/v1/params"))

    def auctions(self) -> list[dict[str, Any]]:
        return list(self._get("/v1/auctions")["auctions"])

    def account(self, number: int) -> dict[str, Any]:
        return dict(self._get(f"/v1/accounts/{number}"))

    def owner(self, address: bytes) -> dict[str, Any]:
        return dict(self._get(f"/v1/owners/0x{address.hex()}"))

    def book(self, instrument: int, depth: int = 20) -> dict[str, Any]:
        return dict(self._get(f"/v1/books/{instrument}?depth={depth}"))

    def receipt(self, seq: int) -> dict[str, Any]:
        """Entry bytes, leaf hash, inclusion proof and the signed checkpoint it leads to."""
        return dict(self._get(f"/v1/receipts/{seq}"))

    def entry(self, seq: int) -> dict[str, Any]:
        return dict(self._get(f"/v1/entries/{seq}"))

    def epochs(self) -> dict[str, Any]:
        return dict(self._get("/v1/epochs"))

    def epoch(self, number: int) -> dict[str, Any]:
        return dict(self._get(f"/v1/epochs/{number}"))

    def bundle(self, owner: bytes, vault: int = 0) -> bytes:
        """The owner's offline proof file of the latest epoch that was posted to a vault."""
        return self.request("GET", f"/v1/proofs/0x{owner.hex()}?vault={vault}")

    # --- attestors ---

    def headers(self, epoch: int) -> list[dict[str, Any]]:
        """Per live vault: `vault`, `header` (hex), `header_hash`, `chunk_hashes`, `posted`."""
        return list(self._get(f"/v1/epochs/{epoch}/headers")["headers"])

    def attest(self, vault: int, epoch: int, header_hash: bytes, signature: bytes) -> dict[str, Any]:
        """Hand in an attestor's signature (65 bytes) over a header; who has signed by now."""
        body = {"vault": vault, "epoch": epoch} | {"header_hash": _hex(header_hash), "signature": _hex(signature)}
        return self._post_json("/v1/attestations", body)

    def attestations(self, epoch: int) -> list[dict[str, Any]]:
        """Per live vault: `threshold`, `signed` (address and signature each) and `missing` addresses."""
        return list(self._get(f"/v1/attestations/{epoch}")["vaults"])

    # --- vouchers ---

    def voucher(
        self, vault: int, asset: int, cumulative: int, expiry_s: int, owner: bytes, signature: bytes
    ) -> dict[str, Any]:
        """Ask the operator to countersign a voucher that its owner signed: `operator_signature` beside its fields."""
        body = {"vault": vault, "asset": asset, "cumulative": str(cumulative), "expiry": expiry_s}
        return self._post_json("/v1/vouchers", body | {"owner": _hex(owner), "signature": _hex(signature)})

    def checkpoint(self) -> str:
        """The latest checkpoint, a signed note."""
        return self.request("GET", "/v1/checkpoint").decode()

    def blocks(self, from_seq: int) -> list[bytes]:
        """Raw journal blocks from the one that holds `from_seq` on, as many as one answer holds."""
        content = self.request("GET", f"/v1/blocks?from={from_seq}")
        try:
            return msgspec.msgpack.decode(content, type=list[bytes])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError("BAD_ANSWER", f"{self.url} did not answer with blocks ({error})") from None


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _refusal(response: httpx.Response) -> ApiError:
    try:
        body = msgspec.json.decode(response.content)
        return ApiError(str(body["code"]), str(body["message"]), response.status_code)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        text = f"HTTP {response.status_code} that is not the operator's; check the URL"
        return ApiError("BAD_ANSWER", text, response.status_code)
