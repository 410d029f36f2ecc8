# SPDX-License-Identifier: GPL-3.0-or-later
"""The default waterfall: who pays what a defaulter cannot.

Rules:
- A deficit is the part of a negative settlement claim that the account's own collateral does not cover. It goes down
  the tranches in this order, and none is touched while the one before it holds anything:
  DEFAULTER (own pledge, collateral in kind), INSURANCE fund, OPERATOR's capital, DEFAULT_FUND (members'
  pledges, pro rata), GAINS. What is left after them is for ADL while positions are open, and for the wind-down.
- GAINS: variation-margin gains since the last settlement cycle, which is an epoch's close. gain = what a positive claim
  has grown over the account's basis, at most the claim: never principal, never of who did not gain.
- Pro rata shares round down; the atoms that are left over go one each to the first accounts by number that can
  bear them. The shares sum to what is asked.
- One ResolveDeficit takes the money at once, so that nobody leaves in between. If more accounts paid than one entry
  can tell of (300), the next ResolveDeficit commands tell of the rest, in the same order, before anything else.
- Resolvable are flat accounts, the insurance fund, and accounts in default whose book the backstop cannot take. If
  that book can be taken once the tranches have paid, it is, in the same entry: a rebound is not the defaulter's.
- A pledge is cash of the member, excluded from its equity; it counts as far as the member's claim backs it.
"""

from collections.abc import Callable, Sequence

from clearing.core import auction
from clearing.core.backstop import (
    can_take,
    cancel_everything,
    has_positions,
    in_default,
    is_stale,
    take_book,
)
from clearing.core.collateral import seize, uncovered
from clearing.core.margin import assess, equity, headroom
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.commands import Liquidate, PledgeDefaultFund, ResolveDeficit
from clearing.model.outcomes import DefaultFundPledged, GainHaircut, PledgeDrawn, TrancheDrawn

MAX_TOLD_PER_ENTRY = 300
_CANCELS_PER_PAYER = 5


def pro_rata(total: int, weights: Sequence[int]) -> list[int]:
    """Shares of `total` (0..sum of weights) in proportion to the weights, as the module has it."""
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights] if whole else [0] * len(weights)
    left = total - sum(shares)
    for at, weight in enumerate(weights):
        if left and shares[at] < weight:
            shares[at] += 1
            left -= 1
    return shares


# --- the tranches ------------------------------------------------------------------------------


def backed(account: Account) -> int:
    """The part of an account's pledge that its claim backs; atoms."""
    return min(account.pledged, max(0, equity(account))) if account.pledged else 0


def gain(account: Account) -> int:
    """What the account gained since the last epoch and may lose to a haircut; atoms >= 0."""
    claim = equity(account)
    return max(0, min(claim, claim - account.basis))


def _house(state: State, number: int) -> int:
    return max(0, equity(state.accounts[number]))


def pledgers(state: State, debtor: Account) -> list[tuple[Account, int]]:
    """(member, backed pledge), by account number, without the debtor."""
    found = [(account, backed(account)) for account in state.accounts if account.pledged and account is not debtor]
    return [(account, amount) for account, amount in found if amount]


def gainers(state: State, debtor: Account) -> list[tuple[Account, int]]:
    """(member, gain), by account number, without the debtor. A claim changes by touching the account or by
    prices of what it holds, so nobody else has a gain."""
    asked = state.dirty | state.touched
    for inst in state.instruments.values():
        asked.update(inst.holders)
    found = [
        (asked[number], gain(asked[number]))
        for number in sorted(asked)
        if number >= ids.HOUSE_ACCOUNTS and number != debtor.number
    ]
    return [(account, amount) for account, amount in found if amount]


def _sum(payers: Callable[[State, Account], list[tuple[Account, int]]]) -> Callable[[State, Account], int]:
    return lambda state, debtor: sum(amount for _, amount in payers(state, debtor))


# What each tranche of others holds, in order; the fund has no tranche before the operator's.
_HELD: tuple[tuple[int, Callable[[State, Account], int]], ...] = (
    (ids.TRANCHE_INSURANCE, lambda state, debtor: _house(state, ids.INSURANCE_FUND)),
    (ids.TRANCHE_OPERATOR, lambda state, debtor: _house(state, ids.OPERATOR_CAPITAL)),
    (ids.TRANCHE_DEFAULT_FUND, _sum(pledgers)),
    (ids.TRANCHE_GAINS, _sum(gainers)),
)


def hold_anything(state: State, debtor: Account) -> bool:
    """Does any tranche before ADL still hold money for this debtor?"""
    return bool(_own_means(state, debtor)) or any(held(state, debtor) for _, held in _HELD)


def _own_means(state: State, debtor: Account) -> int:
    """Own pledge that is no longer backed, and collateral that the fund can pay for; atoms, as a sign that there is
    something to do."""
    claim = equity(debtor)
    means = debtor.pledged - backed(debtor)
    if debtor.holdings and claim < 0:
        means += min(_house(state, ids.INSURANCE_FUND), max(0, -claim - uncovered(debtor)))
    return means


# --- resolving ---------------------------------------------------------------------------------


def refusal(state: State, debtor: Account, now_us: int) -> str:
    """Why nothing of the account could be resolved, or ""."""
    if debtor.number < ids.HOUSE_ACCOUNTS and debtor.number != ids.INSURANCE_FUND:
        return "NOTHING_TO_RESOLVE"
    if is_stale(state, debtor, now_us):
        return "ORACLE_STALE"
    owes = uncovered(debtor) > 0 or (debtor.pledged > 0 and assess(debtor)[0] < 0 and backed(debtor) < debtor.pledged)
    open_book = has_positions(debtor) and not in_default(state, debtor)
    if not owes or open_book or not hold_anything(state, debtor):
        return "NOTHING_TO_RESOLVE"
    return ""


def resolve(state: State, command: ResolveDeficit) -> str:
    """Take one deficit down the tranches, as far as they reach."""
    if state.cuts:
        _tell(state, MAX_TOLD_PER_ENTRY)
        return ""
    if not 0 <= command.account < len(state.accounts):
        return "UNKNOWN_ACCOUNT"
    debtor = state.accounts[command.account]
    code = refusal(state, debtor, state.time_us)
    if code:
        return code
    state.touched[debtor.number] = debtor
    room = MAX_TOLD_PER_ENTRY - cancel_everything(state, debtor) // _CANCELS_PER_PAYER
    _draw_own(state, debtor)
    for tranche, held in _HELD:
        asked = uncovered(debtor)
        if not asked:
            break
        if tranche != ids.TRANCHE_INSURANCE or debtor.number != ids.INSURANCE_FUND:
            _draw(state, debtor, tranche, asked, held(state, debtor))
    if debtor.number >= ids.HOUSE_ACCOUNTS and has_positions(debtor) and can_take(state, debtor):
        take_book(state, debtor)
        if debtor.auction is not None:
            auction.end(state, debtor, "BACKSTOP")
        debtor.wait_us = 0
    _tell(state, room)
    return ""


def _draw_own(state: State, debtor: Account) -> None:
    """TRANCHE_DEFAULTER: the pledge is written down to what the claim backs, then collateral pays in kind."""
    claim = equity(debtor)
    lost = debtor.pledged - backed(debtor)
    if lost:
        debtor.pledged -= lost
        debtor.set_plain()
        state.out.append(DefaultFundPledged(debtor.number, -lost, debtor.pledged))
    credited = seize(state, debtor, -claim) if debtor.holdings and claim < 0 else 0
    if lost or credited:
        state.touched[ids.INSURANCE_FUND] = state.accounts[ids.INSURANCE_FUND]
        left = _own_means(state, debtor)
        state.out.append(
            TrancheDrawn(debtor.number, ids.TRANCHE_DEFAULTER, lost + max(0, -claim), lost + credited, left)
        )


def _draw(state: State, debtor: Account, tranche: int, asked: int, held: int) -> None:
    """Up to `asked` atoms from a tranche that holds `held`."""
    drawn = min(asked, held)
    if drawn and tranche == ids.TRANCHE_DEFAULT_FUND:
        _from_members(state, tranche, drawn, pledgers(state, debtor))
    elif drawn and tranche == ids.TRANCHE_GAINS:
        _from_members(state, tranche, drawn, gainers(state, debtor))
    elif drawn:
        house = ids.INSURANCE_FUND if tranche == ids.TRANCHE_INSURANCE else ids.OPERATOR_CAPITAL
        payer = state.accounts[house]
        payer.cash -= drawn
        state.touched[house] = payer
    debtor.cash += drawn
    state.out.append(TrancheDrawn(debtor.number, tranche, asked, drawn, held - drawn))


def _from_members(state: State, tranche: int, drawn: int, payers: list[tuple[Account, int]]) -> None:
    """Take their shares now; `_tell` says so."""
    for (account, held), share in zip(payers, pro_rata(drawn, [amount for _, amount in payers]), strict=True):
        if not share:
            continue
        account.cash -= share
        if tranche == ids.TRANCHE_DEFAULT_FUND:
            account.pledged -= share
            account.set_plain()
        state.dirty[account.number] = account
        state.cuts.append((tranche, account.number, held, share))


def _tell(state: State, most: int) -> None:
    """Say who paid, `most` of them now."""
    most = max(1, most)
    told, state.cuts = state.cuts[:most], state.cuts[most:]
    for tranche, number, held, share in told:
        state.touched[number] = state.accounts[number]
        if tranche == ids.TRANCHE_GAINS:
            state.out.append(GainHaircut(number, held, share))
        else:
            state.out.append(PledgeDrawn(number, share, held - share))


# --- the default fund --------------------------------------------------------------------------


def pledge(state: State, account: Account, command: PledgeDefaultFund) -> str:
    """Pledge free cash, or (negative) take a pledge back when default_fund_lock_us have passed since the last one."""
    amount = command.amount_atoms
    if not 0 < abs(amount) <= ids.MAX_AMOUNT_ATOMS:
        return "INVALID_AMOUNT"
    if amount < 0:
        if -amount > account.pledged:
            return "INSUFFICIENT_BALANCE"
        if state.time_us - account.pledge_us < state.params.ladder.default_fund_lock_us:
            return "PLEDGE_LOCKED"
    else:
        if is_stale(state, account, state.time_us):
            return "ORACLE_STALE"
        if min(headroom(account), equity(account) - account.pledged) < amount:
            return "INSUFFICIENT_BALANCE"
        account.pledge_us = state.time_us
    account.pledged += amount
    account.set_plain()
    state.touched[account.number] = account
    state.out.append(DefaultFundPledged(account.number, amount, account.pledged))
    return ""


# --- what is next ------------------------------------------------------------------------------


def debtors(state: State) -> list[Account]:
    """Who may have a deficit that can be resolved: the fund, flat accounts in debt, declared defaulters."""
    found = [state.accounts[ids.INSURANCE_FUND]]
    for account in state.dirty.values():
        flat = account.cash < account.pledged and not has_positions(account)
        if flat and account.number >= ids.HOUSE_ACCOUNTS:
            found.append(account)
    return found + [account for account in state.defaulters.values() if has_positions(account)]


def due(state: State, now_us: int) -> ResolveDeficit | Liquidate | None:
    """What the operator should submit next: a deficit to resolve, or an auction that is over."""
    if len(state.accounts) < ids.HOUSE_ACCOUNTS:
        return None
    if state.cuts:
        return ResolveDeficit(ids.INSURANCE_FUND)
    for account in debtors(state):
        if (uncovered(account) or account.pledged) and not refusal(state, account, now_us):
            return ResolveDeficit(account.number)
    over = auction.due(state, now_us)
    return Liquidate(over) if over is not None else None
