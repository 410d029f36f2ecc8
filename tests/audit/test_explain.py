# SPDX-License-Identifier: GPL-3.0-or-later
"""How a balance came to be: every sum comes out to the atom, for every account of every story."""

from __future__ import annotations

import pytest

from clearing.audit.explain import KINDS, Explanation, explain
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import NovateError
from tests.audit.stories import NAMES, Story, honest, story


def told(account: int, epoch: int, of: Story) -> Explanation:
    return explain(enumerate(of.entries), account, epoch, check_signatures=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_accounts_events_sum_to_its_leaf(name: str) -> None:
    """At the last epoch: cash, claim, payout, exit and acks; nothing is left that no event names. (Each sum that does
    not come out raises.)"""
    of = story(name)
    last = of.posted[-1].outcome
    state = honest(list(of.entries)).state
    assert state is not None
    closed = honest(list(of.entries[: of.posted[-1].journal_size])).state
    assert closed is not None
    for account in closed.accounts:
        found = told(account.number, last.epoch, of)
        assert sum(event.cash for event in found.events) == found.cash == account.cash
        assert not [event for event in found.events if event.kind == "OTHER"]
        assert sum(found.by_kind().values()) == found.cash
        if account.number < ids.HOUSE_ACCOUNTS:
            continue
        for balance in found.balances:
            lanes = closed.vaults[balance.vault].every_lane
            leaf = [account.owner.exits[lane] + account.owner.acks[lane] for lane in lanes]
            made = [a + b + c for a, b, c in zip(balance.own, balance.others, balance.acks, strict=True)]
            assert made == leaf


def test_each_event_stands_in_an_entry_that_names_the_account() -> None:
    """Deposits, fills, fees, funding, liquidations, transfers and withdrawals, with the seq of each; amounts are the
    outcomes'."""
    seen: dict[str, None] = {}
    for of, account in [(story(name), number) for name in ("golden", "adl") for number in range(ids.HOUSE_ACCOUNTS, 9)]:
        found = told(account, of.posted[-1].outcome.epoch, of)
        for event in found.events:
            seen[event.kind] = None
            outcomes = of.outcomes[event.seq]
            if event.kind == "DEPOSIT":
                paid = [x.amount_atoms for x in outcomes if isinstance(x, o.Deposited) and x.account == account]
                assert event.cash in paid or event.holdings
            if event.kind == "WITHDRAWAL":
                acked = [x.amount_atoms for x in outcomes if isinstance(x, o.WithdrawalAcked) and x.account == account]
                assert sum(amount for _, amount in event.acks) in acked
            if event.kind == "FEE":
                fees = [
                    fee
                    for x in outcomes
                    if isinstance(x, o.TradeNovated)
                    for fee in (x.maker_fee_atoms, x.taker_fee_atoms)
                ]
                assert -event.cash in fees
        margins = {
            seq: x.cash_atoms
            for seq, outcomes in enumerate(of.outcomes[: found.closing_seq + 1])
            for x in outcomes
            if isinstance(x, o.MarginChanged) and x.account == account
        }
        after = {event.seq: event.after for event in found.events}
        for seq, cash in after.items():
            assert margins.get(seq, cash) == cash
    assert (
        {"DEPOSIT", "WITHDRAWAL", "TRANSFER", "TRADE", "FEE", "FUNDING", "LIQUIDATION"}
        <= set(seen)
        <= {
            *KINDS,
            "WIND-DOWN",
            "ESCAPE",
        }
    )


def test_adl_and_shared_losses_are_told() -> None:
    """Who was deleveraged reads at what rank and price; who paid for a default reads what for."""
    adl = story("adl")
    (victim, *_) = [x.counterparty for found in adl.outcomes for x in found if isinstance(x, o.Deleveraged)]
    events = told(victim, adl.posted[-1].outcome.epoch, adl).events
    assert any(event.kind == "LIQUIDATION" and "rank 0" in event.text for event in events)
    fall = story("waterfall")
    kinds = [
        event.kind
        for account in range(ids.HOUSE_ACCOUNTS, 8)
        for event in told(account, fall.posted[-1].outcome.epoch, fall).events
    ]
    assert "SHARED LOSS" in kinds and "DEFAULT" in kinds


def test_what_cannot_be_explained_says_why() -> None:
    of = story("adl")
    for account, epoch, code in ((9_999, 1, "UNKNOWN_ACCOUNT"), (4, 9_999, "UNKNOWN_EPOCH")):
        with pytest.raises(NovateError) as error:
            told(account, epoch, of)
        assert error.value.code == code
    with pytest.raises(NovateError) as error:
        explain(enumerate([*of.entries[:5], *of.entries[6:]]), 4, 1)
    assert error.value.code == "REPLAY_DIVERGED"
