# SPDX-License-Identifier: GPL-3.0-or-later
"""The reducer under random commands, good and bad, from every kind of signer.

After every entry (checked by `Venue.submit` and `Ledger`): money is conserved to the atom,
positions sum to zero, books and indexes agree, the entry fits its size limit, and the outcomes
alone explain cash, positions and orders. After every epoch: exit leaves sum to the holdings.
At the end of every run: replay from genesis equals the live state, and so does each snapshot
with the tail of the journal after it.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import REJECTIONS, Refused
from clearing.model.outcomes import Outcome, Rejected
from clearing.model.params import FeeTier, Params
from clearing.model.signature import public_key_of, sign
from tests.core import venue as v
from tests.core.ledger import Ledger

NAMES = ("ann", "bob", "cat", "dan")
MARKS = {v.BTC: 50 * v.USD, v.ETH: 20 * v.USD}

names = st.sampled_from(NAMES)
subs = st.sampled_from((0, 0, 0, 1))
instruments = st.sampled_from((v.BTC, v.BTC, v.ETH))
client_ids = st.integers(1, 12)
lots = st.integers(1, 60) | st.sampled_from((1, 1_000, 1_000_000))
steps = st.integers(-8, 8) | st.sampled_from((-60, 60))
expiries = st.sampled_from((0, 0, 1, v.SECOND, v.MINUTE))
money = st.integers(1, 500 * v.USD) | st.sampled_from((1, v.USD, 100_000 * v.USD))
anything = st.integers(-(2**63), 2**64 - 1) | st.sampled_from((0, 1, -1, 2**53, 2**63 - 1, 2**63, 2**64 - 1))
flags = st.booleans()
scopes = st.integers(0, 8)


def near(instrument: int, step: int) -> int:
    """A price on the tick grid, `step` half-percents from the first mark."""
    tick = v.INSTRUMENTS[instrument - 1].tick_atoms
    price = MARKS[instrument] * (200 + step) // 200
    return price - price % tick


placements = st.builds(
    lambda i, side, step, *rest: c.PlaceOrder(i, side, near(i, step), *rest),
    instruments, st.integers(0, 1), steps, lots, client_ids,
    st.sampled_from((ids.LIMIT, ids.LIMIT, ids.LIMIT, ids.MARKET)), st.integers(0, 3),
    st.sampled_from((False, False, False, True)), st.sampled_from((False, False, True)),
    st.integers(0, 3), expiries,
)  # fmt: skip
wild_places = st.builds(
    c.PlaceOrder, anything, anything, anything, anything, anything, anything, anything, flags, flags,
    anything, anything,
)  # fmt: skip
half_wild_places = st.builds(
    c.PlaceOrder, instruments, st.integers(0, 1), anything, anything, client_ids, st.integers(0, 1),
    st.integers(0, 3), flags, flags, st.integers(0, 3), anything,
)  # fmt: skip
simple_commands = (
    st.builds(c.CancelOrder, client_ids, st.just(0))
    | st.builds(c.CancelOrder, anything, anything)
    | st.builds(c.CancelAll, st.integers(0, 3))
    | st.builds(c.ReplaceOrder, client_ids, st.builds(near, st.just(v.BTC), steps), lots)
    | st.builds(c.ReplaceOrder, client_ids, anything, anything)
    | st.builds(c.Withdraw, st.just(0), st.just(0), money)
    | st.builds(c.Withdraw, anything, anything, anything)
    | st.builds(c.Transfer, st.integers(0, 3), money)
    | st.builds(c.Transfer, anything, anything)
    | half_wild_places
    | wild_places
)
wild_operator = (
    st.builds(
        c.ConsumeInbox, st.integers(-1, 1), anything, st.integers(-1, 5), st.binary(max_size=33),
        st.integers(-1, 256), anything, anything, st.binary(max_size=33),
    )
    | st.builds(c.Liquidate, anything)
    | st.builds(c.CloseEpoch, anything, st.just(()))
    | st.builds(c.RotatePublisher, anything, st.binary(max_size=33))
    | st.builds(c.RotateOperator, st.binary(max_size=33), st.binary(max_size=20))
    | st.builds(c.HouseTransfer, anything, anything, anything)
)  # fmt: skip
wild_prices = st.lists(st.builds(c.Price, st.integers(0, 3), anything, anything), max_size=4)


class Machine(RuleBasedStateMachine):
    """Small limits, so that every one of them is met."""

    venue: v.Venue
    ledger: Ledger

    @initialize(fills=st.sampled_from((2, 5, 300)), publishers=st.sampled_from((1, 3)))
    def open_venue(self, fills: int, publishers: int) -> None:
        params = Params(
            fee_tiers=(FeeTier(0, 200, 500), FeeTier(2_000 * v.USD, -100, 301)),
            oracle_quorum=(publishers + 1) // 2,
            max_fills_per_entry=fills,
            max_open_orders=8,
            max_levels=6,
            max_sub_accounts=3,
            max_keys=3,
        )
        self.venue = v.Venue(params, publishers=publishers)
        self.ledger = Ledger()
        self.read = 0
        self.extra: list[tuple[str, str]] = []
        for position, name in enumerate(NAMES):
            self.venue.fund(name, (200 + 1_000 * position) * v.USD)
        for publisher in range(publishers):
            self.venue.oracle(MARKS, publisher)
        self.catch_up()

    def catch_up(self) -> None:
        """Let the ledger read what was journalled since, and compare."""
        for entry in self.venue.journal[self.read :]:
            self.ledger.read(v.decode_outcomes(entry.outcomes))
        self.read = len(self.venue.journal)
        self.ledger.compare(self.venue.state)

    def send(self, raw: bytes) -> list[Outcome]:
        """Submit; a refusal must leave the state as it was, and every rejection is documented."""
        journalled = len(self.venue.journal)
        before = dump(self.venue.state)
        try:
            out = self.venue.submit(raw)
        except Refused:
            assert len(self.venue.journal) == journalled
            assert dump(self.venue.state) == before
            return []
        assert all(o.code in REJECTIONS for o in out if isinstance(o, Rejected))
        self.catch_up()
        return out

    def member(self, name: str, sub: int, *commands: c.MemberCommand, expiry: int = v.FOREVER) -> None:
        accounts = self.venue.owner_accounts(name)
        number = next((a.number for a in accounts if a.sub == sub), accounts[0].number)
        key = self.venue.state.keys[v.session_key(name)]
        if key.expiry_us <= self.venue.now_us or key.scope != ids.SCOPE_ALL:
            self.venue.register(name)
            self.catch_up()
        self.send(self.venue.batch(name, commands, number, expiry_us=expiry))

    # --- members -----------------------------------------------------------------------------

    @rule(name=names, sub=subs, placed=st.lists(placements, min_size=1, max_size=4))
    def place(self, name: str, sub: int, placed: list[c.PlaceOrder]) -> None:
        self.member(name, sub, *[self._order(p) for p in placed])

    def _order(self, order: c.PlaceOrder) -> c.PlaceOrder:
        """Its expiry is relative as drawn: made absolute for GTT, dropped for others."""
        expiry = self.venue.now_us + order.expiry_us if order.tif == ids.GTT else 0
        return msgspec.structs.replace(order, expiry_us=expiry)

    @rule(orders=st.lists(st.tuples(names, placements), min_size=4, max_size=16))
    def busy_market(self, orders: list[tuple[str, c.PlaceOrder]]) -> None:
        """Many orders at fresh prices, so that most of them rest or trade."""
        self.mark_moves(v.BTC, 0)
        self.mark_moves(v.ETH, 0)
        for name, placed in orders:
            order = msgspec.structs.replace(self._order(placed), client_order_id=self.venue.client_id() + 100)
            self.member(name, 0, order)

    @rule(
        sides=st.tuples(names, names),
        instrument=instruments,
        size=st.integers(1, 200),
        move=st.sampled_from((-450, -60, 60, 490)),
    )
    def crowded_trade(self, sides: tuple[str, str], instrument: int, size: int, move: int) -> None:
        """As large a trade at the mark as margin allows, then the mark moves against one of them."""
        self.mark_moves(instrument, 0)
        mark = self.venue.state.instruments[instrument].mark
        tick = v.INSTRUMENTS[instrument - 1].tick_atoms
        price = max(tick, mark - mark % tick)
        for name, side in zip(sides, (ids.BUY, ids.SELL), strict=True):
            order = self.venue.order(side, price, size, instrument, stp=ids.STP_CANCEL_MAKER)
            self.member(name, 0, order)
        self.mark_moves(instrument, move)

    @rule(name=names, sub=subs, commands=st.lists(simple_commands, min_size=1, max_size=5))
    def anything_signed(self, name: str, sub: int, commands: list[c.MemberCommand]) -> None:
        self.member(name, sub, *commands)

    @rule(name=names, account=st.integers(-1, 12), nonce=anything, expiry=anything, commands=simple_commands)
    def forged_frame(self, name: str, account: int, nonce: int, expiry: int, commands: c.MemberCommand) -> None:
        """Somebody else's account, any nonce, any expiry: admitted only when it is in order."""
        if nonce > 2_000:  # a member may burn its own nonces, but then it is out of this run
            nonce = -nonce
        self.send(self.venue.batch(name, [commands], account, max(nonce, -(2**63)), expiry))

    @rule(amount=money)
    def treasury_signs(self, amount: int) -> None:
        """The treasury's key may not trade, move or withdraw a tranche; only earned fees leave."""
        if v.address_of("treasury") not in [k.owner.address for k in self.venue.state.keys.values()]:
            self.venue.register("treasury")
        order = self.venue.order(ids.BUY, MARKS[v.BTC], 1)
        acks = list(self.venue.state.accounts[0].owner.acks)
        for account in (ids.INSURANCE_FUND, ids.OPERATOR_CAPITAL):
            commands = (order, c.Withdraw(0, 0, amount), c.Transfer(0, amount), c.CancelAll())
            out = self.send(self.venue.batch("treasury", commands, account))
            assert v.codes(out) == ["OUT_OF_SCOPE"] * 4
        assert self.venue.state.accounts[0].owner.acks == acks
        self.send(self.venue.batch("treasury", [c.Withdraw(0, 0, amount), order], ids.FEES))

    # --- the chain, the clock, the house -----------------------------------------------------

    @rule(name=st.sampled_from((*NAMES, "eve", "treasury")), amount=money)
    def deposit(self, name: str, amount: int) -> None:
        self.venue.deposit(name, amount)
        self.catch_up()

    @rule(duration=st.sampled_from((1, v.SECOND, 30 * v.SECOND, 2 * v.MINUTE, v.HOUR, v.DAY)))
    def wait(self, duration: int) -> None:
        self.venue.advance(duration)

    @rule(instrument=instruments, move=st.integers(-30, 30) | st.sampled_from((-450, 490, 900)))
    def mark_moves(self, instrument: int, move: int) -> None:
        mark = self.venue.state.instruments[instrument].mark or MARKS[instrument]
        for publisher in range(len(self.venue.publisher_heads)):
            self.venue.oracle({instrument: max(1, mark * (1_000 + move) // 1_000)}, publisher)
        self.catch_up()

    @rule(prices=wild_prices, when=st.sampled_from((-v.HOUR, -v.SECOND, 0, v.SECOND, v.HOUR)), broken=flags)
    def odd_update(self, prices: list[c.Price], when: int, broken: bool) -> None:
        head = bytes([1]) * 32 if broken else self.venue.publisher_heads[0]
        when += self.venue.now_us
        body = c.OracleUpdate(self.venue.deployment, 0, head, when, tuple(prices))
        self.send(sign(body, self.venue.publisher_seeds[0]))
        self.venue.publisher_heads[0] = self.venue.state.publishers[0].head

    @rule()
    def tick(self) -> None:
        self.venue.operator(c.FundingTick())
        self.catch_up()

    @rule()
    def sweep(self) -> None:
        self.venue.operator(c.ExpireOrders())
        self.catch_up()

    @rule()
    def liquidate_everyone(self) -> None:
        for number in range(len(self.venue.state.accounts)):
            self.venue.operator(c.Liquidate(number))
        self.catch_up()

    @rule(source=st.integers(0, 3), sink=st.integers(0, 3), amount=money)
    def house_moves(self, source: int, sink: int, amount: int) -> None:
        self.venue.operator(c.HouseTransfer(source, sink, amount))
        self.catch_up()

    @rule(command=wild_operator)
    def odd_operator(self, command: c.OperatorCommand) -> None:
        seed = self.venue.operator_seed
        self.send(sign(c.OperatorBatch(self.venue.deployment, self.venue.nonce("operator"), (command,)), seed))

    @rule()
    def close_epoch(self) -> None:
        self.venue.close_epoch()
        self.catch_up()

    # --- keys --------------------------------------------------------------------------------

    @rule(name=names, label=st.sampled_from(("session", "b", "c", "d")), scope=scopes, lasts=st.integers(-1, 3))
    def register(self, name: str, label: str, scope: int, lasts: int) -> None:
        self.venue.register(name, scope, max(0, self.venue.now_us + lasts * v.HOUR), label)
        self.extra.append((name, label))
        self.catch_up()
        live = [
            k for k in self.venue.account(name).owner.keys.values() if not k.revoked and k.expiry_us > self.venue.now_us
        ]
        assert len(live) <= self.venue.state.params.max_keys

    @rule(name=names, label=st.sampled_from(("session", "b")))
    def revoke(self, name: str, label: str) -> None:
        self.venue.revoke(name, label)
        self.venue.register(name)
        self.catch_up()

    @precondition(lambda self: self.extra)
    @rule(pick=st.integers(0, 1_000), commands=simple_commands)
    def other_key(self, pick: int, commands: c.MemberCommand) -> None:
        name, label = self.extra[pick % len(self.extra)]
        self.send(self.venue.batch(name, [commands], self.venue.account(name).number, label=label))

    @rule(generation=st.integers(1, 5))
    def rotate(self, generation: int) -> None:
        seed = v.seed_of(f"operator/{generation}")
        old = self.venue.operator_seed
        self.venue.operator(c.RotateOperator(public_key_of(seed), v.address_of("operator")))
        self.venue.operator_seed = seed
        if old != seed:
            body = c.OperatorBatch(self.venue.deployment, self.venue.nonce("operator"), (c.FundingTick(),))
            assert v.refusal(self.venue, sign(body, old)) == "UNKNOWN_KEY"
        self.catch_up()

    @rule(pick=st.integers(0, 10**6))
    def replay_attack(self, pick: int) -> None:
        """An envelope that was journalled is never journalled again, unless it is an oracle
        update that was refused then (it moved no price) and is again judged on its merits."""
        entry = self.venue.journal[pick % len(self.venue.journal)]
        _, body = v.admitted(entry.raw)
        if isinstance(body, c.OracleUpdate) and body.time_us > self.venue.state.publishers[0].time_us:
            return
        assert v.refusal(self.venue, entry.raw) != ""

    def teardown(self) -> None:
        if not hasattr(self, "venue"):
            return
        self.venue.close_epoch()
        live = dump(self.venue.state)
        assert dump(v.replay(self.venue.journal).state) == live
        for length, payload, closed in self.venue.snapshots[-3:]:
            restored = load(payload, closed)
            assert dump(restored) == payload
            tail = v.replay(self.venue.journal[length:], Reducer(state=restored))
            assert dump(tail.state) == live


class TestMachine(Machine.TestCase):  # type: ignore[misc,valid-type]
    """Seconds of it."""

    settings = settings(max_examples=45, stateful_step_count=40, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
class TestMachineLong(Machine.TestCase):  # type: ignore[misc,valid-type]
    """The same machine, longer and more often."""

    settings = settings(max_examples=1_500, stateful_step_count=120, suppress_health_check=list(HealthCheck))
