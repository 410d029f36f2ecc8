# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's interface on a real port, and a gate before it that a test opens, shuts, or lies through."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from clearing.service.node import Node
from tests.api.beside import Beside

Alter = Callable[[str, bytes], bytes]


class Served:
    """A node's HTTP interface; the node's own loops stay still, so that tests take each step."""

    def __init__(self, node: Node) -> None:
        self._beside = Beside(node)
        self.url = self._beside.url

    def stop(self) -> None:
        self._beside.stop()


class Gate:
    """A real HTTP server that passes requests on. `shut`: paths that begin so get no answer at all.
    `alter(path, body)` replaces a successful answer's body."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.shut: tuple[str, ...] = ()
        self.alter: Alter | None = None
        self._client = httpx.Client(timeout=30, trust_env=False)
        gate = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1

            def do_GET(self) -> None:
                gate._pass(self)

            def do_POST(self) -> None:
                gate._pass(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if any(request.path.startswith(path) for path in self.shut):
            request.close_connection = True
            return
        kind = {"content-type": request.headers.get("Content-Type", "")} if body else {}
        answer = self._client.request(request.command, self.upstream + request.path, content=body, headers=kind)
        content = answer.content
        if self.alter is not None and answer.is_success:
            content = self.alter(request.path, content)
        request.send_response(answer.status_code)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def reset(self) -> None:
        self.shut, self.alter = (), None

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._client.close()
