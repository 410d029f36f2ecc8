# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream: what is told is what happened, in order and without a gap; commands get their receipts."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.api.history import Cursor
from clearing.api.http.shown import shown
from clearing.api.stream import SETTINGS
from clearing.api.stream.backfill import MAX_ITEMS
from clearing.api.stream.limits import Limits
from clearing.model import commands as c
from clearing.model import ids
from clearing.service import views
from tests.api.markets import NAMES, Trading, open_market, quick_follower, writing_here
from tests.api.streams import Client, Frame, Served, client, streaming
from tests.api.venue import PATIENCE_S, Writer, node_of, run, trades, until, writing
from tests.service.world import BTC, World, order, owner_of

OTHER = 2
QUICK = Limits(heartbeat_s=0.1)


def account_of(world: World, name: str) -> int:
    return world.reducer.state.owners[owner_of(name)].accounts[0].number


async def priced(world: World, at: Served) -> None:
    """A price of now, so that orders are taken by a sequencer that has a real clock."""
    assert await at.link.wait_connected(PATIENCE_S)
    world.now_us = time.time_ns() // 1_000
    (found,) = await at.link.submit([world.price(50_000 * 10_000)])
    assert not isinstance(found, Exception), found


async def settle(at: Served, *clients: Client) -> None:
    """Everything that was applied was told, and read."""
    await at.caught_up()
    await until(lambda: not at.hub._dirty)
    for one in clients:
        await one.ask(op="ping")


def items(frames: list[Frame], name: str = "items") -> list[Frame]:
    """What a subscription told, in order."""
    return [item for frame in frames for item in frame["data"].get(name, [])]


def plain(values: list[Any]) -> list[Frame]:
    found: list[Frame] = msgspec.json.decode(msgspec.json.encode(values))
    return found


# --- channels ----------------------------------------------------------------------------------


def test_every_channel_tells_what_happened_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over random trading: trades, funding, fills and events of the stream are the history's, each once; the last
    ticker, mark, account and instrument are the state's; two clients that subscribed at the same time get the same."""
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")
    numbers = [account_of(world, name) for name in NAMES]

    async def body() -> None:
        trading = Trading(world, 7)
        async with writing_here(world), streaming(world.path, QUICK) as at:
            for _ in range(30):
                trading.block()
            await at.caught_up()
            async with client(at.url) as one, client(at.url) as two:
                for who in (one, two):
                    for channel in ("trades", "ticker", "mark", "funding"):
                        for instrument in (BTC, OTHER):
                            await who.subscribe(channel, instrument=instrument)
                    for number in numbers:
                        await who.subscribe("account", account=number)
                    await who.subscribe("instruments")
                    await who.subscribe("status")
                start = at.replica.seq - 1
                for turn in range(90):
                    trading.block()
                    if turn % 4 == 0:
                        await at.caught_up()
                        await asyncio.sleep(0.01)
                world.process(world.operator(c.HaltMarket(OTHER, True, "for a test")))
                await settle(at, one, two)
                status = plain([shown(views.status(at.replica.state))])[0]
                for who in (one, two):  # it has a pace of its own
                    while who.frames["status", 0][-1]["data"] != status:
                        await who.next()
                await _compare_markets(at, one, start)
                for number in numbers:
                    await _compare_account(at, one, number, start)
                assert one.frames["instruments", 0][-1]["data"]["instruments"][0]["halted"] == "for a test"
                assert {k: v[1:] for k, v in one.frames.items()} == {k: v[1:] for k, v in two.frames.items()}

    run(body())
    world.close()


async def _compare_markets(at: Served, one: Client, start: int) -> None:
    history = at.hub.history
    for instrument in (BTC, OTHER):
        after = Cursor(None, (start, 2**62), 1_000)
        told = items(one.frames["trades", instrument][1:])
        assert told and told == plain((await history.trades(instrument, after)).items)
        assert items(one.frames["funding", instrument][1:]) == plain((await history.funding(instrument, after)).items)
        ticker = one.frames["ticker", instrument][-1]["data"]
        now = plain([history.ticker(instrument)])[0]
        moving = ("seq", "time_us")
        assert {k: v for k, v in ticker.items() if k not in moving} == {k: v for k, v in now.items() if k not in moving}
        mark, last = one.frames["mark", instrument][-1]["data"], plain([history.mark(instrument)])[0]
        assert (mark["mark_atoms"], mark["index_atoms"]) == (last["mark_atoms"], last["index_atoms"])


async def _compare_account(at: Served, one: Client, number: int, start: int) -> None:
    history, frames = at.hub.history, one.frames["account", number]
    after = Cursor(None, (start, 2**62), 1_000)
    assert items(frames[1:], "fills") == plain((await history.fills(number, after)).items)
    assert items(frames[1:], "events") == plain((await history.events(number, after)).items)
    view = plain([shown(views.account(at.replica.state.accounts[number]))])[0]
    last = frames[-1]["data"]["account"]
    for name in ("cash_atoms", "orders", "triggers", "mode", "holdings", "pledged_atoms"):
        assert last[name] == view[name]
    newest: dict[str, Frame] = {}
    for status in items(frames[1:], "orders"):
        newest[status["client_order_id"]] = status
    assert newest
    for client_id, status in newest.items():
        assert status == plain([history.order(number, int(client_id))])[0]


def test_coming_back_brings_what_was_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribing with `after` begins with everything after that entry, wherever it is kept; and says `gap` when it is
    too much, or lies in the future."""
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")
    number = account_of(world, "alice")

    async def body() -> None:
        trading = Trading(world, 11)
        for _ in range(60):
            trading.block()
        async with writing_here(world), streaming(world.path, QUICK) as at, client(at.url) as one:
            await at.caught_up()
            history = at.hub.history
            for after in (0, at.replica.seq // 2, at.replica.seq - 1):
                cursor = Cursor(None, (after, 2**62), 1_000)
                for channel, ask in (("trades", history.trades), ("funding", history.funding)):
                    frame = await one.subscribe(channel, instrument=BTC, after=after)  # type: ignore[arg-type]
                    assert not frame["gap"]
                    assert frame["data"]["items"] == plain((await ask(BTC, cursor)).items)
                frame = await one.subscribe("account", account=number, after=after)
                assert frame["data"]["fills"] == plain((await history.fills(number, cursor)).items)
                assert frame["data"]["events"] == plain((await history.events(number, cursor)).items)
                assert frame["data"]["cash_atoms"] == str(at.replica.state.accounts[number].cash)
            monkeypatch.setattr("clearing.api.stream.hub._REACH_S", 0.1)
            beyond = await one.subscribe("trades", instrument=BTC, after=at.replica.seq + 5)
            assert beyond["gap"] and beyond["data"]["items"] == plain(history.latest_trades(BTC, 50))
            monkeypatch.setattr("clearing.api.stream.backfill.MAX_ITEMS", 5)
            assert MAX_ITEMS > 5
            many = await one.subscribe("account", account=number, after=0)
            assert many["gap"] and many["data"]["fills"] == [] and many["data"]["events"] == []

    run(body())
    world.close()


def test_what_happens_while_the_past_is_read_is_in_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading what was missed may take time, in which trading goes on: the snapshot has that too, once, and the deltas
    go on from there."""
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")
    number = account_of(world, "alice")

    async def body() -> None:
        trading = Trading(world, 19)
        for _ in range(30):
            trading.block()
        async with writing_here(world), streaming(world.path, QUICK) as at, client(at.url) as one:
            await at.caught_up()
            history, events, turns = at.hub.history, at.hub.history.events, iter(range(3))

            async def slowly(account: int, cursor: Cursor) -> Any:
                page = await events(account, cursor)
                if next(turns, None) is not None:
                    before = at.replica.seq
                    for _ in range(6):
                        trading.block()
                    await until(lambda: at.replica.seq > before + 6)
                return page

            monkeypatch.setattr(history, "events", slowly)
            await one.subscribe("account", account=number, after=0)
            assert next(turns, None) is None
            for _ in range(6):
                trading.block()
            await settle(at, one)
            cursor = Cursor(None, (0, 2**62), 1_000)
            frames = one.frames["account", number]
            for name, ask in (("fills", history.fills), ("events", events)):
                told = items(frames, name)
                assert told and told == plain((await ask(number, cursor)).items)

    run(body())
    world.close()


@pytest.mark.slow
def test_missed_by_one_process_and_told_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes on with another process after a break, while trading went on, has every trade once."""
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")

    async def body() -> None:
        trading = Trading(world, 3)
        async with writing_here(world):
            told: list[Frame] = []
            after: int | None = None
            for _ in range(4):
                async with streaming(world.path, QUICK) as at, client(at.url) as one:
                    frame = await one.subscribe("trades", instrument=BTC, **({} if after is None else {"after": after}))
                    assert not frame["gap"]
                    for _ in range(12):
                        trading.block()
                        await asyncio.sleep(0.005)
                    await settle(at, one)
                    told += items(one.frames["trades", BTC])
                    after = one.seen["trades", BTC]
                for _ in range(8):
                    trading.block()
            async with streaming(world.path, QUICK) as at:
                await at.caught_up()
                page = await at.hub.history.trades(BTC, Cursor(None, (0, 0), 1_000))
                known = [trade for trade in plain(page.items) if trade["seq"] <= (after or 0)]
                assert known and told == known

    run(body())
    world.close()


def test_a_history_that_begins_anew_is_a_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that the tapes missed are no silent hole: subscribers hear `reset`, and get a snapshot that has them."""
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")

    async def body() -> None:
        trading = Trading(world, 5)
        async with writing_here(world), streaming(world.path, QUICK, faults_ok=True) as at, client(at.url) as one:
            await one.subscribe("trades", instrument=BTC)
            await one.subscribe("book", instrument=BTC)
            history, may_read = at.hub.history, threading.Event()
            await history.ready(20.0)
            monkeypatch.setattr(history, "_read", _after(may_read, history._read))
            history._restart()
            for _ in range(12):
                trading.block()
            await until(lambda: at.replica.seq == at.store.head().next_seq)
            may_read.set()
            await history.ready(20.0)
            for _ in range(12):
                trading.block()
            await settle(at, one)
            resets = [frame for frame in one.others if frame["type"] == "reset"]
            assert [(frame["channel"], frame["reason"]) for frame in resets] == [("trades", "HISTORY_RESTARTED")]
            snapshots = [frame for frame in one.frames["trades", BTC] if frame["type"] == "snapshot"]
            assert len(snapshots) == 2 and snapshots[1]["seq"] > snapshots[0]["seq"]
            at_reset = one.frames["trades", BTC].index(snapshots[1])
            told = items(one.frames["trades", BTC][at_reset:])
            page = await at.hub.history.trades(BTC, Cursor(None, (told[0]["seq"], told[0]["index"] - 1), 1_000))
            assert told == plain(page.items)

    run(body())
    world.close()


def _after(event: threading.Event, work: Any) -> Any:
    def run_it(*args: Any) -> Any:
        assert event.wait(20.0)
        return work(*args)

    return run_it


@pytest.mark.slow
def test_epochs_and_checkpoints_are_told(venue: World) -> None:
    """A closed epoch is told with the hashes of its headers, once; a checkpoint follows the journal."""

    async def body(node: Any) -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            assert (await one.subscribe("epochs"))["data"] is None
            before = await one.subscribe("checkpoint")
            for epoch in (1, 2):
                venue.nonces += 1
                (found,) = await at.link.submit([venue.operator(c.CloseEpoch(epoch, ((epoch, bytes(32)),)))])
                assert not isinstance(found, Exception), found
                await asyncio.to_thread(node.book.flush)
                frame = await one.until(lambda frame: frame["type"] == "delta" and frame["channel"] == "epochs")
                record = node.book.load(epoch)
                assert frame["data"]["epoch"] == epoch and frame["data"]["state"] == "closed"
                assert frame["data"]["header_hashes"] == [
                    {"vault": 0, "header_hash": "0x" + record.part(0).header_hash.hex()}
                ]
            heads = one.frames["checkpoint", 0]
            await one.until(lambda frame: heads[-1]["data"]["size"] == at.replica.head)
            # Null if the replica had not heard the sequencer by then.
            assert heads[-1]["data"]["size"] > (before["data"] or {"size": 0})["size"]
            async with client(at.url) as two:
                assert (await two.subscribe("epochs"))["data"]["epoch"] == 2

    with node_of(venue.path) as node:
        run(body(node))


# --- commands ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_submits_get_receipts_of_what_the_journal_holds(venue: World) -> None:
    """Results are per envelope and in their place; the same bytes get the same receipt; what was done is told on the
    channels; and all is as the journal has it."""
    raws = trades(venue, 1, 4)
    forged = venue.batch("alice", order(coid=900), seed=b"\x07" * 32)

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            await one.subscribe("trades", instrument=BTC)
            results = await one.submit([*raws[:4], forged, *raws[4:]])
            assert results.pop(4)["code"] == "UNKNOWN_KEY"
            again = await one.submit(raws, outcomes=True)
            await settle(at, one)
            assert [row["seq"] for row in again] == [row["seq"] for row in results]
            for row, told in zip(results, again, strict=True):
                assert at.store.entry(row["seq"]) is not None
                assert row["rejected"] == [] and row["checkpoint"]["size"] > row["seq"]
                assert "outcomes" not in row and told["outcomes"][0]["type"] == "OrderPlaced"
                assert told["entry_hash"] == row["entry_hash"]
            seqs = [trade["seq"] for trade in items(one.frames["trades", BTC])]
            assert seqs == [row["seq"] for row in results][1::2]

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_frames_of_many_clients_are_sequenced_in_each_ones_order(venue: World) -> None:
    """Pipelined submits are answered by frame, and a connection's orders keep its order."""
    batches = {name: [venue.batch(name, order(coid=coid, price=40_000 * 10_000)) for coid in range(1, 61)]
               for name in ("alice", "bob")}  # fmt: skip

    async def one_client(at: Served, name: str) -> list[int]:
        async with client(at.url) as one:
            sent = [
                await one.send(op="submit", envelopes=["0x" + raw.hex() for raw in batches[name][start : start + 3]])
                for start in range(0, 60, 3)
            ]
            found: dict[int, list[Frame]] = {}
            while len(found) < len(sent):
                frame = await one.next()
                if frame["type"] == "results":
                    found[frame["id"]] = frame["results"]
                    assert frame["seq"] == max(row["seq"] for row in frame["results"])
            return [row["seq"] for number in sent for row in found[number]]

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at:
            await priced(venue, at)
            alice, bob = await asyncio.gather(one_client(at, "alice"), one_client(at, "bob"))
            assert alice == sorted(alice) and bob == sorted(bob) and not set(alice) & set(bob)

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_without_a_sequencer_reads_go_on_and_retries_do_no_harm(venue: World) -> None:
    """When the sequencer is gone, submits say so, heartbeats say stale, and snapshots are served; when it is back, the
    same bytes are carried out once."""
    raw = venue.batch("alice", order(coid=77, price=40_000 * 10_000))

    async def body(first: Writer) -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one:
            await priced(venue, at)
            await one.subscribe("book", instrument=BTC)
            first.kill()
            await until(lambda: not at.link.connected)
            assert [row["code"] for row in await one.submit([raw])] == ["SEQUENCER_UNREACHABLE"]
            await one.until(lambda frame: frame["type"] == "heartbeat" and frame["stale"])
            assert (await one.subscribe("trades", instrument=BTC))["data"]["items"] == []
            with writing(venue.path):
                assert await at.link.wait_connected(20.0)
                (done,) = await one.submit([raw])
                (again,) = await one.submit([raw])
                assert done["seq"] == again["seq"] and done["rejected"] == []
                await settle(at, one)
                assert one.frames["book", BTC][-1]["data"]["bids"] == [[str(40_000 * 10_000), "1", 1]]

    with writing(venue.path) as first:
        run(body(first))


@pytest.mark.slow
def test_limits_are_of_the_connection_and_of_the_key(venue: World) -> None:
    """Too much is refused whole, with a time to come again; another key on another connection is not touched by it,
    the same key on another connection is."""
    limits = Limits(heartbeat_s=0.1, submits_per_second=5, submits_burst=6, key_per_second=2, key_burst=4, under_way=50)
    raws = {name: [venue.batch(name, order(coid=n, price=40_000 * 10_000)) for n in range(1, 9)]
            for name in ("alice", "bob")}  # fmt: skip

    async def submit(one: Client, chosen: list[bytes]) -> Frame:
        return await one.ask(op="submit", envelopes=["0x" + raw.hex() for raw in chosen])

    async def body() -> None:
        async with streaming(venue.path, limits) as at, client(at.url) as one, client(at.url) as two:
            await priced(venue, at)
            assert (await submit(one, raws["alice"][:7]))["code"] == "RATE_LIMITED", "the connection's"
            assert (await submit(one, raws["alice"][:4]))["type"] == "results"
            refused = await submit(two, raws["alice"][4:8])
            assert refused["code"] == "RATE_LIMITED" and refused["retry_after_ms"] >= 1_000, "the key's"
            assert (await submit(two, raws["bob"][:1]))["type"] == "results"
            await asyncio.sleep(refused["retry_after_ms"] / 1_000)
            assert (await submit(two, raws["alice"][4:6]))["type"] == "results"
            await at.caught_up()
            number = account_of(venue, "alice")
            placed = {o.client_order_id for o in at.replica.state.accounts[number].orders.values()}
            assert placed == {1, 2, 3, 4, 5, 6}, "what was refused was not placed"

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_what_cannot_be_subscribed_to_is_said(venue: World) -> None:
    """Errors have a code and leave the connection as it was."""

    async def body() -> None:
        async with streaming(venue.path, Limits(subscriptions=3)) as at, client(at.url) as one:
            for code, ask in (
                ("UNKNOWN_INSTRUMENT", {"channel": "book", "instrument": 99}),
                ("UNKNOWN_ACCOUNT", {"channel": "account", "account": 10_000}),
                ("BAD_PARAMETER", {"channel": "book"}),
                ("BAD_PARAMETER", {"channel": "book", "instrument": 1, "account": 1}),
                ("BAD_PARAMETER", {"channel": "status", "instrument": 1}),
                ("BAD_PARAMETER", {"channel": "account", "instrument": 1}),
                ("MALFORMED", {"channel": "orders"}),
            ):
                answer = await one.ask(op="subscribe", **ask)
                assert (answer["type"], answer["code"]) == ("error", code)
            for channel in ("book", "trades", "ticker"):
                await one.subscribe(channel, instrument=BTC)
            assert (await one.ask(op="subscribe", channel="mark", instrument=BTC))["code"] == "TOO_MANY_SUBSCRIPTIONS"
            assert (await one.subscribe("book", instrument=BTC))["type"] == "snapshot", "again is no new one"
            assert (await one.ask(op="unsubscribe", channel="book", instrument=BTC))["type"] == "unsubscribed"
            assert (await one.subscribe("mark", instrument=BTC))["data"]["mark_atoms"] == str(50_000 * 10_000)
            assert (await one.ask(op="ping"))["op"] == "pong"
            assert not at.hub._topics.keys() & {("book", BTC)}, "nobody listens any more"

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_the_stream_works_on_a_plain_server_too(venue: World) -> None:
    """Without the protocol class of ours, frames take the ordinary way."""
    settings = {"ws": "websockets-sansio", "ws_per_message_deflate": False}
    assert SETTINGS["ws"] != settings["ws"]

    async def body() -> None:
        async with streaming(venue.path, QUICK, settings=settings) as at, client(at.url) as one:
            await priced(venue, at)
            await one.subscribe("book", instrument=BTC)
            results = await one.submit([venue.batch("alice", order(coid=1, price=40_000 * 10_000))])
            assert results[0]["rejected"] == []
            await settle(at, one)
            assert one.frames["book", BTC][-1]["type"] == "delta"
            await one.send(op="leave")
            await one.until(lambda frame: frame["type"] == "left")
            assert (await one.closed())[0] == 1000

    with writing(venue.path):
        run(body())


@pytest.mark.slow
def test_a_stop_answers_what_is_under_way_and_says_restart(venue: World) -> None:
    """At shutdown, what was submitted gets its receipt, then everyone 1012."""

    async def body() -> None:
        async with streaming(venue.path, QUICK) as at, client(at.url) as one, client(at.url) as idle:
            await priced(venue, at)
            raws = [venue.batch("alice", order(coid=n, price=40_000 * 10_000)) for n in range(1, 41)]
            number = await one.send(op="submit", envelopes=["0x" + raw.hex() for raw in raws])
            async with asyncio.timeout(PATIENCE_S):
                while not any(session._under_way for session in at.hub.sessions):
                    await asyncio.sleep(0)  # each turn: it may be answered in a few milliseconds
            closing = asyncio.create_task(at.stream.close())
            answer = await one.until(lambda frame: frame.get("id") == number)
            assert len(answer["results"]) == 40 and all("seq" in row for row in answer["results"])
            assert [await who.closed() for who in (one, idle)] == [(1012, "RESTART")] * 2
            await closing

    with writing(venue.path):
        run(body())


def test_scope(venue: World) -> None:
    """Constants that the documents promise."""
    assert Limits().bad_frames == 20 and Limits().subscriptions == 200
    assert (Limits().queue_bytes, Limits().queue_frames) == (1 << 20, 1_000)
    assert SETTINGS["ws_max_size"] > ids.MAX_ENVELOPE_BYTES * 2
