# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers: stop and take-profit; who goes first; what time cancels."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import expiry, triggers
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import encode_entry
from tests.core import venue as v
from tests.core.waiting import X, Y, cancelled, fired, id_of, open_venue, price, run_all, trigger

# --- firing ----------------------------------------------------------------------------------------

waiting = st.lists(
    st.tuples(st.sampled_from(("ann", "bob")), st.booleans(), st.integers(1, 60)), min_size=1, max_size=14
)
paths = st.lists(st.integers(940, 1_060), min_size=1, max_size=8)


@settings(max_examples=80)
@given(waiting=waiting, path=paths, fills=st.sampled_from((1, 2, 3, 300)))
def test_triggers_fire_in_the_defined_order_and_exactly_once(
    waiting: list[tuple[str, bool, int]], path: list[int], fills: int
) -> None:
    """Above ascending, then below descending, then by age: however few fit into an entry. A mark that was
    reached counts even when the next one comes before all have fired."""
    venue = open_venue(max_fills_per_entry=fills)
    model: list[tuple[bool, int, int]] = []
    for name, above, distance in waiting:
        at = 1_000 + distance if above else 1_000 - distance
        order_id = id_of(venue.do(name, trigger(venue, ids.BUY, at, above, 1, kind=ids.LIMIT)))
        model.append((above, at, order_id))
    seen: list[int] = []
    for index in path:
        out = price(venue, index)
        mark = venue.state.instruments[X].mark
        reached = [t for t in model if (mark >= t[1] if t[0] else mark <= t[1])]
        model = [t for t in model if t not in reached]
        reached.sort(key=lambda t: (not t[0], t[1] if t[0] else -t[1], t[2]))
        expected = [t[2] for t in reached]
        first = fired(out)
        assert first == expected[: len(first)] and len(first) == min(fills, len(expected))
        rest = run_all(venue)
        assert first + fired(rest) == expected
        arrived = [x.order_id for x in rest if isinstance(x, o.OrderPlaced)]
        assert arrived == expected, "first fired, first arrived"
        seen += expected
    assert len(seen) == len(set(seen))
    assert sorted(venue.state.triggers) == sorted(t[2] for t in model)


def test_a_price_that_comes_back_does_not_save_the_last_in_the_queue() -> None:
    """Five stops at one price, room for two per entry, and the price is back before the rest fired."""
    venue = open_venue(max_fills_per_entry=2)
    numbers = [id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 1, kind=ids.LIMIT))) for _ in range(5)]
    assert fired(price(venue, 985)) == numbers[:2]
    assert fired(price(venue, 1_000)) == numbers[2:4]
    assert v.codes(venue.do("bob", trigger(venue, ids.BUY, 980, False, 1))) == ["TRIGGERS_PENDING"]
    out = run_all(venue)
    assert fired(out) == numbers[4:]
    assert [x.order_id for x in out if isinstance(x, o.OrderPlaced)] == numbers
    assert not v.codes(venue.do("bob", trigger(venue, ids.BUY, 980, False, 1)))


def test_a_trigger_that_is_reached_already_is_refused() -> None:
    venue = open_venue()
    for above, at, code in (
        (True, 1_000, ["TRIGGER_ALREADY_REACHED"]),
        (True, 999, ["TRIGGER_ALREADY_REACHED"]),
        (True, 1_001, []),
        (False, 1_000, ["TRIGGER_ALREADY_REACHED"]),
        (False, 1_001, ["TRIGGER_ALREADY_REACHED"]),
        (False, 999, []),
    ):
        assert v.codes(venue.do("ann", trigger(venue, ids.BUY, at, above, 1))) == code, (above, at)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"instrument": 9}, "UNKNOWN_INSTRUMENT"),
        ({"side": 2}, "INVALID_FIELD"),
        ({"kind": 2}, "INVALID_FIELD"),
        ({"kind": -1}, "INVALID_FIELD"),
        ({"client_order_id": 0}, "INVALID_FIELD"),
        ({"oco": -1}, "INVALID_FIELD"),
        ({"oco": 77}, "UNKNOWN_ORDER"),
        ({"size_lots": 0}, "INVALID_SIZE"),
        ({"size_lots": 1_001}, "ORDER_TOO_LARGE"),
        ({"price_atoms": 0}, "INVALID_PRICE"),
        ({"trigger_atoms": 0}, "INVALID_PRICE"),
        ({"trigger_atoms": 2**53}, "INVALID_PRICE"),
        ({"expiry_us": 5}, "INVALID_EXPIRY"),
        ({"expiry_us": 2**63}, "INVALID_EXPIRY"),
        ({"client_order_id": 501}, "DUPLICATE_CLIENT_ORDER_ID"),
        ({"client_order_id": 502}, "DUPLICATE_CLIENT_ORDER_ID"),
    ],
)
def test_malformed_triggers_are_refused(change: dict[str, int], code: str) -> None:
    """And change nothing; ids are shared between orders and triggers."""
    venue = open_venue()
    venue.do("ann", venue.order(ids.BUY, 900, 1, X, client_id=501))
    venue.do("ann", trigger(venue, ids.BUY, 1_100, True, 1, client_id=502))
    good = trigger(venue, ids.SELL, 990, False, 980)
    assert v.codes(venue.do("ann", msgspec.structs.replace(good, **change))) == [code]
    assert len(venue.state.triggers) == 1


def test_an_orders_id_may_not_be_a_triggers() -> None:
    venue = open_venue()
    venue.do("ann", trigger(venue, ids.BUY, 1_100, True, 1, client_id=7))
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, X, client_id=7))) == ["DUPLICATE_CLIENT_ORDER_ID"]


def test_orders_and_triggers_share_one_cap() -> None:
    venue = open_venue(max_open_orders=2)
    venue.do("ann", venue.order(ids.BUY, 900, 1, X), trigger(venue, ids.BUY, 1_100, True, 1))
    assert v.codes(venue.do("ann", trigger(venue, ids.BUY, 1_101, True, 1))) == ["TOO_MANY_ORDERS"]
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 900, 1, X))) == ["TOO_MANY_ORDERS"]


# --- arriving --------------------------------------------------------------------------------------


def test_a_stop_closes_the_position_under_its_own_id() -> None:
    """Ann is long 5 and stops out of it at 950; the market order arrives with the trigger's id and fills."""
    venue = open_venue()
    venue.sell("bob", 1_000, 5, X)
    venue.buy("ann", 1_000, 5, X)
    venue.do("cat", venue.order(ids.BUY, 940, 9, X))
    stop = trigger(venue, ids.SELL, 950, False, 930, 8, reduce_only=True)
    number = id_of(venue.do("ann", stop))
    assert not fired(price(venue, 951))
    assert fired(price(venue, 950)) == [number]
    out = venue.operator(c.RunTriggers())
    placed = next(x for x in out if isinstance(x, o.OrderPlaced))
    assert (placed.order_id, placed.client_order_id, placed.size_lots) == (number, stop.client_order_id, 5)
    trade = next(x for x in out if isinstance(x, o.TradeNovated))
    assert (trade.taker_order_id, trade.price_atoms, trade.size_lots) == (number, 940, 5)
    assert venue.account("ann").slots[X].size == 0
    assert venue.state.instruments[X].last == 940
    assert not venue.state.triggers and not venue.account("ann").triggers


@pytest.mark.parametrize("kind", [ids.LIMIT, ids.MARKET])
def test_a_limit_rests_and_a_market_order_does_not(kind: int) -> None:
    """A resting one keeps the trigger's expiry."""
    venue = open_venue()
    until = venue.now_us + v.HOUR
    number = id_of(venue.do("ann", trigger(venue, ids.BUY, 1_010, True, 1_005, kind=kind, expiry_us=until)))
    price(venue, 1_010)
    out = venue.operator(c.RunTriggers())
    if kind == ids.MARKET:
        assert cancelled(out) == [(number, "IOC")]
        return
    assert venue.state.orders[number].expiry_us == until
    venue.advance(v.HOUR)
    assert cancelled(venue.operator(c.ExpireOrders())) == [(number, "EXPIRED")]


def test_what_is_refused_on_arrival_is_cancelled() -> None:
    """No position to reduce; no margin: both say REJECTED, and the next one arrives all the same."""
    venue = open_venue()
    venue.do("ann", c.Transfer(1, 100))
    reducing = id_of(venue.do("ann", trigger(venue, ids.SELL, 990, False, 900, reduce_only=True)))
    poor = id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 900, 500, kind=ids.LIMIT), sub=1))
    fine = id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 900, kind=ids.LIMIT)))
    price(venue, 990)
    out = venue.operator(c.RunTriggers())
    assert cancelled(out) == [(reducing, "REJECTED"), (poor, "REJECTED")]
    assert list(venue.state.orders) == [fine]


def test_a_stop_goes_through_its_own_makers() -> None:
    """Ann's stop meets Ann's bid: the bid is cancelled, and the stop trades with Bob."""
    venue = open_venue()
    own = id_of(venue.do("ann", venue.order(ids.BUY, 960, 1, X)))
    venue.do("bob", venue.order(ids.BUY, 950, 1, X))
    venue.do("ann", trigger(venue, ids.SELL, 970, False, 900))
    price(venue, 970)
    out = venue.operator(c.RunTriggers())
    assert cancelled(out) == [(own, "STP")]
    assert [x.price_atoms for x in out if isinstance(x, o.TradeNovated)] == [950]


def test_nobody_goes_before_a_fired_stop() -> None:
    """New and moved orders wait; what shrinks or leaves does not. Other markets are open."""
    venue = open_venue()
    venue.do("bob", venue.order(ids.BUY, 900, 5, X, client_id=31), venue.order(ids.BUY, 901, 5, X, client_id=32))
    venue.do("ann", trigger(venue, ids.SELL, 990, False, 900))
    price(venue, 990)
    order = venue.order(ids.BUY, 950, 1, X)
    assert v.codes(venue.do("bob", order)) == ["TRIGGERS_PENDING"]
    assert v.codes(venue.do("bob", c.ReplaceOrder(31, 950, 5))) == ["TRIGGERS_PENDING"]
    assert v.codes(venue.do("bob", trigger(venue, ids.SELL, 980, False, 900))) == ["TRIGGERS_PENDING"]
    assert not v.codes(venue.do("bob", c.ReplaceOrder(31, 900, 2), c.CancelOrder(32)))
    assert not v.codes(venue.do("bob", venue.order(ids.BUY, 950, 1, Y)))
    venue.operator(c.RunTriggers())
    assert not v.codes(venue.do("bob", order))
    assert v.codes(venue.operator(c.RunTriggers())) == ["NO_TRIGGERS"]


def test_a_stop_is_not_cut_off_by_the_stop_before_it() -> None:
    """Budget of three fills: the first stop takes two, so the second, which needs two, has the next entry."""
    venue = open_venue(max_fills_per_entry=3)
    for _ in range(4):
        venue.do("bob", venue.order(ids.BUY, 950, 1, X))
    first = id_of(venue.do("ann", trigger(venue, ids.SELL, 990, False, 900, 2)))
    second = id_of(venue.do("cat", trigger(venue, ids.SELL, 990, False, 900, 2)))
    price(venue, 990)
    for number in (first, second):
        out = venue.operator(c.RunTriggers())
        assert [x.taker_order_id for x in out if isinstance(x, o.TradeNovated)] == [number] * 2
        assert not cancelled(out)


def test_triggers_wait_while_the_market_is_halted_or_its_price_old() -> None:
    venue = open_venue()
    number = id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 900, kind=ids.LIMIT)))
    venue.operator(c.HaltMarket(X, True, "maintenance"))
    assert fired(price(venue, 990)) == [number]
    assert v.codes(venue.operator(c.RunTriggers())) == ["NO_TRIGGERS"]
    venue.operator(c.HaltMarket(X, False, "done"))
    venue.advance(venue.state.params.oracle.fill_max_age_us + 1)
    assert v.codes(venue.operator(c.RunTriggers())) == ["NO_TRIGGERS"]
    price(venue, 1_000)
    assert id_of(venue.operator(c.RunTriggers())) == number


def test_markets_run_in_the_order_of_their_ids() -> None:
    venue = open_venue()
    late = id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 900, instrument=Y, kind=ids.LIMIT)))
    early = id_of(venue.do("ann", trigger(venue, ids.BUY, 990, False, 900, kind=ids.LIMIT)))
    price(venue, 990, 990)
    out = venue.operator(c.RunTriggers())
    assert [x.order_id for x in out if isinstance(x, o.OrderPlaced)] == [early, late]


# --- cancelling ------------------------------------------------------------------------------------


def test_triggers_are_cancelled_like_orders() -> None:
    """By client id, by order id, all of a market, all; a fired one too; never somebody else's."""
    venue = open_venue()

    def place(client_id: int, instrument: int = X) -> int:
        return id_of(venue.do("ann", trigger(venue, ids.SELL, 990, False, 900, 1, instrument, client_id=client_id)))

    numbers = [place(1), place(2), place(3), place(4, Y)]
    assert v.codes(venue.do("bob", c.CancelOrder(0, numbers[0]))) == ["UNKNOWN_ORDER"]
    assert cancelled(venue.do("ann", c.CancelOrder(1))) == [(numbers[0], "USER")]
    assert cancelled(venue.do("ann", c.CancelOrder(0, numbers[1]))) == [(numbers[1], "USER")]
    assert fired(price(venue, 990)) == [numbers[2]]
    assert cancelled(venue.do("ann", c.CancelAll(X))) == [(numbers[2], "USER")]
    assert v.codes(venue.operator(c.RunTriggers())) == ["NO_TRIGGERS"]
    assert cancelled(venue.do("ann", c.CancelAll())) == [(numbers[3], "USER")]
    inst = venue.state.instruments[X]
    assert not (inst.above or inst.below or inst.fired or venue.state.triggers)


def test_triggers_expire_waiting_or_fired() -> None:
    venue = open_venue()
    until = venue.now_us + v.MINUTE
    waits = id_of(venue.do("ann", trigger(venue, ids.SELL, 900, False, 900, expiry_us=until)))
    hits = id_of(venue.do("ann", trigger(venue, ids.SELL, 990, False, 900, expiry_us=until)))
    venue.advance(v.MINUTE)
    assert fired(price(venue, 990)) == [hits]
    assert cancelled(venue.operator(c.RunTriggers())) == [(hits, "EXPIRED")]
    assert cancelled(venue.operator(c.ExpireOrders())) == [(waits, "EXPIRED")]


def test_the_dead_mans_switch_cancels_everything_once() -> None:
    """Re-armed it only counts for its last time, disarmed not at all; it survives in `cancel_alls` once."""
    venue = open_venue()
    start = venue.now_us
    order = id_of(venue.do("ann", venue.order(ids.BUY, 900, 1, X)))
    stop = id_of(venue.do("ann", trigger(venue, ids.SELL, 900, False, 900)))
    assert v.codes(venue.do("ann", c.ScheduleCancelAll(start))) == ["INVALID_EXPIRY"]
    for at in (start + v.MINUTE, start + v.SECOND, start + 2 * v.MINUTE):
        venue.do("ann", c.ScheduleCancelAll(at))
        venue.do("bob", c.ScheduleCancelAll(at))
    venue.do("bob", c.ScheduleCancelAll(0))
    assert venue.state.cancel_alls == [(start + 2 * v.MINUTE, venue.account("ann").number)]
    venue.advance(v.MINUTE)
    assert venue.operator(c.ExpireOrders()) == []
    venue.advance(v.MINUTE)
    out = venue.operator(c.ExpireOrders())
    assert cancelled(out) == [(order, "SCHEDULED"), (stop, "SCHEDULED")]
    assert out[-1] == o.CancelAllScheduled(venue.account("ann").number, 0)
    assert venue.operator(c.ExpireOrders()) == []
    assert venue.account("ann").cancel_all_us == 0


def test_a_large_account_is_cancelled_in_steps() -> None:
    """350 orders and triggers: 300 in the first entry, the rest in the next, and only then is it disarmed."""
    venue = open_venue()
    for start in range(0, 350, 50):
        batch: list[c.MemberCommand] = [
            venue.order(ids.BUY, 900, 1, X) if (start + i) % 2 else trigger(venue, ids.BUY, 900, False, 900)
            for i in range(50)
        ]
        venue.do("ann", *batch)
    venue.do("ann", c.ScheduleCancelAll(venue.now_us + v.SECOND))
    venue.advance(v.SECOND)
    assert len(cancelled(venue.operator(c.ExpireOrders()))) == 300
    assert venue.account("ann").cancel_all_us
    assert len(cancelled(venue.operator(c.ExpireOrders()))) == 50
    assert not venue.account("ann").cancel_all_us


def test_stale_expiry_entries_do_not_pile_up() -> None:
    """Placing and cancelling GTT orders for ever does not grow the heap for ever."""
    venue = open_venue()
    for _ in range(30):
        placed = [venue.order(ids.BUY, 900, 1, X, tif=ids.GTT, expiry_us=v.FOREVER) for _ in range(25)]
        cancels = [c.CancelOrder(order.client_order_id) for order in placed]
        both: list[c.MemberCommand] = [*placed, *cancels]
        venue.do("ann", *both)
        venue.do("ann", *both)
    assert len(venue.state.expiries) <= 1_002


# --- snapshots -------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), path=paths)
def test_a_restored_venue_has_the_same_future(seed: int, path: list[int]) -> None:
    """Waiting, fired, overflown, paired and expiring triggers, and armed switches, through a snapshot."""
    import random

    rng = random.Random(seed)
    venue = open_venue(max_fills_per_entry=3)
    start = venue.now_us
    for _ in range(14):
        name = rng.choice(("ann", "bob", "cat"))
        order = venue.order(rng.randrange(2), 1_000 + rng.randrange(-40, 40), 2, X)
        pair = order.client_order_id if rng.random() < 0.4 else 0
        above = rng.random() < 0.5
        at = 1_000 + rng.randrange(1, 50) * (1 if above else -1)
        expiry = start + rng.randrange(30) * v.SECOND + v.MINUTE if rng.random() < 0.3 else 0
        commands: list[c.MemberCommand] = [
            order,
            trigger(venue, rng.randrange(2), at, above, 1_000 + rng.randrange(-40, 40), oco=pair, expiry_us=expiry,
                    kind=rng.randrange(2)),
        ]  # fmt: skip
        if rng.random() < 0.2:
            commands.append(c.ScheduleCancelAll(start + rng.randrange(1, 60) * v.SECOND + v.MINUTE))
        venue.do(name, *commands)
    price(venue, path[0])
    if rng.random() < 0.5:
        venue.operator(c.RunTriggers())
    venue.close_epoch()
    length, payload, closed = venue.snapshots[-1]
    for index in path:
        price(venue, index)
        venue.operator(c.RunTriggers())
        venue.do("ann", venue.order(ids.BUY, index, 2, X))
        venue.advance(10 * v.SECOND)
        venue.operator(c.ExpireOrders())
    venue.advance(2 * v.MINUTE)
    venue.operator(c.ExpireOrders())
    venue.close_epoch()
    restored = load(payload, closed)
    assert dump(restored) == payload
    tail = v.replay(venue.journal[length:], Reducer(state=restored))
    assert dump(tail.state) == dump(venue.state)


def test_whatever_changes_a_trigger_renews_its_accounts_leaf() -> None:
    """One change between two epochs, without positions; `Venue` compares the tree with one built from nothing."""
    venue = open_venue()

    def pair(low: int, high: int, expiry_us: int = 0) -> None:
        stop = trigger(venue, ids.BUY, low, False, 1, kind=ids.LIMIT, expiry_us=expiry_us)
        profit = trigger(venue, ids.BUY, high, True, 1, kind=ids.LIMIT, oco=stop.client_order_id)
        venue.do("ann", stop, profit)

    order = venue.order(ids.SELL, 1_100, 1, Y)
    until = venue.now_us + v.HOUR
    changes: list[Callable[[], object]] = [
        lambda: pair(990, 1_200),
        lambda: price(venue, 985),
        lambda: venue.operator(c.RunTriggers()),
        lambda: venue.do("ann", order, trigger(venue, ids.BUY, 900, False, 1, oco=order.client_order_id)),
        lambda: venue.do("ann", c.CancelOrder(order.client_order_id)),
        lambda: pair(900, 1_200, until),
        lambda: venue.do("ann", c.ScheduleCancelAll(until + v.HOUR)),
        lambda: venue.advance(v.HOUR),
        lambda: venue.operator(c.ExpireOrders()),
        lambda: pair(900, 1_200) if price(venue, 1_000) else None,
        lambda: venue.advance(v.HOUR),
        lambda: venue.operator(c.ExpireOrders()),
    ]
    for change in changes:
        change()
        venue.close_epoch()
    assert not venue.state.triggers and not venue.state.cancel_alls


# --- the size of entries ---------------------------------------------------------------------------


def test_the_widest_entries_of_triggers_and_settlements_fit() -> None:
    """Every field at its widest: a run with all fills and arrivals, a vote with all firings, a settlement."""
    wide, widest, account = 2**53 - 1, 2**63 - 1, 2**24 - 1
    placed: o.Outcome = o.OrderPlaced(wide, account, widest, 2**32 - 1, 1, wide, wide)
    gone: o.Outcome = o.OrderCancelled(wide, wide, "REJECTED")
    trade: o.Outcome = o.TradeNovated(2**32 - 1, wide, wide, wide, wide, account, account, widest, widest)
    margin: o.Outcome = o.MarginChanged(account, -widest, -widest, widest, widest)
    arrivals = triggers.MAX_ARRIVALS_PER_ENTRY
    run: list[o.Outcome] = [placed, gone] * arrivals + [trade] * 300 + [margin] * (300 + arrivals)
    vote: list[o.Outcome] = [o.PriceAccepted(99, 2**32 - 1, wide, wide)] * 1_000
    vote += [o.TriggerFired(wide, wide)] * 300
    paid: o.Outcome = o.PositionSettled(account, 2**32 - 1, -wide, -widest)
    settled: list[o.Outcome] = [paid, margin, gone] * (expiry.MAX_SETTLED_PER_ENTRY + 1)
    for outcomes, body in ((run, 300), (vote, 20_000), (settled, 300)):
        encode_entry(2**40, v.START_US, bytes(body), outcomes)
