# SPDX-License-Identifier: GPL-3.0-or-later
"""One small face for two EVMs: eth-tester inside this process, and anvil behind JSON-RPC.

Rules: a revert is always `Reverted` with the contract's named error; time moves only when a test says so
(blocks still take a second or so each, so tests leave a margin of a minute); every transaction gets a
block of its own. A sender is one of the node's accounts by number, or an address whose key was adopted.
"""

import ast
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Protocol

import pytest
from eth_keys.datatypes import PrivateKey
from eth_tester import EthereumTester
from eth_tester.exceptions import TransactionFailed
from web3 import EthereumTesterProvider

from contracts import Artifact, abi, link, load

GAS = 3_000_000
DEPLOY_GAS = 12_000_000
ETHER = 10**18
LIBRARIES = ("Evidence",)


class Reverted(Exception):
    """A call was refused; `name` is the contract's error, `data` the raw revert."""

    def __init__(self, data: bytes, artifact: Artifact) -> None:
        decoded = abi.decode_revert(artifact, data)
        for name in LIBRARIES:
            decoded = decoded or abi.decode_revert(load(name), data)
        self.data = data
        self.name = decoded.name if decoded else f"0x{data.hex()}"
        self.arguments = decoded.arguments if decoded else ()
        super().__init__(f"{self.name}{self.arguments}")


class RawRevert(Exception):
    def __init__(self, data: bytes) -> None:
        super().__init__(data.hex())
        self.data = data


@dataclass(frozen=True)
class Log:
    address: str
    topics: list[bytes]
    data: bytes


@dataclass(frozen=True)
class Receipt:
    ok: bool
    gas_used: int
    contract: str | None
    logs: list[Log]


class Backend(Protocol):
    """What both EVMs can do. Transactions are JSON-RPC dicts with hex values."""

    def accounts(self) -> list[str]: ...
    def call(self, transaction: dict[str, Any]) -> bytes: ...
    def send(self, transaction: dict[str, Any]) -> Receipt: ...
    def code(self, address: str) -> bytes: ...
    def block(self, number: int | None) -> tuple[int, bytes, int]: ...
    def balance(self, address: str) -> int: ...
    def chain_id(self) -> int: ...
    def adopt(self, key: PrivateKey, funder: str) -> None: ...
    def mine_at(self, timestamp: int) -> None: ...
    def mine(self, blocks: int) -> None: ...
    def snapshot(self) -> Any: ...
    def revert(self, snapshot: Any) -> None: ...


class Embedded:
    """eth-tester with py-evm, through web3's provider as the embedded chain uses it."""

    def __init__(self, chain_id: int | None = None) -> None:
        self._tester: EthereumTester = EthereumTesterProvider().ethereum_tester
        self._adopted: set[str] = set()
        if chain_id is not None:
            tester: Any = self._tester
            tester.backend.chain.chain_id = chain_id

    def accounts(self) -> list[str]:
        return list(self._tester.get_accounts())

    def call(self, transaction: dict[str, Any]) -> bytes:
        try:
            # Against "latest" the call would see the last block's number and time instead of the next one's.
            return bytes.fromhex(self._tester.call(transaction, block_number="pending")[2:])
        except TransactionFailed as error:
            # The revert data is the literal of a bytes object inside a sentence.
            text = str(error.args[0]).removeprefix("execution reverted: ")
            raise RawRevert(ast.literal_eval(text) if text.startswith("b") else b"") from error

    def send(self, transaction: dict[str, Any]) -> Receipt:
        receipt = self._tester.get_transaction_receipt(self._tester.send_transaction(transaction))
        return _receipt({**receipt, "status": hex(receipt["status"]), "gasUsed": hex(receipt["gas_used"])})

    def code(self, address: str) -> bytes:
        return bytes.fromhex(self._tester.get_code(address)[2:])

    def block(self, number: int | None) -> tuple[int, bytes, int]:
        block = self._tester.get_block_by_number("latest" if number is None else number)
        return block["number"], bytes.fromhex(block["hash"][2:]), block["timestamp"]

    def balance(self, address: str) -> int:
        return int(self._tester.get_balance(address))

    def chain_id(self) -> int:
        return int(self._tester.backend.chain.chain_id)

    def adopt(self, key: PrivateKey, funder: str) -> None:
        """Lets the key's address send, with ten ether to do it with."""
        address = key.public_key.to_checksum_address()
        if address not in self._adopted:
            self._tester.add_account(key.to_hex())
            self._adopted.add(address)
        self.send({"from": funder, "to": address, "value": 10 * ETHER, "gas": 21_000})

    def send_raw(self, raw: bytes) -> Receipt:
        """A transaction that was signed elsewhere, such as one with blobs."""
        sent = self._tester.send_raw_transaction("0x" + raw.hex())
        receipt = self._tester.get_transaction_receipt(sent)
        return _receipt({**receipt, "status": hex(receipt["status"]), "gasUsed": hex(receipt["gas_used"])})

    def nonce(self, address: str) -> int:
        return int(self._tester.get_nonce(address))

    def mine_at(self, timestamp: int) -> None:
        self._tester.time_travel(timestamp)
        self._tester.mine_block()

    def mine(self, blocks: int) -> None:
        self._tester.mine_blocks(blocks)

    def snapshot(self) -> Any:
        return self._tester.take_snapshot()

    def revert(self, snapshot: Any) -> None:
        self._tester.revert_to_snapshot(snapshot)


class Anvil:
    """A running anvil on a local port. Thousands of small requests: the standard library's client is the quicker."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._ids = itertools.count(1)

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        try:
            self._connection.request("POST", "/", json.dumps(body), {"content-type": "application/json"})
            answer = json.loads(self._connection.getresponse().read())
        except (ConnectionError, HTTPException) as error:
            self._connection.close()
            raise ConnectionError(f"anvil: {error!r}") from error
        if "error" in answer:
            data = answer["error"].get("data")
            if answer["error"].get("code") == 3 and isinstance(data, str):
                raise RawRevert(bytes.fromhex(data[2:]))
            raise AssertionError(f"anvil: {answer['error']}")
        return answer["result"]

    def accounts(self) -> list[str]:
        return list(self.request("eth_accounts"))

    def call(self, transaction: dict[str, Any]) -> bytes:
        return bytes.fromhex(self.request("eth_call", _hex(transaction), "pending")[2:])

    def send(self, transaction: dict[str, Any]) -> Receipt:
        sent = self.request("eth_sendTransaction", _hex(transaction))
        for _ in range(500):
            receipt = self.request("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return _receipt(receipt)
            time.sleep(0.01)
        raise AssertionError("anvil did not mine the transaction within 5 seconds")

    def code(self, address: str) -> bytes:
        return bytes.fromhex(self.request("eth_getCode", address, "latest")[2:])

    def block(self, number: int | None) -> tuple[int, bytes, int]:
        block = self.request("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        return int(block["number"], 16), bytes.fromhex(block["hash"][2:]), int(block["timestamp"], 16)

    def balance(self, address: str) -> int:
        return int(self.request("eth_getBalance", address, "latest"), 16)

    def chain_id(self) -> int:
        return int(self.request("eth_chainId"), 16)

    def adopt(self, key: PrivateKey, funder: str) -> None:
        address = key.public_key.to_address()
        self.request("anvil_impersonateAccount", address)
        self.request("anvil_setBalance", address, hex(10 * ETHER))

    def mine_at(self, timestamp: int) -> None:
        self.request("evm_setNextBlockTimestamp", timestamp)
        self.request("evm_mine")

    def mine(self, blocks: int) -> None:
        self.request("anvil_mine", hex(blocks))

    def snapshot(self) -> Any:
        return self.request("evm_snapshot")

    def revert(self, snapshot: Any) -> None:
        assert self.request("evm_revert", snapshot) is True


def _hex(transaction: dict[str, Any]) -> dict[str, Any]:
    return {key: hex(value) if isinstance(value, int) else value for key, value in transaction.items()}


def _receipt(fields: dict[str, Any]) -> Receipt:
    logs = [
        Log(
            log["address"].lower(),
            [bytes.fromhex(topic[2:]) for topic in log["topics"]],
            bytes.fromhex(log["data"][2:]),
        )
        for log in fields["logs"]
    ]
    contract = fields.get("contractAddress", fields.get("contract_address"))
    return Receipt(fields["status"] == "0x1", int(fields["gasUsed"], 16), contract, logs)


class Chain:
    """Contracts by name and plain Python arguments, on either backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.accounts = [account.lower() for account in backend.accounts()]
        self.chain_id = backend.chain_id()
        self.libraries = {name: self.deploy(load(name)) for name in LIBRARIES}

    def deploy(self, artifact: Artifact, *arguments: Any) -> str:
        """Address (lower case) of a new contract, linked with this chain's libraries. Raises `Reverted`."""
        arguments_data = abi.encode_constructor(artifact, *arguments)[len(artifact.bytecode) :]
        linked = {name: bytes.fromhex(self.libraries[name][2:]) for name, _ in artifact.links}
        return self.create(link(artifact, linked) + arguments_data, artifact)

    def create(self, code: bytes, artifact: Artifact) -> str:
        """Address (lower case) of the contract that this creation code makes. Raises `Reverted`."""
        transaction = {"from": self.accounts[0], "data": "0x" + code.hex(), "gas": DEPLOY_GAS}
        self._try(transaction, artifact)
        receipt = self.backend.send(transaction)
        assert receipt.ok and receipt.contract
        return receipt.contract.lower()

    def adopt(self, key: PrivateKey) -> str:
        """The key's address, which can send from now on."""
        self.backend.adopt(key, self.accounts[0])
        return str(key.public_key.to_address())

    def call(
        self, artifact: Artifact, to: str, function: str, *arguments: Any, sender: int | str = 0, value: int = 0
    ) -> Any:
        """What the call would return: one value, or a tuple of several. Raises `Reverted`."""
        data = self._try(self._transaction(artifact, to, function, arguments, sender, GAS, value), artifact)
        result = abi.decode_result(artifact, function, data)
        return result[0] if len(result) == 1 else result

    def send(
        self,
        artifact: Artifact,
        to: str,
        function: str,
        *arguments: Any,
        sender: int | str = 0,
        gas: int = GAS,
        value: int = 0,
    ) -> Receipt:
        """Executes and mines. Raises `Reverted` before anything is sent if it would be refused."""
        transaction = self._transaction(artifact, to, function, arguments, sender, gas, value)
        self._try(transaction, artifact)
        receipt = self.backend.send(transaction)
        assert receipt.ok, f"{function} passed as a call and failed as a transaction"
        return receipt

    def balance(self, address: str) -> int:
        """Wei."""
        return self.backend.balance(address)

    def now(self) -> int:
        """Time of the last block, seconds."""
        return self.backend.block(None)[2]

    def advance(self, seconds: int) -> None:
        self.backend.mine_at(self.now() + seconds)

    @contextmanager
    def sandbox(self) -> Iterator[None]:
        """Everything inside is undone afterwards."""
        snapshot = self.backend.snapshot()
        try:
            yield
        finally:
            self.backend.revert(snapshot)

    def _transaction(
        self,
        artifact: Artifact,
        to: str,
        function: str,
        arguments: tuple[Any, ...],
        sender: int | str,
        gas: int,
        value: int,
    ) -> dict[str, Any]:
        data = "0x" + abi.encode_call(artifact, function, *arguments).hex()
        source = self.accounts[sender] if isinstance(sender, int) else sender
        return {"from": source, "to": to, "data": data, "gas": gas, "value": value}

    def _try(self, transaction: dict[str, Any], artifact: Artifact) -> bytes:
        try:
            return self.backend.call(transaction)
        except RawRevert as error:
            raise Reverted(error.data, artifact) from None


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Proves that what is inside reverts with the contract's error of this name."""
    with pytest.raises(Reverted) as caught:
        yield
    assert caught.value.name == name, f"refused with {caught.value}, not with {name}"


def events(receipt: Receipt, artifact: Artifact, name: str) -> list[dict[str, Any]]:
    """The receipt's events of one name, whoever emitted them."""
    topic = abi.event_topic(artifact, name)
    return [abi.decode_event(artifact, name, log.topics, log.data) for log in receipt.logs if log.topics[0] == topic]
