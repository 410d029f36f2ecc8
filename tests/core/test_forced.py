# SPDX-License-Identifier: GPL-3.0-or-later
"""Forced requests: what an owner sends through a vault's inbox is carried out, at a price nobody can push, and loses
nothing on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import forced
from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, rebuild_trees, restore
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.outcomes import ForcedDone, ForcedRequested, InboxIgnored, Outcome
from tests.core import several as s
from tests.core import venue as v
from tests.core.chains import BTC_0, COIN, USD_0, USD_1, Chains

EXIT, WITHDRAWAL = ids.INBOX_FORCED_EXIT, ids.INBOX_FORCED_WITHDRAWAL


def force(
    venue: v.Venue, name: str, kind: int, amount: int = 0, asset: int = 0, vault: int = 0, sub: int = 0
) -> list[Outcome]:
    """The next message of a vault's inbox, as its contract would post it."""
    index = venue.state.vaults[vault].inbox_count
    owner, data = v.address_of(name), sub.to_bytes(32, "big")
    return venue.operator(c.ConsumeInbox(vault, index, kind, owner, asset, amount, 1, data))


def work_off(venue: v.Venue, most: int = 60) -> list[Outcome]:
    """Every step that can be taken now."""
    found: list[Outcome] = []
    for _ in range(most):
        step = forced.due(venue.state, venue.state.time_us)
        if step is None:
            return found
        found += venue.operator(step)
        assert not v.codes(found)
    raise AssertionError("the requests never come to an end")


def reload(venue: v.Venue) -> None:
    """The state as a snapshot of this moment gives it back."""
    payload = dump(venue.state)
    state = restore(payload)
    rebuild_trees(state)
    assert dump(state) == payload
    venue.reducer = Reducer(state=state)


def done(outcomes: list[Outcome]) -> list[ForcedDone]:
    return [outcome for outcome in outcomes if isinstance(outcome, ForcedDone)]


def traded(seed: int) -> Chains:
    """Four members with deposits on both chains, positions among them, resting orders."""
    rng = random.Random(seed)
    venue = Chains()
    for name in ("ann", "bob", "cat", "dan"):
        venue.give(name, rng.choice((USD_0, USD_1)), rng.randrange(2_000, 9_000) * v.USD)
    for _ in range(8):
        buyer, seller = rng.sample(("ann", "bob", "cat", "dan"), 2)
        price, lots = rng.randrange(49, 52) * v.USD, rng.randrange(1, 40)
        venue.do(seller, venue.order(ids.SELL, price, lots))
        venue.do(buyer, venue.order(ids.BUY, price, lots))
    return venue


@pytest.mark.parametrize("amount", [0, 300 * v.USD, 10**14])
def test_a_forced_withdrawal_pays_what_is_free(amount: int) -> None:
    """Nothing asked for: all of it; less than is free: that; more: what is free. Orders that held it back end."""
    venue = Chains()
    venue.give("ann", USD_0, 1_000 * v.USD)
    venue.do("ann", venue.order(ids.BUY, 40 * v.USD, 10))
    out = force(venue, "ann", WITHDRAWAL, amount)
    assert any(isinstance(outcome, ForcedRequested) for outcome in out)
    (result,) = done(work_off(venue))
    assert result.paid_atoms[USD_0] == min(amount or 1_000 * v.USD, 1_000 * v.USD)
    assert not venue.account("ann").orders and not venue.state.forced


def test_requests_that_mean_nothing_are_ignored_visibly() -> None:
    """Of the house, of nobody, of a sub-account that is not there, of an asset that is not there: consumed, with a
    reason, and nothing waits."""
    venue = Chains()
    venue.give("ann", USD_0, 1_000 * v.USD)
    index = venue.state.vaults[0].inbox_count
    house = c.ConsumeInbox(0, index, EXIT, venue.state.genesis.treasury, 0, 0, 1, bytes(32))
    rows = [venue.operator(house), force(venue, "nobody", EXIT), force(venue, "ann", EXIT, sub=3)]
    rows.append(force(venue, "ann", WITHDRAWAL, asset=9))
    reasons = [o.code for out in rows for o in out if isinstance(o, InboxIgnored)]
    assert reasons == ["HOUSE_LOCKED", "UNKNOWN_ACCOUNT", "UNKNOWN_ACCOUNT", "UNKNOWN_ASSET"]
    assert not venue.state.forced


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_forced_exit_ends_flat_and_paid(seed: int) -> None:
    """Whatever the positions: after the last step the account holds no order, no position and no free money, all that
    it was worth went to its owner but for spread and fees, and nothing was created (checked after every entry)."""
    rng = random.Random(seed)
    venue = traded(seed)
    name = rng.choice(("ann", "bob", "cat", "dan"))
    worth = equity(venue.account(name))
    acks = list(venue.state.owners[v.address_of(name)].acks)
    force(venue, name, EXIT, vault=rng.randrange(2))
    results = done(work_off(venue))
    account = venue.account(name)
    assert len(results) == 1 and not account.orders and not any(slot.size for slot in account.slots.values())
    paid = sum(results[0].paid_atoms)
    assert paid == sum(venue.state.owners[v.address_of(name)].acks) - sum(acks)
    assert equity(account) == 0
    assert paid <= worth + 40 * 3 * v.USD  # fills inside the band may be better than the mark, by the spread at most


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_survive_prices_and_others_orders(seed: int) -> None:
    """Steps in any order with price moves, stale prices, others' orders and a snapshot between: every request is
    answered once, in its order."""
    rng = random.Random(seed)
    venue = traded(seed)
    for name in ("ann", "bob"):
        force(venue, name, EXIT)
        force(venue, name, WITHDRAWAL, 10 * v.USD, vault=1)
    found: list[Outcome] = []
    for _ in range(60):
        step = forced.due(venue.state, venue.state.time_us)
        if rng.random() < 0.5 and step is not None:
            found += venue.operator(step)
        elif rng.random() < 0.3:
            venue.oracle(s.PRICES | {v.BTC: rng.randrange(48, 53) * v.USD})
        elif rng.random() < 0.3:
            venue.do(rng.choice(("cat", "dan")), venue.order(rng.randrange(2), rng.randrange(48, 53) * v.USD, 5))
        else:
            reload(venue)
    venue.oracle(s.PRICES)
    found += work_off(venue)
    by_account = [(outcome.account, outcome.vault) for outcome in done(found)]
    for name in ("ann", "bob"):
        number = venue.account(name).number
        assert [vault for account, vault in by_account if account == number] == [0, 1]
    assert not venue.state.forced


def test_stale_prices_hold_everything_but_the_cancellation() -> None:
    """With an old price orders end at once and the position stays; the first fresh price carries on."""
    venue = traded(7)
    venue.do("ann", venue.order(ids.BUY, 40 * v.USD, 1))
    venue.advance(venue.state.params.oracle_max_age_us + 1)
    force(venue, "ann", EXIT)
    held = {n: slot.size for n, slot in venue.account("ann").slots.items()}
    assert not done(work_off(venue)) and not venue.account("ann").orders
    assert {n: slot.size for n, slot in venue.account("ann").slots.items()} == held
    venue.oracle(s.PRICES)
    assert len(done(work_off(venue))) == 1


def test_new_orders_are_refused_while_an_exit_waits() -> None:
    """Otherwise the owner could hold the exit open and choose."""
    venue = traded(3)
    force(venue, "ann", EXIT)
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 40 * v.USD, 1))) == ["EXIT_FORCED"]
    work_off(venue)
    assert v.codes(venue.do("ann", venue.order(ids.BUY, 40 * v.USD, 1))) != ["EXIT_FORCED"]


@pytest.mark.parametrize("long", [True, False])
def test_an_exit_at_a_pushed_mark_gains_nothing(long: bool) -> None:
    """Whoever pushes the mark away from the index, in favour of the position, is taken over at the index."""
    venue = Chains()
    for name in ("ann", "bob"):
        venue.give(name, USD_0, 5_000 * v.USD)
    venue.do("bob", venue.order(ids.SELL if long else ids.BUY, 50 * v.USD, 40))
    venue.do("ann", venue.order(ids.BUY if long else ids.SELL, 50 * v.USD, 40))
    inst = venue.state.instruments[v.BTC]
    slot = venue.account("ann").slots[v.BTC]
    inst.mark = inst.index * 102 // 100 if long else inst.index * 98 // 100
    assert forced.worse_price(slot) == inst.index
    inst.mark = inst.index * 98 // 100 if long else inst.index * 102 // 100
    assert forced.worse_price(slot) == inst.mark


def test_collateral_leaves_where_it_lies_and_cash_from_the_asked_vault_first() -> None:
    """Money deposited on two chains and a coin: the asked vault's dollars go first, then the other's; the coin from its
    own."""
    venue = Chains()
    venue.give("ann", USD_0, 600 * v.USD)
    venue.give("ann", USD_1, 400 * v.USD)
    venue.give("ann", BTC_0, COIN)
    force(venue, "ann", EXIT, vault=1)
    (result,) = done(work_off(venue))
    assert result.paid_atoms[USD_1] == 400 * v.USD and result.paid_atoms[USD_0] == 600 * v.USD
    assert result.paid_atoms[BTC_0] == COIN
