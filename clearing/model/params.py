# SPDX-License-Identifier: GPL-3.0-or-later
"""Instruments and governed parameters: data of genesis, hashed into every epoch.

Every number is a default of a governed parameter; none is a constant of the code.
`validate` states the hard bounds.
"""

import hashlib
from itertools import pairwise

import msgspec

from clearing.model.errors import NovateError


class Instrument(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A linear perpetual. Prices are atoms per lot; margin fractions are ppm of notional."""

    id: int
    symbol: str
    underlying: str
    tick_atoms: int
    max_order_lots: int
    imf_ppm: int
    mmf_ppm: int


class FeeTier(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Fees in ppm of notional from `volume_atoms` traded in 30 days; negative is a rebate."""

    volume_atoms: int
    maker_ppm: int
    taker_ppm: int


class Params(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The governed parameter set."""

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


def params_hash(params: Params, instruments: tuple[Instrument, ...]) -> bytes:
    """SHA-256 over the canonical msgpack of parameters and instruments (32 bytes)."""
    body = msgspec.msgpack.encode((params, instruments))
    return hashlib.sha256(b"novate/params/v1\n" + body).digest()


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise NovateError("INVALID_PARAMS", f"{what}; mend the genesis parameters")


def validate(params: Params, instruments: tuple[Instrument, ...]) -> None:
    """Hard bounds. Raises `NovateError` INVALID_PARAMS naming the first one broken."""
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
    _require(params.oracle_quorum >= 1, "oracle_quorum is at least 1")
    _require(
        params.oracle_max_age_us > 0 and params.oracle_future_us >= 0,
        "oracle ages are positive",
    )
    _require(params.oracle_max_jump_ppm > 0, "oracle_max_jump_ppm is positive")
    _require(params.funding_interval_us > 0, "funding_interval_us is positive")
    _require(0 <= params.funding_cap_ppm <= 100_000, "funding_cap_ppm is 0..10 %")
    _require(0 <= params.liquidation_fee_ppm <= 15_000, "liquidation fee is at most 1.5 %")
    _require(
        0 < params.liquidation_band_ppm < 1_000_000,
        "liquidation_band_ppm is below 100 %",
    )
    _require(1 <= params.max_fills_per_entry <= 300, "an entry holds 1..300 fills")
    _require(1 <= params.max_open_orders <= 1_000, "an account holds 1..1000 open orders")
    seen: list[int] = []
    for instrument in instruments:
        _require(
            1 <= instrument.id < 2**32 and instrument.id not in seen,
            "instrument ids are unique and 1..2^32-1",
        )
        seen.append(instrument.id)
        _require(
            instrument.tick_atoms >= 1 and instrument.max_order_lots >= 1,
            "tick and maximum are positive",
        )
        _require(
            0 < instrument.mmf_ppm <= instrument.imf_ppm <= 1_000_000,
            "0 < MMF <= IMF <= 100 %",
        )
