# SPDX-License-Identifier: GPL-3.0-or-later
"""What margin fractions grow with: open interest and size; and what collateral alone needs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.core.risk.addons import collateral_charge, free_lots, open_interest_imf, size_imf
from clearing.core.risk.charges import CollateralLine
from clearing.model.ids import MAX_LOTS, PPM, UNIT
from clearing.model.presets import PRESET_A

bases = st.integers(1, PPM)
factors = st.integers(1, 10**15)


@pytest.mark.parametrize(
    "oi, expected",
    [(0, 50_000), (1_000, 50_000), (1_001, 50_950), (1_500, 525_000), (2_000, PPM), (9_999, PPM)],
)
def test_open_interest_scales_between_its_bounds(oi: int, expected: int) -> None:
    """5 % up to 1000, 100 % from 2000 on, linear between."""
    assert open_interest_imf(50_000, oi, 1_000, 2_000) == expected


def test_open_interest_scaling_is_off_without_bounds() -> None:
    assert open_interest_imf(50_000, 10**18, 0, 0) == 50_000


@given(base=bases, oi=st.integers(0, 10**20), lower=st.integers(0, 10**18), width=st.integers(0, 10**18))
def test_open_interest_margin_rounds_up_and_grows(base: int, oi: int, lower: int, width: int) -> None:
    """To the ppm: the smallest one not below the exact formula; between base and 100 %; monotone in OI."""
    found = open_interest_imf(base, oi, lower, lower + width)
    if lower + width:
        share = Fraction(max(0, oi - lower), width) if width else Fraction(int(oi > lower))
        exact = min(Fraction(PPM), base + share * (PPM - base))
        assert found - 1 < exact <= found
    assert base <= found <= PPM
    assert open_interest_imf(base, oi + 1, lower, lower + width) >= found


@pytest.mark.parametrize(
    "lots, expected", [(0, 50_000), (2_500, 50_000), (2_501, 50_010), (10_000, 100_000), (10**6, PPM), (10**9, PPM)]
)
def test_size_scales_with_the_root(lots: int, expected: int) -> None:
    """Factor 0.001: 5 % up to 2500 lots, 10 % at four times as many, 100 % at a million."""
    assert size_imf(50_000, UNIT // 1_000, lots) == expected


@given(base=bases, factor=factors, lots=st.integers(0, MAX_LOTS))
def test_size_margin_rounds_up_and_grows(base: int, factor: int, lots: int) -> None:
    """max(base, factor x sqrt(lots)): the smallest ppm whose square is not below; capped; monotone in size."""
    found = size_imf(base, factor, lots)
    square = Fraction(factor, 10**6) ** 2 * lots
    assert base <= found <= PPM
    if found > base:
        assert (found - 1) ** 2 < square
    if found < PPM:
        assert square <= found**2
    assert size_imf(base, factor, lots + 1) >= found


@given(base=bases, factor=st.integers(0, 10**15))
def test_free_lots_are_where_scaling_starts(base: int, factor: int) -> None:
    """At that size nothing is added, one lot above something is (unless there is no end)."""
    free = free_lots(base, factor)
    assert 0 <= free <= MAX_LOTS
    assert size_imf(base, factor, free) == base
    if free < MAX_LOTS:
        assert size_imf(base, factor, free + 1) > base


@given(
    value=st.integers(0, 2**56),
    haircut=st.integers(0, UNIT),
    more=st.integers(0, UNIT),
    confidence=st.integers(0, UNIT),
    spot=st.integers(0, UNIT),
)
def test_collateral_charges_grow_with_doubt(value: int, haircut: int, more: int, confidence: int, spot: int) -> None:
    """MM <= IM; a larger haircut or less confidence never lowers a charge; certain data costs nothing."""
    rule = PRESET_A.contingency
    line = CollateralLine(value, haircut, more, confidence)
    initial, maintenance = collateral_charge(rule, line, spot)
    assert 0 <= maintenance <= initial
    assert collateral_charge(rule, line._replace(mm_haircut=haircut + 1), spot) >= (initial, maintenance)
    doubtful = collateral_charge(rule, line, spot // 2)
    assert doubtful[0] >= initial and doubtful[1] == maintenance
    sure = collateral_charge(rule, line._replace(confidence=UNIT), UNIT)
    assert sure == (-(-value * haircut // UNIT) - -value * more // UNIT, -(-value * haircut // UNIT))


def test_a_collateral_charge_in_numbers() -> None:
    """1000 of ETH at 20 % haircut, 5 % more for initial margin, at a confidence of 0.5: (1 - 0.5) x 1000 on top."""
    line = CollateralLine(1_000, UNIT // 5, UNIT // 20, UNIT // 2)
    assert collateral_charge(PRESET_A.contingency, line, UNIT) == (200 + 50 + 500, 200)
