# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds stay whole whatever is lost on the way.

Rules: frames of a history that is known whole are delivered with losses, repetitions, resets and new connections, as
the protocol allows them. A feed may say that it is stale; it may never show something false while it does not, and a
tape hands every item out once, in order. Where the stream cannot tell any more, it asks over REST; that is answered
here from the same history.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.client import feeds
from clearing.client.asks import Ask
from clearing.client.book import Book
from clearing.client.errors import ApiError
from clearing.client.feeds import Feed
from clearing.client.frames import decode_frame

T = TypeVar("T")
SHOWN = 3  # trades in a snapshot without `after`; and what `after` may ask for before there is a gap


class Venue:
    """The truth: one entry per change. It is the server's side of a stream as far as a feed sees it."""

    stale = False

    def __init__(self) -> None:
        self.seq = 10
        self.levels: dict[tuple[str, int], int] = {}
        self.trades: list[dict[str, Any]] = []
        self.asked = 0
        self.forgotten = False

    # --- what happens

    def change(self, side: str, price: int, lots: int) -> dict[str, Any]:
        """A level becomes `lots`; the data of its delta."""
        self.seq += 1
        if lots:
            self.levels[side, price] = lots
        else:
            self.levels.pop((side, price), None)
        rows = [[str(price), str(lots), 1 if lots else 0]]
        return {"bids": rows if side == "bids" else [], "asks": rows if side == "asks" else []}

    def trade(self, count: int) -> dict[str, Any]:
        """Some trades of one entry."""
        self.seq += 1
        made = [
            {"seq": self.seq, "index": index, "time_us": 1, "instrument": 1, "price_atoms": "5", "size_lots": "1",
             "side": "buy"} for index in range(count)
        ]  # fmt: skip
        self.trades += made
        return {"items": made}

    # --- what a subscription is told first

    def book(self) -> dict[str, Any]:
        rows = {
            side: [[str(p), str(n), 1] for (s, p), n in self.levels.items() if s == side] for side in ("bids", "asks")
        }
        return {"type": "snapshot", "channel": "book", "instrument": 1, "seq": self.seq, "prev_seq": None, "data": rows}

    def tape(self, after: int | None) -> dict[str, Any]:
        since = [row for row in self.trades if after is not None and row["seq"] > after]
        gap = after is not None and len(since) > SHOWN
        items = self.trades[-SHOWN:] if after is None or gap else since
        return {"type": "snapshot", "channel": "trades", "instrument": 1, "seq": self.seq, "prev_seq": None, "gap": gap,
                "data": {"items": items}}  # fmt: skip

    # --- the host's side

    async def call(self, ask: Ask[T]) -> T:
        """REST: trades after a cursor, two a page; now and then it is busy."""
        self.asked += 1
        if self.asked % 7 == 0:
            raise ApiError("OVERLOADED", "later", 503, 0.0)
        cursor = ask.path.split("after=")[1].split("&")[0].split("-")
        place = (int(cursor[0]), int(cursor[1]) if len(cursor) > 1 else 2**63)
        rest = [row for row in self.trades if (row["seq"], row["index"]) > place]
        page = rest[:2]
        more = f"{page[-1]['seq']}-{page[-1]['index']}" if len(rest) > 2 else None
        return ask.read(msgspec.json.encode({"items": page, "next": more}))

    def forget(self, feed: Feed[Any]) -> None:
        self.forgotten = True


def give(feed: Feed[Any], frame: dict[str, Any]) -> bool:
    return feed.take(decode_frame(msgspec.json.encode(frame)))


# What happens to a delta on its way: it comes, it is lost, it comes twice, the server breaks the sequence, or the
# connection ends and is made again.
FATES = st.sampled_from(["comes"] * 6 + ["lost", "twice", "reset", "reconnect"])


CHANGES = st.tuples(st.sampled_from(["bids", "asks"]), st.integers(1, 4), st.integers(0, 3), FATES)


@given(st.lists(CHANGES, min_size=1, max_size=40))
def test_a_book_is_right_or_says_that_it_is_not(steps: list[tuple[str, int, int, str]]) -> None:
    """Whenever the book is not stale it is the truth of its `seq`, which is the newest; and it always gets there."""
    venue = Venue()
    book = Book(venue, 1)
    give(book, venue.book())
    for side, price, lots, fate in steps:
        before = venue.seq
        data = venue.change(side, price, lots)
        delta = {
            "type": "delta",
            "channel": "book",
            "instrument": 1,
            "seq": venue.seq,
            "prev_seq": before,
            "data": data,
        }
        wanted = True
        if fate == "reconnect":
            book.lost()
            assert book.stale
            assert book.asking() == {"op": "subscribe", "channel": "book", "instrument": 1}
            give(book, venue.book())
        elif fate == "reset":
            give(book, {"type": "reset", "channel": "book", "instrument": 1, "reason": "LAGGED"})
            assert book.stale
            give(book, venue.book())
        elif fate != "lost":
            for _ in range(2 if fate == "twice" else 1):
                wanted = give(book, delta)
            if not wanted:
                assert book.stale
                give(book, venue.book())
        if not book.stale and book.seq == venue.seq:
            assert held(book) == venue.levels
    give(book, venue.book()) if book.stale else None
    if book.seq != venue.seq:  # the last ones were lost: the next delta tells
        before = venue.seq
        data = venue.change("bids", 1, 1)
        frame = {
            "type": "delta",
            "channel": "book",
            "instrument": 1,
            "seq": venue.seq,
            "prev_seq": before,
            "data": data,
        }
        assert not give(book, frame) and book.stale
        give(book, venue.book())
    assert not book.stale and held(book) == venue.levels
    bids, asks = [level.price_atoms for level in book.bids], [level.price_atoms for level in book.asks]
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
    assert book.best_bid == next(iter(book.bids), None) and book.best_ask == next(iter(book.asks), None)


def held(book: Book) -> dict[tuple[str, int], int]:
    sides = (("bids", book.bids), ("asks", book.asks))
    return {(side, level.price_atoms): level.size_lots for side, levels in sides for level in levels}


async def read(feed: AsyncIterator[Any], into: list[tuple[int, int]]) -> None:
    async for item in feed:
        into.append((item.seq, item.index))  # noqa: PERF401 - looked at while it grows


@pytest.mark.slow
@pytest.mark.parametrize("most", [2, 10_000])
@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.integers(1, 4), FATES, st.booleans()), min_size=1, max_size=25),
    after=st.none() | st.just(5),
)
def test_a_tape_hands_out_each_item_once(most: int, steps: list[tuple[int, str, bool]], after: int | None) -> None:
    """Every trade after the beginning, once and in order: through losses, and with a reader who sleeps for so long that
    what waits for it is dropped (`most`)."""

    async def body() -> None:
        venue = Venue()
        venue.trade(1)
        tape = feeds.trades_of(venue, 1, after)
        tape._most = most
        give(tape, venue.tape(after))
        got: list[tuple[int, int]] = []
        reader: asyncio.Task[None] | None = None
        for count, fate, reads in steps:
            if reads and reader is None:
                reader = asyncio.create_task(read(aiter(tape), got))
            before = venue.seq
            data = venue.trade(count)
            delta = {
                "type": "delta",
                "channel": "trades",
                "instrument": 1,
                "seq": venue.seq,
                "prev_seq": before,
                "data": data,
            }
            if fate in ("reconnect", "reset"):
                if fate == "reset":
                    give(tape, {"type": "reset", "channel": "trades", "instrument": 1, "reason": "LAGGED"})
                tape.lost()
                give(tape, venue.tape(tape.asking().get("after")))
            elif fate != "lost":
                for _ in range(2 if fate == "twice" else 1):
                    if not give(tape, delta):
                        give(tape, venue.tape(tape.asking().get("after")))
            await asyncio.sleep(0)
        tape.lost()
        give(tape, venue.tape(tape.asking().get("after")))
        reader = reader or asyncio.create_task(read(aiter(tape), got))
        expected = [(row["seq"], row["index"]) for row in venue.trades]
        async with asyncio.timeout(20):
            while len(got) < len(expected):
                await asyncio.sleep(0.001)
        assert got == expected
        await tape.close()
        await reader
        assert venue.forgotten

    asyncio.run(body())


def test_a_refused_subscription_is_raised_to_whoever_reads() -> None:
    """`ready`, `changed` and iteration raise the operator's word, at once."""

    async def body() -> None:
        book = Book(Venue(), 9)
        book.fail(ApiError("UNKNOWN_INSTRUMENT", "there is no instrument 9", 400))
        with pytest.raises(ApiError, match="UNKNOWN_INSTRUMENT"):
            await book.ready(1)
        with pytest.raises(ApiError, match="UNKNOWN_INSTRUMENT"):
            async for _ in book:
                pass

    asyncio.run(body())
