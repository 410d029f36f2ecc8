# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against the real interface over real sockets, with connections that end and limits that are met.

Rule shown: whatever happens on the way, each envelope gets one answer, which is the journal's.
"""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from clearing.client import (
    ApiClient,
    ApiError,
    AsyncApiClient,
    AsyncSession,
    AsyncStream,
    CancelOnDisconnect,
    DeadMansSwitch,
    OutcomeUnknown,
    Session,
    Stream,
)
from clearing.client import guards as guarding
from clearing.model import commands as c
from clearing.model import ids
from tests.api.venue import PATIENCE_S, run, until
from tests.bots.venue import PRICE, Open, opened
from tests.service.world import BTC, order, owner_of, seed_of

TICK = 10_000


async def session_of(venue: Open, api: AsyncApiClient, name: str = "alice", **choices: Any) -> AsyncSession:
    return await AsyncSession.open(api, venue.account(name), seed_of(f"{name} session"), **choices)


def placed(venue: Open, name: str) -> list[int]:
    return sorted(venue.orders(name))


@pytest.mark.slow
def test_each_envelope_has_one_answer_however_often_the_connection_ends(tmp_path: Path) -> None:
    """Two hundred orders while the connection is cut again and again: all have receipts, at places of their own, and
    each order is there once; the feeds are whole again afterwards."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api, AsyncStream(api) as stream:
            session = await session_of(venue, api, stream=stream, outcomes=False)
            book, tape, account = stream.book(BTC), stream.trades(BTC, after=0), stream.account(session.account)
            heard: list[tuple[int, int]] = []

            async def listen() -> None:
                async for trade in tape:
                    heard.append((trade.seq, trade.index))  # noqa: PERF401 - looked at while it grows

            listening = asyncio.create_task(listen())

            bids = [c.PlaceOrder(BTC, ids.BUY, PRICE - n * TICK, 1, n) for n in range(1, 201)]
            receipts = []
            for wave in range(0, 200, 20):
                sending = asyncio.gather(*map(session.submit, bids[wave : wave + 20]))
                await asyncio.sleep(0.0005 * (wave // 20))  # before they are sent, while they are, and after
                venue.cut()
                receipts += await sending
            taken = await asyncio.gather(
                *(venue.trade("bob", order(ids.SELL, PRICE - 5 * TICK, 1, coid=n)) for n in range(1, 4))
            )
            assert len({receipt["seq"] for receipt in receipts}) == 200 and not any(r["rejected"] for r in receipts)
            assert stream.connections > 5 and stream.pending == 0
            last = taken[-1].seq
            async with asyncio.timeout(PATIENCE_S):
                for feed in (book, account):
                    while feed.stale or feed.seq is None or feed.seq < last:
                        await asyncio.sleep(0.01)
                while len(heard) < 3:
                    await asyncio.sleep(0.01)
            assert len(heard) == len(set(heard)) == 3
            assert [level.price_atoms for level in book.bids] == [PRICE - n * TICK for n in range(4, 201)]
            assert account.value is not None
            assert (
                sorted(o.client_order_id for o in account.value.orders) == placed(venue, "alice") == list(range(4, 201))
            )
            listening.cancel()

    run(body())


@pytest.mark.slow
def test_limits_are_waited_out_and_nothing_is_lost(tmp_path: Path) -> None:
    """RATE_LIMITED is an answer to come again: over the stream and over REST all orders arrive."""

    async def body() -> None:
        limited = opened(tmp_path / "v", commands_per_second=200.0, commands_burst=10)
        async with limited as venue, AsyncApiClient(venue.url) as api, AsyncStream(api) as stream:
            session = await session_of(venue, api, stream=stream)
            bids = [c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, n) for n in range(1, 41)]
            await asyncio.gather(*map(session.submit, bids))
            await until(lambda: placed(venue, "alice") == list(range(1, 41)))

    run(body())


@pytest.mark.slow
def test_an_answer_that_came_too_late_is_found_in_the_journal(tmp_path: Path) -> None:
    """The first attempt was carried out and its answer lost; when the operator has forgotten it and says NONCE_USED,
    the receipt is read from the journal. A nonce that was used by something else stays refused."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api, AsyncStream(api) as stream:
            session = await session_of(venue, api, stream=stream)
            await api.status()  # so that it is known where the journal stood
            raw = session.sign([c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 7)])
            (first,) = await venue.send(raw)
            sends = stream._sends
            done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            from clearing.client.sends import Sending

            lost = Sending(raw, True, first.seq - 2, done)
            lost.unknown = True
            lost.attempts = 1
            sends._refused(lost, ApiError("NONCE_USED", "used", 400))
            async with asyncio.timeout(PATIENCE_S):
                found = await done
            assert found["seq"] == first.seq and found["outcomes"][0]["type"] == "OrderPlaced"

            other: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            never = Sending(session.sign([c.CancelAll()]), True, first.seq - 2, other)
            never.unknown = True
            never.attempts = 1
            sends._refused(never, ApiError("NONCE_USED", "used", 400))
            with pytest.raises(ApiError, match="NONCE_USED"):
                async with asyncio.timeout(PATIENCE_S):
                    await other

    run(body())


@pytest.mark.slow
def test_without_an_operator_it_is_said_what_is_known(tmp_path: Path) -> None:
    """Nothing was sent: OPERATOR_UNREACHABLE. Something may have been: OUTCOME_UNKNOWN, and the envelope with it."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api:
            session = await session_of(venue, api)
            async with AsyncStream(AsyncApiClient("http://127.0.0.1:9"), patience_s=0.3) as nowhere:
                with pytest.raises(ApiError) as caught:
                    await nowhere.send(session.sign([c.CancelAll()]))
                assert caught.value.code == "OPERATOR_UNREACHABLE" and not caught.value.sent
                with pytest.raises(ApiError, match="OPERATOR_UNREACHABLE"):
                    await nowhere.connected(0.2)
            async with AsyncStream(api, patience_s=0.5) as stream:
                await stream.connected()
                raw = session.sign([c.CancelAll()])
                sending = asyncio.create_task(stream.send(raw))
                while not stream.pending:
                    await asyncio.sleep(0)  # each turn: it may be answered in a few milliseconds
                await stream.close()
                with pytest.raises(ApiError) as caught:
                    await sending
                assert isinstance(caught.value, OutcomeUnknown) or not caught.value.sent
                if isinstance(caught.value, OutcomeUnknown):
                    assert caught.value.envelope == raw

    run(body())


@pytest.mark.slow
def test_the_guard_cancels_when_the_connection_is_gone_and_only_then(tmp_path: Path) -> None:
    """Cut without a word: the orders go. A new connection within the grace: they stay. `leave`: they stay."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api:
            async with AsyncStream(api) as stream:
                session = await session_of(venue, api, stream=stream)
                guard = CancelOnDisconnect(stream, session, grace_ms=20_000)
                await guard.arm()
                await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 1))
                venue.cut()
                await until(lambda: stream.connections == 2 and not stream.stale)
                await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 2))
                await until(lambda: placed(venue, "alice") == [1, 2])
                await guard.disarm()
                await stream.leave()
            async with AsyncStream(api) as stream:
                session = await session_of(venue, api, stream=stream)
                await CancelOnDisconnect(stream, session).arm()
                await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 3))
                await until(lambda: placed(venue, "alice") == [1, 2, 3])
            await until(lambda: placed(venue, "alice") == [])

    run(body())


@pytest.mark.slow
def test_the_guard_is_renewed_before_its_nonce_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is signed meanwhile: what lies with the operator is still good at the end."""
    monkeypatch.setattr(guarding, "RENEW_AFTER", 40)

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api:
            async with AsyncStream(api) as stream:
                session = await session_of(venue, api, stream=stream)
                await CancelOnDisconnect(stream, session).arm()
                for _ in range(14):
                    await asyncio.gather(*(session.submit(c.CancelAll()) for _ in range(100)))
                await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 3))
                await until(lambda: placed(venue, "alice") == [3])
                assert not stream.notices
            await until(lambda: placed(venue, "alice") == [])

    run(body())


@pytest.mark.slow
def test_the_switch_in_the_journal_fires_without_us(tmp_path: Path) -> None:
    """While it is renewed the orders stay; a clean end disarms it; once nobody renews it, the next tick of the
    journal's clock cancels them."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api:
            session = await session_of(venue, api)
            account = venue.replica.state.accounts[session.account]
            await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, 1))
            await until(lambda: placed(venue, "alice") == [1])
            async with DeadMansSwitch(session, after_s=1.5) as switch:
                until_s = time.monotonic() + 2.5
                while time.monotonic() < until_s:
                    await venue.send(venue.world.operator(c.ExpireOrders()))
                    assert placed(venue, "alice") == [1] and switch.failed is None
                    await asyncio.sleep(0.1)
            await asyncio.sleep(1.6)
            assert placed(venue, "alice") == [1], account  # disarmed
            switch = DeadMansSwitch(session, after_s=0.5)
            await switch._arm()  # and nobody renews it
            await asyncio.sleep(0.6)
            await venue.send(venue.world.operator(c.ExpireOrders()))  # the operator's clock
            await until(lambda: placed(venue, "alice") == [])

    run(body())


@pytest.mark.slow
def test_a_program_with_threads(tmp_path: Path) -> None:
    """The stream for threads and the synchronous session: follow in one thread, trade in another."""

    def trade(url: str, account: int, other: int) -> dict[str, Any]:
        with ApiClient(url) as api, Stream(url) as stream:
            stream.connected()
            book = stream.book(BTC).ready()
            alice = Session.open(api, account, seed_of("alice session"))
            bob = Session.open(api, other, seed_of("bob session"))
            heard: list[Any] = []
            tape = stream.trades(BTC, after=0)
            thread = threading.Thread(target=lambda: heard.extend(tape))
            thread.start()
            assert not alice.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 5, 1))["rejected"]
            receipt = stream.send(bob.sign([order(ids.SELL, PRICE - TICK, 2, coid=1)]), outcomes=True)
            assert "TradeNovated" in [outcome["type"] for outcome in receipt["outcomes"]]
            deadline = time.monotonic() + PATIENCE_S
            while book.read(lambda it: it.best_bid and it.best_bid.size_lots) != 3 or not heard:
                assert book.changed(1.0) or time.monotonic() < deadline
            assert not book.stale and api.account(account)["positions"][0]["size_lots"] == "2"
            tape.close()
            thread.join(PATIENCE_S)
            assert not thread.is_alive() and [trade.size_lots for trade in heard] == [2]
            with pytest.raises(ApiError, match="UNKNOWN_INSTRUMENT"):
                stream.book(99).ready()
            return receipt

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:
            receipt = await asyncio.to_thread(trade, venue.url, venue.account("alice"), venue.account("bob"))
            assert venue.replica.seq > receipt["seq"]

    run(body())


def test_every_typed_resource_reads_the_real_answer(tmp_path: Path) -> None:
    """Amounts are ints, pages can be walked, what is unknown is an error with the operator's code."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue, AsyncApiClient(venue.url) as api:
            session = await session_of(venue, api)
            for number in range(1, 8):
                await session.submit(c.PlaceOrder(BTC, ids.BUY, PRICE - TICK, 1, number))
            await venue.trade("bob", order(ids.SELL, PRICE - TICK, 5, coid=1))
            await venue.send(venue.world.operator(c.FundingTick()))
            account = session.account
            api.saw(venue.replica.head - 1)
            assert (await api.health())["status"] == "ok"
            assert (await api.ticker(BTC)).last_atoms == PRICE - TICK
            assert [row.trades_24h for row in await api.tickers() if row.instrument == BTC] == [5]
            assert [trade.size_lots async for trade in api.every(lambda p: api.trades(BTC, p), after=0)] == [1] * 5
            assert sum(candle.trades for candle in (await api.candles(BTC)).items) == 5
            assert (await api.marks(BTC)).items[0].mark_atoms > 0
            assert [row.instrument for row in (await api.funding(BTC)).items] == [BTC]
            assert {fill.role for fill in (await api.fills(account)).items} == {"maker"}
            assert (await api.order(account, 1)).status == "filled" and (await api.order(account, 7)).status == "open"
            assert len((await api.orders(account)).orders) == 2
            assert "Deposited" in " ".join(str(event["type"]) for event in (await api.events(account)).items)
            assert (await api.withdrawals(account)).items == []
            estimate = await api.estimate(account, [c.PlaceOrder(BTC, ids.BUY, PRICE, 1, 99)])
            assert estimate.accepted and estimate.after.free_atoms < estimate.before.free_atoms
            assert (await api.owner(owner_of("alice")))["accounts"][0]["account"] == account
            with pytest.raises(ApiError) as caught:
                await api.ticker(99)
            assert caught.value.code == "UNKNOWN_INSTRUMENT" and caught.value.status == 404

    run(body())
