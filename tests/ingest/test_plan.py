# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commands recorded events become, and what the comparison then says."""

from pathlib import Path
from typing import Any

import pytest

from clearing.ingest.compare import REASONS
from clearing.ingest.driver import ingest
from clearing.ingest.events import Add, Auction, Cancel, Clear, Event, Fill, Modify, Trade
from clearing.ingest.plan import Planner
from clearing.model import ids
from clearing.model.commands import CancelAll, CancelOrder, PlaceOrder, ReplaceOrder
from tests.ingest.test_dbn import encoded, record

_AT: dict[str, int] = {"time_us": 1, "where": 1}


def _add(order_id: int, side: int, price: int, size: int) -> Add:
    return Add(time_us=1, where=1, order_id=order_id, side=side, price_atoms=price, size_lots=size)


def _run(planner: Planner, *events: Event) -> list[tuple[int, tuple[Any, ...]]]:
    """(member, commands) of every step, a PlaceOrder shortened to (side, price, size, id, tif)."""
    return [
        (
            step.member,
            tuple(
                (c.side, c.price_atoms, c.size_lots, c.client_order_id, c.tif) if isinstance(c, PlaceOrder) else c
                for c in step.commands
            ),
        )
        for event in events
        for step in planner.plan(event)
    ]


def test_the_book_of_a_call_phase_is_held_until_it_no_longer_crosses() -> None:
    """Crossing orders and later ones of their price wait; the auction takes its fills off; survivors come
    in their order; what was submitted is reduced, keeping its priority, or cancelled."""
    planner = Planner(10)
    before = _run(
        planner,
        _add(1, ids.SELL, 100, 5),
        _add(2, ids.BUY, 101, 3),  # crosses 1
        _add(3, ids.BUY, 101, 4),  # behind 2
        _add(4, ids.BUY, 99, 1),
        _add(5, ids.SELL, 100, 2),
    )
    assert before == [
        (1, ((ids.SELL, 100, 5, 1, 0),)),
        (4, ((ids.BUY, 99, 1, 4, 0),)),
        (5, ((ids.SELL, 100, 2, 5, 0),)),
    ]
    auction = Auction(**_AT, fills=(Fill(2, 100, 3), Fill(1, 100, 4), Fill(3, 100, 1)))
    assert _run(planner, auction) == [(1, (ReplaceOrder(1, 100, 1),))]
    # 3 still crosses what is left of 1 and 5; once these are gone it comes in with what it has left.
    assert _run(planner, Cancel(**_AT, order_id=1)) == [(1, (CancelOrder(1),))]
    assert _run(planner, Cancel(**_AT, order_id=5)) == [
        (5, (CancelOrder(5),)),
        (3, ((ids.BUY, 101, 3, 3, 0),)),
    ]


def test_what_a_trade_caused_is_not_applied_again() -> None:
    """The cancel of a filled order and the modify to what is left of another find nothing to do."""
    planner = Planner(10)
    _run(planner, _add(1, ids.SELL, 100, 5), _add(2, ids.SELL, 100, 5))
    trade = Trade(**_AT, aggressor_id=33, side=ids.BUY, fills=(Fill(1, 100, 5), Fill(2, 100, 2)))
    assert _run(
        planner,
        trade,
        Cancel(**_AT, order_id=1),
        Modify(**_AT, order_id=2, side=ids.SELL, price_atoms=100, size_lots=3),
    ) == [(3, ((ids.BUY, 100, 7, 33, ids.IOC),))]
    assert planner.counts["cancel of an order that is gone"] == 1
    assert planner.counts["modify that a trade had done already"] == 1


def test_an_aggressor_that_was_resting_is_taken_off_first_and_its_rest_comes_back() -> None:
    """An order modified into the market trades as a new one; the modify that follows rests the remainder."""
    planner = Planner(10)
    _run(planner, _add(1, ids.SELL, 100, 2), _add(7, ids.BUY, 98, 5))
    trade = Trade(**_AT, aggressor_id=7, side=ids.BUY, fills=(Fill(1, 100, 2),))
    rest = Modify(**_AT, order_id=7, side=ids.BUY, price_atoms=100, size_lots=3)
    assert _run(planner, trade, rest) == [
        (7, (CancelOrder(7), (ids.BUY, 100, 2, 7, ids.IOC))),
        (7, ((ids.BUY, 100, 3, 7, 0),)),
    ]


def test_modifies_keep_or_lose_priority_as_the_source_says() -> None:
    """A smaller size is a smaller size; a new price or a larger size is a replace that loses priority."""
    planner = Planner(10)
    _run(planner, _add(1, ids.SELL, 100, 5))
    for price, size in ((100, 3), (100, 9), (101, 9)):
        modify = Modify(**_AT, order_id=1, side=ids.SELL, price_atoms=price, size_lots=size)
        assert _run(planner, modify) == [(1, (ReplaceOrder(1, price, size),))]


def test_clear_cancels_everything_of_everyone_who_has_something() -> None:
    planner = Planner(10)
    _run(planner, _add(1, ids.SELL, 100, 5), _add(11, ids.SELL, 100, 5), _add(2, ids.BUY, 90, 1))
    assert _run(planner, Clear(**_AT)) == [(1, (CancelAll(1),)), (2, (CancelAll(1),))]
    assert _run(planner, Cancel(**_AT, order_id=1)) == []


BOOK = [record(1, "AA", 1, 10.0, 4), record(2, "AA", 2, 10.0, 4), record(2, "AB", 3, 9.0, 4)]
DISAGREEMENTS: dict[str, tuple[int, float, int, str]] = {
    # the recorded fill (order, price, size) against this book -> the reason
    "in agreement": (1, 10.0, 4, ""),
    "the second in the queue was hit": (2, 10.0, 4, "NOT_REACHED"),
    "more than was shown": (1, 10.0, 6, "HIDDEN_SIZE"),
    "an order nobody saw": (44, 10.0, 4, "MAKER_ABSENT"),
    "at another price": (1, 11.0, 4, "PRICE_DIFFERS"),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_a_disagreement_says_what_and_why(tmp_path: Path, name: str) -> None:
    """Fills that a price-time book cannot give are counted and listed, with the right reason."""
    order_id, price, size, reason = DISAGREEMENTS[name]
    path = tmp_path / "trade.dbn"
    trade = [record(3, "TB", 90, price, size), record(3, "FA", order_id, price, size)]
    path.write_bytes(encoded([*BOOK, *trade]))
    summary = ingest(path, "dbn", tmp_path / "node", members=2)
    assert summary.source_fills_continuous == 1
    assert summary.reproduced_exactly == (not reason)
    assert summary.disagreements.by_reason == ({reason: 1} if reason else {})
    assert set(summary.disagreements.by_reason) <= set(REASONS)
    for listed in summary.disagreements.first:
        assert (listed.where, listed.order_id, listed.size_lots) == (4, order_id, size)


def test_orders_hours_apart_are_never_refused_for_an_old_price(tmp_path: Path) -> None:
    """The publisher signs again before a price is too old to trade on, and epochs close on the hour."""
    path = tmp_path / "slow.dbn"
    hours = [record(hour * 3_600 + 29, "AB", 10 + hour, 9.0, 1) for hour in range(5)]
    path.write_bytes(encoded([*hours, record(18_100, "TB", 90, 9.0, 1)]))
    summary = ingest(path, "dbn", tmp_path / "node", members=2)
    assert summary.refusals == {}
    assert summary.commands == 5 and summary.oracle_updates == 6
    assert summary.epochs == 6
