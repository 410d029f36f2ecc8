# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes on forwards, rates and vols; the risk array that follows from them, and that it can be built again."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import arrays, surfaces
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load, restore
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, Params, Underlying
from tests.core import venue as v

X = 1
SPOT = 1_000_000
DUE = v.START_US + 7 * v.DAY
LATER = v.START_US + 30 * v.DAY
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
FUTURE, CALL, PUT, HIGH = 10, 11, 12, 13
CONTRACTS = (
    PERP,
    v.future(FUTURE, DUE, "X", 1),
    v.option(CALL, SPOT, DUE, True, "X", 1),
    v.option(PUT, SPOT, DUE, False, "X", 1),
    v.option(HIGH, SPOT * 12 // 10, DUE, True, "X", 1),
    v.future(20, LATER, "X", 1),
)
STRIKES = (SPOT * 8 // 10, SPOT, SPOT * 12 // 10)
SMILE = (0.9, 0.7, 0.8)


def open_venue(publishers: int = 1, quorum: int = 1, **params: Any) -> v.Venue:
    base = Params(fee_tiers=(FeeTier(0, 0, 0),), oracle_quorum=quorum, underlyings=(Underlying(X, "X", 1),))
    venue = v.Venue(msgspec.structs.replace(base, **params), CONTRACTS, publishers)
    for name in ("ann", "bob"):
        venue.fund(name, 10**12)
    return venue


def good(**changes: Any) -> c.Surface:
    vote = v.surface(X, DUE, SPOT * 102 // 100, STRIKES, SMILE, 0.05)
    return msgspec.structs.replace(vote, **changes)


def both(venue: v.Venue, publisher: int = 0, spot: int = SPOT, **changes: Any) -> list[o.Outcome]:
    """An index vote and a surface in one update."""
    return venue.oracle({X: spot}, publisher, surfaces=(good(**changes),))


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, code",
    [
        ({}, ""),
        ({"underlying": 9}, "UNKNOWN_INSTRUMENT"),
        ({"expiry_us": DUE + 1}, "UNKNOWN_INSTRUMENT"),
        ({"strikes": (), "vols": ()}, "INVALID_SURFACE"),
        ({"strikes": (1, 2)}, "INVALID_SURFACE"),
        ({"strikes": (0, 1, 2)}, "INVALID_SURFACE"),
        ({"strikes": (-1, 1, 2)}, "INVALID_SURFACE"),
        ({"strikes": (1, 2, 2)}, "INVALID_SURFACE"),
        ({"strikes": (1, 3, 2)}, "INVALID_SURFACE"),
        ({"strikes": (1, 2, 2**53)}, "INVALID_SURFACE"),
        ({"strikes": tuple(range(1, 513)), "vols": (ids.UNIT,) * 512}, ""),
        ({"strikes": tuple(range(1, 514)), "vols": (ids.UNIT,) * 513}, "INVALID_SURFACE"),
        ({"vols": (ids.UNIT, 9_999_999_999, ids.UNIT)}, "INVALID_SURFACE"),
        ({"vols": (ids.UNIT, 10_000_000_000, ids.UNIT)}, ""),
        ({"vols": (ids.UNIT, 20 * ids.UNIT, ids.UNIT)}, ""),
        ({"vols": (ids.UNIT, 20 * ids.UNIT + 1, ids.UNIT)}, "INVALID_SURFACE"),
        ({"forward_atoms": 0}, "INVALID_SURFACE"),
        ({"forward_atoms": -SPOT}, "INVALID_SURFACE"),
        ({"forward_atoms": 2**53}, "INVALID_SURFACE"),
        ({"forward_atoms": 5 * SPOT}, ""),
        ({"forward_atoms": 5 * SPOT + 1}, "INVALID_SURFACE"),
        ({"forward_atoms": SPOT // 5}, ""),
        ({"forward_atoms": SPOT // 5 - 1}, "INVALID_SURFACE"),
        ({"forward_confidence_atoms": 0}, "INVALID_SURFACE"),
        ({"forward_atoms": SPOT, "forward_confidence_atoms": SPOT // 50}, ""),
        ({"forward_atoms": SPOT, "forward_confidence_atoms": SPOT // 50 + 1}, "ORACLE_CONFIDENCE"),
        ({"rate": 10 * ids.UNIT}, ""),
        ({"rate": 10 * ids.UNIT + 1}, "INVALID_SURFACE"),
        ({"rate": -10 * ids.UNIT - 1}, "INVALID_SURFACE"),
        ({"rate_confidence": -1}, "INVALID_SURFACE"),
        ({"rate_confidence": ids.UNIT + 1}, "INVALID_SURFACE"),
        ({"vol_confidence": ids.UNIT + 1}, "INVALID_SURFACE"),
        ({"vol_confidence": 0}, ""),
    ],
)
def test_a_bad_surface_is_refused_with_its_reason_and_moves_nothing(changes: dict[str, Any], code: str) -> None:
    venue = open_venue()
    both(venue)
    venue.advance(v.SECOND)
    before = _moving(venue)
    out = venue.oracle({}, surfaces=(good(**changes),))
    assert v.codes(out) == ([code] if code else [])
    assert any(isinstance(x, o.SurfaceAccepted) for x in out) is not bool(code)
    if code:
        assert out == [o.Rejected(0, code)] and _moving(venue) == before


def _moving(venue: v.Venue) -> tuple[object, ...]:
    under = venue.state.underlyings[X]
    expiry = under.expiries[DUE]
    insts = [(i.index, i.mark, i.index_time) for i in under.instruments]
    votes = dict(venue.state.publishers[0].surfaces)
    return expiry.forward, expiry.rate, expiry.time_us, dict(under.vols), insts, votes, under.array_us


def test_an_expiry_that_has_come_takes_no_more_votes() -> None:
    venue = open_venue()
    both(venue)
    venue.now_us = DUE
    assert v.codes(both(venue)) == ["INSTRUMENT_EXPIRED"]


# --- what the votes agree on -----------------------------------------------------------------------


knots = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 10**15)), min_size=1, max_size=8, unique_by=lambda k: k[0]
)


@given(table=knots, strike=st.integers(1, 320))
def test_vols_are_linear_in_strike_and_flat_outside(table: list[tuple[int, int]], strike: int) -> None:
    """Against exact fractions; rounded down."""
    table = sorted(table)
    strikes, vols = tuple(k for k, _ in table), tuple(vol for _, vol in table)
    below = [(k, vol) for k, vol in table if k <= strike]
    above = [(k, vol) for k, vol in table if k >= strike]
    if not below or not above:
        expected = above[0][1] if above else below[-1][1]
    else:
        (low, first), (high, second) = below[-1], above[0]
        expected = first if low == high else floor(first + Fraction((second - first) * (strike - low), high - low))
    assert surfaces.vol_at(strikes, vols, strike) == expected


@settings(max_examples=25, deadline=None)
@given(
    honest=st.lists(
        st.tuples(st.integers(950, 1_100), st.integers(-300, 300), st.integers(500, 900), st.integers(0, 10)),
        min_size=4,
        max_size=4,
    ),
    lie=st.tuples(
        st.integers(200, 5_000), st.integers(-10_000, 10_000), st.integers(10, 20_000), st.sampled_from((0, 10))
    ),
    place=st.integers(0, 4),
)
def test_one_liar_among_five_moves_no_number_beyond_what_the_honest_said(
    honest: list[tuple[int, int, int, int]], lie: tuple[int, int, int, int], place: int
) -> None:
    """Forward, rate, vols and both confidence levels lie between honest votes, though strikes differ."""
    venue = open_venue(5, 5)
    for publisher, (forward, rate, vol, level) in enumerate([*honest[:place], lie, *honest[place:]]):
        unit = ids.UNIT // 1_000
        strikes = (SPOT - 1_000 * publisher, SPOT + 7_000 * publisher + 1)
        out = both(
            venue, publisher, forward_atoms=forward * SPOT // 1_000, rate=rate * unit, strikes=strikes,
            vols=(vol * unit, vol * unit), rate_confidence=level * 100 * unit, vol_confidence=level * 100 * unit,
        )  # fmt: skip
        assert not v.codes(out)
    expiry, vols = venue.state.underlyings[X].expiries[DUE], venue.state.underlyings[X].vols
    found = [(expiry.forward, SPOT // 1_000), (expiry.rate, ids.UNIT // 1_000), (vols[CALL], ids.UNIT // 1_000)]
    found.append((expiry.vol_confidence, ids.UNIT // 10))
    for at, (value, scale) in enumerate(found):
        said = [vote[at] * scale for vote in honest]
        assert min(said) <= value <= max(said)
    assert expiry.rate_confidence == expiry.vol_confidence
    assert vols[CALL] == vols[PUT]


def test_a_surface_needs_its_quorum_and_an_index() -> None:
    """Two surfaces without any price do nothing; two prices alone make an index; then the next surface counts for
    itself and the one before."""
    venue = open_venue(2, 2)
    for publisher in (0, 1):
        assert venue.oracle({}, publisher, surfaces=(good(),)) == []
    for publisher in (0, 1):
        venue.oracle({X: SPOT}, publisher)
    under = venue.state.underlyings[X]
    assert under.index == SPOT and not under.vols
    out = venue.oracle({}, 0, surfaces=(good(rate=2),))
    assert [type(x) for x in out] == [o.SurfaceAccepted, o.RiskArrayBuilt]
    assert under.expiries[DUE].rate == 2, "the lower of the two"


def test_a_vote_that_the_index_left_behind_no_longer_counts() -> None:
    """Said at an index of 1.0, five times over; the index falls: only who votes again is counted."""
    venue = open_venue(3, 2, oracle_max_age_us=v.HOUR)
    for publisher in range(3):
        both(venue, publisher, forward_atoms=SPOT * 4)
    spot = SPOT
    while spot > SPOT // 3:
        spot = spot * 2 // 3
        for publisher in range(3):
            venue.oracle({X: spot}, publisher)
    assert not v.codes(venue.oracle({}, 0, surfaces=(good(forward_atoms=spot),)))
    assert venue.state.underlyings[X].expiries[DUE].forward == SPOT * 4, "one vote is no quorum"
    venue.oracle({}, 1, surfaces=(good(forward_atoms=spot),))
    assert venue.state.underlyings[X].expiries[DUE].forward == spot


# --- marks that depend on surfaces -----------------------------------------------------------------


def test_before_any_surface_a_future_trades_on_the_index_and_an_option_not_at_all() -> None:
    venue = open_venue()
    venue.oracle({X: SPOT})
    insts = venue.state.instruments
    assert (insts[FUTURE].index, insts[FUTURE].mark, insts[CALL].mark) == (SPOT, SPOT, 0)
    assert not v.codes(venue.buy("ann", SPOT, 1, FUTURE))
    assert v.codes(venue.buy("ann", 5, 1, CALL)) == ["NO_MARK_PRICE"]
    venue.advance(v.SECOND)
    both(venue)
    assert insts[FUTURE].index == SPOT * 102 // 100
    assert not v.codes(venue.buy("ann", 5, 1, CALL))
    assert insts[20].index == SPOT, "its own expiry has no vote yet"


def test_a_stale_surface_freezes_what_depends_on_it_and_not_the_perpetual() -> None:
    """The index goes on; the forward of an expiry that nobody votes on any more stays, and ages."""
    venue = open_venue()
    both(venue)
    for _ in range(7):
        venue.advance(10 * v.SECOND)
        venue.oracle({X: SPOT * 11 // 10})
    insts = venue.state.instruments
    assert insts[FUTURE].mark == SPOT * 102 // 100
    for number, code in ((X, []), (FUTURE, ["ORACLE_STALE"]), (CALL, ["ORACLE_STALE"]), (20, [])):
        assert v.codes(venue.buy("ann", 1, 1, number)) == code, number


def test_option_marks_are_the_models_value_and_obey_parity() -> None:
    """Each is Market.option_value, at least one atom; call - put = discounted (forward - strike), within rounding."""
    far = tuple(v.option(100 + i, SPOT * (i + 1) // 12, DUE, i % 2 == 0, "X", 1) for i in range(40))
    venue = v.Venue(Params(underlyings=(Underlying(X, "X", 1),)), (*CONTRACTS, *far))
    both(venue, rate=3 * ids.UNIT // 10)
    under = venue.state.underlyings[X]
    assert under.market is not None
    for inst in under.instruments:
        if inst.kind == ids.OPTION:
            worth = under.market.option_value(DUE, inst.spec.strike_atoms, inst.spec.is_call)
            assert inst.mark == max(1, worth)
    assert any(inst.mark == 1 for inst in under.instruments)
    forward = under.expiries[DUE].forward
    gap = (forward - SPOT) * under.market.discount(DUE) / 2**60
    insts = venue.state.instruments
    assert abs(insts[CALL].mark - insts[PUT].mark - gap) <= 1
    assert gap < forward - SPOT


# --- the array -------------------------------------------------------------------------------------


def test_one_array_per_update_however_much_it_says() -> None:
    venue = open_venue()
    later = v.surface(X, LATER, SPOT * 104 // 100, STRIKES, SMILE)
    out = venue.oracle({X: SPOT}, surfaces=(good(), later))
    assert [type(x) for x in out] == [o.PriceAccepted, o.SurfaceAccepted, o.SurfaceAccepted, o.RiskArrayBuilt]
    built, under = out[-1], venue.state.underlyings[X]
    assert isinstance(built, o.RiskArrayBuilt) and under.array is not None and under.market is not None
    assert (built.inputs_hash, built.array_hash) == (arrays.inputs_hash(under.market), under.array.digest)
    assert set(under.array.row_of) == {inst.id for inst in CONTRACTS}
    assert under.market.spot_confidence == under.confidence and under.array_us == venue.now_us


def test_perpetuals_alone_have_an_array_only_while_someone_is_under_portfolio_margin() -> None:
    venue = v.Venue()
    for name in ("ann", "bob"):
        venue.fund(name, 10**9)
    assert [type(x) for x in venue.oracle({v.BTC: 10**7})] == [o.PriceAccepted]
    under = venue.state.underlyings[v.BTC]
    venue.do("ann", c.SetMarginMode(ids.PORTFOLIO))
    assert under.array is not None and list(under.array.row_of) == [v.BTC]
    first = under.array.digest
    venue.advance(v.SECOND)
    assert [type(x) for x in venue.oracle({v.BTC: 11 * 10**6})] == [o.PriceAccepted, o.RiskArrayBuilt]
    assert under.array.digest != first
    venue.do("bob", c.SetMarginMode(ids.PORTFOLIO))
    venue.do("ann", c.SetMarginMode(ids.STANDARD))
    assert under.array is not None
    venue.do("bob", c.SetMarginMode(ids.STANDARD))
    state = restore(dump(venue.state)).underlyings[v.BTC]
    assert [u.array or u.market or u.array_us for u in (venue.state.underlyings[v.BTC], state)] == [0, 0]
    venue.advance(v.SECOND)
    assert [type(x) for x in venue.oracle({v.BTC: 10**7})] == [o.PriceAccepted]


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(900, 1_100), st.integers(900, 1_100), st.booleans(), st.integers(1, 50)),
        min_size=1,
        max_size=6,
    ),
    left_us=st.sampled_from((3 * v.DAY, 40 * v.MINUTE, 20 * v.MINUTE, 2 * v.MINUTE)),
)
def test_array_and_marks_after_a_snapshot_are_the_same_bits(
    steps: list[tuple[int, int, bool, int]], left_us: int
) -> None:
    """At any time before expiry, inside the settlement window too, after votes on price or surface or both: what is
    restored builds the market and the array again, and the next vote gives the same bytes."""
    venue = open_venue(underlyings=(Underlying(X, "X", 1),))
    venue.do("ann", c.SetMarginMode(ids.PORTFOLIO))
    both(venue)
    venue.now_us = DUE - left_us
    for spot, forward, with_surface, wait in steps:
        venue.advance(wait * v.SECOND)
        price = SPOT * spot // 1_000
        votes = (good(forward_atoms=SPOT * forward // 1_000, rate=spot * 10**9),) if with_surface else ()
        venue.oracle({X: price}, surfaces=votes)
    payload = dump(venue.state)
    mine, theirs = venue.state.underlyings[X], restore(payload).underlyings[X]
    assert mine.array is not None and theirs.array is not None
    assert mine.market is not None and theirs.market is not None
    assert theirs.array.digest == mine.array.digest
    assert arrays.inputs_hash(theirs.market) == arrays.inputs_hash(mine.market)
    closed = venue.close_epoch()
    other = Reducer(state=load(venue.snapshots[-1][1], closed))
    venue.advance(v.SECOND)
    both(venue, spot=SPOT * 95 // 100)
    v.replay(venue.journal[-1:], other)


def test_a_new_preset_builds_the_array_anew_when_it_comes_into_force() -> None:
    """Before the next vote, and so that a snapshot of that very epoch gives the same array."""
    venue = open_venue(notice_us=0)
    both(venue)
    under = venue.state.underlyings[X]
    assert under.array is not None
    before = under.array.digest
    changed = msgspec.structs.replace(venue.state.params, version=2, underlyings=(Underlying(X, "X", 1, preset=1),))
    venue.operator(c.ProposeParams(changed, venue.now_us))
    venue.advance(v.SECOND)
    closed = venue.close_epoch()
    assert under.array.digest != before
    restored = load(venue.snapshots[-1][1], closed).underlyings[X].array
    assert restored is not None and restored.digest == under.array.digest


def test_the_widest_prices_shocks_and_vols_fit_the_array() -> None:
    """An index at the price limit, +1000 %, 2000 % vol, 1000 % rates: built, committed, restored."""
    preset = Params().presets[0]
    wild = msgspec.structs.replace(
        preset, scenarios=tuple(msgspec.structs.replace(move, spot=10 * ids.UNIT) for move in preset.scenarios)
    )
    far = v.option(50, ids.MAX_PRICE_ATOMS, LATER, False, "X", 1)
    params = Params(presets=(wild, wild), underlyings=(Underlying(X, "X", 1),))
    venue = v.Venue(params, (*CONTRACTS, far))
    top = ids.MAX_PRICE_ATOMS
    late = v.surface(X, LATER, top, (1, top), (20.0, 20.0), 10.0)
    out = venue.oracle({X: top}, surfaces=(good(forward_atoms=top, vols=(20 * ids.UNIT,) * 3), late))
    assert [type(x) for x in out] == [o.PriceAccepted, o.SurfaceAccepted, o.SurfaceAccepted, o.RiskArrayBuilt]
    closed = venue.close_epoch()
    mine, theirs = venue.state.underlyings[X].array, load(venue.snapshots[-1][1], closed).underlyings[X].array
    assert mine is not None and theirs is not None and mine.digest == theirs.digest
