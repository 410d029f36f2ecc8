# SPDX-License-Identifier: GPL-3.0-or-later
"""Money in every asset: in, out, between sub-accounts, taken for a shortfall; conserved under every command."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from clearing.core import assets, borrowing, collateral
from clearing.core.invariants import check
from clearing.core.margin import assess, equity, headroom
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.outcomes import (
    AssetTransferred,
    CollateralSeized,
    Deposited,
    InboxIgnored,
    ParamsChanged,
    Transferred,
    WithdrawalAcked,
)
from clearing.model.params import Borrowing
from tests.core import several as s
from tests.core import venue as v


def held(venue: v.Venue, name: str, lane: int, sub: int = 0) -> int:
    holding = venue.account(name, sub).holdings.get(lane)
    return holding.amount if holding else 0


# --- in, out, between --------------------------------------------------------------------------


def test_a_deposit_of_each_asset_and_its_way_out() -> None:
    """Every lane has its own counter; what was never moved leaves whole, also without a price."""
    venue = s.Several(priced=False)
    venue.give("ann", dollar=5, bitcoin=6, staked=7, plain=8)
    for lane, amount in enumerate((5, 6, 7, 8)):
        assert v.codes(venue.withdraw("ann", amount + 1, lane)) == ["INSUFFICIENT_BALANCE"]
        out = venue.withdraw("ann", amount, lane)
        assert out[0] == WithdrawalAcked(venue.account("ann").number, 0, lane, amount, amount)
    assert venue.account("ann").holdings == {} and venue.account("ann").plain
    venue.close_epoch()
    assert venue.exits("ann") == [0, 0, 0, 0]
    assert venue.state.owners[v.address_of("ann")].acks == [5, 6, 7, 8]


@pytest.mark.parametrize(("lane", "amount", "code"), [(4, 5, "UNKNOWN_ASSET"), (1, 2**56 + 1, "INVALID_AMOUNT")])
def test_what_cannot_be_held_is_ignored_visibly(lane: int, amount: int, code: str) -> None:
    venue = s.Several()
    assert venue.deposit("ann", amount, asset=lane) == [InboxIgnored(0, 0, code)]
    assert v.address_of("ann") not in venue.state.owners


def test_the_bound_is_on_all_deposits_of_an_asset() -> None:
    venue = s.Several()
    venue.deposit("ann", 2**55, asset=s.BITCOIN)
    assert isinstance(venue.deposit("bob", 2**55 + 1, asset=s.BITCOIN)[0], InboxIgnored)
    assert isinstance(venue.deposit("bob", 2**55, asset=s.STAKED)[-2], Deposited)
    venue.close_epoch()


@pytest.mark.parametrize("asset", [-1, 4, 255])
def test_unknown_assets_neither_leave_nor_move(asset: int) -> None:
    venue = s.Several()
    venue.give("ann", bitcoin=5)
    out = venue.do("ann", c.Withdraw(0, asset, 1), c.Transfer(1, 1, asset), c.Withdraw(1, 0, 1))
    assert v.codes(out) == ["UNKNOWN_ASSET"] * 3


def test_a_transfer_of_an_asset() -> None:
    """It opens the sub-account, moves the coins, and conserves them; the settlement asset has its own outcome."""
    venue = s.Several()
    ann = venue.give("ann", bitcoin=5, dollar=3)
    out = venue.do("ann", c.Transfer(1, 2, s.BITCOIN), c.Transfer(1, 3), c.Transfer(1, 4, s.BITCOIN))
    other = venue.account("ann", 1).number
    assert AssetTransferred(ann.number, other, s.BITCOIN, 2) in out
    assert Transferred(ann.number, other, 3) in out
    assert v.codes(out) == ["INSUFFICIENT_BALANCE"]
    assert (held(venue, "ann", s.BITCOIN), held(venue, "ann", s.BITCOIN, 1)) == (3, 2)
    venue.close_epoch()
    assert venue.exits("ann") == [3, 5, 0, 0]


def position_on_collateral() -> s.Several:
    """Ann is long 200 lots (10,000 USD; initial margin 500) with nothing but a bitcoin, Bob has dollars."""
    venue = s.Several()
    venue.give("bob", dollar=100_000 * v.USD)
    venue.give("ann", bitcoin=s.COIN)
    venue.sell("bob", 50 * v.USD, 200)
    assert v.codes(venue.buy("ann", 50 * v.USD, 200)) == []
    return venue


@pytest.mark.parametrize("transfer", [False, True])
def test_collateral_leaves_down_to_initial_margin_and_no_further(transfer: bool) -> None:
    """500 USD of initial margin needs 1,433,692 of the coin's 10^8 atoms at 69.75 % of 50,000."""
    venue = position_on_collateral()
    needed = -(-500 * s.COIN * 1_000_000 // (50_000 * 697_500))
    much, right = s.COIN - needed + 1, s.COIN - needed

    def take(amount: int) -> c.MemberCommand:
        return c.Transfer(1, amount, s.BITCOIN) if transfer else c.Withdraw(0, s.BITCOIN, amount)

    before = dump(venue.state)
    assert v.codes(venue.do("ann", take(much))) == ["INSUFFICIENT_BALANCE"]
    assert assets.collateral(venue.account("ann"))[0] == 50_000 * v.USD and len(before) > 0
    assert v.codes(venue.do("ann", take(right))) == []
    assert 0 <= headroom(venue.account("ann")) < 400
    equity_now, initial, _ = assess(venue.account("ann"))
    assert equity_now >= initial


def test_nothing_leaves_a_position_at_old_prices() -> None:
    """With a position on it the collateral counts for nothing; without one it just leaves."""
    venue = position_on_collateral()
    venue.give("cat", bitcoin=s.COIN)
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    assert v.codes(venue.withdraw("ann", 1, s.BITCOIN)) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.withdraw("bob", 1)) == ["ORACLE_STALE"]
    assert v.codes(venue.withdraw("cat", s.COIN, s.BITCOIN)) == []


def test_the_house_may_not_take_out_collateral() -> None:
    """The treasury's coins join the operator's capital, which is locked."""
    venue = s.Several()
    venue.deposit("treasury", 7, asset=s.BITCOIN)
    venue.register("treasury")
    assert venue.account("treasury", ids.OPERATOR_CAPITAL).holdings[s.BITCOIN].amount == 7
    out = venue.do("treasury", c.Withdraw(0, s.BITCOIN, 1), sub=ids.OPERATOR_CAPITAL)
    assert v.codes(out) == ["OUT_OF_SCOPE"]
    venue.close_epoch()
    assert venue.exits("treasury") == [0, 7, 0, 0]


# --- settlement in kind ------------------------------------------------------------------------


def in_debt(fund: int, debt: int = 1_000 * v.USD, **coins: int) -> s.Several:
    """Ann owes `debt` (borrowed) and holds `coins`; the insurance fund has `fund` dollars."""
    venue = s.Several(s.params(Borrowing(cap_atoms=10**12, rate_ppm_per_year=0)))
    venue.give("bob", dollar=100_000 * v.USD)
    if fund:
        venue.deposit("treasury", fund)
        venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, fund))
    venue.give("ann", **coins)
    assert v.codes(venue.withdraw("ann", debt)) == []
    return venue


def seize(venue: v.Venue, need: int, name: str = "ann") -> tuple[int, list[CollateralSeized]]:
    """As a step of liquidation does it, which is where it is journalled."""
    state = venue.state
    state.out = []
    credited = collateral.seize(state, venue.account(name), need)
    state.dirty.update(state.touched)
    state.touched = {}
    check(state)
    return credited, [o for o in state.out if isinstance(o, CollateralSeized)]


def test_the_most_liquid_asset_is_seized_first_with_the_fee() -> None:
    """1,000 USD at 2 % fee take 1,020.41 worth of staked ether at 2,200 (order 1), no bitcoin (order 2)."""
    venue = in_debt(5_000 * v.USD, bitcoin=s.COIN, staked=s.COIN)
    credited, out = seize(venue, 1_000 * v.USD)
    amount = -(-(10**9) * 10**6 // 980_000)  # settlement atoms; 22 of them are an atom of the coin
    assert credited == 1_000 * v.USD
    assert out == [CollateralSeized(venue.account("ann").number, s.STAKED, -(-amount // 22), 1_000 * v.USD)]
    assert equity(venue.account("ann")) == 0 and venue.account("ann").interest_us == 0


def test_the_fund_pays_as_far_as_it_reaches() -> None:
    """300 of 1,000: no more collateral goes than 300 cost, and the rest still owes."""
    venue = in_debt(300 * v.USD, bitcoin=s.COIN)
    credited, out = seize(venue, 1_000 * v.USD)
    assert credited == 300 * v.USD == out[0].credit_atoms
    assert equity(venue.account("ann")) == -700 * v.USD
    assert equity(venue.state.accounts[ids.INSURANCE_FUND]) == 0
    assert seize(venue, 700 * v.USD) == (0, [])


def test_nothing_is_seized_at_an_old_price() -> None:
    venue = in_debt(5_000 * v.USD, bitcoin=s.COIN, staked=s.COIN)
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    venue.oracle({v.BTC: 50 * v.USD, s.USD_FEED: v.USD})  # staked ether is stale, so bitcoin goes
    credited, out = seize(venue, 1_000 * v.USD)
    assert credited == 1_000 * v.USD and [o.asset for o in out] == [s.BITCOIN]


@settings(max_examples=60)
@given(
    st.integers(0, 2_000 * v.USD),
    st.integers(0, 3_000 * v.USD),
    st.integers(1, s.COIN // 10),
    st.integers(10**5, s.COIN),
    st.integers(1, 10**9),
)
def test_seizing_conserves_and_takes_no_more_than_the_credit_costs(
    fund: int, need: int, bitcoin: int, staked: int, dust: int
) -> None:
    """Whatever is needed and there: each asset is conserved (invariants), the credit is at most the need and the
    fund, and what is taken is worth the credit and its fee, to an atom of the asset."""
    venue = in_debt(fund, 1_000, bitcoin=bitcoin, staked=staked, plain=dust)
    worth = assets.collateral(venue.account("ann"))[0]
    before = equity(venue.account("ann"))
    credited, out = seize(venue, need)
    assert before == -1_000 and equity(venue.account("ann")) == before + credited
    assert credited <= min(need, fund) and credited == sum(o.credit_atoms for o in out)
    for o in out:
        asset = venue.state.assets[o.asset]
        less = assets.value_of(asset, o.amount_atoms - 1) * 980_000 // ids.PPM
        assert less < o.credit_atoms <= assets.value_of(asset, o.amount_atoms) * 980_000 // ids.PPM
    if need * 2 + 10**6 < worth:  # more than enough, whatever an atom of bitcoin costs
        assert credited == min(need, fund)
    venue.close_epoch()


def test_uncovered_is_what_collateral_at_the_index_does_not_cover() -> None:
    venue = in_debt(0, bitcoin=s.COIN)
    ann = venue.account("ann")
    assert collateral.uncovered(ann) == 0
    venue.advance(1)
    venue.price(btc=900_000)  # 900 USD a coin
    assert collateral.uncovered(ann) == 100 * v.USD
    assert venue.close_epoch().shortfall_atoms == 100 * v.USD


# --- a shortfall, and those who run ------------------------------------------------------------


def after_a_loss(house: int = 0) -> s.Several:
    """Bob and Cat have 1,000 each; Ann borrowed 200 against a coin that is now worth 100, and nobody covers that."""
    venue = s.Several(s.params(Borrowing(cap_atoms=10**12, rate_ppm_per_year=0)))
    if house:
        venue.deposit("treasury", house)
    venue.give("bob", dollar=1_000 * v.USD)
    venue.give("cat", dollar=1_000 * v.USD)
    venue.give("ann", bitcoin=s.COIN)
    venue.withdraw("ann", 200 * v.USD)
    venue.advance(1)
    venue.price(btc=100_000)
    assert venue.close_epoch().shortfall_atoms == 100 * v.USD
    return venue


def test_who_runs_bears_the_haircut() -> None:
    """100 of 2,000 are lost, 5 %: Bob's 1,000 pay 950, the rest goes to the insurance fund, and Cat's exit is what
    it was."""
    venue = after_a_loss()
    assert venue.state.haircut == ids.UNIT // 20
    before = venue.exits("cat")
    assert before == [900 * v.USD, s.COIN // 2, 0, 0]  # 950 in value: ann's coin is worth 100
    out = venue.withdraw("bob", 1_000 * v.USD)
    bob = venue.account("bob").number
    assert out[:2] == [
        Transferred(bob, ids.INSURANCE_FUND, 50 * v.USD),
        WithdrawalAcked(bob, 0, 0, 950 * v.USD, 950 * v.USD),
    ]
    venue.close_epoch()
    assert venue.exits("bob") == [0, 0, 0, 0]
    assert venue.exits("cat") == [850 * v.USD, s.COIN, 0, 0]  # 950 in value still
    assert venue.state.haircut == ids.UNIT // 20


def test_while_losses_are_open_nobody_borrows_and_the_house_takes_nothing() -> None:
    venue = after_a_loss()
    venue.give("dan", bitcoin=10_000 * s.COIN)
    assert v.codes(venue.withdraw("dan", 1)) == ["BORROW_CAP"]
    venue.deposit("bob", 1)
    venue.register("treasury")
    assert v.codes(venue.do("treasury", c.Withdraw(0, 0, 1), sub=ids.FEES)) == ["INSUFFICIENT_BALANCE"]
    assert v.codes(venue.withdraw("dan", s.COIN, s.BITCOIN)) == []  # his own coins stand for nobody's debt


def test_a_covered_loss_cuts_nobody() -> None:
    """The house has 100: it bears the loss, and Bob takes all his money."""
    venue = after_a_loss(house=100 * v.USD)
    assert venue.state.haircut == 0
    assert venue.withdraw("bob", 1_000 * v.USD)[0] == WithdrawalAcked(
        venue.account("bob").number, 0, 0, 1_000 * v.USD, 1_000 * v.USD
    )
    assert venue.exits("treasury")[0] == 0


def test_the_haircut_ends_when_the_debt_is_paid() -> None:
    venue = after_a_loss()
    venue.deposit("ann", 200 * v.USD)
    venue.close_epoch()
    assert venue.state.haircut == 0
    assert venue.exits("bob") == venue.exits("cat") == [1_000 * v.USD, 0, 0, 0]
    assert venue.exits("ann") == [0, s.COIN, 0, 0]


# --- parameters, genesis, journal --------------------------------------------------------------


def test_new_parameters_change_what_collateral_counts_at_the_epoch() -> None:
    """A larger haircut is in force from the epoch, which renews every leaf (the harness rebuilds them all)."""
    venue = s.Several()
    ann = venue.give("ann", bitcoin=s.COIN)
    venue.give("bob", dollar=5)
    venue.close_epoch()
    specs = tuple(
        msgspec.structs.replace(a, maintenance_haircut_ppm=500_000) if a.lane == s.BITCOIN else a for a in s.ASSETS
    )
    new = msgspec.structs.replace(venue.state.params, version=2, assets=specs)
    when = venue.now_us + new.notice_us
    assert v.codes(venue.operator(c.ProposeParams(new, when))) == []
    venue.close_epoch()
    assert assets.collateral(ann)[1] == 37_500 * v.USD
    venue.advance(new.notice_us)
    venue.price()
    venue.close_epoch()
    assert any(isinstance(o, ParamsChanged) for o in v.decode_outcomes(venue.journal[-1].outcomes))
    assert assets.collateral(ann)[1] == 25_000 * v.USD
    assert all(account.leaf_epoch == 3 for account in venue.state.accounts)
    v.replay(venue.journal)


@pytest.mark.parametrize("count", [0, 5])
def test_a_vault_has_one_to_four_assets(count: int) -> None:
    with pytest.raises(NovateError, match="INVALID_GENESIS"):
        Reducer(v.genesis(tokens=tuple(f"token {i}" for i in range(count))))


NAMES = ("ann", "bob", "cat")
MOVES = ("btc", "steth", "usd", "eth")
money = st.integers(1, 3_000 * v.USD) | st.sampled_from((1, v.USD, 10**11))
coins = st.integers(1, s.COIN) | st.sampled_from((1, s.COIN, s.COIN // 7))


class Machine(RuleBasedStateMachine):
    """Deposits, withdrawals, loans, trades, seizures, prices and epochs in any order: each asset is conserved after
    every entry, exits of every lane sum to its holdings after every epoch, and the journal replays."""

    @initialize()
    def open_venue(self) -> None:
        self.venue = s.Several(s.params(Borrowing(cap_atoms=8_000 * v.USD)))
        for name in NAMES:
            self.venue.give(name, dollar=3_000 * v.USD, bitcoin=s.COIN // 10, staked=s.COIN // 2)
        self.venue.deposit("treasury", 500 * v.USD)
        self.venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 200 * v.USD))

    @rule(name=st.sampled_from((*NAMES, "treasury")), lane=st.integers(0, 3), dollars=money, atoms=coins)
    def deposit(self, name: str, lane: int, dollars: int, atoms: int) -> None:
        self.venue.deposit(name, atoms if lane else dollars, asset=lane)

    @rule(name=st.sampled_from(NAMES), lane=st.integers(0, 3), dollars=money, atoms=coins, to=st.integers(0, 2))
    def move(self, name: str, lane: int, dollars: int, atoms: int, to: int) -> None:
        amount = atoms if lane else dollars
        command = c.Transfer(1, amount, lane) if to == 1 else c.Withdraw(0, lane, amount)
        before = dump(self.venue.state)
        if v.codes(self.venue.do(name, command)):
            assert len(dump(self.venue.state)) - len(before) < 9  # the nonce alone
        else:
            account = self.venue.account(name)
            assert headroom(account) >= 0 and collateral.uncovered(account) == 0

    @rule(name=st.sampled_from(NAMES), share=st.integers(50, 101))
    def borrow(self, name: str, share: int) -> None:
        """Money out up to (and beyond) what is free, most of it borrowed."""
        free = headroom(self.venue.account(name))
        out = self.venue.withdraw(name, max(1, free * share // 100))
        assert free > 0 or v.codes(out)

    @rule(pair=st.permutations(NAMES), lots=st.integers(1, 300))
    def trade(self, pair: list[str], lots: int) -> None:
        price = self.venue.state.instruments[v.BTC].mark // 10_000 * 10_000
        self.venue.sell(pair[0], price, lots)
        self.venue.buy(pair[1], price, lots)

    @rule(which=st.sampled_from(MOVES), percent=st.sampled_from((10, 50, 80, 95, 100, 105, 150)))
    def reprice(self, which: str, percent: int) -> None:
        index = dict(zip(MOVES, (v.BTC, s.STETH, s.USD_FEED, v.ETH), strict=True))[which]
        self.venue.advance(v.SECOND)
        self.venue.price(**{which: s.PRICES[index] * percent // 100})

    @rule(percent=st.integers(1, 30), btc=st.booleans())
    def crash(self, percent: int, btc: bool) -> None:
        """Ether and what is staked of it, and perhaps bitcoin, lose most of their price; then the epoch closes."""
        self.venue.advance(v.SECOND)
        fallen = {name: s.PRICES[index] * percent // 100 for name, index in (("eth", v.ETH), ("steth", s.STETH))}
        self.venue.price(**fallen, **({"btc": s.PRICES[v.BTC] * percent // 100} if btc else {}))
        self.close()

    @rule(name=st.sampled_from(NAMES), need=money)
    def take(self, name: str, need: int) -> None:
        """As liquidation does: only from accounts in debt. (Not a command of its own, hence not replayed.)"""
        account = self.venue.account(name)
        owed = borrowing.debt(account)
        if owed:
            self.seized = True
            seize(self.venue, min(owed, need), name)

    seized = False

    @rule(hours=st.integers(1, 3_000))
    def charge(self, hours: int) -> None:
        self.venue.advance(hours * v.HOUR)
        self.venue.operator(c.ChargeInterest())
        self.venue.price()

    @rule()
    def close(self) -> None:
        closed = self.venue.close_epoch()
        load(self.venue.snapshots[-1][1], closed)

    def teardown(self) -> None:
        if not hasattr(self, "venue") or self.seized:
            return
        v.replay(self.venue.journal)
        for at, payload, closed in self.venue.snapshots[-2:]:
            again = v.replay(self.venue.journal[at:], Reducer(state=load(payload, closed)))
            assert dump(again.state) == dump(self.venue.state)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=35, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
