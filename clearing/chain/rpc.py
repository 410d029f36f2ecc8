# SPDX-License-Identifier: GPL-3.0-or-later
"""A small synchronous JSON-RPC client for Ethereum nodes.

Rules: `transport` carries the requests, with retries, to one endpoint or to several. No endpoint is
trusted to be well-behaved: what does not parse is RPC_ERROR, never a traceback.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from clearing.chain.errors import ChainError
from clearing.chain.transport import HttpTransport, Json, Transport

LOG_WINDOW_BLOCKS: Final = 100_000


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
    """`paid_wei` is what the sender was charged for gas and blobs; 0 where the node does not tell the price."""

    tx_hash: bytes
    block_number: int
    ok: bool
    gas_used: int
    contract: bytes
    logs: tuple[Log, ...]
    paid_wei: int = 0


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
        _charged(fields, "gasUsed", "effectiveGasPrice") + _charged(fields, "blobGasUsed", "blobGasPrice"),
    )


def _charged(fields: dict[str, Any], amount: str, price: str) -> int:
    """Wei; 0 where the node does not say both."""
    told = fields.get(amount), fields.get(price)
    return 0 if None in told else quantity(told[0]) * quantity(told[1])


class Rpc:
    """Typed reads and sends over a transport: one endpoint by its URL, or any other (see `pool`)."""

    def __init__(
        self,
        url: str,
        timeout_s: float = 20.0,
        attempts: int = 4,
        pause_s: float = 0.1,
        transport: Transport | None = None,
    ) -> None:
        self._transport = transport or HttpTransport(url, timeout_s, attempts, pause_s)
        self.url = self._transport.url
        self._chain_id: int | None = None
        # What each key has on its way through this connection; `outbox` keeps it here.
        self.outboxes: dict[bytes, Any] = {}

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> "Rpc":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, method: str, *params: Json) -> Json:
        """One call. Raises `ChainError` RPC_UNREACHABLE, RPC_ERROR, TX_REVERTED."""
        return self._transport.request(method, *params)

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

    def call(
        self, to: bytes, data: bytes, sender: bytes | None = None, tag: str | int = "latest", value: int = 0
    ) -> bytes:
        """Return data of eth_call. Raises `ChainError` TX_REVERTED with `data`."""
        transaction = {"to": hexed(to), "data": hexed(data)}
        if value:
            transaction["value"] = hex(value)
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
                if error.code != "RPC_ERROR" or end == at:
                    raise
                window = max(1, (end - at + 1) // 2)
                continue
            if not isinstance(found, list):
                raise ChainError("RPC_ERROR", "eth_getLogs: the answer is not a list")
            yield from sorted((parse_log(log) for log in found), key=lambda log: (log.block_number, log.log_index))
            at, window = end + 1, min(window * 2, LOG_WINDOW_BLOCKS)

    # -- transactions

    def nonce(self, address: bytes, tag: str = "pending") -> int:
        """The next nonce: pending transactions counted, or ("latest") mined ones only."""
        return quantity(self.request("eth_getTransactionCount", hexed(address), tag))

    def blob_base_fee(self) -> int:
        """Wei per blob gas now."""
        return quantity(self.request("eth_blobBaseFee"))

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
        return Fees(2 * self.next_base_fee() + tip, tip)

    def next_base_fee(self) -> int:
        """Wei per gas in the next block; on endpoints without a fee history, in the newest."""
        try:
            fields = _fields(self.request("eth_feeHistory", "0x1", "latest", []), "fee history")
            return max(quantity(fee) for fee in fields.get("baseFeePerGas") or ())
        except (ChainError, ValueError) as error:
            if isinstance(error, ChainError) and error.code == "RPC_UNREACHABLE":
                raise
            return self.block().base_fee_wei

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
