# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command, with hostile values, in random order, to a venue that has something of everything.

What must hold, whatever is signed:
- nothing but `Refused` is ever raised: anything else would stop the venue;
- an envelope that is refused changes no byte of the state;
- an envelope whose every command is rejected says nothing but that, and changes nothing but nonces and the clock;
- money, positions and books agree after every entry, every entry fits its size (`Venue.submit`), and the epoch closes.

Fields come from their names: values that mean something here as often as numbers at and beyond every limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from clearing.core.margin import witness
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import REJECTIONS, Refused
from clearing.model.params import Instrument, OracleRules, Params
from clearing.model.signature import sign
from tests.core import several as s
from tests.core import venue as v

NAMES = ("ann", "bob", "cat", "dan", "eve")
NEAR, FAR = v.START_US + 40 * v.MINUTE, v.START_US + 3 * v.DAY
CALL, PUT, FUTURE, FAR_CALL = 11, 12, 13, 14
MARKETS = (
    *v.INSTRUMENTS,
    v.option(CALL, 50 * v.USD, NEAR, True),
    v.option(PUT, 45 * v.USD, NEAR, False),
    v.future(FUTURE, NEAR),
    v.option(FAR_CALL, 60 * v.USD, FAR, True),
)
HIGHEST = ids.MAX_PRICE_ATOMS
LIMITS = (-(2**63), -(2**53), -1, 0, 1, 2, 2**31, 2**32, 2**53 - 1, 2**53, 2**56, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
WIDE_BYTES = (b"", bytes(20), bytes(32), b"\x01" + bytes(32), b"\xff" * 33, bytes(64))
STRINGS = ("", "x", "\x00", "BTC", "USD", "\u2603" * 40, "y" * 65, "z" * 200)
MEMBER = get_args(c.MemberCommand)
OPERATOR = get_args(c.OperatorCommand)
# What ends the fuzz and not the venue: whoever holds the operator's or a publisher's key may give it away, and may
# freeze or close for good.
FINAL = (c.RotateOperator, c.RotatePublisher, c.FreezeVault, c.StartWindDown)


def surfaces(btc: int = 50 * v.USD) -> tuple[c.Surface, ...]:
    strikes, vols = (40 * v.USD, 60 * v.USD), (0.8, 0.7)
    return tuple(v.surface(v.BTC, expiry_us, btc, strikes, vols, 0.03) for expiry_us in (NEAR, FAR))


class Lively(s.Several):
    """Positions in every market, both margin modes, collateral, debt, pledges, orders, triggers, a pair, an auction."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wild = 0.0
        rules = msgspec.structs.replace(
            s.params(), max_fills_per_entry=20, notice_us=v.MINUTE, funding_interval_us=10 * v.MINUTE
        )
        v.Venue.__init__(self, rules, MARKETS, 1, s.TOKENS)
        self.btc = 50 * v.USD
        self.deposit("treasury", 50_000 * v.USD)
        self.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 20_000 * v.USD))
        for name in NAMES:
            self.fund(name, 12_000 * v.USD)
        self.deposit("cat", s.COIN, asset=s.BITCOIN)
        self.deposit("dan", 3 * s.COIN, asset=s.STAKED)
        self.deposit("dan", 7, asset=s.PLAIN)
        self.vote()
        for name in ("bob", "cat"):
            self.good(name, c.SetMarginMode(ids.PORTFOLIO))
        self.good("ann", c.Transfer(1, 2_500 * v.USD), c.PledgeDefaultFund(1_000 * v.USD))
        self.trade()

    def good(self, name: str, *commands: c.MemberCommand) -> None:
        assert not v.codes(self.do(name, *commands))

    def trade(self) -> None:
        """Everybody holds something; ann's short calls are on auction in the end."""
        for market, price, lots in ((v.BTC, 50 * v.USD, 90), (v.ETH, 2 * v.USD, 50), (FUTURE, 50 * v.USD, 20)):
            self.good("bob", self.order(ids.SELL, price, 3 * lots, market))
            for name in ("cat", "dan", "ann"):
                self.good(name, self.order(ids.BUY, price, lots, market))
        for market, price in ((CALL, v.USD), (PUT, v.USD // 2), (FAR_CALL, v.USD)):
            self.good("eve", self.order(ids.BUY, price, 500, market))
            self.good("bob", self.order(ids.SELL, price, 250, market))
            self.good("ann", self.order(ids.SELL, price, 250, market))
        for name in NAMES:
            self.good(name, self.order(ids.BUY, 48 * v.USD, 3), self.order(ids.SELL, 52 * v.USD, 3))
            self.good(name, self.trigger(45 * v.USD, False), self.trigger(55 * v.USD, True))
        self.good("cat", c.ScheduleCancelAll(self.now_us + v.HOUR))
        self.good("dan", c.Withdraw(0, s.DOLLAR, 10_500 * v.USD))

    def trigger(self, price: int, above: bool, oco: int = 0) -> c.PlaceTrigger:
        return c.PlaceTrigger(v.BTC, int(not above), price, above, price, 2, self.client_id(), oco=oco)

    def vote(self) -> None:
        """A fresh price of everything, BTC as it has moved."""
        found = tuple(x for x in surfaces(self.btc) if x.expiry_us in self.state.underlyings[v.BTC].expiries)
        self.oracle(s.PRICES | {v.BTC: self.btc}, surfaces=found)

    # --- values ------------------------------------------------------------------------------

    def number(self, field: str) -> int:
        """A number for a field of this name."""
        rng, state = self.rng, self.state
        if rng.random() < self.wild:
            return rng.choice(LIMITS) if rng.random() < 0.7 else rng.randrange(-(2**63), 2**64)
        pools: dict[str, Callable[[], int]] = {
            "instrument": lambda: rng.choice([0, *state.instruments]),
            "account": lambda: rng.randrange(len(state.accounts) + 1),
            "client_order_id": lambda: rng.randrange(1, self._client_ids + 4),
            "oco": lambda: rng.choice((0, rng.randrange(1, self._client_ids + 4))),
            "order_id": lambda: rng.choice((0, rng.randrange(1, state.next_order_id + 2))),
            "price_atoms": lambda: self.btc * rng.randrange(80, 120) // 100 // 10_000 * 10_000,
            "trigger_atoms": lambda: self.btc * rng.randrange(80, 120) // 100 // 10_000 * 10_000,
            "size_lots": lambda: rng.choice((1, 2, 5, 100, 10**6)),
            "amount_atoms": lambda: rng.choice((1, v.USD, 1_000 * v.USD, 10**5 * v.USD, -v.USD)),
            "share_ppm": lambda: rng.choice((1, 10**5, 10**6)),
            "max_pay_atoms": lambda: rng.choice((-(2**40), 0, 2**40)),
            "scenario": lambda: rng.randrange(-3, 36),
            "expiry_us": lambda: rng.choice((0, 0, 0, self.now_us, self.now_us + v.MINUTE, NEAR, FAR)),
            "at_us": lambda: rng.choice((0, self.now_us, self.now_us + v.MINUTE)),
            "effective_us": lambda: self.now_us + v.MINUTE,
            "index": lambda: state.vaults[0].inbox_count,
            "epoch": lambda: state.epoch + 1,
            "underlying": lambda: rng.choice(list(state.underlyings)),
            "side": lambda: rng.randrange(2),
            "kind": lambda: rng.choice((0, 0, 1)),
            "stp": lambda: rng.randrange(4),
            "tif": lambda: rng.choice((0, 0, 1, 2, 3)),
            "vault": lambda: 0,
            "asset": lambda: rng.choice((0, 0, 1, 2, 3)),
            "mode": lambda: rng.randrange(2),
            "to_sub": lambda: rng.randrange(3),
            "l1_time": lambda: self.now_us // v.SECOND,
        }
        for end, pool in pools.items():
            if field == end or (field.endswith("_account") and end == "account"):
                return pool()
        return rng.randrange(-1, 5)

    def value(self, field: str, kind: Any) -> Any:
        rng = self.rng
        if kind is bool:
            return rng.random() < 0.5
        if kind is int:
            return self.number(field)
        if kind is bytes:
            good = {
                "owner": v.address_of(rng.choice(NAMES)),
                "data": bytes(32),
                "key": v.session_key(rng.choice(NAMES)),
            }
            return good[field] if field in good and rng.random() >= self.wild else rng.choice(WIDE_BYTES)
        if kind is str:
            return rng.choice(STRINGS)
        if kind is Instrument:
            return self.instrument()
        if kind is Params:
            return self.params()
        if field in ("leaves", "messages"):
            row = c.EscapeLeaf if field == "leaves" else c.ConsumeInbox
            return tuple(self.build(row) for _ in range(rng.randrange(3)))
        if field in ("exits", "acks"):
            return tuple(self.number("amount_atoms") for _ in range(rng.choice((4, 4, 4, 0, 1, 5))))
        assert field == "l1_blocks", field
        if rng.random() < 0.5:
            return ((self.state.epoch, bytes(32)),)
        return rng.choice(((), ((1, bytes(32)),), ((-1, bytes(32)),), ((2**64 - 1, bytes(32)),), ((1, b""),)))

    def build(self, kind: type) -> Any:
        """A command of this kind: sane, with a hostile field here and there, or nonsense."""
        self.wild = self.rng.choice((0.0, 0.1, 0.4))
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        return kind(**{name: self.value(name, of) for name, of in types.items()})

    def instrument(self) -> Instrument:
        """A listing, with one or two fields that are hostile."""
        rng = self.rng
        number = rng.choice((CALL, rng.randrange(100, 120)))
        found = rng.choice((v.option(number, 55 * v.USD, FAR, True), v.future(number, NEAR + v.DAY), v.INSTRUMENTS[0]))
        listed: Instrument = self.spoilt(found)
        return listed

    def params(self) -> Params:
        """The next parameters, with hostile numbers in one of their parts."""
        new = msgspec.structs.replace(self.state.params, version=self.state.params.version + 1)
        part = self.rng.choice(("", "standard", "oracle", "ladder", "adaptive", "breaker", "borrowing"))
        if part:
            return msgspec.structs.replace(new, **{part: self.spoilt(getattr(new, part))})
        spoilt: Params = self.spoilt(new)
        return spoilt

    def spoilt(self, thing: Any) -> Any:
        """One or two of its numbers replaced."""
        self.wild = 0.8
        names = [field.name for field in msgspec.structs.fields(thing) if field.type is int and field.name != "version"]
        chosen = self.rng.sample(names, self.rng.choice((0, 1, 1, 2)))
        return msgspec.structs.replace(thing, **{name: self.number(name) for name in chosen})

    # --- envelopes ---------------------------------------------------------------------------

    def member(self) -> bytes:
        rng, name = self.rng, self.rng.choice(NAMES)
        commands = [self.build(rng.choice(MEMBER)) for _ in range(rng.choice((1, 1, 1, 3)))]
        if rng.random() < 0.1:  # a witness that may be true, of somebody who may fail
            number = rng.randrange(len(self.state.accounts))
            commands = [c.ProposeLiquidation(number, witness(self.state.accounts[number])[0])]
        own = [account.number for account in self.owner_accounts(name)]
        account = rng.choice(own) if rng.random() < 0.95 else self.number("account")
        nonce = self.nonce(f"{name}/session")
        if rng.random() < 0.05:  # a large one would be the key's last
            nonce = rng.choice((-1, 0, 1, nonce + 2_000, 2**63, 2**64 - 1))
            self._nonces[f"{name}/session"] = max(self._nonces[f"{name}/session"], nonce if nonce < 2**62 else 0)
        expiry = v.FOREVER if rng.random() < 0.95 else self.number("expiry_us")
        return sign(
            c.MemberBatch(self.deployment, account, nonce, expiry, tuple(commands)), v.seed_of(f"{name}/session")
        )

    def of_operator(self) -> bytes:
        rng = self.rng
        kinds = [kind for kind in OPERATOR if kind not in FINAL]
        commands = [self.build(rng.choice(kinds)) for _ in range(rng.choice((1, 1, 2)))]
        return sign(c.OperatorBatch(self.deployment, self.nonce("operator"), tuple(commands)), self.operator_seed)

    def of_publisher(self) -> bytes:
        rng = self.rng
        prices = tuple(self.build(c.Price) for _ in range(rng.randrange(3)))
        votes = []
        for fair in surfaces(self.btc)[: rng.randrange(3)]:
            strikes = rng.choice((fair.strikes, (), (0, 1), (2, 1), (1, 2**53), (1, 2**64 - 1)))
            vols = rng.choice((fair.vols, (), (0, 0), (1, 2**63), (10**10, 2 * 10**13)))
            votes.append(self.spoilt(msgspec.structs.replace(fair, strikes=strikes, vols=vols)))
        time_us = self.now_us if rng.random() < 0.8 else self.number("expiry_us")
        number = 0 if rng.random() < 0.9 else self.number("publisher")
        prev = self.state.publishers[0].head if rng.random() < 0.9 else bytes(32)
        body = c.OracleUpdate(self.deployment, number, prev, time_us, prices, tuple(votes))
        return sign(body, self.publisher_seeds[0])

    def of_owner(self) -> bytes:
        name = self.rng.choice(NAMES)
        kind = self.rng.choice((c.RegisterKey, c.RevokeKey))
        action = msgspec.structs.replace(self.build(kind), owner=v.address_of(name), nonce=self.nonce(f"{name}/wallet"))
        if isinstance(action, c.RegisterKey):  # what no wallet can encode, no wallet signs
            unsigned = {"scope": abs(action.scope), "expiry_us": abs(action.expiry_us), "secret": bytes(32)}
            action = msgspec.structs.replace(action, **unsigned)
        if isinstance(action, c.RevokeKey) and action.key == v.session_key(name):
            action = msgspec.structs.replace(action, key=bytes(33))  # the fuzz still needs it
        if isinstance(action, c.RegisterKey) and action.key == v.session_key(name):
            action = msgspec.structs.replace(action, scope=ids.SCOPE_ALL, expiry_us=v.FOREVER)
        return v.signed_owner(self.deployment, action, name)

    def send(self, raw: bytes) -> list[o.Outcome]:
        """See the module."""
        before = dump(self.state)
        try:
            out = self.submit(raw)
        except Refused:
            assert dump(self.state) == before, "what is refused changes nothing"
            return []
        assert all(x.code in REJECTIONS for x in out if isinstance(x, o.Rejected))
        self.publisher_heads[0] = self.state.publishers[0].head
        _, body = v.admitted(raw)
        sent = body.commands if isinstance(body, c.MemberBatch | c.OperatorBatch) else ()
        expired = isinstance(body, c.MemberBatch) and body.expiry_us < self.now_us
        if sent and (expired or len(v.codes(out)) == len(sent)):
            assert all(isinstance(x, o.Rejected) for x in out), f"{sent}: {out}"
            assert without_nonces(dump(self.state)) == without_nonces(before), (
                f"{sent} was rejected and changed something"
            )
        return out

    def act(self) -> list[o.Outcome]:
        """Time goes on, prices move, and somebody sends something."""
        rng = self.rng
        if rng.random() < 0.3:
            self.advance(rng.choice((1, 1, v.SECOND, v.SECOND, 3 * v.SECOND, 10 * v.SECOND, 2 * v.MINUTE)))
        if self.state.pending is not None and rng.random() < 0.2:
            self.advance(v.MINUTE)
            self.close_epoch()
        if rng.random() < 0.3:
            self.btc = max(v.USD, self.btc * rng.choice((92, 99, 100, 100, 101, 108)) // 100)
            self.vote()
        makers = (self.member, self.member, self.member, self.of_operator, self.of_publisher, self.of_owner)
        return self.send(rng.choice(makers)())


def without_nonces(payload: bytes) -> Any:
    """A snapshot's rows with nonces and the clock left out."""
    _, shared, owners, accounts, orders = msgspec.msgpack.decode(payload)
    shared[2] = shared[10][0] = None
    for row in owners:
        row[1] = None
        for key in row[3]:
            key[4] = None
    return shared, owners, accounts, orders


@pytest.mark.parametrize("seed", range(4))
def test_hostile_commands_are_refused_or_rejected_and_never_stop_the_venue(seed: int) -> None:
    """300 envelopes a seed; then the epoch closes over whatever became of it."""
    venue = Lively(random.Random(seed))
    for _ in range(300):
        venue.act()
    venue.advance(1)
    venue.close_epoch()


@pytest.mark.parametrize("seed", range(3))
def test_hostile_escapes_of_a_frozen_vault_change_nothing(seed: int) -> None:
    """Nonsense in place of the escape header's leaves and messages is refused, or collected and never believed."""
    venue = Lively(random.Random(seed))
    venue.close_epoch()
    venue.deposit("eve", v.USD)
    held = [asset.held for asset in venue.state.assets]
    assert not v.codes(venue.operator(c.FreezeVault(0, 1)))
    kinds = (c.FreezeVault, c.EscapeLeaves, c.EscapeDeposits, c.SettleEscape, c.CloseEpoch, c.ConsumeInbox)
    for _ in range(150):
        command = venue.build(venue.rng.choice(kinds))
        venue.send(sign(c.OperatorBatch(venue.deployment, venue.nonce("operator"), (command,)), venue.operator_seed))
    vault = venue.state.vaults[0]
    assert (vault.frozen, vault.settled, venue.state.epoch) == (1, False, 1)
    assert [asset.held for asset in venue.state.assets] == held


def extreme_venue(preset: int) -> s.Several:
    """Options and futures at both ends of strike and time, of a contract whose price may be anything."""
    rules = msgspec.structs.replace(
        s.params(),
        oracle_max_jump_ppm=10**18,
        oracle=OracleRules(twap_band=10**18, min_vol=1, max_vol=1_000 * ids.UNIT, divergence_ppm=10**9),
        underlyings=tuple(msgspec.structs.replace(under, preset=preset, depth_lots=1) for under in s.UNDERLYINGS),
    )
    venue = s.Several(rules, priced=False)
    for name in ("ann", "bob"):
        venue.fund(name, 2**54)
        venue.deposit(name, 2**54, asset=s.BITCOIN)
    number = 10
    for expiry_us in (venue.now_us + v.HOUR, venue.now_us + 400 * v.DAY, ids.MAX_TIME_US):
        listed = [v.future(0, expiry_us, tick=1)]
        listed += [v.option(0, strike, expiry_us, call, tick=1) for strike in (1, HIGHEST) for call in (True, False)]
        for spec in listed:
            number += 1
            named = msgspec.structs.replace(spec, id=number, symbol=f"X{number}")
            assert not v.codes(venue.operator(c.ListInstrument(named)))
    return venue


@pytest.mark.parametrize("preset", [0, 1])
@pytest.mark.parametrize("index", [1, HIGHEST])
def test_votes_at_every_bound_build_an_array(preset: int, index: int) -> None:
    """Prices, vols and rates that pass the checks pass the kernel, the array and margin too: from the least price to
    the largest, from an hour to the end of time."""
    venue = extreme_venue(preset)
    prices = dict.fromkeys(s.PRICES, index)
    venue.oracle(prices)
    for name in ("ann", "bob"):
        venue.do(name, c.SetMarginMode(ids.PORTFOLIO))
    for forward in (1, HIGHEST):
        for vol, rate in ((1, 10), (ids.UNIT, 0), (1_000 * ids.UNIT, -10)):
            shape = forward, 1, rate * ids.UNIT, 0, 0, (1, HIGHEST), (vol, vol)
            expiries = venue.state.underlyings[v.BTC].expiries
            out = venue.oracle(prices, surfaces=tuple(c.Surface(v.BTC, expiry_us, *shape) for expiry_us in expiries))
            # No price may rise so far that positions opened meanwhile pass the bound of open notional.
            traded = any(inst.open_interest for inst in venue.state.instruments.values())
            assert set(v.codes(out)) <= ({"INVALID_PRICE"} if traded else set())
            for inst in list(venue.state.instruments.values()):
                price = min(HIGHEST, inst.mark) // inst.tick * inst.tick
                for name, side in (("bob", ids.SELL), ("ann", ids.BUY)):
                    venue.do(name, venue.order(side, max(price, inst.tick), 1_000, inst.id))
    venue.close_epoch()
    venue.advance(v.HOUR)
    venue.oracle(dict.fromkeys(s.PRICES, HIGHEST + 1 - index))
    venue.close_epoch()
