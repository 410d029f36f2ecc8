# SPDX-License-Identifier: GPL-3.0-or-later
"""Borrowing the settlement asset against collateral.

Rules:
- Debt is a settlement claim below zero of an account that holds collateral. It arises by taking money out
  (here refused above the venue's cap) or by losses (which no cap can refuse, and margin bounds).
- Money may be taken while initial margin holds and all debt stays within borrowing.cap_atoms; 0 is no borrowing
  at all. Who pledged to the default fund does not borrow, nor anybody while losses are uncovered.
- Interest runs from when debt was first seen (`Account.interest_us`): at a withdrawal or transfer, or by a
  charge. interest = ceil(debt x rate x time / year), from cash to the insurance fund; it is settled before
  money moves, and otherwise once per interval.
"""

from clearing.core.margin import equity
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.commands import ChargeInterest
from clearing.model.outcomes import InterestCharged

# Each gives up to two outcomes, of which an entry holds some 700.
MAX_PER_ENTRY = 300


def debt(account: Account) -> int:
    """What the account owes in the settlement asset, atoms >= 0."""
    return max(0, -equity(account))


def borrowers(state: State) -> list[Account]:
    """Members who hold collateral, by account number: who may be in debt."""
    found: dict[int, Account] = {}
    for asset in state.assets:
        found.update(asset.holders)
    return [found[number] for number in sorted(found) if number >= ids.HOUSE_ACCOUNTS]


def total(state: State) -> int:
    """All debt that collateral stands for, atoms."""
    return sum(debt(account) for account in borrowers(state))


def refusal(state: State, account: Account, new_debt: int) -> str:
    """Why the account may not owe `new_debt` (> 0) atoms, or ""."""
    if not state.params.borrowing.cap_atoms or not account.holdings or account.pledged:
        return "INSUFFICIENT_BALANCE"
    others = total(state) - debt(account)
    if state.haircut or others + new_debt > state.params.borrowing.cap_atoms:
        return "BORROW_CAP"
    return ""


def accrued(state: State, account: Account) -> int:
    """Interest since it was last settled, rounded up, atoms."""
    if not account.interest_us:
        return 0
    passed = state.time_us - account.interest_us
    return -(-debt(account) * state.params.borrowing.rate_ppm_per_year * passed // (ids.PPM * ids.YEAR_US))


def settle(state: State, account: Account) -> None:
    """Pay what interest has accrued; to be called before money moves, and `renew` after."""
    interest = accrued(state, account)
    if interest:
        _pay(state, account, interest)
        account.interest_us = state.time_us


def renew(state: State, account: Account) -> None:
    """Start the clock of interest when debt begins, stop it when there is none."""
    owing = bool(account.holdings) and account.number >= ids.HOUSE_ACCOUNTS and debt(account) > 0
    account.interest_us = (account.interest_us or state.time_us) if owing else 0


def _pay(state: State, account: Account, interest: int) -> None:
    owed = debt(account)
    fund = state.accounts[ids.INSURANCE_FUND]
    account.cash -= interest
    fund.cash += interest
    state.touched[account.number] = account
    state.touched[fund.number] = fund
    state.out.append(InterestCharged(account.number, owed, interest))


def _is_due(state: State, account: Account, now_us: int) -> bool:
    waited = not account.interest_us or now_us - account.interest_us >= state.params.borrowing.interval_us
    return waited and debt(account) > 0


def due(state: State, now_us: int) -> ChargeInterest | None:
    """The command that time calls for, if any."""
    if not state.params.borrowing.rate_ppm_per_year:
        return None
    return ChargeInterest() if any(_is_due(state, account, now_us) for account in borrowers(state)) else None


def charge(state: State, command: ChargeInterest) -> str:
    """Settle interest of the borrowers that are due, by account number, as many as an entry holds.

    Debt that is first seen here begins to bear interest now (InterestCharged with 0).
    """
    if due(state, state.time_us) is None:
        return "INTEREST_NOT_DUE"
    left = MAX_PER_ENTRY
    for account in borrowers(state):
        if not left:
            break
        if _is_due(state, account, state.time_us):
            left -= 1
            _pay(state, account, accrued(state, account))
            account.interest_us = state.time_us
        elif account.interest_us and not debt(account):
            account.interest_us = 0
            state.dirty[account.number] = account
    return ""
