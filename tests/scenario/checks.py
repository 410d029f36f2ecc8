# SPDX-License-Identifier: GPL-3.0-or-later
"""`then`: what the venue has, compared with what a table says. A difference is an AssertionError with file and line.

`cash` and `equity` are the settlement claim's; `margin equity`, `initial` and `maintenance` are what liquidation
compares; `free` is what could still be withdrawn or risked. A settled or empty position is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clearing.core.adl import ranking
from clearing.core.margin import assess, equity, headroom, margin_detail
from clearing.core.state import Account
from clearing.model import ids
from tests.core import venue as v
from tests.scenario.language import ScenarioError, Table, percent, usd

if TYPE_CHECKING:
    from tests.scenario.stage import Stage


def _compare(row: dict[str, str], where: str, shown: dict[str, Callable[[], str]]) -> None:
    subject = next(iter(row.values()))
    for column, cell in row.items():
        if column not in shown:
            raise ScenarioError(f"{where}: no such column: {column}")
        found = shown[column]()
        assert found == cell, f"{where}: {column} of {subject} is {found}, not {cell}"


def account(stage: Stage, row: dict[str, str], where: str) -> None:
    """A row of `then accounts`."""
    found = stage.account(row["name"])
    shown: dict[str, Callable[[], str]] = {
        "name": lambda: row["name"],
        "cash": lambda: usd(found.cash),
        "equity": lambda: usd(equity(found)),
        "margin equity": lambda: usd(assess(found)[0]),
        "initial": lambda: usd(assess(found)[1]),
        "maintenance": lambda: usd(assess(found)[2]),
        "free": lambda: usd(headroom(found)),
        "pledged": lambda: usd(found.pledged),
        "open orders": lambda: str(len(found.orders)),
        "triggers": lambda: str(len(found.triggers)),
    }
    for spec in stage.setting.instruments:
        shown[spec.symbol] = lambda number=spec.id: _size(found, number)  # type: ignore[misc]
    for asset in stage.setting.assets[1:]:
        shown[asset.symbol] = lambda lane=asset.lane: _held(found, lane)  # type: ignore[misc]
    _compare(row, where, shown)


def _size(found: Account, instrument: int) -> str:
    slot = found.slots.get(instrument)
    return str(slot.size if slot else 0)


def _held(found: Account, lane: int) -> str:
    held = found.holdings.get(lane)
    return usd(held.amount if held else 0)


def exits(stage: Stage, row: dict[str, str], where: str) -> None:
    """A row of `then exits`: `exit` in the settlement asset, other assets by name."""
    owner = stage.venue.state.owners[v.address_of(row["name"])]
    shown: dict[str, Callable[[], str]] = {"name": lambda: row["name"], "exit": lambda: usd(owner.exits[0])}
    for asset in stage.setting.assets[1:]:
        shown[asset.symbol] = lambda lane=asset.lane: usd(owner.exits[lane])  # type: ignore[misc]
    _compare(row, where, shown)


def market(stage: Stage, row: dict[str, str], where: str) -> None:
    """A row of `then markets`."""
    found = stage.venue.state.instruments[stage.market(row["market"])]
    shown: dict[str, Callable[[], str]] = {
        "market": lambda: row["market"],
        "index": lambda: usd(found.index),
        "mark": lambda: usd(found.mark),
        "confidence": lambda: percent(found.under.confidence, ids.UNIT),
        "open interest": lambda: str(found.open_interest),
        "imf": lambda: percent(found.imf, ids.PPM),
        "state": lambda: "HALT" if found.halted else found.breaker or "open",
    }
    _compare(row, where, shown)


def whole(stage: Stage, table: Table) -> None:
    """Tables that are compared from the first row to the last, with nothing left out."""
    found: list[tuple[str, ...]]
    match table.heading.split():
        case ["then", "book", name]:
            columns, found = ["side", "id", "size", "price"], _book(stage, name)
        case ["then", "line", "for", name, "in", other]:
            columns, found = ["name", "profit", "notional", "equity"], _line(stage, name, other)
        case ["then", "scenarios", "of", name, "in", other]:
            columns, found = ["scenario", "pnl"], _scenarios(stage, name, other)
        case _:
            return
    wanted = [tuple(row[column] for column in columns) for _, row in table.rows]
    where = f"{stage.scenario.path.name}:{table.line}"
    assert found == wanted, f"{where}: {table.heading.removeprefix('then ')} is {found}"


def _book(stage: Stage, name: str) -> list[tuple[str, ...]]:
    book = stage.venue.state.instruments[stage.market(name)].book
    return [
        (side, stage.label(order.order_id), str(order.open_lots), usd(order.price))
        for side, number in (("buy", ids.BUY), ("sell", ids.SELL))
        for order in book.sides[number].orders()
    ]


def _line(stage: Stage, name: str, other: str) -> list[tuple[str, ...]]:
    """Who would be deleveraged, first in line first."""
    ranked = ranking(stage.venue.state, stage.account(name), stage.market(other), 1_000)
    return [(stage.name_of(r.account.number), usd(r.profit), usd(r.notional), usd(r.equity)) for r in ranked]


def _scenarios(stage: Stage, name: str, other: str) -> list[tuple[str, ...]]:
    """P&L of an underlying's book in every scenario, and on the basis."""
    scans = margin_detail(stage.account(name)).scans
    margin = next(scan.margin for scan in scans if scan.under.spec.symbol == other)
    rows = [(str(number), usd(pnl)) for number, pnl in enumerate(margin.pnl)]
    return [*rows, ("basis", usd(margin.basis))]
