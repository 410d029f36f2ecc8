# SPDX-License-Identifier: GPL-3.0-or-later
"""Breakers: they throttle what an account does to the book, never what the oracle says.

Rules:
- BAND: a buy above index x (1 + band), or a sell below index x (1 - band), is refused. The band follows the index, so
  a move that the oracle leads is never held back.
- IMPACT: within a window takers may trade no further than `impact_ppm` of the index beyond the index, or beyond where
  the mark stood to it when the window began. Whoever leads a book back to an index that has moved is not held back.
- DIVERGED: the mark had to be held at its distance from the index; until they meet only orders are taken that reduce
  a position or lead the book back (a sell while the mark is above the index, a buy while it is below): else whoever
  put the quotes there could keep a market closed.
- A number of zero switches a rule off. Every change of a market's state is an outcome; changes share an entry's budget
  with triggers, and what has no room changes with the next vote (the mark is held at once).
"""

from clearing.core.state import Account, InstrumentState, State
from clearing.model import ids
from clearing.model.outcomes import BreakerChanged


def note(state: State, inst: InstrumentState, diverged: bool) -> None:
    """After a mark was renewed: take note of whether it was held (and say so when that changed), and open a new
    window for IMPACT when the last one is over. Votes alone move these; an order that is refused changes nothing."""
    kind = "DIVERGED" if diverged else ""
    if kind != inst.breaker and state.fills_left > 0:
        state.fills_left -= 1
        inst.breaker = kind
        state.out.append(BreakerChanged(inst.id, kind or "NONE", inst.mark, inst.index))
    if state.time_us >= inst.impact_us + state.params.breaker.window_us:
        inst.impact_us, inst.impact_basis = state.time_us, inst.mark - inst.index


def order_code(state: State, inst: InstrumentState, account: Account, side: int, price: int, lots: int) -> str:
    """ "" or why an order of `lots` at `price` is refused here."""
    rules = state.params.breaker
    if inst.breaker and not _leads_back(inst, side) and not _reduces(account, inst, side, lots):
        return "ORACLE_DIVERGED"
    if inst.kind == ids.OPTION:
        return ""
    sign = 1 if side == ids.BUY else -1
    band = inst.index * rules.band_ppm // ids.PPM
    if rules.band_ppm and sign * (price - inst.index) > band:
        return "OUTSIDE_PRICE_BAND"
    if rules.impact_ppm and _crosses(inst, side, price):
        reach = inst.index * rules.impact_ppm // ids.PPM
        if sign * (price - inst.index) > reach + max(0, sign * inst.impact_basis):
            return "OUTSIDE_PRICE_BAND"
    return ""


def _leads_back(inst: InstrumentState, side: int) -> bool:
    return inst.mark > inst.index if side == ids.SELL else inst.mark < inst.index


def _reduces(account: Account, inst: InstrumentState, side: int, lots: int) -> bool:
    """Together with what waits on its side: several orders must not turn a position round either."""
    slot = account.slots.get(inst.id)
    if slot is None:
        return False
    left = slot.size - slot.sell_lots if side == ids.SELL else -slot.size - slot.buy_lots
    return 0 < lots <= left


def _crosses(inst: InstrumentState, side: int, price: int) -> bool:
    best = inst.book.best(1 - side)
    return bool(best) and (price >= best if side == ids.BUY else price <= best)
