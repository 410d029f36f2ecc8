# SPDX-License-Identifier: GPL-3.0-or-later
"""Requirements of accounts that are not plain: options, collateral, a pledge, or portfolio margin.

Standard margin: linear contracts by margin fraction, options by expiry (risk.standard), no offset between
them. Collateral counts after its maintenance haircut; what its initial weight takes beyond that is added to
initial margin.

Portfolio margin: one scan per underlying, summed. Collateral counts whole, and its haircuts are charges: in the
scan of its underlying if the account has anything there, by `addons.collateral_charge` if not. What no risk
array covers yet (an underlying or market that was not priced since it came) is charged on its own: maintenance
as under standard margin, initial at 100 % of notional. So it can be closed, is never liquidated for lack of
data, and lends no leverage until the next vote builds the array.

Both: what fills may do is part of initial margin (its worst subset, with the loss against the mark); a position
whose settlement price is final is money and needs nothing; money pledged to the default fund does not count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from clearing.core import assets
from clearing.core.risk import standard
from clearing.core.risk.addons import collateral_charge, size_imf
from clearing.core.risk.charges import CollateralLine
from clearing.core.risk.portfolio import PortfolioMargin, portfolio_margin
from clearing.core.risk.standard import ExpiryMargin
from clearing.core.state import Account, InstrumentState, UnderlyingState
from clearing.model import ids
from clearing.model.ids import BUY, PPM
from clearing.model.params import Params, StandardMargin


class Ask(NamedTuple):
    """An order as margin sees it, open or only asked about: price in atoms per lot, lots > 0."""

    inst: InstrumentState
    side: int
    price: int
    lots: int


class LinearRow(NamedTuple):
    """A linear contract under standard margin; `initial` over its open orders, with what their fills lose."""

    inst: InstrumentState
    size: int
    initial: int
    maintenance: int


@dataclass(frozen=True)
class ExpiryRow:
    """The options of one expiry under standard margin; `initial` over their open orders, `margin` without.

    Each is computed when it is asked for: an order check never looks at maintenance.
    """

    under: UnderlyingState
    expiry_us: int
    rules: StandardMargin
    spot: int
    lines: list[standard.Line]
    orders: list[standard.Open]

    @cached_property
    def margin(self) -> ExpiryMargin:
        return standard.expiry_margin(self.rules, self.spot, self.lines)

    @property
    def initial(self) -> int:
        if not self.orders:
            return self.margin.initial
        return standard.worst_fill(self.rules, self.spot, self.lines, self.orders)

    @property
    def maintenance(self) -> int:
        return self.margin.maintenance


class ScanRow(NamedTuple):
    """An underlying under portfolio margin: its margin over open orders, with the whole scenario vector."""

    under: UnderlyingState
    margin: PortfolioMargin

    @property
    def initial(self) -> int:
        return self.margin.initial

    @property
    def maintenance(self) -> int:
        return self.margin.maintenance


class Parts(NamedTuple):
    """What an account's requirement consists of; atoms. `collateral_*`: charges on collateral beside the scans."""

    linear: tuple[LinearRow, ...]
    expiries: tuple[ExpiryRow, ...]
    scans: tuple[ScanRow, ...]
    collateral_initial: int
    collateral_maintenance: int

    @property
    def initial(self) -> int:
        total = self.collateral_initial + sum(row.initial for row in self.linear)
        return total + sum(row.initial for row in self.expiries) + sum(row.initial for row in self.scans)

    @property
    def maintenance(self) -> int:
        total = self.collateral_maintenance + sum(row.maintenance for row in self.linear)
        return total + sum(row.maintenance for row in self.expiries) + sum(row.maintenance for row in self.scans)


Held = Iterable[tuple[InstrumentState, int]]


def held(account: Account) -> list[tuple[InstrumentState, int]]:
    """(instrument, signed lots) of every position, in the order of first trades."""
    return [(slot.inst, slot.size) for slot in account.slots.values() if slot.size]


def open_orders(account: Account) -> list[Ask]:
    """All open orders, in the order of placing."""
    return [Ask(order.slot.inst, order.side, order.price, order.open_lots) for order in account.orders.values()]


def counted(account: Account) -> int:
    """What collateral adds to equity, less what is pledged; atoms."""
    value = 0
    if account.holdings:
        whole, maintained, _ = assets.collateral(account)
        value = whole if account.mode == ids.PORTFOLIO else maintained
    return value - account.pledged


def linear_imf(inst: InstrumentState, lots: int) -> int:
    """Initial margin fraction in force for a size, ppm."""
    if lots <= inst.free_lots:
        return inst.imf
    return size_imf(inst.imf, inst.under.spec.size_factor, lots)


def parts(account: Account, positions: Held, orders: Sequence[Ask] = ()) -> Parts:
    """The account's requirement if it had these positions and open orders, in its mode."""
    live = [(inst, size) for inst, size in positions if size and not _is_final(inst)]
    if account.mode == ids.PORTFOLIO:
        return _portfolio(account, live, orders)
    charge = 0
    if account.holdings:
        _, maintained, initial = assets.collateral(account)
        charge = max(0, maintained - initial)
    if not live and not orders:
        return Parts((), (), (), charge, 0)
    rules = (live or orders)[0][0].venue.params.standard
    linear, expiries = _standard(rules, live, orders, 0)
    return Parts(linear, expiries, (), charge, 0)


def _is_final(inst: InstrumentState) -> bool:
    return inst.expiry is not None and inst.expiry.price > 0


# --- standard margin ---------------------------------------------------------------------------


class _Expiry:
    """One expiry's options while they are collected: lines by instrument, and the orders for them."""

    __slots__ = ("lines", "orders", "place", "spot", "under")

    def __init__(self, inst: InstrumentState) -> None:
        assert inst.expiry is not None, "options expire"
        self.under = inst.under
        self.spot = inst.expiry.forward or inst.under.index
        self.place: dict[int, int] = {}
        self.lines: list[standard.Line] = []
        self.orders: list[standard.Open] = []

    def line(self, inst: InstrumentState, size: int) -> int:
        at = self.place.get(inst.id)
        if at is None:
            at = self.place[inst.id] = len(self.lines)
            self.lines.append(standard.Line(inst.spec.strike_atoms, inst.spec.is_call, inst.mark, size))
        return at


class _Linear:
    """One linear contract while it is collected."""

    __slots__ = ("asks", "bids", "inst", "loss", "size")

    def __init__(self, inst: InstrumentState, size: int) -> None:
        self.inst = inst
        self.size = size
        self.bids = self.asks = self.loss = 0

    def add(self, order: Ask) -> None:
        edge = order.price - self.inst.mark
        if order.side == BUY:
            self.bids += order.lots
        else:
            self.asks += order.lots
            edge = -edge
        if edge > 0:
            self.loss += edge * order.lots

    def row(self, floor_ppm: int) -> LinearRow:
        inst, size = self.inst, self.size
        worst = max(size + self.bids, self.asks - size)
        imf = max(linear_imf(inst, worst), floor_ppm)
        maintenance = -(-abs(size) * inst.mark * inst.mmf // PPM)
        return LinearRow(inst, size, self.loss - -worst * inst.mark * imf // PPM, maintenance)


def _standard(
    rules: StandardMargin, live: Held, orders: Sequence[Ask], floor_ppm: int
) -> tuple[tuple[LinearRow, ...], tuple[ExpiryRow, ...]]:
    """Standard margin by contract and by expiry; linear initial margin fractions are at least `floor_ppm`."""
    linear: dict[int, _Linear] = {}
    expiries: dict[tuple[int, int], _Expiry] = {}
    for inst, size in live:
        if inst.kind == ids.OPTION:
            _expiry_of(expiries, inst).line(inst, size)
        else:
            linear[inst.id] = _Linear(inst, size)
    for order in orders:
        inst = order.inst
        if inst.kind == ids.OPTION:
            expiry = _expiry_of(expiries, inst)
            expiry.orders.append(standard.Open(expiry.line(inst, 0), order.side, order.price, order.lots))
        else:
            if inst.id not in linear:
                linear[inst.id] = _Linear(inst, 0)
            linear[inst.id].add(order)
    rows = [
        ExpiryRow(expiry.under, expiry_us, rules, expiry.spot, expiry.lines, expiry.orders)
        for (_, expiry_us), expiry in expiries.items()
    ]
    return tuple(book.row(floor_ppm) for book in linear.values()), tuple(rows)


def _expiry_of(expiries: dict[tuple[int, int], _Expiry], inst: InstrumentState) -> _Expiry:
    key = inst.under.id, inst.spec.expiry_us
    found = expiries.get(key)
    if found is None:
        found = expiries[key] = _Expiry(inst)
    return found


# --- portfolio margin --------------------------------------------------------------------------


class _Book:
    """What an account has in one underlying, as the scan wants it."""

    __slots__ = ("array", "collateral", "orders", "positions", "under")

    def __init__(self, under: UnderlyingState) -> None:
        assert under.array is not None, "only scanned contracts come here"
        self.under = under
        self.array = under.array
        self.positions: list[tuple[int, int]] = []
        self.orders: list[tuple[int, int, int]] = []
        self.collateral: list[CollateralLine] = []

    def add(self, order: Ask) -> None:
        """Equity moves by mark less price; where the mark has moved since the array was built, the price moves
        with it, so that the scan sees that difference and no other."""
        inst, side, price, lots = order
        drift = self.array.columns[self.array.row_of[inst.id]].mark - inst.mark
        self.orders.append((inst.id, lots if side == BUY else -lots, price + drift))


def is_scanned(inst: InstrumentState) -> bool:
    """Does a risk array cover this contract?"""
    under = inst.under
    return under.array is not None and under.market is not None and inst.id in under.array.row_of


def _portfolio(account: Account, live: Held, orders: Sequence[Ask]) -> Parts:
    books: dict[int, _Book] = {}
    bare: list[tuple[InstrumentState, int]] = []
    bare_orders: list[Ask] = []
    venue = None
    for inst, size in live:
        venue = inst.venue
        book = _book_of(books, inst)
        if book is None:
            bare.append((inst, size))
        else:
            book.positions.append((inst.id, size))
    for order in orders:
        venue = order.inst.venue
        book = _book_of(books, order.inst)
        if book is None:
            bare_orders.append(order)
        else:
            book.add(order)
    initial = maintenance = 0
    if account.holdings:
        venue = next(iter(account.holdings.values())).asset.venue
        initial, maintenance = _place_collateral(account, venue.params, books)
    if venue is None:
        return Parts((), (), (), 0, 0)
    stable = assets.stable_price(venue)
    scans = tuple(ScanRow(book.under, _scan(book, venue.params, stable)) for book in books.values())
    linear, expiries = _standard(venue.params.standard, bare, bare_orders, PPM)
    return Parts(linear, expiries, scans, initial, maintenance)


def _book_of(books: dict[int, _Book], inst: InstrumentState) -> _Book | None:
    """The book of the contract's underlying; None if its risk array does not cover the contract."""
    found = books.get(inst.under.id)
    if found is None:
        if not is_scanned(inst):
            return None
        found = books[inst.under.id] = _Book(inst.under)
    return found if inst.id in found.array.row_of else None


def _place_collateral(account: Account, params: Params, books: dict[int, _Book]) -> tuple[int, int]:
    """Hand each asset to the scan of its underlying; (initial, maintenance) charge of those without one."""
    initial = maintenance = 0
    for under, line in assets.lines(account):
        book = books.get(under.id) if under is not None else None
        if book is not None:
            book.collateral.append(line)
            continue
        preset = params.presets[under.spec.preset if under is not None else 0]
        confidence = under.confidence if under is not None else ids.UNIT
        more, needed = collateral_charge(preset.contingency, line, confidence)
        initial += more
        maintenance += needed
    return initial, maintenance


def _scan(book: _Book, params: Params, stable: int) -> PortfolioMargin:
    under = book.under
    assert under.market is not None, "only scanned contracts come here"
    return portfolio_margin(
        params.presets[under.spec.preset],
        book.array,
        under.market,
        book.positions,
        book.collateral,
        stable,
        under.spec.depth_lots,
        book.orders,
    )
