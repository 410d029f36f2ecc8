# SPDX-License-Identifier: GPL-3.0-or-later
"""What would become of an account if it placed some orders now, without placing them.

Rules:
- Nothing of the state changes. Whether an order is taken is asked of the reducer itself (clearing.core.orders.place)
  with a stand-in for the state that stops it where it would begin to change things, and with a copy of the account.
- What an order then fills is read off the book as matching would go through it (clearing.core.matching.match); the
  rest of it rests. So the account after the estimate is the account after the order, if nothing comes in between.
- Several orders count as one batch. The later ones find the book less what the earlier ones took; the checks against
  the breaker's impact and against prices too old to trade on see the book as it is.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from clearing.core import orders
from clearing.core.book import Order
from clearing.core.fees import roll_day
from clearing.core.margin import add_open, assess, headroom
from clearing.core.matching import opposite_limit
from clearing.core.positions import settle_funding
from clearing.core.state import Account, Holding, InstrumentState, Slot, State
from clearing.model import ids
from clearing.model.commands import PlaceOrder
from clearing.model.outcomes import Outcome


class Figures(NamedTuple):
    """Atoms: as clearing.core.margin has them."""

    equity: int
    initial: int
    maintenance: int
    free: int


class Placed(NamedTuple):
    """What became of one order: `code` "" when it was taken. `cost`: what the filled lots cost, atoms; `cancelled`:
    why what was neither filled nor rests was dropped (STP, FILL_LIMIT), or ""."""

    code: str
    filled: int
    resting: int
    cost: int
    fee: int
    cancelled: str


class Outlook(NamedTuple):
    """Before and after, and order by order."""

    before: Figures
    after: Figures
    orders: list[Placed]


class _Taken(Exception):
    """The order passed every check."""


class _Door(list[Outcome]):
    """Where the reducer says that an order is placed: as far as it may go."""

    def append(self, outcome: Outcome) -> None:
        raise _Taken


class _Bystander:
    """The state for reading, with places of its own for what the checks write."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.out = _Door()
        self.next_order_id = state.next_order_id
        self.fills_left = state.params.max_fills_per_entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def copy_of(account: Account) -> Account:
    """An account that may be changed: everything that trading touches is its own, the rest is shared."""
    copied = Account(
        account.number, account.owner, account.sub, account.maker_ppm, account.taker_ppm, account.cash, account.basis
    )
    for name in Account.__slots__:
        setattr(copied, name, getattr(account, name))
    copied.slots = {number: _slot_copy(slot) for number, slot in account.slots.items()}
    copied.orders = {}
    for client, order in account.orders.items():
        slot = copied.slots[order.slot.inst.id]
        copied.orders[client] = Order(
            order.order_id, copied, slot, order.side, order.price, order.open_lots, client, order.stp
        )
    copied.holdings = {lane: Holding(held.asset, held.amount) for lane, held in account.holdings.items()}
    copied.volumes = list(account.volumes)
    return copied


def _slot_copy(slot: Slot) -> Slot:
    copied = Slot(slot.inst)
    for name in Slot.__slots__:
        setattr(copied, name, getattr(slot, name))
    return copied


@dataclass
class _Book:
    """What the orders of the estimate did to a market so far: lots that makers lost, how makers' positions moved, and
    own orders that rest, by side."""

    taken: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    moved: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    own: tuple[list[Order], list[Order]] = field(default_factory=lambda: ([], []))


class _Trial:
    """A batch on a copy of its account."""

    def __init__(self, state: State, account: Account) -> None:
        self._state = state
        self._account = copy_of(account)
        self._stand_in = _Bystander(state)
        self._books: dict[int, _Book] = defaultdict(_Book)

    def figures(self) -> Figures:
        return Figures(*assess(self._account), headroom(self._account))

    def place(self, command: PlaceOrder) -> Placed:
        """One order of the batch."""
        state, account = self._state, self._account
        if state.winding:
            return Placed("WINDING_DOWN", 0, 0, 0, 0, "")
        if account.number < ids.HOUSE_ACCOUNTS:  # the house places no orders
            return Placed("OUT_OF_SCOPE", 0, 0, 0, 0, "")
        try:
            code = orders.place(cast(State, self._stand_in), account, command)
        except _Taken:
            return self._execute(command)
        return Placed(code, 0, 0, 0, 0, "")

    def _execute(self, command: PlaceOrder) -> Placed:
        slot = self._account.slots[command.instrument]
        order = Order(
            self._stand_in.next_order_id, self._account, slot, command.side, command.price_atoms, command.size_lots,
            command.client_order_id, command.stp,
        )  # fmt: skip
        cost, reason = self._match(order, slot.inst)
        filled = command.size_lots - order.open_lots
        resting = 0 if reason else order.open_lots
        if resting:
            add_open(slot, order.side, order.price, resting)
            self._account.orders[order.client_order_id] = order
            self._books[slot.inst.id].own[order.side].append(order)
        return Placed("", filled, resting, cost, order.fee_paid, reason)

    def _match(self, order: Order, inst: InstrumentState) -> tuple[int, str]:
        """(cost of what was filled, why the rest is dropped): as clearing.core.matching.match."""
        book, stand_in, cost = self._books[inst.id], self._stand_in, 0
        for maker in self._makers(order, inst, book):
            while order.open_lots and book.taken[maker.order_id] < maker.open_lots:
                if stand_in.fills_left <= 0:
                    return cost, "FILL_LIMIT"
                stand_in.fills_left -= 2 if maker.oco else 1
                if maker.account.owner is order.account.owner:
                    return cost, "STP"
                lots = min(self._tradable(maker, book), order.open_lots)
                if not lots:
                    book.taken[maker.order_id] = maker.open_lots  # matching drops it
                    break
                self._fill(order, lots, maker.price)
                book.taken[maker.order_id] += lots
                book.moved[maker.account.number] += lots if maker.side == ids.BUY else -lots
                cost += lots * maker.price
            if not order.open_lots:
                break
        return cost, ""

    def _makers(self, order: Order, inst: InstrumentState, book: _Book) -> Iterator[Order]:
        """Resting orders that `order` may trade with, best first and oldest first; own new ones are the youngest."""
        opposite, limit = inst.book.sides[1 - order.side], opposite_limit(order.side, order.price)
        own: dict[int, list[Order]] = defaultdict(list)
        for mine in book.own[1 - order.side]:
            own[mine.price if mine.side == ids.BUY else -mine.price].append(mine)
        for key in sorted({*opposite.keys, *own} if own else opposite.keys, reverse=True):
            if key < limit:
                return
            level = opposite.levels.get(key)
            maker = level.head if level is not None else None
            while maker is not None:
                yield maker
                maker = maker.next
            yield from own.get(key, ())

    def _tradable(self, maker: Order, book: _Book) -> int:
        left = maker.open_lots - book.taken[maker.order_id]
        if maker.expiry_us and maker.expiry_us <= self._state.time_us:
            return 0
        if maker.reduce_only:
            size = maker.slot.size + book.moved[maker.account.number]
            return max(0, min(left, size if maker.side == ids.SELL else -size))
        return left

    def _fill(self, order: Order, lots: int, price: int) -> None:
        """The taker's leg of clearing.core.matching's trade, on the copy."""
        account, slot = self._account, order.slot
        day = self._state.time_us // ids.DAY_US
        if account.day != day:
            roll_day(self._state, account, day)
        account.volume_today += lots * price
        order.fee_acc += lots * price * account.taker_ppm
        total = -(-order.fee_acc // ids.PPM)
        fee, order.fee_paid = total - order.fee_paid, total
        signed = lots if order.side == ids.BUY else -lots
        settle_funding(account, slot)
        account.cash -= signed * price + fee
        slot.size += signed
        order.open_lots -= lots


def estimate(state: State, account: Account, commands: Sequence[PlaceOrder]) -> Outlook:
    """The outlook of a batch of limit orders that cancel the taker rather than trade with their own owner's.

    Client order ids must be free. Costs what the orders' levels cost; changes nothing.
    """
    trial = _Trial(state, account)
    before = trial.figures()
    placed = [trial.place(command) for command in commands]
    return Outlook(before, trial.figures(), placed)
