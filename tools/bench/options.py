# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue with hundreds of options, priced by signed votes, and accounts that hold them.

Prices, vols, marks and risk arrays come about as in production: a signed update, folded by the reducer.
Positions do not: they are folded against one house account at mark, without orders and signatures, and
margin is given as cash. Money and positions still sum to what they should.
"""

import random
from collections.abc import Sequence
from typing import Final

from clearing.core.accounts import open_account, owner_of
from clearing.core.book import Order
from clearing.core.margin import add_open, assess
from clearing.core.positions import fold, slot_of
from clearing.core.reducer import RULES_VERSION, Reducer
from clearing.core.state import Account, State
from clearing.model import codec, ids, signature
from clearing.model import commands as c
from clearing.model.params import Instrument, Params, Underlying
from tools.bench import workload as w
from tools.bench.measure import Plan

UNDER: Final = 1
# A lot is a thousandth of a coin that costs 100,000 USD.
SPOT: Final = 100_000_000
STEP: Final = 1_500_000
DAYS: Final = (7, 14, 28, 60, 90, 180, 270, 360)
KNOTS: Final = 15
FIRST_OPTION: Final = 1_000
HELD: Final = 20
FULL: Final = 945
RICH: Final = 10**15


def listed(plan: Plan) -> int:
    """Instruments to list: the full venue, unless speed says nothing anyway."""
    return FULL if plan.part <= 10 else 100


def instruments(count: int, perpetuals: int = 1) -> tuple[Instrument, ...]:
    """`count` markets: perpetuals first, then calls and puts at strikes around the spot, spread over eight expiries."""
    found = [
        Instrument(1 + at, f"BTC-PERP-{at}", "BTC", 10_000, 10**9, 50_000, 30_000)
        for at in range(min(perpetuals, count))
    ]
    for at in range(count - len(found)):
        rank, put = divmod(at, 2)
        ladder, expiry = divmod(rank, len(DAYS))
        away = (ladder + 1) // 2 * (1 if ladder % 2 else -1)
        found.append(_option(FIRST_OPTION + at, DAYS[expiry], SPOT + away * STEP, not put))
    return tuple(found)


def _option(number: int, days: int, strike: int, is_call: bool) -> Instrument:
    symbol = f"BTC-{days}-{strike}-{'C' if is_call else 'P'}"
    expiry_us = w.NOW + days * ids.DAY_US
    return Instrument(number, symbol, "BTC", 1_000, 10**9, 50_000, 30_000, ids.OPTION, expiry_us, strike, is_call)


def genesis(markets: tuple[Instrument, ...]) -> c.Genesis:
    return c.Genesis(
        rules_version=RULES_VERSION,
        deployment=w.DEPLOYMENT,
        origin="bench.novate",
        operator_key=signature.public_key_of(w.OPERATOR),
        operator_address=b"O" * 20,
        treasury=b"T" * 20,
        vaults=(c.Vault(1, b"V" * 20, (b"K" * 20,)),),
        publishers=(signature.public_key_of(w.PUBLISHER),),
        instruments=markets,
        params=Params(max_levels=1_000_000, max_positions=256, underlyings=(Underlying(UNDER, "BTC", 1_000),)),
    )


class Publisher:
    """Signs updates of spot and all surfaces, each chained to the one before it."""

    def __init__(self, markets: tuple[Instrument, ...]) -> None:
        self._head = bytes(32)
        self._expiries = sorted({spec.expiry_us for spec in markets if spec.expiry_us})

    def update(self, time_us: int, spot: int = SPOT) -> bytes:
        surfaces = tuple(self._surface(expiry_us, spot) for expiry_us in self._expiries)
        body = c.OracleUpdate(w.DEPLOYMENT, 0, self._head, time_us, (c.Price(UNDER, spot, 1_000),), surfaces)
        self._head = codec.body_hash(codec.encode(body))
        return signature.sign(body, w.PUBLISHER)

    def _surface(self, expiry_us: int, spot: int) -> c.Surface:
        """A smile around the spot, a positive rate and a forward that fits it."""
        days = (expiry_us - w.NOW) // ids.DAY_US
        strikes = tuple(SPOT + (knot - KNOTS // 2) * 4 * STEP for knot in range(KNOTS))
        vols = tuple((60 + (knot - KNOTS // 2) ** 2 // 2) * (ids.UNIT // 100) for knot in range(KNOTS))
        forward = spot + spot * 3 * days // 36_500
        return c.Surface(UNDER, expiry_us, forward, 1_000, 3 * ids.UNIT // 100, ids.UNIT, ids.UNIT, strikes, vols)


class Desk:
    """A priced venue of `count` markets, its publisher, and the house account that everybody trades with."""

    def __init__(self, count: int = FULL, perpetuals: int = 1) -> None:
        markets = instruments(count, perpetuals)
        self.reducer = Reducer(genesis(markets))
        self.publisher = Publisher(markets)
        self.rng = random.Random(7)
        self.apply(signature.sign(genesis(markets), w.OPERATOR), w.NOW)
        self.apply(self.publisher.update(w.NOW), w.NOW)
        self.options = [spec.id for spec in markets if spec.kind == ids.OPTION]
        self.house = self.open(RICH)

    @property
    def state(self) -> State:
        return self.reducer.state

    def apply(self, raw: bytes, time_us: int) -> None:
        self.reducer.apply(time_us, *codec.decode_any_envelope(raw))

    def open(self, cash: int) -> Account:
        """A funded account with an owner of its own."""
        state = self.state
        account = open_account(state, owner_of(state, b"owner" + len(state.accounts).to_bytes(15, "big")), 0)
        state.out = []
        self.pay(account, cash)
        return account

    def pay(self, account: Account, atoms: int) -> None:
        """Deposit (or, negative, withdraw)."""
        account.cash += atoms
        account.basis = account.cash
        self.state.assets[0].held += atoms
        self.state.assets[0].deposited += atoms

    def hold(self, account: Account, instrument: int, lots: int) -> None:
        """A position at mark, against the house."""
        mark = self.state.instruments[instrument].mark
        assert mark, f"instrument {instrument} has no mark yet"
        fold(account, slot_of(self.state, account, instrument), lots, mark, 0)
        fold(self.house, slot_of(self.state, self.house, instrument), -lots, mark, 0)

    def set_equity(self, account: Account, atoms: int) -> None:
        self.pay(account, atoms - assess(account)[0])

    def linear(self, lots: int, cash: int) -> Account:
        """A plain account that is long the perpetual."""
        account = self.open(cash)
        self.hold(account, 1, lots)
        return account

    def trader(self, mode: int, positions: int = HELD, cash: int = RICH // 1_000, bullish: bool = False) -> Account:
        """An account with so many options; a bullish one is long calls and short puts."""
        account = self.open(cash)
        account.mode = mode
        self.state.portfolios += mode == ids.PORTFOLIO
        for instrument in self.rng.sample(self.options, positions):
            lots = self.rng.randrange(1, 20)
            is_long = self.state.instruments[instrument].spec.is_call if bullish else self.rng.random() < 0.5
            self.hold(account, instrument, lots if is_long else -lots)
        account.set_plain()
        return account

    def rest(self, account: Account, chosen: Sequence[int]) -> None:
        """One open order in each of these markets, a little away from the mark; it is not in the book."""
        for instrument in chosen:
            inst = self.state.instruments[instrument]
            side = self.rng.randrange(2)
            away = inst.mark // 100
            price = max(1, inst.mark - away if side == ids.BUY else inst.mark + away)
            number, lots = len(account.orders) + 1, self.rng.randrange(1, 20)
            slot = slot_of(self.state, account, instrument)
            account.orders[number] = Order(number, account, slot, side, price, lots, number)
            add_open(slot, side, price, lots)
        account.set_plain()
