# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded EVM: `python -m clearing.chain.embedded` serves JSON-RPC on localhost.

For the demo, tests and development; it is no place for money. It runs as a process of its own, so
that the chain outlives the operator, as a real one would. State is in memory and gone at exit.
Beside eth_* it answers evm_increaseTime, evm_setNextBlockTimestamp, evm_mine, evm_snapshot and
evm_revert, and as anvil does anvil_rollback, anvil_reorg and anvil_getBlobByHash. Requests are served
one at a time under one lock. The accounts of the well-known development mnemonic are funded; its keys
are public: never send them anything of value.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from clearing.chain.errors import ChainError
from clearing.chain.evm import TIP_WEI, DevChain, EvmError

CHAIN_ID: Final = 31_337
FUNDS_WEI: Final = 10**24
DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
MAX_BODY_BYTES: Final = 4 << 20  # six blobs in hexadecimal take 1.6 MB
Params = list[Any]


def dev_key(index: int) -> bytes:
    """The 32-byte private key of development account `index` (m/44'/60'/0'/0/index)."""
    from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

    return bytes(key_from_seed(seed_from_mnemonic(DEV_MNEMONIC, ""), f"m/44'/60'/0'/0/{index}"))


def _data(value: Any) -> bytes:
    try:
        text = str(value)
        if text[:2] != "0x":
            raise ValueError
        return bytes.fromhex(text[2:])
    except ValueError:
        raise EvmError(-32602, f"{str(value)[:80]!r} is not 0x-data") from None


def _number(value: Any) -> int:
    try:
        return value if isinstance(value, int) else int(str(value), 16 if str(value)[:2] == "0x" else 10)
    except ValueError:
        raise EvmError(-32602, f"{value!r} is not a number") from None


class Methods:
    """JSON-RPC methods over a `DevChain`. `max_log_blocks` mimics endpoints that limit ranges."""

    def __init__(self, chain: DevChain, max_log_blocks: int = 0) -> None:
        self._chain = chain
        self._max_log_blocks = max_log_blocks
        self._lock = threading.Lock()
        self._table: dict[str, Callable[[Params], Any]] = {
            "web3_clientVersion": lambda _: "novate-embedded/1",
            "net_version": lambda _: str(chain.chain_id),
            "eth_chainId": lambda _: hex(chain.chain_id),
            "eth_blockNumber": lambda _: hex(len(chain.headers) - 1),
            "eth_gasPrice": lambda _: hex(int(chain.headers[-1].base_fee_per_gas) + TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda _: hex(TIP_WEI),
            "eth_getBalance": lambda p: hex(chain.state(self._tag(p, 1)).get_balance(_data(p[0]))),
            "eth_getTransactionCount": lambda p: hex(chain.state(self._tag(p, 1)).get_nonce(_data(p[0]))),
            "eth_getCode": lambda p: "0x" + chain.state(self._tag(p, 1)).get_code(_data(p[0])).hex(),
            "eth_getStorageAt": self._storage,
            "eth_call": lambda p: "0x" + chain.call(*self._transaction(p[0]), self._tag(p, 1)).hex(),
            "eth_estimateGas": lambda p: hex(chain.estimate_gas(*self._transaction(p[0]))),
            "eth_sendRawTransaction": lambda p: "0x" + chain.send_raw(_data(p[0])).hex(),
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction_by_hash,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
            "eth_feeHistory": self._fee_history,
            "evm_increaseTime": lambda p: hex(chain.increase_time(_number(p[0]))),
            "evm_setNextBlockTimestamp": lambda p: chain.set_next_time(_number(p[0])),
            "evm_mine": lambda _: hex(chain.mine().block_number),
            "evm_snapshot": lambda _: hex(chain.snapshot()),
            "evm_revert": lambda p: chain.revert(_number(p[0])),
            "anvil_rollback": lambda p: chain.rollback(_number(p[0] if p else 1)),
            "anvil_reorg": self._reorg,
            "anvil_getBlobByHash": self._blob,
            "eth_blobBaseFee": lambda _: hex(chain.blob_base_fee()),
        }

    def answer(self, request: Any) -> dict[str, Any]:
        """The response to one request object; never raises."""
        if not isinstance(request, dict) or not isinstance(request.get("params", []), list):
            fault: dict[str, Any] = {"code": -32600, "message": "not a request object"}
            return {"jsonrpc": "2.0", "id": None, "error": fault}
        head = {"jsonrpc": "2.0", "id": request.get("id")}
        method = self._table.get(str(request.get("method")))
        if method is None:
            return head | {"error": {"code": -32601, "message": f"no method {request.get('method')!r}"}}
        try:
            with self._lock:
                return head | {"result": method(request.get("params", []))}
        except EvmError as error:
            fault = {"code": error.code, "message": error.message}
            if error.data is not None:
                fault["data"] = "0x" + error.data.hex()
            return head | {"error": fault}
        except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
            return head | {"error": {"code": -32602, "message": f"bad parameters: {error}"}}
        except Exception as error:  # noqa: BLE001 - py-evm's own faults must not end the chain
            return head | {"error": {"code": -32603, "message": f"{type(error).__name__}: {error}"}}

    def _tag(self, params: Params, at: int) -> int | None:
        """A block number, or None for the newest state."""
        tag = params[at] if len(params) > at else "latest"
        if tag in ("latest", "pending", "safe", "finalized", None):
            return None
        return 0 if tag == "earliest" else _number(tag)

    def _transaction(self, fields: dict[str, Any]) -> tuple[bytes, bytes, bytes, int]:
        sender = _data(fields.get("from") or "0x" + "00" * 20)
        to = _data(fields.get("to") or "0x")
        data = _data(fields.get("data") or fields.get("input") or "0x")
        if len(sender) != 20 or len(to) not in (0, 20):
            raise EvmError(-32602, "an address has 20 bytes")
        return sender, to, data, _number(fields.get("value") or 0)

    def _reorg(self, params: Params) -> None:
        if len(params) > 1 and params[1]:
            raise EvmError(-32602, "new blocks are empty here; send again what they should hold")
        self._chain.reorganise(_number(params[0]))

    def _blob(self, params: Params) -> str | None:
        blob = self._chain.blobs.get(_data(params[0]))
        return None if blob is None else "0x" + blob.hex()

    def _storage(self, params: Params) -> str:
        value = self._chain.state(self._tag(params, 2)).get_storage(_data(params[0]), _number(params[1]))
        return "0x" + int(value).to_bytes(32, "big").hex()

    def _receipt(self, params: Params) -> Any:
        found = self._chain.transactions.get(_data(params[0]))
        return None if found is None else found[1]

    def _transaction_by_hash(self, params: Params) -> Any:
        found = self._chain.transactions.get(_data(params[0]))
        if found is None:
            return None
        transaction, receipt = found
        names = ("blockHash", "blockNumber", "transactionIndex", "from", "to", "type")
        shared = {name: receipt[name] for name in names}
        return shared | {
            "hash": receipt["transactionHash"],
            "nonce": hex(transaction.nonce),
            "gas": hex(transaction.gas),
            "value": hex(transaction.value),
            "input": "0x" + transaction.data.hex(),
            "maxFeePerGas": hex(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        }

    def _block(self, number: int) -> dict[str, Any]:
        header = self._chain.headers[number]
        tx_hash = self._chain.by_block.get(number)
        return {
            "number": hex(number),
            "hash": "0x" + header.hash.hex(),
            "parentHash": "0x" + header.parent_hash.hex(),
            "timestamp": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "stateRoot": "0x" + header.state_root.hex(),
            "miner": "0x" + header.coinbase.hex(),
            "transactions": ["0x" + tx_hash.hex()] if tx_hash is not None else [],
        }

    def _block_by_number(self, params: Params) -> Any:
        if params[0] == "pending":
            head = self._block(len(self._chain.headers) - 1)
            later = {"number": hex(len(self._chain.headers)), "timestamp": hex(self._chain.now_s())}
            return head | later | {"hash": None, "parentHash": head["hash"], "transactions": []}
        number = self._tag(params, 0)
        number = len(self._chain.headers) - 1 if number is None else number
        return self._block(number) if 0 <= number < len(self._chain.headers) else None

    def _block_by_hash(self, params: Params) -> Any:
        wanted = _data(params[0])
        numbers = (n for n, header in enumerate(self._chain.headers) if header.hash == wanted)
        number = next(numbers, None)
        return None if number is None else self._block(number)

    def _logs(self, params: Params) -> list[dict[str, Any]]:
        query, head = params[0], len(self._chain.headers) - 1
        first, last = self._tag([query.get("fromBlock")], 0), self._tag([query.get("toBlock")], 0)
        first, last = head if first is None else first, head if last is None else min(last, head)
        if self._max_log_blocks and last - first + 1 > self._max_log_blocks:
            raise EvmError(-32005, f"query exceeds the limit of {self._max_log_blocks} blocks")
        address = query.get("address")
        addresses = {str(a).lower() for a in ([address] if isinstance(address, str) else address or [])}
        topics = [{t} if isinstance(t, str) else set(t or ()) for t in query.get("topics") or []]
        return [
            log
            for log in self._chain.logs(first, last)
            if (not addresses or log["address"] in addresses)
            and len(topics) <= len(log["topics"])
            and all(not some or topic in some for some, topic in zip(topics, log["topics"], strict=False))
        ]

    def _fee_history(self, params: Params) -> dict[str, Any]:
        count, last = max(1, min(_number(params[0]), 1024)), self._tag(params, 1)
        end = len(self._chain.headers) if last is None else last + 1
        chosen = self._chain.headers[max(0, end - count) : end]
        fees = [hex(header.base_fee_per_gas) for header in chosen]
        rewards = [[hex(TIP_WEI)] * len(params[2]) for _ in chosen] if len(params) > 2 and params[2] else []
        used = [header.gas_used / header.gas_limit for header in chosen]
        return {
            "oldestBlock": hex(end - len(chosen)),
            "baseFeePerGas": [*fees, fees[-1]],
            "gasUsedRatio": used,
            "reward": rewards,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one segment: Nagle's algorithm would cost 40 ms a call
    disable_nagle_algorithm = True
    methods: Methods
    touched_s: float

    def do_POST(self) -> None:
        _Handler.touched_s = time.monotonic()
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MAX_BODY_BYTES:
            self.send_error(413)
            return
        try:
            request = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            request = None
        many = isinstance(request, list)
        answers = [self.methods.answer(one) for one in (request if many else [request])]
        body = json.dumps(answers if many else answers[0]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_OPTIONS(self) -> None:
        """A page's browser asks before it posts; any page may read a test chain, as other nodes have it."""
        self.send_response(204)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Methods", "POST")
        self.send_header("Access-Control-Allow-Headers", "content-type")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent: one line per request would drown the demo's narration."""


def serve(port: int, port_file: str, funded: Sequence[bytes], dev_accounts: int, **options: int) -> None:
    """Serve until killed. The bound port is written to `port_file` once requests are answered."""
    from clearing.chain.wallet import Wallet

    addresses = [Wallet(dev_key(index)).address for index in range(dev_accounts)] + list(funded)
    chain = DevChain(options["chain_id"], dict.fromkeys(addresses, FUNDS_WEI))
    _Handler.methods = Methods(chain, options["max_log_blocks"])
    _Handler.touched_s = time.monotonic()
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    if options["idle_exit_s"]:
        watch = threading.Thread(target=_exit_when_idle, args=(server, options["idle_exit_s"]), daemon=True)
        watch.start()
    if port_file:
        # Renamed into place, so that a reader never sees half a number.
        fresh = Path(port_file + ".new")
        fresh.write_text(f"{server.server_address[1]}\n")
        fresh.replace(port_file)
    server.serve_forever()


def _exit_when_idle(server: ThreadingHTTPServer, idle_s: int) -> None:
    while time.monotonic() - _Handler.touched_s < idle_s:
        time.sleep(1)
    server.shutdown()


@dataclass(frozen=True)
class EmbeddedEvm:
    """A running embedded EVM: its URL and its process."""

    url: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def start_embedded(
    fund: Sequence[bytes] = (),
    port: int = 0,
    dev_accounts: int = 10,
    max_log_blocks: int = 0,
    idle_exit_s: int = 0,
    log_path: Path | None = None,
    timeout_s: float = 60.0,
    chain_id: int = CHAIN_ID,
) -> EmbeddedEvm:
    """Start the server in its own session and wait until it answers. Several run side by side.

    It survives the caller; call `stop()`, or give `idle_exit_s`. Raises `ChainError`
    EVM_START_FAILED, with the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file, log = Path(folder, "port"), log_path or Path(folder, "log")
        command = [sys.executable, "-m", "clearing.chain.embedded", "--port", str(port)]
        command += ["--port-file", str(port_file), "--dev-accounts", str(dev_accounts)]
        command += ["--max-log-blocks", str(max_log_blocks), "--idle-exit", str(idle_exit_s)]
        command += ["--chain-id", str(chain_id)]
        for address in fund:
            command += ["--fund", "0x" + address.hex()]
        home = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        deadline = time.monotonic() + timeout_s
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                tail = log.read_text(errors="replace").strip()[-400:]
                raise ChainError("EVM_START_FAILED", f"the embedded EVM did not start: {tail or 'no output'}")
            time.sleep(0.02)
        return EmbeddedEvm(f"http://127.0.0.1:{port_file.read_text().strip()}", process)


def main() -> None:
    """Command line of the server."""
    from clearing.chain.rpc import parse_address

    parser = argparse.ArgumentParser(prog="python -m clearing.chain.embedded", description="a local chain")
    parser.add_argument("--port", type=int, default=8545, help="0 chooses a free one")
    parser.add_argument("--port-file", default="", help="file that receives the port once it serves")
    parser.add_argument("--fund", action="append", default=[], help="address to fund; may be repeated")
    parser.add_argument("--dev-accounts", type=int, default=10, help="funded development accounts")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--max-log-blocks", type=int, default=0, help="limit of eth_getLogs; 0: none")
    parser.add_argument("--idle-exit", type=int, default=0, help="seconds without a request; 0: never")
    given = parser.parse_args()
    try:
        funded = [parse_address(text) for text in given.fund]
        options = {"max_log_blocks": given.max_log_blocks, "idle_exit_s": given.idle_exit}
        serve(given.port, given.port_file, funded, given.dev_accounts, chain_id=given.chain_id, **options)
    except (ChainError, OSError) as error:
        sys.exit(f"embedded EVM: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
