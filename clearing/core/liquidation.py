# SPDX-License-Identifier: GPL-3.0-or-later
"""The liquidation ladder. One command, one step, by the operator or by any member who keeps watch.

An account is liquidatable when equity is below maintenance margin at fresh prices; house accounts never are.
Its orders and triggers go first, together with the first of these that applies:
1. SEIZE: a settlement claim below zero is paid from its collateral.
2. equity below backstop_ppm of maintenance, or below zero: BACKSTOP takes the book at the mark, or, if it cannot,
   DEFAULT is declared: the waterfall, and ADL for what it cannot pay, are next.
3. AUCTION: a book with options is put on offer (`clearing.core.auction`), and stays so until it is sold, healthy or
   urgent.
4. SLICE: linear positions are sold down (`clearing.core.ladder`).
CANCEL alone is what remains for an account without positions.

- A cool-down (`Account.wait_us`) holds back every step but the backstop.
- Under portfolio margin the command names the scenario that proves the failure; a false witness is refused.
- No step raises maintenance margin, and none lowers equity / maintenance, but for the rounding of a seizure and, under
  portfolio margin close to nothing, its fee.
"""

from clearing.core import auction, ladder
from clearing.core.backstop import (
    can_take,
    cancel_everything,
    has_positions,
    is_stale,
    is_urgent,
    take_book,
)
from clearing.core.collateral import seize
from clearing.core.margin import assess, equity, fails
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.commands import Liquidate, ProposeLiquidation
from clearing.model.outcomes import Liquidated

# An entry holds about 300 fills, or fewer and up to 1,000 cancellations: 20 of them weigh a fill and more.
MAX_FILLS = 300
_CANCELS_PER_FILL = 20


def is_liquidatable(state: State, account: Account) -> str:
    """ "" when the account fails maintenance at fresh prices and something could be done, else the reason."""
    if account.number < ids.HOUSE_ACCOUNTS:
        return "NOT_LIQUIDATABLE"
    now, _, maintenance = assess(account)
    if now >= maintenance or not (has_positions(account) or account.holdings or account.orders or account.triggers):
        return "NOT_LIQUIDATABLE"
    return "ORACLE_STALE" if is_stale(state, account, state.time_us) else ""


def is_ready(state: State, account: Account, now_us: int) -> bool:
    """Would a step be taken now? False for a liquidatable account that is cooling down or on auction, unless
    the backstop may take it, and while prices are too old."""
    if is_stale(state, account, now_us):
        return False
    if is_urgent(state, account) and can_take(state, account) and has_positions(account):
        return True
    return account.wait_us <= now_us and (account.auction is None or is_urgent(state, account))


def liquidate(state: State, command: Liquidate) -> str:
    """The operator's step."""
    return _step(state, command.account, command.scenario)


def propose(state: State, account: Account, command: ProposeLiquidation) -> str:
    """A step that any member may ask for; who asks makes no difference."""
    return _step(state, command.account, command.scenario)


def _step(state: State, number: int, scenario: int) -> str:
    if not 0 <= number < len(state.accounts):
        return "UNKNOWN_ACCOUNT"
    account = state.accounts[number]
    if auction.may_end(state, account, state.time_us):
        auction.end(state, account, "HEALTHY")
        return ""
    code = is_liquidatable(state, account)
    if code:
        return code
    proven, pnl = fails(account, scenario)
    if not proven:
        return "FALSE_WITNESS"
    if not is_ready(state, account, state.time_us):
        return "IN_LIQUIDATION" if account.auction is not None else "LIQUIDATION_COOLING"
    now, _, maintenance = assess(account)
    cancelled = cancel_everything(state, account)
    state.touched[number] = account
    state.fills_left = min(state.fills_left, MAX_FILLS - cancelled // _CANCELS_PER_FILL)
    step, closed, fee = _act(state, account)
    state.out.append(Liquidated(number, step, scenario, pnl, now, maintenance, closed, fee, account.wait_us))
    return ""


def _act(state: State, account: Account) -> tuple[str, int, int]:
    """(step, atoms closed, fee)."""
    credited = seize(state, account, -equity(account)) if account.holdings and equity(account) < 0 else 0
    if credited:
        state.touched[account.number] = account
        state.touched[ids.INSURANCE_FUND] = state.accounts[ids.INSURANCE_FUND]
        return "SEIZE", credited, 0
    cooled = state.time_us + state.params.ladder.cooldown_us
    if not has_positions(account):
        account.wait_us = cooled
        return "CANCEL", 0, 0
    if is_urgent(state, account):
        if not can_take(state, account):
            account.wait_us = cooled
            state.defaulters[account.number] = account
            return "DEFAULT", 0, 0
        closed, fee = take_book(state, account)
        if account.auction is not None:
            auction.end(state, account, "BACKSTOP")
        account.wait_us = 0
        return "BACKSTOP", closed, fee
    if any(slot.size and slot.inst.kind == ids.OPTION for slot in account.slots.values()):
        auction.start(state, account)
        return "AUCTION", 0, 0
    closed, fee, cooling = ladder.sell_down(state, account)
    account.wait_us = cooled if cooling else 0
    return "SLICE", closed, fee
