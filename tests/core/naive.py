# SPDX-License-Identifier: GPL-3.0-or-later
"""Matching as a rule book would state it: lists, scans and copies, and no cleverness.

The reference for `clearing.core.matching` and `orders`, where margin is ample. It shares no code
with them: a flat list of resting orders, searched for the best one each time. Fill-or-kill is
decided by really matching on a copy of the book.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from clearing.model import ids
from clearing.model.commands import CancelAll, CancelOrder, PlaceOrder, ReplaceOrder

Event = tuple[object, ...]
_OPPOSITE = {ids.BUY: ids.SELL, ids.SELL: ids.BUY}


@dataclass
class Resting:
    order_id: int
    account: int
    owner: int
    command: PlaceOrder
    price: int
    lots: int
    rank: int


@dataclass
class NaiveMarket:
    """`owner_of[account]` says who stands behind an account. Events: ("placed", id, lots),
    ("trade", maker, taker, price, lots), ("cancelled", id, lots, reason), ("replaced", id, price,
    lots, kept), ("rejected", code)."""

    owner_of: dict[int, int]
    resting: list[Resting] = field(default_factory=list)
    position: dict[int, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    next_id: int = 1
    next_rank: int = 1
    budget: int = 0

    def apply(self, account: int, command: object, now: int) -> None:
        """One command; the budget of fills is the caller's to renew per batch."""
        match command:
            case PlaceOrder():
                self._place(account, command, now)
            case CancelOrder():
                order = self._find(account, command.client_order_id)
                if order is None:
                    self.events.append(("rejected", "UNKNOWN_ORDER"))
                else:
                    self._drop(order, "USER")
            case CancelAll():
                for order in sorted(self.resting, key=lambda o: o.rank):
                    if order.account == account:
                        self._drop(order, "USER")
            case ReplaceOrder():
                self._replace(account, command, now)

    def sweep(self, now: int) -> None:
        due = [o for o in self.resting if o.command.expiry_us and o.command.expiry_us <= now]
        for order in sorted(due, key=lambda o: (o.command.expiry_us, o.order_id)):
            self._drop(order, "EXPIRED")

    def _find(self, account: int, client_id: int) -> Resting | None:
        mine = (o for o in self.resting if o.account == account and o.command.client_order_id == client_id)
        return next(mine, None)

    def _drop(self, order: Resting, reason: str) -> None:
        self.resting.remove(order)
        self.events.append(("cancelled", order.order_id, order.lots, reason))

    def _best(self, taker: Resting) -> Resting | None:
        """The opposite order that comes first by price, then by time, if it is within the limit."""
        side = taker.command.side
        sign = 1 if side == ids.BUY else -1
        offers = [o for o in self.resting if o.command.side == _OPPOSITE[side]]
        offers = [o for o in offers if sign * o.price <= sign * taker.price]
        return min(offers, key=lambda o: (sign * o.price, o.rank), default=None)

    def _reducible(self, account: int, side: int) -> int:
        held = self.position.get(account, 0)
        return max(0, held if side == ids.SELL else -held)

    def _place(self, account: int, command: PlaceOrder, now: int) -> None:
        lots = command.size_lots
        if command.tif == ids.GTT and command.expiry_us <= now:
            return self.events.append(("rejected", "INVALID_EXPIRY"))
        if self._find(account, command.client_order_id):
            return self.events.append(("rejected", "DUPLICATE_CLIENT_ORDER_ID"))
        if command.reduce_only:
            lots = min(lots, self._reducible(account, command.side))
            if not lots:
                return self.events.append(("rejected", "REDUCE_ONLY_WOULD_INCREASE"))
        order = Resting(self.next_id, account, self.owner_of[account], command, command.price_atoms, lots, 0)
        if command.post_only and self._best(order):
            return self.events.append(("rejected", "POST_ONLY_WOULD_CROSS"))
        if command.tif == ids.FOK:
            trial = copy.deepcopy(self)
            twin = copy.deepcopy(order)
            trial._match(twin, now)
            if twin.lots:
                return self.events.append(("rejected", "FOK_NOT_FILLABLE"))
        self.next_id += 1
        self.events.append(("placed", order.order_id, lots))
        immediate = command.kind == ids.MARKET or command.tif in (ids.IOC, ids.FOK)
        return self._arrive(order, now, immediate)

    def _arrive(self, order: Resting, now: int, immediate: bool) -> None:
        reason = self._match(order, now)
        if not order.lots:
            return
        if not reason and immediate:
            reason = "IOC"
        if reason:
            self.events.append(("cancelled", order.order_id, order.lots, reason))
            return
        order.rank = self.next_rank
        self.next_rank += 1
        self.resting.append(order)

    def _match(self, taker: Resting, now: int) -> str:
        side = taker.command.side
        while taker.lots:
            maker = self._best(taker)
            if maker is None:
                return ""
            if not self.budget:
                return "FILL_LIMIT"
            self.budget -= 1
            stp = taker.command.stp
            if stp and maker.owner == taker.owner:
                if stp in (ids.STP_CANCEL_MAKER, ids.STP_CANCEL_BOTH):
                    self._drop(maker, "STP")
                if stp in (ids.STP_CANCEL_TAKER, ids.STP_CANCEL_BOTH):
                    return "STP"
                continue
            if maker.command.expiry_us and maker.command.expiry_us <= now:
                self._drop(maker, "EXPIRED")
                continue
            lots = min(maker.lots, taker.lots)
            if maker.command.reduce_only:
                lots = min(lots, self._reducible(maker.account, maker.command.side))
                if not lots:
                    self._drop(maker, "REDUCE_ONLY")
                    continue
            self.events.append(("trade", maker.order_id, taker.order_id, maker.price, lots))
            signed = lots if side == ids.BUY else -lots
            self.position[taker.account] = self.position.get(taker.account, 0) + signed
            self.position[maker.account] = self.position.get(maker.account, 0) - signed
            maker.lots -= lots
            taker.lots -= lots
            if not maker.lots:
                self.resting.remove(maker)
            if taker.command.reduce_only and taker.lots and not self.position[taker.account]:
                return "REDUCE_ONLY"
        return ""

    def _replace(self, account: int, command: ReplaceOrder, now: int) -> None:
        order = self._find(account, command.client_order_id)
        if order is None:
            return self.events.append(("rejected", "UNKNOWN_ORDER"))
        old = order.command
        if old.expiry_us and old.expiry_us <= now:
            return self.events.append(("rejected", "INVALID_EXPIRY"))
        lots = command.size_lots
        if command.price_atoms == order.price and lots <= order.lots:
            order.lots = lots
            return self.events.append(("replaced", order.order_id, order.price, lots, True))
        probe = copy.copy(order)
        probe.price = command.price_atoms
        if old.post_only and self._best(probe):
            return self.events.append(("rejected", "POST_ONLY_WOULD_CROSS"))
        if old.reduce_only:
            lots = min(lots, self._reducible(account, old.side))
            if not lots:
                return self.events.append(("rejected", "REDUCE_ONLY_WOULD_INCREASE"))
        self.resting.remove(order)
        order.price, order.lots = command.price_atoms, lots
        self.events.append(("replaced", order.order_id, order.price, lots, False))
        return self._arrive(order, now, False)
