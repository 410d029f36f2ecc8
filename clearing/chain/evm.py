# SPDX-License-Identifier: GPL-3.0-or-later
"""A development chain in memory: py-evm's Prague rules, one block per transaction.

Rules: the EVM, gas, receipts and state are py-evm's; this module only keeps the index of blocks,
receipts and logs that JSON-RPC asks for, and a clock that can be moved forward. As on Ethereum, a
block is later than its parent by at least a second, so a burst of transactions runs ahead of the
wall clock. Reverting transactions are mined and carry status 0. Not thread-safe: the caller holds
one lock. py-evm is typed loosely, hence `Any` at its border.
"""

import hashlib
import time
from bisect import bisect_left
from typing import Any, Final

from clearing.chain.blobs import unwrapped, versioned_hash
from clearing.chain.errors import ChainError

GAS_LIMIT: Final = 60_000_000
TIP_WEI: Final = 1_000_000_000
CALL_GAS: Final = 50_000_000
GAS_PER_BLOB: Final = 131_072


class EvmError(Exception):
    """A JSON-RPC error: `code` as nodes use it, message, and revert data when there is some."""

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _build_chain(chain_id: int, funded: dict[bytes, int], genesis_time_s: int) -> Any:
    from eth.chains.base import MiningChain
    from eth.constants import POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE
    from eth.db.atomic import AtomicDB
    from eth.vm.forks.prague import PragueVM

    def keep_gas_limit(self: Any, parent: Any, **params: Any) -> Any:
        params["gas_limit"] = parent.gas_limit
        return MiningChain.create_header_from_parent(self, parent, **params)

    members = {
        "chain_id": chain_id,
        "vm_configuration": ((0, PragueVM),),
        "create_header_from_parent": keep_gas_limit,
    }
    chain_class: Any = type("DevelopmentChain", (MiningChain,), members)
    genesis = {
        "difficulty": POST_MERGE_DIFFICULTY,
        "mix_hash": POST_MERGE_MIX_HASH,
        "nonce": POST_MERGE_NONCE,
        "gas_limit": GAS_LIMIT,
        "timestamp": genesis_time_s,
    }
    state = {address: {"balance": wei, "nonce": 0, "code": b"", "storage": {}} for address, wei in funded.items()}
    return chain_class.from_genesis(AtomicDB(), genesis, state)


class DevChain:
    """The chain and its index. Addresses and hashes are `bytes`, amounts wei, times seconds."""

    def __init__(self, chain_id: int, funded: dict[bytes, int], genesis_time_s: int | None = None) -> None:
        self.chain_id = chain_id
        self._offset_s = 0
        start = int(time.time()) if genesis_time_s is None else genesis_time_s
        if genesis_time_s is not None:
            self._offset_s = genesis_time_s - int(time.time())
        self._chain = _build_chain(chain_id, funded, start)
        self.headers: list[Any] = [self._chain.get_canonical_head()]
        self.transactions: dict[bytes, tuple[Any, dict[str, Any]]] = {}
        self.by_block: dict[int, bytes] = {}
        self._logs: list[dict[str, Any]] = []
        self._log_blocks: list[int] = []
        self._snapshots: dict[int, tuple[int, int]] = {}
        self.blobs: dict[bytes, bytes] = {}
        self._branch = 0  # makes blocks after a reorganisation differ from those before it

    # -- clock

    def now_s(self) -> int:
        """The time a block mined now would carry."""
        return max(int(time.time()) + self._offset_s, int(self.headers[-1].timestamp) + 1)

    def increase_time(self, seconds: int) -> int:
        """Move the clock; the time a block mined now would carry."""
        if seconds < 0:
            raise EvmError(-32602, "time moves forward only")
        # From the chain's clock and not the wall's: a burst may have run ahead by more than this.
        self._offset_s = self.now_s() + seconds - int(time.time())
        return self.now_s()

    def set_next_time(self, timestamp_s: int) -> None:
        if timestamp_s < self.now_s():
            raise EvmError(-32602, f"the next block is at {self.now_s()} or later")
        self._offset_s = timestamp_s - int(time.time())

    # -- blocks

    def _next_header(self) -> Any:
        return self._chain.header.copy(timestamp=self.now_s())

    def mine(self, blobs: int = 0) -> Any:
        """Seal what was applied (or nothing; `blobs` came with it) into a block; its header."""
        if self._chain.header.gas_used == 0:
            self._chain.header = self._next_header()
        number = len(self.headers)
        mix = hashlib.sha256(number.to_bytes(8, "big") + self._branch.to_bytes(8, "big")).digest()
        block = self._chain.mine_block(mix_hash=mix, blob_gas_used=blobs * GAS_PER_BLOB)
        self.headers.append(block.header)
        return block.header

    def send_raw(self, raw: bytes) -> bytes:
        """Apply and mine a signed transaction; its hash. Raises `EvmError` when it is invalid."""
        from eth_utils import ValidationError

        raw, blobs = _without_blobs(raw)
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            sender = transaction.sender
        except Exception as error:  # noqa: BLE001 - py-evm and rlp raise many kinds on hostile bytes
            raise EvmError(-32602, f"not a signed transaction: {type(error).__name__}") from None
        if transaction.hash in self.transactions:
            return bytes(transaction.hash)
        if getattr(transaction, "chain_id", self.chain_id) != self.chain_id:
            raise EvmError(-32000, f"the transaction is signed for chain {transaction.chain_id}")
        self._chain.header = self._next_header()
        try:
            _, receipt, _ = self._chain.apply_transaction(transaction)
        except ValidationError as error:
            raise EvmError(-32000, str(error)) from None
        header = self.mine(len(blobs))
        self.blobs.update(blobs)
        self._index(transaction, bytes(sender), receipt, header)
        return bytes(transaction.hash)

    def _index(self, transaction: Any, sender: bytes, receipt: Any, header: Any) -> None:
        number = int(header.block_number)
        place = {
            "transactionHash": _hex(transaction.hash),
            "transactionIndex": "0x0",
            "blockHash": _hex(header.hash),
            "blockNumber": hex(number),
        }
        logs = []
        for index, log in enumerate(receipt.logs):
            topics = [_hex(topic.to_bytes(32, "big")) for topic in log.topics]
            body = {"address": _hex(log.address), "topics": topics, "data": _hex(log.data)}
            logs.append(place | body | {"logIndex": hex(index), "removed": False})
        tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - header.base_fee_per_gas)
        fields: dict[str, Any] = place | {
            "from": _hex(sender),
            "to": _hex(transaction.to) if transaction.to else None,
            "contractAddress": None if transaction.to else _hex(_created(sender, transaction.nonce)),
            "gasUsed": hex(receipt.gas_used),
            "cumulativeGasUsed": hex(receipt.gas_used),
            "effectiveGasPrice": hex(header.base_fee_per_gas + tip),
            "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
            "type": hex(getattr(transaction, "type_id", 0)),
            "logs": logs,
            "logsBloom": _hex(int(receipt.bloom).to_bytes(256, "big")),
        }
        self.transactions[bytes(transaction.hash)] = (transaction, fields)
        self.by_block[number] = bytes(transaction.hash)
        self._logs += logs
        self._log_blocks += [number] * len(logs)

    # -- simulation

    def _simulate(self, sender: bytes, to: bytes, data: bytes, value: int, gas: int, number: int | None) -> Any:
        from eth.vm.spoof import SpoofTransaction
        from eth_utils import ValidationError

        if number is None or number >= len(self.headers) - 1:
            header = self._next_header()
        else:
            parent = self.headers[number]
            header = self._chain.create_header_from_parent(parent, timestamp=int(parent.timestamp) + 1)
        vm = self._chain.get_vm(header)
        fee = int(header.base_fee_per_gas)
        # The caller pays no gas in a simulation: what would be deducted is granted first.
        vm.state.delta_balance(sender, gas * fee)
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=vm.state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=fee,
            gas=gas,
            to=to,
            value=value,
            data=data,
            access_list=(),
        )
        try:
            signed = SpoofTransaction(unsigned, from_=sender, sender=sender, r=1, s=1, y_parity=0)
            return vm.state.apply_transaction(signed)
        except ValidationError as error:
            raise EvmError(-32000, str(error)) from None

    def call(self, sender: bytes, to: bytes, data: bytes, value: int = 0, number: int | None = None) -> bytes:
        """Return data. Raises `EvmError` with code 3 and the revert data."""
        computation = self._simulate(sender, to, data, value, CALL_GAS, number)
        _check(computation)
        return bytes(computation.output)

    def estimate_gas(self, sender: bytes, to: bytes, data: bytes, value: int = 0) -> int:
        """Gas that was seen to suffice: what a run used, raised until a run within it succeeds."""
        computation = self._simulate(sender, to, data, value, CALL_GAS, None)
        _check(computation)
        floor = 21_000 + 10 * (4 * len(data) - 3 * data.count(0))
        enough = max(CALL_GAS - computation.get_gas_remaining(), floor)
        # A contract may ask for more gas than it uses. Doubling is coarse and cheap; a limit costs nothing.
        while enough < CALL_GAS and not self._simulate(sender, to, data, value, enough, None).is_success:
            enough = min(2 * enough, CALL_GAS)
        return int(enough)

    # -- reads

    def blob_base_fee(self) -> int:
        """Wei per blob gas in a block mined now."""
        return int(self._chain.get_vm(self._next_header()).state.blob_base_fee)

    def state(self, number: int | None = None) -> Any:
        """py-evm's state after block `number` (latest when None)."""
        if number is None or number >= len(self.headers) - 1:
            return self._chain.get_vm().state
        return self._chain.get_vm(self._chain.create_header_from_parent(self.headers[number])).state

    def logs(self, first: int, last: int) -> list[dict[str, Any]]:
        """Logs of blocks first..last, both included."""
        low = bisect_left(self._log_blocks, first)
        return self._logs[low : bisect_left(self._log_blocks, last + 1)]

    # -- reorganisation

    def snapshot(self) -> int:
        """A number for `revert`."""
        key = len(self._snapshots) + 1
        self._snapshots[key] = (len(self.headers), self._offset_s)
        return key

    def revert(self, key: int) -> bool:
        """Forget every block after the snapshot, as a reorganisation would."""
        if key not in self._snapshots:
            return False
        count, self._offset_s = self._snapshots[key]
        self._truncate(count)
        self._snapshots = {old: place for old, place in self._snapshots.items() if old < key}
        return True

    def rollback(self, depth: int) -> None:
        """Forget the newest `depth` blocks. Raises `EvmError` when there are fewer."""
        if not 0 < depth < len(self.headers):
            raise EvmError(-32602, f"between 1 and {len(self.headers) - 1} blocks can be rolled back, not {depth}")
        self._truncate(len(self.headers) - depth)

    def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks by as many empty ones."""
        self.rollback(depth)
        for _ in range(depth):
            self.mine()

    def _truncate(self, count: int) -> None:
        for number in range(count, len(self.headers)):
            self.transactions.pop(self.by_block.pop(number, b""), None)
        del self.headers[count:]
        keep = bisect_left(self._log_blocks, count)
        del self._logs[keep:], self._log_blocks[keep:]
        self._branch += 1
        self._chain.header = self._chain.create_header_from_parent(self.headers[-1])


def _without_blobs(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A transaction as it stands in blocks, and the blobs that came with it, each after its versioned hash."""
    if raw[:1] != b"\x03":
        return raw, []
    try:
        body, blobs = unwrapped(raw)
        return body, [(versioned_hash(blob), blob) for blob in blobs]
    except ChainError as error:
        raise EvmError(-32000, error.message) from None


def _check(computation: Any) -> None:
    from eth.exceptions import Revert

    if not computation.is_error:
        return
    error = computation.error
    if isinstance(error, Revert):
        raise EvmError(3, "execution reverted", bytes(computation.output))
    raise EvmError(-32000, f"execution failed: {type(error).__name__} {error}".strip())


def _created(sender: bytes, nonce: int) -> bytes:
    from eth._utils.address import generate_contract_address
    from eth_typing import Address

    return bytes(generate_contract_address(Address(sender), nonce))
