# SPDX-License-Identifier: GPL-3.0-or-later
"""Streamed books: whoever applies the deltas to the snapshot holds the book, always."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.api.replica import Applied
from clearing.api.stream.books import SideLevels
from clearing.api.stream.limits import Limits
from clearing.core.state import State
from clearing.service import views
from tests.api.markets import Trading, open_market, quick_follower, writing_here
from tests.api.streams import Client, Frame, Served, client, streaming
from tests.api.venue import run, until
from tests.service.world import BTC

MARKETS = (BTC, 2)
Levels = tuple[dict[str, tuple[str, int]], dict[str, tuple[str, int]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_follower(monkeypatch)


def book_of(state: State, instrument: int, depth: int) -> Levels:
    """The book as the state has it."""
    found = views.book(state.instruments[instrument], depth)
    bids, asks = (
        {str(row["price_atoms"]): (str(row["size_lots"]), row["orders"]) for row in found[side]}
        for side in ("bids", "asks")
    )
    return bids, asks


class Mirror:
    """What a client holds of a book: a snapshot, and the deltas after it."""

    def __init__(self) -> None:
        self.sides: Levels = ({}, {})

    def take(self, frame: Frame) -> None:
        if frame["type"] == "snapshot":
            self.sides = ({}, {})
        for side, rows in zip(self.sides, (frame["data"]["bids"], frame["data"]["asks"]), strict=True):
            if frame["type"] == "snapshot":
                prices = [int(price) for price, _, _ in rows]
                assert prices == sorted(prices, reverse=rows is frame["data"]["bids"])
            for price, lots, orders in rows:
                if lots == "0":
                    assert orders == 0
                    side.pop(price, None)
                else:
                    side[price] = (lots, orders)


class Record:
    """The book after every slice that the replica applied."""

    def __init__(self, at: Served, depth: int) -> None:
        self._at = at
        self._depth = depth
        self.books: dict[tuple[int, int], Levels] = {}
        self._note(at.replica.seq - 1)
        at.replica.on_entries(self._hear)

    def _hear(self, done: list[Applied]) -> None:
        self._note(done[-1].seq)

    def _note(self, seq: int) -> None:
        for instrument in MARKETS:
            self.books[instrument, seq] = book_of(self._at.replica.state, instrument, self._depth)


async def _act(rng: random.Random, one: Client, subscribed: set[int]) -> None:
    """Subscribe, subscribe again, or leave, at any moment."""
    instrument = rng.choice(MARKETS)
    if instrument in subscribed and rng.random() < 0.5:
        await one.send(op="unsubscribe", channel="book", instrument=instrument)
        subscribed.discard(instrument)
    else:
        await one.send(op="subscribe", channel="book", instrument=instrument)
        subscribed.add(instrument)


async def _compare(one: Client, record: Record, at: Served) -> int:
    """Read all that came; after each frame the mirror is the book. How many deltas there were."""
    await until(lambda: not at.hub._dirty)
    await one.ask(op="ping")
    deltas = 0
    for (channel, instrument), frames in one.frames.items():
        assert channel == "book"
        mirror = Mirror()
        for frame in frames:
            mirror.take(frame)
            deltas += frame["type"] == "delta"
            assert mirror.sides == record.books[instrument, frame["seq"]], frame
    return deltas


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 1_000])
def test_deltas_applied_to_a_snapshot_are_the_book(tmp_path: Path, depth: int) -> None:
    """Over random trading of four members in two markets, with clients that come, leave and come again at any moment
    and servers that reset: after every frame, the client's book is the replica's after the entry that the frame
    names, to the depth that is shown."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    world = open_market(tmp_path / "venue")

    async def body() -> None:
        trading = Trading(world, seed)
        limits = Limits(depth=depth, heartbeat_s=0.1)
        async with writing_here(world), streaming(world.path, limits) as at:
            await at.caught_up()
            record = Record(at, depth)
            async with client(at.url) as one, client(at.url) as two, client(at.url) as three:
                states: list[tuple[Client, set[int]]] = [(one, set()), (two, set()), (three, set())]
                for instrument in MARKETS:  # one stays throughout
                    await one.subscribe("book", instrument=instrument)
                for turn in range(120):
                    trading.block()
                    if turn % 3 == 0:
                        await at.caught_up()
                    for who, subscribed in states[1:]:
                        if rng.random() < 0.25:
                            await _act(rng, who, subscribed)
                    if turn == 60:
                        at.hub._books_lost = True
                        at.hub._wake.set()
                await at.caught_up()
                total = sum([await _compare(who, record, at) for who, _ in states])
                resets = [frame for frame in one.others if frame["type"] == "reset"]
                assert {(frame["channel"], frame["reason"]) for frame in resets} == {("book", "BOOK_RESTARTED")}
                assert total > 50, "the markets moved"
                for instrument in MARKETS:
                    last = one.frames["book", instrument][-1]["seq"]
                    assert record.books[instrument, last] == book_of(at.replica.state, instrument, depth)

    run(body())
    world.close()


@pytest.mark.slow
def test_every_change_of_the_book_is_in_an_outcome(tmp_path: Path) -> None:
    """The levels that follow the outcomes are the replica's own after every slice, at full depth; whatever cancels,
    replaces, fills or expires."""
    world = open_market(tmp_path / "venue")

    async def body() -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        trading = Trading(world, seed)
        async with writing_here(world), streaming(world.path) as at:
            seen = 0

            def compare(_: list[Applied]) -> None:
                nonlocal seen
                seen += 1
                for instrument in MARKETS:
                    data = at.hub.books.snapshot(instrument)
                    told = tuple({row[0]: (row[1], row[2]) for row in side} for side in (data.bids, data.asks))
                    assert told == book_of(at.replica.state, instrument, 1_000)

            await at.caught_up()
            async with client(at.url) as one:
                await one.subscribe("book", instrument=BTC)  # the books are there
            at.replica.on_entries(compare)
            for _ in range(150):
                trading.block()
                await at.caught_up()
            assert seen > 50
            assert at.replica.divergence is None, "a listener that raises ends the replica"

    run(body())
    world.close()


Change = tuple[int, int]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4), st.lists(st.lists(st.tuples(st.integers(-6, 6), st.integers(-3, 5)), max_size=8), max_size=12)
)
def test_the_window_moves_without_a_hole(depth: int, rounds: list[list[Change]]) -> None:
    """Only the best levels are shown: as they come and go, what is told gives exactly those, however deep the book."""
    side, held = SideLevels(depth), dict[str, tuple[Any, ...]]()
    shown: dict[str, tuple[Any, ...]] = {}
    for changes in rounds:
        for key, lots in changes:
            key += 100
            total = side.totals.get(key)
            if total is not None and (lots <= 0 or total[0] + lots <= 0):
                side.add(key, -total[0], -total[1])
            elif lots > 0:
                side.add(key, lots, 1)
        for price, amount, orders in side.take():
            if amount == "0":
                shown.pop(price, None)
            else:
                shown[price] = (amount, orders)
        held = {row[0]: row[1:] for row in side.rows()}
        assert shown == held
        assert len(held) == min(depth, len(side.keys))
