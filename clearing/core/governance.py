# SPDX-License-Identifier: GPL-3.0-or-later
"""Governed parameters: proposed by a journalled command, in force at an epoch boundary after notice.

Rules:
- A proposal passes `validate` against the live instruments or is refused; it never half-applies.
- Versions ascend by one; the notice period is the one in force, not the proposed one.
- A later proposal replaces a pending one. Parameters change only inside CloseEpoch, before the epoch's
  figures are computed, so that an epoch lies under one parameter hash.
"""

import msgspec

from clearing.core import adaptive, arrays
from clearing.core.fees import set_tier
from clearing.core.state import AssetState, State
from clearing.model import ids
from clearing.model.bounds import validate
from clearing.model.commands import ProposeParams
from clearing.model.errors import NovateError
from clearing.model.outcomes import ParamsChanged, ParamsProposed
from clearing.model.params import params_hash, underlyings_of


def propose(state: State, command: ProposeParams) -> str:
    """Take note of new parameters."""
    new = command.params
    if new.version != state.params.version + 1:
        return "PARAMS_VERSION"
    if not state.time_us + state.params.notice_us <= command.effective_us <= ids.MAX_TIME_US:
        return "PARAMS_NOTICE"
    try:
        validate(new, state.specs(), state.lanes)
    except NovateError:
        return "PARAMS_OUT_OF_BOUNDS"
    if _drops_underlying(state, command):
        return "PARAMS_OUT_OF_BOUNDS"
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
