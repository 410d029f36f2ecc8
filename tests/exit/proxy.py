# SPDX-License-Identifier: GPL-3.0-or-later
"""An RPC endpoint that lies: a real HTTP server in front of the real chain, altering what it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Alter = Callable[[str, list[Any], Any], Any]


class Down(Exception):
    """Raised by an alteration to cut the connection without an answer."""


@contextmanager
def lying_endpoint(url: str, alter: Alter) -> Iterator[str]:
    """Serve `url` through `alter(method, params, result) -> result`."""
    upstream = httpx.Client(timeout=30)

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = upstream.post(url, json=request).json()
            if "result" in answer:
                try:
                    answer["result"] = alter(request["method"], request["params"], answer["result"])
                except Down:
                    self.close_connection = True
                    return
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        upstream.close()
