# SPDX-License-Identifier: GPL-3.0-or-later
"""What collateral is worth, in atoms of the settlement asset.

Rules:
- The settlement asset is worth itself, in whichever vault it lies. Every other asset is worth its index price, which
  publishers quote in USD, divided by the USD price of the settlement asset (`stable_price`): when that loses its peg,
  what is priced in USD buys more of it, and less when it trades above. Values round down.
- A synthetic asset (one with a reference and a band) is worth its own index clamped to
  redemption ratio x reference +- band: a wild print on one venue moves nobody's margin beyond the band.
- `cap_atoms` bounds what counts for new risk over all accounts: above it each holding counts in proportion.
- Without an index an asset is worth nothing. With a stale one it is worth nothing for new risk (initial), while
  its maintenance value stays where it was, and `stale` tells liquidation to wait: a stale oracle freezes.
- What one holding counts is at most 2^56 atoms, so that figures of an account stay within their fields.
"""

from clearing.core.risk.charges import CollateralLine
from clearing.core.state import Account, AssetState, State, UnderlyingState
from clearing.model.ids import MAX_HOLDINGS_ATOMS, PPM, UNIT

_PPM_UNIT = UNIT // PPM


def stable_price(state: State) -> int:
    """USD price of the settlement asset in 1e-12; UNIT while nothing prices it."""
    asset = state.assets[0]
    under = asset.under
    if under is None or not under.index:
        return UNIT
    return max(1, under.index * under.spec.lots_per_unit * UNIT // asset.spec.unit_atoms)


def rate(asset: AssetState) -> tuple[int, int]:
    """Settlement atoms per asset atom as a fraction; (0, 1) when nothing prices it."""
    spec, under = asset.spec, asset.under
    if asset.settlement:
        return 1, 1
    if under is None or not under.index:
        return 0, 1
    price = under.index * under.spec.lots_per_unit
    if spec.band_ppm and asset.reference is not None:
        reference = asset.reference
        fair = reference.index * reference.spec.lots_per_unit * spec.redemption_ppm // PPM
        band = fair * spec.band_ppm // PPM
        price = max(fair - band, min(fair + band, price), 0)
    return price * UNIT, spec.unit_atoms * stable_price(asset.venue)


def value_of(asset: AssetState, amount: int) -> int:
    """Settlement atoms that `amount` atoms of an asset are worth at the index, before any haircut and cap."""
    above, below = rate(asset)
    return min(amount * above // below, MAX_HOLDINGS_ATOMS)


def fresh(asset: AssetState, time_us: int) -> bool:
    """Have all prices that `rate` needs been voted within oracle_max_age_us?"""
    oldest = time_us - asset.venue.params.oracle_max_age_us
    feeds = [asset.under, asset.venue.assets[0].under]
    if asset.spec.band_ppm:
        feeds.append(asset.reference)
    return asset.under is not None and all(f is None or (f.index > 0 and f.index_time >= oldest) for f in feeds)


def stale(account: Account, time_us: int) -> bool:
    """Does the account hold collateral that counts, at a price that is missing or too old?"""
    return any(
        held.asset.spec.maintenance_haircut_ppm < PPM and not fresh(held.asset, time_us)
        for held in account.holdings.values()
    )


def _initial_ppm(asset: AssetState) -> int:
    """Weight for new risk, on top of the maintenance haircut: under the asset's cap, and zero at a stale price.

    The cap bounds new risk alone: if it bounded maintenance too, one large deposit could make others liquidatable.
    """
    if not fresh(asset, asset.venue.time_us):
        return 0
    cap, weight = asset.spec.cap_atoms, asset.spec.initial_weight_ppm
    return weight * cap // asset.held if cap and asset.held > cap else weight


def collateral(account: Account) -> tuple[int, int, int]:
    """(full value, maintenance value, initial value) of all that the account holds, settlement atoms.

    Maintenance = full x (1 - haircut); initial = maintenance x weight.
    """
    full = maintenance = initial = 0
    for held in account.holdings.values():
        value = value_of(held.asset, held.amount)
        kept = value * (PPM - held.asset.spec.maintenance_haircut_ppm) // PPM
        full += value
        maintenance += kept
        initial += kept * _initial_ppm(held.asset) // PPM
    return full, maintenance, initial


def lines(account: Account) -> list[tuple[UnderlyingState | None, CollateralLine]]:
    """The same for portfolio margin: by lane, with the underlying whose moves the asset follows."""
    found: list[tuple[UnderlyingState | None, CollateralLine]] = []
    for lane in sorted(account.holdings):
        held = account.holdings[lane]
        asset = held.asset
        spec, under = asset.spec, asset.under
        haircut = spec.maintenance_haircut_ppm
        line = CollateralLine(
            value_atoms=value_of(held.asset, held.amount),
            mm_haircut=haircut * _PPM_UNIT,
            im_haircut=(PPM - haircut) * (PPM - _initial_ppm(asset)),
            confidence=under.confidence if under is not None else UNIT,
            risk_cancelling=spec.risk_cancelling,
        )
        found.append((asset.reference or under, line))
    return found
