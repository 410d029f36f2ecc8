# SPDX-License-Identifier: GPL-3.0-or-later
"""The hard bounds of parameters and instruments: no genesis and no governance passes them.

Each rule is one line that names what it wants; the first one broken is the error.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.params import Instrument, Params, Underlying, underlyings_of
from clearing.model.presets import validate_preset

# Each may build its risk array in one entry, and say so in some 80 bytes.
MAX_UNDERLYINGS = 256


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise NovateError("INVALID_PARAMS", f"{what}; mend the parameters")


def validate(params: Params, instruments: tuple[Instrument, ...], vaults: Sequence[int] = (1,)) -> None:
    """Hard bounds, for `vaults` with so many assets each. Raises `NovateError` INVALID_PARAMS naming the first one
    broken."""
    _fees(params)
    _limits(params)
    _standard(params)
    _liquidation(params)
    _oracle(params)
    _adaptive(params)
    for preset in params.presets:
        validate_preset(preset)
    known = _underlyings(params, instruments)
    _assets(params, known, vaults)
    seen: set[int] = set()
    for instrument in instruments:
        _require(instrument.id not in seen, "instrument ids are unique")
        seen.add(instrument.id)
        check_instrument(instrument)


def _fees(params: Params) -> None:
    tiers = params.fee_tiers
    _require(
        len(tiers) >= 1 and tiers[0].volume_atoms == 0,
        "the first fee tier starts at volume 0",
    )
    for lower, upper in pairwise(tiers):
        _require(lower.volume_atoms < upper.volume_atoms, "fee tiers ascend by volume")
    for tier in tiers:
        fees_ok = 0 <= tier.taker_ppm <= 10_000 and -tier.taker_ppm <= tier.maker_ppm <= 10_000
        _require(
            fees_ok,
            "taker fee is 0..1 % and a maker rebate never exceeds any taker fee",
        )
    _require(
        min(t.maker_ppm for t in tiers) + min(t.taker_ppm for t in tiers) >= 0,
        "the best rebate is covered by the lowest taker fee",
    )


def _limits(params: Params) -> None:
    _require(1 <= params.max_fills_per_entry <= 300, "an entry holds 1..300 fills")
    _require(1 <= params.max_open_orders <= 1_000, "an account holds 1..1000 open orders")
    _require(1 <= params.max_positions <= 256, "an account holds 1..256 positions")
    _require(1 <= params.max_levels <= 1_000_000, "a book side holds 1..1,000,000 price levels")
    _require(1 <= params.max_sub_accounts <= 65_536, "an owner has 1..65,536 accounts")
    _require(1 <= params.max_keys <= 1_000, "an owner has 1..1000 live keys")
    _require(params.funding_interval_us > 0, "funding_interval_us is positive")
    _require(0 <= params.funding_cap_ppm <= 100_000, "funding_cap_ppm is 0..10 %")
    _require(0 <= params.notice_us <= 365 * ids.DAY_US, "notice_us is 0..1 year")
    _require(1 <= params.version < 2**32, "version is 1..2^32-1")
    borrowing = params.borrowing
    _require(0 <= borrowing.rate_ppm_per_year <= 10 * ids.PPM, "the interest rate is 0..1000 % a year")
    _require(borrowing.interval_us > 0 and borrowing.cap_atoms >= 0, "interest interval > 0, borrowing cap >= 0")
    _require(0 <= borrowing.seize_fee_ppm <= 200_000, "seize_fee_ppm is 0..20 %")


def _standard(params: Params) -> None:
    """With no charge below zero a requirement is never negative, and none outgrows the 64 bits of a leaf."""
    rules = params.standard
    for short in (rules.short_im_ppm, rules.short_im_floor_ppm, rules.short_mm_ppm):
        _require(0 <= short <= ids.PPM, "charges on short options are 0..100 %")
    for unpaired in (rules.unpaired_im_ppm, rules.unpaired_mm_ppm):
        _require(0 <= unpaired <= 5 * ids.PPM, "charges on unpaired calls are 0..500 %")


def _liquidation(params: Params) -> None:
    ladder = params.ladder
    _require(0 <= params.liquidation_fee_ppm <= 15_000, "liquidation fee is at most 1.5 %")
    _require(0 < params.liquidation_band_ppm < ids.PPM, "liquidation_band_ppm is below 100 %")
    _require(ids.PPM <= ladder.target_ppm <= 2 * ids.PPM, "target_ppm is 100..200 %")
    _require(0 < ladder.slice_ppm <= ids.PPM and 0 < ladder.step_position_ppm <= ids.PPM, "slices are 0..100 %")
    _require(ladder.step_atoms > 0 and ladder.slice_from_atoms >= 0, "step amounts are positive")
    _require(0 <= ladder.cooldown_us <= ids.DAY_US, "the cool-down is at most a day")
    _require(0 <= ladder.backstop_ppm <= ids.PPM, "backstop_ppm is 0..100 %")
    prices_ok = ids.PPM >= ladder.auction_start_ppm >= ladder.auction_middle_ppm >= 0
    _require(prices_ok and ladder.auction_fast_us > 0 and ladder.auction_slow_us > 0, "an auction's price only falls")
    _require(0 <= ladder.default_fund_lock_us <= 365 * ids.DAY_US, "default_fund_lock_us is 0..1 year")


def _oracle(params: Params) -> None:
    oracle = params.oracle
    _require(params.oracle_quorum >= 1, "oracle_quorum is at least 1")
    _require(0 < params.oracle_max_age_us <= ids.DAY_US, "oracle_max_age_us is up to a day")
    _require(0 <= params.oracle_future_us <= ids.DAY_US // 24, "oracle_future_us is 0..1 hour")
    _require(oracle.fill_max_age_us > 0, "fill_max_age_us is positive")
    _require(params.oracle_max_jump_ppm > 0, "oracle_max_jump_ppm is positive")
    _require(0 < oracle.max_confidence_ppm <= ids.PPM, "max_confidence_ppm is 0..100 %")
    _require(oracle.confidence_scale_ppm >= 0, "confidence_scale_ppm is not negative")
    _require(oracle.twap_window_us > 0 and oracle.twap_band >= 1, "the TWAP band is at least 1, its window positive")
    _require(oracle.divergence_ppm > 0 and oracle.mark_ema_us > 0, "divergence and mark EMA are positive")
    _require(0 < oracle.expiry_window_us <= ids.DAY_US, "the expiry window is at most a day")
    _require(0 < oracle.min_vol <= oracle.max_vol <= 1_000 * ids.UNIT, "0 < min_vol <= max_vol")


def _adaptive(params: Params) -> None:
    adaptive, breaker = params.adaptive, params.breaker
    _require(adaptive.interval_us >= 0 and 0 <= adaptive.decay_ppm < ids.PPM, "decay_ppm is 0..100 %")
    _require(0 < adaptive.baseline_vol <= 10 * ids.UNIT, "baseline_vol is up to 1000 % a day")
    _require(0 <= adaptive.buffer_ppm <= ids.PPM, "the buffer is 0..100 %")
    _require(ids.PPM <= adaptive.cap_ppm <= 20 * ids.PPM, "automatic changes only tighten: cap_ppm is 100..2000 %")
    _require(adaptive.up_ppm_per_day > 0 and adaptive.down_ppm_per_day > 0, "the ramps are positive")
    _require(breaker.band_ppm >= 0 and breaker.impact_ppm >= 0, "breaker limits are not negative")
    _require(breaker.window_us > 0, "the breaker's window is positive")


def _underlyings(params: Params, instruments: tuple[Instrument, ...]) -> dict[str, Underlying]:
    known: dict[str, Underlying] = {}
    used: set[int] = set()
    listed = underlyings_of(params, instruments)
    _require(len(listed) <= MAX_UNDERLYINGS, f"there are at most {MAX_UNDERLYINGS} underlyings")
    for under in listed:
        _require(1 <= under.id < 2**32 and under.id not in used, "underlying ids are unique and 1..2^32-1")
        _require(1 <= len(under.symbol) <= 32 and under.symbol not in known, "underlying symbols are unique")
        _require(under.lots_per_unit >= 1, "lots_per_unit is at least 1")
        _require(0 <= under.preset < len(params.presets), "an underlying's preset is one of the presets")
        _require(under.depth_lots >= 0 and under.size_factor >= 0, "depth and size factor are not negative")
        _require(0 <= under.oi_lower_atoms <= under.oi_upper_atoms, "0 <= oi_lower <= oi_upper")
        used.add(under.id)
        known[under.symbol] = under
    return known


def _assets(params: Params, known: dict[str, Underlying], vaults: Sequence[int]) -> None:
    """Lanes are numbered through the vaults. The settlement asset is one currency: lane 0 has its rules, the first
    lanes of the other vaults none of their own."""
    seen: set[int] = set()
    lanes = sum(vaults)
    elsewhere = tuple(accumulate(vaults))[:-1]
    for asset in params.assets:
        _require(0 <= asset.lane < lanes and asset.lane not in seen, "an asset's lane is a token of a vault, once")
        _require(asset.lane not in elsewhere, "the settlement asset's rules are lane 0's, in every vault")
        seen.add(asset.lane)
        _require(not asset.underlying or asset.underlying in known, "an asset's underlying is listed")
        _require(not asset.reference or asset.reference in known, "an asset's reference is listed")
        _require(asset.lane == 0 or asset.underlying != "", "collateral has an underlying that prices it")
        _require(asset.unit_atoms >= 1 and asset.cap_atoms >= 0, "unit_atoms is positive, the cap not negative")
        weights_ok = 0 <= asset.maintenance_haircut_ppm <= ids.PPM and 0 <= asset.initial_weight_ppm <= ids.PPM
        _require(weights_ok, "haircuts and weights are 0..100 %")
        fee_ok = asset.lane == 0 or asset.maintenance_haircut_ppm >= params.borrowing.seize_fee_ppm
        _require(fee_ok, "seizing collateral costs no more than the haircut that it frees")
        _require(asset.lane > 0 or asset.maintenance_haircut_ppm == 0, "the settlement asset has no haircut")
        _require(asset.redemption_ppm > 0 and asset.band_ppm >= 0, "redemption ratio is positive")


def check_instrument(instrument: Instrument) -> None:
    """One instrument's bounds. Raises `NovateError` INVALID_PARAMS."""
    _require(1 <= instrument.id < 2**32, "instrument ids are unique and 1..2^32-1")
    _require(1 <= len(instrument.symbol) <= 64, "a symbol has 1..64 characters")
    _require(1 <= len(instrument.underlying) <= 32, "an underlying's symbol has 1..32 characters")
    _require(instrument.tick_atoms >= 1 and instrument.max_order_lots >= 1, "tick and maximum are positive")
    _require(0 < instrument.mmf_ppm <= instrument.imf_ppm <= ids.PPM, "0 < MMF <= IMF <= 100 %")
    _require(instrument.kind in (ids.PERPETUAL, ids.FUTURE, ids.OPTION), "kind is perpetual, future or option")
    _require((instrument.expiry_us > 0) == (instrument.kind != ids.PERPETUAL), "all but perpetuals expire")
    _require(0 <= instrument.expiry_us <= ids.MAX_TIME_US, "expiry_us is a time")
    option = instrument.kind == ids.OPTION
    _require(
        0 < instrument.strike_atoms <= ids.MAX_PRICE_ATOMS if option else not instrument.strike_atoms,
        "an option has a strike below the price limit, nothing else has one",
    )
