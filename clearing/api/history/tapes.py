# SPDX-License-Identifier: GPL-3.0-or-later
"""The tapes: what is kept of the outcomes of entries, and what an entry changed.

Rules:
- `fold` takes entries in order, each once, from `from_seq` on. It costs what the entry's outcomes cost, and looks at
  nothing but them (and the command, when something was rejected): so tapes that were fed live and tapes that were made
  from the journal are the same. Marks are the exception: they are state, and come from `History`.
- Everything is bounded (`Limits`); what is older is in the journal.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clearing.api.history.candles import KEPT, CandleBook
from clearing.api.history.cursor import LAST
from clearing.api.history.orders import SIDES, Known, Orders, Seed
from clearing.api.history.rings import Own, Shared
from clearing.api.history.saved import Row
from clearing.api.messages.market import Funding, Mark, Trade
from clearing.api.messages.member import OF_OWNERS, PARTIES, Fill, OrderStatus, event
from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import decode_any_envelope
from clearing.model.outcomes import Outcome

# A maker's client order id when its placing was not read; `History` looks it up when the fill is asked for.
UNREAD: Final = ""
_WHOLE_BATCH: Final = ("COMMAND_EXPIRED", "WINDING_DOWN")
# Who placed an order that nobody read: (order id) -> its placing, or None.
Resolve = Callable[[int], o.OrderPlaced | o.TriggerPlaced | None]


@dataclass(frozen=True)
class Limits:
    """How much is kept in memory: per market, and over all accounts."""

    trades: int = 10_000
    funding: int = 1_000
    marks: int = 10_000
    candles: int = KEPT
    fills: int = 200_000
    events: int = 100_000
    orders: int = 100_000


@dataclass
class Slice:
    """What a few entries in a row did, after the tapes took it. The replica's state stands after `seq`.

    `trades`, `funding`, `marks`, `listings` by instrument (a mark: the newest); `fills`, `orders`, `events` by account,
    in order, an order once with its newest status. `books`: instruments whose resting orders or trades changed;
    `instruments`: those and all that were priced, listed, halted; `accounts`: all whose orders, balance, margin or
    mode changed. `epochs`: (seq, outcome) of epochs that closed.
    """

    first_seq: int = 0
    seq: int = 0
    time_us: int = 0
    trades: dict[int, list[Trade]] = field(default_factory=lambda: defaultdict(list))
    funding: dict[int, list[Funding]] = field(default_factory=lambda: defaultdict(list))
    marks: dict[int, Mark] = field(default_factory=dict)
    fills: dict[int, list[Fill]] = field(default_factory=lambda: defaultdict(list))
    orders: dict[int, list[OrderStatus]] = field(default_factory=dict)
    events: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    books: set[int] = field(default_factory=set)
    instruments: set[int] = field(default_factory=set)
    listings: set[int] = field(default_factory=set)
    accounts: set[int] = field(default_factory=set)
    epochs: list[tuple[int, o.EpochClosed]] = field(default_factory=list)
    # Underlyings with a new index: seq and time of the newest.
    priced: dict[int, tuple[int, int]] = field(default_factory=dict)
    changed: dict[int, dict[tuple[int, int], Known]] = field(default_factory=lambda: defaultdict(dict))

    def finish(self) -> None:
        """State what orders became; to be done before the next slice."""
        self.orders = {
            account: [known.message() for known in changed.values()] for account, changed in self.changed.items()
        }
        self.accounts.update(self.changed, self.fills, self.events)
        self.instruments |= self.books | self.listings


class Tapes:
    """See the module's rules. `from_seq`: where the reading begins; `seq`: the entry that is due next."""

    def __init__(
        self, from_seq: int = 0, limits: Limits | None = None, seeds: Iterable[Seed] = (),
        symbols: dict[int, str] | None = None, owners: dict[bytes, int] | None = None, resolve: Resolve | None = None,
    ) -> None:  # fmt: skip
        limits = limits or Limits()
        floor = (from_seq - 1, LAST) if from_seq else None
        self.limits = limits
        self.from_seq = self.seq = from_seq
        self.symbols = dict(symbols or {})
        self.owners = {} if owners is None else owners  # whoever else has it finds the same in it
        self.resolve = resolve
        self.orders = Orders(limits.orders, seeds)
        self.trades: Own[Trade] = Own(limits.trades, floor)
        self.funding: Own[Funding] = Own(limits.funding, floor)
        self.fills: Shared[Fill] = Shared(limits.fills, floor)
        self.events: Shared[Any] = Shared(limits.events, floor)
        self.candles: dict[int, CandleBook] = {}
        self.last: dict[int, tuple[int, int]] = {}
        self.rates: dict[int, int] = {}
        # Markets whose candles were saved, and the first entry that is not in them.
        self.counted: dict[int, int] = {}
        # (seq, epoch), oldest first: one per epoch, so that it need not be bounded.
        self.epochs: list[tuple[int, int]] = []
        self._handlers: dict[type, Callable[[Slice, int, int, int, Any], None]] = {
            o.OrderPlaced: self._placed,
            o.TriggerPlaced: self._trigger_placed,
            o.TriggerFired: self._trigger_fired,
            o.OrderCancelled: self._cancelled,
            o.OrderReplaced: self._replaced,
            o.TradeNovated: self._traded,
            o.MarginChanged: self._margin,
            o.FundingApplied: self._funded,
            o.PriceAccepted: self._priced,
            o.SurfaceAccepted: self._priced,
            o.InstrumentListed: self._listed,
            o.InstrumentDelisted: self._marked,
            o.BreakerChanged: self._marked,
            o.EpochClosed: self._closed,
        }
        self._handlers |= dict.fromkeys((*PARTIES, *OF_OWNERS), self._happened)
        self._handlers[o.AccountOpened] = self._opened

    def fold(
        self, seq: int, time_us: int, outcomes: Sequence[Outcome], command: c.Body | bytes, into: Slice
    ) -> None:  # fmt: skip
        """Take the entry `seq`. `command`: what was asked, or the envelope's bytes."""
        assert seq == self.seq, f"entry {seq} came when {self.seq} was due"
        self.seq = seq + 1
        handlers = self._handlers
        for index, outcome in enumerate(outcomes):
            handler = handlers.get(type(outcome))
            if handler is not None:
                handler(into, seq, index, time_us, outcome)
            elif type(outcome) is o.Rejected:
                self._rejected(into, seq, outcome, command)
        into.seq, into.time_us = seq, time_us

    # --- orders ---

    def _changed(self, into: Slice, known: Known) -> None:
        into.changed[known.account][known.order_id, known.client_order_id] = known

    def _placed(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.OrderPlaced) -> None:
        number, account, client, instrument, side, price, lots = (
            outcome.order_id, outcome.account, outcome.client_order_id, outcome.instrument, outcome.side,
            outcome.price_atoms, outcome.size_lots,
        )  # fmt: skip
        known = self.orders.placed(number, account, client, instrument, side, price, lots, seq)
        into.books.add(instrument)
        self._changed(into, known)

    def _trigger_placed(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.TriggerPlaced) -> None:
        known = self.orders.placed(
            outcome.order_id, outcome.account, outcome.client_order_id, outcome.instrument, outcome.side,
            outcome.price_atoms, outcome.size_lots, seq, True,
        )  # fmt: skip
        self._changed(into, known)

    def _trigger_fired(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.TriggerFired) -> None:
        known = self.orders.get(outcome.order_id)
        if known is not None:
            known.seq = seq
            self._changed(into, known)

    def _cancelled(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.OrderCancelled) -> None:
        known = self.orders.get(outcome.order_id)
        if known is not None:
            self.orders.cancelled(known, outcome.open_lots, outcome.reason, seq)
            into.books.add(known.instrument)
            self._changed(into, known)

    def _replaced(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.OrderReplaced) -> None:
        known = self.orders.get(outcome.order_id)
        if known is not None:
            self.orders.replaced(known, outcome.price_atoms, outcome.open_lots, seq)
            into.books.add(known.instrument)
            self._changed(into, known)

    def _rejected(self, into: Slice, seq: int, outcome: o.Rejected, command: c.Body | bytes) -> None:
        body = decode_any_envelope(command)[1] if isinstance(command, bytes) else command
        if not isinstance(body, c.MemberBatch):
            return
        whole = outcome.code in _WHOLE_BATCH  # its index is 0, and nothing of the batch was done
        refused = body.commands if whole else body.commands[outcome.index : outcome.index + 1]
        for asked in refused:
            if isinstance(asked, c.PlaceOrder | c.PlaceTrigger):
                known = Known(
                    0, body.account, asked.client_order_id, asked.instrument, asked.side, asked.price_atoms,
                    asked.size_lots, seq, isinstance(asked, c.PlaceTrigger),
                )  # fmt: skip
                if self.orders.rejected(known, outcome.code):
                    self._changed(into, known)

    # --- trades ---

    def _traded(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.TradeNovated) -> None:
        instrument, price, lots = outcome.instrument, outcome.price_atoms, outcome.size_lots
        maker, taker = self.orders.get(outcome.maker_order_id), self.orders.get(outcome.taker_order_id)
        if taker is not None:
            side = taker.side
        elif maker is not None:
            side = 1 - maker.side
        else:
            side = self._side_of(outcome.taker_order_id)
        text, size, symbol = str(price), str(lots), self.symbols.get(instrument, "")
        trade = Trade(seq, index, time_us, instrument, text, size, SIDES[side])
        self.trades.add(instrument, trade)
        into.trades[instrument].append(trade)
        into.books.add(instrument)
        if not self.counted or seq >= self.counted.get(instrument, 0):
            self._count(instrument, time_us, price, lots)
        made = Fill(
            seq, index, time_us, instrument, symbol, SIDES[1 - side], "maker", text, size,
            str(outcome.maker_fee_atoms), outcome.maker_order_id,
            UNREAD if maker is None else str(maker.client_order_id),
        )  # fmt: skip
        took = Fill(
            seq, index, time_us, instrument, symbol, SIDES[side], "taker", text, size,
            str(outcome.taker_fee_atoms), outcome.taker_order_id,
            UNREAD if taker is None else str(taker.client_order_id),
        )  # fmt: skip
        self.fills.add(outcome.maker_account, made)
        into.fills[outcome.maker_account].append(made)
        self.fills.add(outcome.taker_account, took)
        into.fills[outcome.taker_account].append(took)
        for known in (maker, taker):
            if known is not None:
                self.orders.traded(known, lots, seq)
                self._changed(into, known)

    def restore(self, row: Row) -> None:
        """Go on from a market's candles as they were saved: trades before `row.seq` are in them."""
        book = self.candles[row.instrument] = CandleBook(self.limits.candles)
        book.restore(row.series, row.minutes)
        self.last[row.instrument] = row.last_price, row.last_lots
        if row.rate_ppm is not None:
            self.rates[row.instrument] = row.rate_ppm
        self.counted[row.instrument] = row.seq

    def row(self, instrument: int, entry_hash: bytes) -> Row:
        """A market's candles to be saved, as of now; `entry_hash` of the entry before `seq`."""
        series, minutes = self.candles[instrument].saved()
        price, lots = self.last[instrument]
        return Row(instrument, self.seq, entry_hash, price, lots, self.rates.get(instrument), series, minutes)

    def _count(self, instrument: int, time_us: int, price: int, lots: int) -> None:
        book = self.candles.get(instrument)
        if book is None:
            book = self.candles[instrument] = CandleBook(self.limits.candles)
        book.add(time_us, price, lots)
        self.last[instrument] = price, lots

    def _side_of(self, order_id: int) -> int:
        """Of a taker that was placed before the first entry that was read, and moved since."""
        placed = self.resolve(order_id) if self.resolve is not None else None
        return placed.side if placed is not None else 0

    # --- markets ---

    def _funded(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.FundingApplied) -> None:
        instrument = outcome.instrument
        funding = Funding(
            seq, index, time_us, instrument, outcome.rate_ppm, str(outcome.per_lot_atoms),
            str(outcome.cumulative_atoms),
        )  # fmt: skip
        self.funding.add(instrument, funding)
        self.rates[instrument] = outcome.rate_ppm
        into.funding[instrument].append(funding)
        into.instruments.add(instrument)

    def _priced(
        self, into: Slice, seq: int, index: int, time_us: int, outcome: o.PriceAccepted | o.SurfaceAccepted
    ) -> None:
        into.priced[outcome.underlying] = seq, time_us

    def _listed(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.InstrumentListed) -> None:
        spec = outcome.instrument
        self.symbols[spec.id] = spec.symbol
        into.listings.add(spec.id)

    def _marked(
        self, into: Slice, seq: int, index: int, time_us: int, outcome: o.InstrumentDelisted | o.BreakerChanged
    ) -> None:
        into.listings.add(outcome.instrument)

    def _closed(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.EpochClosed) -> None:
        self.epochs.append((seq, outcome.epoch))
        into.epochs.append((seq, outcome))

    # --- accounts ---

    def _margin(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.MarginChanged) -> None:
        into.accounts.add(outcome.account)

    def _opened(self, into: Slice, seq: int, index: int, time_us: int, outcome: o.AccountOpened) -> None:
        self.owners.setdefault(outcome.owner, outcome.account)
        self._happened(into, seq, index, time_us, outcome)

    def _happened(self, into: Slice, seq: int, index: int, time_us: int, outcome: Any) -> None:
        told = event(seq, index, time_us, outcome)
        names = PARTIES.get(type(outcome))
        if names is None:
            owner = self.owners.get(outcome.owner)
            parties = [] if owner is None else [owner]
        else:
            parties = [getattr(outcome, name) for name in names]
        for account in parties:
            self.events.add(account, told)
            into.events[account].append(told)
