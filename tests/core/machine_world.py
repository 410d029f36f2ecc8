# SPDX-License-Identifier: GPL-3.0-or-later
"""The venue of the risk machine: every kind of contract, four assets, three publishers (two make a quorum), and
rules drawn at random, so that every limit is met and every branch of the waterfall has its day."""

from __future__ import annotations

import random

import msgspec

from clearing.core.state import State, UnderlyingState
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.outcomes import Outcome
from clearing.model.params import Adaptive, Borrowing, Breaker, FeeTier, Instrument, Ladder, OracleRules, Params
from tests.core import several as s
from tests.core import venue as v

NAMES = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal")
PUBLISHERS = 3
NEAR, FAR = v.START_US + 2 * v.HOUR, v.START_US + 26 * v.HOUR
TICKS = {v.BTC: 10_000, v.ETH: 1_000}
SYMBOLS = {v.BTC: "BTC", v.ETH: "ETH"}


def instruments() -> tuple[Instrument, ...]:
    """Perpetuals 1 and 2, a future of each underlying, nine options at two expiries."""
    found = [*v.INSTRUMENTS, v.future(3, NEAR, "BTC"), v.future(4, FAR, "ETH", tick=1_000)]
    for strike in (46, 50, 55):
        found.append(v.option(len(found) + 1, strike * v.USD, NEAR, True))
        found.append(v.option(len(found) + 1, strike * v.USD, NEAR, False))
    found.append(v.option(len(found) + 1, 50 * v.USD, FAR, True))
    found.append(v.option(len(found) + 1, 2 * v.USD, FAR, True, "ETH", tick=100))
    found.append(v.option(len(found) + 1, 2 * v.USD, FAR, False, "ETH", tick=100))
    return tuple(found)


def rules(rng: random.Random, version: int = 1) -> Params:
    """Some parameter set within bounds, with tight limits as often as loose ones."""
    pick = rng.choice
    fees = (
        (FeeTier(0, 0, 0),),
        (FeeTier(0, 200, 500), FeeTier(20_000 * v.USD, -100, 301)),
        (FeeTier(0, 10_000, 10_000),),
    )
    unders = tuple(
        msgspec.structs.replace(
            under,
            preset=pick((0, 1)),
            depth_lots=pick((0, 0, 300)),
            oi_lower_atoms=pick((0, 10_000)) * v.USD,
            oi_upper_atoms=pick((0, 400_000)) * v.USD + 10_000 * v.USD,
            size_factor=pick((0, 0, 2 * 10**9)),
        )
        if under.id in TICKS
        else under
        for under in s.UNDERLYINGS
    )
    unders = tuple(
        msgspec.structs.replace(u, oi_lower_atoms=0, oi_upper_atoms=0) if pick((0, 1)) else u for u in unders
    )
    cancelling = pick((False, True))
    assets = tuple(
        msgspec.structs.replace(a, cap_atoms=pick((0, 0, 2 * s.COIN)), risk_cancelling=cancelling) if a.lane else a
        for a in s.ASSETS
    )
    return Params(
        version=version,
        fee_tiers=pick(fees),
        oracle_quorum=2,
        oracle_max_jump_ppm=pick((500_000, 10**7)),
        funding_interval_us=20 * v.MINUTE,
        liquidation_fee_ppm=pick((0, 10_000, 15_000)),
        max_fills_per_entry=pick((3, 20, 300)),
        max_open_orders=pick((6, 40)),
        max_levels=pick((6, 100)),
        max_sub_accounts=3,
        max_positions=pick((3, 8, 64, 64)),
        notice_us=10 * v.MINUTE,
        underlyings=unders,
        assets=assets,
        oracle=OracleRules(twap_band=pick((5, 10_000)), expiry_window_us=10 * v.MINUTE),
        ladder=Ladder(
            slice_from_atoms=pick((0, 5_000 * v.USD, 10**12)),
            step_atoms=pick((2_000 * v.USD, 10**11)),
            auction_fast_us=2 * v.MINUTE,
            auction_slow_us=20 * v.MINUTE,
            default_fund_lock_us=5 * v.MINUTE,
        ),
        adaptive=Adaptive(interval_us=pick((0, 5 * v.MINUTE))),
        breaker=Breaker(band_ppm=pick((0, 0, 200_000)), impact_ppm=pick((0, 0, 50_000))),
        borrowing=Borrowing(interval_us=10 * v.MINUTE, cap_atoms=pick((0, 20_000, 10**6)) * v.USD),
    )


class World(s.Several):
    """`truth`: what the underlyings are worth, atoms per lot; publishers say so, more or less."""

    def __init__(self, rng: random.Random) -> None:
        v.Venue.__init__(self, rules(rng), instruments(), PUBLISHERS, s.TOKENS)
        self.truth = dict(s.PRICES)
        self.vol = 0.6
        self.next_instrument = len(self.state.instruments) + 1
        fund = rng.choice((0, 0, 200, 5_000, 200_000))
        if fund:
            self.deposit("treasury", fund * v.USD)
            self.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, fund * v.USD // 2))
        for name in NAMES:
            self.deposit(name, rng.choice((500, 5_000, 50_000)) * v.USD)
            self.register(name)
        for name in rng.sample(NAMES, 4):
            self.deposit(name, rng.randrange(1, 3 * s.COIN), asset=rng.choice((s.BITCOIN, s.STAKED, s.STAKED, s.PLAIN)))
        self.everybody_votes(rng)

    # --- publishers --------------------------------------------------------------------------

    def everybody_votes(self, rng: random.Random, publishers: int = PUBLISHERS) -> None:
        for number in rng.sample(range(PUBLISHERS), publishers):
            self.vote(rng, number)

    def vote(self, rng: random.Random, publisher: int, factor: float = 1.0) -> list[Outcome]:
        """One publisher's view of everything: the truth within 0.1 % (times `factor`), and all surfaces."""
        prices = {
            under: max(1, round(price * factor * rng.uniform(0.999, 1.001))) for under, price in self.truth.items()
        }
        chosen = rng.choice((1, 10, 100))
        confidence = max(1, min(prices.values()) * chosen // 20_000)
        surfaces = tuple(
            self.surface(rng, under, expiry_us, factor)
            for under in self.state.underlyings.values()
            for expiry_us in under.expiries
            if expiry_us > self.now_us
        )
        return self.oracle(prices, publisher, confidence, surfaces=surfaces)

    def surface(self, rng: random.Random, under: UnderlyingState, expiry_us: int, factor: float) -> c.Surface:
        forward = max(1, round(self.truth[under.id] * factor * rng.uniform(0.995, 1.01)))
        truth = max(2, self.truth[under.id])
        strikes = (max(1, truth * 8 // 10), truth, truth * 12 // 10 + 1)
        vols = tuple(min(19.0, max(0.02, self.vol * rng.uniform(0.9, 1.1))) for _ in strikes)
        return v.surface(under.id, expiry_us, forward, strikes, vols, rng.choice((-0.01, 0.0, 0.05)))

    def move(self, rng: random.Random, under: int, low: float, high: float) -> None:
        """The truth moves by a factor."""
        self.truth[under] = max(2, min(10**11, round(self.truth[under] * rng.uniform(low, high))))

    def is_fresh(self, instrument: int) -> bool:
        inst = self.state.instruments[instrument]
        limit = self.state.params.oracle.fill_max_age_us
        return bool(inst.mark) and inst.index_time + limit >= self.now_us


def numbers(state: State) -> list[int]:
    """Members' accounts."""
    return list(range(ids.HOUSE_ACCOUNTS, len(state.accounts)))
