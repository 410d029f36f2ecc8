# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners, accounts and session keys: who exists and who may sign."""

from clearing.core import arrays
from clearing.core.margin import headroom
from clearing.core.state import Account, Owner, SessionKey, State
from clearing.model import ids
from clearing.model.commands import RegisterKey, RevokeKey, SetMarginMode
from clearing.model.outcomes import AccountOpened, KeyRegistered, KeyRevoked, MarginModeSet


def owner_of(state: State, address: bytes) -> Owner:
    """The owner of an address, given the next number on first need."""
    owner = state.owners.get(address)
    if owner is None:
        count = len(state.vaults)
        owner = Owner(address, len(state.owners), [0] * state.lanes, [0] * state.lanes, [-1] * count, [None] * count)
        state.owners[address] = owner
    return owner


def open_account(state: State, owner: Owner, sub: int) -> Account:
    """A new account with the next global number."""
    tier = state.params.fee_tiers[0]
    account = Account(len(state.accounts), owner, sub, tier.maker_ppm, tier.taker_ppm)
    state.accounts.append(account)
    owner.accounts.append(account)
    state.dirty[account.number] = account
    state.out.append(AccountOpened(account.number, owner.address, sub, owner.number))
    return account


def register(state: State, owner: Owner, action: RegisterKey) -> str:
    """Delegate to a session key. A key is never shared, and a revoked one keeps its used nonces."""
    if len(action.key) != 33 or action.key[0] != ids.KEY_ED25519 or len(action.secret) != 32:
        return "INVALID_KEY"
    if not 0 < action.scope <= ids.SCOPE_ALL:
        return "INVALID_FIELD"
    if not state.time_us < action.expiry_us <= ids.MAX_TIME_US:
        return "INVALID_EXPIRY"
    record = state.keys.get(action.key)
    if record is not None and record.owner is not owner:
        return "INVALID_KEY"
    live = [key for key in owner.keys.values() if not key.revoked and key.expiry_us > state.time_us]
    if record not in live and len(live) >= state.params.max_keys:
        return "KEY_LIMIT"
    if record is None:
        record = SessionKey(action.key, owner, action.scope, action.expiry_us)
        state.keys[action.key] = record
        owner.keys[action.key] = record
    record.scope = action.scope
    record.expiry_us = action.expiry_us
    record.revoked = False
    owner.secret = action.secret
    state.out.append(KeyRegistered(owner.address, action.key, action.scope, action.expiry_us))
    return ""


def revoke(state: State, owner: Owner, action: RevokeKey) -> str:
    record = owner.keys.get(action.key)
    if record is None or record.revoked:
        return "UNKNOWN_KEY"
    record.revoked = True
    state.out.append(KeyRevoked(owner.address, action.key))
    return ""


def set_margin_mode(state: State, account: Account, command: SetMarginMode) -> str:
    """Change how the account is margined, if initial margin holds under the new mode."""
    if command.mode not in (ids.STANDARD, ids.PORTFOLIO):
        return "INVALID_FIELD"
    before = account.mode
    if command.mode == before:
        return ""
    step = 1 if command.mode == ids.PORTFOLIO else -1
    account.mode = command.mode
    account.set_plain()
    state.portfolios += step
    quiet = len(state.out)
    arrays.ensure(state)
    if (account.slots or account.holdings) and headroom(account) < 0:
        account.mode = before
        account.set_plain()
        state.portfolios -= step
        arrays.drop_unneeded(state)
        del state.out[quiet:]
        return "INSUFFICIENT_MARGIN"
    arrays.drop_unneeded(state)
    state.touched[account.number] = account
    state.out.append(MarginModeSet(account.number, command.mode))
    return ""
