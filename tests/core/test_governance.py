# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters change by proposal, within hard bounds, after notice, and only where an epoch ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import assess
from clearing.core.reducer import Reducer
from clearing.core.shared import digest
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.bounds import validate
from clearing.model.errors import NovateError
from clearing.model.params import (
    Adaptive,
    Asset,
    Borrowing,
    Breaker,
    FeeTier,
    Instrument,
    Ladder,
    OracleRules,
    Params,
    StandardMargin,
    Underlying,
    params_hash,
)
from tests.core import several as s
from tests.core import venue as v

NOTICE = Params().notice_us
PRICE = 50 * v.USD
LISTED = (Underlying(v.BTC, "BTC"), Underlying(v.ETH, "ETH"))


def open_venue(**params: Any) -> v.Venue:
    venue = v.Venue(Params(**params))
    for name in ("ann", "bob"):
        venue.fund(name, 10_000 * v.USD)
    vote(venue)
    return venue


def vote(venue: v.Venue, price: int = PRICE) -> list[o.Outcome]:
    return venue.oracle({v.BTC: price, v.ETH: 20 * v.USD})


def changed(venue: v.Venue, **changes: Any) -> Params:
    """The parameters in force with some changed, as the next version unless told otherwise."""
    return msgspec.structs.replace(venue.state.params, **{"version": venue.state.params.version + 1, **changes})


def propose(venue: v.Venue, params: Params, wait_us: int = NOTICE) -> list[o.Outcome]:
    return venue.operator(c.ProposeParams(params, venue.now_us + wait_us))


def enact(venue: v.Venue, **changes: Any) -> o.EpochClosed:
    """Propose, wait for the notice in force, close the epoch."""
    assert not v.codes(propose(venue, changed(venue, **changes), venue.state.params.notice_us))
    venue.advance(venue.state.params.notice_us)
    return venue.close_epoch()


def without_nonces(venue: v.Venue) -> bytes:
    """The whole state but for the operator's used nonces, which a refused command uses too, and the time."""
    state = venue.state
    used, then = state.operator_nonces, state.time_us
    state.operator_nonces, state.time_us = type(used)(), 0
    body = dump(state)
    state.operator_nonces, state.time_us = used, then
    return body


# --- proposals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 3, 2**32])
def test_versions_ascend_by_one(version: int) -> None:
    venue = open_venue()
    before = without_nonces(venue)
    assert propose(venue, changed(venue, version=version)) == [o.Rejected(0, "PARAMS_VERSION")]
    assert without_nonces(venue) == before


@pytest.mark.parametrize(
    "wait_us, code",
    [(0, "PARAMS_NOTICE"), (NOTICE - 1, "PARAMS_NOTICE"), (NOTICE, ""), (365 * v.DAY, "")],
)
def test_a_proposal_gives_notice_to_the_microsecond(wait_us: int, code: str) -> None:
    venue = open_venue()
    before = without_nonces(venue)
    assert v.codes(propose(venue, changed(venue, notice_us=0), wait_us)) == ([code] if code else [])
    assert (without_nonces(venue) == before) is bool(code)


def test_no_time_is_beyond_time() -> None:
    venue = open_venue()
    params = changed(venue)
    assert v.codes(venue.operator(c.ProposeParams(params, ids.MAX_TIME_US + 1))) == ["PARAMS_NOTICE"]
    assert not v.codes(venue.operator(c.ProposeParams(params, ids.MAX_TIME_US)))


OUT_OF_BOUNDS: list[dict[str, Any]] = [
    {"fee_tiers": ()},
    {"fee_tiers": (FeeTier(0, -501, 500),)},
    {"fee_tiers": (FeeTier(0, 0, 10_001),)},
    {"max_fills_per_entry": 301},
    {"funding_interval_us": 0},
    {"funding_cap_ppm": 100_001},
    {"notice_us": 365 * v.DAY + 1},
    {"liquidation_fee_ppm": 15_001},
    {"liquidation_band_ppm": ids.PPM},
    {"oracle_quorum": 0},
    {"oracle_max_jump_ppm": 0},
    {"oracle": OracleRules(max_confidence_ppm=0)},
    {"oracle": OracleRules(expiry_window_us=v.DAY + 1)},
    {"oracle": OracleRules(min_vol=0)},
    {"ladder": Ladder(target_ppm=ids.PPM - 1)},
    {"ladder": Ladder(backstop_ppm=ids.PPM + 1)},
    {"adaptive": Adaptive(cap_ppm=ids.PPM - 1)},
    {"adaptive": Adaptive(down_ppm_per_day=0)},
    {"adaptive": Adaptive(decay_ppm=ids.PPM)},
    {"breaker": Breaker(band_ppm=-1)},
    {"breaker": Breaker(window_us=0)},
    {"borrowing": Borrowing(cap_atoms=-1)},
    {"presets": ()},
    {"standard": StandardMargin(short_mm_ppm=-1)},
    {"standard": StandardMargin(short_im_ppm=ids.PPM + 1)},
    {"standard": StandardMargin(unpaired_im_ppm=5 * ids.PPM + 1)},
    {"standard": StandardMargin(unpaired_mm_ppm=-1)},
    {"adaptive": Adaptive(baseline_vol=10 * ids.UNIT + 1)},
    {"oracle_max_age_us": v.DAY + 1},
    {"oracle_future_us": v.HOUR + 1},
    {"max_levels": 0},
    {"max_sub_accounts": 0},
    {"max_keys": 0},
    {"ladder": Ladder(default_fund_lock_us=365 * v.DAY + 1)},
    {"underlyings": (*LISTED, *[Underlying(9 + at, f"U{at}") for at in range(255)])},
    {"underlyings": (Underlying(v.BTC, "BTC", preset=2), LISTED[1])},
    {"underlyings": (Underlying(v.BTC, "BTC", oi_lower_atoms=2, oi_upper_atoms=1), LISTED[1])},
    {"underlyings": (*LISTED, Underlying(v.BTC, "SOL"))},
    {"assets": (Asset(1, "WBTC", "BTC", maintenance_haircut_ppm=250_000),)},
    {"assets": (Asset(0, "USD", "", maintenance_haircut_ppm=1),)},
    {"assets": (Asset(0, "USD", "EUR"),)},
]


@pytest.mark.parametrize("changes", OUT_OF_BOUNDS, ids=str)
def test_hard_bounds_refuse_the_whole_proposal(changes: dict[str, Any]) -> None:
    """Whatever else it changes, not one of its parts is taken: the state stays as it was."""
    venue = open_venue()
    new = changed(venue, funding_interest_ppm=13, **changes)
    with pytest.raises(NovateError, match="INVALID_PARAMS"):
        validate(new, venue.state.specs())
    before = without_nonces(venue)
    assert propose(venue, new) == [o.Rejected(0, "PARAMS_OUT_OF_BOUNDS")]
    assert without_nonces(venue) == before and venue.state.pending is None


@pytest.mark.parametrize(
    "underlyings",
    [
        LISTED,
        (
            Underlying(5, "SOL"),
            Underlying(v.BTC, "BTC", depth_lots=100),
            Underlying(v.ETH, "ETH"),
            Underlying(6, "USD"),
        ),
        (Underlying(7, "BTC"), LISTED[1], Underlying(6, "USD")),
        (Underlying(v.BTC, "BTC", lots_per_unit=10), LISTED[1], Underlying(6, "USD")),
    ],
    ids=["one is gone", "all are there", "another id", "another lot"],
)
def test_an_underlying_keeps_id_symbol_and_lot(underlyings: tuple[Underlying, ...]) -> None:
    """Publishers name it by id, contracts by symbol, and positions count its lots."""
    venue = open_venue(underlyings=(*LISTED, Underlying(6, "USD")))
    fine = len(underlyings) == 4
    codes = v.codes(propose(venue, changed(venue, underlyings=underlyings)))
    assert codes == ([] if fine else ["PARAMS_OUT_OF_BOUNDS"])


def test_a_proposal_says_its_hash_and_is_committed_while_it_waits() -> None:
    """Members can see in the epoch's globals what is to come, and when."""
    venue = open_venue()
    new = changed(venue, funding_interest_ppm=13)
    before = digest(venue.state)
    then = venue.now_us + NOTICE
    assert propose(venue, new) == [o.ParamsProposed(2, params_hash(new, venue.state.specs()), then)]
    assert venue.state.pending == (new, then) and digest(venue.state) != before
    assert venue.close_epoch().globals_hash == digest(venue.state)


def test_a_later_proposal_replaces_the_one_that_waits() -> None:
    """A refused one does not, whatever was wrong with it."""
    venue = open_venue()
    propose(venue, changed(venue, funding_interest_ppm=13))
    propose(venue, changed(venue, funding_interest_ppm=14))
    assert v.codes(propose(venue, changed(venue, funding_interest_ppm=15), 0)) == ["PARAMS_NOTICE"]
    assert v.codes(propose(venue, changed(venue, oracle_quorum=0))) == ["PARAMS_OUT_OF_BOUNDS"]
    venue.advance(NOTICE)
    venue.close_epoch()
    assert (venue.state.params.version, venue.state.params.funding_interest_ppm) == (2, 14)


def test_the_notice_is_the_one_in_force_and_not_the_one_proposed() -> None:
    venue = open_venue()
    assert v.codes(propose(venue, changed(venue, notice_us=0), 0)) == ["PARAMS_NOTICE"]
    enact(venue, notice_us=0)
    assert not v.codes(propose(venue, changed(venue, notice_us=v.DAY), 0))


# --- in force --------------------------------------------------------------------------------------


def test_parameters_change_at_an_epoch_boundary_and_nowhere_else() -> None:
    """An epoch that closes a microsecond before their time has the old ones. Time alone, votes, ticks and orders do
    not put them in force either; the epoch that does says so before its commitment, which carries the new hash."""
    venue = open_venue()
    old, new = venue.state.params, changed(venue, funding_interest_ppm=100)
    hashes = [params_hash(p, venue.state.specs()) for p in (old, new)]
    propose(venue, new)
    venue.advance(NOTICE - 1)
    assert venue.close_epoch().params_hash == hashes[0]
    venue.advance(1)
    vote(venue)
    venue.sell("ann", PRICE, 1)
    venue.buy("bob", PRICE, 1)
    rates = [x.rate_ppm for x in venue.operator(c.FundingTick()) if isinstance(x, o.FundingApplied)]
    assert rates == [12, 12] and venue.state.params == old
    closed = venue.close_epoch()
    said = v.decode_outcomes(venue.journal[-1].outcomes)
    assert said == [o.ParamsChanged(2, hashes[1]), closed]
    assert closed.params_hash == hashes[1] != hashes[0]
    assert venue.state.params == new and venue.state.pending is None
    venue.advance(v.HOUR)
    vote(venue)
    rates = [x.rate_ppm for x in venue.operator(c.FundingTick()) if isinstance(x, o.FundingApplied)]
    assert rates == [100, 100]
    assert venue.close_epoch().params_hash == hashes[1], "once, and then no more"


def test_a_refused_close_puts_nothing_in_force() -> None:
    venue = open_venue()
    propose(venue, changed(venue, funding_interest_ppm=100))
    venue.advance(NOTICE)
    assert v.codes(venue.operator(c.CloseEpoch(7, ((1, bytes(32)),)))) == ["EPOCH_OUT_OF_ORDER"]
    assert v.codes(venue.operator(c.CloseEpoch(1, ()))) == ["INVALID_FIELD"]
    assert venue.state.params.version == 1 and venue.state.pending is not None


def test_every_leaf_carries_the_new_hash_even_of_accounts_that_did_nothing() -> None:
    """An epoch without new parameters renews only what changed; one with them renews all."""
    venue = open_venue()
    venue.close_epoch()
    venue.close_epoch()
    assert venue.account("ann").leaf_epoch == 1
    root = venue.state.state_tree.root
    closed = enact(venue, funding_interest_ppm=13)
    assert {account.leaf_epoch for account in venue.state.accounts} == {3}
    assert venue.state.state_tree.root != root
    ann = venue.account("ann")
    old = params_hash(Params(), venue.state.specs())
    assert state_leaf_hash(venue.state, ann, closed.params_hash) != state_leaf_hash(venue.state, ann, old)


def test_a_snapshot_keeps_what_is_pending_and_enacts_it_alike() -> None:
    venue = open_venue()
    propose(venue, changed(venue, oracle=OracleRules(divergence_ppm=50_000), fee_tiers=(FeeTier(0, 1, 2),)))
    closed = venue.close_epoch()
    other = Reducer(state=load(venue.snapshots[-1][1], closed))
    at = len(venue.journal)
    venue.advance(NOTICE)
    vote(venue)
    venue.close_epoch()
    assert venue.state.params.version == 2
    v.replay(venue.journal[at:], other)
    assert dump(other.state) == dump(venue.state)


def test_margin_fractions_and_fees_are_in_force_at_once() -> None:
    """With the epoch and not with the next vote or the next day, and so in its leaves."""
    venue = open_venue(underlyings=LISTED)
    venue.sell("ann", PRICE, 100)
    venue.buy("bob", PRICE, 100)
    inst, ann = venue.state.instruments[v.BTC], venue.account("ann")
    oi = Underlying(v.BTC, "BTC", oi_lower_atoms=0, oi_upper_atoms=200 * PRICE)
    assert inst.imf == 50_000
    before = assess(ann)
    enact(venue, underlyings=(oi, LISTED[1]), fee_tiers=(FeeTier(0, 7, 9),))
    assert inst.imf == 525_000 and inst.mmf == 30_000
    assert (ann.maker_ppm, ann.taker_ppm) == (7, 9)
    equity, initial, maintenance = assess(ann)
    assert (equity, maintenance) == (before[0], before[2]) and initial == 100 * PRICE * 525 // 1_000


def test_a_new_underlying_can_be_voted_on_and_listed() -> None:
    venue = open_venue()
    sol = Instrument(30, "SOL-PERP", "SOL", 1, 100_000, 100_000, 60_000)
    assert v.codes(venue.operator(c.ListInstrument(sol))) == ["INVALID_INSTRUMENT"]
    closed = enact(venue, underlyings=(Underlying(9, "SOL"),))
    assert not v.codes(venue.operator(c.ListInstrument(sol)))
    assert not v.codes(venue.oracle({9: 1_000}))
    assert venue.state.instruments[30].mark == 1_000
    assert list(load(venue.snapshots[-1][1], closed).underlyings) == list(venue.state.underlyings) == [1, 2, 9]


# --- what may happen while a proposal waits --------------------------------------------------------


def test_an_underlying_outlives_the_instrument_that_lent_it_its_id() -> None:
    """Its only name is that instrument's id, and that instrument is delisted during the notice: it is still one
    underlying with one id, in a restored state too, and votes still reach the market that is left."""
    second = msgspec.structs.replace(v.INSTRUMENTS[0], id=7, symbol="BTC-2")
    venue = v.Venue(Params(), (*v.INSTRUMENTS, second))
    vote(venue)
    propose(venue, changed(venue, funding_interest_ppm=13))
    assert not v.codes(venue.operator(c.DelistInstrument(v.BTC)))
    venue.advance(NOTICE)
    closed = venue.close_epoch()
    for state in (venue.state, load(venue.snapshots[-1][1], closed)):
        assert [(u.id, u.spec.id, u.spec.symbol) for u in state.underlyings.values()] == [(1, 1, "BTC"), (2, 2, "ETH")]
        assert state.instruments[7].under is state.underlyings[1] is state.symbols["BTC"]
    vote(venue, PRICE + v.USD)
    assert venue.state.instruments[7].mark == PRICE + v.USD


def test_after_that_a_proposal_has_to_name_the_underlying() -> None:
    second = msgspec.structs.replace(v.INSTRUMENTS[0], id=7, symbol="BTC-2")
    venue = v.Venue(Params(), (*v.INSTRUMENTS, second))
    venue.operator(c.DelistInstrument(v.BTC))
    assert v.codes(propose(venue, changed(venue))) == ["PARAMS_OUT_OF_BOUNDS"]
    assert not v.codes(propose(venue, changed(venue, underlyings=(LISTED[0],))))


def test_an_asset_whose_rules_are_gone_counts_for_nothing() -> None:
    """By the parameters that the epoch commits to, and in a restored state just as in the one that went on."""
    venue = s.Several()
    ann = venue.give("ann", dollar=5, bitcoin=s.COIN)
    counted = assess(ann)[0]
    propose(venue, changed(venue, assets=(s.ASSETS[s.DOLLAR],)))
    venue.advance(NOTICE)
    venue.price()
    assert assess(ann)[0] == counted > 30_000 * v.USD
    closed = venue.close_epoch()
    back = load(dump(venue.state), closed).accounts[ann.number]
    assert assess(ann) == assess(back) == (5, 0, 0)
    assert ann.holdings[s.BITCOIN].amount == s.COIN, "it is still held"


def test_switching_adaptive_margin_off_ends_what_it_added() -> None:
    """Nothing would bring the factor down any more. It is an outcome, and when it is switched on again it begins at
    the baseline."""
    venue = open_venue(notice_us=0)
    price = PRICE
    for hour in range(48):
        venue.advance(v.HOUR)
        price = price * 105 // 100 if hour % 2 else price * 100 // 105
        vote(venue, price)
    under, inst = venue.state.underlyings[v.BTC], venue.state.instruments[v.BTC]
    assert under.factor_ppm > 1_200_000 and inst.imf > 60_000
    enact(venue, adaptive=Adaptive(interval_us=0))
    said = [x for x in v.decode_outcomes(venue.journal[-1].outcomes) if isinstance(x, o.MarginAdapted)]
    assert [(x.underlying, x.target_ppm, x.factor_ppm) for x in said] == [(v.BTC, ids.PPM, ids.PPM)]
    assert (under.factor_ppm, inst.imf, inst.mmf) == (ids.PPM, 50_000, 30_000)
    venue.advance(v.DAY)
    vote(venue, price)
    assert under.factor_ppm == ids.PPM
    enact(venue, adaptive=Adaptive())
    venue.advance(v.SECOND)
    vote(venue, price)
    assert (under.variance, under.adapt_index) == (Adaptive().baseline_vol ** 2, price)


def test_a_tighter_rule_of_the_mark_holds_from_the_next_vote_on() -> None:
    """Parameters do not move a price: only votes do."""
    venue = open_venue(notice_us=0, oracle=OracleRules(mark_ema_us=1))
    venue.do("ann", venue.order(ids.BUY, PRICE * 108 // 100, 5), venue.order(ids.SELL, PRICE * 109 // 100, 5))
    venue.advance(v.SECOND)
    vote(venue)
    inst = venue.state.instruments[v.BTC]
    mark = inst.mark
    assert mark > PRICE * 108 // 100
    enact(venue, oracle=OracleRules(mark_ema_us=1, divergence_ppm=20_000))
    assert inst.mark == mark
    venue.advance(v.SECOND)
    vote(venue)
    assert inst.mark == PRICE * 102 // 100 and inst.breaker == "DIVERGED"
