# SPDX-License-Identifier: GPL-3.0-or-later
"""The taker's strategy: orders at random times, of random sides and sizes, that trade at once or not at all.

Rules: the same seed draws the same times, sides and sizes, whatever the market does meanwhile. An order is immediate or
cancelled, so nothing of it rests. It pays at most `slippage_ppm` beyond the mark price, and it is not sent at all when
nobody's price is that good. Its fill keeps the position within its limit.
"""

import random
from dataclasses import dataclass

from clearing.bots.view import Market, View
from clearing.model import ids
from clearing.model.commands import PlaceOrder
from clearing.model.errors import NovateError


@dataclass(frozen=True)
class Taking:
    """`per_second`: orders on average; `size_lots`: the largest. Raises `NovateError` BAD_SETTINGS."""

    max_position_lots: int
    size_lots: int = 10
    per_second: float = 1.0
    slippage_ppm: int = 5_000

    def __post_init__(self) -> None:
        if self.size_lots < 1 or self.max_position_lots < 1:
            raise NovateError("BAD_SETTINGS", "size and position limit must be positive")
        if not 0.001 <= self.per_second <= 1_000:
            raise NovateError("BAD_SETTINGS", "orders per second must be 0.001 to 1000")
        if not 0 <= self.slippage_ppm < ids.PPM:
            raise NovateError("BAD_SETTINGS", "slippage must be below the whole price")


@dataclass(frozen=True)
class Draw:
    """One order's share of chance: when, which side, how large."""

    wait_s: float
    side: int
    size_lots: int

    @classmethod
    def next(cls, taking: Taking, rng: random.Random) -> "Draw":
        """Times between orders are exponential, as of independent arrivals."""
        return cls(rng.expovariate(taking.per_second), rng.randrange(2), rng.randint(1, taking.size_lots))


def decide(taking: Taking, market: Market, view: View, draw: Draw, client_order_id: int) -> PlaceOrder | None:
    """The order to send now, None when there is none to send."""
    if view.paused:
        return None
    lots = min(draw.size_lots, market.max_order_lots, view.room(draw.side, taking.max_position_lots))
    slip = view.mark_atoms * taking.slippage_ppm // ids.PPM
    if draw.side == ids.BUY:
        price, best = market.down(view.mark_atoms + slip), view.ask_atoms
        reached = best is not None and best <= price
    else:
        price, best = market.up(view.mark_atoms - slip), view.bid_atoms
        reached = best is not None and best >= price
    if lots < 1 or not reached or not 0 < price <= ids.MAX_PRICE_ATOMS:
        return None
    return PlaceOrder(market.number, draw.side, price, lots, client_order_id, tif=ids.IOC)
