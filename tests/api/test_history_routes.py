# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of history, member and estimate: what they answer over a real journal, what they refuse, and in the
interface's own process beside a sequencer that is killed."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from clearing.api.history import History
from clearing.model import ids
from tests.api.markets import (
    PRICE,
    TICK,
    Plain,
    Trading,
    context_of,
    open_market,
    quick_follower,
    writing_here,
)
from tests.api.parts import app_of, resources_of
from tests.api.venue import PATIENCE_S, ROOT, following, linked, make_venue, run, trades, until, writing
from tests.service.world import BTC, World, owner_of


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")
    yield world
    world.close()


@asynccontextmanager
async def asking(world: World) -> AsyncIterator[Any]:
    """`get(path, **query)` -> (status, JSON) of the routes over this journal, caught up with it."""
    async with writing_here(world), following(world.path) as replica:
        context, faults = context_of(world.path, replica, world.store)
        history = History(context)
        transport = httpx.ASGITransport(app_of(resources_of(context, history)))
        async with httpx.AsyncClient(transport=transport, base_url="http://venue") as client:

            async def ask(path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
                await until(lambda: replica.seq == world.store.head().next_seq)
                if body is None:
                    found = await client.get(f"/v1{path}", params=query or None)
                else:
                    found = await client.post(f"/v1{path}", json=body)
                return found.status_code, found.json()

            yield ask
        await history.close()
        assert not faults, faults


def number_of(world: World, name: str) -> int:
    return world.reducer.state.owners[owner_of(name)].accounts[0].number


def test_what_the_routes_say_is_what_the_journal_says(world: World) -> None:
    trading = Trading(world, 3)
    for _ in range(60):
        trading.block()

    async def body() -> None:
        async with asking(world) as ask:
            plain = Plain(world.store)
            number = number_of(world, "bob")
            status, page = await ask(f"/trades/{BTC}", limit=5)
            assert (status, page["items"]) == (200, plain.trades[BTC][-5:][::-1])
            _, older = await ask(f"/trades/{BTC}", before=page["next"], limit=5)
            assert older["items"] == plain.trades[BTC][-10:-5][::-1]
            _, first = await ask(f"/trades/{BTC}", after=0, limit=3)
            assert first["items"] == plain.trades[BTC][:3]
            _, rest = await ask(f"/trades/{BTC}", after=first["next"], limit=1_000)
            assert (rest["items"], rest["next"]) == (plain.trades[BTC][3:], None)
            _, page = await ask(f"/candles/{BTC}", interval=300)
            assert page["items"] == plain.candles(BTC, 300)[::-1][:100]
            _, page = await ask(f"/candles/{BTC}", interval=60, before=page["items"][3]["time_us"], limit=2)
            assert all(candle["time_us"] for candle in page["items"])
            _, page = await ask(f"/accounts/{number}/fills", limit=1_000)
            assert page == {"items": plain.fills[number][::-1], "next": None}
            _, page = await ask(f"/accounts/{number}/history", limit=1_000)
            assert page == {"items": plain.events[number][::-1], "next": None}
            _, page = await ask(f"/accounts/{number}/orders")
            account = world.reducer.state.accounts[number]
            assert [int(row["client_order_id"]) for row in page["orders"]] == list(account.orders)
            assert [int(row["client_order_id"]) for row in page["triggers"]] == list(account.triggers)
            assert page["seq"] == world.store.head().next_seq - 1
            for client in range(1, 26):
                _, found = await ask(f"/accounts/{number}/orders/{client}")
                assert found == plain.order(number, client)
            _, page = await ask(f"/accounts/{number}/withdrawals", limit=1_000)
            acked = [event for event in plain.events[number] if event["type"] == "WithdrawalAcked"][::-1]
            assert [row["seq"] for row in page["items"]] == [event["seq"] for event in acked]
            assert all(row["epoch"] is row["posted"] is row["claimed"] is None for row in page["items"])
            _, page = await ask("/tickers")
            _, one = await ask(f"/tickers/{BTC}")
            assert page["items"][0] == one
            best = world.reducer.state.instruments[BTC].book.best(ids.BUY)
            assert one["best_bid_atoms"] == (str(best) if best else None)
            assert one["trades_24h"] == len(plain.trades[BTC])
            _, page = await ask(f"/funding/{BTC}")
            assert page["items"] == plain.funding[BTC][::-1]

    run(body())


def test_marks_are_noted_as_prices_come(world: World) -> None:
    async def body() -> None:
        async with asking(world) as ask:
            assert (await ask(f"/marks/{BTC}"))[1] == {"items": [], "next": None}, "none was seen before"
            expected = []
            for step in range(5):
                (receipt,) = world.ok(world.price(PRICE + step * TICK))
                inst = world.reducer.state.instruments[BTC]
                await ask(f"/marks/{BTC}")  # so that each is a slice of its own
                expected.append((receipt.seq, receipt.time_us, str(inst.mark), str(inst.index)))
            _, page = await ask(f"/marks/{BTC}", after=0)
            rows = [(row["seq"], row["time_us"], row["mark_atoms"], row["index_atoms"]) for row in page["items"]]
            assert rows == expected
            _, page = await ask(f"/marks/{BTC}", limit=2)
            _, older = await ask(f"/marks/{BTC}", limit=2, before=page["next"])
            assert [row["seq"] for row in page["items"] + older["items"]] == [e[0] for e in expected[:0:-1]]

    run(body())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/trades/77", "UNKNOWN_INSTRUMENT"), ("/trades/x", "BAD_PARAMETER"), ("/trades/1?before=x", "BAD_PARAMETER"),
        ("/trades/1?limit=0", "BAD_PARAMETER"), ("/trades/1?limit=1001", "BAD_PARAMETER"),
        ("/trades/1?after=1&before=2", "BAD_PARAMETER"), ("/candles/1?interval=61", "BAD_PARAMETER"),
        ("/tickers/99", "UNKNOWN_INSTRUMENT"), ("/accounts/9999/fills", "UNKNOWN_ACCOUNT"),
        ("/accounts/-1/fills", "BAD_PARAMETER"), ("/accounts/%D9%A1/orders", "BAD_PARAMETER"),
        ("/accounts/3/orders/99999999999999999999", "BAD_PARAMETER"), ("/accounts/3/orders/1x", "BAD_PARAMETER"),
        ("/accounts/99999999999999999999999/history", "BAD_PARAMETER"),
    ],
)  # fmt: skip
def test_what_is_refused(world: World, path: str, code: str) -> None:
    async def body() -> None:
        async with asking(world) as ask:
            status, found = await ask(path)
            assert (status, found["code"]) == (400, code)
            assert len(found["message"]) > 20

    run(body())


def test_estimates_over_the_wire(world: World) -> None:
    """Numbers as text or as integers; what is not in the form is refused, and nothing is changed by any of it."""
    number = number_of(world, "alice")
    good = {"instrument": BTC, "side": "buy", "price_atoms": str(PRICE), "size_lots": 3}
    refused: list[Any] = [
        {}, [], {"orders": []}, {"orders": [good] * 51}, {"orders": [good], "more": 1},
        {"orders": [good | {"side": "up"}]}, {"orders": [good | {"size_lots": "-1"}]},
        {"orders": [good | {"size_lots": 1.5}]}, {"orders": [good | {"client_order_id": "1"}]},
        {"orders": [{"instrument": BTC}]}, {"orders": [good | {"price_atoms": "9" * 20}]},
    ]  # fmt: skip

    async def body() -> None:
        async with asking(world) as ask:
            before = await ask(f"/accounts/{number}/orders")
            status, found = await ask(f"/accounts/{number}/estimate", {"orders": [good]})
            assert (status, found["accepted"], found["code"]) == (200, True, None)
            assert found["orders"][0]["resting_lots"] == "3"
            assert int(found["after"]["free_atoms"]) < int(found["before"]["free_atoms"])
            _, found = await ask(f"/accounts/{number}/estimate", {"orders": [good, good | {"size_lots": str(10**6)}]})
            assert (found["accepted"], found["code"]) == (False, "INSUFFICIENT_MARGIN")
            _, found = await ask(f"/accounts/{number}/estimate", {"orders": [good | {"size_lots": 10**19 - 1}]})
            assert found["code"] == "INVALID_SIZE"
            for wrong in refused:
                status, found = await ask(f"/accounts/{number}/estimate", wrong)
                assert (status, found["code"]) == (400, "MALFORMED"), wrong
            status, found = await ask(f"/accounts/{number}/estimate", {"orders": [good], "x": "y" * 70_000})
            assert (status, found["code"]) == (400, "BODY_TOO_LARGE")
            assert await ask(f"/accounts/{number}/orders") == before

    run(body())


# --- in processes ------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def serving(path: Path, port: int) -> Iterator[httpx.Client]:
    """The interface's process with the routes in it."""
    command = [sys.executable, "-m", "tests.api.parts", str(path)]
    environment = os.environ | {"NOVATE_CONFIG_PORT": str(port)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=PATIENCE_S) as client:
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _wait(client: httpx.Client, path: str, count: int) -> list[dict[str, Any]]:
    """Ask until so many items are there."""

    async def body() -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    found = client.get(path, params={"limit": 1_000})
                    if found.status_code == 200 and len(found.json()["items"]) >= count:
                        return list(found.json()["items"])
                await asyncio.sleep(0.02)

    return asyncio.run(body())


@pytest.mark.slow
def test_live_and_after_restarts_of_both_processes(tmp_path: Path) -> None:
    """Fills of orders through the link, with a kill of the sequencer between them; a new process says the same."""
    world = make_venue(tmp_path / "venue")
    port = _free_port()
    number = number_of(world, "alice")
    path = f"/accounts/{number}/fills"

    async def submit(first: int) -> None:
        world.now_us = time.time_ns() // 1_000  # the processes go by the machine's clock
        async with linked(world.path) as link:
            await link.submit([world.price(PRICE), *trades(world, first, 20)])

    with serving(world.path, port) as client:
        with writing(world.path):
            asyncio.run(submit(1))
            assert len(_wait(client, path, 20)) == 20
            assert len(_wait(client, f"/trades/{BTC}", 20)) == 20
        with writing(world.path):
            asyncio.run(submit(100))
            live = _wait(client, path, 40)
            public = _wait(client, f"/trades/{BTC}", 40)
            day = client.get(f"/tickers/{BTC}").json()
            assert len(live) == len(public) == day["trades_24h"] == 40
    with serving(world.path, port) as client:
        assert _wait(client, path, 40) == live, "without a sequencer, too"
        assert _wait(client, f"/trades/{BTC}", 40) == public
        again = client.get(f"/tickers/{BTC}").json()
        assert {**again, "seq": 0, "time_us": 0} == {**day, "seq": 0, "time_us": 0}
