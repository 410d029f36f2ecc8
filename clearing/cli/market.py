# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's simulated market: an oracle publisher and members who quote around it and cross."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clearing.cli.stage import Member, StageError
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
