# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON-RPC client: retries, paging, and named errors against endpoints that misbehave."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc, parse_address

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


@contextmanager
def endpoint(answer: Answer) -> Iterator[str]:
    """A real HTTP endpoint that answers (status, body) as told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _ok(request: dict[str, Any], result: object) -> tuple[int, bytes]:
    return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()


def _code_of(url: str, method: str = "eth_chainId") -> str:
    with Rpc(url, attempts=2, pause_s=0.01) as rpc, pytest.raises(ChainError) as caught:
        rpc.request(method)
    return caught.value.code


def test_no_endpoint_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody can answer there
        assert _code_of(f"http://127.0.0.1:{unused.getsockname()[1]}") == "RPC_UNREACHABLE"


def test_a_url_without_http_is_unreachable() -> None:
    with pytest.raises(ChainError, match="RPC_UNREACHABLE"):
        Rpc("localhost:8545")


def test_transport_faults_are_retried_and_then_succeed() -> None:
    seen: list[int] = []

    def answer(request: dict[str, Any]) -> tuple[int, bytes]:
        seen.append(request["id"])
        return (503, b"busy") if len(seen) < 3 else _ok(request, "0x7")

    with endpoint(answer) as url, Rpc(url, attempts=3, pause_s=0.01) as rpc:
        assert rpc.chain_id() == 7
    assert len(seen) == 3
    assert len(set(seen)) == 1  # the same request, not a new one


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'"x"', b'{"id":999,"result":1}', b'{"id":1,"error":"text"}', b'{"error":{}}'],
)
def test_an_endpoint_that_is_not_json_rpc_is_a_named_error(body: bytes) -> None:
    with endpoint(lambda _: (200, body)) as url:
        assert _code_of(url) == "RPC_ERROR"


@pytest.mark.parametrize("result", [None, [], "zz", {"number": "0x1"}, 5.5])
def test_results_of_the_wrong_shape_are_named_errors(result: object) -> None:
    with endpoint(lambda request: _ok(request, result)) as url, Rpc(url) as rpc:
        for read in (rpc.block, rpc.fees, lambda: rpc.wait_receipt(bytes(32), 0.01)):
            with pytest.raises(ChainError) as caught:
                read()
            assert caught.value.code in ("RPC_ERROR", "TX_TIMEOUT")


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted", "data": "0xdeadbeef"},
        {"code": -32000, "message": "execution reverted", "data": {"data": "0xdeadbeef"}},
        {"code": -32015, "message": "VM execution error", "data": "Reverted 0xdeadbeef"},
    ],
)
def test_revert_data_is_found_in_the_dialects_of_the_nodes(error: dict[str, Any]) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, bytes]:
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()

    with endpoint(answer) as url, Rpc(url) as rpc, pytest.raises(ChainError) as caught:
        rpc.call(bytes(20), b"")
    assert caught.value.code == "TX_REVERTED"
    assert caught.value.data == bytes.fromhex("deadbeef")


def test_log_paging_covers_every_block_once_under_any_limit() -> None:
    """An endpoint that serves at most 5 blocks a query still yields every log, in order, once."""
    widths: list[int] = []

    def answer(request: dict[str, Any]) -> tuple[int, bytes]:
        query = request["params"][0]
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if last - first + 1 > 5:
            body = {"id": request["id"], "error": {"code": -32005, "message": "range too wide"}}
            return 200, json.dumps(body).encode()
        widths.append(last - first + 1)
        logs = [
            {"blockNumber": hex(n), "logIndex": "0x0", "transactionHash": "0x00", "topics": [], "data": "0x"}
            for n in range(first, last + 1)
        ]
        return _ok(request, logs)

    with endpoint(answer) as url, Rpc(url) as rpc:
        numbers = [log.block_number for log in rpc.logs(bytes(20), [], 3, 99)]
    assert numbers == list(range(3, 100))
    assert max(widths) > 1


def test_an_endpoint_that_refuses_single_blocks_is_an_error_and_not_an_empty_scan() -> None:
    def answer(request: dict[str, Any]) -> tuple[int, bytes]:
        return 200, json.dumps({"id": request["id"], "error": {"code": -1, "message": "pruned"}}).encode()

    with endpoint(answer) as url, Rpc(url) as rpc, pytest.raises(ChainError, match="pruned"):
        list(rpc.logs(bytes(20), [], 0, 10))


def test_a_wrong_chain_is_named() -> None:
    with endpoint(lambda request: _ok(request, "0x5")) as url, Rpc(url) as rpc:
        rpc.require_chain(5)
        with pytest.raises(ChainError, match="WRONG_CHAIN"):
            rpc.require_chain(1)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "hello", "0x" + "g" * 40, "0x" + "0" * 41])
def test_malformed_addresses_are_named(text: str) -> None:
    with pytest.raises(ChainError, match="INVALID_ADDRESS"):
        parse_address(text)


def test_reading_a_chain_imports_nothing_slow() -> None:
    """The verifier's path: neither eth-account, eth-abi nor web3 is loaded by the client's modules."""
    program = (
        "import sys, clearing.chain.vault, clearing.chain.wallet, clearing.chain.abi as abi; abi.keccak(b'');"
        "slow = {'eth_account', 'eth_abi', 'web3', 'eth', 'eth_tester'} & set(sys.modules);"
        "sys.exit(str(slow) if slow else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
