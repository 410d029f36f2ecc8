# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruments and governed parameters: data of genesis, hashed into every epoch.

Every number is a default of a governed parameter; none is a constant of the code.
`clearing.model.bounds` states the hard bounds.
"""

import hashlib

import msgspec

from clearing.model import ids
from clearing.model.presets import PRESET_A, PRESET_B, Preset


class _Data(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    pass


class Instrument(_Data, frozen=True):
    """A linear perpetual, dated future or cash-settled European option (`kind`: ids.PERPETUAL, FUTURE, OPTION).

    Prices and the strike are atoms per lot; margin fractions are ppm of notional. All instruments of
    an underlying share its lot. `expiry_us` is 0 for perpetuals; strike and `is_call` are the option's.
    """

    id: int
    symbol: str
    underlying: str
    tick_atoms: int
    max_order_lots: int
    imf_ppm: int
    mmf_ppm: int
    kind: int = ids.PERPETUAL
    expiry_us: int = 0
    strike_atoms: int = 0
    is_call: bool = False


class FeeTier(_Data, frozen=True):
    """Fees in ppm of notional from `volume_atoms` traded in 30 days; negative is a rebate."""

    volume_atoms: int
    maker_ppm: int
    taker_ppm: int


class Underlying(_Data, frozen=True):
    """What publishers price: `id` names it in oracle updates, `symbol` in instruments and assets.

    `lots_per_unit`: lots in one unit (1 BTC = 1000 lots). Zero switches a rule off: `depth_lots`
    (concentration), `oi_lower_atoms`/`oi_upper_atoms` (IMF grows to 100 % of notional between them),
    `size_factor` (IMF >= factor x sqrt(lots), 1e-12). `preset` indexes Params.presets.
    """

    id: int
    symbol: str
    lots_per_unit: int = 1_000
    preset: int = 0
    depth_lots: int = 0
    oi_lower_atoms: int = 0
    oi_upper_atoms: int = 0
    size_factor: int = 0


class Asset(_Data, frozen=True):
    """Collateral: lane of the vault, the underlying that prices it, and how much of it counts.

    `unit_atoms` atoms are one unit, which is `lots_per_unit` lots of the underlying. Lane 0 is the
    settlement asset: haircut 0, its underlying (if any) drives the depeg rule. `cap_atoms` bounds what
    counts in all (0: no bound); `order` is the order of seizure, most liquid first. `band_ppm` bounds
    how far a synthetic asset's price may lie from redemption ratio x reference (0: no band).
    """

    lane: int
    symbol: str
    underlying: str
    unit_atoms: int = 1_000_000
    maintenance_haircut_ppm: int = 0
    initial_weight_ppm: int = 1_000_000
    cap_atoms: int = 0
    order: int = 0
    risk_cancelling: bool = False
    reference: str = ""
    redemption_ppm: int = 1_000_000
    band_ppm: int = 0


class StandardMargin(_Data, frozen=True):
    """Short options under standard margin (Derive SRM): IM = max(a - OTM, b) x S + mark, MM = c x S + mark;
    calls that no long call covers count for more (`unpaired_*`)."""

    short_im_ppm: int = 150_000
    short_im_floor_ppm: int = 130_000
    short_mm_ppm: int = 90_000
    unpaired_im_ppm: int = 1_200_000
    unpaired_mm_ppm: int = 1_100_000


class OracleRules(_Data, frozen=True):
    """Validity by action, the mark rule and expiry.

    Confidence level = max(0, 1 - `confidence_scale` x c / price): at the widest permitted
    `max_confidence_ppm` it reaches the presets' threshold of 0.55.
    """

    fill_max_age_us: int = 5_000_000
    max_confidence_ppm: int = 20_000
    confidence_scale_ppm: int = 22_500_000
    twap_window_us: int = 3_600_000_000
    twap_band: int = 5
    divergence_ppm: int = 100_000
    mark_ema_us: int = 150_000_000
    expiry_window_us: int = 1_800_000_000
    min_vol: int = 10_000_000_000
    max_vol: int = 20_000_000_000_000


class Ladder(_Data, frozen=True):
    """Liquidation: sell down to `target_ppm` of maintenance, in slices above `slice_from_atoms`, with a
    cool-down; per step at most `step_position_ppm` of a position and `step_atoms`; auctions for option
    books; below `backstop_ppm` of maintenance the backstop takes the book."""

    target_ppm: int = 1_150_000
    slice_from_atoms: int = 100_000_000_000
    slice_ppm: int = 200_000
    cooldown_us: int = 30_000_000
    step_position_ppm: int = 100_000
    step_atoms: int = 100_000_000_000
    backstop_ppm: int = 666_667
    auction_start_ppm: int = 950_000
    auction_middle_ppm: int = 700_000
    auction_fast_us: int = 900_000_000
    auction_slow_us: int = 43_200_000_000
    default_fund_lock_us: int = 604_800_000_000


class Adaptive(_Data, frozen=True):
    """Margin that follows volatility (0 `interval_us`: off): EWMA of squared returns with weight `decay_ppm`
    for the past, a buffer that stress may use up, a long-run floor, a cap and a ramp per day."""

    interval_us: int = 3_600_000_000
    decay_ppm: int = 990_000
    baseline_vol: int = 40_000_000_000
    buffer_ppm: int = 250_000
    cap_ppm: int = 4_000_000
    up_ppm_per_day: int = 250_000
    down_ppm_per_day: int = 20_000


class Breaker(_Data, frozen=True):
    """Self-impact only (0: off): orders further than `band_ppm` from the index are refused, and an account's
    takers may move the book by at most `impact_ppm` of the index per `window_us`."""

    band_ppm: int = 0
    impact_ppm: int = 0
    window_us: int = 60_000_000


class Borrowing(_Data, frozen=True):
    """Interest on a negative settlement balance that collateral covers, and the cap on all such debt."""

    rate_ppm_per_year: int = 100_000
    interval_us: int = 3_600_000_000
    cap_atoms: int = 0
    seize_fee_ppm: int = 20_000


class Params(_Data, frozen=True):
    """The governed parameter set: one, versioned, hashed into every epoch."""

    version: int = 1
    fee_tiers: tuple[FeeTier, ...] = (
        FeeTier(0, 200, 500),
        FeeTier(1_000_000_000_000, 100, 400),
        FeeTier(25_000_000_000_000, 0, 300),
    )
    oracle_quorum: int = 1
    oracle_max_age_us: int = 60_000_000
    oracle_future_us: int = 1_000_000
    oracle_max_jump_ppm: int = 500_000
    funding_interval_us: int = 3_600_000_000
    funding_interest_ppm: int = 12
    funding_cap_ppm: int = 7_500
    liquidation_fee_ppm: int = 10_000
    liquidation_band_ppm: int = 50_000
    max_fills_per_entry: int = 300
    max_open_orders: int = 1_000
    max_levels: int = 10_000
    max_sub_accounts: int = 64
    max_keys: int = 16
    max_positions: int = 64
    notice_us: int = 86_400_000_000
    underlyings: tuple[Underlying, ...] = ()
    assets: tuple[Asset, ...] = ()
    presets: tuple[Preset, ...] = (PRESET_A, PRESET_B)
    standard: StandardMargin = StandardMargin()
    oracle: OracleRules = OracleRules()
    ladder: Ladder = Ladder()
    adaptive: Adaptive = Adaptive()
    breaker: Breaker = Breaker()
    borrowing: Borrowing = Borrowing()


def underlyings_of(params: Params, instruments: tuple[Instrument, ...]) -> tuple[Underlying, ...]:
    """All underlyings: those of the parameters, and one with default rules for every symbol that only an
    instrument names; it has the id of the first such instrument."""
    found = {under.symbol: under for under in params.underlyings}
    for spec in instruments:
        if spec.underlying not in found:
            found[spec.underlying] = Underlying(spec.id, spec.underlying)
    return tuple(found.values())


def params_hash(params: Params, instruments: tuple[Instrument, ...]) -> bytes:
    """SHA-256 over the canonical msgpack of parameters and instruments (32 bytes)."""
    body = msgspec.msgpack.encode((params, instruments))
    return hashlib.sha256(b"novate/params/v2\n" + body).digest()
