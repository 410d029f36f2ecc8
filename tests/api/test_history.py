# SPDX-License-Identifier: GPL-3.0-or-later
"""History: whoever was told live, whoever read the journal after a restart, and whoever adds it all up slowly know
the same; and pages hold each item once, whatever happens meanwhile."""

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.api.history import Cursor, History, Slice, main
from clearing.api.history.candles import CandleBook
from clearing.api.history.cursor import cursor as parse
from clearing.api.history.journal import Reader
from clearing.api.history.saved import path_of
from clearing.api.history.tapes import Limits
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError, Refused
from tests.api.markets import (
    NAMES,
    OTHER,
    Plain,
    Trading,
    all_pages,
    caught_up,
    context_of,
    history_of,
    open_market,
    quick_follower,
    told,
    writing_here,
)
from tests.api.venue import following, run, until
from tests.service.world import BTC, SECOND, World, order

SEEDS = (1, 2)
HOUR = 3_600 * SECOND


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    quick_follower(monkeypatch)
    world = open_market(tmp_path / "venue")
    yield world
    world.close()


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Name what differs, not all of it."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert _plain(found[name]) == _plain(value), name


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("seed", SEEDS)
def test_live_rebuilt_and_slow_agree(world: World, seed: int) -> None:
    """Over two days with a restart in the middle of them; the journal is written while history is made."""
    trading = Trading(world, seed)
    for _ in range(40):
        trading.block()

    async def body() -> None:
        async with writing_here(world):
            async with history_of(world.path) as (live, replica):
                for number in range(60):
                    trading.block(step_us=HOUR if number % 2 else 0)
                    if not number % 20:
                        await caught_up(live, replica, world.store)
                await caught_up(live, replica, world.store)
                accounts = len(replica.state.accounts)
                expected = Plain(world.store).told(accounts)
                assert len(expected[f"trades {BTC}"]) > 100, "there is something to compare"
                words = {order["status"] for name, order in expected.items() if name.startswith("order ")}
                assert words >= {"filled", "cancelled", "rejected"}
                same(await told(live, accounts), expected)
                open_live = {order.order_id: order.message() for order in live._tapes.orders.open.values()}
                assert set(open_live) == {*replica.state.orders, *replica.state.triggers}
                for order in replica.state.orders.values():
                    assert open_live[order.order_id].open_lots == str(order.open_lots)
            async with history_of(world.path) as (rebuilt, replica):
                same(await told(rebuilt, accounts), expected)

    run(body())


def test_slices_are_what_pages_show(world: World) -> None:
    """A snapshot at `seq` - 1 and the slices after it join: no item twice, none missing."""
    trading = Trading(world, 11)
    for _ in range(20):
        trading.block()

    async def body() -> None:
        async with writing_here(world), history_of(world.path) as (history, replica):
            seen: dict[int, list[Any]] = {number: history.latest_trades(number, 10_000) for number in (BTC, OTHER)}
            accounts = range(16)
            fills = {number: history.latest_fills(number, 10_000) for number in accounts}
            slices: list[Slice] = []

            def take(slice_: Slice) -> None:
                assert history.seq == replica.seq == slice_.seq + 1
                slices.append(slice_)
                for number, trades in slice_.trades.items():
                    seen[number] += trades
                for account, some in slice_.fills.items():
                    fills[account] += some
                for account, orders in slice_.orders.items():
                    for order in orders:
                        now = history.order(account, int(order.client_order_id))
                        assert order == now or order.order_id != now.order_id or order.order_id is None
                    assert account in slice_.accounts

            leave = history.on_events(take)
            for _ in range(30):
                trading.block()
                await caught_up(history, replica, world.store)
            leave()
            trading.block()
            plain = Plain(world.store)
            await caught_up(history, replica, world.store)
            last = slices[-1].seq
            for number in (BTC, OTHER):
                expected = [(t["seq"], t["index"]) for t in plain.trades[number] if t["seq"] <= last]
                assert [(trade.seq, trade.index) for trade in seen[number]] == expected
            for account in accounts:
                wanted = [(f["seq"], f["index"], f["role"]) for f in plain.fills[account] if f["seq"] <= last]
                assert [(fill.seq, fill.index, fill.role) for fill in fills[account]] == wanted
            assert [s.first_seq for s in slices[1:]] == [s.seq + 1 for s in slices[:-1]], "no entry twice, none lost"
            assert any(s.marks for s in slices)

    run(body())


@pytest.mark.parametrize(("reach", "page_entries"), [(0, 20_000), (1, 40), (60, 30), (100_000, 20_000)])
@pytest.mark.slow
def test_pages_hold_each_item_once_while_more_arrive(world: World, reach: int, page_entries: int) -> None:
    """In both directions, with pages smaller than an entry, memory smaller than a page, a journal behind it that was or
    was not read at the start, and pages that end before they are full since they looked into enough."""
    trading = Trading(world, 5)
    for _ in range(30):
        trading.block()
    limits = Limits(trades=20, funding=1, fills=30, events=10, orders=5)

    async def body() -> None:
        choices = {"reach": reach, "limits": limits, "page_entries": page_entries}
        async with writing_here(world), history_of(world.path, **choices) as (history, replica):
            start = Plain(world.store)
            account = max(range(3, 3 + len(NAMES)), key=lambda number: len(start.fills[number]))
            asked: dict[str, tuple[Any, Any]] = {
                "trades": (lambda at: history.trades(BTC, at), lambda plain: plain.trades[BTC]),
                "fills": (lambda at: history.fills(account, at), lambda plain: plain.fills[account]),
                "events": (lambda at: history.events(account, at), lambda plain: plain.events[account]),
                "funding": (lambda at: history.funding(BTC, at), lambda plain: plain.funding[BTC]),
            }
            for name, (ask, pick) in asked.items():
                for limit, forward in ((1, False), (7, False), (3, True), (1_000, True)):
                    await caught_up(history, replica, world.store)
                    before = pick(Plain(world.store))

                    async def paged(at: Cursor, ask: Any = ask) -> Any:
                        page = await ask(at)
                        if trading.random.random() < 0.2:
                            trading.block()
                        return page

                    found = _shown(await all_pages(paged, limit, forward))
                    after = _keys(pick(Plain(world.store)))
                    assert found[: len(before)] == _keys(before), (name, limit, forward)
                    assert found == after[: len(found)], (name, limit, forward)
            await caught_up(history, replica, world.store)

    run(body())


def _keys(items: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(item["seq"], item["index"], item.get("role"), item.get("client_order_id")) for item in items]


def _shown(items: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (item.seq, item.index, getattr(item, "role", None), getattr(item, "client_order_id", None)) for item in items
    ]


@pytest.mark.slow
def test_what_was_not_read_at_the_start(world: World) -> None:
    """Orders from before it are known as far as the state knows them, and end as they do; tapes below it come from
    the journal as if they had been read."""
    trading = Trading(world, 8)
    for _ in range(60):
        trading.block()

    async def body() -> None:
        async with writing_here(world), history_of(world.path, reach=40) as (history, replica):
            plain = Plain(world.store)
            partial = [o for o in history._tapes.orders.open.values() if o.filled is None]
            assert partial, "some orders are older than what was read"
            for held in replica.state.orders.values():
                shown = history.order(held.account.number, held.client_order_id)
                assert (shown.status, shown.open_lots) == ("open", str(held.open_lots))
                assert shown.price_atoms == str(held.price)
            for _ in range(60):
                trading.block()
            await caught_up(history, replica, world.store)
            plain = Plain(world.store)
            ended = 0
            for order in partial:
                now, truth = order.message(), plain.by_id[order.order_id]
                ended += truth["status"] != "open"
                assert (now.status, now.reason) == (truth["status"], truth["reason"])
                assert now.status == "open" or now.seq == truth["seq"]
            assert ended
            accounts = len(replica.state.accounts)
            found, expected = await told(history, accounts), plain.told(accounts)
            for name in expected:
                if name.startswith(("trades", "fills", "events", "funding")):
                    assert found[name] == expected[name], name

    run(body())


def test_an_order_from_before_that_is_half_done(world: World) -> None:
    """Of one that was placed before what was read, and filled by as much as it still has, the rest is open."""
    world.ok(world.batch("alice", order(size=10)))

    async def body() -> None:
        world.ok(world.batch("bob", order(ids.SELL, size=5)))
        account = world.reducer.state.accounts[-len(NAMES)].number
        async with writing_here(world), history_of(world.path, reach=1) as (history, replica):
            found = history.order(account, 1)
            assert (found.status, found.open_lots, found.filled_lots) == ("open", "5", None)
            (fill,) = history.latest_fills(account)
            assert (fill.client_order_id, fill.side, fill.role) == ("1", "buy", "maker")
            world.ok(world.batch("bob", order(ids.SELL, size=5, coid=2)))
            await caught_up(history, replica, world.store)
            found = history.order(account, 1)
            assert (found.status, found.open_lots, found.seq) == ("filled", "0", replica.seq - 1)

    run(body())


def test_memory_that_forgets_during_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten while older items are read from disk is on the next page."""
    trading = Trading(world, 41)
    for _ in range(40):
        trading.block()
    above, reading, more_came = Reader.above, threading.Event(), threading.Event()

    def slowly(self: Reader, *given: Any) -> Any:
        found = above(self, *given)
        reading.set()
        more_came.wait(30.0)
        return found

    monkeypatch.setattr(Reader, "above", slowly)

    async def body() -> None:
        async with writing_here(world), history_of(world.path, limits=Limits(trades=5)) as (history, replica):
            first = asyncio.create_task(history.trades(BTC, Cursor(after=(0, 0), limit=1_000)))
            await until(reading.is_set)
            for _ in range(20):
                trading.block()
            await until(lambda: replica.seq == world.store.head().next_seq)
            more_came.set()
            page = await first
            items, following_page = page.items, page.next
            while following_page is not None:
                page = await history.trades(BTC, parse(after=following_page, limit=1_000))
                items, following_page = items + page.items, page.next
            assert _shown(items) == _keys(Plain(world.store).trades[BTC])

    run(body())


def test_withdrawals_name_the_epoch_that_carries_them(world: World) -> None:
    async def body() -> None:
        async with writing_here(world), history_of(world.path) as (history, replica):
            seqs: list[tuple[int, int | None]] = []
            for epoch in (1, 2, 3):
                for _ in range(epoch):
                    (receipt,) = world.ok(world.batch("alice", c.Withdraw(0, 0, 5)))
                    seqs.append((receipt.seq, epoch))
                world.ok(world.operator(c.CloseEpoch(epoch, ((epoch, bytes(32)),))))
                world.book.flush()
            (receipt,) = world.ok(world.batch("alice", c.Withdraw(0, 0, 5)))
            seqs.append((receipt.seq, None))
            await caught_up(history, replica, world.store)
            account = world.reducer.state.accounts[-len(NAMES)].number
            found = await all_pages(lambda at: history.withdrawals(account, at), 2, False)
            assert [event.seq for event in found] == [seq for seq, _ in seqs]
            assert [await history.epoch_after(seq) for seq, _ in seqs] == [epoch for _, epoch in seqs]
        async with writing_here(world), history_of(world.path, reach=1) as (history, _):
            assert [await history.epoch_after(seq) for seq, _ in seqs] == [epoch for _, epoch in seqs], "from disk"
            assert [event.seq for event in await all_pages(lambda at: history.withdrawals(account, at), 2, True)] == [
                seq for seq, _ in seqs
            ]

    run(body())


@pytest.mark.slow
@pytest.mark.parametrize("room", [100_000, 5])
def test_what_comes_while_the_journal_is_read(world: World, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Counts once: whether it may wait, or is too much for that and is read from the journal as well."""
    trading = Trading(world, 17)
    for _ in range(20):
        trading.block()
    monkeypatch.setattr(main, "_MAX_WAITING", room)
    read, held, reads = History._read, threading.Event(), []

    def slowly(self: History, *given: Any) -> Any:
        reads.append(given[0])
        tapes = read(self, *given)
        held.wait(30.0)
        return tapes

    monkeypatch.setattr(History, "_read", slowly)

    async def body() -> None:
        async with writing_here(world), following(world.path) as replica:
            context, faults = context_of(world.path, replica, world.store)
            history = History(context)
            await until(lambda: bool(reads))
            for _ in range(20):
                trading.block()
            await until(lambda: replica.seq == world.store.head().next_seq)
            assert not history.is_ready
            with pytest.raises(NovateError) as refused:
                await history.ready(0.01)
            assert refused.value.code == "HISTORY_STARTING"
            held.set()
            await history.ready(30.0)
            assert len(reads) == (1 if room > 5 else 2)
            accounts = len(replica.state.accounts)
            same(await told(history, accounts), Plain(world.store).told(accounts))
            await history.close()
            assert not faults

    run(body())


@pytest.mark.slow
def test_candles_outlive_a_restart_that_reads_little(world: World) -> None:
    """They go on from what was saved, whichever part of it is read again; what does not fit the journal is ignored."""
    trading = Trading(world, 31)

    async def candles(**choices: Any) -> dict[str, Any]:
        async with writing_here(world), history_of(world.path, **choices) as (history, replica):
            trading.block()  # after which it saves again, at its close
            await caught_up(history, replica, world.store)
            found = await told(history, len(replica.state.accounts))
        plain = Plain(world.store).told(len(replica.state.accounts))
        names = [name for name in plain if name.startswith(("candles", "day"))]
        return {name: (found[name], plain[name]) for name in names}

    def agree(pairs: dict[str, Any]) -> bool:
        return all(_plain(found) == _plain(expected) for found, expected in pairs.values())

    async def body() -> None:
        for number in range(40):
            trading.block(step_us=HOUR if number % 2 else 0)
        assert agree(await candles())
        for reach in (1, 40):
            assert agree(await candles(reach=reach)), reach
        path = path_of(world.path)
        whole = path.read_bytes()
        other = msgspec.msgpack.decode(whole)
        other[1] = [[*row[:2], bytes(32), *row[3:]] for row in other[1]]  # of a journal that went another way
        for damaged in (b"", whole[:-1], whole.replace(b"\x01", b"\x02", 1), msgspec.msgpack.encode(other)):
            path.write_bytes(damaged)
            assert agree(await candles()), "read from the journal, all of it"
            path.write_bytes(damaged)
            assert not agree(await candles(reach=1)), "there is nothing to go on from"
        path.unlink()
        assert agree(await candles())

    run(body())


def test_a_fault_of_ours_ends_nothing(world: World) -> None:
    """The tapes are made again from the journal, and are whole."""
    trading = Trading(world, 21)

    async def body() -> None:
        async with writing_here(world), following(world.path) as replica:
            context, faults = context_of(world.path, replica, world.store)
            history = History(context)
            await history.ready(30.0)

            def broken(*_: Any) -> None:
                raise ValueError("the test says so")

            history._tapes.fold = broken  # type: ignore[assignment, method-assign]
            for _ in range(10):
                trading.block()
            await until(lambda: replica.seq == world.store.head().next_seq)
            await history.ready(30.0)
            await until(lambda: history.seq == replica.seq)
            assert [str(fault) for fault in faults] == ["the test says so"]
            assert replica.divergence is None
            accounts = len(replica.state.accounts)
            same(await told(history, accounts), Plain(world.store).told(accounts))
            await history.close()

    run(body())


# --- candles, alone ----------------------------------------------------------------------------


def test_candles_begin_at_their_boundaries() -> None:
    """A trade in the last microsecond of an interval belongs to it, one at its end to the next."""
    day = 86_400 * SECOND
    for interval in (60, 300, 3_600, 86_400):
        book, width = CandleBook(), interval * SECOND
        for time_us, price in ((day, 5), (day + width - 1, 7), (day + width, 3), (day + 3 * width, 4)):
            book.add(time_us, price, 2)
        rows = [(x.time_us, x.open_atoms, x.high_atoms, x.low_atoms, x.close_atoms, x.volume_lots, x.trades)
                for x in book.candles(interval)]  # fmt: skip
        assert rows == [
            (day, "5", "7", "5", "7", "4", 2),
            (day + width, "3", "3", "3", "3", "2", 1),
            (day + 3 * width, "4", "4", "4", "4", "2", 1),
        ]


def test_the_newest_candles_are_kept() -> None:
    book = CandleBook(kept=10)
    for number in range(25):
        book.add(number * 60 * SECOND, 100 + number, 1)
    assert [candle.time_us // (60 * SECOND) for candle in book.candles(60)] == list(range(15, 25))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_day_is_the_sum_of_its_trades(seed: int) -> None:
    """Whenever it is asked for, also long after the last trade."""
    rng, book, now = random.Random(seed), CandleBook(), 10**15
    trades: list[tuple[int, int, int]] = []
    for _ in range(600):
        now += rng.choice((0, 1, 59 * SECOND, 60 * SECOND, 700 * SECOND, 5 * HOUR))
        if rng.random() < 0.7:
            trades.append((now, rng.randint(1, 50), rng.randint(1, 9)))
            book.add(*trades[-1])
        first = (now // (60 * SECOND) - 1_439) * 60 * SECOND
        kept = [(price, lots) for time_us, price, lots in trades if time_us >= first]
        prices = [price for price, _ in kept] or [0]
        expected = (
            sum(lots for _, lots in kept), sum(price * lots for price, lots in kept), len(kept), prices[0],
            max(prices), min(prices),
        )  # fmt: skip
        assert tuple(book.day(now)) == expected


# --- cursors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"before": "x"}, {"after": "-1"}, {"before": "1-"}, {"before": "1", "after": "2"}, {"limit": 0},
              {"limit": 1_001}, {"before": "9" * 19}, {"before": "1-1-1"}, {"before": "١"}],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        parse(**given)
    assert refused.value.code == "BAD_PARAMETER"
