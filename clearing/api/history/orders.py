# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of every order: those that are open, and the newest of those that are not.

Rules:
- An order is known from its placing, or, when it was placed before the entries that were read, from the state that
  the entries lead to (`Seed`): then place, fills and size before are not known (None).
- A client order id names the newest order with it. A refusal as DUPLICATE_CLIENT_ORDER_ID says nothing of the order
  that is open under the id, and is not recorded.
- Orders of the venue (liquidation, forced exit) have client order id 0 and cannot be asked for.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from clearing.api.messages.market import SideName
from clearing.api.messages.member import OrderState, OrderStatus
from clearing.core.state import State
from clearing.model import ids

SIDES: tuple[SideName, SideName] = ("buy", "sell")


class Seed(NamedTuple):
    """An order or trigger of the state."""

    order_id: int
    account: int
    client_order_id: int
    instrument: int
    side: int
    price: int
    open_lots: int
    is_trigger: bool


def seeds_of(state: State) -> list[Seed]:
    """Everything that is open."""
    found = [
        Seed(o.order_id, o.account.number, o.client_order_id, o.slot.inst.id, o.side, o.price, o.open_lots, False)
        for o in state.orders.values()
    ]
    found += [
        Seed(t.order_id, t.account.number, t.client_order_id, t.instrument, t.side, t.price, t.lots, True)
        for t in state.triggers.values()
    ]
    return found


class Known:
    """An order as far as it is known; changed in place."""

    __slots__ = (
        "account", "client_order_id", "filled", "instrument", "is_trigger", "open_lots", "order_id", "place_seq",
        "price", "reason", "seq", "side", "status",
    )  # fmt: skip

    def __init__(
        self, order_id: int, account: int, client_order_id: int, instrument: int, side: int, price: int, open_lots: int,
        seq: int | None, is_trigger: bool, filled: int | None = 0,
    ) -> None:  # fmt: skip
        self.order_id = order_id
        self.account = account
        self.client_order_id = client_order_id
        self.instrument = instrument
        self.side = side
        self.price = price
        self.open_lots = open_lots
        self.filled = filled
        self.seq = self.place_seq = seq
        self.is_trigger = is_trigger
        self.status: OrderState = "open"
        self.reason: str | None = None

    def message(self) -> OrderStatus:
        """As it is sent."""
        filled, left = self.filled, self.open_lots if self.status == "open" else 0
        return OrderStatus(
            self.status,
            str(self.client_order_id),
            self.order_id or None,
            self.account,
            self.instrument,
            SIDES[self.side] if 0 <= self.side <= ids.SELL else None,
            str(self.price),
            None if filled is None else str(filled + self.open_lots),
            None if filled is None else str(filled),
            str(left),
            self.reason,
            self.seq,
            self.place_seq,
            self.is_trigger,
        )


class Orders:
    """Open orders by id, and what is known of those that ended, at most `most` of them."""

    def __init__(self, most: int, seeds: Iterable[Seed] = ()) -> None:
        self.open: dict[int, Known] = {}
        self._most = most
        self._ended: deque[Known] = deque()
        self._by_client: dict[tuple[int, int], Known] = {}
        self._seeds = {seed.order_id: seed for seed in seeds}

    def get(self, order_id: int) -> Known | None:
        """An open order."""
        known = self.open.get(order_id)
        if known is None and self._seeds:
            seed = self._seeds.get(order_id)
            known = self._from_seed(seed) if seed is not None else None
        return known

    def by_client(self, account: int, client_order_id: int) -> Known | None:
        """The newest order with this id."""
        return self._by_client.get((account, client_order_id))

    def placed(
        self, order_id: int, account: int, client_order_id: int, instrument: int, side: int, price: int, lots: int,
        seq: int, is_trigger: bool = False,
    ) -> Known:  # fmt: skip
        """A new order; or one whose trigger has fired, and that goes on under its id."""
        known = self.open.get(order_id)
        if known is not None:
            known.is_trigger, known.price, known.open_lots, known.seq = False, price, lots, seq
            return known
        known = Known(order_id, account, client_order_id, instrument, side, price, lots, seq, is_trigger)
        self._add(known)
        return known

    def traded(self, known: Known, lots: int, seq: int) -> None:
        """A part of it was filled."""
        known.seq = seq
        known.open_lots -= lots
        if known.filled is not None:
            known.filled += lots
        # Until `reconcile`, what is open of an order from a seed is not known; and it does not end before.
        if not known.open_lots and (known.filled is not None or not self._seeds):
            self._end(known, "filled", None)

    def cancelled(self, known: Known, open_lots: int, reason: str, seq: int) -> None:
        """The rest of it is gone; `open_lots` goes on to say how much that was."""
        known.seq, known.open_lots = seq, open_lots
        self._end(known, "rejected" if reason == "REJECTED" else "cancelled", reason)

    def replaced(self, known: Known, price: int, open_lots: int, seq: int) -> None:
        """It has a new price and a new open size."""
        known.seq, known.price, known.open_lots = seq, price, open_lots

    def rejected(self, known: Known, code: str) -> bool:
        """An order was refused. Whether that is the last word on its client order id."""
        before = self.by_client(known.account, known.client_order_id)
        if code == "DUPLICATE_CLIENT_ORDER_ID" or (before is not None and before.status == "open"):
            return False
        if known.client_order_id <= 0:
            return False
        self._by_client[known.account, known.client_order_id] = known
        self._end(known, "rejected", code)
        return True

    def reconcile(self) -> None:
        """The entries that lead to the seeds are all read: what is open is what the seeds say. Orders that were placed
        before them, and whose last part was filled, did not say so."""
        for seed in self._seeds.values():
            known = self.open.get(seed.order_id) or self._from_seed(seed)
            if known.filled is None:
                known.price, known.open_lots, known.is_trigger = seed.price, seed.open_lots, seed.is_trigger
        self._seeds = {}

    def _from_seed(self, seed: Seed) -> Known:
        number, account, client, instrument, side, price, lots, is_trigger = seed
        known = Known(number, account, client, instrument, side, price, lots, None, is_trigger, None)
        self._add(known)
        return known

    def _add(self, known: Known) -> None:
        self.open[known.order_id] = known
        if known.client_order_id > 0:
            self._by_client[known.account, known.client_order_id] = known

    def _end(self, known: Known, status: OrderState, reason: str | None) -> None:
        known.status, known.reason = status, reason
        self.open.pop(known.order_id, None)
        self._ended.append(known)
        if len(self._ended) > self._most:
            gone = self._ended.popleft()
            key = gone.account, gone.client_order_id
            if self._by_client.get(key) is gone:
                del self._by_client[key]
