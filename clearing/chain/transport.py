# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON-RPC over HTTP to one endpoint.

Rules: transport faults (no connection, timeout, HTTP 429 and 5xx) are retried with growing pauses,
since every method used here is idempotent: a raw transaction is identified by its hash, and
sending it twice is the same as once. An answer that arrived is never retried. What does not parse is
RPC_ERROR, never a traceback.
"""

import itertools
import time
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from clearing.chain.errors import ChainError

Json = Any
TOO_MANY: Final = 429  # refused unread
_RETRY_STATUS: Final = (TOO_MANY, 500, 502, 503, 504)


class Transport(Protocol):
    """What carries requests: one endpoint, or a pool of them. `url` is for people."""

    url: str

    def request(self, method: str, *params: Json) -> Json:
        """One call. Raises `ChainError` RPC_UNREACHABLE, RPC_ERROR, TX_REVERTED."""

    def close(self) -> None:
        """Let go of connections."""


def _revert_data(error: dict[str, Any]) -> bytes | None:
    """Revert data in the dialects of the nodes; None when the error is not a revert."""
    data: Any = error.get("data")
    if isinstance(data, dict):
        data = data.get("data")
    if isinstance(data, str):
        start = data.find("0x")
        digits = data[start + 2 :].strip() if start >= 0 else ""
        try:
            return bytes.fromhex(digits)
        except ValueError:
            return b""
    message = str(error.get("message", ""))
    return b"" if error.get("code") == 3 or "revert" in message.lower() else None


def _rpc_fault(method: str, error: Json) -> ChainError:
    if not isinstance(error, dict):
        return ChainError("RPC_ERROR", f"{method}: {str(error)[:200]}")
    message = str(error.get("message", error))[:300]
    revert = _revert_data(error)
    if revert is not None and method in ("eth_call", "eth_estimateGas", "eth_sendRawTransaction"):
        return ChainError("TX_REVERTED", f"the contract refused: {message}", data=revert)
    return ChainError("RPC_ERROR", f"{method}: {message}")


def shown(url: str) -> str:
    """Scheme and host of a URL: paths and users often hold an API key, which no message may show."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class HttpTransport:
    """A connection to one endpoint. `timeout_s` bounds one attempt; `attempts` counts them."""

    def __init__(self, url: str, timeout_s: float = 20.0, attempts: int = 4, pause_s: float = 0.1) -> None:
        import httpx

        if not url.startswith(("http://", "https://")):
            raise ChainError("RPC_UNREACHABLE", f"{url!r} is not an http(s) URL; pass --rpc http://host:port")
        self._endpoint, self.url = url, shown(url)
        self._attempts, self._pause_s = attempts, pause_s
        # A TLS context takes 30 ms to build; a local node needs none.
        self._client = httpx.Client(timeout=timeout_s, verify=url.startswith("https://"))
        self._ids = itertools.count(1)

    def close(self) -> None:
        self._client.close()

    def _post(self, payload: Json, once: bool) -> Json:
        import httpx

        fault, attempt = "", 0
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._pause_s * 3 ** (attempt - 1))
            try:
                response = self._client.post(self._endpoint, json=payload)
                if response.status_code not in _RETRY_STATUS:
                    return response.json()
                fault = f"HTTP {response.status_code}"
                reached = response.status_code != TOO_MANY
            except (httpx.TransportError, httpx.InvalidURL) as error:
                fault = f"{type(error).__name__}: {error}"
                reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL)
            except ValueError:
                text = f"{self.url} answers HTTP {response.status_code} without JSON; check the URL"
                raise ChainError("RPC_ERROR", text) from None
            if once and reached:
                break
        text = f"no answer from {self.url} after {attempt + 1} attempts ({fault}); is the node up?"
        raise ChainError("RPC_UNREACHABLE", text)

    def request(self, method: str, *params: Json) -> Json:
        """One call. Raises `ChainError` RPC_UNREACHABLE, RPC_ERROR, TX_REVERTED.

        A transaction whose answer was lost is not sent a second time here: the node may have taken it, would refuse
        the second as a used nonce, and whoever waits for it would take it for somebody else's and pay again.
        """
        request_id = next(self._ids)
        payload = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
        answer = self._post(payload, once=method == "eth_sendRawTransaction")
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise ChainError("RPC_ERROR", f"{self.url} does not speak JSON-RPC; check the URL")
        if answer.get("error") is not None:
            raise _rpc_fault(method, answer["error"])
        if answer.get("id") != request_id:
            raise ChainError("RPC_ERROR", f"{method}: the answer belongs to request {answer.get('id')!r}")
        return answer["result"]
