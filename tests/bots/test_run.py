# SPDX-License-Identifier: GPL-3.0-or-later
"""The bots on a venue: they quote and trade, survive what happens to connections and markets, leave nothing open."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import pytest

from clearing.bots import trader as bots
from clearing.bots.maker import Quoting
from clearing.bots.run import make, take
from clearing.bots.taker import Taking
from clearing.bots.trader import Trader, trading
from clearing.client import ApiError
from clearing.model import commands as c
from clearing.model import ids
from tests.api.venue import PATIENCE_S, run, until
from tests.bots.venue import PRICE, Open, opened
from tests.service.world import BTC, order, seed_of

QUOTING = Quoting(max_position_lots=100, size_lots=5, levels=2)


def trader_of(venue: Open, name: str, max_mark_age_s: float = 600.0) -> AbstractAsyncContextManager[Trader]:
    """A bot's connection with a member's session key."""
    return trading(venue.url, venue.account(name), seed_of(f"{name} session"), BTC, max_mark_age_s=max_mark_age_s)


async def quoting(venue: Open, during: Callable[[Trader], Awaitable[None]], max_mark_age_s: float = 600.0) -> Trader:
    """Alice makes a market while something happens; everything that she had open is gone afterwards."""
    stop = asyncio.Event()
    async with trader_of(venue, "alice", max_mark_age_s) as trader:
        bot = asyncio.create_task(make(trader, QUOTING, stop))
        try:
            await until(lambda: len(venue.orders("alice")) == 4 or bot.done())
            await during(trader)
            assert not bot.done(), bot
        finally:
            stop.set()
            await bot
    await until(lambda: venue.orders("alice") == {})
    return trader


def test_a_maker_and_a_taker_trade(tmp_path: Path) -> None:
    """The taker's orders are filled by the maker's quotes; both end flat in orders and with opposite positions."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:
            taking = Taking(max_position_lots=50, size_lots=4, per_second=50.0)

            async def during(_: Trader) -> None:
                async with trader_of(venue, "bob") as taker, asyncio.timeout(PATIENCE_S):
                    await take(taker, taking, random.Random(7), asyncio.Event(), most=20)
                assert taker.done.orders == 20 and taker.done.fills >= 20 and taker.done.rejected == {}

            maker = await quoting(venue, during)
            assert maker.done.fills >= 20 and maker.done.batches > 1
            assert venue.position("alice") == -venue.position("bob") == maker.view().position_lots

    run(body())


@pytest.mark.slow
def test_quotes_follow_the_mark_and_nothing_else_moves_them(tmp_path: Path) -> None:
    """A small move leaves the orders where they are, in their place in the queue; a larger one replaces all of them."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def during(trader: Trader) -> None:
                before = venue.orders("alice")
                await venue.price(PRICE + PRICE // 10_000)
                await until(lambda: trader.view().mark_atoms > PRICE)
                await asyncio.sleep(0.3)
                assert venue.orders("alice") == before
                await venue.price(PRICE + PRICE // 500)
                await until(lambda: len(venue.orders("alice")) == 4 and not venue.orders("alice").keys() & before)
                assert max(row[1] for row in before.values()) < max(row[1] for row in venue.orders("alice").values())

            await quoting(venue, during)

    run(body())


@pytest.mark.slow
def test_a_maker_comes_back_after_its_connection(tmp_path: Path) -> None:
    """A lost connection cancels its quotes; on the next one it quotes again, without anybody's help. Also when they
    were cancelled before it had seen them rest."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def during(_: Trader) -> None:
                for _cut in range(10):  # at once after its quotes came: before it has looked
                    before = venue.orders("alice")
                    venue.cut()
                    await until(lambda: not venue.orders("alice").keys() & before)  # noqa: B023
                    await until(lambda: len(venue.orders("alice")) == 4)

            await quoting(venue, during)

    run(body())


@pytest.mark.slow
def test_a_halt_takes_the_quotes_away_until_it_ends(tmp_path: Path) -> None:
    """In a halted market nothing of the maker stays open; when it is resumed, it quotes again."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def during(trader: Trader) -> None:
                await venue.send(venue.world.operator(c.HaltMarket(BTC, True, "the test says so")))
                await until(lambda: venue.orders("alice") == {})
                assert trader.view().paused == "MARKET_HALTED"
                await venue.send(venue.world.operator(c.HaltMarket(BTC, False, "on it goes")))
                await until(lambda: len(venue.orders("alice")) == 4)

            await quoting(venue, during)

    run(body())


@pytest.mark.slow
def test_an_old_price_takes_the_quotes_away(tmp_path: Path) -> None:
    """When the oracle falls silent the maker withdraws, and a new price brings it back."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def during(_: Trader) -> None:
                await until(lambda: venue.orders("alice") == {})
                await venue.price(PRICE)
                await until(lambda: len(venue.orders("alice")) == 4)

            await venue.price(PRICE)
            await quoting(venue, during, max_mark_age_s=1.5)

    run(body())


@pytest.mark.slow
def test_rejections_are_counted_and_do_not_stop_it(tmp_path: Path) -> None:
    """An order that the venue refuses, here for lack of margin, is not sent again and again, and the bot goes on."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:
            await venue.trade("alice", c.Withdraw(0, 0, 999_000 * 1_000_000))

            stop = asyncio.Event()
            async with trader_of(venue, "alice") as trader:
                bot = asyncio.create_task(make(trader, Quoting(max_position_lots=4_000, size_lots=1_000), stop))
                await until(lambda: trader.done.rejected["INSUFFICIENT_MARGIN"] > 0)
                await asyncio.sleep(0.5)
                assert trader.done.batches <= 3 and not bot.done()
                await venue.price(PRICE + PRICE // 100)
                sent = trader.done.batches
                await until(lambda: trader.done.batches > sent)
                stop.set()
                await bot

    run(body())


@pytest.mark.slow
def test_a_batch_that_came_too_late_is_made_again(tmp_path: Path) -> None:
    """An expired batch cancelled nothing either: the old quotes are not taken for the new ones."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def during(trader: Trader) -> None:
                before = venue.orders("alice")
                session = trader._session
                life, session._lifetime_us = session._lifetime_us, -1_000_000
                await venue.price(PRICE + PRICE // 500)
                await until(lambda: trader.done.rejected["COMMAND_EXPIRED"] > 9)
                assert venue.orders("alice") == before
                session._lifetime_us = life
                await until(lambda: len(venue.orders("alice")) == 4 and not venue.orders("alice").keys() & before)

            await quoting(venue, during)

    run(body())


@pytest.mark.slow
def test_an_end_that_nobody_answers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is gone: a batch without an answer does not end the bot; its end does not hang, and says that orders
    may be open."""
    monkeypatch.setattr(bots, "PATIENCE_S", 1.0)

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:

            async def bot() -> None:
                async with trader_of(venue, "alice") as trader:
                    await trader.submit([order(price=PRICE // 2)])
                    await venue.down()
                    await until(lambda: trader.view().paused == "STALE")
                    assert await trader.submit([order(price=PRICE // 2, coid=2)]) is None
                    assert trader.done.unanswered == 1

            with pytest.raises(ApiError) as caught:
                await bot()
            assert caught.value.code == "ORDERS_MAY_BE_OPEN"

    run(body())


@pytest.mark.slow
def test_a_limit_of_rate_is_waited_out(tmp_path: Path) -> None:
    """With a quota of commands that is far too small every order arrives all the same, later."""

    async def body() -> None:
        async with opened(tmp_path / "v", commands_per_second=10.0, commands_burst=5) as venue:
            async with trader_of(venue, "bob") as trader:
                await venue.trade("alice", order(ids.SELL, price=PRICE, size=100, coid=1))
                await until(lambda: trader.view().ask_atoms == PRICE)
                taking = Taking(max_position_lots=100, size_lots=1, per_second=200.0)
                async with asyncio.timeout(PATIENCE_S):
                    await take(trader, taking, _Buyer(1), asyncio.Event(), most=20)
                assert trader.done.orders == 20 and trader.done.unanswered == 0
                await until(lambda: trader.done.fills == 20)
            assert venue.position("bob") == 20

    run(body())


class _Buyer(random.Random):
    """Chance that buys only: whatever is drawn is the least that it can be."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return ids.BUY if stop is None else start


@pytest.mark.slow
def test_the_guards_outlive_a_bot_that_crashes(tmp_path: Path) -> None:
    """A bot that ends by an exception leaves nothing open; the switch in the journal was armed all the while."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:
            account = venue.replica.state.accounts[venue.account("alice")]
            with suppress(ZeroDivisionError):
                async with trader_of(venue, "alice") as trader:
                    await trader.submit([order(price=PRICE // 2)])
                    assert venue.account("alice") in {row[1] for row in _switches(venue)}
                    raise ZeroDivisionError
            await until(lambda: not account.orders and venue.account("alice") not in {r[1] for r in _switches(venue)})

    run(body())


def _switches(venue: Open) -> list[tuple[int, int]]:
    """Dead man's switches that are set: when, and whose."""
    return [
        (account.cancel_all_us, account.number) for account in venue.replica.state.accounts if account.cancel_all_us
    ]


@pytest.mark.slow
def test_a_key_that_is_nobodys_ends_it_with_the_code(tmp_path: Path) -> None:
    """The bot does not start, and says why."""

    async def body() -> None:
        async with opened(tmp_path / "v") as venue:
            with pytest.raises(ApiError) as caught:
                async with trading(venue.url, venue.account("alice"), seed_of("a stranger"), BTC):
                    pass
            assert caught.value.code == "UNKNOWN_KEY"
            with pytest.raises(ApiError) as caught:
                async with trading(venue.url, venue.account("alice"), seed_of("alice session"), 77):
                    pass
            assert caught.value.code == "UNKNOWN_INSTRUMENT"

    run(body())
