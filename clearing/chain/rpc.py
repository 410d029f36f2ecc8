# SPDX-License-Identifier: GPL-3.0-or-later
"""A small synchronous JSON-RPC client for Ethereum nodes.

Rules: transport faults (no connection, timeout, HTTP 429 and 5xx) are retried with growing pauses,
since every method used here is idempotent: a raw transaction is identified by its hash, and
sending it twice is the same as once. An answer that arrived is never retried. The endpoint is not
trusted to be well-behaved: what does not parse is RPC_ERROR, never a traceback.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from clearing.chain.errors import ChainError

Json = Any
LOG_WINDOW_BLOCKS: Final = 100_000
_RETRY_STATUS: Final = (429, 500, 502, 503, 504)


def quantity(value: object) -> int:
    """An 0x-number of JSON-RPC. Raises `ChainError` RPC_ERROR."""
    try:
        return int(str(value), 16)
    except ValueError:
        raise ChainError("RPC_ERROR", f"the endpoint sent {value!r} where a number belongs") from None


def data_bytes(value: object) -> bytes:
    """0x-data of JSON-RPC. Raises `ChainError` RPC_ERROR."""
    try:
        text = str(value)
        return bytes.fromhex(text[2:] if text[:2] == "0x" else text)
    except ValueError:
        raise ChainError("RPC_ERROR", f"the endpoint sent {str(value)[:80]!r} where data belongs") from None


def hexed(value: bytes) -> str:
    """0x and lower-case hexadecimal digits."""
    return "0x" + value.hex()


def parse_address(text: str) -> bytes:
    """20 bytes of an address text, with or without 0x. Raises `ChainError` INVALID_ADDRESS."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise ChainError("INVALID_ADDRESS", f"{text!r} is not an address: 0x and 40 hexadecimal digits")
    return raw


class Block(NamedTuple):
    number: int
    hash: bytes
    time_s: int
    base_fee_wei: int


class Log(NamedTuple):
    address: bytes
    block_number: int
    log_index: int
    tx_hash: bytes
    topics: tuple[bytes, ...]
    data: bytes


class Receipt(NamedTuple):
    tx_hash: bytes
    block_number: int
    ok: bool
    gas_used: int
    contract: bytes
    logs: tuple[Log, ...]


class Fees(NamedTuple):
    """EIP-1559 caps per gas, in wei."""

    max_fee_wei: int
    max_priority_wei: int


def _fields(value: Json, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ChainError("RPC_ERROR", f"the endpoint sent no {what} object")
    return value


def parse_log(raw: Json) -> Log:
    fields = _fields(raw, "log")
    topics = tuple(data_bytes(topic) for topic in fields.get("topics") or ())
    number, index = quantity(fields.get("blockNumber")), quantity(fields.get("logIndex"))
    tx_hash, data = data_bytes(fields.get("transactionHash")), data_bytes(fields.get("data", "0x"))
    return Log(data_bytes(fields.get("address") or "0x"), number, index, tx_hash, topics, data)


def _parse_receipt(raw: Json) -> Receipt:
    fields = _fields(raw, "receipt")
    return Receipt(
        data_bytes(fields.get("transactionHash")),
        quantity(fields.get("blockNumber")),
        quantity(fields.get("status")) == 1,
        quantity(fields.get("gasUsed")),
        data_bytes(fields.get("contractAddress") or "0x"),
        tuple(parse_log(log) for log in fields.get("logs") or ()),
    )


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


class Rpc:
    """A connection to one endpoint. `timeout_s` bounds one attempt; `attempts` counts them."""

    def __init__(self, url: str, timeout_s: float = 20.0, attempts: int = 4, pause_s: float = 0.1) -> None:
        import httpx

        if not url.startswith(("http://", "https://")):
            raise ChainError("RPC_UNREACHABLE", f"{url!r} is not an http(s) URL; pass --rpc http://host:port")
        self.url = url
        self._attempts, self._pause_s = attempts, pause_s
        # A TLS context takes 30 ms to build; a local node needs none.
        self._client = httpx.Client(timeout=timeout_s, verify=url.startswith("https://"))
        self._ids = itertools.count(1)
        self._chain_id: int | None = None

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> "Rpc":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- transport

    def _post(self, payload: Json) -> Json:
        import httpx

        fault = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._pause_s * 3 ** (attempt - 1))
            try:
                response = self._client.post(self.url, json=payload)
                if response.status_code not in _RETRY_STATUS:
                    return response.json()
                fault = f"HTTP {response.status_code}"
            except (httpx.TransportError, httpx.InvalidURL) as error:
                fault = f"{type(error).__name__}: {error}"
            except ValueError:
                text = f"{self.url} answers HTTP {response.status_code} without JSON; check the URL"
                raise ChainError("RPC_ERROR", text) from None
        text = f"no answer from {self.url} after {self._attempts} attempts ({fault}); is the node up?"
        raise ChainError("RPC_UNREACHABLE", text)

    def request(self, method: str, *params: Json) -> Json:
        """One call. Raises `ChainError` RPC_UNREACHABLE, RPC_ERROR, TX_REVERTED."""
        request_id = next(self._ids)
        answer = self._post({"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)})
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise ChainError("RPC_ERROR", f"{self.url} does not speak JSON-RPC; check the URL")
        if answer.get("error") is not None:
            raise _rpc_fault(method, answer["error"])
        if answer.get("id") != request_id:
            raise ChainError("RPC_ERROR", f"{method}: the answer belongs to request {answer.get('id')!r}")
        return answer["result"]

    # -- reads

    def chain_id(self) -> int:
        if self._chain_id is None:
            self._chain_id = quantity(self.request("eth_chainId"))
        return self._chain_id

    def require_chain(self, chain_id: int) -> None:
        """Raises `ChainError` WRONG_CHAIN unless the endpoint serves `chain_id`."""
        if self.chain_id() != chain_id:
            text = f"{self.url} serves chain {self.chain_id()}, not {chain_id}; change --rpc"
            raise ChainError("WRONG_CHAIN", text)

    def block_number(self) -> int:
        return quantity(self.request("eth_blockNumber"))

    def block(self, tag: str | int = "latest") -> Block:
        """A block's number, hash, time (seconds) and base fee (wei)."""
        wanted = hex(tag) if isinstance(tag, int) else tag
        fields = _fields(self.request("eth_getBlockByNumber", wanted, False), f"block {tag}")
        head = quantity(fields.get("number")), data_bytes(fields.get("hash") or "0x")
        return Block(*head, quantity(fields.get("timestamp")), quantity(fields.get("baseFeePerGas", "0x0")))

    def time_s(self) -> int:
        """The chain's clock: the time the next block would carry, as far as the node tells."""
        latest = self.block().time_s
        try:
            return max(latest, self.block("pending").time_s)
        except ChainError as error:
            if error.code == "RPC_UNREACHABLE":
                raise
            return latest  # many public endpoints refuse "pending"

    def first_block_at(self, time_s: int) -> int:
        """The first block whose time is `time_s` or later, by bisection; past the head if none is."""
        low, high = 0, self.block_number() + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.block(middle).time_s >= time_s else (middle + 1, high)
        return low

    def code(self, address: bytes) -> bytes:
        return data_bytes(self.request("eth_getCode", hexed(address), "latest"))

    def balance(self, address: bytes) -> int:
        """Wei."""
        return quantity(self.request("eth_getBalance", hexed(address), "latest"))

    def call(self, to: bytes, data: bytes, sender: bytes | None = None, tag: str | int = "latest") -> bytes:
        """Return data of eth_call. Raises `ChainError` TX_REVERTED with `data`."""
        transaction = {"to": hexed(to), "data": hexed(data)}
        if sender is not None:
            transaction["from"] = hexed(sender)
        return data_bytes(self.request("eth_call", transaction, hex(tag) if isinstance(tag, int) else tag))

    def transaction(self, tx_hash: bytes) -> tuple[bytes, bytes] | None:
        """(to, input) of a transaction; None when the node does not have it."""
        raw = self.request("eth_getTransactionByHash", hexed(tx_hash))
        if raw is None:
            return None
        fields = _fields(raw, "transaction")
        return data_bytes(fields.get("to") or "0x"), data_bytes(fields.get("input") or fields.get("data") or "0x")

    def logs(
        self, address: bytes, topics: Sequence[bytes | None], from_block: int = 0, to_block: int | None = None
    ) -> Iterator[Log]:
        """Logs in order, paged: a refused range is halved, a served one doubled.

        Endpoints limit ranges by blocks, results or time, with different errors, so any error on
        more than one block means: ask for less. Raises `ChainError` as `request`.
        """
        last = self.block_number() if to_block is None else to_block
        wanted = [hexed(topic) if topic is not None else None for topic in topics]
        at, window = from_block, LOG_WINDOW_BLOCKS
        while at <= last:
            end = min(last, at + window - 1)
            query = {"address": hexed(address), "topics": wanted, "fromBlock": hex(at), "toBlock": hex(end)}
            try:
                found = self.request("eth_getLogs", query)
            except ChainError as error:
                if error.code == "RPC_UNREACHABLE" or end == at:
                    raise
                window = max(1, (end - at + 1) // 2)
                continue
            if not isinstance(found, list):
                raise ChainError("RPC_ERROR", "eth_getLogs: the answer is not a list")
            yield from sorted((parse_log(log) for log in found), key=lambda log: (log.block_number, log.log_index))
            at, window = end + 1, min(window * 2, LOG_WINDOW_BLOCKS)

    # -- transactions

    def nonce(self, address: bytes) -> int:
        """The next nonce, pending transactions counted."""
        return quantity(self.request("eth_getTransactionCount", hexed(address), "pending"))

    def estimate_gas(self, sender: bytes, to: bytes | None, data: bytes, value: int = 0) -> int:
        """Gas for a transaction. Raises `ChainError` TX_REVERTED with `data`."""
        transaction = {"from": hexed(sender), "data": hexed(data), "value": hex(value)}
        if to is not None:
            transaction["to"] = hexed(to)
        return quantity(self.request("eth_estimateGas", transaction))

    def fees(self) -> Fees:
        """Fee caps: twice the base fee and the node's tip, enough for six full blocks in a row."""
        try:
            tip = quantity(self.request("eth_maxPriorityFeePerGas"))
        except ChainError as error:
            if error.code == "RPC_UNREACHABLE":
                raise
            tip = 1_000_000_000
        return Fees(2 * self.block().base_fee_wei + tip, tip)

    def send_raw(self, raw: bytes) -> bytes:
        """Submit a signed transaction; its hash. Raises `ChainError` TX_REFUSED, TX_REVERTED."""
        try:
            return data_bytes(self.request("eth_sendRawTransaction", hexed(raw)))
        except ChainError as error:
            if error.code == "RPC_ERROR":
                raise ChainError("TX_REFUSED", f"the node refused the transaction: {error.message}") from None
            raise

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt, or None while it is not mined."""
        raw = self.request("eth_getTransactionReceipt", hexed(tx_hash))
        return None if raw is None else _parse_receipt(raw)

    def wait_receipt(self, tx_hash: bytes, timeout_s: float = 180.0) -> Receipt:
        """Poll for a receipt. Raises `ChainError` TX_TIMEOUT."""
        deadline, pause_s = time.monotonic() + timeout_s, 0.02
        while (found := self.receipt(tx_hash)) is None:
            if time.monotonic() > deadline:
                text = f"{hexed(tx_hash)} is not mined after {timeout_s:g} s; run again later"
                raise ChainError("TX_TIMEOUT", text)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2.0)
        return found
