# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue worth a report: three publishers, options with a surface, all kinds of accounts, two days of epochs.

- ann: standard, long far too much bitcoin, an order resting.  bob: rich, takes the other side of everything.
- pam: portfolio margin, a short strangle and a perpetual beside it.  cat: bitcoin as collateral, short ether.
- dan: flat, with a pledge to the default fund.
"""

from __future__ import annotations

from functools import cache

from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import encode_entry
from clearing.model.params import Adaptive, Borrowing, FeeTier, OracleRules, Params
from clearing.report.history import Read, read
from tests.core import several as s
from tests.core import venue as v

EXPIRY = v.START_US + 30 * v.DAY
FUTURE, PUT, CALL = 10, 11, 12
STRIKES = (40 * v.USD, 50 * v.USD, 60 * v.USD)
INSTRUMENTS = (
    *v.INSTRUMENTS,
    v.future(FUTURE, EXPIRY),
    v.option(PUT, STRIKES[0], EXPIRY, False),
    v.option(CALL, STRIKES[2], EXPIRY, True),
)
PUBLISHERS = 3
FUND, CAPITAL, PLEDGE = 9_000 * v.USD, 4_000 * v.USD, 3_000 * v.USD


def rules() -> Params:
    """Margin fractions that stay, so that tests can say what they expect."""
    return Params(
        fee_tiers=(FeeTier(0, 0, 0),),
        underlyings=s.UNDERLYINGS,
        assets=s.ASSETS,
        oracle_quorum=2,
        oracle=OracleRules(twap_band=5),
        borrowing=Borrowing(cap_atoms=10**6 * v.USD),
        adaptive=Adaptive(interval_us=0),
    )


class Scene(s.Several):
    """See the module. `votes` are the prices that all publishers give, by name as in `Several.price`."""

    def __init__(self) -> None:
        v.Venue.__init__(self, rules(), INSTRUMENTS, PUBLISHERS, s.TOKENS)
        self.votes()

    def votes(self, **changes: int) -> None:
        names = {"btc": v.BTC, "eth": v.ETH, "steth": s.STETH, "usd": s.USD_FEED}
        prices = s.PRICES | {names[name]: price for name, price in changes.items()}
        forward = prices[v.BTC] * 1_002 // 1_000
        surface = v.surface(v.BTC, EXPIRY, forward, STRIKES, (0.7, 0.6, 0.65), rate=0.03)
        for publisher in range(PUBLISHERS):
            out = self.oracle(prices, publisher, surfaces=(surface,))
            assert not v.codes(out), out

    def trade(self, buyer: str, seller: str, lots: int, instrument: int) -> None:
        """At the mark."""
        inst = self.state.instruments[instrument]
        price = inst.mark // inst.spec.tick_atoms * inst.spec.tick_atoms
        for who, side in ((seller, ids.SELL), (buyer, ids.BUY)):
            out = self.do(who, self.order(side, price, lots, instrument))
            assert not v.codes(out), (who, out)

    def epoch(self, hours: int = 6, **prices: int) -> None:
        """Time passes, prices come, the epoch closes."""
        self.advance(hours * v.HOUR)
        self.votes(**prices)
        out = self.operator(c.FundingTick())
        assert not v.codes(out), out
        self.close_epoch()

    def data(self) -> list[bytes]:
        """The journal's entries as bytes."""
        found = []
        for seq, entry in enumerate(self.journal):
            found.append(encode_entry(seq, entry.time_us, entry.raw, v.decode_outcomes(entry.outcomes)))
        return found


def build() -> Scene:
    scene = Scene()
    scene.deposit("treasury", FUND + CAPITAL)
    scene.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, FUND))
    scene.give("bob", dollar=10**12)
    scene.give("ann", dollar=6_000 * v.USD)
    scene.give("pam", dollar=30_000 * v.USD)
    scene.give("cat", bitcoin=s.COIN // 2)
    scene.give("dan", dollar=5_000 * v.USD)
    scene.do("dan", c.PledgeDefaultFund(PLEDGE))
    scene.trade("ann", "bob", 1_000, v.BTC)
    scene.trade("bob", "pam", 800, PUT)
    scene.trade("bob", "pam", 400, CALL)
    scene.trade("pam", "bob", 150, v.BTC)
    scene.trade("bob", "pam", 50, FUTURE)
    assert not v.codes(scene.do("pam", c.SetMarginMode(ids.PORTFOLIO)))
    scene.trade("bob", "cat", 2_000, v.ETH)
    assert not v.codes(scene.do("ann", scene.order(ids.BUY, 45 * v.USD, 20, v.BTC)))
    for btc in (50, 51, 49, 48, 49):
        scene.epoch(btc=btc * v.USD)
    scene.epoch(24, btc=49 * v.USD)
    return scene


@cache
def scene() -> Scene:
    """Built once; nobody changes it."""
    return build()


@cache
def found(who: str = "") -> Read:
    """The scene's journal, read back; with the margin of `who` through time."""
    number = scene().account(who).number if who else -1
    return read(enumerate(scene().data()), account=number)
