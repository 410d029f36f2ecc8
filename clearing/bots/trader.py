# SPDX-License-Identifier: GPL-3.0-or-later
"""One account in one market, over the stream: what a bot sees, what it sends, and what cancels its orders.

Rules:
- One batch at a time: after its receipt nothing is decided before the account is seen as it stands after that batch.
- A batch lives for `LIFETIME_S` and is tried for longer. Whatever came of one without an answer, it can do nothing any
  more when the next one is made.
- Refusals for a moment (RATE_LIMITED, no connection, a restart) are waited out by the stream. A command that the venue
  rejects is counted by its code. An envelope that is refused for good, such as for a revoked key, ends the bot.
- Two guards are armed as long as the trader is entered: the operator's interface cancels when the connection ends, and
  the sequencer cancels when the bot was not heard for `switch_s`. At the end all orders in the market are cancelled,
  and only then the guards are taken away.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from clearing.bots.view import Market, Resting, View, best_of_others, why_paused
from clearing.client import (
    AccountUpdate,
    ApiError,
    AsyncApiClient,
    AsyncSession,
    AsyncStream,
    CancelOnDisconnect,
    DeadMansSwitch,
)
from clearing.model import ids
from clearing.model.commands import CancelAll, MemberCommand, PlaceOrder

LIFETIME_S: Final = 10
PATIENCE_S: Final = 15.0
LOOK_S: Final = 0.25  # staleness and age are seen this late at most: no frame says them
_SIDES: Final = {"buy": ids.BUY, "sell": ids.SELL}


@dataclass
class Done:
    """What a bot did. `rejected`: commands by code; `unanswered`: batches whose fate was not told."""

    batches: int = 0
    orders: int = 0
    fills: int = 0
    lots: int = 0
    fees_atoms: int = 0
    unanswered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class Trader:
    """Made by `trading`. `view` is the world now; `submit` sends; `changed` waits for the world to move."""

    def __init__(self, stream: AsyncStream, session: AsyncSession, market: Market, max_mark_age_us: int) -> None:
        self.market = market
        self.done = Done()
        self.next_id = session.clock_us()  # above those of every earlier run: ids of open orders are unique
        self._stream = stream
        self._session = session
        self._max_mark_age_us = max_mark_age_us
        self._account = stream.account(session.account)
        self._mark = stream.mark(market.number)
        self._book = stream.book(market.number)
        self._instruments = stream.instruments()
        self._feeds = (self._account, self._mark, self._book, self._instruments)
        self._moved = asyncio.Event()
        self._following: list[asyncio.Task[None]] = []

    # --- what it sees ---

    def view(self) -> View:
        """The market and the account in it, as the operator told last. Raises `ApiError` where the operator refused a
        subscription."""
        for task in self._following:
            if task.done() and not task.cancelled():
                task.result()
        now = self._session.clock_us()
        mark, rows, account = self._mark.value, self._instruments.value or {}, self._account.value
        assert account is not None, "every feed was ready once"
        number = self.market.number
        own = tuple(
            Resting(_SIDES[order.side], order.price_atoms, order.open_lots)
            for order in account.orders
            if order.instrument == number
        )
        stale = any(feed.stale for feed in self._feeds)
        age = None if mark is None else now - mark.time_us
        return View(
            now_us=now,
            mark_atoms=0 if mark is None else mark.mark_atoms,
            position_lots=account.position(number),
            orders=own,
            bid_atoms=best_of_others(self._book.bids, (order for order in own if order.side == ids.BUY)),
            ask_atoms=best_of_others(self._book.asks, (order for order in own if order.side == ids.SELL)),
            paused=why_paused(rows.get(number), stale, age, self._max_mark_age_us, now),
        )

    async def changed(self, timeout_s: float = LOOK_S) -> None:
        """Wait for news of market or account, or until the time has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        self._moved.clear()

    # --- what it does ---

    async def submit(self, commands: Iterable[MemberCommand]) -> dict[str, Any] | None:
        """Sign and send one batch, and wait until its effect is seen; its receipt, None when there was no answer in
        time. Raises `ApiError` when it was refused for good."""
        batch = tuple(commands)
        orders = sum(isinstance(command, PlaceOrder) for command in batch)
        self.next_id += orders
        try:
            receipt = await self._session.submit(*batch)
        except ApiError as error:
            if not error.transient:
                raise
            self.done.unanswered += 1
            return None
        self.done.batches += 1
        self.done.orders += orders
        self.done.rejected.update(row["code"] for row in receipt["rejected"])
        await self._see(receipt)
        return receipt

    async def _see(self, receipt: dict[str, Any]) -> None:
        """Wait until what is known of the account includes an entry. One that changed nothing brings no frame."""
        if all(outcome["type"] == "Rejected" for outcome in receipt["outcomes"]):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while (self._account.seq or 0) < int(receipt["seq"]) and not self._account.stale:
                    await self.changed(0.05)

    # --- its life ---

    async def _start(self) -> None:
        for feed in self._feeds:
            await feed.ready()
        self._following = [asyncio.create_task(self._follow(feed)) for feed in self._feeds]

    async def _follow(self, feed: Any) -> None:
        async for found in feed:
            if isinstance(found, AccountUpdate):
                mine = [fill for fill in found.fills if fill.instrument == self.market.number]
                self.done.fills += len(mine)
                self.done.lots += sum(fill.size_lots for fill in mine)
                self.done.fees_atoms += sum(fill.fee_atoms for fill in mine)
            self._moved.set()

    async def _end(self) -> None:
        """Nothing stays open. Raises `ApiError`; ORDERS_MAY_BE_OPEN when nobody answered."""
        try:
            await self._see(await self._session.submit(CancelAll(self.market.number)))
        except ApiError as error:
            if not error.transient:
                raise
            text = (
                "the last cancel was not answered; the guards cancel when the operator is back: see novate account show"
            )
            raise ApiError("ORDERS_MAY_BE_OPEN", f"{text} ({error.message})") from None
        finally:
            for task in self._following:
                task.cancel()
            await asyncio.gather(*self._following, return_exceptions=True)


@contextlib.asynccontextmanager
async def trading(
    url: str, account: int, seed: bytes, instrument: int, *, switch_s: float = 30.0, max_mark_age_s: float = 30.0
) -> AsyncIterator[Trader]:
    """A trader with its guards armed and nothing open; at the end nothing is open either. Raises `ApiError`."""
    async with AsyncApiClient(url) as api, contextlib.AsyncExitStack() as guards:
        market = Market.of(await api.instrument(instrument))
        stream = await guards.enter_async_context(AsyncStream(api, PATIENCE_S))
        session = await AsyncSession.open(api, account, seed, stream=stream, lifetime_us=LIFETIME_S * 1_000_000)
        await stream.connected()
        at_disconnect = CancelOnDisconnect(stream, session)
        await at_disconnect.arm()
        await guards.enter_async_context(DeadMansSwitch(session, switch_s))
        trader = Trader(stream, session, market, round(max_mark_age_s * 1_000_000))
        await trader._start()
        try:
            await trader.submit([CancelAll(instrument)])  # of an earlier run that did not end well
            yield trader
        finally:
            await trader._end()
            with contextlib.suppress(ApiError):  # then it fires, and finds nothing to cancel
                await at_disconnect.disarm()
