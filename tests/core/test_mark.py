# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark price: between index and book, slow to follow quotes, and never far from the index."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.mark import FINE
from clearing.core.state import InstrumentState
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, OracleRules, Params, Underlying
from tests.core import venue as v

X = 1
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
DUE = v.START_US + v.DAY
FUTURE = 2
BASE = 1_000_000


def open_venue(contracts: tuple[Instrument, ...] = (PERP,), **params: Any) -> v.Venue:
    base = Params(fee_tiers=(FeeTier(0, 0, 0),), underlyings=(Underlying(X, "X", 1),))
    venue = v.Venue(msgspec.structs.replace(base, **params), contracts)
    for name in ("ann", "bob", "cat"):
        venue.fund(name, 10**13)
    venue.oracle({X: BASE})
    return venue


def quote(venue: v.Venue, bid: int, ask: int, instrument: int = X) -> None:
    """Ann's only orders are a bid and an ask (0: none)."""
    sides = ((ids.BUY, bid), (ids.SELL, ask))
    orders = [venue.order(side, price, 5, instrument) for side, price in sides if price]
    assert not v.codes(venue.do("ann", c.CancelAll(), *orders))


def votes(venue: v.Venue, count: int, price: int = BASE, wait_us: int = v.SECOND) -> None:
    for _ in range(count):
        venue.advance(wait_us)
        venue.oracle({X: price})


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(950, 1_050),
            st.integers(0, 1_300),
            st.integers(0, 300),
            st.integers(0, 2),
            st.integers(0, 90),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_mark_lies_between_its_three_inputs_and_within_the_band(
    steps: list[tuple[int, int, int, int, int]],
) -> None:
    """Any quotes, trades, prices and waits. The inputs: index, index + EMA of (mid - index), the middle of bid, ask
    and last; further than 10 % from the index it is held."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    for index, low, spread, trade, wait in steps:
        bid, ask = low * BASE // 1_000, (low + spread) * BASE // 1_000 + 1
        orders = [venue.order(side, price, 5, X) for side, price in ((ids.BUY, bid), (ids.SELL, ask)) if price]
        venue.do("ann", c.CancelAll(), *orders)  # some are refused, while the market is diverged
        if trade:
            venue.do("bob", venue.order(trade - 1, ask if trade == 1 else max(1, bid), 1, X, tif=ids.IOC))
        venue.advance(wait * v.SECOND)
        venue.oracle({X: index * BASE // 1_000})
        _check_inputs(inst)


def _check_inputs(inst: InstrumentState) -> None:
    index, bid, ask = inst.index, inst.book.best(ids.BUY), inst.book.best(ids.SELL)
    limit = index // 10
    if not bid or not ask:
        assert inst.mark == index
        return
    inputs = (index, index + inst.ema // FINE, sorted((bid, ask, inst.last or (bid + ask) // 2))[1])
    assert inst.mark == max(index - limit, min(index + limit, sorted(inputs)[1]))
    assert min(inputs) <= inst.mark <= max(inputs)
    assert abs(inst.ema) <= index * FINE * 2


@settings(max_examples=40, deadline=None)
@given(
    samples=st.lists(st.tuples(st.integers(-100_000, 100_000), st.integers(1, 60_000_000)), min_size=1, max_size=20),
)
def test_the_ema_stays_among_its_samples(samples: list[tuple[int, int]]) -> None:
    """It never overshoots: between zero, where it began, and the outermost samples."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    lowest, highest = 0, 0
    for basis, wait in samples:
        quote(venue, BASE + basis - 1, BASE + basis + 1)
        venue.advance(wait)
        venue.oracle({X: BASE})
        lowest, highest = min(lowest, basis), max(highest, basis)
        assert lowest * FINE <= inst.ema <= highest * FINE


def _of_ranks(*inputs: int) -> int:
    """The median of three by its definition: as many are not above it as are not below it."""
    return next(x for x in inputs if sum(y <= x for y in inputs) >= 2 and sum(y >= x for y in inputs) >= 2)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(800, 1_250),
            st.integers(1, 1_300),
            st.integers(0, 300),
            st.sampled_from((0, 1, 2)),
            st.integers(1, 90_000_000),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_mark_is_that_of_a_naive_account_of_all_votes(steps: list[tuple[int, int, int, int, int]]) -> None:
    """Quotes, trades and waits as they come, recomputed from nothing but what was quoted, traded and voted: samples
    of mid - index held to +-100 %, x += (y - x) dt / (tau + dt) with dt of at most a minute, median of three, held
    at 10 %. The EMA is kept in 1/1024 atoms, and rounds toward its old value."""
    venue = open_venue(oracle_max_jump_ppm=10**7, oracle=OracleRules(twap_band=10**4))
    inst = venue.state.instruments[X]
    ema, last = 0, 0
    for index, low, spread, quoted, wait in steps:
        bid, ask = (low * BASE // 1_000, (low + spread) * BASE // 1_000 + 2) if quoted else (0, 0)
        venue.do("ann", c.CancelAll())
        for side, price in ((ids.BUY, bid), (ids.SELL, ask)):
            if price and v.codes(venue.do("ann", venue.order(side, price, 5, X))):
                bid, ask = (0, ask) if side == ids.BUY else (bid, 0)  # the market is diverged
        if quoted == 2 and ask and not v.codes(venue.do("bob", venue.order(ids.BUY, ask, 1, X, tif=ids.IOC))):
            last = ask
        venue.advance(wait)
        level = index * BASE // 1_000
        assert not v.codes(venue.oracle({X: level}))
        seen = bool(bid and ask)
        sample = max(-level * 1_024, min(level * 1_024, (bid + ask - 2 * level) * 512)) if seen else 0
        passed = min(wait, 60_000_000)
        part = abs(sample - ema) * passed // (150_000_000 + passed)
        ema += part if sample > ema else -part
        fair = level
        if seen:
            fair = _of_ranks(level, level + ema // 1_024, _of_ranks(bid, ask, last or (bid + ask) // 2))
        assert inst.ema == ema
        assert inst.mark == max(level - level // 10, min(level + level // 10, fair))


def test_a_premium_that_lasts_moves_the_mark_and_one_that_flashes_does_not() -> None:
    """2 % over the index: a vote later next to nothing, after 150 seconds of votes some 63 % of it."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    quote(venue, BASE * 102 // 100 - 1, BASE * 102 // 100 + 1)
    votes(venue, 1)
    assert 0 < inst.mark - BASE < 150
    votes(venue, 150)
    assert 12_500 < inst.mark - BASE < 12_800


def test_one_quote_after_a_long_silence_counts_for_a_minute_at_most() -> None:
    """An hour without votes, then an absurd pair of quotes: the EMA takes 60 / (150 + 60) of it, not all."""
    venue = open_venue()
    quote(venue, BASE * 3, BASE * 5)
    venue.advance(v.HOUR)
    venue.oracle({X: BASE})
    inst = venue.state.instruments[X]
    assert inst.ema == BASE * FINE * 60 // 210, "and no sample is more than 100 % off"
    assert inst.mark == BASE * 110 // 100


def test_a_book_with_one_side_says_nothing() -> None:
    """The mark is the index at once, and what the EMA had learnt decays."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    quote(venue, BASE * 102 // 100 - 1, BASE * 102 // 100 + 1)
    votes(venue, 100)
    learnt = inst.ema
    assert learnt > 0 and inst.mark > BASE
    for bid, ask in ((BASE * 2, 0), (0, BASE // 2), (0, 0)):
        quote(venue, bid, ask)
        votes(venue, 1)
        assert inst.mark == BASE and 0 < inst.ema < learnt
        learnt = inst.ema
    votes(venue, 60, wait_us=v.MINUTE)
    assert inst.ema // FINE == 0


def test_the_quotes_of_a_halted_market_say_nothing() -> None:
    """Nobody could answer them."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    quote(venue, BASE * 102 // 100 - 1, BASE * 102 // 100 + 1)
    votes(venue, 100)
    venue.operator(c.HaltMarket(X, True, "check"))
    votes(venue, 1)
    assert inst.mark == BASE
    venue.operator(c.HaltMarket(X, False, "checked"))
    votes(venue, 1)
    assert inst.mark > BASE


def test_orders_and_trades_do_not_move_the_mark_between_votes() -> None:
    venue = open_venue()
    inst = venue.state.instruments[X]
    quote(venue, BASE * 102 // 100, BASE * 103 // 100)
    votes(venue, 20)
    mark = inst.mark
    venue.do("bob", venue.order(ids.BUY, BASE * 103 // 100, 5, X))
    venue.do("cat", venue.order(ids.SELL, BASE // 2, 5, X))
    assert inst.mark == mark and inst.last == BASE * 102 // 100


def test_a_mark_that_diverges_is_held_and_only_reducing_orders_are_taken() -> None:
    """The book stays 30 % above the index: the mark stops 10 % above it, and says so once. Whoever would sell may, and
    so the book comes back and the market is open again."""
    venue = open_venue()
    inst = venue.state.instruments[X]
    quote(venue, BASE * 129 // 100, BASE * 131 // 100)
    venue.do("bob", venue.order(ids.BUY, BASE * 131 // 100, 2, X))
    said = []
    for _ in range(120):
        venue.advance(v.SECOND)
        said += [x for x in venue.oracle({X: BASE}) if isinstance(x, o.BreakerChanged)]
    assert said == [o.BreakerChanged(X, "DIVERGED", BASE * 110 // 100, BASE)]
    assert inst.mark == BASE * 110 // 100 and inst.breaker == "DIVERGED"
    assert v.codes(venue.do("cat", venue.order(ids.BUY, BASE, 1, X))) == ["ORACLE_DIVERGED"]
    quotes = (venue.order(ids.SELL, BASE * 129 // 100, 5, X), venue.order(ids.SELL, BASE * 101 // 100, 5, X))
    assert not v.codes(venue.do("cat", *quotes)), "one hits the bid, the other leads back"
    short = venue.account("cat").slots[X].size
    assert short == -5
    assert v.codes(venue.do("cat", venue.order(ids.BUY, BASE, 6, X))) == ["ORACLE_DIVERGED"], "five and no more"
    assert not v.codes(venue.do("cat", venue.order(ids.BUY, BASE, 5, X)))
    venue.advance(v.SECOND)
    assert any(isinstance(x, o.BreakerChanged) and x.kind == "NONE" for x in venue.oracle({X: BASE}))
    assert not v.codes(venue.do("bob", venue.order(ids.BUY, BASE, 1, X)))


def test_a_future_is_marked_around_its_forward() -> None:
    """Forward 3 % over the index, quotes 1 % over the forward: the mark leaves the forward, not the index."""
    venue = open_venue((PERP, v.future(FUTURE, DUE, "X", 1)))
    inst = venue.state.instruments[FUTURE]
    forward = BASE * 103 // 100
    vote = v.surface(X, DUE, forward, (BASE,), (0.5,))
    venue.oracle({X: BASE}, surfaces=(vote,))
    assert (inst.index, inst.mark) == (forward, forward)
    quote(venue, BASE * 104 // 100 - 1, BASE * 104 // 100 + 1, FUTURE)
    for _ in range(150):
        venue.advance(v.SECOND)
        venue.oracle({X: BASE}, surfaces=(vote,))
    assert forward + BASE * 6 // 1_000 < inst.mark < BASE * 104 // 100
    assert venue.state.instruments[X].mark == BASE


def test_inside_the_settlement_window_only_the_open_part_moves() -> None:
    """Half of the window at an index of 1.0: a forward that then stands at 1.2 lifts the future to 1.1 and its option
    with it; at the end the mark is the mean, whatever the forward."""
    contracts = (PERP, v.future(FUTURE, DUE, "X", 1), v.option(3, BASE, DUE, True, "X", 1))
    venue = open_venue(contracts, oracle_max_age_us=v.HOUR)
    venue.now_us = DUE - 30 * v.MINUTE
    venue.oracle({X: BASE}, surfaces=(v.surface(X, DUE, BASE, (BASE,), (0.01,)),))
    insts = venue.state.instruments
    assert insts[FUTURE].mark == BASE
    venue.now_us = DUE - 15 * v.MINUTE
    venue.oracle({X: BASE}, surfaces=(v.surface(X, DUE, BASE * 12 // 10, (BASE,), (0.01,)),))
    assert insts[FUTURE].mark == BASE * 11 // 10
    assert insts[3].mark == BASE // 10
    market = insts[X].under.market
    assert market is not None
    assert market.split(BASE * 11 // 10, DUE) == (BASE // 2, BASE * 6 // 10)
    venue.now_us = DUE
    venue.oracle({X: BASE * 14 // 10})
    assert (insts[FUTURE].mark, insts[3].mark) == (BASE, 1 - 1), "an option without payoff is worth nothing at all"


def test_open_interest_and_size_raise_the_fractions_in_force() -> None:
    """Between the bounds IMF grows from 5 % to 100 % of notional; the maintenance fraction does not."""
    under = Underlying(X, "X", 1, oi_lower_atoms=10 * BASE, oi_upper_atoms=30 * BASE, size_factor=10**10)
    venue = open_venue(underlyings=(under,))
    inst = venue.state.instruments[X]
    assert (inst.imf, inst.free_lots) == (50_000, 25)
    for lots, imf in ((10, 50_000), (10, 525_000), (10, 1_000_000), (10, 1_000_000)):
        venue.do("ann", venue.order(ids.SELL, BASE, lots, X))
        venue.do("bob", venue.order(ids.BUY, BASE, lots, X))
        votes(venue, 1)
        assert (inst.imf, inst.mmf) == (imf, 30_000)
    assert inst.free_lots == ids.MAX_LOTS
