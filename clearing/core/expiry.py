# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry: the settlement price of futures and options, and paying out who holds them.

- The settlement price is the mean of the underlying's index over the window before expiry, weighted by the
  microseconds that each index was in force, rounded down.
- An index is in force from its acceptance to the next one, but no longer than `oracle_max_age_us` after its
  time. A gap in which nothing was in force belongs to the next index. So an oracle that fell silent does not
  settle anyone: the first fresh index after it counts for the silence; if the whole window was silent that
  index, accepted at or after expiry, is the price. The same covers a window that began before the first price.
- The price is final as soon as the window is covered to its end. It depends on the votes alone, not on when
  SettleExpiry comes. From then on the mark is the payoff, so paying out changes nobody's equity.
- Payoff per lot: the price (future), max(0, price - strike) (call), max(0, strike - price) (put).
- Trading stops at expiry. SettleExpiry cancels what is still open, then pays holders by account number, as
  many as fit into an entry. Payoffs are whole atoms and positions sum to zero, so nothing is rounded or lost.
"""

from heapq import nsmallest

from clearing.core import arrays
from clearing.core.matching import discard, drop
from clearing.core.positions import drop_slot, fold
from clearing.core.state import ExpiryState, InstrumentState, State, UnderlyingState
from clearing.model import ids
from clearing.model.commands import DelistInstrument, SettleExpiry
from clearing.model.outcomes import ExpiryPriced, PositionSettled
from clearing.model.params import Instrument, Params

# Cancellations and payments of one entry. A payment comes with a MarginChanged.
MAX_SETTLED_PER_ENTRY = 300
# A settled instrument stays listed for so long, so that its holders can look it up.
DELIST_AFTER_US = ids.DAY_US


def payoff(spec: Instrument, price: int) -> int:
    """What one lot is worth when the underlying settles at `price`; atoms >= 0."""
    if spec.kind != ids.OPTION:
        return price
    gain = price - spec.strike_atoms if spec.is_call else spec.strike_atoms - price
    return max(0, gain)


# --- the price ---------------------------------------------------------------------------------


def _accrued(expiry: ExpiryState, params: Params, index: int, index_time_us: int, now_us: int) -> tuple[int, int, int]:
    """(sum of index x microseconds, time until which it is complete, window) with `index` taken up to `now_us`."""
    window = expiry.window_us or params.oracle.expiry_window_us
    since = expiry.twap_us or expiry.expiry_us - window
    until = min(now_us, index_time_us + params.oracle_max_age_us, expiry.expiry_us)
    if not index or until <= since:
        return expiry.twap_sum, since, window
    return expiry.twap_sum + index * (until - since), until, window


def accumulate(state: State, under: UnderlyingState, old_index: int, old_time_us: int) -> None:
    """Let the index that is about to be replaced count for the time it was in force. To be called before every
    change of an underlying's index; makes settlement prices final whose window is over."""
    for expiry in under.expiries.values():
        if not expiry.price:
            _take(state, under, expiry, old_index, old_time_us)


def _take(state: State, under: UnderlyingState, expiry: ExpiryState, index: int, index_time_us: int) -> None:
    total, until, window = _accrued(expiry, state.params, index, index_time_us, state.time_us)
    if until <= (expiry.twap_us or expiry.expiry_us - window):
        return
    expiry.twap_sum, expiry.twap_us, expiry.window_us = total, until, window
    if until == expiry.expiry_us:
        _make_final(state, under, expiry)


def _make_final(state: State, under: UnderlyingState, expiry: ExpiryState) -> None:
    expiry.price = expiry.twap_sum // expiry.window_us
    state.out.append(ExpiryPriced(under.id, expiry.expiry_us, expiry.price))
    for inst in expiry.instruments:
        inst.settle = expiry.price
        inst.mark = payoff(inst.spec, expiry.price)


def _is_covered(expiry: ExpiryState, params: Params, under: UnderlyingState, now_us: int) -> bool:
    """Is the price final, or would the index now in force make it so?"""
    return expiry.price > 0 or _accrued(expiry, params, under.index, under.index_time, now_us)[1] == expiry.expiry_us


def fixed_part(expiry: ExpiryState, under: UnderlyingState, now_us: int) -> tuple[int, int]:
    """(what the running window has fixed of the settlement price, in atoms per lot, rounded down; the share of
    the window that is still open, in 1e-12).

    The expected settlement price is fixed + share x forward: (0, 1e12) before the window, (price, 0) after.
    """
    if expiry.price:
        return expiry.price, 0
    if not expiry.instruments:
        return 0, ids.UNIT
    params = expiry.instruments[0].venue.params
    total, until, window = _accrued(expiry, params, under.index, under.index_time, now_us)
    return total // window, (expiry.expiry_us - until) * ids.UNIT // window


# --- paying out --------------------------------------------------------------------------------


def settle(state: State, command: SettleExpiry) -> str:
    """One step of settling an expired instrument: make its price final, cancel what is open, pay holders."""
    inst = state.instruments.get(command.instrument)
    if inst is None:
        return "UNKNOWN_INSTRUMENT"
    expiry, under = inst.expiry, inst.under
    if expiry is None or state.time_us < expiry.expiry_us:
        return "NOT_EXPIRED"
    if not expiry.price:
        if not _is_covered(expiry, state.params, under, state.time_us):
            return "NOT_EXPIRED"
        _take(state, under, expiry, under.index, under.index_time)
        arrays.renew(state, under)
    elif not _is_used(inst):
        return "NOTHING_TO_RESOLVE"
    left = _cancel_open(state, inst, MAX_SETTLED_PER_ENTRY)
    if left > 0:
        _pay_holders(state, inst, left)
    return ""


def _is_used(inst: InstrumentState) -> bool:
    """Does anybody hold it, or have an order or a trigger in it?"""
    bids, asks = inst.book.sides
    return bool(inst.holders or bids.keys or asks.keys or inst.above or inst.below or inst.fired)


def _cancel_open(state: State, inst: InstrumentState, left: int) -> int:
    """Cancel up to `left` orders (bids, then asks, best first), then triggers; returns what remains of `left`."""
    for side in inst.book.sides:
        while side.keys and left > 0:
            order = side.levels[side.keys[-1]].head
            assert order is not None, "levels are never empty"
            left -= 2 if order.oco else 1
            drop(state, order, "SETTLED")
    while left > 0 and (inst.fired or inst.above or inst.below):
        waiting = inst.above or inst.below
        trigger = inst.fired[0] if inst.fired else state.triggers[waiting[0][1]]
        left -= 2 if trigger.oco else 1
        discard(state, trigger, "SETTLED")
    if left > 0:
        inst.high = inst.low = 0
    return left


def _pay_holders(state: State, inst: InstrumentState, most: int) -> None:
    worth = payoff(inst.spec, inst.settle)
    for number in nsmallest(most, inst.holders):
        account = inst.holders[number]
        slot = account.slots[inst.id]
        size, before = slot.size, account.cash
        fold(account, slot, -size, worth, 0)
        state.out.append(PositionSettled(number, inst.id, size, account.cash - before))
        drop_slot(state, account, inst.id)
        state.touched[number] = account


def due(state: State, now_us: int) -> SettleExpiry | DelistInstrument | None:
    """The next step for an expired instrument: settle it while there is something to do, delist it a day later."""
    for under in state.underlyings.values():
        for expiry in under.expiries.values():
            if expiry.expiry_us > now_us or not _is_covered(expiry, state.params, under, now_us):
                continue
            for inst in expiry.instruments:
                if not expiry.price or _is_used(inst):
                    return SettleExpiry(inst.id)
                if now_us >= expiry.expiry_us + DELIST_AFTER_US:
                    return DelistInstrument(inst.id)
    return None
