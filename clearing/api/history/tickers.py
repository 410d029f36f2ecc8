# SPDX-License-Identifier: GPL-3.0-or-later
"""A market at a glance, from the tapes and the state."""

from clearing.api.history.tapes import Tapes
from clearing.api.messages.market import Ticker
from clearing.core.state import InstrumentState, State
from clearing.model import ids

_NEVER = (0, 0)


def _best(inst: InstrumentState, side: int) -> tuple[str | None, str | None]:
    """(price, lots) of the best level."""
    levels = inst.book.sides[side]
    if not levels.keys:
        return None, None
    key = levels.keys[-1]
    lots, order = 0, levels.levels[key].head
    while order is not None:
        lots, order = lots + order.open_lots, order.next
    return str(abs(key)), str(lots)


def _some(value: int) -> str | None:
    """Prices are never 0."""
    return str(value) if value else None


def ticker(tapes: Tapes, seq: int, state: State, inst: InstrumentState) -> Ticker:
    """`seq`: the newest entry of `state`."""
    bid, bid_lots = _best(inst, ids.BUY)
    ask, ask_lots = _best(inst, ids.SELL)
    price, lots = tapes.last.get(inst.id, _NEVER)
    candles = tapes.candles.get(inst.id)
    day = candles.day(state.time_us) if candles is not None else None
    return Ticker(
        instrument=inst.id,
        symbol=inst.spec.symbol,
        seq=seq,
        time_us=state.time_us,
        best_bid_atoms=bid,
        best_bid_lots=bid_lots,
        best_ask_atoms=ask,
        best_ask_lots=ask_lots,
        last_atoms=_some(price or inst.last),
        last_lots=_some(lots),
        mark_atoms=_some(inst.mark),
        index_atoms=_some(inst.index),
        funding_rate_ppm=tapes.rates.get(inst.id),
        open_interest_lots=str(inst.open_interest),
        volume_lots_24h=str(day.volume if day else 0),
        turnover_atoms_24h=str(day.turnover if day else 0),
        high_atoms_24h=_some(day.high if day else 0),
        low_atoms_24h=_some(day.low if day else 0),
        open_atoms_24h=_some(day.open if day else 0),
        trades_24h=day.trades if day else 0,
        halted=inst.halted,
    )
