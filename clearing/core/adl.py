# SPDX-License-Identifier: GPL-3.0-or-later
"""Auto-deleveraging: the last tranche closes a defaulter's position against those who gained most from it.

Rules:
- Only for an account in default (`backstop.in_default`), at fresh prices, when no tranche before it holds anything.
- Price: the bankruptcy price, at which the defaulter's claim becomes zero. Its deficit is spread over its positions by
  notional, so every position is closed off its mark by the same fraction deficit / notional, at most by all of
  the mark; the step per lot rounds up. Without a deficit it is the mark.
- Counterparties hold the other side. They rank by profit x leverage, highest first, where profit = size x mark -
  entry cost and leverage = |size| x mark / equity; compared exactly, ties by account number. Who has no equity
  comes after all who have, and the house last.
- What rounding leaves the defaulter goes to the insurance fund as a fee.
- A step closes as many counterparties as fit. All orders of the defaulter are cancelled.
"""

from functools import cmp_to_key
from heapq import nsmallest
from typing import NamedTuple

from clearing.core import auction
from clearing.core.backstop import (
    cancel_everything,
    has_positions,
    in_default,
    is_stale,
    notional,
    pay_fee,
)
from clearing.core.collateral import uncovered
from clearing.core.margin import assess, equity
from clearing.core.positions import fold
from clearing.core.state import Account, Slot, State
from clearing.core.waterfall import hold_anything
from clearing.model import ids
from clearing.model.commands import Deleverage
from clearing.model.outcomes import Deleveraged, Liquidated

MAX_COUNTERPARTIES = 250
_CANCELS_PER_COUNTERPARTY = 8


class Ranked(NamedTuple):
    """A counterparty: profit of its position, its notional, equity of the account; atoms."""

    account: Account
    slot: Slot
    profit: int
    notional: int
    equity: int


def _before(a: Ranked, b: Ranked) -> int:
    """Negative if `a` comes before `b` in line."""
    classes = _rank_class(a) - _rank_class(b)
    if classes:
        return classes
    if a.equity > 0:
        mine, theirs = a.profit * a.notional * b.equity, b.profit * b.notional * a.equity
        if mine != theirs:
            return -1 if mine > theirs else 1
    return a.account.number - b.account.number


def _rank_class(ranked: Ranked) -> int:
    if ranked.account.number < ids.HOUSE_ACCOUNTS:
        return 2
    return 0 if ranked.equity > 0 else 1


def ranking(state: State, account: Account, instrument: int, count: int) -> list[Ranked]:
    """The first `count` in line to take over the account's position."""
    inst = state.instruments[instrument]
    size = account.slots[instrument].size
    found = []
    for other in inst.holders.values():
        slot = other.slots[instrument]
        if slot.size * size < 0:
            profit = slot.size * inst.mark - slot.entry_cost
            found.append(Ranked(other, slot, profit, abs(slot.size) * inst.mark, assess(other)[0]))
    return nsmallest(count, found, key=cmp_to_key(_before))


def bankruptcy_price(account: Account, slot: Slot) -> int:
    """Atoms per lot at which this position is closed."""
    mark, deficit, whole = slot.inst.mark, uncovered(account), notional(account)
    if not deficit or not whole:
        return mark
    step = -(-mark * min(deficit, whole) // whole)
    return mark + step if slot.size > 0 else mark - step


def refusal(state: State, account: Account, instrument: int, now_us: int) -> str:
    """Why the account's position may not be deleveraged, or ""."""
    slot = account.slots.get(instrument)
    if slot is None or not slot.size:
        return "NOTHING_TO_RESOLVE"
    if is_stale(state, account, now_us):
        return "ORACLE_STALE"
    if not in_default(state, account):
        return "NOT_LIQUIDATABLE"
    return "TRANCHE_NOT_EMPTY" if state.cuts or hold_anything(state, account) else ""


def deleverage(state: State, command: Deleverage) -> str:
    """Close the position, or as much of it as one entry can tell."""
    if not 0 <= command.account < len(state.accounts):
        return "UNKNOWN_ACCOUNT"
    if command.instrument not in state.instruments:
        return "UNKNOWN_INSTRUMENT"
    account = state.accounts[command.account]
    code = refusal(state, account, command.instrument, state.time_us)
    if code:
        return code
    before, _, maintenance = assess(account)
    owed = uncovered(account) > 0
    most = MAX_COUNTERPARTIES - cancel_everything(state, account) // _CANCELS_PER_COUNTERPARTY
    closed = _close(state, account, account.slots[command.instrument], max(1, most))
    fee = max(0, equity(account)) if owed else 0
    pay_fee(state, account, fee)
    if not has_positions(account):
        account.wait_us = 0
        state.defaulters.pop(account.number, None)
        if account.auction is not None:
            auction.end(state, account, "BACKSTOP")
    row = (account.number, "ADL", ids.NO_SCENARIO, 0, before, maintenance, closed, fee, account.wait_us)
    state.out.append(Liquidated(*row))
    return ""


def _close(state: State, account: Account, slot: Slot, most: int) -> int:
    """Returns the notional closed, at mark."""
    inst, price, closed = slot.inst, bankruptcy_price(account, slot), 0
    for rank, ranked in enumerate(ranking(state, account, inst.id, most)):
        if not slot.size:
            break
        lots = min(abs(slot.size), abs(ranked.slot.size))
        signed = -lots if ranked.slot.size > 0 else lots
        fold(ranked.account, ranked.slot, signed, price, 0)
        fold(account, slot, -signed, price, 0)
        state.touched[ranked.account.number] = ranked.account
        closed += lots * inst.mark
        state.out.append(
            Deleveraged(
                account.number, ranked.account.number, inst.id, -signed, price, rank,
                ranked.profit, ranked.notional, ranked.equity,
            )
        )  # fmt: skip
    return closed


def due(state: State, now_us: int) -> Deleverage | None:
    """The next position that only ADL can close."""
    if len(state.accounts) < ids.HOUSE_ACCOUNTS:
        return None
    fund = state.accounts[ids.INSURANCE_FUND]
    for account in [fund, *state.defaulters.values()]:
        if not in_default(state, account):
            continue
        for number in sorted(account.slots):
            if account.slots[number].size and not refusal(state, account, number, now_us):
                return Deleverage(account.number, number)
    return None
