# SPDX-License-Identifier: GPL-3.0-or-later
"""Index price from signed publishers, and the mark price derived from it.

The index is the lower median of the publishers' fresh prices, once a quorum is fresh. Every
validly signed update advances its publisher's hash chain; a bad one is refused with a reason,
visibly, and moves no price.
"""

from clearing.core.funding import sample_premium
from clearing.core.state import InstrumentState, Publisher, State
from clearing.model import ids
from clearing.model.commands import OracleUpdate, Price
from clearing.model.outcomes import PriceAccepted, Rejected


def update(state: State, command: OracleUpdate, body_hash: bytes) -> None:
    """Apply one publisher's update (already authenticated, and newer than its last)."""
    publisher = state.publishers[command.publisher]
    broken = command.prev_hash != publisher.head
    publisher.head = body_hash
    code = _time_is_valid(state, command)
    if code != "ORACLE_FUTURE":  # a refused update must not come again; a future time must not lock out
        publisher.time_us = command.time_us
    if broken or code:
        state.out.append(Rejected(0, "ORACLE_CHAIN_BROKEN" if broken else code))
        return
    for index, price in enumerate(command.prices):
        code = _vote(state, publisher, command, price)
        if code:
            state.out.append(Rejected(index, code))


def _time_is_valid(state: State, command: OracleUpdate) -> str:
    if command.time_us > state.time_us + state.params.oracle_future_us:
        return "ORACLE_FUTURE"
    if command.time_us + state.params.oracle_max_age_us < state.time_us:
        return "ORACLE_TOO_OLD"
    return ""


def _vote(state: State, publisher: Publisher, command: OracleUpdate, price: Price) -> str:
    inst = state.instruments.get(price.instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    value = price.price_atoms
    if value <= 0 or price.confidence_atoms <= 0:
        return "ORACLE_NOT_POSITIVE"
    if value > ids.MAX_PRICE_ATOMS or value * inst.open_interest > ids.MAX_OPEN_NOTIONAL_ATOMS:
        return "INVALID_PRICE"
    fresh_index = inst.index and inst.index_time + state.params.oracle_max_age_us >= state.time_us
    if fresh_index and abs(value - inst.index) * ids.PPM > state.params.oracle_max_jump_ppm * inst.index:
        return "ORACLE_JUMP"
    publisher.prices[inst.id] = (value, command.time_us)
    _set_index(state, inst, command)
    return ""


def _set_index(state: State, inst: InstrumentState, command: OracleUpdate) -> None:
    oldest = state.time_us - state.params.oracle_max_age_us
    votes = sorted(
        vote[0] for vote in (p.prices.get(inst.id) for p in state.publishers) if vote is not None and vote[1] >= oldest
    )
    if len(votes) < state.params.oracle_quorum:
        return
    inst.index = votes[(len(votes) - 1) // 2]
    inst.mark = inst.index
    inst.index_time = max(inst.index_time, command.time_us)
    if not inst.funding_time:
        inst.funding_time = state.time_us
    sample_premium(inst)
    state.out.append(PriceAccepted(command.publisher, inst.id, inst.index, inst.mark))
