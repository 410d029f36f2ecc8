# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue that bots trade on: a sequencer's process, the real application in the test's loop, a publisher.

Rules: real sockets, signatures and journal. Prices are published under the real clock, since the sequencer has it.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from msgspec.structs import replace

from clearing.api.app import build_app
from clearing.api.context import Context
from clearing.api.link import Link
from clearing.api.replica import Replica
from clearing.api.stream import session
from clearing.model.commands import MemberCommand
from clearing.service import config
from clearing.service.layout import Layout
from clearing.service.pipeline import Receipt
from tests.api.venue import PATIENCE_S, following, journal, make_venue, until, writing
from tests.service.world import World, owner_of

PRICE = 50_000 * 10_000


@dataclass
class Open:
    """A venue that is up. `world` signs for its members, publisher and operator."""

    url: str
    world: World
    link: Link
    replica: Replica
    stream: session.Stream
    server: uvicorn.Server

    def account(self, name: str) -> int:
        state = self.world.reducer.state
        return state.owners[owner_of(name)].accounts[0].number

    async def send(self, *raws: bytes) -> list[Receipt]:
        """Straight to the sequencer; everything must be journalled."""
        found = await self.link.submit(list(raws))
        for result in found:
            assert isinstance(result, Receipt), result
        return [result for result in found if isinstance(result, Receipt)]

    async def price(self, atoms: int) -> None:
        """The oracle's word, of now."""
        self.world.now_us = time.time_ns() // 1_000
        (receipt,) = await self.send(self.world.price(atoms))
        assert not any(type(outcome).__name__ == "Rejected" for outcome in receipt.outcomes), receipt.outcomes

    async def trade(self, name: str, *commands: MemberCommand) -> Receipt:
        """By somebody who is no bot."""
        (receipt,) = await self.send(self.world.batch(name, *commands))
        return receipt

    def orders(self, name: str) -> dict[int, tuple[int, int, int]]:
        """Open orders as the replica has them: client order id to side, price and lots."""
        found = self.replica.state.accounts[self.account(name)].orders.values()
        return {order.client_order_id: (order.side, order.price, order.open_lots) for order in found}

    def position(self, name: str) -> int:
        return sum(slot.size for slot in self.replica.state.accounts[self.account(name)].slots.values())

    def cut(self) -> None:
        """Every stream's connection is lost, without a word."""
        for one in list(self.stream.hub.sessions):
            one.end(1012, "the test says so")

    async def down(self) -> None:
        """The interface goes away for good."""
        self.server.should_exit = True
        self.cut()
        await until(lambda: not self.server.servers or not self.server.servers[0].is_serving())


@asynccontextmanager
async def opened(path: Path, **api: Any) -> AsyncIterator[Open]:
    """A venue with a price; `api` replaces fields of the configuration's [api]."""
    world = make_venue(path)
    with writing(path):
        async with following(path) as replica, _serving(path, world, replica, api) as found:
            await found.price(PRICE)
            yield found


@asynccontextmanager
async def _serving(path: Path, world: World, replica: Replica, api: dict[str, Any]) -> AsyncIterator[Open]:
    with journal(path) as store:
        link = Link(Layout(path).link)
        await link.start()
        assert await link.wait_connected(PATIENCE_S)
        faults: list[tuple[str, BaseException]] = []
        chosen = config.load(path)
        chosen = replace(chosen, api=replace(chosen.api, **api))
        context = Context(
            path, chosen, replica.book.genesis, link, replica, store, replica.book,
            lambda part, error: faults.append((part, error)), None,
        )  # fmt: skip
        app = build_app(context)
        endpoint = next(route for route in app.routes if getattr(route, "path", "") == "/v1/stream")
        stream = endpoint.endpoint.__self__  # type: ignore[attr-defined]
        assert isinstance(stream, session.Stream)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.create_task(server._serve([listener]))
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not server.started:
                    await asyncio.sleep(0.002)
            yield Open(f"http://127.0.0.1:{listener.getsockname()[1]}", world, link, replica, stream, server)
        finally:
            for closer in context.closers:
                await closer()
            server.should_exit = True
            await serving
            await link.close()
            assert not faults, faults
