# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal replayed once, and what only its course tells: margin over time, oracle uptime, backtests, defaults.

Rules:
- Everything is replayed and compared, as `clearing.audit.replay` does it; a journal that diverges has no figures.
- Oracle uptime: the share of time, from the first accepted price to the last entry, in which the index was not
  older than the maximum age in force at its last vote.
- Backtest: books as they stand at an epoch's close, held unchanged. Loss = size x (fall of mark + funding paid);
  a breach is a loss above initial margin at that close. Horizons: the next close, and the first one a day later.
  Contracts that have ended since make a book unmeasured.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from clearing.audit.replay import Replayer, replay
from clearing.core.margin import assess
from clearing.core.state import State
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import NovateError
from clearing.report.provenance import Figures, Provenance, provenance

# Books for the one-day backtest are taken at most this often, so that memory does not grow with short epochs.
_SAMPLE_EVERY_US = 3_600_000_000
_KEPT_EVENTS = 200


class MarginPoint(NamedTuple):
    """An account after an entry; atoms."""

    seq: int
    time_us: int
    equity: int
    initial: int
    maintenance: int


class Event(Figures, frozen=True, kw_only=True):
    """Something that a default brought about. `kind`: a step of the ladder, TRANCHE, GAINS or ADL."""

    seq: int
    time_us: int
    kind: str
    account: int
    counterparty: int = -1
    instrument: int = -1
    tranche: int = -1
    amount_atoms: int = 0


def _event(seq: int, time_us: int, kind: str, account: int, amount: int, **more: int) -> Event:
    return Event(seq=seq, time_us=time_us, kind=kind, account=account, amount_atoms=amount, **more)


class _Book(NamedTuple):
    account: int
    initial: int
    held: tuple[tuple[int, int, int, int], ...]


class _Sample(NamedTuple):
    time_us: int
    books: list[_Book]


class Horizon:
    """Counts of one backtest horizon. `worst_excess`: the largest loss above initial margin, atoms."""

    def __init__(self) -> None:
        self.observations = 0
        self.breaches = 0
        self.unmeasured = 0
        self.worst_excess = 0
        self.worst_account = -1

    def compare(self, state: State, sample: _Sample) -> None:
        for book in sample.books:
            loss = _loss(state, book)
            if loss is None:
                self.unmeasured += 1
                continue
            self.observations += 1
            excess = loss - book.initial
            if excess > 0:
                self.breaches += 1
                if excess > self.worst_excess:
                    self.worst_excess, self.worst_account = excess, book.account


def _loss(state: State, book: _Book) -> int | None:
    total = 0
    for instrument, size, mark, funding in book.held:
        inst = state.instruments.get(instrument)
        if inst is None:
            return None
        total += size * (mark - (inst.settle or inst.mark) + inst.funding_index - funding)
    return total


def _take(state: State) -> _Sample:
    books = []
    for account in state.accounts[ids.HOUSE_ACCOUNTS :]:
        held = tuple((s.inst.id, s.size, s.inst.mark, s.inst.funding_index) for s in account.slots.values() if s.size)
        if held:
            books.append(_Book(account.number, assess(account)[1], held))
    return _Sample(state.time_us, books)


class Feed:
    """One underlying's prices over time; `fresh_until_us` as of the last accepted vote."""

    def __init__(self, time_us: int) -> None:
        self.first_us = time_us
        self.fresh_until_us = time_us
        self.stale_us = 0
        self.longest_us = 0
        self.accepted = 0

    def vote(self, time_us: int, index_time_us: int, max_age_us: int) -> None:
        self._gap(time_us)
        self.fresh_until_us = max(self.fresh_until_us, index_time_us + max_age_us)
        self.accepted += 1

    def _gap(self, time_us: int) -> None:
        gap = time_us - self.fresh_until_us
        if gap > 0:
            self.stale_us += gap
            self.longest_us = max(self.longest_us, gap)
            self.fresh_until_us = time_us

    def uptime_ppm(self, end_us: int) -> int:
        """Share of the time until `end_us` with a fresh index, rounded down."""
        span = end_us - self.first_us
        stale = self.stale_us + max(0, end_us - self.fresh_until_us)
        return ids.PPM if span <= 0 else (span - stale) * ids.PPM // span


class History:
    """What the outcomes say, entry by entry.

    `account`: whose margin is kept, as its entries say it, and as it is at every epoch's close and at the end.
    """

    def __init__(self, account: int = -1) -> None:
        self.account = account
        self.margin: list[MarginPoint] = []
        self.feeds: dict[int, Feed] = {}
        self.refused_votes: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.drawn: dict[int, int] = {}
        self.adl_count = 0
        self.adl_atoms = 0
        self.haircut_atoms = 0
        self.events: list[Event] = []
        self.next_epoch = Horizon()
        self.next_day = Horizon()
        self.epoch_seq = -1
        self.state_root = bytes(32)
        self._last: _Sample | None = None
        self._days: list[_Sample] = []

    def note(self, seq: int, state: State) -> None:
        """The entry that was just applied; its outcomes are still in the state."""
        for outcome in state.out:
            if isinstance(outcome, o.MarginChanged):
                if outcome.account == self.account:
                    self._margin(seq, state, outcome)
            elif isinstance(outcome, o.Rejected):
                # ORACLE_STALE is what others are told; the rest is what publishers are.
                if outcome.code.startswith("ORACLE_") and outcome.code != "ORACLE_STALE":
                    self.refused_votes[outcome.code] = self.refused_votes.get(outcome.code, 0) + 1
            elif isinstance(outcome, _NOTED):
                self._other(seq, state, outcome)

    def _margin(self, seq: int, state: State, outcome: o.MarginChanged) -> None:
        point = (outcome.equity_atoms, outcome.margin_initial_atoms, outcome.margin_maintenance_atoms)
        self.margin.append(MarginPoint(seq, state.time_us, *point))

    def look(self, seq: int, state: State) -> None:
        """The account's margin as prices have it by now, though no entry says so."""
        if 0 <= self.account < len(state.accounts):
            self.margin.append(MarginPoint(seq, state.time_us, *assess(state.accounts[self.account])))

    def _other(self, seq: int, state: State, outcome: o.Outcome) -> None:
        at, now = seq, state.time_us
        if isinstance(outcome, o.PriceAccepted):
            feed = self.feeds.setdefault(outcome.underlying, Feed(state.time_us))
            under = state.underlyings[outcome.underlying]
            feed.vote(state.time_us, under.index_time, state.params.oracle_max_age_us)
        elif isinstance(outcome, o.EpochClosed):
            self.epoch_seq, self.state_root = seq, outcome.state_root
            self._backtest(state)
            self.look(seq, state)
        elif isinstance(outcome, o.Liquidated):
            self.steps[outcome.step] = self.steps.get(outcome.step, 0) + 1
            self._keep(_event(at, now, outcome.step, outcome.account, outcome.closed_atoms))
        elif isinstance(outcome, o.TrancheDrawn):
            tranche, drawn = outcome.tranche, outcome.drawn_atoms
            self.drawn[tranche] = self.drawn.get(tranche, 0) + drawn
            if drawn:
                self._keep(_event(at, now, "TRANCHE", outcome.account, drawn, tranche=tranche))
        elif isinstance(outcome, o.GainHaircut):
            self.haircut_atoms += outcome.taken_atoms
            self._keep(_event(at, now, "GAINS", outcome.account, outcome.taken_atoms))
        elif isinstance(outcome, o.Deleveraged):
            amount = abs(outcome.size_lots) * outcome.price_atoms
            self.adl_count += 1
            self.adl_atoms += amount
            other, inst = outcome.counterparty, outcome.instrument
            self._keep(_event(at, now, "ADL", outcome.account, amount, counterparty=other, instrument=inst))

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) > 2 * _KEPT_EVENTS:
            del self.events[:_KEPT_EVENTS]

    def _backtest(self, state: State) -> None:
        if self._last is not None:
            self.next_epoch.compare(state, self._last)
        while self._days and self._days[0].time_us + ids.DAY_US <= state.time_us:
            self.next_day.compare(state, self._days.pop(0))
        self._last = _take(state)
        if not self._days or self._days[-1].time_us + _SAMPLE_EVERY_US <= state.time_us:
            self._days.append(self._last)

    def recent(self) -> tuple[Event, ...]:
        """The last events, newest last."""
        return tuple(self.events[-_KEPT_EVENTS:])


_NOTED = (o.PriceAccepted, o.EpochClosed, o.Liquidated, o.TrancheDrawn, o.GainHaircut, o.Deleveraged)


class _Watching(Replayer):
    """A replayer that lets the history look at every entry it has compared."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def apply(self, item: Any) -> None:
        super().apply(item)
        assert self.reducer is not None, "an entry was applied"
        self._history.note(self.size - 1, self.reducer.state)


class Read(NamedTuple):
    """A replayed journal: the state at its end, its course, and what vouches for both."""

    state: State
    history: History
    provenance: Provenance


def read(
    entries: Iterable[tuple[int, bytes]],
    *,
    account: int = -1,
    at: int | None = None,
    check_signatures: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Read:
    """Replay (seq, entry bytes) from genesis to the end, or to entry `at`.

    Raises `NovateError` REPLAY_DIVERGED, NO_GENESIS, UNKNOWN_SEQ.
    """
    history = History(account)
    chosen: Iterator[tuple[int, bytes]] = iter(entries) if at is None else islice(entries, at + 1)
    report = replay(chosen, check_signatures=check_signatures, on_progress=on_progress, replayer=_Watching(history))
    if report.divergence is not None:
        raise NovateError("REPLAY_DIVERGED", f"the journal is not what its commands give: {report.divergence}")
    if report.state is None:
        raise NovateError("NO_GENESIS", "the journal is empty; give the directory or URL of a Novate journal")
    if at is not None and report.entries <= at:
        raise NovateError("UNKNOWN_SEQ", f"the journal ends at entry {report.entries - 1}; give --at up to that")
    history.look(report.size - 1, report.state)
    found = provenance(report.state, report.size - 1, report.root, history.epoch_seq, history.state_root)
    return Read(report.state, history, found)
