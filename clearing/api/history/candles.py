# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles, and the last day, of one market: integers, trade by trade.

Rules: a candle begins at a multiple of its interval since 1970 (UTC) and holds the trades from then until just before
the next. Intervals without trades have none. The day is the current minute and the 1,439 before it.
"""

from collections import deque
from typing import Final, NamedTuple

from clearing.api.history.saved import Minute
from clearing.api.messages.market import Candle

INTERVALS_S: Final = (60, 300, 3_600, 86_400)
KEPT: Final = 1_000
_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_MINUTES: Final = 1_440


class _Series:
    """Candles of one interval; the current one is open."""

    __slots__ = ("close", "closed", "count", "high", "interval_us", "low", "open", "start", "volume")

    def __init__(self, interval_s: int, kept: int) -> None:
        self.interval_us = interval_s * _SECOND_US
        self.closed: deque[Candle] = deque(maxlen=kept - 1)
        self.start = -1
        self.open = self.high = self.low = self.close = self.volume = self.count = 0

    def add(self, time_us: int, price: int, lots: int) -> None:
        start = time_us - time_us % self.interval_us
        if start != self.start:
            if self.start >= 0:
                self.closed.append(self.current())
            self.start, self.open, self.high, self.low, self.volume, self.count = start, price, price, price, 0, 0
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += lots
        self.count += 1

    def all(self) -> list[Candle]:
        return [*self.closed, self.current()] if self.start >= 0 else []

    def restore(self, candles: list[Candle]) -> None:
        if candles:
            self.closed.extend(candles[:-1])
            last = candles[-1]
            self.start, self.volume, self.count = last.time_us, int(last.volume_lots), last.trades
            self.open, self.high = int(last.open_atoms), int(last.high_atoms)
            self.low, self.close = int(last.low_atoms), int(last.close_atoms)

    def current(self) -> Candle:
        return Candle(
            self.start, str(self.open), str(self.high), str(self.low), str(self.close), str(self.volume), self.count
        )


class Day(NamedTuple):
    """What was traded in the last day; prices are 0 without a trade. Turnover in atoms."""

    volume: int
    turnover: int
    trades: int
    open: int
    high: int
    low: int


class _Minute:
    """Trades of one minute."""

    __slots__ = ("high", "low", "minute", "open", "trades", "turnover", "volume")

    def __init__(self, minute: int, price: int) -> None:
        self.minute = minute
        self.open = self.high = self.low = price
        self.volume = self.turnover = self.trades = 0


class _Rolling:
    """The day's minutes with their sums, and their extremes as of the last minute that came or went."""

    __slots__ = ("extremes", "minutes", "trades", "turnover", "volume")

    def __init__(self) -> None:
        self.minutes: deque[_Minute] = deque()
        self.volume = self.turnover = self.trades = 0
        self.extremes: tuple[int, int] | None = None

    def add(self, time_us: int, price: int, lots: int) -> None:
        number = time_us // _MINUTE_US
        if not self.minutes or self.minutes[-1].minute != number:
            self.roll(time_us)
            self.minutes.append(_Minute(number, price))
        last = self.minutes[-1]
        last.volume += lots
        last.turnover += lots * price
        last.trades += 1
        self.volume += lots
        self.turnover += lots * price
        self.trades += 1
        if price > last.high:
            last.high = price
        elif price < last.low:
            last.low = price
        if self.extremes is not None and not self.extremes[1] <= price <= self.extremes[0]:
            self.extremes = None

    def saved(self) -> list[Minute]:
        return [(m.minute, m.open, m.high, m.low, m.volume, str(m.turnover), m.trades) for m in self.minutes]

    def restore(self, minutes: list[Minute]) -> None:
        for number, first, high, low, volume, turnover, trades in minutes:
            minute = _Minute(number, first)
            minute.high, minute.low, minute.volume, minute.trades = high, low, volume, trades
            minute.turnover = int(turnover)
            self.minutes.append(minute)
            self.volume += volume
            self.turnover += minute.turnover
            self.trades += trades

    def roll(self, time_us: int) -> None:
        """Forget what is older than a day."""
        oldest = time_us // _MINUTE_US - _MINUTES + 1
        minutes = self.minutes
        while minutes and minutes[0].minute < oldest:
            gone = minutes.popleft()
            self.volume -= gone.volume
            self.turnover -= gone.turnover
            self.trades -= gone.trades
            self.extremes = None

    def at(self, time_us: int) -> Day:
        self.roll(time_us)
        minutes = self.minutes
        if not minutes:
            return Day(0, 0, 0, 0, 0, 0)
        if self.extremes is None:
            self.extremes = max(m.high for m in minutes), min(m.low for m in minutes)
        high, low = self.extremes
        return Day(self.volume, self.turnover, self.trades, minutes[0].open, high, low)


class CandleBook:
    """All intervals of one market, and its day."""

    def __init__(self, kept: int = KEPT) -> None:
        self._series = {interval: _Series(interval, kept) for interval in INTERVALS_S}
        self._all = tuple(self._series.values())
        self._day = _Rolling()

    def add(self, time_us: int, price: int, lots: int) -> None:
        """Count a trade. Times never go back."""
        for series in self._all:
            series.add(time_us, price, lots)
        self._day.add(time_us, price, lots)

    def candles(self, interval_s: int) -> list[Candle]:
        """Oldest first; the last may still change."""
        return self._series[interval_s].all()

    def day(self, time_us: int) -> Day:
        """The day that ends with the minute of `time_us`, which never goes back."""
        return self._day.at(time_us)

    def saved(self) -> tuple[list[list[Candle]], list[Minute]]:
        """What `restore` takes."""
        return [series.all() for series in self._all], self._day.saved()

    def restore(self, series: list[list[Candle]], minutes: list[Minute]) -> None:
        """Go on from what was saved; the book is new."""
        for own, candles in zip(self._all, series, strict=True):
            own.restore(candles)
        self._day.restore(minutes)
