# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault freezes: what its contract pays out is debited before anything else is paid, to the atom, whatever happened
after the epoch that it fell back to; and only the true leaves and messages of that epoch are believed."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import collateral, escape, vaults
from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load, rebuild_trees, restore
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import encode_entry
from clearing.model.outcomes import EscapeSettled, InboxIgnored, TrancheDrawn
from clearing.model.signature import sign
from tests.core import several as s
from tests.core import venue as v
from tests.core.chains import BTC_1, COIN, PLAIN_1, USD_0, USD_1, Chains
from tests.core.test_two_vaults import NAMES, claim, exits, step

PRICE = 50_000 * v.USD  # of a bitcoin, in atoms


def lived_in(epochs: int = 3) -> Chains:
    """Four owners on two chains, something of every kind after each epoch."""
    venue = Chains()
    venue.deposit("treasury", 3_000 * v.USD, vault=1)
    for name, lane in (("ann", USD_0), ("bob", USD_1), ("cat", USD_1), ("dan", USD_0)):
        venue.give(name, lane, 4_000 * v.USD)
    venue.give("bob", BTC_1, COIN)
    venue.give("cat", PLAIN_1, 17)
    for epoch in range(epochs):
        venue.close_epoch()
        assert venue.take("ann", USD_1, 100 * v.USD + epoch) == []
        assert venue.take("bob", BTC_1, COIN // 10) == []
        venue.give("dan", USD_1, 55 * v.USD)
        venue.give("eve", BTC_1, COIN // 7)
    return venue


def settle(venue: Chains, vault: int, epoch: int) -> EscapeSettled:
    """Freeze, hand everything in, settle."""
    assert venue.freeze(vault, epoch) == []
    assert venue.collect(vault, epoch) == []
    out = venue.operator(c.SettleEscape(vault))
    assert isinstance(out[-1], EscapeSettled) and len(out) == 1
    return out[-1]


def holding(venue: v.Venue, name: str, lane: int) -> int:
    return sum(a.holdings[lane].amount for a in venue.owner_accounts(name) if lane in a.holdings)


# --- what is debited ---------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), vault=st.integers(0, 1), back=st.integers(0, 3))
def test_everyone_is_debited_what_the_contract_pays(seed: int, vault: int, back: int) -> None:
    """A freeze that falls back by some epochs, over random deposits, withdrawals and trades after it. From the chain's
    side alone it is known what each owner gets; the reducer takes that, less what it had acknowledged, out of their
    cash, and makes good at the index for collateral that is elsewhere by now."""
    rng = random.Random(seed)
    venue = Chains()
    venue.deposit("treasury", 9_000 * v.USD, vault=1)
    for name in NAMES:
        venue.give(name, rng.choice((USD_0, USD_1)), 6_000 * v.USD + rng.randrange(10**9))
    for _ in range(3):
        for _ in range(6):
            step(venue, rng)
        venue.close_epoch()
    for _ in range(4):
        step(venue, rng)
    state = venue.state
    epoch = state.epoch - back
    lanes = state.vaults[vault].every_lane
    held = tuple(state.assets[lane].held for lane in lanes)
    promised = [sum(owner.acks[lane] for owner in state.owners.values()) for lane in lanes]
    paid = venue.paid_by_chain(vault, epoch)
    price = state.underlyings[v.BTC].index * 1_000
    expected: dict[bytes, Fraction] = {}
    for address, owner in state.owners.items():
        left = Fraction(sum(equity(account) for account in owner.accounts))
        for at, lane in enumerate(lanes):
            debit = paid[address][at] - owner.acks[lane]
            if at == 0:
                left -= debit
            elif lane != PLAIN_1:
                mine = sum(a.holdings[lane].amount for a in owner.accounts if lane in a.holdings)
                left -= Fraction((debit - mine) * price, COIN)
        expected[address] = left
    settled = settle(venue, vault, epoch)
    assert settled.debited_atoms == held
    total = [sum(row[at] for row in paid.values()) for at in range(len(held))]
    assert [debited + acked for debited, acked in zip(held, promised, strict=True)] == total
    slack = 20  # an atom per account and lane, which the insurance fund has or bears
    for address, owner in state.owners.items():
        assert abs(sum(equity(account) for account in owner.accounts) - expected[address]) <= slack
        for account in owner.accounts:
            assert not [lane for lane in account.holdings if lane in lanes]
    assert all(state.assets[lane].held == 0 for lane in lanes)
    assert sum(equity(account) for account in state.accounts) == state.holdings
    venue.close_epoch()
    assert dump(v.replay(venue.journal).state) == dump(state)


def test_void_withdrawals_come_back_and_late_deposits_are_refunded() -> None:
    """One owner each: acknowledged after the escape header (void, paid as exit instead), deposited after it (paid back
    by the contract), withdrawn from the other chain (stands)."""
    venue = Chains()
    for name in ("ann", "bob", "cat"):
        venue.give(name, USD_1, 1_000)
    venue.close_epoch()
    venue.take("ann", USD_1, 400)
    venue.give("bob", USD_1, 70)
    venue.give("cat", USD_0, 300)
    assert venue.take("cat", USD_0, 300) == []
    venue.close_epoch()
    settled = settle(venue, 1, 1)
    # The contract pays ann 1,000 of which 400 were taken from her account, bob 1,070, cat 1,000.
    assert settled == EscapeSettled(1, 1, 3, (3_070 - 400, 0, 0))
    assert [claim(venue, name) for name in ("ann", "bob", "cat")] == [0, 0, 0]
    assert venue.state.owners[v.address_of("cat")].acks == [300, 0, 0, 0, 0]


def test_a_withdrawal_that_is_void_is_money_again() -> None:
    """Acknowledged on the chain that froze and in no header that counts: the claim is back, and leaves elsewhere."""
    venue = Chains()
    venue.give("ann", USD_0, 1_000)
    venue.give("bob", USD_1, 1_000)
    venue.close_epoch()  # each is owed 500 on either chain
    assert venue.take("ann", USD_1, 1_000) == []
    assert claim(venue, "ann") == 0
    settle(venue, 1, 1)
    assert claim(venue, "ann") == 500, "500 are paid by the frozen chain as exit, 500 are owed by the other one"
    assert venue.take("ann", USD_0, 500) == []


def test_without_any_final_header_all_deposits_go_back() -> None:
    """A vault that freezes before its first header pays every deposit back to its sender (epoch 0)."""
    venue = lived_in()
    assert not venue.rows(1, 0) and len(venue.late(1, 0)) == len(venue.messages[1])
    settled = settle(venue, 1, 0)
    assert settled.epoch == 0
    assert claim(venue, "cat") == 0 and holding(venue, "cat", PLAIN_1) == 0
    assert claim(venue, "ann") == 4_000 * v.USD, "she never deposited there, and what she took out there is void"


def test_the_debit_reaches_every_account_of_the_owner() -> None:
    """The exit leaf adds up an owner's accounts, and so does the debit: an empty first account with a rich second one
    leaves no deficit to others."""
    venue = Chains()
    venue.give("ann", USD_1, 1_000)
    venue.give("bob", USD_0, 1_000)
    assert not v.codes(venue.do("ann", c.Transfer(1, 990)))
    venue.close_epoch()
    settle(venue, 1, 1)
    assert [equity(account) for account in venue.owner_accounts("ann")] == [0, 500]
    assert venue.close_epoch().shortfall_atoms == 0


def test_who_spent_it_elsewhere_is_in_default_like_anyone() -> None:
    """Everything withdrawn from the other chain after the escape header, which pays once more: a deficit, which the
    house's tranches cover."""
    venue = Chains()
    venue.deposit("treasury", 700)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 700))
    venue.give("ann", USD_1, 1_000)
    venue.give("bob", USD_0, 1_000)
    venue.close_epoch()
    paid = venue.leaves[1][1]
    mine = next(leaf.exits[0] for leaf in paid if leaf.owner == v.address_of("ann"))
    assert venue.take("ann", USD_0, 1_000) == []
    settle(venue, 1, 1)
    assert claim(venue, "ann") == -mine < 0
    out = venue.operator(c.ResolveDeficit(venue.account("ann").number))
    assert any(isinstance(x, TrancheDrawn) for x in out)
    assert claim(venue, "ann") == 0


def test_fees_go_before_the_insurance_fund() -> None:
    """What the frozen chain pays to the treasury leaves the house: what stands for nobody first."""
    venue = Chains()
    venue.deposit("treasury", 1_000, vault=1)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 500))
    fees = venue.state.accounts[ids.FEES]
    capital, fund = venue.state.accounts[ids.OPERATOR_CAPITAL], venue.state.accounts[ids.INSURANCE_FUND]
    collateral.move(venue.state, capital, fees, 200)
    venue.state.touched, venue.state.out = {}, []
    venue.give("ann", USD_0, 1_000)
    venue.close_epoch()
    assert exits(venue, "treasury") == [500, 0, 500, 0, 0]
    settle(venue, 1, 1)
    assert (fees.cash, capital.cash, fund.cash) == (0, 0, 500)


def test_seized_collateral_is_paid_for_by_whom_the_chain_pays() -> None:
    """A bitcoin that was taken for a debt after the escape header is paid to its old owner by the frozen chain: they
    owe its price, and the insurance fund has it in cash instead."""
    venue = Chains()
    venue.deposit("treasury", 200_000 * v.USD)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 200_000 * v.USD))
    venue.give("ann", BTC_1, COIN)
    venue.give("bob", USD_0, 100_000 * v.USD)
    venue.close_epoch()
    assert not v.codes(venue.do("bob", venue.order(ids.SELL, 50 * v.USD, 500)))
    assert not v.codes(venue.do("ann", venue.order(ids.BUY, 50 * v.USD, 500)))
    for price in (30, 15, 8):
        venue.oracle(s.PRICES | {v.BTC: price * v.USD})
        venue.operator(c.Liquidate(venue.account("ann").number))
    seized = COIN - holding(venue, "ann", BTC_1)
    fund = venue.state.accounts[ids.INSURANCE_FUND]
    assert 0 < seized == fund.holdings[BTC_1].amount
    ann, cash = claim(venue, "ann"), equity(fund)
    settle(venue, 1, 1)
    worth = seized * 8_000 * v.USD // COIN
    assert (claim(venue, "ann"), equity(fund)) == (ann - worth, cash + worth)


def test_a_deposit_that_nobody_was_credited_is_not_debited() -> None:
    """It was ignored here, so that its refund by the contract is between the contract and its sender."""
    venue = Chains()
    venue.give("ann", USD_1, 1_000)
    venue.close_epoch()
    out = venue.give("ann", USD_1, ids.MAX_HOLDINGS_ATOMS)
    assert isinstance(out[-1], InboxIgnored)
    venue.give("ann", USD_1, 5)
    assert settle(venue, 1, 1).debited_atoms == (1_005, 0, 0)
    assert claim(venue, "ann") == 0


def test_a_vault_may_freeze_under_a_wind_down() -> None:
    """Everything was acknowledged, on either chain; one of them froze before it knew. What is void there is a claim
    again as far as the frozen chain does not pay it anyway, and what was acknowledged on the other one stands."""
    venue = lived_in()
    venue.close_epoch()
    venue.operator(c.StartWindDown("the end"))
    while not venue.state.wound:
        assert not v.codes(venue.operator(c.RunWindDown()))
    acked = {name: venue.state.owners[v.address_of(name)].acks[USD_0] for name in NAMES}
    total = {name: sum(venue.state.owners[v.address_of(name)].acks[lane] for lane in (USD_0, USD_1)) for name in NAMES}
    settle(venue, 1, 3)
    paid = {leaf.owner: leaf.exits[0] + leaf.withdraw_acks[0] for leaf in venue.leaves[3][1]}
    late = sum(message.amount_atoms for message in venue.late(1, 3) if message.asset == 0)
    for name in NAMES:
        refund = late if name == "dan" else 0
        mine = acked[name] + paid[v.address_of(name)] + refund
        assert claim(venue, name) == total[name] - mine
    closed = venue.close_epoch()
    assert [part.live for part in closed.vaults] == [True, False]


# --- bounds, replay, snapshot ------------------------------------------------------------------


def test_a_snapshot_in_the_middle_goes_on_to_the_same_state() -> None:
    """Taken while leaves and messages are half collected: what was collected is in it."""
    venue = lived_in(2)
    venue.give("ann", USD_1, 9)
    venue.close_epoch()
    venue.freeze(1, 1)
    rows, late = venue.rows(1, 1), venue.late(1, 1)
    venue.operator(c.EscapeLeaves(1, tuple(rows[:2])))
    venue.operator(c.EscapeDeposits(1, tuple(late[:3])))
    length, payload = len(venue.journal), dump(venue.state)
    middle = restore(payload)
    assert dump(middle) == payload
    rebuild_trees(middle)
    vault = middle.vaults[1]
    assert (vault.escape_next, vault.escape_inbox_count) == (rows[1].index + 1, late[2].index + 1)
    venue.operator(c.EscapeLeaves(1, tuple(rows[2:])))
    venue.operator(c.EscapeDeposits(1, tuple(late[3:])))
    assert v.codes(venue.operator(c.SettleEscape(1))) == []
    closed = venue.close_epoch()
    tail = v.replay(venue.journal[length:], Reducer(state=middle))
    assert dump(tail.state) == dump(venue.state) == dump(v.replay(venue.journal).state)
    assert dump(load(dump(venue.state), closed)) == dump(venue.state)


def test_what_is_kept_of_past_epochs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last so many per vault; what is older is no escape epoch any more. (Scaled down here.)"""
    monkeypatch.setattr(vaults, "MAX_ROOTS", 2)
    venue = lived_in(4)
    assert [root.epoch for root in venue.state.vaults[1].roots] == [3, 4]
    assert venue.freeze(1, 2) == ["EPOCH_OUT_OF_ORDER"]
    settle(venue, 1, 3)


def test_the_widest_commands_fit_an_envelope() -> None:
    """So many rows at their widest, in a vault of four assets, are below the limit of every envelope."""
    widest = 2**64 - 1
    leaf = c.EscapeLeaf(2**20 - 1, b"\xff" * 20, (widest,) * 4, (widest,) * 4)
    message = c.ConsumeInbox(3, widest, 255, b"\xff" * 20, 255, widest, 2**63 - 1, b"\xff" * 32)

    def size(command: c.OperatorCommand) -> int:
        return len(sign(c.OperatorBatch(b"\xff" * 32, widest, (command,)), v.seed_of("operator")))

    for more, fits in ((0, True), (1, False)):
        leaves, messages = (
            (leaf,) * (escape.LEAVES_PER_COMMAND + more),
            (message,) * (escape.DEPOSITS_PER_COMMAND + more),
        )
        for command in (c.EscapeLeaves(3, leaves), c.EscapeDeposits(3, messages)):
            assert (size(command) <= ids.MAX_ENVELOPE_BYTES) is fits


def test_settling_is_one_small_entry_however_many_are_debited() -> None:
    """No outcome per account: the entry's limit does not bound the number of owners, borrowers included."""
    venue = Chains()
    names = [f"owner {number}" for number in range(120)]
    for name in names:
        venue.deposit(name, 1_000, vault=1)
        venue.deposit(name, COIN, asset=1, vault=1)
    for account in venue.state.accounts[ids.HOUSE_ACCOUNTS :]:
        account.interest_us = venue.now_us
    venue.close_epoch()
    settle(venue, 1, 1)
    entry = venue.journal[-1]
    assert len(entry.outcomes) < 64
    assert len(encode_entry(1, 1, entry.raw, v.decode_outcomes(entry.outcomes))) < 400
    assert all(account.interest_us == 0 and not account.holdings for account in venue.state.accounts)
