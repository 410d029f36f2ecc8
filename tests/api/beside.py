# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface beside a node of this process: the real application on a real port, over the real link.

Rules: an event loop of its own on a thread. A request is answered from a state that holds all that the node had
committed when it came, so that tests, which take each step by hand, see what they did.
"""

import asyncio
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from clearing.api.app import build_app
from clearing.api.context import Context
from clearing.api.http import writer
from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.node import Node

PATIENCE_S = 30.0


class Beside:
    """Started by its making; `stop` it before the node is closed, or have `with_node` do it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._server: uvicorn.Server
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True, name="beside")
        self._thread.start()
        assert self._ready.wait(PATIENCE_S) and self._thread.is_alive(), "the interface did not start"
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @classmethod
    def with_node(cls, node: Node) -> "Beside":
        """One that ends when the node is closed."""
        beside, close = cls(node), node.close

        def both() -> None:
            beside.stop()
            close()

        setattr(node, "close", both)  # noqa: B010 - a method of this one node
        return beside

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    async def _serve(self) -> None:
        node = self._node
        layout = Layout(node.root)
        book = EpochBook(layout, node.genesis, node.config.keep_snapshots)
        link, replica = Link(layout.link), Replica(node.store, book, layout.link)
        await link.start()
        await replica.start()
        try:
            assert await link.wait_connected(PATIENCE_S) and await replica.wait_connected(PATIENCE_S)
            context = Context(
                node.root, node.config, node.genesis, link, replica, node.store, book, node.faults.report, node.log
            )
            settings = uvicorn.Config(
                _Whole(build_app(context), node, replica), port=0, log_config=None, access_log=False, lifespan="off"
            )
            self._server = uvicorn.Server(settings)
            serving = asyncio.create_task(self._server.serve())
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.002)
            self._ready.set()
            await serving
            for closer in context.closers:
                await closer()
        finally:
            self._ready.set()
            await replica.close()
            await link.close()


class _Whole:
    """Waits with each request for what is committed."""

    def __init__(self, app: ASGIApp, node: Node, replica: Replica) -> None:
        self._app = app
        self._node = node
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._replica.wait_for(self._node.pipeline.committer.size - 1)
        await self._app(scope, receive, send)


def at_once(monkeypatch: Any) -> None:
    """What the sequencer's process tells is not kept, even for a moment."""
    monkeypatch.setattr(writer, "_KEPT_S", 0.0)
