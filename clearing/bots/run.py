# SPDX-License-Identifier: GPL-3.0-or-later
"""The loops of the bots: look, decide, send, wait. What to do is decided in clearing.bots.maker and taker.

async with trading(url, account, seed, instrument=1) as trader:
    await make(trader, Quoting(max_position_lots=100), stop)
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from clearing.bots import maker, taker
from clearing.bots.trader import Trader
from clearing.bots.view import View

PACE_S: Final = 0.1  # between two batches of the maker, however much the market moves


async def make(trader: Trader, quoting: maker.Quoting, stop: asyncio.Event) -> None:
    """Quote until `stop`. Raises `ApiError` when the venue refuses the account's envelopes for good."""
    last: maker.Quoted | None = None
    while not stop.is_set():
        view = trader.view()
        commands = maker.decide(quoting, trader.market, view, last, trader.next_id)
        if not commands:
            await trader.changed()
            continue
        receipt = await trader.submit(commands)
        settled = trader.view()
        last = None if view.paused or _undone(receipt, settled) else maker.Quoted.after(view, settled)
        await _pause(stop, PACE_S)


def _undone(receipt: dict[str, Any] | None, settled: View) -> bool:
    """Whether the next look must decide anew: there was no answer, the batch came too late, or orders that it placed
    are gone already, such as by the cancel of a connection that ended meanwhile."""
    if receipt is None or any(row["code"] == "COMMAND_EXPIRED" for row in receipt["rejected"]):
        return True
    placed = [outcome for outcome in receipt["outcomes"] if outcome["type"] == "OrderPlaced"]
    return len(settled.orders) < len(placed)


async def take(
    trader: Trader, taking: taker.Taking, rng: random.Random, stop: asyncio.Event, most: int | None = None
) -> None:
    """Send orders until `stop`, or until `most` of them were sent. Raises as `make`."""
    sent = 0
    while most is None or sent < most:
        draw = taker.Draw.next(taking, rng)
        await _pause(stop, draw.wait_s)
        if stop.is_set():
            return
        order = taker.decide(taking, trader.market, trader.view(), draw, trader.next_id)
        if order is not None:
            await trader.submit([order])
            sent += 1


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def run(
    opening: AbstractAsyncContextManager[Trader],
    work: Callable[[Trader, asyncio.Event], Coroutine[Any, Any, None]],
    *,
    seconds: float | None,
    every_s: float,
    tell: Callable[[str], None],
) -> Trader:
    """Run a bot until SIGINT or SIGTERM, for `seconds` if given, or until its work is done, telling every `every_s`
    what it did so far; the trader as it ended."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with opening as trader:
        if seconds is not None:
            loop.call_later(seconds, stop.set)
        telling = asyncio.create_task(_tell(trader, every_s, tell))
        try:
            await work(trader, stop)
        finally:
            telling.cancel()
    return trader


async def _tell(trader: Trader, every_s: float, tell: Callable[[str], None]) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(every_s)
        tell(f"{time.monotonic() - started:.0f} s: {told(trader)}")


def told(trader: Trader) -> str:
    """What a bot did so far, in a line."""
    done, view = trader.done, trader.view()
    parts = [f"{done.orders:,} orders in {done.batches:,} batches", f"{done.fills:,} fills of {done.lots:,} lots"]
    parts += [f"position {view.position_lots:+,}", f"{len(view.orders)} open"]
    parts += [f"{count:,} {code}" for code, count in sorted(done.rejected.items())]
    parts += [f"{done.unanswered:,} unanswered"] if done.unanswered else []
    return ", ".join(parts) + (f"; paused: {view.paused}" if view.paused else "")
