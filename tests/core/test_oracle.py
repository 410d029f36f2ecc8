# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes on prices: what counts, what is refused and why, and what a minority cannot do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import oracle
from clearing.core.margin import assess
from clearing.core.mark import FINE, ema_step
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import body_hash, encode, encode_entry
from clearing.model.params import OracleRules, Params
from clearing.model.signature import sign
from tests.core import venue as v

PRICE = 50 * v.USD
ANY_PRICE = st.integers(1, 2**53 - 1)


def market(**params: Any) -> v.Venue:
    """One publisher, ann and bob with 10,000, prices set."""
    venue = v.Venue(Params(**params))
    for name in ("ann", "bob"):
        venue.fund(name, 10_000 * v.USD)
    venue.oracle({v.BTC: PRICE, v.ETH: 20 * v.USD})
    return venue


def five(**params: Any) -> v.Venue:
    """Five publishers of which three make a quorum; all have voted."""
    venue = v.Venue(Params(oracle_quorum=3, **params), publishers=5)
    for name in ("ann", "bob"):
        venue.fund(name, 10_000 * v.USD)
    for publisher in range(5):
        venue.oracle({v.BTC: PRICE}, publisher)
    return venue


# --- aggregation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "votes, expected",
    [
        ([(100, 2)], (100, 2)),
        ([(100, 1), (100, 1)], (100, 1)),
        ([(100, 1), (110, 1)], (101, 9)),
        ([(100, 1), (101, 1), (102, 1)], (101, 1)),
        ([(100, 5), (100, 1), (100, 1), (100, 1), (100, 5)], (100, 1)),
        ([(100, 1), (100, 1), (100, 1), (100, 1), (900, 1)], (100, 1)),
        ([(1, 1)], (1, 1)),
    ],
)
def test_index_and_confidence_by_hand(votes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    """Lower median of all p - c, p, p + c, and the larger distance to the quartiles."""
    assert oracle.aggregate(votes) == expected


honest_votes = st.lists(
    st.integers(1_000, 2_000).flatmap(lambda p: st.tuples(st.just(p), st.integers(1, p // 50))), min_size=4, max_size=9
)


@pytest.mark.slow
@settings(max_examples=400)
@given(honest=honest_votes, price=ANY_PRICE, width=st.integers(1, 20_000), place=st.integers(0, 9))
def test_one_liar_among_five_or_more_stays_within_what_the_honest_said(
    honest: list[tuple[int, int]], price: int, width: int, place: int
) -> None:
    """Whatever one publisher says, as sure or unsure as is permitted: the index lies between honest prices, and the
    confidence within the spread of what honest publishers said."""
    liar = (price, max(1, min(width, price // 50)))
    votes = [*honest[:place], liar, *honest[place:]]
    index, distance = oracle.aggregate(votes)
    assert min(p for p, _ in honest) <= index <= max(p for p, _ in honest)
    assert 1 <= distance <= max(p + w for p, w in honest) - min(p - w for p, w in honest)


@settings(max_examples=40, deadline=None)
@given(
    honest=st.lists(st.tuples(st.integers(970, 1_030), st.integers(1, 19)), min_size=4, max_size=4),
    lies=st.lists(st.tuples(st.integers(500, 1_500), st.integers(1, 9)), min_size=5, max_size=5),
    silent=st.integers(0, 2),
    place=st.integers(0, 4),
)
def test_a_liar_who_votes_after_everybody_never_leaves_the_honest_range(
    honest: list[tuple[int, int]], lies: list[tuple[int, int]], silent: int, place: int
) -> None:
    """Five publishers, a quorum of three, up to two honest ones silent: before and after each honest vote the liar
    tells another lie, as far off as a jump may be. The index stays among the p - c and p + c of the honest votes that
    count: the minority of three that a liar may be is not enough to move it past them."""
    venue = five(oracle_max_age_us=30 * v.SECOND)
    venue.advance(v.MINUTE)
    unit = PRICE // 1_000
    voices = [number for number in range(5) if number != place][: 4 - silent]
    heard: list[tuple[int, int]] = []
    for lie, voice, (price, width) in zip(lies, voices, honest, strict=False):
        for publisher, at, about in ((place, *lie), (voice, price, width), (place, *lie)):
            venue.oracle({v.BTC: at * unit}, publisher, confidence=min(about * unit, at * unit // 50))
            if publisher == voice:
                heard.append((price * unit, min(width * unit, price * unit // 50)))
            if len(heard) >= 2:
                index = venue.state.underlyings[v.BTC].index
                assert min(p - c for p, c in heard) <= index <= max(p + c for p, c in heard)


@given(votes=st.lists(st.tuples(ANY_PRICE, st.integers(1, 2**53)), min_size=1, max_size=9))
def test_an_index_is_positive_and_does_not_depend_on_who_said_what(votes: list[tuple[int, int]]) -> None:
    votes = [(price, min(width, price)) for price, width in votes]
    index, distance = oracle.aggregate(votes)
    assert index >= 1 and distance >= 1
    assert oracle.aggregate(votes[::-1]) == (index, distance)


@pytest.mark.parametrize(
    "distance_ppm, expected",
    [(0, ids.UNIT), (1, ids.UNIT - 22_500_000), (20_000, 550_000_000_000), (44_444, 10_000_000), (44_445, 0)],
)
def test_the_confidence_level_reaches_055_at_the_widest_permitted(distance_ppm: int, expected: int) -> None:
    """1 - 22.5 x c / p, never below zero."""
    state = v.Venue().state
    assert oracle.level(state, 1_000_000, distance_ppm) == expected
    assert oracle.level(state, 3_000_001, 3) == ids.UNIT - -(-3 * 22_500_000 * 10**6 // 3_000_001), "rounded down"


def test_an_accepted_price_says_index_and_confidence() -> None:
    venue = five()
    for publisher, price in enumerate((100, 101, 102, 103, 104)):
        out = venue.oracle({v.BTC: PRICE + price}, publisher, confidence=2)
    assert out == [o.PriceAccepted(4, v.BTC, PRICE + 102, 2)]
    under = venue.state.underlyings[v.BTC]
    assert under.confidence == oracle.level(venue.state, PRICE + 102, 2)


# --- refusals --------------------------------------------------------------------------------------


def moving_parts(venue: v.Venue) -> tuple[object, ...]:
    """Everything that a price moves."""
    state = venue.state
    unders = [
        (u.index, u.confidence, u.index_time, u.twap, u.variance, u.factor_ppm) for u in state.underlyings.values()
    ]
    insts = [(i.index, i.mark, i.index_time, i.ema, i.imf, i.premium_count) for i in state.instruments.values()]
    return unders, insts, [dict(publisher.prices) for publisher in state.publishers]


@pytest.mark.parametrize(
    "vote, code",
    [
        (c.Price(v.BTC, 0, 1), "ORACLE_NOT_POSITIVE"),
        (c.Price(v.BTC, -PRICE, 1), "ORACLE_NOT_POSITIVE"),
        (c.Price(v.BTC, PRICE, 0), "ORACLE_NOT_POSITIVE"),
        (c.Price(v.BTC, PRICE, -1), "ORACLE_NOT_POSITIVE"),
        (c.Price(v.BTC, PRICE, PRICE // 50 + 1), "ORACLE_CONFIDENCE"),
        (c.Price(v.BTC, PRICE, PRICE // 50), ""),
        (c.Price(v.BTC, PRICE * 3 // 2 + 1, 1), "ORACLE_JUMP"),
        (c.Price(v.BTC, PRICE * 3 // 2, 1), ""),
        (c.Price(v.BTC, PRICE // 2 - 1, 1), "ORACLE_JUMP"),
        (c.Price(v.BTC, PRICE // 2, 1), ""),
        (c.Price(v.BTC, 2**53, 1), "INVALID_PRICE"),
        (c.Price(v.BTC, 2**64 - 1, 1), "INVALID_PRICE"),
        (c.Price(77, PRICE, 1), "UNKNOWN_INSTRUMENT"),
    ],
)
def test_a_bad_price_is_refused_with_its_reason_and_moves_nothing(vote: c.Price, code: str) -> None:
    """Beside a good one in the same update, which counts."""
    venue = market()
    before = moving_parts(venue)
    out = venue.oracle({vote.underlying: vote.price_atoms}, confidence=vote.confidence_atoms)
    assert v.codes(out) == ([code] if code else [])
    assert (moving_parts(venue) == before) is bool(code)
    venue.advance(1)
    assert not v.codes(venue.oracle({v.ETH: 20 * v.USD}))


@pytest.mark.parametrize(
    "when, chain, code",
    [
        (v.SECOND, None, ""),
        (v.SECOND + 1, None, "ORACLE_FUTURE"),
        (-v.MINUTE, None, ""),
        (-v.MINUTE - 1, None, "ORACLE_TOO_OLD"),
        (0, bytes([9]) * 32, "ORACLE_CHAIN_BROKEN"),
    ],
)
def test_a_bad_time_or_chain_refuses_the_whole_update(when: int, chain: bytes | None, code: str) -> None:
    """Not one of its prices counts, and no surface is looked at."""
    venue = market()
    venue.advance(v.HOUR)
    before = moving_parts(venue)
    odd = v.surface(v.BTC, 1, PRICE, (1,), (0.5,))
    prices = {v.BTC: PRICE + 1, v.ETH: 20 * v.USD}
    out = venue.oracle(prices, time_us=venue.now_us + when, prev_hash=chain, surfaces=(odd,))
    assert v.codes(out) == ([code] if code else ["UNKNOWN_INSTRUMENT"])
    assert (moving_parts(venue) == before) is bool(code)


DUE = v.START_US + v.DAY
GOOD = v.surface(v.BTC, DUE, PRICE, (PRICE,), (0.5,))


def all_but_the_voice(venue: v.Venue) -> bytes:
    """Every byte of the state, with the publisher's head and time and the clock taken out."""
    state, publisher = venue.state, venue.state.publishers[0]
    kept = publisher.head, publisher.time_us, state.time_us
    publisher.head, publisher.time_us, state.time_us = bytes(32), 0, 0
    body = dump(state)
    publisher.head, publisher.time_us, state.time_us = kept
    return body


def _off_trend(venue: v.Venue) -> int:
    """The index climbs in permitted steps until the next one is beyond five times the slow mean."""
    price = PRICE
    while price * 149 // 100 * FINE <= 5 * venue.state.underlyings[v.BTC].twap:
        price = price * 149 // 100
        venue.advance(v.SECOND)
        assert not v.codes(venue.oracle({v.BTC: price}))
    return price * 149 // 100


@pytest.mark.parametrize(
    "code, words",
    [
        ("ORACLE_NOT_POSITIVE", {"price": 0}),
        ("ORACLE_NOT_POSITIVE", {"price": -PRICE}),
        ("ORACLE_TOO_OLD", {"when": -v.MINUTE - 1}),
        ("ORACLE_FUTURE", {"when": v.SECOND + 1}),
        ("ORACLE_JUMP", {"price": 2 * PRICE}),
        ("ORACLE_CONFIDENCE", {"width": PRICE // 25}),
        ("ORACLE_OFF_TREND", {"price": None}),
        ("ORACLE_CHAIN_BROKEN", {"chain": bytes([9]) * 32}),
        ("INVALID_SURFACE", {"surface": {"strikes": (PRICE, 1), "vols": (1, 1)}}),
        ("INVALID_SURFACE", {"surface": {"vols": (1,)}}),
        ("ORACLE_CONFIDENCE", {"surface": {"forward_confidence_atoms": PRICE // 25}}),
        ("UNKNOWN_INSTRUMENT", {"surface": {"expiry_us": DUE + 1}}),
    ],
)
def test_a_refused_vote_changes_no_byte_but_its_publishers_head_and_time(code: str, words: dict[str, Any]) -> None:
    """In a venue with positions, orders, a future, an option and an array; what comes out is the refusal alone."""
    contracts = (*v.INSTRUMENTS, v.future(3, DUE), v.option(4, PRICE, DUE, True))
    venue = v.Venue(instruments=contracts)
    for name in ("ann", "bob"):
        venue.fund(name, 10_000 * v.USD)
    venue.oracle({v.BTC: PRICE, v.ETH: 20 * v.USD}, surfaces=(GOOD,))
    venue.sell("ann", PRICE, 20)
    venue.buy("bob", PRICE, 10)
    price = words.get("price", PRICE)
    if price is None:
        price = _off_trend(venue)
    venue.advance(2 * v.MINUTE if code == "ORACLE_TOO_OLD" else 2 * v.SECOND)
    odd = (msgspec.structs.replace(GOOD, **words["surface"]),) if "surface" in words else ()
    when = None if "when" not in words else venue.now_us + words["when"]
    before = all_but_the_voice(venue)
    out = venue.oracle(
        {} if odd else {v.BTC: price}, confidence=words.get("width", 1), time_us=when,
        prev_hash=words.get("chain"), surfaces=odd,
    )  # fmt: skip
    assert out == [o.Rejected(0, code)]
    assert all_but_the_voice(venue) == before
    assert venue.state.publishers[0].head == venue.publisher_heads[0]


def test_resending_an_update_of_a_future_date_breaks_no_chain() -> None:
    """It stays newer than what its publisher says since, until its time comes. Anybody who kept it may send it again
    and again: it is refused every time, and the publisher's own updates go on to count."""
    venue = market()
    venue.advance(v.SECOND)
    prices = (c.Price(v.BTC, PRICE * 2, 1),)
    body = c.OracleUpdate(venue.deployment, 0, venue.publisher_heads[0], venue.now_us + v.MINUTE, prices)
    raw = sign(body, venue.publisher_seeds[0])
    assert v.codes(venue.submit(raw)) == ["ORACLE_FUTURE"]
    venue.publisher_heads[0] = body_hash(encode(body))
    for second in range(3):
        venue.advance(v.SECOND)
        assert not v.codes(venue.oracle({v.BTC: PRICE + second})), "it continues the chain"
        assert v.codes(venue.submit(raw)) == ["ORACLE_CHAIN_BROKEN"]
    assert venue.state.underlyings[v.BTC].index == PRICE + 2


def test_a_broken_chain_shows_once_and_goes_on_from_there() -> None:
    """Somebody left one out: it is visible in the journal, and the next one counts again."""
    venue = market()
    venue.advance(v.SECOND)
    assert v.codes(venue.oracle({v.BTC: PRICE + 1}, prev_hash=bytes([1]) * 32)) == ["ORACLE_CHAIN_BROKEN"]
    venue.advance(v.SECOND)
    assert not v.codes(venue.oracle({v.BTC: PRICE + 2}))
    assert venue.state.underlyings[v.BTC].index == PRICE + 2


def test_rejections_count_prices_first_and_surfaces_after_them() -> None:
    venue = market()
    venue.advance(1)
    odd = v.surface(v.BTC, 1, PRICE, (1,), (0.5,))
    out = venue.oracle({v.BTC: 0, v.ETH: 20 * v.USD, 77: 1}, surfaces=(odd,))
    assert [x.index for x in out if isinstance(x, o.Rejected)] == [0, 2, 3]


def test_a_price_runs_away_from_its_slow_mean_only_so_far() -> None:
    """Steps below the permitted jump, one a second: never more than five times the mean, nor less than a fifth. An
    hour's silence later the mean says nothing about today."""
    for up in (True, False):
        venue = market()
        price = PRICE
        codes: list[str] = []
        while not codes:
            venue.advance(v.SECOND)
            price = price * 149 // 100 if up else price * 51 // 100
            codes = v.codes(venue.oracle({v.BTC: price}))
        assert codes == ["ORACLE_OFF_TREND"]
        index = venue.state.underlyings[v.BTC].index
        assert (3 * PRICE < index < 6 * PRICE) if up else (PRICE // 6 < index < PRICE // 3)
        venue.advance(v.HOUR - v.SECOND)
        assert v.codes(venue.oracle({v.BTC: price})) == ["ORACLE_OFF_TREND"]
        venue.advance(2 * v.SECOND)
        assert not v.codes(venue.oracle({v.BTC: price}))
        assert venue.state.underlyings[v.BTC].twap == price * FINE


def test_the_slow_mean_of_a_cheap_lot_follows_small_steps() -> None:
    """A lot of 400 atoms that gains ten a minute for ten hours is never off its trend."""
    venue = market()
    venue.advance(2 * v.HOUR)
    price = 400
    assert not v.codes(venue.oracle({v.ETH: price}))
    for _ in range(600):
        venue.advance(v.MINUTE)
        price += 10
        assert not v.codes(venue.oracle({v.ETH: price}))
    assert price * 8 // 10 * FINE < venue.state.underlyings[v.ETH].twap < price * FINE


@given(st.integers(-(2**63), 2**63), st.integers(0, 10**13), st.integers(1, 10**12))
def test_a_slow_mean_never_overshoots_and_both_directions_are_alike(gap: int, passed: int, tau: int) -> None:
    step = ema_step(gap, passed, tau)
    assert abs(step) <= abs(gap) and step * gap >= 0
    assert ema_step(-gap, passed, tau) == -step
    assert abs(abs(step) * (tau + passed) - abs(gap) * passed) < tau + passed


# --- quorum and age --------------------------------------------------------------------------------


def test_half_stale_freezes_and_never_liquidates() -> None:
    """Three of five fall silent while the price halves: two are no quorum, so the index stays, ages, and neither
    orders nor liquidations happen; the third voice brings the price and the liquidation."""
    venue = five()
    venue.sell("ann", PRICE, 2_000)
    venue.buy("bob", PRICE, 2_000)
    venue.advance(61 * v.SECOND)
    low = PRICE * 88 // 100
    for _ in range(3):
        venue.advance(v.SECOND)
        for publisher in (0, 1):
            assert venue.oracle({v.BTC: low}, publisher) == []
    assert venue.state.underlyings[v.BTC].index == PRICE
    assert v.codes(venue.buy("bob", PRICE, 1)) == ["ORACLE_STALE"]
    assert v.codes(venue.do("bob", c.Withdraw(0, 0, 1))) == ["ORACLE_STALE"]
    assert v.codes(venue.liquidate("bob")) == ["NOT_LIQUIDATABLE"]
    out = venue.oracle({v.BTC: low}, 2)
    assert [type(x) for x in out] == [o.PriceAccepted] and venue.state.underlyings[v.BTC].index == low
    assert v.codes(venue.liquidate("bob")) == []


def test_who_failed_before_the_publishers_fell_silent_is_not_liquidated_in_the_dark() -> None:
    """Below maintenance already, and then half of the publishers stop: the account still fails at the index that is
    left, but nobody acts on it until a quorum speaks. Orders and withdrawals wait too."""
    venue = five()
    venue.sell("ann", PRICE, 2_000)
    venue.buy("bob", PRICE, 2_000)
    low = PRICE * 88 // 100
    venue.advance(v.SECOND)
    for publisher in range(3):
        venue.oracle({v.BTC: low}, publisher)
    before = assess(venue.account("bob"))
    equity, _, maintenance = before
    assert equity < maintenance
    venue.advance(v.MINUTE + v.SECOND)
    for publisher in (3, 4):
        assert venue.oracle({v.BTC: low}, publisher) == []
    frozen = [venue.liquidate("bob"), venue.buy("ann", low, 1), venue.do("ann", c.Withdraw(0, 0, 1))]
    assert [v.codes(out) for out in frozen] == [["ORACLE_STALE"]] * 3
    assert assess(venue.account("bob")) == before
    venue.oracle({v.BTC: low}, 0)
    assert not v.codes(venue.liquidate("bob"))


def test_the_index_is_as_old_as_the_quorum_that_stands_behind_it() -> None:
    """One publisher that goes on alone does not keep a price good for fills: that takes three."""
    venue = five()
    voted = venue.now_us
    venue.sell("ann", PRICE, 5)
    assert not v.codes(venue.buy("bob", PRICE, 1))
    for _ in range(3):
        venue.advance(2 * v.SECOND)
        venue.oracle({v.BTC: PRICE}, 4)
    inst = venue.state.instruments[v.BTC]
    assert inst.index_time == venue.state.underlyings[v.BTC].index_time <= voted
    assert v.codes(venue.buy("bob", PRICE, 1)) == ["ORACLE_STALE"]
    venue.oracle({v.BTC: PRICE}, 3)
    assert v.codes(venue.buy("bob", PRICE, 1)) == ["ORACLE_STALE"]
    venue.oracle({v.BTC: PRICE}, 2)
    assert not v.codes(venue.buy("bob", PRICE, 1))


def test_nobody_is_liquidated_after_a_restart_until_the_oracle_is_fresh() -> None:
    """Restored from a snapshot two minutes later: the old price is stale by its age, whatever it says."""
    venue = market(oracle=OracleRules(fill_max_age_us=v.DAY))
    venue.sell("ann", PRICE, 2_000)
    venue.buy("bob", PRICE, 2_000)
    venue.advance(v.SECOND)
    venue.oracle({v.BTC: PRICE * 88 // 100})
    closed = venue.close_epoch()
    _, payload, _ = venue.snapshots[-1]
    venue.reducer = Reducer(state=load(payload, closed))
    venue.advance(2 * v.MINUTE)
    assert v.codes(venue.liquidate("bob")) == ["ORACLE_STALE"]
    venue.oracle({v.BTC: PRICE * 88 // 100})
    assert v.codes(venue.liquidate("bob")) == []


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.integers(900, 1_100), st.integers(1, 400), st.integers(0, 30)), max_size=25
    )
)
def test_index_time_and_index_follow_a_naive_reading_of_the_votes(steps: list[tuple[int, int, int, int]]) -> None:
    """Any publishers at any times: recomputed from all votes ever made, the index is the one in force."""
    venue = v.Venue(Params(oracle_quorum=3), publishers=5)
    last: dict[int, tuple[int, int, int]] = {}
    expected = (0, 0)
    for publisher, per_mille, width, wait in steps:
        venue.advance(wait * v.SECOND)
        price = PRICE * per_mille // 1_000
        out = venue.oracle({v.BTC: price}, publisher, confidence=width)
        assert not v.codes(out)
        last[publisher] = (price, width, venue.now_us)
        fresh = [vote for vote in last.values() if vote[2] >= venue.now_us - v.MINUTE]
        if len(fresh) >= 3:
            points = sorted(p + sign * w for p, w, _ in fresh for sign in (-1, 0, 1))
            newest = sorted((then for *_, then in fresh), reverse=True)
            expected = (points[(len(points) - 1) // 2], newest[2])
        under = venue.state.underlyings[v.BTC]
        assert (under.index, under.index_time) == expected
        assert bool(out) == (len(fresh) >= 3)


# --- size ------------------------------------------------------------------------------------------


def test_the_widest_update_fits_an_entry() -> None:
    """250 prices and 100 surfaces of as many underlyings, all with arrays and new margins, and 300 triggers or
    breakers, every number as wide as it gets, in the largest envelope."""
    wide, hashed = 2**63 - 1, bytes(32)
    under = 2**32 - 1
    outcomes: list[o.Outcome] = [
        o.PriceAccepted(127, under, wide, wide),
        o.MarginAdapted(under, wide, wide, wide),
    ] * 250
    outcomes += [o.SurfaceAccepted(127, under, wide, wide, -wide)] * 100
    outcomes += [o.BreakerChanged(under, "DIVERGED", wide, wide)] * 300
    outcomes += [o.RiskArrayBuilt(under, hashed, hashed)] * 350
    encode_entry(2**40, v.START_US, bytes(ids.MAX_ENVELOPE_BYTES), outcomes)


def test_a_larger_update_is_not_admitted() -> None:
    venue = market()
    venue.advance(1)
    body = c.OracleUpdate(
        venue.deployment, 0, venue.publisher_heads[0], venue.now_us, (c.Price(v.BTC, PRICE, 1),) * 251
    )
    assert v.refusal(venue, sign(body, venue.publisher_seeds[0])) == "BATCH_SIZE"
