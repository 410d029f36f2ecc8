# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's options desk: one expiry with strikes around the money, its surface, and a market maker.

A toy model of vol (a smile around 60 %) is the publisher's view; margin and prices are the reducer's.
"""

import time
from dataclasses import dataclass, field

from clearing.cli.market import BTC
from clearing.cli.stage import Member, StageError
from clearing.client.http import ApiClient
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import Instrument

TICK = 1_000
FIRST = 100
_SMILE = ((-15, 66), (-8, 62), (0, 60), (8, 61), (15, 64))


@dataclass
class Desk:
    """Options of one expiry, thirty days out, listed around `spot` (atoms per lot)."""

    spot: int
    expiry_us: int = field(default_factory=lambda: (time.time_ns() // 1_000 // ids.DAY_US + 30) * ids.DAY_US)
    vol_shift_ppm: int = 0

    @property
    def strikes(self) -> list[int]:
        return [self.spot * (100 + away) // 100 // TICK * TICK for away, _ in _SMILE]

    def instruments(self) -> list[Instrument]:
        """A call and a put at each strike, numbered from 100."""
        day = time.strftime("%d%b%y", time.gmtime(self.expiry_us // 1_000_000)).upper()
        found = []
        for number, (strike, is_call) in enumerate((k, call) for k in self.strikes for call in (True, False)):
            symbol = f"BTC-{day}-{strike // 1_000}-{'C' if is_call else 'P'}"
            found.append(
                Instrument(
                    FIRST + number, symbol, "BTC", TICK, 1_000_000, 50_000, 30_000,
                    ids.OPTION, self.expiry_us, strike, is_call,
                )
            )  # fmt: skip
        return found

    def surface(self, spot: int) -> c.Surface:
        """The publisher's vote: forward at spot, the smile moved by `vol_shift_ppm`."""
        one = ids.UNIT
        vols = tuple(vol * one // 100 * (ids.PPM + self.vol_shift_ppm) // ids.PPM for _, vol in _SMILE)
        return c.Surface(BTC, self.expiry_us, spot, max(1, spot // 10_000), 0, one, one, tuple(self.strikes), vols)


def quote(api: ApiClient, maker: Member, desk: Desk, lots: int) -> int:
    """The maker quotes both sides of every option, 3 % around the mark; returns the number of quotes."""
    assert maker.session is not None
    marks = {row["id"]: int(row["mark_atoms"]) for row in api.instruments() if row["kind"] == ids.OPTION}
    orders: list[c.PlaceOrder] = []
    now = time.time_ns() // 1_000
    for number, spec in enumerate(desk.instruments()):
        mark = marks[spec.id]
        ask = (mark * 103 // 100 // TICK + 1) * TICK
        bid = mark * 97 // 100 // TICK * TICK
        orders.append(c.PlaceOrder(spec.id, ids.SELL, ask, lots, now + 2 * number))
        if bid > 0:
            orders.append(c.PlaceOrder(spec.id, ids.BUY, bid, lots, now + 2 * number + 1))
    receipt = maker.session.submit(*orders)
    if receipt["rejected"]:
        raise StageError(f"the market maker's quotes were refused: {receipt['rejected']}")
    return len(orders)


def offer(api: ApiClient, maker: Member, desk: Desk, index: int, lots: int) -> None:
    """The maker cancels its quotes and offers a block of one option at the mark."""
    assert maker.session is not None
    spec = desk.instruments()[index]
    mark = next(int(row["mark_atoms"]) for row in api.instruments() if row["id"] == spec.id)
    price = -(-mark // TICK) * TICK
    order = c.PlaceOrder(spec.id, ids.SELL, price, lots, time.time_ns() // 1_000)
    receipt = maker.session.submit(c.CancelAll(), order)
    if receipt["rejected"]:
        raise StageError(f"the block was refused: {receipt['rejected']}")


def take(api: ApiClient, taker: Member, desk: Desk, index: int, side: int, lots: int) -> None:
    """A taker trades `lots` of the desk's option `index` at the market."""
    assert taker.session is not None
    spec = desk.instruments()[index]
    book = api.book(spec.id, 1)
    level = (book["asks"] if side == ids.BUY else book["bids"])[0]
    order = c.PlaceOrder(spec.id, side, int(level["price_atoms"]), lots, time.time_ns() // 1_000, tif=ids.IOC)
    receipt = taker.session.submit(order)
    if receipt["rejected"] or not any(o["type"] == "TradeNovated" for o in receipt["outcomes"]):
        raise StageError(f"{taker.name}'s option trade did not happen: {receipt['rejected'] or 'no fill'}")
