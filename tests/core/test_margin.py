# SPDX-License-Identifier: GPL-3.0-or-later
"""Initial margin holds whatever fills: brute force over the fill subsets of small books."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.margin import assess, headroom
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, restore
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import FeeTier, Instrument, Params, Underlying
from tests.core import venue as v

MARKET = (
    Instrument(1, "X-PERP", "X", 1, 10_000, 50_000, 30_000),
    Instrument(2, "Y-PERP", "Y", 1, 10_000, 123_456, 70_001),
)
MARKS = {1: 1_003, 2: 777}

own_orders = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 1), st.integers(-150, 150), st.integers(1, 40)),
    min_size=1,
    max_size=7,
)
fee_tiers = st.sampled_from(((200, 500), (0, 0), (-100, 300), (777, 333), (10_000, 10_000)))


def trader(cash: int, tier: tuple[int, int], held: int) -> v.Venue:
    """Ann with `cash` atoms and a position, and Bob with no limits that matter."""
    venue = v.Venue(Params(fee_tiers=(FeeTier(0, *tier),)), MARKET)
    venue.fund("bob", 10**12)
    venue.fund("ann", cash)
    venue.oracle(MARKS)
    if held:
        side = ids.BUY if held > 0 else ids.SELL
        venue.do("bob", venue.order(1 - side, MARKS[1], abs(held), 1))
        venue.do("ann", venue.order(side, MARKS[1], abs(held), 1, tif=ids.IOC))
    return venue


def fill_from_outside(venue: v.Venue, subset: list[tuple[c.PlaceOrder, int]]) -> None:
    """Bob trades exactly these lots of Ann's resting orders, and nothing else of hers.

    What must not fill is cancelled first, so that each chosen order is the best one.
    """
    keep = [order.client_order_id for order, part in subset if part]
    others = [cid for cid in venue.account("ann").orders if cid not in keep]
    if others:
        venue.do("ann", *[c.CancelOrder(cid) for cid in others])
    for order, part in sorted(subset, key=lambda s: s[0].price_atoms if s[0].side else -s[0].price_atoms):
        if part:
            taker = venue.order(1 - order.side, order.price_atoms, part, order.instrument, tif=ids.IOC)
            venue.do("bob", taker)
            if part < order.size_lots:
                venue.do("ann", c.CancelOrder(order.client_order_id))


def place_resting(venue: v.Venue, wanted: list[tuple[int, int, int, int]]) -> list[c.PlaceOrder]:
    """Send post-only orders; those that were accepted."""
    placed = [
        venue.order(side, max(1, MARKS[i] + step), lots, i, post_only=True, stp=ids.STP_NONE)
        for i, side, step, lots in wanted
    ]
    for order in placed:
        venue.do("ann", order)
    return [order for order in placed if order.client_order_id in venue.account("ann").orders]


@settings(max_examples=80)
@given(
    wanted=own_orders,
    slack=st.integers(-2, 3),
    tier=fee_tiers,
    held=st.integers(-60, 60),
    withdraw=st.booleans(),
    picks=st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=2, max_size=4),
)
def test_accepted_orders_keep_initial_margin_in_every_fill_subset(
    wanted: list[tuple[int, int, int, int]],
    slack: int,
    tier: tuple[int, int],
    held: int,
    withdraw: bool,
    picks: list[list[int]],
) -> None:
    """With prices at mark: whichever subset of the accepted resting orders fills, wholly or in
    part, equity after fees stays at or above initial margin, to the atom. Ann has within a few
    atoms of what her orders need, or withdraws all that is free."""
    rich = trader(10**6, tier, held)
    place_resting(rich, wanted)
    need = 10**6 - headroom(rich.account("ann"))
    venue = rich if withdraw else trader(max(need + slack, 1), tier, held)
    if withdraw:
        assert not v.codes(venue.do("ann", c.Withdraw(0, 0, headroom(venue.account("ann")))))
    elif headroom(venue.account("ann")) < 0:
        return
    else:
        place_resting(venue, wanted)
    resting = [
        c.PlaceOrder(o.slot.inst.id, o.side, o.price, o.open_lots, o.client_order_id)
        for o in venue.account("ann").orders.values()
    ]
    whole = [[4 * bit for bit in bits] for bits in product((0, 1), repeat=min(len(resting), 3))]
    base = dump(venue.state)
    for quarters in [*whole, *picks, [4] * 7]:
        subset = [(order, order.size_lots * q // 4) for order, q in zip(resting, quarters, strict=False)]
        venue.reducer = Reducer(state=restore(base))
        fill_from_outside(venue, subset)
        equity, initial, _ = assess(venue.account("ann"))
        assert equity >= initial, f"{equity} < {initial} after {subset}"


@settings(max_examples=80)
@given(
    slack=st.integers(-2, 3) | st.integers(-3_000, 3_000),
    tier=fee_tiers,
    held=st.integers(-60, 60),
    side=st.integers(0, 1),
    limit=st.integers(-200, 200),
    lots=st.integers(1, 300),
    book=st.lists(st.tuples(st.integers(-200, 200), st.integers(1, 60)), min_size=1, max_size=6),
    tif=st.sampled_from((ids.GTC, ids.IOC)),
)
def test_an_order_that_trades_at_once_keeps_initial_margin(
    slack: int,
    tier: tuple[int, int],
    held: int,
    side: int,
    limit: int,
    lots: int,
    book: list[tuple[int, int]],
    tif: int,
) -> None:
    """Also when it fills at better prices than its limit (and so at a higher fee), or rests in part;
    an account below initial margin may only get better: maintenance does not rise."""
    rich = trader(10**6, tier, held)
    rich.do("ann", rich.order(side, max(1, MARKS[1] + limit), lots, 1))
    venue = trader(max(1, 10**6 - headroom(rich.account("ann")) + slack), tier, held)
    ann = venue.account("ann")
    for step, size in book:
        venue.do("bob", venue.order(1 - side, max(1, MARKS[1] + step), size, 1, stp=ids.STP_CANCEL_MAKER))
    equity, initial, maintenance = assess(ann)
    order = venue.order(side, max(1, MARKS[1] + limit), lots, 1, tif=tif)
    accepted = not v.codes(venue.do("ann", order))
    after, initial_after, maintenance_after = assess(ann)
    if equity >= initial:
        assert after >= initial_after
    elif accepted:
        assert maintenance_after <= maintenance
        assert after * maintenance >= equity * maintenance_after


def test_below_initial_margin_only_reducing_is_accepted() -> None:
    """Long 100 at 1000, mark falls: above maintenance Ann may sell what she holds, not buy more."""
    venue = v.Venue(Params(fee_tiers=(FeeTier(0, 0, 0),)), MARKET)
    venue.fund("bob", 10**9)
    venue.fund("ann", 5_200)
    venue.oracle({1: 1_000})
    venue.sell("bob", 1_000, 100, 1)
    venue.buy("ann", 1_000, 100, 1)
    venue.advance(1)
    venue.oracle({1: 985})
    equity, initial, maintenance = assess(venue.account("ann"))
    assert maintenance < equity < initial
    venue.do("bob", venue.order(ids.BUY, 985, 500, 1))
    assert v.codes(venue.buy("ann", 985, 1, 1)) == ["INSUFFICIENT_MARGIN"]
    assert v.codes(venue.sell("ann", 985, 101, 1)) == ["INSUFFICIENT_MARGIN"]
    assert v.codes(venue.sell("ann", 985, 40, 1)) == []
    assert v.codes(venue.sell("ann", 985, 60, 1)) == []
    assert venue.account("ann").slots[1].size == 0


def test_requirements_round_up() -> None:
    """One lot of 1003 atoms at 5 % needs 50.15, so 51 atoms; maintenance 3 % is 30.09, so 31."""
    venue = trader(10_000, (0, 0), 1)
    assert assess(venue.account("ann"))[1:] == (51, 31)


def test_initial_margin_grows_with_the_root_of_size() -> None:
    """Factor 0.002: 5 % up to 625 lots, 10 % at 2500 of them. An atom less does not buy these, and what is sold
    sets free more than 10 % of it; maintenance stays 3 %."""
    rules = Params(fee_tiers=(FeeTier(0, 0, 0),), underlyings=(Underlying(1, "X", size_factor=2_000_000_000),))
    for cash in (250_749, 250_750):
        venue = v.Venue(rules, MARKET)
        venue.fund("bob", 10**12)
        venue.fund("ann", cash)
        venue.oracle({1: 1_003})
        assert venue.state.instruments[1].free_lots == 625
        venue.sell("bob", 1_003, 2_500, 1)
        assert v.codes(venue.buy("ann", 1_003, 2_500, 1)) == (["INSUFFICIENT_MARGIN"] if cash < 250_750 else [])
    ann = venue.account("ann")
    assert assess(ann) == (250_750, 250_750, 75_225)
    venue.buy("bob", 1_003, 1_875, 1)
    venue.do("ann", venue.order(ids.SELL, 1_003, 1_875, 1))
    assert assess(ann) == (250_750, -(-625 * 1_003 // 20), -(-625 * 1_003 * 3 // 100))


@settings(max_examples=60)
@given(cash=st.integers(0, 5_000), held=st.integers(-30, 30), amount=st.integers(1, 6_000))
def test_money_leaves_only_while_initial_margin_holds(cash: int, held: int, amount: int) -> None:
    venue = trader(cash, (200, 500), held)
    free = headroom(venue.account("ann"))
    out = venue.do("ann", c.Withdraw(0, 0, amount))
    assert v.codes(out) == ([] if amount <= free else ["INSUFFICIENT_BALANCE"])
    equity, initial, _ = assess(venue.account("ann"))
    assert equity >= initial or amount > free
