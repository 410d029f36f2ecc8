# SPDX-License-Identifier: GPL-3.0-or-later
"""Matching against a naive reference, order by order and in batches."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params
from tests.core import venue as v
from tests.core.naive import Event, NaiveMarket

MARKET = (Instrument(1, "X-PERP", "X", 1, 1_000, 50_000, 30_000),)
NO_FEES = (FeeTier(0, 0, 0),)
TRADERS = (("ann", 0), ("ann", 1), ("bob", 0))

orders = st.builds(
    c.PlaceOrder, st.just(1), st.integers(0, 1), st.integers(98, 102), st.integers(1, 6), st.integers(1, 9),
    st.sampled_from((ids.LIMIT, ids.LIMIT, ids.LIMIT, ids.MARKET)),
    st.sampled_from((ids.GTC, ids.GTC, ids.GTC, ids.IOC, ids.FOK, ids.GTT)),
    st.sampled_from((False, False, False, True)), st.sampled_from((False, False, True)), st.integers(0, 3),
    st.integers(1, 6),
)  # fmt: skip
commands = (
    orders
    | orders
    | orders
    | st.builds(c.CancelOrder, st.integers(1, 9))
    | st.just(c.CancelAll(0))
    | st.builds(c.ReplaceOrder, st.integers(1, 9), st.integers(98, 102), st.integers(1, 6))
)
batches = st.lists(
    st.tuples(st.integers(0, 2), st.lists(commands, min_size=1, max_size=3), st.integers(0, 1), st.booleans()),
    max_size=25,
)


def well_formed(command: c.MemberCommand, start: int) -> c.MemberCommand | None:
    """Give GTT orders an absolute expiry, others none; drop contradictions that are refused alike."""
    if not isinstance(command, c.PlaceOrder):
        return command
    immediate = command.tif in (ids.IOC, ids.FOK)
    market = command.kind == ids.MARKET
    if (market and (command.post_only or command.tif == ids.GTT)) or (command.post_only and immediate):
        return None
    expiry = start + command.expiry_us if command.tif == ids.GTT else 0
    return msgspec.structs.replace(command, expiry_us=expiry)


def events_of(outcomes: list[o.Outcome]) -> list[Event]:
    """Outcomes in the words of the reference."""
    events: list[Event] = []
    for outcome in outcomes:
        match outcome:
            case o.OrderPlaced():
                events.append(("placed", outcome.order_id, outcome.size_lots))
            case o.TradeNovated():
                trade = (outcome.maker_order_id, outcome.taker_order_id, outcome.price_atoms)
                events.append(("trade", *trade, outcome.size_lots))
            case o.OrderCancelled():
                events.append(("cancelled", outcome.order_id, outcome.open_lots, outcome.reason))
            case o.OrderReplaced():
                new = (outcome.price_atoms, outcome.open_lots, outcome.kept_priority)
                events.append(("replaced", outcome.order_id, *new))
            case o.Rejected():
                events.append(("rejected", outcome.code))
    return events


def rich_venue(max_fills: int = 300) -> tuple[v.Venue, list[int]]:
    """Two owners, of whom one has a sub-account, with far more money than they can use."""
    venue = v.Venue(Params(fee_tiers=NO_FEES, max_fills_per_entry=max_fills), MARKET)
    venue.fund("ann", 10**15)
    venue.fund("bob", 10**15)
    venue.do("ann", c.Transfer(1, 10**14))
    venue.oracle({1: 100})
    return venue, [venue.account(name, sub).number for name, sub in TRADERS]


@settings(max_examples=250)
@given(batches=batches, max_fills=st.sampled_from((2, 3, 300)), held=st.integers(-9, 9))
def test_every_order_does_what_the_rule_book_says(
    batches: list[tuple[int, list[c.MemberCommand], int, bool]], max_fills: int, held: int
) -> None:
    """All kinds, times in force, flags and self-trade modes, in batches, with expiries and sweeps."""
    venue, numbers = rich_venue(max_fills)
    if held:
        venue.sell("bob" if held > 0 else "ann", 100, abs(held), 1)
        venue.buy("ann" if held > 0 else "bob", 100, abs(held), 1)
    owners = {number: i // 2 for i, number in enumerate(numbers)}
    naive = NaiveMarket(owners, position={numbers[0]: held, numbers[2]: -held})
    naive.next_id = venue.state.next_order_id
    start = venue.now_us
    for who, wanted, wait, sweep in batches:
        venue.advance(wait)
        batch = [fine for command in wanted if (fine := well_formed(command, start))]
        naive.events.clear()
        if sweep:
            naive.sweep(venue.now_us)
            assert events_of(venue.operator(c.ExpireOrders())) == naive.events
            naive.events.clear()
        if not batch:
            continue
        naive.budget = max_fills
        for command in batch:
            naive.apply(numbers[who], command, venue.now_us)
        name, sub = TRADERS[who]
        assert events_of(venue.do(name, *batch, sub=sub)) == naive.events
        for number in numbers:
            slot = venue.state.accounts[number].slots.get(1)
            assert (slot.size if slot else 0) == naive.position.get(number, 0)


@settings(max_examples=60)
@given(wanted=st.lists(orders, min_size=1, max_size=12), resting=st.lists(orders, max_size=12))
def test_a_batch_is_its_orders_one_after_another(wanted: list[c.PlaceOrder], resting: list[c.PlaceOrder]) -> None:
    """One signature over many commands changes nothing but the number of entries."""
    together, apart = rich_venue()[0], rich_venue()[0]
    start = together.now_us
    for venue in (together, apart):
        for order in resting:
            if fine := well_formed(order, start):
                venue.do("bob", fine)
    batch = [fine for order in wanted if (fine := well_formed(order, start))]
    if not batch:
        return
    at_once = events_of(together.do("ann", *batch))
    one_by_one = [event for order in batch for event in events_of(apart.do("ann", order))]
    assert at_once == one_by_one
    for name, sub in TRADERS:
        mine, theirs = together.account(name, sub), apart.account(name, sub)
        assert (mine.cash, sorted(mine.orders)) == (theirs.cash, sorted(theirs.orders))


def test_one_rejected_command_does_not_stop_the_others() -> None:
    venue, _ = rich_venue()
    out = venue.do("ann", c.CancelOrder(99), venue.order(ids.BUY, 100, 1, 1), c.CancelOrder(98))
    assert [(r.index, r.code) for r in out if isinstance(r, o.Rejected)] == [
        (0, "UNKNOWN_ORDER"),
        (2, "UNKNOWN_ORDER"),
    ]
    assert len(venue.account("ann").orders) == 1


def test_fill_or_kill_sees_that_a_plain_fill_uses_up_what_a_reduce_only_order_may_reduce() -> None:
    """Ann is long 5 and offers 5 plainly, then 5 reduce-only: together 5 can trade, never 10."""
    venue, _ = rich_venue()
    venue.sell("bob", 100, 5, 1)
    venue.buy("ann", 100, 5, 1)
    venue.do("ann", venue.order(ids.SELL, 100, 5, 1), venue.order(ids.SELL, 101, 5, 1, reduce_only=True))
    out = venue.do("bob", venue.order(ids.BUY, 101, 10, 1, tif=ids.FOK))
    assert v.codes(out) == ["FOK_NOT_FILLABLE"]


def test_unlinked_orders_leave_nothing_behind() -> None:
    """With the cyclic collector off, filled and cancelled orders free themselves."""
    import gc
    import weakref

    from clearing.core import book

    class Watched(book.Level):
        __slots__ = ("__weakref__",)

    venue, _ = rich_venue()
    real, book.Level = book.Level, Watched  # type: ignore[misc]
    gc.collect()
    gc.disable()
    try:
        venue.do("bob", *[venue.order(ids.SELL, 101 + i % 3, 1, 1) for i in range(9)])
        seen = [weakref.ref(level) for level in venue.state.instruments[1].book.sides[ids.SELL].levels.values()]
        assert len(seen) == 3
        venue.buy("ann", 102, 5, 1)
        venue.do("bob", c.CancelAll())
        assert [ref() for ref in seen] == [None, None, None]
    finally:
        gc.enable()
        book.Level = real  # type: ignore[misc]
