# SPDX-License-Identifier: GPL-3.0-or-later
"""What collateral is worth: haircuts, caps, the band of synthetic assets, the peg, and old prices."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.core import assets
from clearing.core.margin import assess, headroom
from clearing.core.state import AssetState, State
from clearing.core.vaults import vaults_of
from clearing.model.commands import Vault
from clearing.model.ids import MAX_HOLDINGS_ATOMS, PPM, UNIT
from clearing.model.params import Asset
from tests.core import several as s
from tests.core import venue as v

prices = st.integers(1, 10**9)
ppm = st.integers(0, PPM)


def asset_of(index: int, reference: int, spec: Asset, dollar: int = v.USD, lots: int = 1_000) -> AssetState:
    """An asset outside any venue, priced as told (atoms per lot); the dollar in USD atoms."""

    def under(price: int, per_unit: int) -> Any:
        return SimpleNamespace(index=price, index_time=0, confidence=UNIT, spec=SimpleNamespace(lots_per_unit=per_unit))

    venue: Any = SimpleNamespace(
        symbols={"X": under(index, lots), "R": under(reference, 100), "USD": under(dollar, 1)},
        params=SimpleNamespace(oracle_max_age_us=60),
        time_us=0,
        vaults=vaults_of((Vault(1, bytes(20), (bytes(20),) * 2),)),
        cash_lanes=(0,),
    )
    cash = AssetState(venue, Asset(0, "USD", "USD"))
    asset = AssetState(venue, spec)
    venue.assets = [cash, asset]
    return asset


X = Asset(1, "X", "X", unit_atoms=10**8)
BANDED = Asset(1, "X", "X", unit_atoms=10**8, reference="R", redemption_ppm=1_100_000, band_ppm=50_000)


@given(prices, st.integers(0, 2**56), st.integers(1, 10**5), st.integers(10**4, 2 * v.USD))
def test_value_is_the_exact_quotient_rounded_down(price: int, amount: int, lots: int, dollar: int) -> None:
    """amount / unit x price of a unit in USD / price of the dollar token, up to the bound of 2^56."""
    asset = asset_of(price, 0, X, dollar, lots)
    exact = Fraction(amount * price * lots * v.USD, 10**8 * dollar)
    assert assets.value_of(asset, amount) == min(int(exact), MAX_HOLDINGS_ATOMS)
    assert assets.value_of(asset.venue.assets[0], amount) == min(amount, MAX_HOLDINGS_ATOMS)


@given(prices, prices, st.integers(1, 10**12))
def test_a_synthetic_price_stays_within_its_band(index: int, reference: int, amount: int) -> None:
    """Whatever one venue prints, the value lies within redemption ratio x reference +- 5 %, and inside the band it is
    the asset's own price."""
    value = assets.value_of(asset_of(index, reference, BANDED), amount)
    fair = Fraction(reference * 100 * 11, 10)
    own = Fraction(index * 1_000)
    clamped: Fraction = max(fair * 95 / 100, min(fair * 105 / 100, own))
    exact = clamped * amount / 10**8
    assert abs(value - min(exact, Fraction(MAX_HOLDINGS_ATOMS))) <= 1 + Fraction(2 * amount, 10**8)


def test_the_print_of_october_2025() -> None:
    """Ether at 3,800, a staked one printed at 430 on one venue: it counts at 95 % of its redemption value."""
    asset = asset_of(index=430_000, reference=38_000_000, spec=BANDED)
    assert assets.value_of(asset, 10**8) == 3_800 * v.USD * 11 * 95 // 1_000


@pytest.mark.parametrize(("index", "reference"), [(0, 5), (5, 0), (0, 0)])
def test_without_a_price_nothing_counts(index: int, reference: int) -> None:
    asset = asset_of(index, reference, BANDED)
    assert assets.value_of(asset, 10**8) == 0
    assert not assets.fresh(asset, 0)


@given(st.integers(1, 10**12), prices, ppm, ppm, ppm, ppm, st.integers(0, 10**12))
def test_more_haircut_or_less_weight_never_counts_more(
    amount: int, price: int, haircut: int, other: int, weight: int, weight_2: int, cap: int
) -> None:
    """Monotone in the haircut, the weight and the cap; and initial <= maintenance <= full."""

    def measure(haircut: int, weight: int, cap: int) -> tuple[int, int, int]:
        spec = msgspec.structs.replace(X, maintenance_haircut_ppm=haircut, initial_weight_ppm=weight, cap_atoms=cap)
        asset = asset_of(price, 0, spec)
        asset.held = amount * 2
        account: Any = SimpleNamespace(holdings={1: SimpleNamespace(asset=asset, amount=amount)})
        return assets.collateral(account)

    mild = measure(min(haircut, other), max(weight, weight_2), 0)
    harsh = measure(max(haircut, other), min(weight, weight_2), cap)
    for full, maintenance, initial in (mild, harsh):
        assert 0 <= initial <= maintenance <= full
    assert all(a >= b for a, b in zip(mild, harsh, strict=True)) or cap == 0
    if cap == 0:
        assert mild[0] == harsh[0] and mild[1] >= harsh[1] and mild[2] >= harsh[2]


@given(st.integers(1, 10**12), prices, ppm, ppm)
def test_lines_and_collateral_agree(amount: int, price: int, haircut: int, weight: int) -> None:
    """Value less both charges of the line (rounded up) is the initial value, to an atom each."""
    spec = msgspec.structs.replace(X, maintenance_haircut_ppm=haircut, initial_weight_ppm=weight)
    account: Any = SimpleNamespace(holdings={1: SimpleNamespace(asset=asset_of(price, 0, spec), amount=amount)})
    full, maintenance, initial = assets.collateral(account)
    ((under, line),) = assets.lines(account)
    assert under is not None and line.value_atoms == full
    assert maintenance == full - -(-full * line.mm_haircut // UNIT)
    assert -2 <= full - full * line.mm_haircut // UNIT - full * line.im_haircut // UNIT - initial <= 2


# --- in a venue --------------------------------------------------------------------------------


def test_a_cap_counts_every_holding_in_proportion() -> None:
    """Ten bitcoin in all and a cap of five: for new risk each holder's coins count for half, and a large
    deposit takes no maintenance value from others."""
    specs = tuple(msgspec.structs.replace(a, cap_atoms=5 * s.COIN) if a.lane == s.BITCOIN else a for a in s.ASSETS)
    venue = s.Several(s.params(assets=specs))
    ann = venue.give("ann", bitcoin=4 * s.COIN)
    before = assets.collateral(ann)
    assert before == (200_000 * v.USD, 150_000 * v.USD, 139_500 * v.USD)
    bob = venue.give("bob", bitcoin=6 * s.COIN)
    assert assets.collateral(ann) == (*before[:2], 69_750 * v.USD)
    assert assets.collateral(bob)[2] == 104_625 * v.USD


def test_haircuts_in_a_venue() -> None:
    """A bitcoin is 37,500 for maintenance (25 % haircut), 34,875 for new risk; the token without rules nothing."""
    venue = s.Several()
    ann = venue.give("ann", bitcoin=s.COIN, plain=10**9)
    assert assets.collateral(ann) == (50_000 * v.USD, 37_500 * v.USD, 34_875 * v.USD)
    assert headroom(ann) == 34_875 * v.USD
    assert assess(ann)[0] - assess(ann)[2] == 37_500 * v.USD


@pytest.mark.parametrize(("dollar", "bitcoin"), [(1_000_000, 50_000), (800_000, 62_500), (1_250_000, 40_000)])
def test_depeg(dollar: int, bitcoin: int) -> None:
    """What is priced in USD buys more settlement atoms when those are worth less, and the reverse."""
    venue = s.Several()
    ann = venue.give("ann", bitcoin=s.COIN)
    venue.advance(1)
    venue.price(usd=dollar)
    assert assets.stable_price(venue.state) == dollar * UNIT // v.USD
    assert assets.collateral(ann)[0] == bitcoin * v.USD


def test_old_prices_count_for_nothing_new_and_liquidate_nobody() -> None:
    """A minute and more after the last vote the initial value is zero, the maintenance value what it was."""
    venue = s.Several()
    ann = venue.give("ann", bitcoin=s.COIN, plain=5)
    before = assets.collateral(ann)
    assert not assets.stale(ann, venue.now_us)
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    venue.deposit("bob", 1)
    assert assets.collateral(ann) == (before[0], before[1], 0)
    assert assets.stale(ann, venue.now_us)
    venue.price()
    assert assets.collateral(ann) == before and not assets.stale(ann, venue.now_us)


def test_every_feed_that_a_price_needs_must_be_fresh() -> None:
    """Staked ether needs ether and the dollar too; bitcoin needs no ether."""
    venue = s.Several()
    ann = venue.give("ann", staked=s.COIN)
    bob = venue.give("bob", bitcoin=s.COIN)
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    late = {i: price for i, price in s.PRICES.items() if i != v.ETH}
    venue.oracle(late)
    assert assets.stale(ann, venue.now_us) and not assets.stale(bob, venue.now_us)


def test_settlement_without_a_feed_is_worth_one() -> None:
    venue = v.Venue()
    state: State = venue.state
    assert assets.stable_price(state) == UNIT
