# SPDX-License-Identifier: GPL-3.0-or-later
"""Markets, books and a naive second opinion for the tests of risk arrays and portfolio margin.

`naive` is the formula of portfolio margin over plain floats, written from its description and sharing no line
with the core: per account, per scenario, per option, libm and all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
from hypothesis import strategies as st

from clearing.core.risk.array import Column
from clearing.core.risk.market import Expiry, Market
from clearing.core.risk.portfolio import CollateralLine
from clearing.model import ids
from clearing.model.ids import DAY_US, UNIT, YEAR_US
from clearing.model.presets import (
    PRESET_A,
    PRESET_B,
    SKEW_ABS,
    SKEW_LINEAR,
    VOL_DOWN,
    VOL_SAME,
    VOL_UP,
    Basis,
    Contingency,
    Preset,
    Scenario,
    SkewShock,
    StaticDiscount,
    VolShock,
)

NOW_US = 1_700_000_000_000_000
# One lot of a thousandth: 100,000 USD a unit at 1e-6 is 1e8 atoms a lot.
SPOT = 100_000_000
PERP = 1

T = TypeVar("T", bound=msgspec.Struct)

NO_CHARGE = Contingency(0, 0, 0, 0, 0, 0, 0, 0)
WHOLE_BASIS = Basis(add=UNIT, scale=0)


def without_discount(preset: Preset) -> Preset:
    """The same preset, linear within each expiry."""
    return _replace(preset, discount=StaticDiscount())


def bare(preset: Preset) -> Preset:
    """No contingencies, and factors that are whole numbers, so that nothing needs rounding."""
    return _replace(preset, contingency=NO_CHARGE, basis=WHOLE_BASIS, mm_factor=UNIT, im_factor=UNIT)


def _replace(preset: T, **changes: object) -> T:
    return msgspec.structs.replace(preset, **changes)


LINEAR_PRESETS = (PRESET_A, without_discount(_replace(PRESET_B, scenarios=PRESET_B.scenarios[:-2])))
ALL_PRESETS = (PRESET_A, PRESET_B, without_discount(PRESET_B))


# Presets in which only the twists of the skew, or only the basis, can be what binds.
TWISTS = _replace(
    PRESET_B,
    scenarios=(Scenario(0, SKEW_LINEAR), Scenario(0, SKEW_ABS)),
    skew=_replace(PRESET_B.skew, linear_cap=2 * UNIT, abs_cap=UNIT),
    basis=Basis(add=0, scale=0),
)
BASIS_ONLY = _replace(PRESET_A, scenarios=(Scenario(0, VOL_SAME),))


class Scene(NamedTuple):
    """A market and all its instruments: a perpetual, and per expiry a future, calls and puts."""

    market: Market
    columns: tuple[Column, ...]

    @property
    def instruments(self) -> list[int]:
        """Ids in the order of columns."""
        return [column.instrument_id for column in self.columns]


def scene(
    taus_us: Sequence[int] = (DAY_US, 40 * DAY_US, YEAR_US),
    rate: int = 50_000_000_000,
    strikes: Sequence[int] = (70, 100, 140),
    vol: int = 600_000_000_000,
    confidence: int = UNIT,
) -> Scene:
    """Strikes in percent of spot; vols slope with the strike; the marks are the model's."""
    expiries = {}
    for tau_us in taus_us:
        forward = SPOT + SPOT * max(rate, 0) // UNIT * tau_us // YEAR_US
        knots = tuple(SPOT * percent // 100 for percent in strikes)
        vols = tuple(vol + vol * (100 - percent) // 400 for percent in strikes)
        until = NOW_US + tau_us
        expiries[until] = Expiry(until, forward, rate, confidence, confidence, confidence, knots, vols)
    market = Market("X", SPOT, confidence, confidence, NOW_US, expiries)
    columns = [Column(PERP, ids.PERPETUAL, 0, 0, False, SPOT + 1234)]
    for until, data in expiries.items():
        columns.append(Column(len(columns) + 1, ids.FUTURE, until, 0, False, data.forward))
        for strike in data.strikes:
            for is_call in (True, False):
                mark = market.option_value(until, strike, is_call)
                columns.append(Column(len(columns) + 1, ids.OPTION, until, strike, is_call, mark))
    return Scene(market, tuple(columns))


SCENE = scene()

scenes = st.builds(
    scene,
    taus_us=st.lists(st.integers(0, 3 * YEAR_US), min_size=1, max_size=3, unique=True),
    rate=st.integers(-200_000_000_000, 500_000_000_000),
    strikes=st.lists(st.integers(2, 900), min_size=1, max_size=3, unique=True).map(sorted),
    vol=st.integers(0, 3 * UNIT),
    confidence=st.integers(0, UNIT),
)


def books(which: Scene, max_size: int = 6, most: int = 10**6) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Positions in some of the scene's instruments."""
    return st.lists(
        st.tuples(st.sampled_from(which.instruments), st.integers(-most, most)), min_size=1, max_size=max_size
    )


def order_lists(which: Scene, max_size: int = 5) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Orders at prices around the mark, some of which would gain."""
    marks = {column.instrument_id: column.mark for column in which.columns}
    return st.lists(
        st.tuples(
            st.sampled_from(which.instruments),
            st.integers(-(10**5), 10**5).filter(bool),
            st.integers(-SPOT // 20, SPOT // 20),
        ).map(lambda drawn: (drawn[0], drawn[1], max(1, marks[drawn[0]] + drawn[2]))),
        min_size=1,
        max_size=max_size,
    )


def _parts(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low * UNIT // 100, high * UNIT // 100) | st.sampled_from([low * UNIT // 100, high * UNIT // 100])


# Further than governance may go: negative caps, a discount above 1, powers and floors at their ends.
odd_presets = st.builds(
    _replace,
    st.just(PRESET_B),
    vol=st.builds(
        VolShock,
        _parts(0, 300),
        _parts(0, 300),
        _parts(0, 200),
        _parts(0, 100),
        _parts(0, 100),
        st.sampled_from([3_600_000_000, DAY_US // 2, DAY_US, 400 * DAY_US]),
    ),
    skew=st.builds(
        SkewShock,
        *[_parts(0, 400), _parts(-400, 400)] * 2,
        _parts(1, 200),
        _parts(0, 1000),
        _parts(0, 300),
        _parts(-500, 500),
    ),
    discount=st.builds(
        StaticDiscount, _parts(0, 110), _parts(0, 300), _parts(0, 100), _parts(0, 300), _parts(0, 300), _parts(0, 100)
    ),
    basis=st.builds(Basis, _parts(0, 200), _parts(-99, 0), _parts(0, 500), _parts(0, 500)),
)

collaterals = st.lists(
    st.builds(
        CollateralLine,
        st.integers(0, 10**15),
        st.integers(0, UNIT // 2),
        st.integers(0, UNIT // 2),
        st.integers(0, UNIT),
        st.booleans(),
    ),
    max_size=3,
)


def _black(forward: float, strike: float, vol: float, years: float, is_call: bool) -> float:
    spread = vol * math.sqrt(years)
    if spread <= 0:
        return max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    high = math.log(forward / strike) / spread + spread / 2
    sign = 1 if is_call else -1

    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    return sign * (forward * normal(sign * high) - strike * normal(sign * (high - spread)))


class Naive(NamedTuple):
    """Atoms as floats."""

    pnl: list[float]
    basis: float


def naive(preset: Preset, which: Scene, positions: Sequence[tuple[int, int]]) -> Naive:
    """P&L per scenario and basis, by the book."""
    market = which.market
    columns = {column.instrument_id: column for column in which.columns}
    pnl = []
    for move in preset.scenarios:
        total = 0.0
        for until in sorted({columns[i].expiry_us for i, _ in positions}):
            held = [(columns[i], lots) for i, lots in positions if columns[i].expiry_us == until]
            part = _expiry_pnl(preset, market, held, until, move.spot / UNIT, move.vol, True) * move.damp / UNIT
            total += -abs(part) if move.vol >= SKEW_LINEAR else part
        pnl.append(total)
    basis = 0.0
    for until in sorted({columns[i].expiry_us for i, _ in positions} - {0}):
        held = [(columns[i], lots) for i, lots in positions if columns[i].expiry_us == until]
        moves = [
            _expiry_pnl(preset, market, held, until, spot / UNIT, 0, False)
            for spot in (preset.basis.up, preset.basis.down)
        ]
        years = max(0, until - market.time_us) / YEAR_US
        basis += min(0.0, *moves) * (preset.basis.add + preset.basis.scale * years) / UNIT
    return Naive(pnl, basis)


def _expiry_pnl(
    preset: Preset,
    market: Market,
    held: Sequence[tuple[Column, int]],
    until: int,
    spot: float,
    vol_kind: int,
    cut: bool,
) -> float:
    if until == 0:
        return sum(lots * column.mark * spot for column, lots in held)
    data = market.expiries[until]
    left = max(0, until - market.time_us)
    years = left / YEAR_US
    rate = max(data.rate, 0) / UNIT
    discount = math.exp(-rate * years)
    part = min(1.0, left / 1_800_000_000)
    forward = data.forward * (1 + part * spot)
    linear = options = marked = 0.0
    for column, lots in held:
        if column.kind == ids.FUTURE:
            linear += lots * column.mark * part * spot
            continue
        vol = _vol(preset, data, column.strike, left, vol_kind)
        options += lots * discount * _black(forward, column.strike, vol, years, column.is_call)
        marked += lots * column.mark
    if cut and left:
        rule = preset.discount
        if options >= 0:
            options *= rule.long_base / UNIT * math.exp(-years * (rate * rule.long_scale + rule.long_add) / UNIT)
        else:
            grown = rule.short_base / UNIT * math.exp(years * (rate * rule.short_scale + rule.short_add) / UNIT)
            options *= min(1 / discount, grown)
    return linear + options - marked


def _vol(preset: Preset, data: Expiry, strike: int, left: int, kind: int) -> float:
    vol = data.vol_at(strike) / UNIT
    shock = preset.vol
    power = (shock.short_power if left <= 30 * DAY_US else shock.long_power) / UNIT
    term = math.exp(power * math.log(30 * DAY_US / max(left, shock.floor_us)))
    if kind == VOL_UP:
        return max(shock.min_vol / UNIT, vol * (1 + shock.up / UNIT * term))
    if kind == VOL_DOWN:
        return vol * max(0.0, 1 - shock.down / UNIT * term)
    if kind not in (SKEW_LINEAR, SKEW_ABS):
        return vol
    skew = preset.skew
    root = math.sqrt(left / YEAR_US)
    base, cap = (skew.linear_base, skew.linear_cap) if kind == SKEW_LINEAR else (skew.abs_base, skew.abs_cap)
    cap_now = (base * root + cap) / UNIT
    level = (skew.vol_static + skew.vol_scale * root) / UNIT
    star = max(skew.min_k_star / UNIT, root * skew.width / UNIT * level)
    wing = math.log(strike / data.forward)
    if kind == SKEW_ABS:
        wing = abs(wing)
    slope = wing * cap_now / star
    return vol * max(0.0, 1 + (min(cap_now, slope) if wing >= 0 else max(-cap_now, slope)))
