# SPDX-License-Identifier: GPL-3.0-or-later
"""One cancels the other: pairs of triggers and orders."""

from __future__ import annotations

from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from tests.core import venue as v
from tests.core.waiting import X, Y, cancelled, fired, id_of, open_venue, price, run_all, trigger

# --- OCO -------------------------------------------------------------------------------------------


def bracket(venue: v.Venue) -> tuple[int, int, int, int]:
    """Ann's take-profit order at 1,050 and the stop at 950 that it is paired with: order ids, client ids."""
    venue.sell("bob", 1_000, 5, X)
    venue.buy("ann", 1_000, 5, X)
    profit = venue.order(ids.SELL, 1_050, 5, X)
    stop = trigger(venue, ids.SELL, 950, False, 900, 5, oco=profit.client_order_id)
    ids_of = id_of(venue.do("ann", profit)), id_of(venue.do("ann", stop))
    return *ids_of, profit.client_order_id, stop.client_order_id


def test_when_one_half_goes_the_other_goes_too() -> None:
    """Filled, fired, cancelled, moved into the book and filled, expired, all cancelled: exactly once each."""
    venue = open_venue()
    order_id, stop_id, *_ = bracket(venue)
    out = venue.do("bob", venue.order(ids.BUY, 1_050, 5, X))
    assert cancelled(out) == [(stop_id, "OCO")]

    venue = open_venue()
    order_id, stop_id, *_ = bracket(venue)
    out = price(venue, 940)
    assert fired(out) == [stop_id] and cancelled(out) == [(order_id, "OCO")]
    venue.operator(c.RunTriggers())
    assert not venue.state.orders and not venue.state.triggers

    for which in (0, 1):
        venue = open_venue()
        pair = bracket(venue)
        out = venue.do("ann", c.CancelOrder(pair[2 + which]))
        assert cancelled(out) == [(pair[which], "USER"), (pair[1 - which], "OCO")]

    venue = open_venue()
    order_id, stop_id, client_id, _ = bracket(venue)
    venue.do("cat", venue.order(ids.BUY, 1_001, 5, X))
    assert cancelled(venue.do("ann", c.ReplaceOrder(client_id, 1_001, 5))) == [(stop_id, "OCO")]

    venue = open_venue()
    order_id, stop_id, *_ = bracket(venue)
    assert cancelled(venue.do("ann", c.CancelAll(X))) == [(order_id, "USER"), (stop_id, "OCO")]


def test_a_partial_fill_keeps_the_pair_together() -> None:
    venue = open_venue()
    order_id, stop_id, *_ = bracket(venue)
    assert not cancelled(venue.do("bob", venue.order(ids.BUY, 1_050, 4, X)))
    assert cancelled(venue.do("bob", venue.order(ids.BUY, 1_050, 1, X))) == [(stop_id, "OCO")]
    assert order_id not in venue.state.orders


def test_of_two_paired_triggers_that_one_jump_reaches_the_first_fires() -> None:
    """The other is cancelled and never fires, in whichever market it waits."""
    venue = open_venue()
    near = trigger(venue, ids.SELL, 990, False, 900, kind=ids.LIMIT)
    far = trigger(venue, ids.SELL, 980, False, 900, kind=ids.LIMIT, oco=near.client_order_id)
    first, second = id_of(venue.do("ann", near)), id_of(venue.do("ann", far))
    out = price(venue, 970)
    assert fired(out) == [first] and cancelled(out) == [(second, "OCO")]

    here = trigger(venue, ids.SELL, 960, False, 900, kind=ids.LIMIT)
    there = trigger(venue, ids.SELL, 960, False, 900, instrument=Y, kind=ids.LIMIT, oco=here.client_order_id)
    run_all(venue)
    first, second = id_of(venue.do("ann", here)), id_of(venue.do("ann", there))
    assert cancelled(price(venue, 960, 1_000)) == [(second, "OCO")]
    assert not venue.state.instruments[Y].below


def test_a_pair_has_two_halves() -> None:
    venue = open_venue()
    *_, order_cid, stop_cid = bracket(venue)
    for named in (order_cid, stop_cid):
        code = v.codes(venue.do("ann", trigger(venue, ids.SELL, 960, False, 900, oco=named)))
        assert code == ["INVALID_FIELD"]
    assert v.codes(venue.do("bob", trigger(venue, ids.SELL, 960, False, 900, oco=stop_cid))) == ["UNKNOWN_ORDER"]
    mine = trigger(venue, ids.SELL, 990, False, 900, instrument=Y)
    venue.do("cat", mine)
    price(venue, 1_000, 990)
    late = trigger(venue, ids.SELL, 960, False, 900, oco=mine.client_order_id)
    assert v.codes(venue.do("cat", late)) == ["TRIGGERS_PENDING"]


def test_fill_or_kill_counts_what_makers_take_along() -> None:
    """Each paired maker costs two of the budget: with a budget of four, two can be filled and three cannot."""
    venue = open_venue(max_fills_per_entry=4)
    for _ in range(3):
        maker = venue.order(ids.SELL, 1_010, 1, X)
        venue.do("bob", maker)
        venue.do("bob", trigger(venue, ids.SELL, 900, False, 1, oco=maker.client_order_id))
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 1_010, 3, X, tif=ids.FOK))) == ["FOK_NOT_FILLABLE"]
    out = venue.do("ann", venue.order(ids.BUY, 1_010, 2, X, tif=ids.FOK))
    assert [type(x) for x in out].count(o.TradeNovated) == 2
    assert [reason for _, reason in cancelled(out)] == ["OCO", "OCO"]
