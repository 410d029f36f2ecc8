# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream over real sockets: its route in a server of the test's own loop, and clients that check what they get.

Rules: every frame that a `Client` receives is held against the served description, its sequence against the rule that a
client follows, and no fault may be reported. `python -m tests.api.streams DATA_DIR` is the interface's process with
the stream in it, for what needs a process to be killed.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.link import Link
from clearing.api.messages import frames as f
from clearing.api.process import main
from clearing.api.replica import Replica
from clearing.api.stream import SETTINGS, session
from clearing.api.stream.asyncapi import document
from clearing.api.stream.limits import Limits
from clearing.service import config
from clearing.service.layout import Layout
from journal import Store
from tests.api.venue import PATIENCE_S, following, journal

Frame = dict[str, Any]


# --- the server --------------------------------------------------------------------------------


def build_app(context: Context, limits: Limits | None = None) -> Starlette:
    """Nothing but the stream."""
    return Starlette(routes=[session.stream_route(context, History(context), limits)])


class Served:
    """A running stream. `faults`: what it reported."""

    def __init__(self, url: str, stream: session.Stream, replica: Replica, link: Link, store: Store) -> None:
        self.url = url
        self.stream = stream
        self.hub = stream.hub
        self.replica = replica
        self.link = link
        self.store = store
        self.faults: list[tuple[str, BaseException]] = []

    async def caught_up(self) -> None:
        """Everything that the journal holds is applied, and in the history."""
        await self.hub.history.ready(PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while self.replica.seq < self.store.head().next_seq:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def streaming(
    path: Path,
    limits: Limits | None = None,
    *,
    settings: dict[str, Any] = SETTINGS,
    faults_ok: bool = False,
    send_buffer: int = 0,
) -> AsyncIterator[Served]:
    """The stream of a data directory, on a port of its own; at the end it is closed as the process would."""
    async with following(path) as replica:
        with journal(path) as store:
            link = Link(Layout(path).link)
            await link.start()
            faults: list[tuple[str, BaseException]] = []
            context = Context(
                path, config.load(path), replica.book.genesis, link, replica, store, replica.book,
                lambda part, error: faults.append((part, error)), None,
            )  # fmt: skip
            history = History(context)
            route = session.stream_route(context, history, limits)
            stream = route.endpoint.__self__  # type: ignore[attr-defined]
            assert isinstance(stream, session.Stream)
            listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
            if send_buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            uv = uvicorn.Config(
                Starlette(routes=[route]), log_config=None, access_log=False, lifespan="off", backlog=2_048, **settings
            )
            server = uvicorn.Server(uv)
            serving = asyncio.create_task(server._serve([listener]))
            served = Served(f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/stream", stream, replica, link, store)
            served.faults = faults
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while not server.started:
                        await asyncio.sleep(0.002)
                yield served
            finally:
                for closer in context.closers:
                    await closer()
                server.should_exit = True
                await serving
                await link.close()
                assert faults_ok or not faults, faults


# --- clients -----------------------------------------------------------------------------------


@cache
def validators() -> dict[tuple[str, str | None], jsonschema_rs.Draft202012Validator]:
    """By type and channel, as a client would choose; fields that are not described are refused."""
    described = document()
    found: dict[tuple[str, str | None], jsonschema_rs.Draft202012Validator] = {}
    closed = {
        name: schema | {"additionalProperties": False} if "properties" in schema else schema
        for name, schema in described["components"]["schemas"].items()
    }
    for message in described["operations"]["tell"]["messages"]:
        name = described["components"]["messages"][message["$ref"].rsplit("/", 1)[1]]["name"]
        fields = closed[name]["properties"]
        channel = fields.get("channel", {}).get("enum", [None])
        key = fields["type"]["enum"][0], channel[0] if fields["type"]["enum"][0] in ("snapshot", "delta") else None
        assert key not in found
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": closed}}
        found[key] = jsonschema_rs.Draft202012Validator(schema)
    return found


def check(frame: Frame) -> None:
    """It is as the description says."""
    kind = frame["type"]
    channel = frame["channel"] if kind in ("snapshot", "delta") else None
    validator = validators().get((kind, channel))
    assert validator is not None, f"no description of {kind} {channel}"
    validator.validate(frame)


def place_of(frame: Frame) -> tuple[str, int]:
    """Channel and key."""
    return str(frame["channel"]), int(frame.get("instrument") or frame.get("account") or 0)


class Client:
    """One connection. `frames`: all that came, by channel and key; `others`: the rest but heartbeats."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: dict[tuple[str, int], list[Frame]] = defaultdict(list)
        self.others: list[Frame] = []
        self.heartbeats: list[Frame] = []
        self.seen: dict[tuple[str, int], int] = {}
        self._ids = 0

    async def send(self, **ask: Any) -> int:
        """Send a frame; its id."""
        self._ids += 1
        await self.socket.send(msgspec.json.encode({"id": self._ids} | ask).decode())
        return self._ids

    async def next(self) -> Frame:
        """The next frame, checked."""
        async with asyncio.timeout(PATIENCE_S):
            text = await self.socket.recv()
        assert isinstance(text, str)
        frame: Frame = msgspec.json.decode(text)
        check(frame)
        self._note(frame)
        return frame

    def _note(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "heartbeat":
            self.heartbeats.append(frame)
            return
        if kind not in ("snapshot", "delta"):
            self.others.append(frame)
            if kind in ("reset", "unsubscribed"):
                self.seen.pop(place_of(frame), None)
            return
        place = place_of(frame)
        if kind == "snapshot":
            assert frame["prev_seq"] is None
        else:
            assert frame["prev_seq"] == self.seen.get(place), (frame, self.seen.get(place))
            assert frame["seq"] >= frame["prev_seq"]
        self.seen[place] = frame["seq"]
        self.frames[place].append(frame)

    async def until(self, condition: Any) -> Frame:
        """Read until a frame meets a condition; that frame."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.next()
                if condition(frame):
                    return frame

    async def ask(self, **ask: Any) -> Frame:
        """Send, and read until the answer."""
        number = await self.send(**ask)
        return await self.until(lambda frame: frame.get("id") == number)

    async def subscribe(self, channel: f.Channel, **place: Any) -> Frame:
        """Subscribe; the snapshot."""
        answer = await self.ask(op="subscribe", channel=channel, **place)
        assert answer["type"] == "subscribed", answer
        return await self.until(lambda frame: frame["type"] == "snapshot" and frame["channel"] == channel)

    async def submit(self, raws: Iterable[bytes], **fields: Any) -> list[Frame]:
        """Submit, and read until the results."""
        answer = await self.ask(op="submit", envelopes=["0x" + raw.hex() for raw in raws], **fields)
        assert answer["type"] == "results", answer
        results: list[Frame] = answer["results"]
        return results

    async def reach(self, seq: int) -> None:
        """Read until a heartbeat says that everything up to `seq` was applied, so that what was to be told came."""
        await self.until(lambda frame: frame["type"] == "heartbeat" and frame["seq"] >= seq)

    async def closed(self) -> tuple[int | None, str | None]:
        """Read to the end; code and reason."""
        async with asyncio.timeout(PATIENCE_S):
            await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason


@asynccontextmanager
async def client(url: str, **choices: Any) -> AsyncIterator[Client]:
    """A connection that is closed at the end; it takes what comes also while nobody asks for it."""
    async with connect(url, **({"compression": None, "max_size": None, "max_queue": None} | choices)) as connection:
        yield Client(connection)


if __name__ == "__main__":
    main(build=build_app)
