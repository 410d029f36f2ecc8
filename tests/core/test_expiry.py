# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry: the time-weighted settlement price against brute force, and paying out to the atom."""

from __future__ import annotations

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import expiry
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.core.state import ExpiryState, State, UnderlyingState
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, OracleRules, Params, Underlying
from tests.core import venue as v

X = 1
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
RICH = 10**13
DUE = v.START_US + v.DAY
WINDOW = 30 * v.MINUTE
NAMES = ("ann", "bob", "cat", "dan")


# --- the price -------------------------------------------------------------------------------------


def naive_price(votes: list[tuple[int, int]], start: int, end: int, max_age: int) -> int | None:
    """Microsecond by microsecond: what is in force, or else what comes next. None while some is not known."""
    total = 0
    for moment in range(start, end):
        before = [(t, p) for t, p in votes if t <= moment]
        if before and moment < before[-1][0] + max_age:
            total += before[-1][1]
            continue
        after = [p for t, p in votes if t > moment]
        if not after:
            return None
        total += after[0]
    return total // (end - start)


def small_state(window: int, max_age: int, due: int) -> tuple[State, UnderlyingState, ExpiryState]:
    """A state whose only expiry has a window of a few microseconds."""
    params = Params(oracle_max_age_us=max_age, oracle=OracleRules(expiry_window_us=window))
    future = msgspec.structs.replace(PERP, kind=ids.FUTURE, expiry_us=due)
    state = v.Venue(params, (future,)).state
    under = state.symbols["X"]
    return state, under, under.expiries[due]


votes_at = st.lists(st.tuples(st.integers(1, 25), st.integers(1, 50)), min_size=1, max_size=9)


@settings(max_examples=300)
@given(votes=votes_at, window=st.integers(1, 60), max_age=st.integers(1, 40), asked=st.integers(0, 40))
def test_the_price_is_the_mean_weighted_by_microseconds(
    votes: list[tuple[int, int]], window: int, max_age: int, asked: int
) -> None:
    """However votes fall around the window, silent stretches included; and at whichever vote or moment after the
    expiry it becomes final, it is the same."""
    due = 100
    state, under, found = small_state(window, max_age, due)
    taken: list[tuple[int, int]] = []
    now, price = 0, 0
    for wait, value in [*votes, (100, 7), (1, 9), (1, 11)]:
        now += wait
        state.time_us = now
        expiry.accumulate(state, under, under.index, under.index_time)
        if taken and now >= due:
            known = naive_price(taken, due - window, due, max_age)
            assert found.price == (known or 0)
        if price:
            assert found.price == price, "a final price never changes"
        price = found.price
        under.index, under.index_time = value, now
        taken.append((now, value))
        fixed, share = expiry.fixed_part(found, under, now + asked)
        assert 0 <= share <= ids.UNIT and (found.price or fixed <= 50)
    assert found.price == naive_price(taken, due - window, due, max_age)


def test_the_part_that_is_fixed_grows_with_the_window() -> None:
    """Half way at 40 then 20: (fixed, share) = what has accrued and what is open; the rest follows the forward."""
    state, under, found = small_state(100, 1_000, 1_000)
    state.time_us, under.index, under.index_time = 800, 40, 800
    table = [(850, (0, ids.UNIT)), (900, (0, ids.UNIT)), (925, (10, ids.UNIT * 3 // 4)), (1_000, (40, 0))]
    for now, expected in table:
        assert expiry.fixed_part(found, under, now) == expected, now
    state.time_us = 950
    expiry.accumulate(state, under, 40, 800)
    under.index, under.index_time = 20, 950
    assert expiry.fixed_part(found, under, 975) == (25, ids.UNIT // 4)
    state.time_us = 1_001
    expiry.accumulate(state, under, 20, 950)
    assert found.price == 30 and expiry.fixed_part(found, under, 1_001) == (30, 0)


def test_a_window_keeps_the_length_that_it_began_with() -> None:
    """Governance may change the window's length; one that runs is not stretched over what it did not see."""
    state, under, found = small_state(100, 1_000, 1_000)
    state.time_us = 950
    expiry.accumulate(state, under, 40, 900)
    state.params = msgspec.structs.replace(state.params, oracle=OracleRules(expiry_window_us=10))
    state.time_us = 1_000
    expiry.accumulate(state, under, 20, 950)
    assert found.price == 30


# --- a venue with futures and options --------------------------------------------------------------


CONTRACTS = (
    PERP,
    msgspec.structs.replace(v.future(10, DUE, "X", 1), max_order_lots=100_000),
    msgspec.structs.replace(v.option(11, 1_000, DUE, True, "X", 1), max_order_lots=100_000),
    msgspec.structs.replace(v.option(12, 1_100, DUE, False, "X", 1), max_order_lots=100_000),
)
DATED = (10, 11, 12)


def open_venue(**params: object) -> v.Venue:
    """A day before the expiry of a future, a call at 1,000 and a put at 1,100; the index is 1,000."""
    base = Params(
        fee_tiers=(FeeTier(0, 0, 0),),
        oracle_max_jump_ppm=20_000_000,
        oracle_max_age_us=10 * v.MINUTE,
        underlyings=(Underlying(X, "X", 1),),
    )
    venue = v.Venue(msgspec.structs.replace(base, **params), CONTRACTS)
    for name in NAMES:
        venue.fund(name, RICH)
    price(venue, 1_000)
    return venue


def price(venue: v.Venue, index: int) -> list[o.Outcome]:
    """A vote on the index, and on the expiry while there is one: its forward is the index."""
    vote = v.surface(X, DUE, index, (900, 1_000, 1_100), (0.9, 0.8, 0.9))
    surfaces = (vote,) if DUE in venue.state.symbols["X"].expiries and venue.now_us < DUE else ()
    return venue.oracle({X: index}, surfaces=surfaces)


def vote_until(venue: v.Venue, when: int, index: int) -> None:
    """Votes every five minutes until (not at) `when`, from three quarters of an hour before; the clock stands there."""
    venue.now_us = max(venue.now_us, when - 45 * v.MINUTE)
    while venue.now_us + 5 * v.MINUTE < when:
        venue.advance(5 * v.MINUTE)
        price(venue, index)
    venue.now_us = when


def trade(venue: v.Venue, buyer: str, seller: str, instrument: int, at: int, lots: int) -> None:
    out = venue.do(seller, venue.order(ids.SELL, at, lots, instrument, stp=ids.STP_NONE))
    out += venue.do(buyer, venue.order(ids.BUY, at, lots, instrument, stp=ids.STP_NONE))
    assert not v.codes(out)


def settle_all(venue: v.Venue) -> list[o.Outcome]:
    """What the operator's ticker does: every step that is due, except delisting."""
    found: list[o.Outcome] = []
    while isinstance(command := expiry.due(venue.state, venue.now_us), c.SettleExpiry):
        out = venue.operator(command)
        assert not v.codes(out)
        found += out
    return found


deals = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(DATED), st.integers(1, 400), st.integers(1, 50)
    ).filter(lambda deal: deal[0] != deal[1]),
    max_size=8,
)
jumps = st.lists(st.tuples(st.integers(1, 9), st.integers(300, 3_000)), min_size=1, max_size=6)


@settings(max_examples=20)
@given(deals=deals, jumps=jumps, per_entry=st.sampled_from((1, 2, 300)))
def test_an_expiry_through_jumps_conserves_every_atom(
    deals: list[tuple[str, str, int, int, int]], jumps: list[tuple[int, int]], per_entry: int
) -> None:
    """Whoever traded ends with exactly size x (payoff - price paid); nobody holds anything; sums are unchanged.
    (`Venue` checks conservation after every entry, so also between two payments, and two votes that move nothing.)"""
    venue = open_venue()
    cash = {name: venue.account(name).cash for name in NAMES}
    held: dict[tuple[str, int], int] = {}
    for buyer, seller, instrument, at, lots in deals:
        trade(venue, buyer, seller, instrument, at, lots)
        for name, sign in ((buyer, 1), (seller, -1)):
            cash[name] -= sign * at * lots
            held[name, instrument] = held.get((name, instrument), 0) + sign * lots
    vote_until(venue, DUE - 20 * v.MINUTE, 1_000)
    for minutes, index in jumps:
        venue.advance(minutes * v.MINUTE)
        price(venue, index)
    venue.now_us = max(venue.now_us, DUE) + v.MINUTE
    price(venue, 1_500)
    with patch.object(expiry, "MAX_SETTLED_PER_ENTRY", per_entry):
        out = venue.operator(c.SettleExpiry(11))
        price(venue, 2_500)
        out += settle_all(venue)
    final = venue.state.symbols["X"].expiries[DUE].price
    assert min(1_000, *(p for _, p in jumps)) <= final <= max(1_500, *(p for _, p in jumps))
    payoffs = {10: final, 11: max(0, final - 1_000), 12: max(0, 1_100 - final)}
    for (name, instrument), size in held.items():
        cash[name] += size * payoffs[instrument]
    for name in NAMES:
        assert venue.account(name).cash == cash[name]
        assert not any(slot.size for slot in venue.account(name).slots.values())
    paid = [x for x in out if isinstance(x, o.PositionSettled)]
    assert sum(x.paid_atoms for x in paid) == 0
    for instrument in DATED:
        order = [x.account for x in paid if x.instrument == instrument]
        assert order == sorted(order)
    assert all(inst.open_interest == 0 and not inst.holders for inst in venue.state.instruments.values())


def test_paying_out_changes_nobodys_equity_and_fits_into_entries() -> None:
    """301 holders: 300 in the first entry, by account number, one in the second; positions do not net in between,
    and equity still sums to the holdings."""
    venue = open_venue(max_sub_accounts=400)
    for start in range(1, 301, 50):
        venue.do("ann", *[c.Transfer(sub, 10**6) for sub in range(start, start + 50)])
    venue.sell("bob", 1_000, 300, 10)
    for sub in range(1, 301):
        order = venue.order(ids.BUY, 1_000, 1, 10)
        venue.submit(venue.batch("ann", [order], venue.account("ann", sub).number), check_invariants=False)
    vote_until(venue, DUE, 1_000)
    first = venue.operator(c.SettleExpiry(10))
    assert [type(x) for x in first].count(o.PositionSettled) == 300
    paid = [x.account for x in first if isinstance(x, o.PositionSettled)]
    assert paid == sorted(paid) and venue.account("bob").number in paid
    second = venue.operator(c.SettleExpiry(10))
    assert [type(x) for x in second].count(o.PositionSettled) == 1
    assert v.codes(venue.operator(c.SettleExpiry(10))) == ["NOTHING_TO_RESOLVE"]
    assert all(10 not in account.slots for account in venue.state.accounts)


def test_trading_stops_and_what_is_open_is_cancelled() -> None:
    """Orders and triggers, bids first; the venue says SETTLED and pays in the same entry."""
    venue = open_venue()
    trade(venue, "ann", "bob", 10, 1_000, 5)
    venue.do("ann", venue.order(ids.SELL, 2_000, 5, 10, client_id=41))
    venue.do("bob", venue.order(ids.BUY, 500, 5, 10))
    venue.do("ann", c.PlaceTrigger(10, ids.SELL, 800, False, 700, 5, 42, oco=41))
    vote_until(venue, DUE - 1, 1_000)
    assert v.codes(venue.operator(c.SettleExpiry(10))) == ["NOT_EXPIRED"]
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 1_000, 1, 10, tif=ids.IOC)))
    venue.advance(1)
    assert v.codes(venue.do("ann", venue.order(ids.SELL, 1_000, 1, 10))) == ["INSTRUMENT_EXPIRED"]
    assert v.codes(venue.do("ann", c.PlaceTrigger(10, ids.SELL, 800, False, 700, 5, 43))) == ["INSTRUMENT_EXPIRED"]
    assert v.codes(venue.operator(c.DelistInstrument(10))) == ["INSTRUMENT_IN_USE"]
    out = venue.operator(c.SettleExpiry(10))
    assert isinstance(out[0], o.ExpiryPriced) and out[0].price_atoms == 1_000
    gone = [x.reason for x in out if isinstance(x, o.OrderCancelled)]
    assert gone == ["SETTLED", "SETTLED", "OCO"]
    settled = [(x.account, x.size_lots, x.paid_atoms) for x in out if isinstance(x, o.PositionSettled)]
    ann, bob = venue.account("ann").number, venue.account("bob").number
    assert settled == [(ann, 5, 5_000), (bob, -5, -5_000)]
    assert 10 not in venue.account("ann").slots
    assert [isinstance(x, o.MarginChanged) for x in out].count(True) == 2


def test_fired_triggers_of_an_expired_market_are_cancelled() -> None:
    venue = open_venue()
    venue.do("ann", c.PlaceTrigger(10, ids.SELL, 995, False, 700, 5, 43))
    vote_until(venue, DUE - WINDOW // 2, 1_000)
    price(venue, 980)
    assert venue.state.instruments[10].mark == 990, "half of the window is fixed at 1,000"
    assert venue.state.instruments[10].fired
    vote_until(venue, DUE, 980)
    assert v.codes(venue.operator(c.RunTriggers())) == ["NO_TRIGGERS"]
    out = venue.operator(c.SettleExpiry(10))
    assert [x.reason for x in out if isinstance(x, o.OrderCancelled)] == ["SETTLED"]


def test_an_oracle_that_is_silent_through_the_window_settles_nobody() -> None:
    """The price is the first fresh index after the expiry, whenever the operator asks and whatever follows it."""
    venue = open_venue()
    trade(venue, "ann", "bob", 10, 1_000, 5)
    vote_until(venue, DUE - WINDOW - 20 * v.MINUTE, 1_000)
    venue.now_us = DUE + v.HOUR
    assert v.codes(venue.operator(c.SettleExpiry(10))) == ["NOT_EXPIRED"]
    assert expiry.due(venue.state, venue.now_us) is None
    price(venue, 700)
    early = load_again(venue)
    venue.advance(v.SECOND)
    price(venue, 2_000)
    assert settle_all(venue)
    assert venue.state.symbols["X"].expiries[DUE].price == 700
    early.state.time_us = venue.now_us
    expiry.settle(early.state, c.SettleExpiry(10))
    assert early.state.symbols["X"].expiries[DUE].price == 700


def load_again(venue: v.Venue) -> Reducer:
    """The venue as its snapshot has it."""
    closed = venue.close_epoch()
    return Reducer(state=load(venue.snapshots[-1][1], closed))


def test_a_short_that_cannot_pay_leaves_a_visible_deficit() -> None:
    """Settlement pays the longs in full; what the short lacks is negative equity, for the waterfall."""
    venue = open_venue()
    venue.do("dan", c.Transfer(1, 200_000))
    venue.do("dan", venue.order(ids.SELL, 1_000, 1_000, 10), sub=1)
    venue.buy("ann", 1_000, 1_000, 10)
    vote_until(venue, DUE - WINDOW, 1_000)
    price(venue, 1_900)
    vote_until(venue, DUE, 1_900)
    settle_all(venue)
    assert venue.account("ann").cash == RICH + 900_000
    assert venue.account("dan", 1).cash == 200_000 - 900_000


def test_an_expired_market_is_delisted_a_day_later_and_its_id_is_free_again() -> None:
    """Settled first, delisted by the ticker, and every trace of it gone: the same expiry may be listed anew."""
    venue = open_venue()
    trade(venue, "ann", "bob", 11, 20, 5)
    assert not venue.account("ann").plain
    vote_until(venue, DUE + v.MINUTE, 1_000)
    settle_all(venue)
    assert venue.account("ann").plain
    venue.now_us = DUE + v.DAY
    seen = []
    while isinstance(command := expiry.due(venue.state, venue.now_us), c.DelistInstrument):
        assert not v.codes(venue.operator(command))
        seen.append(command.instrument)
    under = venue.state.symbols["X"]
    assert seen == list(DATED) and expiry.due(venue.state, venue.now_us) is None
    assert not under.expiries and not under.vols and list(venue.state.instruments) == [X]
    assert not venue.state.publishers[0].surfaces
    venue.close_epoch()
    later = msgspec.structs.replace(CONTRACTS[1], expiry_us=DUE + 3 * v.DAY)
    assert not v.codes(venue.operator(c.ListInstrument(later)))


@pytest.mark.parametrize("minutes", [-40, -10, 0, 3])
def test_a_snapshot_in_the_window_has_the_same_future(minutes: int) -> None:
    """Before the window, inside it, at expiry and between price and payment: same price, same payouts."""
    venue = open_venue()
    for instrument, at in ((10, 1_000), (11, 60), (12, 140)):
        trade(venue, "ann", "bob", instrument, at, 5)
    vote_until(venue, DUE + minutes * v.MINUTE, 1_000)
    if minutes > 0:
        price(venue, 1_050)
    venue.close_epoch()
    length, payload, closed = venue.snapshots[-1]
    for index in (1_020, 1_100, 1_060):
        venue.advance(4 * v.MINUTE)
        price(venue, index)
    vote_until(venue, max(venue.now_us, DUE) + v.MINUTE, 1_010)
    settle_all(venue)
    venue.close_epoch()
    restored = load(payload, closed)
    assert dump(restored) == payload
    tail = v.replay(venue.journal[length:], Reducer(state=restored))
    assert dump(tail.state) == dump(venue.state)
    assert tail.state.symbols["X"].expiries[DUE].price
