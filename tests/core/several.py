# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue with several assets: dollars (lane 0), bitcoin (1), staked ether (2) and a token without rules (3).

Bitcoin costs 50,000 USD, ether 2,000; a staked ether redeems for 1.1 ether and is held within 5 % of that. The
dollar token has a price of its own (underlying 4), so that it may lose its peg.
"""

from __future__ import annotations

from clearing.core.state import Account
from clearing.model import commands as c
from clearing.model.outcomes import Outcome
from clearing.model.params import Asset, Borrowing, FeeTier, OracleRules, Params, Underlying
from tests.core import venue as v

DOLLAR, BITCOIN, STAKED, PLAIN = range(4)
TOKENS = ("usd token", "btc token", "steth token", "plain token")
STETH, USD_FEED = 3, 4
COIN = 10**8  # atoms of a bitcoin and of a staked ether
PRICES = {v.BTC: 50 * v.USD, v.ETH: 2 * v.USD, STETH: 2_200_000, USD_FEED: v.USD}

UNDERLYINGS = (
    Underlying(v.BTC, "BTC"),
    Underlying(v.ETH, "ETH"),
    Underlying(STETH, "STETH"),
    Underlying(USD_FEED, "USD", lots_per_unit=1),
)
ASSETS = (
    Asset(DOLLAR, "USD", "USD"),
    Asset(BITCOIN, "BTC", "BTC", COIN, 250_000, 930_000, order=2),
    Asset(
        STAKED, "STETH", "STETH", COIN, 200_000, 937_500,
        order=1, reference="ETH", redemption_ppm=1_100_000, band_ppm=50_000,
    ),
)  # fmt: skip


def params(
    borrowing: Borrowing | None = None, assets: tuple[Asset, ...] = ASSETS, tier: FeeTier | None = None
) -> Params:
    """No trading fees, prices that may do anything, and by default 1,000,000 USD to borrow at 10 % a year."""
    return Params(
        fee_tiers=(tier or FeeTier(0, 0, 0),),
        underlyings=UNDERLYINGS,
        assets=assets,
        borrowing=borrowing or Borrowing(cap_atoms=10**6 * v.USD),
        oracle_max_jump_ppm=10**7,
        oracle=OracleRules(twap_band=10**4),
    )


class Several(v.Venue):
    """See the module."""

    def __init__(self, rules: Params | None = None, priced: bool = True) -> None:
        super().__init__(rules or params(), tokens=TOKENS)
        if priced:
            self.oracle(PRICES)

    def give(self, name: str, **amounts: int) -> Account:
        """Deposits by asset name, and a session key: ready to act."""
        lanes = {"dollar": DOLLAR, "bitcoin": BITCOIN, "staked": STAKED, "plain": PLAIN}
        for asset, atoms in amounts.items():
            self.deposit(name, atoms, asset=lanes[asset])
        self.register(name)
        return self.account(name)

    def price(self, **changes: int) -> list[Outcome]:
        """All prices again, some of them changed, now."""
        names = {"btc": v.BTC, "eth": v.ETH, "steth": STETH, "usd": USD_FEED}
        return self.oracle(PRICES | {names[name]: price for name, price in changes.items()})

    def exits(self, name: str) -> list[int]:
        """What the last epoch pays an owner, per lane."""
        return self.state.owners[v.address_of(name)].exits

    def withdraw(self, name: str, atoms: int, lane: int = DOLLAR) -> list[Outcome]:
        return self.do(name, c.Withdraw(0, lane, atoms))
