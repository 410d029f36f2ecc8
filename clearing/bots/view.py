# SPDX-License-Identifier: GPL-3.0-or-later
"""What a strategy sees: one market, and one account in it, at one moment. Values only, nothing that changes by itself.

Prices are atoms per lot. A position is in lots, negative when it is short.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clearing.client.book import Level
from clearing.model import ids


@dataclass(frozen=True)
class Market:
    """What does not change: number, price step, and the largest order."""

    number: int
    tick_atoms: int
    max_order_lots: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Market":
        """From a row of GET /v1/instruments."""
        return cls(int(row["id"]), int(row["tick_atoms"]), int(row["max_order_lots"]))

    def down(self, atoms: int) -> int:
        """The price at or below, on the market's step."""
        return atoms // self.tick_atoms * self.tick_atoms

    def up(self, atoms: int) -> int:
        """The price at or above, on the market's step."""
        return -(-atoms // self.tick_atoms) * self.tick_atoms


@dataclass(frozen=True)
class Resting:
    """An open order of the account in this market; `side` as in clearing.model.ids."""

    side: int
    price_atoms: int
    open_lots: int


@dataclass(frozen=True)
class View:
    """`bid_atoms` and `ask_atoms`: the best prices of others, None where there are none. `paused`: why nothing should
    be traded now, "" when all is well."""

    now_us: int
    mark_atoms: int
    position_lots: int
    orders: tuple[Resting, ...] = ()
    bid_atoms: int | None = None
    ask_atoms: int | None = None
    paused: str = ""

    def open_lots(self, side: int) -> int:
        """Lots of the account's open orders of one side."""
        return sum(order.open_lots for order in self.orders if order.side == side)

    def room(self, side: int, max_position_lots: int) -> int:
        """How many lots more may be ordered on a side, so that the position stays within its limit even if every order
        that is open now is filled before the new one arrives: a cancel may come too late."""
        held = self.position_lots if side == ids.BUY else -self.position_lots
        return max(0, max_position_lots - held - self.open_lots(side))


def best_of_others(levels: Sequence[Level], own: Iterable[Resting]) -> int | None:
    """The first price at which somebody else's orders rest. `levels`: of one side, best first; `own`: of that side."""
    mine: dict[int, int] = {}
    for order in own:
        mine[order.price_atoms] = mine.get(order.price_atoms, 0) + order.open_lots
    return next((level.price_atoms for level in levels if level.size_lots > mine.get(level.price_atoms, 0)), None)


def why_paused(row: dict[str, Any] | None, stale: bool, mark_age_us: int | None, max_age_us: int, now_us: int) -> str:
    """The first reason not to trade, "" without one. `row`: the market as the instruments channel has it, None when it
    was delisted; `mark_age_us`: since the oracle's newest price, None without any."""
    if stale:
        return "STALE"  # what is known may be old: no connection, or the operator does not hear its sequencer
    if row is None:
        return "DELISTED"
    if row["halted"]:
        return "MARKET_HALTED"
    if 0 < int(row["expiry_us"]) <= now_us:
        return "INSTRUMENT_EXPIRED"
    if mark_age_us is None:
        return "NO_MARK_PRICE"
    return "ORACLE_STALE" if mark_age_us > max_age_us else ""
