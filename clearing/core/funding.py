# SPDX-License-Identifier: GPL-3.0-or-later
"""Perpetual funding: one cumulative index in atoms per lot, so that payments sum to zero exactly.

rate = clamp(mean premium + interest, +-cap) per interval, the cap being the governed one and never more than
6 x (IMF - MMF) per 8 hours, by the fractions as listed: adaptive margin does not loosen it. The fraction of an atom
that a rate leaves is carried to the next interval.
"""

from clearing.core.state import InstrumentState, State
from clearing.model import ids
from clearing.model.commands import FundingTick
from clearing.model.outcomes import FundingApplied

EIGHT_HOURS_US = 8 * 3_600_000_000
# What an entry has room for; the rest stays due.
MAX_FUNDED_PER_ENTRY = 1_000


def sample_premium(inst: InstrumentState) -> None:
    """Premium of the book's mid over the index, taken at each accepted price.

    A sample is at most +-100 %: an absurd quote must not outweigh an interval, nor overflow the sum. The quotes of a
    halted market, which nobody can answer, are no premium.
    """
    bid, ask = inst.book.best(ids.BUY), inst.book.best(ids.SELL)
    if bid and ask and not inst.halted:
        premium = (bid + ask - 2 * inst.index) * ids.PPM // (2 * inst.index)
        inst.premium_sum += max(-ids.PPM, min(ids.PPM, premium))
    inst.premium_count += 1


def _is_due(state: State, inst: InstrumentState, now_us: int) -> bool:
    if inst.kind != ids.PERPETUAL or not inst.index:
        return False
    return now_us - inst.funding_time >= state.params.funding_interval_us


def due(state: State, now_us: int) -> FundingTick | None:
    """The tick that is due at `now_us`."""
    return FundingTick() if any(_is_due(state, inst, now_us) for inst in state.instruments.values()) else None


def tick(state: State, command: FundingTick) -> str:
    """Apply funding to every perpetual whose interval has passed, in the order of listing, as many as fit."""
    ready = [inst for inst in state.instruments.values() if _is_due(state, inst, state.time_us)]
    for inst in ready[:MAX_FUNDED_PER_ENTRY]:
        _apply(state, inst)
    return "" if ready else "FUNDING_NOT_DUE"


def cap_ppm(state: State, inst: InstrumentState) -> int:
    """The largest rate of one interval, ppm of the index."""
    spread = inst.spec.imf_ppm - inst.spec.mmf_ppm
    by_margin = 6 * spread * state.params.funding_interval_us // EIGHT_HOURS_US
    return min(state.params.funding_cap_ppm, by_margin)


def _apply(state: State, inst: InstrumentState) -> None:
    premium = inst.premium_sum // inst.premium_count if inst.premium_count else 0
    cap = cap_ppm(state, inst)
    rate = max(-cap, min(cap, premium + state.params.funding_interest_ppm))
    per_lot, inst.funding_carry = divmod(rate * inst.index + inst.funding_carry, ids.PPM)
    inst.funding_index += per_lot
    inst.funding_time = state.time_us
    inst.premium_sum = inst.premium_count = 0
    state.out.append(FundingApplied(inst.id, rate, per_lot, inst.funding_index))
