# SPDX-License-Identifier: GPL-3.0-or-later
"""The risk array of an underlying: when it is built, from what, and that anybody can build it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from clearing.core import arrays
from clearing.core.risk.array import Column, RiskArray, build
from clearing.core.snapshot import dump, restore
from clearing.core.state import UnderlyingState
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import FeeTier, Instrument, OracleRules, Params, Underlying
from tests.core import venue as v

X = 1
SPOT = 1_000_000
DUE = v.START_US + 7 * v.DAY
LATER = v.START_US + 30 * v.DAY
PERP = Instrument(X, "X-PERP", "X", 1, 100_000, 50_000, 30_000)
FUTURE, CALL, PUT, FAR = 10, 11, 12, 20
CONTRACTS = (
    PERP,
    v.future(FUTURE, DUE, "X", 1),
    v.option(CALL, SPOT * 8 // 10, DUE, True, "X", 1),
    v.option(PUT, SPOT, DUE, False, "X", 1),
    v.option(FAR, SPOT, LATER, True, "X", 1),
)
VOTE = v.surface(X, DUE, SPOT * 102 // 100, (SPOT * 8 // 10, SPOT * 12 // 10), (0.9, 0.7), 0.05)


def open_venue(publishers: int = 1, quorum: int = 1, **params: Any) -> v.Venue:
    base = Params(fee_tiers=(FeeTier(0, 0, 0),), oracle_quorum=quorum, underlyings=(Underlying(X, "X", 1),))
    venue = v.Venue(msgspec.structs.replace(base, notice_us=0, **params), CONTRACTS, publishers)
    for name in ("ann", "bob"):
        venue.fund(name, 10**12)
    return venue


def both(venue: v.Venue, spot: int = SPOT, publisher: int = 0, **changes: Any) -> list[o.Outcome]:
    return venue.oracle({X: spot}, publisher, surfaces=(msgspec.structs.replace(VOTE, **changes),))


def array_of(under: UnderlyingState) -> RiskArray:
    assert under.array is not None
    return under.array


def built(outcomes: list[o.Outcome]) -> list[o.RiskArrayBuilt]:
    return [x for x in outcomes if isinstance(x, o.RiskArrayBuilt)]


def pnl(venue: v.Venue, number: int) -> list[int]:
    """An instrument's row of the array, atoms per lot, one per scenario."""
    array = array_of(venue.state.underlyings[X])
    return [int(value) for value in array.pnl[array.row_of[number]]]


# --- from what -------------------------------------------------------------------------------------


def test_the_inputs_hash_can_be_recomputed_from_the_votes_alone() -> None:
    """By its written layout, from one publisher's vote and without any object of the engine."""
    venue = open_venue()
    (said,) = built(both(venue))
    one = ids.UNIT
    level = one - -(-22_500_000 * 10**6 // SPOT)
    forward_level = one - -(-22_500_000 * 10**6 // (SPOT * 102 // 100))
    strikes = (SPOT * 8 // 10, SPOT)
    due = (DUE, SPOT * 102 // 100, one // 20, forward_level, one, one, 0, strikes, (one * 9 // 10, one * 8 // 10))
    later = (LATER, SPOT, 0, level, one, one, 0, (), ())
    body = ("X", SPOT, level, venue.now_us, 30 * v.MINUTE, (due, later))
    assert said.inputs_hash == hashlib.sha256(b"novate/risk-inputs/v1\n" + msgspec.msgpack.encode(body)).digest()


def test_the_array_hash_can_be_recomputed_from_market_marks_and_preset() -> None:
    venue = open_venue()
    (said,) = built(both(venue))
    under = venue.state.underlyings[X]
    assert under.market is not None
    columns = [
        Column(i.id, i.kind, i.spec.expiry_us, i.spec.strike_atoms, i.spec.is_call, i.mark)
        for i in under.instruments
        if i.id != FAR
    ]
    again = build(Params().presets[0], under.market, columns)
    assert said.array_hash == again.digest == array_of(under).digest
    other = build(Params().presets[1], under.market, columns)
    assert other.digest != again.digest
    moved = build(Params().presets[0], under.market, [columns[0]._replace(mark=columns[0].mark + 1), *columns[1:]])
    assert moved.digest != again.digest


@pytest.mark.parametrize(
    "change",
    [
        {"forward_atoms": SPOT * 102 // 100 + 1},
        {"rate": ids.UNIT // 20 + 1},
        {"forward_confidence_atoms": 2},
        {"rate_confidence": ids.UNIT - 1},
        {"vol_confidence": ids.UNIT - 1},
        {"vols": (9 * ids.UNIT // 10 + 1, 7 * ids.UNIT // 10)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_number_of_a_surface_is_in_the_inputs_hash(change: dict[str, Any]) -> None:
    """One unit in the last place of any of them, at the same moment, is another hash."""
    plain, changed = open_venue(), open_venue()
    (first,), (second,) = built(both(plain)), built(both(changed, **change))
    assert plain.now_us == changed.now_us
    assert first.inputs_hash != second.inputs_hash


def test_rows_are_for_what_has_a_mark_and_a_settled_one_no_longer_moves() -> None:
    """No row for an option that nobody has voted on; after settlement the row is there, all zero, even of an option
    that pays nothing."""
    venue = open_venue()
    both(venue)
    array = array_of(venue.state.underlyings[X])
    assert set(array.row_of) == {X, FUTURE, CALL, PUT}
    assert any(pnl(venue, PUT))
    _settle(venue)
    (said,) = built(v.decode_outcomes(venue.journal[-1].outcomes))
    assert [venue.state.instruments[n].mark for n in (FUTURE, CALL, PUT)] == [SPOT, SPOT * 2 // 10, 0]
    assert said.array_hash == array_of(venue.state.underlyings[X]).digest
    for number in (FUTURE, CALL, PUT):
        assert not any(pnl(venue, number)), number
    assert any(pnl(venue, X))


# --- when ------------------------------------------------------------------------------------------


def test_it_is_built_once_per_accepted_vote_and_by_nothing_else() -> None:
    """At that entry's time. A refused vote, one without a quorum, an order and mere time leave it as it is."""
    venue = open_venue(publishers=3, quorum=2)
    both(venue, publisher=0)
    under = venue.state.underlyings[X]
    assert not under.array_us, "one vote is no quorum"
    assert len(built(both(venue, publisher=1))) == 1
    array = array_of(under)
    assert under.array_us == venue.now_us
    venue.advance(v.SECOND)
    bad_vols = msgspec.structs.replace(VOTE, vols=(1, 1))
    quiet: list[Callable[[], list[o.Outcome]]] = [
        lambda: venue.oracle({X: 0}),
        lambda: venue.oracle({X: SPOT * 2}),
        lambda: venue.oracle({X: SPOT}, prev_hash=bytes([1]) * 32),
        lambda: venue.oracle({}, surfaces=(bad_vols,)),
        lambda: venue.buy("ann", SPOT, 3, X),
        lambda: venue.sell("bob", SPOT, 3, X),
    ]
    for act in quiet:
        assert built(act()) == [] and under.array is array
    venue.advance(2 * v.MINUTE)
    assert venue.oracle({X: SPOT}, 0) == [] and under.array is array, "the others' votes are stale by now"
    assert len(built(venue.oracle({X: SPOT}, 1))) == 1
    assert under.array is not array and under.array_us == venue.now_us
    venue.advance(1)
    before = array_of(under)
    assert len(built(venue.oracle({}, 2, surfaces=(VOTE,)))) == 0, "surfaces need their own quorum"
    assert under.array is before


def test_time_to_expiry_does_not_run_between_votes() -> None:
    """The same numbers at another time are another array, but only when somebody votes."""
    venue = open_venue()
    both(venue)
    market = venue.state.underlyings[X].market
    assert market is not None
    venue.advance(v.DAY)
    venue.do("ann", c.CancelAll())
    assert venue.state.underlyings[X].market is market
    first = array_of(venue.state.underlyings[X]).digest
    both(venue)
    assert array_of(venue.state.underlyings[X]).digest != first


def _settle(venue: v.Venue) -> None:
    venue.now_us = DUE
    venue.oracle({X: SPOT})
    venue.advance(v.SECOND)
    venue.operator(c.SettleExpiry(FUTURE))


def _delist(venue: v.Venue) -> None:
    assert not v.codes(venue.operator(c.DelistInstrument(PUT)))


def _list(venue: v.Venue) -> None:
    spec = v.option(30, SPOT * 9 // 10, DUE, True, "X", 1)
    assert not v.codes(venue.operator(c.ListInstrument(spec)))


def _enact(venue: v.Venue) -> None:
    """Another preset, and another window while one runs."""
    params = venue.state.params
    rules = OracleRules(expiry_window_us=v.HOUR)
    under = Underlying(X, "X", 1, preset=1)
    new = msgspec.structs.replace(params, version=params.version + 1, underlyings=(under,), oracle=rules)
    assert not v.codes(venue.operator(c.ProposeParams(new, venue.now_us)))
    venue.close_epoch()


def _window(venue: v.Venue) -> None:
    venue.now_us = DUE - 20 * v.MINUTE
    both(venue, SPOT * 99 // 100)
    venue.advance(7 * v.MINUTE)
    both(venue, SPOT * 103 // 100)


STEPS: dict[str, Callable[[v.Venue], None]] = {
    "list": _list,
    "delist": _delist,
    "enact": _enact,
    "window": _window,
    "settle": _settle,
}


@pytest.mark.parametrize(
    "steps",
    [
        ("list", "delist", "enact"),
        ("enact", "window", "list", "settle"),
        ("window", "enact", "delist"),
        ("window", "enact", "settle", "enact"),
        ("settle", "enact"),
    ],
    ids="-".join,
)
def test_whatever_happened_a_restored_state_has_the_same_array(steps: tuple[str, ...]) -> None:
    """After every step, also those that are no votes: same digest, same inputs, and the next vote goes on alike."""
    venue = open_venue()
    both(venue)
    for step in steps:
        STEPS[step](venue)
        mine, theirs = venue.state.underlyings[X], restore(dump(venue.state)).underlyings[X]
        assert array_of(theirs).digest == array_of(mine).digest, step
        assert mine.market is not None and theirs.market is not None
        assert arrays.inputs_hash(theirs.market) == arrays.inputs_hash(mine.market)
        assert dict(array_of(theirs).row_of) == dict(array_of(mine).row_of)


def test_the_journal_says_every_array_that_was_ever_in_force() -> None:
    """Listings, delistings, new parameters and settlement say RiskArrayBuilt as votes do: the last one said is the one
    in force."""
    venue = open_venue()
    both(venue)
    for step in ("list", "delist", "enact", "window", "settle"):
        STEPS[step](venue)
        found = [b for entry in venue.journal for b in built(v.decode_outcomes(entry.outcomes))]
        under = venue.state.underlyings[X]
        assert under.market is not None
        assert found[-1] == o.RiskArrayBuilt(X, arrays.inputs_hash(under.market), array_of(under).digest), step


def test_a_refused_change_of_mode_leaves_no_array_behind() -> None:
    """Not even an outcome: a perpetual alone needs none, and the account keeps its mode."""
    venue = v.Venue(instruments=v.INSTRUMENTS[:1])
    for name in ("ann", "bob"):
        venue.fund(name, 2_000 * v.USD)
    venue.oracle({v.BTC: 50 * v.USD})
    venue.sell("ann", 50 * v.USD, 500)
    venue.buy("bob", 50 * v.USD, 500)
    under = venue.state.underlyings[v.BTC]
    assert venue.do("bob", c.SetMarginMode(ids.PORTFOLIO)) == [o.Rejected(0, "INSUFFICIENT_MARGIN")]
    assert (under.array, under.market, under.array_us, venue.state.portfolios) == (None, None, 0, 0)


# --- the settlement window -------------------------------------------------------------------------


def test_inside_the_settlement_window_delta_decays_to_nothing() -> None:
    """A future and a call deep in the money, the index voted at one price all along: each minute of the window that
    has passed takes its share of every scenario's gain or loss, in proportion, until nothing moves them at all."""
    venue = open_venue(oracle_max_age_us=v.HOUR)
    venue.now_us = DUE - 30 * v.MINUTE
    flat: dict[str, Any] = {"forward_atoms": SPOT, "rate": 0, "vols": (ids.UNIT // 100,) * 2}
    both(venue, **flat)
    whole = {number: pnl(venue, number) for number in (FUTURE, CALL)}
    spot = pnl(venue, X)
    assert max(whole[FUTURE]) > SPOT // 10 and min(whole[FUTURE]) < -SPOT // 10
    for passed in (6, 15, 24, 29):
        venue.now_us = DUE - (30 - passed) * v.MINUTE
        both(venue, **flat)
        assert pnl(venue, X) == spot, "the perpetual has no expiry"
        for before, after in zip(whole[FUTURE], pnl(venue, FUTURE), strict=True):
            assert abs(after - before * (30 - passed) / 30) <= 1
        # The call is worth its intrinsic value, so it loses with the future, but no more than all it is worth.
        for before, after in zip(whole[CALL], pnl(venue, CALL), strict=True):
            assert abs(after) <= abs(before) * (30 - passed) / 30 + SPOT // 5 * passed // 30 + 1
            assert abs(after) <= abs(before) + 1 and after * before >= 0
    venue.now_us = DUE
    venue.oracle({X: SPOT})
    assert not any(pnl(venue, FUTURE)) and not any(pnl(venue, CALL))


def test_a_window_that_runs_keeps_its_length_when_the_rule_gets_shorter() -> None:
    """Half an hour was the rule when it began, and a third of it has passed when ten minutes become the rule: what
    those minutes fixed stays fixed, so that a move of the index counts for two thirds in every scenario."""
    venue = open_venue(oracle_max_age_us=v.HOUR)
    flat: dict[str, Any] = {"forward_atoms": SPOT, "rate": 0}
    venue.now_us = DUE - 30 * v.MINUTE
    both(venue, **flat)
    whole = pnl(venue, FUTURE)
    venue.now_us = DUE - 20 * v.MINUTE
    both(venue, **flat)
    fixed = pnl(venue, FUTURE)
    assert all(abs(after - before * 2 / 3) <= 1 for before, after in zip(whole, fixed, strict=True))
    rules = OracleRules(expiry_window_us=10 * v.MINUTE)
    new = msgspec.structs.replace(venue.state.params, version=2, oracle=rules)
    assert not v.codes(venue.operator(c.ProposeParams(new, venue.now_us)))
    venue.close_epoch()
    assert venue.state.params.oracle.expiry_window_us == 10 * v.MINUTE
    assert pnl(venue, FUTURE) == fixed
    both(venue, **flat)
    assert all(abs(after - before) <= 1 for before, after in zip(fixed, pnl(venue, FUTURE), strict=True))
