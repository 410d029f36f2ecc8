# SPDX-License-Identifier: GPL-3.0-or-later
"""Index prices from signed publishers.

Rules:
- Every validly signed update advances its publisher's hash chain, except one that is dated in the future and does not
  continue it. A bad one is refused with a reason, visibly, and moves nothing. A price is refused when it is not
  positive, too uncertain, beyond the permitted jump from a fresh index, or beyond the permitted multiple of the slow
  mean.
- Once a quorum of votes is fresh, each contributes p - c, p and p + c: the index is the lower median of all of
  them, and its confidence the larger distance to the quartiles (the aggregation of Pyth, whose median of an even
  count is the mean of two). So one liar among five never moves it beyond what honest publishers said. Without a
  quorum a vote is kept and nothing else happens: the index ages, and what needs it fresh is refused.
- The index is as old as the oldest of the newest votes that make a quorum.
- The slow mean (`UnderlyingState.twap`, in 1/1024 atoms) is an EMA over `twap_window_us` of the accepted index. After
  a silence longer than its window it says nothing, and starts again.
- All votes of an update count first; then the marks, margins and arrays of the underlyings it named are
  renewed, in the order of naming. `Rejected.index` counts prices first, then surfaces.
- After a restart there is no gate but age: journal time went on, so that prices are as stale as they are.
"""

from clearing.core import adaptive, expiry, mark, surfaces
from clearing.core.mark import FINE, ema_step
from clearing.core.state import Publisher, State, UnderlyingState
from clearing.model import ids
from clearing.model.commands import OracleUpdate, Price
from clearing.model.outcomes import PriceAccepted, Rejected

# What a publisher says: price, confidence (atoms per lot) and time.
Vote = tuple[int, int, int]


def update(state: State, command: OracleUpdate, body_hash: bytes) -> None:
    """Apply one publisher's update (already authenticated, and newer than its last)."""
    publisher = state.publishers[command.publisher]
    broken = command.prev_hash != publisher.head
    code = _time_is_valid(state, command)
    if not broken or code != "ORACLE_FUTURE":  # its time does not count yet: whoever resends it must break no chain
        publisher.head = body_hash
    if code != "ORACLE_FUTURE":  # a refused update must not come again; a future time must not lock out
        publisher.time_us = command.time_us
    if broken or code:
        state.out.append(Rejected(0, "ORACLE_CHAIN_BROKEN" if broken else code))
        return
    moved: dict[int, UnderlyingState] = {}
    for index, price in enumerate(command.prices):
        code = _vote(state, publisher, command, price, moved)
        if code:
            state.out.append(Rejected(index, code))
    for index, surface in enumerate(command.surfaces, len(command.prices)):
        code = surfaces.vote(state, publisher, command, surface, moved)
        if code:
            state.out.append(Rejected(index, code))
    for under in moved.values():
        mark.renew(state, under)


def _time_is_valid(state: State, command: OracleUpdate) -> str:
    if command.time_us > state.time_us + state.params.oracle_future_us:
        return "ORACLE_FUTURE"
    if command.time_us + state.params.oracle_max_age_us < state.time_us:
        return "ORACLE_TOO_OLD"
    return ""


def _vote(
    state: State, publisher: Publisher, command: OracleUpdate, price: Price, moved: dict[int, UnderlyingState]
) -> str:
    """Count one price. Returns "" or the code of the refusal."""
    under = state.underlyings.get(price.underlying)
    if under is None:
        return "UNKNOWN_INSTRUMENT"
    value, confidence = price.price_atoms, price.confidence_atoms
    if value <= 0 or confidence <= 0:
        return "ORACLE_NOT_POSITIVE"
    code = _bounds(state, under, value, confidence)
    if code:
        return code
    publisher.prices[under.id] = (value, confidence, command.time_us)
    distance = _set_index(state, under)
    if distance >= 0:
        state.out.append(PriceAccepted(command.publisher, under.id, under.index, distance))
        moved[under.id] = under
    return ""


def _bounds(state: State, under: UnderlyingState, value: int, confidence: int) -> str:
    params = state.params
    if value > ids.MAX_PRICE_ATOMS:
        return "INVALID_PRICE"
    for inst in under.instruments:
        if value * inst.open_interest > ids.MAX_OPEN_NOTIONAL_ATOMS:
            return "INVALID_PRICE"
    if is_uncertain(state, value, confidence):
        return "ORACLE_CONFIDENCE"
    index, age = under.index, state.time_us - under.index_time
    if index and age <= params.oracle_max_age_us and abs(value - index) * ids.PPM > params.oracle_max_jump_ppm * index:
        return "ORACLE_JUMP"
    band, mean = params.oracle.twap_band, under.twap
    if index and age <= params.oracle.twap_window_us and not mean <= value * FINE * band <= mean * band * band:
        return "ORACLE_OFF_TREND"
    return ""


def is_uncertain(state: State, value: int, confidence: int) -> bool:
    """Is a confidence wider than permitted? Nobody can be surer than an atom, however cheap the lot."""
    return confidence > 1 and confidence * ids.PPM > state.params.oracle.max_confidence_ppm * value


def aggregate(votes: list[tuple[int, int]]) -> tuple[int, int]:
    """(lower median, larger distance to the quartiles) of p - c, p, p + c over votes (price, confidence).

    Positive for positive prices: no more than a third of the points is below every price.
    """
    points = sorted([point for price, c in votes for point in (price - c, price, price + c)])
    middle = points[(len(points) - 1) // 2]
    quarter = len(points) // 4
    return middle, max(middle - points[quarter], points[-1 - quarter] - middle)


def level(state: State, price: int, distance: int) -> int:
    """Confidence level (1e-12) of a price with this distance to the quartiles: max(0, 1 - scale x c / price)."""
    scaled = distance * state.params.oracle.confidence_scale_ppm * (ids.UNIT // ids.PPM)
    return max(0, ids.UNIT - -(-scaled // price))


def quorum_time(state: State, times: list[int]) -> int:
    """Since when a quorum has said something: the time of the oldest of the newest votes that make one."""
    return sorted(times)[-state.params.oracle_quorum]


def _fresh_votes(state: State, under: UnderlyingState) -> list[Vote]:
    oldest, number = state.time_us - state.params.oracle_max_age_us, under.id
    found = []
    for publisher in state.publishers:
        vote = publisher.prices.get(number)
        if vote is not None and vote[2] >= oldest:
            found.append(vote)
    return found


def _set_index(state: State, under: UnderlyingState) -> int:
    """Aggregate; returns the distance to the quartiles in atoms, or -1 while there is no quorum."""
    votes = _fresh_votes(state, under)
    if len(votes) < state.params.oracle_quorum:
        return -1
    index, distance = aggregate([(price, c) for price, c, _ in votes])
    before = under.index_time
    if under.expiries:
        expiry.accumulate(state, under, under.index, before)
    under.index = index
    under.confidence = level(state, index, distance)
    under.index_time = max(before, quorum_time(state, [vote[2] for vote in votes]))
    window = state.params.oracle.twap_window_us
    passed = under.index_time - before
    if not under.twap or passed > window:
        under.twap = index * FINE
    else:
        under.twap += ema_step(index * FINE - under.twap, passed, window)
    adaptive.sample(state, under)
    return distance
