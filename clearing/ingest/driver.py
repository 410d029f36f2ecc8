# SPDX-License-Identifier: GPL-3.0-or-later
"""Feeds a recorded file through the sequencer's pipeline into a journal on disk.

Rules:
- Time is the data's. What happens within `COMMIT_WINDOW_US` of data time is committed as one group under
  the time of its last event, as a live venue's group commit would; time never decreases.
- The publisher signs a price when the last recorded trade changed it, and again before it is half as old
  as the reducer tolerates. Before the first trade the price is that trade's; in a file without
  any it is the middle of the opening book.
- An epoch closes at every full hour of data time that something happened before, and at the end; each
  is a commit of its own and leaves a snapshot beside the journal.
- Whatever ends the run early (a malformed line, a full disk), what was journalled stays, the last
  epoch is closed if the pipeline still can, and the error carries the summary.
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from clearing.ingest.compare import Comparison
from clearing.ingest.events import Add, Event, Source, Trade
from clearing.ingest.plan import Planner, Step
from clearing.ingest.recorder import Recorder, require_empty
from clearing.ingest.summary import Disagreements, IngestFailed, Problem, Summary, Timing, ordered
from clearing.ingest.venue import Venue
from clearing.model import ids
from clearing.model.commands import CloseEpoch
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from clearing.service.pipeline import Receipt

COMMIT_WINDOW_US = 1_000_000
HOUR_US = 3_600_000_000
MAX_MEMBERS = 10_000
_MAX_GROUP = 1_000
_PROGRESS_EVERY = 512
_L1_BLOCK = ((1, bytes(32)),)

Progress = Callable[[int, int], None]


def open_source(path: Path, fmt: str) -> Source:
    """The decoder of `dbn` or `lobster`. Raises `NovateError` INGEST_UNSUPPORTED, INGEST_NO_FILE."""
    if not path.is_file():
        raise NovateError("INGEST_NO_FILE", f"{path} is not a file; check the path")
    if fmt == "dbn":
        from clearing.ingest.dbn import DbnSource

        return DbnSource(path)
    if fmt == "lobster":
        from clearing.ingest.lobster import LobsterSource

        return LobsterSource(path)
    raise NovateError("INGEST_UNSUPPORTED", f"no format {fmt!r}; it is dbn or lobster")


def ingest(
    path: Path,
    fmt: str,
    data_dir: Path,
    *,
    members: int = 50,
    commands_per_signature: int = 1,
    on_progress: Progress | None = None,
    limit: int | None = None,
) -> Summary:
    """Replay a recorded file into a new journal in `data_dir`, which must be empty or absent.

    `commands_per_signature` (1-50) lets that many commands in a row of one member share a signature;
    `limit` stops after so many source events. `on_progress(events, ppm of the file)` is called now
    and then. Raises `IngestFailed` when the file or the journal ends it early (its `summary` tells
    what was journalled), and `NovateError` INGEST_* for arguments that cannot be used.
    """
    if not 1 <= members <= MAX_MEMBERS:
        raise NovateError("INGEST_ARGUMENT", f"members is {members}; it must be 1 to {MAX_MEMBERS}")
    if not 1 <= commands_per_signature <= ids.MAX_COMMANDS_PER_BATCH:
        raise NovateError(
            "INGEST_ARGUMENT",
            f"commands_per_signature is {commands_per_signature}; it must be 1 to {ids.MAX_COMMANDS_PER_BATCH}",
        )
    if limit is not None and limit < 1:
        raise NovateError("INGEST_ARGUMENT", f"limit is {limit}; it must be positive, or absent")
    require_empty(data_dir)
    source = open_source(path, fmt)
    started = time.perf_counter()
    with Run(source, data_dir, members, commands_per_signature) as run:
        cause: NovateError | None = None
        try:
            run.feed(on_progress, limit)
        except NovateError as error:
            cause = error
        except OSError as error:
            cause = NovateError("INGEST_UNREADABLE", f"{path} cannot be read on: {error.strerror}")
        cause = run.finish(cause)
        elapsed_ms = max(1, int((time.perf_counter() - started) * 1_000))
        summary = run.summarise(path.name, fmt, cause, elapsed_ms)
    if cause is not None:
        raise IngestFailed(cause, summary) from cause
    return summary


class Run:
    """One ingest: the state between events. Use as a context manager, which closes the journal."""

    def __init__(self, source: Source, data_dir: Path, members: int, per_signature: int) -> None:
        self._source = source
        self._data_dir = data_dir
        self._members = members
        self._per_signature = per_signature
        self._planner = Planner(members)
        self._comparison = Comparison()
        self._recorder: Recorder | None = None
        self._venue: Venue
        self._batch: list[Step] = []
        self._group: list[bytes] = []
        self._carried: list[list[Step]] = []
        self._group_start = self._group_time = 0
        self._price = self._priced = self._priced_at = 0
        self._hour = 0
        self._last_close: EpochClosed | None = None
        self._epochs = self._events = self._commands = self._updates = 0

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recorder is not None:
            self._recorder.close()

    # --- the way of an event ---

    def feed(self, on_progress: Progress | None, limit: int | None) -> None:
        """All events, up to `limit`. Raises `NovateError` of the source, the pipeline or the journal."""
        for event in self._opened(self._source.events()):
            if limit is not None and self._events >= limit:
                break
            self._advance(event.time_us)
            for step in self._planner.plan(event):
                self._submit(step)
            if isinstance(event, Trade):
                self._price = event.fills[-1].price_atoms
            self._events += 1
            if on_progress is not None and not self._events % _PROGRESS_EVERY:
                on_progress(self._events, self._source.progress_ppm)
        if on_progress is not None:
            on_progress(self._events, self._source.progress_ppm)

    def _opened(self, events: Iterator[Event]) -> Iterator[Event]:
        """Read up to the first trade to learn a price, then open the venue and hand on all events."""
        head: list[Event] = []
        failure: NovateError | None = None
        try:
            for event in events:
                head.append(event)
                if isinstance(event, Trade):
                    break
        except NovateError as error:
            failure = error
        if head:
            self._price = _first_price(head)
            self._open(head[0].time_us)
        yield from chain(head, events if failure is None else ())
        if failure is not None:
            raise failure

    def _open(self, now_us: int) -> None:
        self._venue = Venue(self._source.symbol, self._members)
        self._recorder = Recorder(self._data_dir, self._venue, now_us)
        self._hour = now_us // HOUR_US
        self._group_start = self._group_time = now_us
        for raw in self._venue.opening(now_us):
            self._enqueue(raw, [])
        self._commit()

    def _advance(self, now_us: int) -> None:
        """Let data time pass: close an hour's epoch, close the commit group, publish a due price."""
        hour = now_us // HOUR_US
        if hour != self._hour:
            self._close_epoch(hour * HOUR_US)
            self._hour = hour
        if now_us > self._group_start + COMMIT_WINDOW_US:
            self._commit()
            self._group_start = now_us
        self._group_time = now_us
        max_age = self._venue.genesis.params.oracle_max_age_us
        due = self._price != self._priced or now_us - self._priced_at > max_age // 2
        if self._price and due and now_us > self._priced_at:
            self._sign_batch()
            self._enqueue(self._venue.price(self._price, now_us), [])
            self._priced, self._priced_at = self._price, now_us
            self._updates += 1

    def _submit(self, step: Step) -> None:
        """Put a step behind the others of its member, as far as they may share a signature."""
        batch = self._batch
        if batch:
            count = sum(len(other.commands) for other in batch) + len(step.commands)
            if batch[0].member != step.member or count > self._per_signature:
                self._sign_batch()
        self._batch.append(step)

    def _sign_batch(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        commands = [command for step in batch for command in step.commands]
        self._commands += len(commands)
        self._enqueue(self._venue.trade(batch[0].member, commands, batch[-1].time_us), batch)

    def _enqueue(self, raw: bytes, steps: list[Step]) -> None:
        self._group.append(raw)
        self._carried.append(steps)
        if len(self._group) >= _MAX_GROUP:
            self._write()

    def _commit(self) -> None:
        self._sign_batch()
        self._write()

    def _write(self) -> list[Receipt]:
        """Send the group through the pipeline and read what became of it."""
        if not self._group or self._recorder is None:
            return []
        group, carried = self._group, self._carried
        self._group, self._carried = [], []
        receipts = self._recorder.write(group, self._group_time)
        for receipt, steps in zip(receipts, carried, strict=True):
            self._comparison.read(steps, receipt.outcomes)
        return receipts

    def _close_epoch(self, now_us: int) -> None:
        """A commit of its own: the snapshot is of the state at a block's end."""
        self._commit()
        self._group_time = max(self._group_time, now_us)
        self._enqueue(self._venue.operate([CloseEpoch(self._epochs + 1, _L1_BLOCK)]), [])
        for receipt in self._write():
            for outcome in receipt.outcomes:
                if isinstance(outcome, EpochClosed):
                    self._last_close = outcome
                    self._epochs += 1

    # --- the end ---

    def finish(self, cause: NovateError | None) -> NovateError | None:
        """Commit what waits and close the last epoch. Returns `cause`, or what went wrong here."""
        if self._recorder is None:
            return cause
        try:
            self._close_epoch(self._group_time)
        except NovateError as error:
            return cause or error
        return cause

    def summarise(self, name: str, fmt: str, cause: NovateError | None, elapsed_ms: int) -> Summary:
        """The report; `elapsed_ms` is wall time."""
        found, recorder, close = self._comparison, self._recorder, self._last_close
        return Summary(
            file=name,
            format=fmt,
            symbol=self._source.symbol,
            members=self._members,
            events=self._events,
            commands=self._commands,
            fills=found.fills,
            source_fills_continuous=found.source_fills,
            reproduced_exactly=found.exact,
            reproduced_ppm=found.exact * ids.PPM // max(1, found.source_fills),
            reproduced_in_order=found.in_order,
            disagreements=Disagreements(sum(found.reasons.values()), ordered(found.reasons), found.listed),
            unexpected_fills=found.unexpected_fills,
            refusals=ordered(found.refusals),
            not_replayed=ordered(self._planner.counts),
            oracle_updates=self._updates,
            epochs=self._epochs,
            journal_bytes=recorder.entry_bytes if recorder else 0,
            journal_size=recorder.size if recorder else 0,
            root=recorder.root.hex() if recorder else "",
            state_root=close.state_root.hex() if close else "",
            exit_root=close.vaults[0].exit_root.hex() if close else "",
            complete=cause is None,
            problem=None if cause is None else Problem(cause.code, cause.message),
            timing=Timing(elapsed_ms, self._events * 1_000 // elapsed_ms),
        )


def _first_price(head: list[Event]) -> int:
    """The first trade's price, else the middle of what was added before; 0 when there is nothing."""
    last = head[-1]
    if isinstance(last, Trade):
        return last.fills[0].price_atoms
    bids = [e.price_atoms for e in head if isinstance(e, Add) and e.side == ids.BUY]
    asks = [e.price_atoms for e in head if isinstance(e, Add) and e.side == ids.SELL]
    if bids and asks:
        return (max(bids) + min(asks)) // 2
    return max(bids) if bids else min(asks, default=0)
