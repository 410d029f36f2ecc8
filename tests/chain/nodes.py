# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes for the chain's tests, which can be held, restarted and reorganised; and endpoints that are none."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

_INSTALLED = Path(__file__).resolve().parents[2] / "contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"


def _binary() -> Path:
    return Path(os.environ.get("NOVATE_TEST_ANVIL", _INSTALLED))


def anvil_installed() -> bool:
    return _binary().is_file()


def anvil_binary() -> Path:
    """Where anvil is; skips the test when it is not installed."""
    binary = _binary()
    if not binary.is_file():
        pytest.skip("anvil is not installed: run `npm ci` in contracts/, or set NOVATE_TEST_ANVIL")
    return binary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Anvil:
    """One anvil; `options` are its command line's, kept for a restart. `state` survives one when given."""

    port: int
    options: tuple[str, ...] = ()
    state: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None)
    _cache: "tempfile.TemporaryDirectory[str] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Anvil":
        command = [str(anvil_binary()), "--hardfork", "prague", "--port", str(self.port), "--silent", *self.options]
        if self.state is not None:
            command += ["--state", str(self.state)]
        # Old states go to disk; left to itself anvil keeps them in the home folder for ever.
        self._cache = tempfile.TemporaryDirectory(prefix="novate-anvil-")
        command += ["--cache-path", self._cache.name]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            try:
                self.request("eth_chainId")
                return self
            except httpx.TransportError:
                assert self.process.poll() is None, "anvil ended by itself"
                time.sleep(0.025)
        raise AssertionError("anvil did not answer within 10 seconds")

    def stop(self) -> None:
        """End it; its pool of waiting transactions is gone, its chain is in `state` if that was given."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
        if self._cache is not None:
            self._cache.cleanup()
            self._cache = None

    def request(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.url, json=body, timeout=30, trust_env=False).json()
        assert "error" not in answer, answer
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        self.request("anvil_mine", hex(blocks))

    def next_base_fee(self, wei: int) -> None:
        """What the next block asks for."""
        self.request("anvil_setNextBlockBaseFeePerGas", hex(wei))


Alter = Callable[[str, list[Any], Any], Any]


class Down(Exception):
    """Raised by an answer to cut the connection without one."""


@contextmanager
def altering(url: str, alter: Alter) -> Iterator[str]:
    """Serve the chain at `url` through `alter(method, params, result) -> result`."""
    with httpx.Client(timeout=30, trust_env=False) as upstream:

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            given: dict[str, Any] = upstream.post(url, json=request).json()
            if "result" in given:
                given["result"] = alter(request["method"], request["params"], given["result"])
            return given

        with answering(answer) as served:
            yield served


@contextmanager
def answering(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[str]:
    """A real HTTP endpoint that gives a request's `result` or `error` as told."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                body = json.dumps({"jsonrpc": "2.0", "id": request["id"]} | answer(request)).encode()
            except Down:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
