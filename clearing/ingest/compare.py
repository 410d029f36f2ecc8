# SPDX-License-Identifier: GPL-3.0-or-later
"""Did our book trade as the recorded one did?

Rules:
- For every recorded trade of continuous trading the fills of our aggressor are laid beside the recorded
  resting fills. One is reproduced exactly when ours has a fill of the same resting order, price and
  size; each of ours answers for one recorded fill only.
- The place in the list is counted apart (`in_order`: equal at the same place), since a feed's list is not
  always the queue's order: in CME data an order that was refilled from its reserve comes last, and now
  and then one that was filled whole does so too, for which the feed shows no cause.
- Whatever is not reproduced exactly is a disagreement with one reason, the first in `REASONS` that holds.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from clearing.ingest.events import Fill, Trade
from clearing.ingest.plan import Step
from clearing.model.commands import PlaceOrder
from clearing.model.outcomes import (
    OrderCancelled,
    OrderPlaced,
    OrderReplaced,
    Outcome,
    Rejected,
    TradeNovated,
)

REASONS: dict[str, str] = {
    "AGGRESSOR_REFUSED": "our aggressor's order was refused (see refusals)",
    "MAKER_ABSENT": "the resting order was not in our book",
    "HIDDEN_SIZE": "the fill took more than the feed had shown of the order: a reserve that we cannot know",
    "SIZE_DIFFERS": "our aggressor met the order, for another size",
    "PRICE_DIFFERS": "our aggressor met the order at another price",
    "NOT_REACHED": "our aggressor was filled by other orders, or ran dry, before it came to this one",
}


class Disagreement(msgspec.Struct, frozen=True):
    """A recorded resting fill that was not reproduced. `found`: what our aggressor took from that order
    (price, size), if anything."""

    where: int
    time_us: int
    reason: str
    order_id: int
    price_atoms: int
    size_lots: int
    found: tuple[int, int] | None


class _Attempt:
    """Our answer to one recorded trade. `open_lots`: what our book held of each maker just before."""

    __slots__ = ("fills", "open_lots", "trade")

    def __init__(self, trade: Trade, open_lots: dict[int, int]) -> None:
        self.trade = trade
        self.open_lots = open_lots
        self.fills: list[Fill] = []


class Comparison:
    """Reads the outcomes of every entry, in order. Counts are of fills; `listed` is bounded by `keep`."""

    def __init__(self, keep: int = 100) -> None:
        self.fills = 0
        self.source_fills = 0
        self.exact = 0
        self.in_order = 0
        self.unexpected_fills = 0
        self.reasons: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.listed: list[Disagreement] = []
        self._keep = keep
        # Our open orders: our id -> (source id, open lots); and open lots by source id.
        self._orders: dict[int, tuple[int, int]] = {}
        self._open: Counter[int] = Counter()

    def read(self, steps: Sequence[Step], outcomes: Sequence[Outcome]) -> None:
        """Outcomes of one entry and the steps whose commands it carried."""
        refused = [outcome.index for outcome in outcomes if isinstance(outcome, Rejected)]
        takers = _takers(steps, refused, outcomes)
        attempts: dict[int, _Attempt] = {}
        for outcome in outcomes:
            if isinstance(outcome, OrderPlaced):
                trade = takers.get(outcome.order_id)
                if trade is not None:
                    attempts[outcome.order_id] = _Attempt(trade, self._held(trade))
                self._set(outcome.order_id, outcome.client_order_id, outcome.size_lots)
            elif isinstance(outcome, TradeNovated):
                self._fill(outcome, attempts.get(outcome.taker_order_id))
            elif isinstance(outcome, OrderCancelled):
                self._take(outcome.order_id, outcome.open_lots)
            elif isinstance(outcome, OrderReplaced):
                self._set(outcome.order_id, self._orders[outcome.order_id][0], outcome.open_lots)
            elif isinstance(outcome, Rejected):
                self.refusals[outcome.code] += 1
        self._judge_all(steps, refused, list(attempts.values()))

    # --- our own orders ---

    def _held(self, trade: Trade) -> dict[int, int]:
        return {fill.order_id: self._open[fill.order_id] for fill in trade.fills}

    def _set(self, order_id: int, source_id: int, lots: int) -> None:
        _, old = self._orders.get(order_id, (source_id, 0))
        self._orders[order_id] = (source_id, lots)
        self._open[source_id] += lots - old

    def _take(self, order_id: int, lots: int) -> None:
        source_id, old = self._orders[order_id]
        self._open[source_id] -= lots
        if lots < old:
            self._orders[order_id] = (source_id, old - lots)
            return
        del self._orders[order_id]
        if not self._open[source_id]:
            del self._open[source_id]

    def _fill(self, trade: TradeNovated, attempt: _Attempt | None) -> None:
        self.fills += 1
        if attempt is None:
            self.unexpected_fills += 1
        else:
            maker = self._orders[trade.maker_order_id][0]
            attempt.fills.append(Fill(maker, trade.price_atoms, trade.size_lots))
        self._take(trade.maker_order_id, trade.size_lots)
        self._take(trade.taker_order_id, trade.size_lots)

    # --- verdicts ---

    def _judge_all(self, steps: Sequence[Step], refused: list[int], attempts: list[_Attempt]) -> None:
        index = 0
        for step in steps:
            index += len(step.commands)
            if step.trade is None:
                continue
            if index - 1 in refused:
                for fill in step.trade.fills:
                    self.source_fills += 1
                    self._disagree(step.trade, fill, "AGGRESSOR_REFUSED", None)
            else:
                self._judge(attempts.pop(0))

    def _judge(self, attempt: _Attempt) -> None:
        trade, ours = attempt.trade, attempt.fills
        left = Counter((f.order_id, f.price_atoms, f.size_lots) for f in ours)
        for place, fill in enumerate(trade.fills):
            self.source_fills += 1
            wanted = (fill.order_id, fill.price_atoms, fill.size_lots)
            if left[wanted]:
                left[wanted] -= 1
                self.exact += 1
                self.in_order += place < len(ours) and ours[place] == fill
                continue
            met = next((f for f in ours if f.order_id == fill.order_id), None)
            self._disagree(trade, fill, _reason(fill, met, attempt.open_lots[fill.order_id]), met)

    def _disagree(self, trade: Trade, fill: Fill, reason: str, met: Fill | None) -> None:
        self.reasons[reason] += 1
        if len(self.listed) < self._keep:
            found = None if met is None else (met.price_atoms, met.size_lots)
            self.listed.append(
                Disagreement(
                    where=trade.where,
                    time_us=trade.time_us,
                    reason=reason,
                    order_id=fill.order_id,
                    price_atoms=fill.price_atoms,
                    size_lots=fill.size_lots,
                    found=found,
                )
            )


def _takers(steps: Sequence[Step], refused: list[int], outcomes: Sequence[Outcome]) -> dict[int, Trade]:
    """Our order id -> the trade it answers: each accepted PlaceOrder has one OrderPlaced, in order."""
    if all(step.trade is None for step in steps):
        return {}
    placed = iter([outcome.order_id for outcome in outcomes if isinstance(outcome, OrderPlaced)])
    takers: dict[int, Trade] = {}
    index = 0
    for step in steps:
        for command in step.commands:
            if isinstance(command, PlaceOrder) and index not in refused:
                order_id = next(placed)
                if step.trade is not None:
                    takers[order_id] = step.trade
            index += 1
    return takers


def _reason(fill: Fill, met: Fill | None, open_lots: int) -> str:
    if not open_lots:
        return "MAKER_ABSENT"
    if open_lots < fill.size_lots:
        return "HIDDEN_SIZE"
    if met is None:
        return "NOT_REACHED"
    return "SIZE_DIFFERS" if met.price_atoms == fill.price_atoms else "PRICE_DIFFERS"
