# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwards, rates and vols of an underlying's expiries, voted like prices.

Rules:
- A vote names one expiry with listed instruments that has not come yet. Its strikes ascend, its numbers are in
  bounds, and its forward is within `twap_band` x of the index (once there is one), or it is refused.
- Once a quorum is fresh: the forward, its confidence and its age are aggregated as the index is; rate and confidence
  levels are lower medians; the vol of every listed strike is the lower median of each vote's own interpolation
  (linear in strike, flat outside). Publishers need not agree on strikes. One liar among five moves no number beyond
  what honest publishers said.
- A vote that the index has left behind by more than the band no longer counts.
"""

from bisect import bisect_right
from itertools import pairwise

from clearing.core import oracle
from clearing.core.state import ExpiryState, Publisher, State, UnderlyingState
from clearing.model import ids
from clearing.model.commands import OracleUpdate, Surface
from clearing.model.outcomes import SurfaceAccepted

MAX_STRIKES = 512
# 1000 % a year.
MAX_RATE = 10 * ids.UNIT


def vote(
    state: State, publisher: Publisher, command: OracleUpdate, surface: Surface, moved: dict[int, UnderlyingState]
) -> str:
    """Count one surface. Returns "" or the code of the refusal."""
    under = state.underlyings.get(surface.underlying)
    expiry = under.expiries.get(surface.expiry_us) if under is not None else None
    if under is None or expiry is None:
        return "UNKNOWN_INSTRUMENT"
    if expiry.price or expiry.expiry_us <= state.time_us:
        return "INSTRUMENT_EXPIRED"
    code = _check(state, under, expiry, surface)
    if code:
        return code
    publisher.surfaces[under.id, expiry.expiry_us] = (surface, command.time_us)
    if _aggregate(state, under, expiry):
        number = under.id
        state.out.append(SurfaceAccepted(command.publisher, number, expiry.expiry_us, expiry.forward, expiry.rate))
        moved[number] = under
    return ""


def _check(state: State, under: UnderlyingState, expiry: ExpiryState, surface: Surface) -> str:
    forward = surface.forward_atoms
    if not _has_shape(state, surface) or not _is_near(state, under, forward):
        return "INVALID_SURFACE"
    for inst in expiry.instruments:
        if forward * inst.open_interest > ids.MAX_OPEN_NOTIONAL_ATOMS:
            return "INVALID_PRICE"
    return "ORACLE_CONFIDENCE" if oracle.is_uncertain(state, forward, surface.forward_confidence_atoms) else ""


def _has_shape(state: State, surface: Surface) -> bool:
    """Are all of its numbers in order and in bounds?"""
    rules, strikes, vols = state.params.oracle, surface.strikes, surface.vols
    return (
        1 <= len(strikes) == len(vols) <= MAX_STRIKES
        and strikes[0] > 0
        and strikes[-1] <= ids.MAX_PRICE_ATOMS
        and all(low < high for low, high in pairwise(strikes))
        and rules.min_vol <= min(vols)
        and max(vols) <= rules.max_vol
        and 0 < surface.forward_atoms <= ids.MAX_PRICE_ATOMS
        and surface.forward_confidence_atoms > 0
        and -MAX_RATE <= surface.rate <= MAX_RATE
        and 0 <= surface.rate_confidence <= ids.UNIT
        and 0 <= surface.vol_confidence <= ids.UNIT
    )


def _is_near(state: State, under: UnderlyingState, forward: int) -> bool:
    """Is a forward within the band around the index, if there is one?"""
    index, band = under.index, state.params.oracle.twap_band
    return not index or index <= forward * band <= index * band * band


def _aggregate(state: State, under: UnderlyingState, expiry: ExpiryState) -> bool:
    """What the fresh votes agree on; False while there is no quorum of them, or no index yet."""
    found = _fresh_votes(state, under, expiry)
    if len(found) < state.params.oracle_quorum or not under.index:
        return False
    votes = [surface for surface, _ in found]
    forward, distance = oracle.aggregate([(v.forward_atoms, v.forward_confidence_atoms) for v in votes])
    expiry.forward = forward
    expiry.forward_confidence = oracle.level(state, forward, distance)
    expiry.rate = lower_median([v.rate for v in votes])
    expiry.rate_confidence = lower_median([v.rate_confidence for v in votes])
    expiry.vol_confidence = lower_median([v.vol_confidence for v in votes])
    expiry.time_us = max(expiry.time_us, oracle.quorum_time(state, [then for _, then in found]))
    _set_vols(under, expiry, votes)
    return True


def _fresh_votes(state: State, under: UnderlyingState, expiry: ExpiryState) -> list[tuple[Surface, int]]:
    """(vote, time) of those that count, by publisher."""
    oldest, key = state.time_us - state.params.oracle_max_age_us, (under.id, expiry.expiry_us)
    found = []
    for publisher in state.publishers:
        vote = publisher.surfaces.get(key)
        if vote is not None and vote[1] >= oldest and _is_near(state, under, vote[0].forward_atoms):
            found.append(vote)
    return found


def lower_median(values: list[int]) -> int:
    """The middle value, the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]


def _set_vols(under: UnderlyingState, expiry: ExpiryState, votes: list[Surface]) -> None:
    """Vols of the expiry's listed options, 1e-12; a call and a put of one strike share theirs."""
    by_strike: dict[int, int] = {}
    for inst in expiry.instruments:
        if inst.kind == ids.OPTION:
            strike = inst.spec.strike_atoms
            if strike not in by_strike:
                by_strike[strike] = lower_median([vol_at(v.strikes, v.vols, strike) for v in votes])
            under.vols[inst.id] = by_strike[strike]


def vol_at(strikes: tuple[int, ...], vols: tuple[int, ...], strike: int) -> int:
    """Linear in strike between the knots (rounded down), flat outside; 1e-12."""
    right = bisect_right(strikes, strike)
    if right == 0:
        return vols[0]
    if right == len(strikes):
        return vols[-1]
    low, high = strikes[right - 1], strikes[right]
    return vols[right - 1] + (vols[right] - vols[right - 1]) * (strike - low) // (high - low)
