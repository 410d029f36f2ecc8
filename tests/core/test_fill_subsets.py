# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever fills: accounts with options, collateral or portfolio margin, against brute force over fill subsets."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.margin import assess, headroom, order_fits
from clearing.core.positions import slot_of
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.params import FeeTier
from tests.core import desk

MARKETS = (desk.PERP_X, desk.FUTURE_X, desk.PERP_Y, *desk.OPTIONS)

markets = st.sampled_from(MARKETS)
positions = st.dictionaries(markets, st.integers(-20, 20), max_size=5)
# Market, side, distance from the mark in percent of spot, lots.
wanted_orders = st.lists(
    st.tuples(markets, st.sampled_from((ids.BUY, ids.SELL)), st.integers(-8, 8), st.integers(1, 15)),
    min_size=1,
    max_size=5,
)
tiers = st.sampled_from((FeeTier(0, 200, 500), FeeTier(0, 0, 0), FeeTier(0, -100, 300), FeeTier(0, 10_000, 10_000)))
# Standard and portfolio margin under preset A (linear) and B (static discount and skew).
modes = st.sampled_from(((ids.STANDARD, 0), (ids.PORTFOLIO, 0), (ids.PORTFOLIO, 1)))


def trader(mode: int, preset: int, tier: FeeTier, held: dict[int, int], depth: int, size: int) -> tuple[State, Account]:
    """A rich account with positions; depth limit and size scaling may be on."""
    state = desk.house(desk.state_of(desk.params(preset, tier, depth, size)))
    account = desk.open_account(state, 10**9, mode)
    for instrument, lots in held.items():
        desk.hold(state, account, instrument, lots)
    return state, account


def limit_of(state: State, instrument: int, percent: int) -> int:
    inst = state.instruments[instrument]
    return max(1, inst.mark + inst.under.index * percent // 100)


def ask_all(state: State, account: Account, wanted: list[tuple[int, int, int, int]]) -> None:
    """Ask for the orders one by one; those that fit rest."""
    for instrument, side, percent, lots in wanted:
        limit = limit_of(state, instrument, percent)
        if order_fits(account, slot_of(state, account, instrument), side, limit, lots):
            desk.rest(state, account, instrument, side, limit, lots)


@settings(max_examples=150, deadline=None)
@given(
    mode=modes,
    tier=tiers,
    held=positions,
    wanted=wanted_orders,
    slack=st.integers(0, 3) | st.integers(0, 30_000),
    depth=st.sampled_from((0, 5)),
    size=st.sampled_from((0, 20_000_000_000)),
    collateral=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    pledged=st.integers(0, 500),
)
def test_accepted_orders_keep_initial_margin_in_every_fill_subset(
    mode: tuple[int, int],
    tier: FeeTier,
    held: dict[int, int],
    wanted: list[tuple[int, int, int, int]],
    slack: int,
    depth: int,
    size: int,
    collateral: tuple[int, int],
    pledged: int,
) -> None:
    """The account has `slack` atoms of free margin before its first order. Every subset of what was accepted may
    fill, wholly or by half: equity after fees stays at or above initial margin, to the atom."""
    state, account = trader(*mode, tier, held, depth, size)
    account.pledged = pledged
    for lane, amount in enumerate(collateral, 1):
        if amount:
            desk.give(state, account, lane, amount)
    account.set_plain()
    account.cash -= headroom(account) - slack
    assert headroom(account) == slack
    ask_all(state, account, wanted)
    resting = list(account.orders.values())
    for lots in product(*[dict.fromkeys((0, order.open_lots // 2, order.open_lots)) for order in resting]):
        fills = [(order, part) for order, part in zip(resting, lots, strict=True) if part]
        equity, initial, maintenance = assess(desk.copy_filled(state, account, fills))
        assert maintenance <= initial
        assert equity >= initial, f"{equity} < {initial} after {[(o.slot.inst.spec.symbol, n) for o, n in fills]}"


@settings(max_examples=120, deadline=None)
@given(
    mode=modes,
    held=st.dictionaries(markets, st.integers(-20, 20).filter(bool), min_size=1, max_size=5),
    wanted=st.lists(st.tuples(st.integers(0, 4), st.integers(-8, 8), st.integers(1, 22)), min_size=1, max_size=6),
    share=st.integers(0, 99),
    quarter=st.integers(1, 4),
)
def test_below_initial_margin_an_order_only_improves(
    mode: tuple[int, int],
    held: dict[int, int],
    wanted: list[tuple[int, int, int]],
    share: int,
    quarter: int,
) -> None:
    """With equity at a share of initial margin: whatever part of an accepted order fills, the position shrinks,
    maintenance does not rise and equity / maintenance does not fall. A rounding atom per row is forgiven, since
    parts of an order round on their own."""
    state, account = trader(*mode, FeeTier(0, 0, 0), held, 0, 0)
    equity, initial, _ = assess(account)
    if not initial:
        return
    account.cash -= equity - (initial - 1) * share // 100
    now, _, maintenance = assess(account)
    for which, percent, lots in wanted:
        instrument = list(held)[which % len(held)]
        slot = slot_of(state, account, instrument)
        side = ids.SELL if slot.size > 0 else ids.BUY
        limit = limit_of(state, instrument, percent)
        if not order_fits(account, slot, side, limit, lots):
            continue
        order = desk.rest(state, account, instrument, side, limit, lots)
        filled = desk.copy_filled(state, account, [(order, max(1, lots * quarter // 4))])
        desk.withdraw(account, order)
        after, _, left = assess(filled)
        assert abs(filled.slots[instrument].size) < abs(slot.size)
        slack = len(held) + 1
        assert left <= maintenance + slack
        assert (after + slack) * maintenance >= now * (left - slack)


@settings(max_examples=80, deadline=None)
@given(mode=modes, held=positions, wanted=wanted_orders, part=st.integers(0, 14))
def test_a_mark_that_moved_since_the_array_is_counted_once(
    mode: tuple[int, int], held: dict[int, int], wanted: list[tuple[int, int, int, int]], part: int
) -> None:
    """Marks may move between two arrays. Fills are then judged at the new mark, and the subsets still hold."""
    state, account = trader(*mode, FeeTier(0, 0, 0), held, 0, 0)
    for inst in state.instruments.values():
        inst.mark = max(1, inst.mark + (inst.id * 7 + part) % 15 - 7)
    account.cash -= headroom(account) - 50 * part
    ask_all(state, account, wanted)
    resting = list(account.orders.values())
    for chosen in product((False, True), repeat=len(resting)):
        fills = [(order, order.open_lots) for order, take in zip(resting, chosen, strict=True) if take]
        equity, initial, _ = assess(desk.copy_filled(state, account, fills))
        assert equity >= initial


@pytest.mark.parametrize("mode", [ids.STANDARD, ids.PORTFOLIO])
def test_a_premium_is_paid_in_full(mode: int) -> None:
    """Without a cent, nobody buys an option, whatever its mark adds to equity; with its price, fees and (under
    portfolio margin no more than) its premium anybody may."""
    state, account = trader(mode, 0, FeeTier(0, 0, 0), {}, 0, 0)
    inst = state.instruments[desk.OPTIONS[2]]
    slot = slot_of(state, account, inst.id)
    account.set_plain()
    account.cash = 0
    assert not order_fits(account, slot, ids.BUY, inst.mark, 1)
    account.cash = inst.mark
    assert order_fits(account, slot, ids.BUY, inst.mark, 1)


def test_plain_accounts_get_the_same_answer_on_the_long_way() -> None:
    """Nothing but the flag differs: both paths give equal figures and equal headroom."""

    @settings(max_examples=100, deadline=None)
    @given(
        held=st.dictionaries(st.sampled_from((1, 2, 3)), st.integers(-3_000, 3_000), max_size=3),
        wanted=st.lists(
            st.tuples(st.sampled_from((1, 2, 3)), st.integers(0, 1), st.integers(-8, 8), st.integers(1, 2_000)),
            max_size=5,
        ),
    )
    def check(held: dict[int, int], wanted: list[tuple[int, int, int, int]]) -> None:
        state, account = trader(ids.STANDARD, 0, FeeTier(0, 0, 0), held, 0, 2_000_000_000)
        for inst in state.instruments.values():
            inst.free_lots = 625
        ask_all(state, account, wanted)
        assert account.plain
        short = (assess(account), headroom(account))
        account.plain = False
        assert (assess(account), headroom(account)) == short

    check()


def test_without_an_array_portfolio_margin_lends_nothing() -> None:
    """A market that no array covers yet: bought with its whole notional, and not liquidated until it is covered."""
    state, account = trader(ids.PORTFOLIO, 0, FeeTier(0, 0, 0), {}, 0, 0)
    inst = state.instruments[desk.PERP_Y]
    inst.under.array = None
    account.cash = 10 * inst.mark
    slot = slot_of(state, account, inst.id)
    assert order_fits(account, slot, ids.BUY, inst.mark, 10)
    assert not order_fits(account, slot, ids.BUY, inst.mark, 11)
    desk.hold(state, account, inst.id, 10)
    assert assess(account) == (7_770, 7_770, -(-7_770 * 70_001 // ids.PPM))


def test_portfolio_margin_takes_no_risk_on_stale_data() -> None:
    """One of its prices, or the surface of what it asks for, is too old: no new order and no money out, but what
    reduces is allowed; and standard margin judges by what is traded, which its own gate watches."""
    state, account = trader(ids.PORTFOLIO, 0, FeeTier(0, 0, 0), {desk.PERP_X: 5, desk.PERP_Y: 5}, 0, 0)
    assert headroom(account) > 0
    state.instruments[desk.PERP_Y].index_time -= state.params.oracle_max_age_us + 1
    mark = state.instruments[desk.PERP_X].mark
    slot = account.slots[desk.PERP_X]
    assert headroom(account) == -1
    assert not order_fits(account, slot, ids.BUY, mark, 1)
    assert order_fits(account, slot, ids.SELL, mark, 1)
    desk.price(state, (1_003, 777))
    assert headroom(account) > 0
    option = slot_of(state, account, desk.OPTIONS[0])
    assert option.inst.expiry is not None
    option.inst.expiry.time_us -= state.params.oracle_max_age_us + 1
    assert not order_fits(account, option, ids.BUY, option.inst.mark, 1)
    assert headroom(account) > 0
    account.mode = ids.STANDARD
    account.set_plain()
    assert headroom(account) > 0


def option_at(strike: int, is_call: bool, expiry: int = 0) -> int:
    """Id of X's option."""
    return 10 + 6 * expiry + 2 * desk.STRIKES.index(strike) + (not is_call)


def test_a_hedge_cannot_be_closed_by_way_of_a_larger_requirement() -> None:
    """Long ten 1150 puts, short ten 900 puts, below initial margin. Without the long leg less would be required
    than with it, but half way more is: ten are refused, one is not."""
    long, short = option_at(1_150, False), option_at(900, False)
    state, account = trader(ids.STANDARD, 0, FeeTier(0, 0, 0), {long: 10, short: -10}, 0, 0)
    equity, initial, maintenance = assess(account)
    account.cash -= equity - initial + 100
    needed = []
    for sold in (3, 10):
        bare = desk.open_account(state, 0)
        for instrument, lots in ((long, 10 - sold), (short, -10)):
            desk.hold(state, bare, instrument, lots)
        needed.append(assess(bare)[2])
    assert needed[0] > maintenance > needed[1]
    slot, mark = account.slots[long], state.instruments[long].mark
    assert not order_fits(account, slot, ids.SELL, mark, 10)
    assert order_fits(account, slot, ids.SELL, mark, 1)


def test_a_closing_order_may_not_uncover_an_open_one() -> None:
    """The long put covers the one that is offered: as long as that offer stands, the cover is not for sale."""
    long, offered = option_at(1_000, False, 1), option_at(1_150, False, 1)
    state, account = trader(ids.STANDARD, 0, FeeTier(0, 0, 0), {long: 1}, 0, 0)
    account.cash -= headroom(account)
    mark = state.instruments[offered].mark
    assert order_fits(account, slot_of(state, account, offered), ids.SELL, mark, 1)
    order = desk.rest(state, account, offered, ids.SELL, mark, 1)
    slot, price = account.slots[long], state.instruments[long].mark
    for short_of_initial in (0, 1):
        account.cash -= short_of_initial
        assert not order_fits(account, slot, ids.SELL, price, 1)
    desk.withdraw(account, order)
    assert order_fits(account, slot, ids.SELL, price, 1)


def test_without_equity_maintenance_must_not_rise() -> None:
    """At equity 0 the ratio says nothing any more: selling a spread's cover at mark is refused all the same."""
    cover, sold = option_at(1_150, True), option_at(1_000, True)
    state, account = trader(ids.STANDARD, 0, FeeTier(0, 0, 0), {cover: 5, sold: -5}, 0, 0)
    account.cash -= assess(account)[0]
    assert assess(account)[0] == 0
    assert not order_fits(account, account.slots[cover], ids.SELL, state.instruments[cover].mark, 5)
    assert order_fits(account, account.slots[sold], ids.BUY, state.instruments[sold].mark, 5)


@pytest.mark.parametrize("mode", [ids.STANDARD, ids.PORTFOLIO])
def test_fees_are_part_of_a_fill(mode: int) -> None:
    """1 % for makers and takers: an order needs them beside its margin, and one that rests keeps needing them."""
    needs = []
    for fee in (0, 10_000):
        state, account = trader(mode, 0, FeeTier(0, fee, fee), {}, 0, 0)
        slot = slot_of(state, account, option_at(1_000, True, 1))
        mark = slot.inst.mark
        cash = next(c for c in range(10_000) if _fits_with(account, c, slot.inst.id, mark))
        account.cash = cash
        desk.rest(state, account, slot.inst.id, ids.BUY, mark, 10)
        assert headroom(account) in range(10)
        needs.append(cash)
    assert needs[1] - needs[0] == 10 * -(-mark // 100)


def _fits_with(account: Account, cash: int, instrument: int, limit: int) -> bool:
    account.cash = cash
    return order_fits(account, account.slots[instrument], ids.BUY, limit, 10)


def test_collateral_counts_by_mode() -> None:
    """1000 X at 1003, haircut 20 %, weight 93.75 % on top. Standard: 802,400 counts, and initial margin grows by
    6.25 % of that; portfolio: all counts, and both are charges."""
    state, account = trader(ids.STANDARD, 0, FeeTier(0, 0, 0), {}, 0, 0)
    account.cash = -700_000
    desk.give(state, account, 1, 1_000)
    assert assess(account) == (802_400 - 700_000, 50_150, 0)
    account.mode = ids.PORTFOLIO
    assert assess(account) == (1_003_000 - 700_000, 200_600 + 50_150, 200_600)


@pytest.mark.parametrize("side", [ids.BUY, ids.SELL])
def test_a_fill_is_judged_at_the_mark_of_now(side: int) -> None:
    """The mark moved by 40 since the array was built: an order at the new mark loses nothing by filling, one at
    the old mark on the losing side loses 40 a lot."""
    needs = []
    for moved, worse in ((0, 0), (40, 0), (40, 40)):
        state, account = trader(ids.PORTFOLIO, 0, FeeTier(0, 0, 0), {}, 0, 0)
        inst = state.instruments[desk.PERP_X]
        inst.mark += moved if side == ids.SELL else -moved
        before = headroom(account)
        desk.rest(state, account, inst.id, side, inst.mark + (worse if side == ids.BUY else -worse), 10)
        needs.append(before - headroom(account))
    assert needs == [needs[0], needs[0], needs[0] + 400]
