# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel on disconnect: whatever ends a connection, the cancels that its client signed are carried out."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from clearing.api.stream.limits import Limits
from clearing.model import commands as c
from clearing.model.commands import Envelope
from tests.api.streams import Client, Frame, Served, client, streaming
from tests.api.test_stream import QUICK, account_of, priced
from tests.api.venue import run, until, writing
from tests.service.world import World, order, seed_of

LOW = 40_000 * 10_000


async def arm(one: Client, *raws: bytes, grace_ms: int = 0) -> Frame:
    """Hand over."""
    envelopes = ["0x" + raw.hex() for raw in raws]
    return await one.ask(op="cancel_on_disconnect", envelopes=envelopes, grace_ms=grace_ms)


def open_orders(at: Served, world: World, name: str = "alice") -> set[int]:
    """Client order ids of the account's open orders, as the replica has them."""
    return {o.client_order_id for o in at.replica.state.accounts[account_of(world, name)].orders.values()}


async def place(at: Served, one: Client, world: World, *coids: int, name: str = "alice") -> None:
    """Resting orders, seen by the replica."""
    results = await one.submit([world.batch(name, order(coid=coid, price=LOW)) for coid in coids])
    assert all(row["rejected"] == [] for row in results), results
    await until(lambda: set(coids) <= open_orders(at, world, name))


async def _drop(one: Client) -> None:
    """As a lost connection: no closing frame."""
    one.socket.transport.abort()


async def _close(one: Client) -> None:
    await one.socket.close()


async def _hurt(one: Client) -> None:
    for _ in range(20):
        await one.socket.send("nonsense")
    assert (await one.closed())[0] == 1008


@pytest.mark.slow
@pytest.mark.parametrize("end", [_drop, _close, _hurt])
def test_an_end_cancels(venue: World, end: Any) -> None:
    """Whether the connection is lost, closed or thrown out: the orders go, those of others stay."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as other, client(at.url) as one:
            await priced(venue, at)
            await place(at, one, venue, 1, 2, 3)
            await place(at, other, venue, 9, name="bob")
            assert (await arm(one, venue.batch("alice", c.CancelAll())))["envelopes"] == 1
            await end(one)
            await until(lambda: not open_orders(at, venue))
            assert open_orders(at, venue, "bob") == {9}

    with writing(venue.path):
        run(body())


def test_leaving_cancels_nothing_and_withdrawing_neither(venue: World) -> None:
    """`leave` ends without cancelling; so does an end after an empty list; a new list replaces the old one."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as watch:
            await priced(venue, at)
            await place(at, watch, venue, 1, 2)
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()))
                assert (await one.ask(op="leave"))["type"] == "left"
                assert (await one.closed())[0] == 1000
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()))
                assert (await arm(one))["envelopes"] == 0
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()))
                await arm(one, venue.batch("alice", c.CancelOrder(2)))
            await until(lambda: open_orders(at, venue) != {1, 2})
            await asyncio.sleep(0.2)
            assert open_orders(at, venue) == {1}, "only the last that was handed over was submitted"

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_within_the_grace_the_same_key_can_come_back(venue: World) -> None:
    """Handing over anew on another connection, before the grace is over, keeps the orders; nobody coming loses them.
    Also when the old connection has not been noticed to be dead: the newest holds."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as watch:
            await priced(venue, at)
            await place(at, watch, venue, 1)
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()), grace_ms=600)
            async with client(at.url) as two:
                await arm(two, venue.batch("alice", c.CancelAll()), grace_ms=100)
                await asyncio.sleep(0.9)
                assert open_orders(at, venue) == {1}
                async with client(at.url) as three:
                    await arm(three, venue.batch("alice", c.CancelAll()), grace_ms=100)
                    notice = await two.until(lambda frame: frame["type"] == "notice")
                    assert notice["code"] == "CANCEL_SUPERSEDED"
                    await two.socket.close()
                    await asyncio.sleep(0.4)
                    assert open_orders(at, venue) == {1}, "the one that was taken over does not cancel"
            began = time.monotonic()
            await until(lambda: not open_orders(at, venue))
            assert time.monotonic() - began < 5.0

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_what_would_not_work_is_refused_when_it_is_handed_over(venue: World) -> None:
    """Each with a code that says why; what was held before stays."""
    soon = time.time_ns() // 1_000 + 30 * 1_000_000

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            await place(at, one, venue, 1)
            used = venue.batch("alice", c.CancelAll(), account=account_of(venue, "bob"))
            forged = msgspec.msgpack.decode(venue.batch("alice", c.CancelAll()), type=Envelope)
            signature = forged.signature[:-1] + bytes([forged.signature[-1] ^ 1])
            spent = venue.batch("alice", c.CancelOrder(99))
            await one.submit([spent])
            await at.caught_up()
            cases = {
                "NOT_A_CANCEL": venue.batch("alice", c.CancelAll(), order(coid=5)),
                "MALFORMED": b"\x93\x01",
                "BAD_SIGNATURE": msgspec.msgpack.encode(msgspec.structs.replace(forged, signature=signature)),
                "UNKNOWN_KEY": used,
                "UNKNOWN_ACCOUNT": venue.batch("alice", c.CancelAll(), account=10_000),
                "WRONG_DEPLOYMENT": venue.batch("alice", c.CancelAll(), deployment=bytes(32)),
                "NONCE_USED": spent,
                "CANCEL_EXPIRES_SOON": venue.batch("alice", c.CancelAll(), expiry_us=soon),
            }
            assert (await arm(one, venue.batch("alice", c.CancelAll())))["type"] == "cancel_on_disconnect"
            for code, raw in cases.items():
                assert (await arm(one, raw))["code"] == code
            unregistered = venue.batch("alice", c.CancelAll(), seed=seed_of("a stranger"))
            assert (await arm(one, unregistered))["code"] == "UNKNOWN_KEY"
            two = [venue.batch("alice", c.CancelAll()) for _ in range(2)]
            assert (await arm(one, *two))["code"] == "BAD_PARAMETER"
            operator = venue.operator(c.ExpireOrders())
            assert (await arm(one, operator))["code"] == "NOT_A_CANCEL"
            long_grace = venue.batch("alice", c.CancelAll(), expiry_us=soon + 60 * 1_000_000)
            assert (await arm(one, long_grace, grace_ms=60_000))["code"] == "CANCEL_EXPIRES_SOON"
            await _drop(one)
            await until(lambda: not open_orders(at, venue))

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_one_that_became_unusable_is_told(venue: World) -> None:
    """When the nonce of what is held has been used, the client hears so once, and can hand over anew."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            held = venue.batch("alice", c.CancelAll())
            await arm(one, held)
            await one.submit([held])
            notice = await one.until(lambda frame: frame["type"] == "notice")
            assert notice["code"] == "CANCEL_UNUSABLE" and "NONCE_USED" in notice["message"]
            await place(at, one, venue, 1)
            assert (await arm(one, venue.batch("alice", c.CancelAll())))["ok"]
            await asyncio.sleep(0.4)
            await one.ask(op="ping")
            assert sum(frame["type"] == "notice" for frame in one.others) == 1
            await _drop(one)
            await until(lambda: not open_orders(at, venue))

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_a_slow_consumer_and_a_stop_cancel(venue: World) -> None:
    """Being dropped for reading too slowly is an end like any other; so is a stop of the server, without a grace."""
    limits = Limits(heartbeat_s=0.05, queue_frames=3, close_s=0.5)

    async def body() -> None:
        async with streaming(venue.path, limits) as at, client(at.url) as watch:
            await priced(venue, at)
            await place(at, watch, venue, 1)
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()))
                (session,) = [s for s in at.hub.sessions if s._will.held]
                for number in range(4):  # in one turn of the loop: more than may wait
                    session.outbox.put(b"\x81\x02{}" * (number + 1))
                await until(lambda: not open_orders(at, venue))
                assert (await one.closed())[:2] == (1013, "SLOW_CONSUMER")
            await place(at, watch, venue, 2)
            async with client(at.url) as one:
                await arm(one, venue.batch("alice", c.CancelAll()), grace_ms=60_000)
                await at.stream.close()
                assert (await one.closed())[0] == 1012
                await until(lambda: not open_orders(at, venue))

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_a_cancel_waits_for_the_sequencer(venue: World) -> None:
    """When the sequencer is away as the connection ends, the cancel is submitted when it is back."""

    async def body(first: Any) -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            await place(at, one, venue, 1)
            await arm(one, venue.batch("alice", c.CancelAll()))
            first.kill()
            await until(lambda: not at.link.connected)
            await _drop(one)
            await asyncio.sleep(0.3)
            assert open_orders(at, venue) == {1}
            with writing(venue.path):
                await until(lambda: not open_orders(at, venue))

    with writing(venue.path) as first:
        run(body(first))


@pytest.mark.slow
def test_the_strong_form_needs_no_server(venue: World) -> None:
    """ScheduleCancelAll works when this process dies without a word: the journal cancels, whoever is there."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at:
            await priced(venue, at)
            async with client(at.url) as one:
                await place(at, one, venue, 1)
                at_us = time.time_ns() // 1_000 + 700_000
                (armed,) = await one.submit([venue.batch("alice", c.ScheduleCancelAll(at_us))])
                assert armed["rejected"] == []
                at.stream.wills._by.clear()  # as a killed process
                await _drop(one)
            assert open_orders(at, venue) == {1}
            await asyncio.sleep(0.8)
            (found,) = await at.link.submit([venue.operator(c.ExpireOrders())])
            assert not isinstance(found, Exception)
            await until(lambda: not open_orders(at, venue))

    with writing(venue.path):
        run(body())
