# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be subscribed to: one topic per channel and key, with its subscribers.

Rules:
- A topic exists while it has subscribers. All of them get the same bytes: a delta is encoded once. So whoever comes
  gets a snapshot of what the others were told, after what was not told yet went out to them: from then on the same
  delta continues all.
- `flush` and `snapshot` read the replica's state: they are called between entries, when the state is whole.
- `interval_s` is the least time between deltas; what happens in between is told together.
- A fault on our side is a reset, never a gap: subscribers hear `reset` and get a new snapshot.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from clearing.api.history import Slice
from clearing.api.http.shown import shown
from clearing.api.messages import frames as f
from clearing.api.messages.market import Funding, Mark, Trade
from clearing.api.messages.member import Fill, OrderStatus
from clearing.api.stream.backfill import Backfill
from clearing.api.stream.outbox import Outbox
from clearing.api.stream.protocol import framed
from clearing.service import views

if TYPE_CHECKING:
    from clearing.api.stream.hub import Hub

LATEST: Final = 50
encode: Final = msgspec.json.Encoder().encode


class Topic:
    """One channel of one instrument, account or the venue (key 0)."""

    channel: f.Channel
    interval_s = 0.0

    def __init__(self, hub: "Hub", key: int) -> None:
        self.hub = hub
        self.key = key
        self.outboxes: dict[object, Outbox] = {}
        self.due = 0.0
        self.lost: str | None = None
        self.seq = hub.seq

    # --- what a channel says ---

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        """The snapshot, at `self.seq`."""
        raise NotImplementedError

    def change(self, seq: int) -> msgspec.Struct | None:
        """What changed since `self.seq`, at `seq`; it is told once. None for nothing."""
        raise NotImplementedError

    def take(self, events: Slice) -> None:
        """Note what a slice of entries says of this topic."""

    # --- subscribers ---

    def mark(self) -> None:
        """Have it flushed soon."""
        self.hub.mark(self)

    def join(self, who: object, outbox: Outbox, backfill: Backfill | None = None) -> None:
        """Send a snapshot, and from then on every delta."""
        if not self.outboxes:
            self.change(self.hub.seq)
            self.seq = self.hub.seq
        self.flush(self.hub.now())
        outbox.put(self.snapshot(backfill))
        self.outboxes[who] = outbox

    def snapshot(self, backfill: Backfill | None = None) -> bytes:
        """The frame."""
        return framed(encode(self.told(backfill)))

    def flush(self, now: float) -> None:
        """Tell the subscribers what they have not been told."""
        if self.lost is not None:
            self.reset()
            return
        seq = self.hub.seq
        change = self.change(seq)
        if change is None:
            return
        self.seq = seq
        self.due = now + self.interval_s
        self._send(framed(encode(change)))

    def reset(self) -> None:
        """Begin anew."""
        reason, self.lost = self.lost or "RESET", None
        self.change(self.hub.seq)  # what waited is in the snapshot
        self.seq = self.hub.seq
        self._send(framed(encode(f.Reset(self.channel, reason, **self.place()))))
        self._send(self.snapshot())

    def place(self) -> dict[str, int]:
        """The fields that name its key."""
        return {}

    def _send(self, frame: bytes) -> None:
        for outbox in tuple(self.outboxes.values()):
            outbox.put(frame)


class _OfInstrument(Topic):
    def place(self) -> dict[str, int]:
        return {"instrument": self.key}


class BookTopic(_OfInstrument):
    """Price levels; the snapshot is encoded once until the book moves."""

    channel = "book"
    interval_s = 0.02

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        hub.books.take(key)
        self._kept: tuple[int, bytes] | None = None

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.BookSnapshot(seq=self.seq, instrument=self.key, data=self.hub.books.snapshot(self.key))

    def snapshot(self, backfill: Backfill | None = None) -> bytes:
        if self._kept is None or self._kept[0] != self.seq:
            self._kept = self.seq, super().snapshot()
        return self._kept[1]

    def change(self, seq: int) -> msgspec.Struct | None:
        data = self.hub.books.take(self.key)
        if not data.bids and not data.asks:
            return None
        return f.BookDelta(seq=seq, prev_seq=self.seq, instrument=self.key, data=data)


class TradesTopic(_OfInstrument):
    channel = "trades"
    interval_s = 0.02

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._items: list[Trade] = []

    def take(self, events: Slice) -> None:
        found = events.trades.get(self.key)
        if found:
            self._items += found
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        found = backfill is not None and not backfill.gap
        items = backfill.items if backfill is not None and found else self.hub.history.latest_trades(self.key, LATEST)
        gap = backfill is not None and backfill.gap
        return f.TradesSnapshot(seq=self.seq, instrument=self.key, gap=gap, data=f.TradesData(items))

    def change(self, seq: int) -> msgspec.Struct | None:
        items, self._items = self._items, []
        if not items:
            return None
        return f.TradesDelta(seq=seq, prev_seq=self.seq, instrument=self.key, data=f.TradesData(items))


class FundingTopic(_OfInstrument):
    channel = "funding"

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._items: list[Funding] = []

    def take(self, events: Slice) -> None:
        found = events.funding.get(self.key)
        if found:
            self._items += found
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        found = backfill is not None and not backfill.gap
        items = backfill.items if backfill is not None and found else self.hub.history.latest_funding(self.key, LATEST)
        gap = backfill is not None and backfill.gap
        return f.FundingSnapshot(seq=self.seq, instrument=self.key, gap=gap, data=f.FundingData(items))

    def change(self, seq: int) -> msgspec.Struct | None:
        items, self._items = self._items, []
        if not items:
            return None
        return f.FundingDelta(seq=seq, prev_seq=self.seq, instrument=self.key, data=f.FundingData(items))


class TickerTopic(_OfInstrument):
    """The whole ticker. An instrument that is delisted says nothing any more."""

    channel = "ticker"
    interval_s = 0.25

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._moved = False

    def take(self, events: Slice) -> None:
        if self.key in events.instruments:
            self._moved = True
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        ticker = self.hub.history.ticker(self.key)
        assert ticker is not None, "only listed instruments are subscribed to"
        return f.TickerSnapshot(seq=self.seq, instrument=self.key, data=ticker)

    def change(self, seq: int) -> msgspec.Struct | None:
        moved, self._moved = self._moved, False
        ticker = self.hub.history.ticker(self.key) if moved else None
        return None if ticker is None else f.TickerDelta(seq=seq, prev_seq=self.seq, instrument=self.key, data=ticker)


class MarkTopic(_OfInstrument):
    channel = "mark"
    interval_s = 0.1

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._mark: Mark | None = None

    def take(self, events: Slice) -> None:
        found = events.marks.get(self.key)
        if found is not None:
            self._mark = found
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.MarkSnapshot(seq=self.seq, instrument=self.key, data=self.hub.history.mark(self.key))

    def change(self, seq: int) -> msgspec.Struct | None:
        mark, self._mark = self._mark, None
        return None if mark is None else f.MarkDelta(seq=seq, prev_seq=self.seq, instrument=self.key, data=mark)


class InstrumentsTopic(Topic):
    channel = "instruments"
    interval_s = 0.1

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._changed: set[int] = set()

    def take(self, events: Slice) -> None:
        if events.listings:
            self._changed |= events.listings
            self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        return f.InstrumentsSnapshot(seq=self.seq, data=self._data(set(self.hub.replica.state.instruments)))

    def change(self, seq: int) -> msgspec.Struct | None:
        changed, self._changed = self._changed, set()
        return f.InstrumentsDelta(seq=seq, prev_seq=self.seq, data=self._data(changed)) if changed else None

    def _data(self, numbers: set[int]) -> f.InstrumentsData:
        listed = self.hub.replica.state.instruments
        rows = [shown(views.instrument(listed[number])) for number in sorted(numbers) if number in listed]
        return f.InstrumentsData(rows, sorted(number for number in numbers if number not in listed))


class AccountTopic(Topic):
    channel = "account"
    interval_s = 0.02

    def __init__(self, hub: "Hub", key: int) -> None:
        super().__init__(hub, key)
        self._touched = False
        self._orders: dict[tuple[int | None, str], OrderStatus] = {}
        self._fills: list[Fill] = []
        self._events: list[Any] = []

    def place(self) -> dict[str, int]:
        return {"account": self.key}

    def take(self, events: Slice) -> None:
        key = self.key
        if key not in events.accounts:
            return
        self._touched = True
        for status in events.orders.get(key, ()):
            self._orders[status.order_id, status.client_order_id] = status
        self._fills += events.fills.get(key, ())
        self._events += events.events.get(key, ())
        self.mark()

    def told(self, backfill: Backfill | None) -> msgspec.Struct:
        whole = backfill is not None and not backfill.gap
        fills = backfill.items if backfill is not None and whole else []
        events = backfill.events if backfill is not None and whole else []
        data = self._view(self.seq) | {"fills": fills, "events": events}
        gap = backfill is not None and backfill.gap
        return f.AccountSnapshot(seq=self.seq, account=self.key, gap=gap, data=data)  # type: ignore[arg-type]

    def change(self, seq: int) -> msgspec.Struct | None:
        if not self._touched:
            return None
        orders, fills, events = list(self._orders.values()), self._fills, self._events
        self._touched, self._orders, self._fills, self._events = False, {}, [], []
        data = f.AccountChange(self._view(seq), orders, fills, events)  # type: ignore[arg-type]
        return f.AccountDelta(seq=seq, prev_seq=self.seq, account=self.key, data=data)

    def _view(self, seq: int) -> dict[str, Any]:
        """Already as it is sent: it has the fields of clearing.api.messages.state.Account."""
        found: dict[str, Any] = shown(views.account(self.hub.replica.state.accounts[self.key]))
        return found | {"seq": seq}
