# SPDX-License-Identifier: GPL-3.0-or-later
"""The market maker's strategy: levels of bids and asks around the mark price, leaning against the position.

Rules:
- The centre of the quotes is the mark price, moved down when the account is long and up when it is short, by `skew_ppm`
  of it at the position's limit: the side that brings the position back is the better price.
- Quotes are replaced whole, by one batch under one signature: cancel all, then place. They are replaced when the mark
  moved, when something was filled or cancelled, and when they are old; otherwise what rests keeps its place in the
  queue.
- All quotes are post-only, and kept behind the best prices of others, so that the maker never pays to trade.
- If everything that rests, and everything of the new batch, is filled, the position is still within its limit.
- When the view is paused, nothing stays open.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clearing.bots.view import Market, View
from clearing.model import ids
from clearing.model.commands import CancelAll, MemberCommand, PlaceOrder
from clearing.model.errors import NovateError

# One command of a batch is the cancel.
MAX_LEVELS = (ids.MAX_COMMANDS_PER_BATCH - 1) // 2


@dataclass(frozen=True)
class Quoting:
    """How to quote. Fractions are ppm of the mark price: `spread_ppm` between the best bid and the best ask, `step_ppm`
    between levels, `skew_ppm` of the centre at the position's limit, `threshold_ppm` that the mark must move before the
    quotes follow. `size_lots` is a level's. Raises `NovateError` BAD_SETTINGS."""

    max_position_lots: int
    size_lots: int = 10
    levels: int = 3
    spread_ppm: int = 1_000
    step_ppm: int = 500
    skew_ppm: int = 1_000
    threshold_ppm: int = 200
    max_age_us: int = 30_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MAX_LEVELS:
            raise NovateError("BAD_SETTINGS", f"levels must be 1 to {MAX_LEVELS}, which fit into one batch")
        if self.size_lots < 1 or self.max_position_lots < 1 or self.max_age_us < 1:
            raise NovateError("BAD_SETTINGS", "size, position limit and age must be positive")
        if min(self.spread_ppm, self.step_ppm, self.skew_ppm, self.threshold_ppm) < 0:
            raise NovateError("BAD_SETTINGS", "spread, step, skew and threshold must not be negative")
        if self.spread_ppm + self.step_ppm * self.levels + self.skew_ppm >= ids.PPM:
            raise NovateError("BAD_SETTINGS", "spread, steps and skew together must stay below the whole price")


@dataclass(frozen=True)
class Quoted:
    """What the last batch left behind: the mark and the position that it was made for, and what rested after it."""

    mark_atoms: int
    position_lots: int
    open_lots: tuple[int, int]
    time_us: int

    @classmethod
    def after(cls, decided: View, settled: View) -> "Quoted":
        """`decided`: what the batch was made from; `settled`: what was there once it was carried out. Lots that were
        filled in between differ from the position decided on, so that the next look sees them."""
        rested = settled.open_lots(ids.BUY), settled.open_lots(ids.SELL)
        return cls(decided.mark_atoms, decided.position_lots, rested, decided.now_us)


def decide(
    quoting: Quoting, market: Market, view: View, last: Quoted | None, client_order_id: int
) -> list[MemberCommand]:
    """The batch to sign now; empty when what rests may stay. New orders have ids from `client_order_id` on."""
    if view.paused:
        return [CancelAll(market.number)] if view.orders else []
    if last is not None and not _must_move(quoting, view, last):
        return []
    commands: list[MemberCommand] = []
    bid, ask = _best_prices(quoting, market, view)
    step = max(market.tick_atoms, market.up(view.mark_atoms * quoting.step_ppm // ids.PPM))
    for side, first, away in ((ids.BUY, bid, -step), (ids.SELL, ask, step)):
        room = view.room(side, quoting.max_position_lots)
        prices = [first + level * away for level in range(quoting.levels)]
        for price, lots in _sized(prices, room, min(quoting.size_lots, market.max_order_lots)):
            commands.append(PlaceOrder(market.number, side, price, lots, client_order_id, post_only=True))
            client_order_id += 1
    # Also when nothing is known to rest: of a batch without an answer something may.
    return [CancelAll(market.number), *commands] if commands or view.orders else []


def _must_move(quoting: Quoting, view: View, last: Quoted) -> bool:
    moved = abs(view.mark_atoms - last.mark_atoms) * ids.PPM > quoting.threshold_ppm * last.mark_atoms
    rest = view.open_lots(ids.BUY), view.open_lots(ids.SELL)
    changed = view.position_lots != last.position_lots or rest != last.open_lots
    return moved or changed or view.now_us - last.time_us >= quoting.max_age_us


def _best_prices(quoting: Quoting, market: Market, view: View) -> tuple[int, int]:
    """The best bid and the best ask: rounded away from each other, at least one step apart, and behind others'."""
    mark, limit = view.mark_atoms, quoting.max_position_lots
    # A liquidation or a deposit of positions may have taken it beyond the limit; the lean goes no further.
    position = max(-limit, min(limit, view.position_lots))
    centre = mark - mark * quoting.skew_ppm * position // (limit * ids.PPM)
    half = mark * quoting.spread_ppm // (2 * ids.PPM)
    bid = market.down(centre - half)
    ask = max(market.up(centre + half), bid + market.tick_atoms)
    if view.ask_atoms is not None:
        bid = min(bid, view.ask_atoms - market.tick_atoms)
    if view.bid_atoms is not None:
        ask = max(ask, view.bid_atoms + market.tick_atoms)
    return bid, ask


def _sized(prices: Sequence[int], room: int, size: int) -> Iterator[tuple[int, int]]:
    """Price and lots of each level, the best first, until the room is used up."""
    for price in prices:
        lots = min(size, room)
        if lots > 0 and 0 < price <= ids.MAX_PRICE_ATOMS:
            yield price, lots
            room -= lots
