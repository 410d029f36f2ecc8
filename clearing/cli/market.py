# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's simulated market: an oracle publisher, two bots of clearing.bots, and members who quote and cross."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearing.cli.stage import Bot, Member, StageError
from clearing.client.http import ApiClient
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, encode
from clearing.model.signature import sign

if TYPE_CHECKING:
    from clearing.cli.desk import Desk

BTC = 1
TICK = 1_000
PER_SIGNATURE = 20
BOT_ORDERS = 40


@dataclass
class Stats:
    """What a run of orders came to."""

    placed: int = 0
    fills: int = 0
    rejected: int = 0


class Market:
    """One publisher, one instrument that trades. Prices are atoms per lot (a lot is 0.001 BTC)."""

    def __init__(self, api: ApiClient, deployment: bytes, publisher: bytes, rng: random.Random) -> None:
        self._api = api
        self._deployment = deployment
        self._publisher = publisher
        self._rng = rng
        self._head = bytes(32)
        self._next_id = 1
        self.price = 60_000_000
        self.desk: Desk | None = None

    def publish(self) -> None:
        """Sign and submit the current price, and the surface once there is an options desk."""
        now = time.time_ns() // 1_000
        prices = (c.Price(BTC, self.price, self.price // 10_000),)
        surfaces = (self.desk.surface(self.price),) if self.desk is not None else ()
        body = c.OracleUpdate(self._deployment, 0, self._head, now, prices, surfaces)
        self._head = body_hash(encode(body))
        receipt = self._api.submit(sign(body, self._publisher))
        if receipt["rejected"]:
            raise StageError(f"the oracle update was refused: {receipt['rejected']}")

    def move(self, change_ppm: int) -> None:
        """Move the price and publish it."""
        self.price += self.price * change_ppm // 1_000_000
        self.publish()

    def _order(self) -> c.PlaceOrder:
        rng = self._rng
        side = rng.randrange(2)
        crossing = rng.random() < 0.3
        away = rng.randrange(1, 30) * self.price // 20_000
        edge = away if (side == ids.BUY) == crossing else -away
        price = (self.price + edge) // TICK * TICK
        self._next_id += 1
        tif = ids.IOC if crossing else ids.GTC
        return c.PlaceOrder(BTC, side, price, rng.randrange(1, 40), self._next_id, tif=tif)

    def meet(self, maker: Member, taker: Member, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Two bots trade over the stream, each a process of its own, while the oracle moves; what each of them did.

        The taker begins when the maker's quotes are in the book, so that its orders find somebody. Afterwards the price
        is what it was, so that what follows does not hang on how long this took."""
        url, before, limits = self._api.url, self.price, ("--max-position", "400", "--size", "20")
        bots = [Bot("maker", maker, folder, url, *limits, "--threshold-ppm", "100")]
        try:
            self._waver_until(lambda: bots[0].running() and bool(self._api.book(BTC, 1)["asks"]))
            orders = ("--orders", str(BOT_ORDERS), "--per-second", "20", "--seconds", "30")
            bots.append(Bot("taker", taker, folder, url, *limits, *orders))
            self._waver_until(lambda: bots[0].running() and not bots[1].running())
            taken = bots[1].stop()
            return bots[0].stop(), taken
        finally:
            for bot in bots:
                bot.kill()
            self.price = before

    def _waver_until(self, condition: Callable[[], bool]) -> None:
        """The oracle goes up and down a little, several times a second."""
        middle, deadline, turn = self.price, time.monotonic() + 60, 0
        while not condition():
            if time.monotonic() > deadline:
                raise StageError("the bots did not trade in a minute")
            turn += 1
            self.price = middle
            self.move(150 if turn % 2 else -150)
            time.sleep(0.2)

    def trade(self, members: list[Member], orders: int, tell: Callable[[int], None]) -> Stats:
        """Members take turns, each signing 20 orders at once; the oracle moves a little in between."""
        stats = Stats()
        sent = 0
        while sent < orders:
            envelopes = []
            for member in members:
                assert member.session is not None
                batch = [self._order() for _ in range(min(PER_SIGNATURE, orders - sent))]
                if batch:
                    envelopes.append(member.session.sign(batch))
                    sent += len(batch)
            for result in self._api.submit_many(envelopes):
                _count(result, stats)
            self.move(self._rng.randrange(-800, 801))
            if sent % 600 < PER_SIGNATURE * len(members):
                tell(sent)
        return stats

    def gear_up(self, debtor: Member, lender: Member) -> None:
        """Let `debtor` buy, from `lender`, nearly all that initial margin allows."""
        assert debtor.session is not None and lender.session is not None
        self.publish()  # a fill needs a price of the last seconds
        for member in (debtor, lender):
            member.session.submit(c.CancelAll())  # type: ignore[union-attr]
        free = int(self._api.account(debtor.account)["free_atoms"])
        lots = free * 1_000_000 // (self.price * (50_000 + 2_500))
        price = self.price // TICK * TICK
        self._next_id += 2
        self._must(lender.session.submit(c.PlaceOrder(BTC, ids.SELL, price, lots, self._next_id - 1)))
        self._must(debtor.session.submit(c.PlaceOrder(BTC, ids.BUY, price + TICK, lots, self._next_id, tif=ids.IOC)))

    def _must(self, receipt: dict[str, Any]) -> None:
        if receipt["rejected"]:
            raise StageError(f"an order was refused: {receipt['rejected']}")


def _count(result: dict[str, Any], stats: Stats) -> None:
    if "code" in result:
        raise StageError(f"a batch was refused: {result['code']}: {result['message']}")
    for outcome in result["outcomes"]:
        kind = outcome["type"]
        stats.placed += kind == "OrderPlaced"
        stats.fills += kind == "TradeNovated"
        stats.rejected += kind == "Rejected"
