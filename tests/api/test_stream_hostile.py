# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream among strangers: whatever one connection sends, or does not read, another one notices nothing."""

import asyncio
import base64
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlparse

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from clearing.api.stream.limits import Limits
from clearing.model import commands as c
from clearing.model import ids
from tests.api.streams import Client, Served, check, client, streaming
from tests.api.test_stream import QUICK, items, priced, settle
from tests.api.venue import PATIENCE_S, make_venue, run, trades, until, writing
from tests.service.world import BTC, World, order

LOW = 40_000 * 10_000
CHANNELS = ("book", "trades", "ticker", "mark", "funding", "instruments", "account", "epochs", "checkpoint", "status")
OPS = ("subscribe", "unsubscribe", "ping", "submit", "cancel_on_disconnect", "leave")


class Raw:
    """A WebSocket by hand: what anybody could write on the socket."""

    def __init__(self, url: str, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE_S)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        where = urlparse(url)
        assert where.hostname is not None and where.port is not None
        self.sock.connect((where.hostname, where.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, payload: bytes, first: int = 0x81, size: int | None = None) -> None:
        """A frame, masked with zeros; `size` as it is claimed to be."""
        size = len(payload) if size is None else size
        if size < 126:
            head = bytes((first, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
        self.sock.sendall(head + bytes(4) + payload)

    def rest(self) -> bytes:
        """Everything until the other side ends it."""
        found = b""
        with suppress(ConnectionError):
            while data := self.sock.recv(1 << 16):
                found += data
        return found


async def alive(at: Served, victim: Client, world: World, coid: int) -> None:
    """The victim's orders are taken, and its subscriptions go on without a gap (which a `Client` checks)."""
    (placed,) = await victim.submit([world.batch("alice", order(coid=coid, price=LOW))])
    (gone,) = await victim.submit([world.batch("alice", c.CancelOrder(coid))])
    assert placed["rejected"] == gone["rejected"] == []
    while victim.seen["account", 3] < gone["seq"]:
        await victim.next()
    assert at.hub.sessions


async def watching(at: Served, one: Client, world: World) -> None:
    """Subscribe to what the frames of others might disturb."""
    await priced(world, at)
    await one.subscribe("book", instrument=BTC)
    await one.subscribe("trades", instrument=BTC)
    await one.subscribe("account", account=3)


# --- frames ------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_hex = st.binary(max_size=40).map(lambda raw: "0x" + raw.hex())
_near = st.fixed_dictionaries(
    {"op": st.sampled_from(OPS) | st.text(max_size=8)},
    optional={
        "id": st.integers() | st.text(max_size=70) | _json,
        "channel": st.sampled_from(CHANNELS) | st.text(max_size=8),
        "instrument": st.sampled_from((0, 1, 2, 99, 2**53, 2**63, 2**64, -1)) | _json,
        "account": st.integers(-2, 12) | st.integers() | _json,
        "after": st.integers(-2, 20) | st.integers() | _json,
        "envelopes": st.lists(_hex | st.text(max_size=10), max_size=6) | _json,
        "grace_ms": st.integers(-1, 60_001) | _json,
        "outcomes": st.booleans() | _json,
        "extra": _json,
    },
)
_frames = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    _json.map(lambda value: _dumped(value)),
    _near.map(lambda value: _dumped(value)),
    _near.map(lambda value: _dumped(value)),
    st.integers(1, 20_000).map(lambda depth: "[" * depth),
    st.integers(1, 20_000).map(lambda depth: '{"op":' * depth),
    st.integers(1, 5_000).map(lambda depth: '{"op":"ping","id":' + "[" * depth + "]" * depth + "}"),
)


def _dumped(value: Any) -> str:
    import json  # allows NaN, lone surrogates and more

    return json.dumps(value)


class Background:
    """A stream on a thread's loop, for tests whose examples come one by one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self.at: Served
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=run, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)

    async def _serve(self) -> None:
        self._stop, self.loop = asyncio.Event(), asyncio.get_running_loop()
        async with streaming(self._world.path, QUICK) as self.at:
            await priced(self._world, self.at)
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Background, World, asyncio.Runner, Client]]:
    """A server, and a victim that is connected throughout."""
    world = make_venue(tmp_path_factory.mktemp("hostile") / "venue")
    with writing(world.path), Background(world) as background, asyncio.Runner() as runner:
        context = client(background.at.url)
        victim = runner.run(context.__aenter__())
        for channel in ("book", "trades"):
            runner.run(victim.subscribe(channel, instrument=BTC))
        runner.run(victim.subscribe("account", account=3))
        yield background, world, runner, victim
        runner.run(context.__aexit__(None, None, None))
        assert not background.at.faults


_coids = iter(range(1, 1 << 30))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_frames, min_size=1, max_size=25))
@pytest.mark.slow
def test_no_frames_of_one_connection_hurt_another(
    scene: tuple[Background, World, asyncio.Runner, Client], frames: list[str | bytes]
) -> None:
    """Random frames, from noise to almost right: each is answered as described, or the connection that sent them is
    ended; the victim's goes on without a gap, and the server reports no fault."""
    background, world, runner, victim = scene

    async def example() -> None:
        async with client(background.at.url) as fuzzer:
            with suppress(ConnectionClosed):
                for frame in frames:
                    await fuzzer.socket.send(frame)
                await fuzzer.socket.send('{"op":"ping","id":"the last"}')
                while (await fuzzer.next()).get("id") != "the last":
                    pass
            if fuzzer.socket.close_code is not None:
                assert fuzzer.socket.close_code in (1000, 1008)
            await alive(background.at, victim, world, next(_coids))

    runner.run(example())
    assert not background.at.faults


def _violations() -> dict[str, tuple[list[tuple[bytes, int, int | None]], int]]:
    """By name: frames (payload, first byte, claimed size) and the code of the close."""
    return {
        "not UTF-8": ([(b"\xff\xfe\xfd", 0x81, None)], 1007),
        "UTF-8 cut short": ([(b'{"op":"ping","id":"\xe2\x82', 0x81, None)], 1007),
        "too large": ([(b"", 0x81, (256 << 10) + 1)], 1009),
        "too large, in parts": ([(b"a" * 200_000, 0x01, None), (b"a" * 200_000, 0x80, None)], 1009),
        "absurdly large": ([(b"", 0x81, 2**62)], 1009),
        "reserved bits": ([(b"{}", 0xF1, None)], 1002),
        "unknown opcode": ([(b"{}", 0x83, None)], 1002),
        "a part of nothing": ([(b"{}", 0x80, None)], 1002),
        "a large ping": ([(b"a" * 200, 0x89, None)], 1002),
    }


@pytest.mark.parametrize("name", _violations())
def test_a_violation_ends_its_own_connection(
    scene: tuple[Background, World, asyncio.Runner, Client], name: str
) -> None:
    """What is no WebSocket message closes the connection that sent it, with the code for it."""
    background, world, runner, victim = scene
    frames, code = _violations()[name]
    with Raw(background.at.url) as raw:
        with suppress(ConnectionError):
            for payload, first, size in frames:
                raw.send(payload, first, size)
        rest = raw.rest()
        assert b"\x88" in rest and code.to_bytes(2, "big") in rest[rest.rindex(b"\x88") :]
    runner.run(alive(background.at, victim, world, next(_coids)))


@pytest.mark.slow
def test_twenty_bad_frames_end_it(venue: World) -> None:
    """Each is answered, with the id where it can be read; the twentieth ends the connection with 1008. Refusals of
    frames that were understood do not count."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            for number in range(30):
                assert (await one.ask(op="subscribe", channel="book", instrument=100 + number))["code"]
            bad: list[str | bytes] = [
                '{"op":"nothing","id":7}',
                "{}",
                "[",
                b"binary",
                '{"op":"ping","x":1,"id":"a"}',
            ] * 4
            for frame in bad:
                await one.socket.send(frame)
            assert (await one.closed())[:2] == (1008, "MALFORMED")
            while True:
                try:
                    await one.next()
                except ConnectionClosed:
                    break
            errors = [frame for frame in one.others if frame.get("code") == "MALFORMED"]
            assert len(errors) == 20 and [frame["id"] for frame in errors[:5]] == [7, None, None, None, "a"]

    with writing(venue.path):
        run(body())


# --- readers -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_slow_consumer_is_dropped_and_not_waited_for(venue: World) -> None:
    """A client that stops reading is closed with 1013 once its queue is full. A client beside it gets everything, and
    nothing of the slow one is kept."""
    limits = Limits(heartbeat_s=0.1, queue_bytes=64 << 10, close_s=2.0)

    async def body() -> None:
        async with streaming(venue.path, limits, send_buffer=16 << 10) as at, client(at.url) as quick:
            await priced(venue, at)
            await quick.subscribe("trades", instrument=BTC)
            loop = asyncio.get_running_loop()
            with await loop.run_in_executor(None, Raw, at.url, 4_096) as slow:
                slow.send(b'{"op":"subscribe","channel":"trades","instrument":1,"id":1}')
                await until(lambda: len(at.hub._topics["trades", BTC].outboxes) == 2)
                done = 0
                while len(at.hub.sessions) == 2:
                    assert done < 4_000, "it was never dropped"
                    orders = [order(coid=n, size=1) for n in range(1, 26)]
                    sales = [order(ids.SELL, size=1, coid=n) for n in range(1, 26)]
                    await quick.submit([venue.batch("alice", *orders), venue.batch("bob", *sales)])
                    done += 25
                await settle(at, quick)
                assert len(items(quick.frames["trades", BTC])) == done
                assert len(at.hub._topics["trades", BTC].outboxes) == 1
                rest = await loop.run_in_executor(None, slow.rest)
                assert rest.endswith(b"\x88\x0f\x03\xf5SLOW_CONSUMER"), "1013, when it reads again"

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_who_does_not_read_and_is_not_read_is_cut(venue: World) -> None:
    """A dropped client that never reads again costs a socket for a few seconds only: it is cut."""
    limits = Limits(heartbeat_s=0.01, queue_frames=50, close_s=0.3)

    async def body() -> None:
        async with streaming(venue.path, limits, send_buffer=4_096) as at:
            await priced(venue, at)
            with await asyncio.get_running_loop().run_in_executor(None, Raw, at.url, 2_048) as slow:
                for number in range(40):
                    slow.send(b'{"op":"subscribe","channel":"status","id":%d}' % number)
                (session,) = at.hub.sessions
                wire: Any = session._wire
                await until(lambda: not at.hub.sessions)
                await until(lambda: wire.disconnected)

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_who_answers_no_ping_is_cut(venue: World) -> None:
    """A peer that is gone without a word is noticed by its silence, also when what was sent to it cannot leave; and its
    cancels are carried out."""
    from clearing.api.stream import SETTINGS

    impatient = SETTINGS | {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.2}

    async def body() -> None:
        served = streaming(venue.path, QUICK, settings=impatient, send_buffer=4_096)
        async with served as at, client(at.url) as other:
            await priced(venue, at)
            (placed,) = await other.submit([venue.batch("alice", order(coid=1, price=LOW))])
            assert placed["rejected"] == []
            with await asyncio.get_running_loop().run_in_executor(None, Raw, at.url, 2_048) as silent:
                raw = venue.batch("alice", c.CancelAll())
                silent.send(b'{"op":"cancel_on_disconnect","envelopes":["0x%s"]}' % raw.hex().encode())
                await until(lambda: len(at.hub.sessions) == 2)
                for number in range(60):
                    silent.send(b'{"op":"subscribe","channel":"status","id":%d}' % number)
                wires: list[Any] = [session._wire for session in at.hub.sessions]
                assert len(wires) == 2
                await until(lambda: any(wire.transport.get_write_buffer_size() for wire in wires))
                await until(lambda: len(at.hub.sessions) == 1)
                await until(lambda: not at.replica.state.accounts[3].orders)

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_too_many_connections_are_refused_before_they_cost(venue: World) -> None:
    """The one above the limit gets 503 and a reason; those that are there go on."""
    from websockets.exceptions import InvalidStatus

    async def body() -> None:
        async with streaming(venue.path, Limits(connections=1)) as at, client(at.url) as one:
            await one.ask(op="ping")
            with pytest.raises(InvalidStatus) as refused:
                async with client(at.url):
                    pass
            assert refused.value.response.status_code == 503 and b"OVERLOADED" in (refused.value.response.body or b"")
            await one.ask(op="ping")

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_one_address_cannot_take_all_streams(venue: World) -> None:
    """The one above the address's limit gets 429 and a reason, another address is let in, and an end makes room."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async def body() -> None:
        async with streaming(venue.path, Limits(connections_per_address=1)) as at:
            async with client(at.url) as one:
                await one.ask(op="ping")
                with pytest.raises(InvalidStatus) as refused:
                    async with client(at.url):
                        pass
                response = refused.value.response
                assert response.status_code == 429 and b"TOO_MANY_STREAMS" in (response.body or b"")
                assert response.headers["retry-after"] == "5"
                # As a proxy on this machine would say it.
                async with connect(at.url, additional_headers={"x-forwarded-for": "203.0.113.7"}) as other:
                    await other.send('{"op":"ping","id":1}')
                    assert b"pong" in (await other.recv(decode=False))
            await until(lambda: not at.stream._connections)
            async with client(at.url) as one:
                await one.ask(op="ping")

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_a_thousand_idle_connections(venue: World) -> None:
    """They all get their heartbeats and tickers while one trades; then all are told of a restart."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1_000
    if hard != resource.RLIM_INFINITY and hard < 2 * count + 200:
        pytest.skip(f"at most {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))

    async def body() -> None:
        async with streaming(venue.path) as at, client(at.url) as active:
            await priced(venue, at)
            await active.subscribe("trades", instrument=BTC)
            contexts = [client(at.url) for _ in range(count)]
            idle: list[Client] = []
            for start in range(0, count, 50):
                idle += await asyncio.gather(*(one.__aenter__() for one in contexts[start : start + 50]))
            await asyncio.gather(*(one.subscribe("ticker", instrument=BTC) for one in idle))
            assert len(at.hub.sessions) == count + 1
            for first in range(1, 200, 20):
                results = await active.submit(trades(venue, first, 20))
                assert all(row["rejected"] == [] for row in results)
            await settle(at, active)
            assert len(items(active.frames["trades", BTC])) == 200
            last = at.replica.seq - 1
            await asyncio.gather(*(one.reach(last) for one in idle))
            deltas = [one.frames["ticker", BTC][1:] for one in idle]
            assert all(deltas) and all(found == deltas[0] for found in deltas)
            await at.stream.close()
            assert {(await one.closed())[0] for one in idle} == {1012}

    with writing(venue.path):
        run(body())


def test_a_description_is_held_against_frames() -> None:
    """The check that every frame of these tests passes does refuse."""
    check({"type": "pong", "op": "pong", "id": 1, "seq": 1, "time_us": 1})
    for wrong in (
        {"type": "pong", "op": "pong", "id": 1, "seq": "1", "time_us": 1},
        {"type": "pong", "op": "pong", "id": 1, "seq": 1, "time_us": 1, "more": 1},
        {"type": "pong", "op": "pong", "id": 1, "seq": 1},
        {"type": "snapshot", "channel": "book", "instrument": 1, "seq": 1, "prev_seq": None, "data": {"bids": [[1]]}},
    ):
        with pytest.raises(jsonschema_rs.ValidationError):
            check(wrong)
