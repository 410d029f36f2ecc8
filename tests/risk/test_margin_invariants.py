# SPDX-License-Identifier: GPL-3.0-or-later
"""What no parameter, price or doubt may do to an account's margin: monotonicity, in both modes."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core.margin import assess, headroom
from clearing.core.risk.addons import open_interest_imf
from clearing.core.risk.market import Market
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.ids import PPM, UNIT
from tests.core import desk

MARKETS = (desk.PERP_X, desk.FUTURE_X, desk.PERP_Y, *desk.OPTIONS)

modes = st.sampled_from(((ids.STANDARD, 0), (ids.PORTFOLIO, 0), (ids.PORTFOLIO, 1)))
books = st.dictionaries(st.sampled_from(MARKETS), st.integers(-20, 20), max_size=5)
assets = st.tuples(st.integers(0, 40), st.integers(0, 40))


def member(
    mode: tuple[int, int], held: dict[int, int], owned: tuple[int, int], depth: int = 0
) -> tuple[State, Account]:
    state = desk.house(desk.state_of(desk.params(mode[1], depth=depth)))
    account = desk.open_account(state, 50_000, mode[0])
    for instrument, lots in held.items():
        desk.hold(state, account, instrument, lots)
    for lane, amount in enumerate(owned, 1):
        if amount:
            desk.give(state, account, lane, amount)
    return state, account


def spare(account: Account) -> tuple[int, int]:
    """Equity above initial and above maintenance margin."""
    equity, initial, maintenance = assess(account)
    return equity - initial, equity - maintenance


@settings(max_examples=100)
@given(mode=modes, held=books, owned=assets, depth=st.sampled_from((0, 3)))
def test_maintenance_is_at_most_initial(
    mode: tuple[int, int], held: dict[int, int], owned: tuple[int, int], depth: int
) -> None:
    _, account = member(mode, held, owned, depth)
    _, initial, maintenance = assess(account)
    assert 0 <= maintenance <= initial
    assert headroom(account) == spare(account)[0]


@settings(max_examples=100)
@given(mode=modes, held=books, owned=assets, lane=st.integers(1, 2), more=st.integers(0, PPM), less=st.integers(0, PPM))
def test_a_larger_haircut_never_helps(
    mode: tuple[int, int], held: dict[int, int], owned: tuple[int, int], lane: int, more: int, less: int
) -> None:
    """Neither a larger maintenance haircut nor a smaller initial weight raises what is spare (but for the atoms
    that haircuts round)."""
    state, account = member(mode, held, owned)
    before = spare(account)
    spec = state.assets[lane].spec
    state.assets[lane].spec = msgspec.structs.replace(
        spec,
        maintenance_haircut_ppm=min(PPM, spec.maintenance_haircut_ppm + more),
        initial_weight_ppm=max(0, spec.initial_weight_ppm - less),
    )
    after = spare(account)
    assert after[0] <= before[0] + 2 and after[1] <= before[1]


@settings(max_examples=60)
@given(held=books, owned=assets, pledged=st.integers(0, 10_000), mode=modes)
def test_a_pledge_counts_for_nothing(
    held: dict[int, int], owned: tuple[int, int], pledged: int, mode: tuple[int, int]
) -> None:
    """Pledging takes exactly the pledge from what is spare, and moves no requirement."""
    _, account = member(mode, held, owned)
    initial, maintenance = spare(account)
    account.pledged = pledged
    account.set_plain()
    assert spare(account) == (initial - pledged, maintenance - pledged)


@settings(max_examples=60)
@given(held=books, oi=st.integers(0, 3_000), more=st.integers(0, 3_000))
def test_more_open_interest_never_lowers_initial_margin(held: dict[int, int], oi: int, more: int) -> None:
    """Standard margin; maintenance does not depend on it."""
    state, account = member((ids.STANDARD, 0), held, (0, 0))
    found = []
    for notional in (oi, oi + more):
        for inst in state.instruments.values():
            inst.imf = open_interest_imf(inst.spec.imf_ppm, notional, 1_000, 2_000)
        found.append(assess(account))
    assert found[1][1] >= found[0][1]
    assert found[1][2] == found[0][2]


@settings(max_examples=60)
@given(lots=st.integers(-400, 400), more=st.integers(0, 400), factor=st.integers(0, 10**11))
def test_initial_margin_grows_at_least_with_size(lots: int, more: int, factor: int) -> None:
    """Twice the size needs at least twice the margin (less a rounding atom): the fraction never falls."""
    found = []
    for size in (lots, lots + more if lots >= 0 else lots - more):
        state = desk.house(desk.state_of(desk.params(size_factor=factor)))
        account = desk.open_account(state, 0)
        desk.hold(state, account, desk.PERP_X, size)
        found.append((abs(size), assess(account)[1]))
    (small, less), (large, needed) = found
    assert needed >= less
    assert (needed + 1) * small >= less * large - large


@settings(max_examples=100)
@given(
    held=st.dictionaries(st.sampled_from((desk.PERP_X, desk.FUTURE_X, desk.PERP_Y)), st.integers(-50, 0), max_size=3),
    rise=st.integers(0, 900),
)
def test_a_rising_mark_hurts_shorts(held: dict[int, int], rise: int) -> None:
    """Equity falls by the rise, and both requirements grow."""
    state, account = member((ids.STANDARD, 0), held, (0, 0))
    before = assess(account)
    for inst in state.instruments.values():
        inst.mark += rise
    after = assess(account)
    assert after[0] == before[0] + rise * sum(held.values())
    assert after[1] >= before[1] and after[2] >= before[2]


@settings(max_examples=80)
@given(
    held=books,
    owned=assets,
    preset=st.integers(0, 1),
    confidence=st.tuples(st.integers(0, UNIT), st.integers(0, UNIT)),
)
def test_doubt_costs_initial_margin_only(
    held: dict[int, int], owned: tuple[int, int], preset: int, confidence: tuple[int, int]
) -> None:
    """Less confidence in the oracle never lowers initial margin, and never moves maintenance: doubt may stop new
    risk, and liquidates nobody."""
    state, account = member((ids.PORTFOLIO, preset), held, owned)
    found = []
    for level in sorted(confidence, reverse=True):
        for under in state.underlyings.values():
            under.confidence = level
            known = under.market
            assert known is not None
            under.market = Market(known.underlying, known.spot, level, level, known.time_us, known.expiries)
        found.append(assess(account))
    assert found[1][1] >= found[0][1]
    assert found[1][::2] == found[0][::2]


@settings(max_examples=60)
@given(held=books, owned=assets, preset=st.integers(0, 1))
def test_underlyings_do_not_offset(held: dict[int, int], owned: tuple[int, int], preset: int) -> None:
    """What an account needs in X and Y together is the sum of what it would need in each alone."""
    totals = []
    for keep in ((desk.PERP_Y,), tuple(m for m in MARKETS if m != desk.PERP_Y), MARKETS):
        part = {instrument: lots for instrument, lots in held.items() if instrument in keep}
        _, account = member((ids.PORTFOLIO, preset), part, (0, 0))
        totals.append(assess(account)[1:])
    assert totals[2] == (totals[0][0] + totals[1][0], totals[0][1] + totals[1][1])
