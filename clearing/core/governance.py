# SPDX-License-Identifier: GPL-3.0-or-later
"""Governed parameters: proposed by a journalled command, in force at an epoch boundary after notice. And what else
only the governor may decide.

Rules:
- A proposal passes `validate` against the live instruments or is refused; it never half-applies.
- Versions ascend by one; the notice period is the one in force, not the proposed one.
- A later proposal replaces a pending one. Parameters change only inside CloseEpoch, before the epoch's
  figures are computed, so that an epoch lies under one parameter hash.
- With a governor in vault 0's genesis, a proposal needs its approval: the hash came in through vault 0's inbox. An
  approval is used once; of more than MAX_APPROVALS the oldest lapses.
- House money beyond the fees leaves only so (ReleaseHouse), within the same checks as any withdrawal.
"""

import msgspec

from clearing.core import adaptive, arrays, collateral
from clearing.core.fees import set_tier
from clearing.core.state import AssetState, State
from clearing.model import ids
from clearing.model.actions import action_hash
from clearing.model.bounds import validate
from clearing.model.commands import ConsumeInbox, ProposeParams, ReleaseHouse
from clearing.model.errors import NovateError
from clearing.model.outcomes import GovernanceApproved, ParamsChanged, ParamsProposed
from clearing.model.params import params_hash, underlyings_of

MAX_APPROVALS = 64


def governor(state: State) -> bytes:
    """Who alone may approve (20 bytes); empty when nobody has to."""
    return state.genesis.vaults[0].governor


def approve(state: State, command: ConsumeInbox) -> str:
    """Take a governance message from an inbox; a code when it does nothing."""
    if command.vault != 0 or not governor(state) or command.owner != governor(state):
        return "NOT_APPROVED"
    state.approvals = [*state.approvals, command.data][-MAX_APPROVALS:]
    state.out.append(GovernanceApproved(command.vault, command.index, command.data))
    return ""


def _is_approved(state: State, command: ProposeParams | ReleaseHouse) -> bool:
    return not governor(state) or action_hash(command) in state.approvals


def _use_approval(state: State, command: ProposeParams | ReleaseHouse) -> None:
    if governor(state):
        state.approvals.remove(action_hash(command))


def propose(state: State, command: ProposeParams) -> str:
    """Take note of new parameters."""
    new = command.params
    if new.version != state.params.version + 1:
        return "PARAMS_VERSION"
    if not state.time_us + state.params.notice_us <= command.effective_us <= ids.MAX_TIME_US:
        return "PARAMS_NOTICE"
    try:
        validate(new, state.specs(), tuple(vault.lanes for vault in state.vaults))
    except NovateError:
        return "PARAMS_OUT_OF_BOUNDS"
    if _drops_underlying(state, command):
        return "PARAMS_OUT_OF_BOUNDS"
    if not _is_approved(state, command):
        return "NOT_APPROVED"
    _use_approval(state, command)
    state.pending = (new, command.effective_us)
    state.out.append(ParamsProposed(new.version, params_hash(new, state.specs()), command.effective_us))
    return ""


def _drops_underlying(state: State, command: ProposeParams) -> bool:
    """An underlying keeps its id, symbol and lot for as long as the deployment lives."""
    listed = {under.symbol: under for under in underlyings_of(command.params, state.specs())}
    for under in state.underlyings.values():
        new = listed.get(under.spec.symbol)
        if new is None or (new.id, new.lots_per_unit) != (under.id, under.spec.lots_per_unit):
            return True
    return False


def release(state: State, command: ReleaseHouse) -> str:
    """Acknowledge house money to the treasury's leaf, as the governor approved it."""
    if not governor(state) or command.account not in (ids.INSURANCE_FUND, ids.OPERATOR_CAPITAL):
        return "HOUSE_LOCKED"
    if not _is_approved(state, command):
        return "NOT_APPROVED"
    lane = state.lane_of(command.vault, command.asset)
    if lane is None:
        return "UNKNOWN_ASSET"
    code = collateral.withdraw_from(state, state.accounts[command.account], lane, command.amount_atoms)
    if not code:
        _use_approval(state, command)
    return code


def enact(state: State) -> None:
    """Put a pending set in force when its time has come. Called by CloseEpoch alone."""
    if state.pending is None or state.pending[1] > state.time_us:
        return
    state.params, state.pending = state.pending[0], None
    for spec in underlyings_of(state.params, state.specs()):
        under = state.symbols.get(spec.symbol)
        if under is None:
            state.add_underlying(spec)
        else:  # the instrument that lent it its id may be delisted since
            under.spec = msgspec.structs.replace(spec, id=under.id)
    for lane, asset in enumerate(state.assets):
        renewed = AssetState(state, state.asset_rules(lane))
        asset.spec, asset.under, asset.reference = renewed.spec, renewed.under, renewed.reference
    for account in state.accounts:
        set_tier(account, state.params)
    for under in state.underlyings.values():
        if not state.params.adaptive.interval_us:
            adaptive.forget(state, under)
        for inst in under.instruments:
            adaptive.scale(under, inst)
        arrays.renew(state, under)  # a preset may have changed
    state.out.append(ParamsChanged(state.params.version, params_hash(state.params, state.specs())))
