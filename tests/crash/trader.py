# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's process for tests of crashes: `python -m tests.crash.trader URL ACCOUNT SEED_HEX LOG SECONDS SALT`.

It trades over `clearing.client`'s stream and follows a book, the tape and its account. Every envelope is in LOG before
it is sent ("S"), every receipt when it came ("R"); what the feeds held at the end is the last line, as JSON.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from clearing.client import AsyncApiClient, AsyncSession, AsyncStream
from clearing.model import commands as c

MARKET = 1
MID = 50_000 * 10_000
TICK = 10_000
PATIENCE_S = 60.0


class Trader:
    """`tell` appends to the log; it is flushed, so that it outlives this process too."""

    def __init__(self, stream: AsyncStream, session: AsyncSession, log: Any, rng: random.Random) -> None:
        self._stream = stream
        self._session = session
        self._log = log
        self._rng = rng
        self._number = session.nonce
        self._resting: list[int] = []
        self.trades: list[tuple[int, int]] = []
        self.fills: list[tuple[int, int]] = []

    def tell(self, kind: str, **fields: Any) -> None:
        self._log.write(json.dumps({"kind": kind} | fields) + "\n")
        self._log.flush()

    def _commands(self) -> list[c.MemberCommand]:
        rng = self._rng
        self._number += 1
        price = MID + rng.randrange(-20, 21) * TICK
        placed = c.PlaceOrder(MARKET, rng.randrange(2), price, rng.randrange(1, 5), self._number)
        if self._resting and rng.random() < 0.3:
            replaced = c.ReplaceOrder(rng.choice(self._resting), price, rng.randrange(1, 5))
            self._resting.append(self._number)
            return [replaced, placed]
        if len(self._resting) > 20:
            return [c.CancelOrder(self._resting.pop(0))]
        self._resting.append(self._number)
        return [placed]

    async def trade(self, until: float) -> None:
        """One command after another, each repeated by the stream until its receipt is here."""
        while time.monotonic() < until:
            envelope = self._session.sign(self._commands())
            self.tell("S", envelope=envelope.hex())
            receipt = await self._stream.send(envelope)
            self.tell("R", envelope=envelope.hex(), seq=receipt["seq"], entry_hash=receipt["entry_hash"])

    async def hear_trades(self) -> None:
        async for trade in self._stream.trades(MARKET, after=0):
            self.trades.append((trade.seq, trade.index))

    async def hear_account(self) -> None:
        async for update in self._stream.account(self._session.account, after=0):
            self.fills.extend((fill.seq, fill.index) for fill in update.fills)


async def main(url: str, account: int, seed: bytes, path: Path, seconds: float, salt: int) -> None:
    async with AsyncApiClient(url) as api:
        with path.open("w") as log:
            async with AsyncStream(api, patience_s=PATIENCE_S) as stream:
                session = await AsyncSession.open(api, account, seed)
                trader = Trader(stream, session, log, random.Random(salt))
                book = stream.book(MARKET)
                heard = [asyncio.create_task(trader.hear_trades()), asyncio.create_task(trader.hear_account())]
                followed = stream.account(account)
                until = time.monotonic() + seconds
                await asyncio.gather(*(trader.trade(until) for _ in range(4)))
                trader.tell("done")
                # Nobody sends any more once the other has told so, too: wait for the line that says it.
                await asyncio.to_thread(sys.stdin.readline)
                await api.status()
                last = api.head
                async with asyncio.timeout(PATIENCE_S):
                    while book.stale or stream.seq < last or any(feed.stale for feed in stream._feeds.values()):
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.5)
                mine = await api.account(account)
                trader.tell(
                    "end", trades=trader.trades, fills=trader.fills, connections=stream.connections,
                    bids=[list(level) for level in book.bids], asks=[list(level) for level in book.asks],
                    orders=sorted(order.client_order_id for order in followed.value.orders) if followed.value else None,
                    rest=sorted(int(order["client_order_id"]) for order in mine["orders"]),
                )  # fmt: skip
                for task in heard:
                    task.cancel()


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]),
             int(sys.argv[6]))
    )  # fmt: skip
