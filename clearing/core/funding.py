# SPDX-License-Identifier: GPL-3.0-or-later
"""Perpetual funding: one cumulative index in atoms per lot, so that payments sum to zero exactly.

rate = clamp(mean premium + interest, +-cap) per interval. The fraction of an atom that a rate
leaves is carried to the next interval.
"""

from clearing.core.state import InstrumentState, State
from clearing.model import ids
from clearing.model.outcomes import FundingApplied


def sample_premium(inst: InstrumentState) -> None:
    """Premium of the book's mid over the index, taken at each accepted price.

    A sample is at most +-100 %: an absurd quote must not outweigh an interval, nor overflow the sum.
    """
    bid, ask = inst.book.best(ids.BUY), inst.book.best(ids.SELL)
    if bid and ask:
        premium = (bid + ask - 2 * inst.index) * ids.PPM // (2 * inst.index)
        inst.premium_sum += max(-ids.PPM, min(ids.PPM, premium))
    inst.premium_count += 1


def tick(state: State) -> str:
    """Apply funding to every instrument whose interval has passed."""
    applied = False
    for inst in state.instruments.values():
        if inst.index and state.time_us - inst.funding_time >= state.params.funding_interval_us:
            _apply(state, inst)
            applied = True
    return "" if applied else "FUNDING_NOT_DUE"


def _apply(state: State, inst: InstrumentState) -> None:
    params = state.params
    premium = inst.premium_sum // inst.premium_count if inst.premium_count else 0
    rate = max(
        -params.funding_cap_ppm,
        min(params.funding_cap_ppm, premium + params.funding_interest_ppm),
    )
    per_lot, inst.funding_carry = divmod(rate * inst.index + inst.funding_carry, ids.PPM)
    inst.funding_index += per_lot
    inst.funding_time = state.time_us
    inst.premium_sum = inst.premium_count = 0
    state.out.append(FundingApplied(inst.id, rate, per_lot, inst.funding_index))
