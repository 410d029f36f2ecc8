# SPDX-License-Identifier: GPL-3.0-or-later
"""One journal replayed in ranges side by side, each from a snapshot, with the result of one replay from the start.

Rules:
- A range ends where the next begins, and its replayed state there must be the next one's snapshot to the byte. So
  the ranges prove each other from the first on, and the snapshots carry no trust.
- A snapshot that does not load, or is not what the range before it gives, is no fault of the journal: the journal is
  then replayed in one go, and a note says why.
- Leaf hashes of the ranges are joined in order, and headers built when they are, so roots and headers are the same.
- The first divergence in the journal's order counts. Ranges after it prove nothing.
- The last range is replayed in this process, so that its state is at hand; the others in processes of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from clearing.audit.checks import Checker, Inline, Processes, Threads
from clearing.audit.divergence import Divergence
from clearing.audit.pieces.compact import CompactRange
from clearing.audit.pieces.starts import Start, start_at
from clearing.audit.replay import NO_LEAD, ReplayedEpoch, Replayer, ReplayReport, replay
from clearing.audit.rounds import build_headers, last_hashes
from clearing.audit.source import Source, genesis_in
from clearing.core import snapshot
from clearing.core.reducer import Reducer
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from journal.snapshot import Snapshots

# Shorter journals are done before other processes have started.
LEAST_RANGE: Final = 20_000
_ASK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How to replay. `jobs`: processes at once. `snapshots`: a folder with snapshots to begin ranges at, or None.
    `marks`: sizes at which the root is wanted. `least`: entries below which no range is cut."""

    jobs: int = 1
    signatures: bool = True
    snapshots: Path | None = None
    marks: tuple[int, ...] = ()
    least: int = LEAST_RANGE
    on_epoch: Callable[[Reducer, ReplayedEpoch], None] | None = None


@dataclass(frozen=True, slots=True)
class _Cut:
    """A point inside a range where hashes are wanted: an epoch's close, or a marked size."""

    size: int
    hashed: CompactRange
    outcome: EpochClosed | None
    time_us: int
    operator_key: bytes


@dataclass(slots=True)
class _Part:
    """What a range found. `begun`, `ended`: SHA-256 of the state at its ends; b"" where nothing follows or precedes.
    `fault`: why its snapshot is of no use; `error`: code and message of what the source raised."""

    entries: int
    begun: bytes
    ended: bytes
    cuts: list[_Cut]
    rest: CompactRange
    divergence: Divergence | None
    lead: tuple[int, int] = NO_LEAD
    fault: str = ""
    error: tuple[str, str] | None = None


class _Ranged(Replayer):
    """A replayer that knows no roots: it keeps the hashes between the points where they are wanted."""

    def __init__(self, reducer: Reducer | None, size: int, marks: Sequence[int]) -> None:
        super().__init__(reducer, size, prefix=CompactRange(size, size), marks=marks)
        self.cuts: list[_Cut] = []

    def root(self) -> bytes:
        return b""

    def _mark(self, reducer: Reducer) -> None:
        self._cut(reducer, None, 0)

    def _close(self, reducer: Reducer, item: Any, outcomes: Sequence[Any]) -> None:
        outcome = next((found for found in outcomes if isinstance(found, EpochClosed)), None)
        if outcome is not None:
            self._cut(reducer, outcome, item.time_us)

    def _cut(self, reducer: Reducer, outcome: EpochClosed | None, time_us: int) -> None:
        self.cuts.append(_Cut(self.size, self.hashed(), outcome, time_us, reducer.state.operator_key))
        self._range = CompactRange(self.size, self.size)


def _digest(payload: bytes) -> bytes:
    return sha256(payload).digest()


def _faulty(reason: str) -> _Part:
    return _Part(0, b"", b"", [], CompactRange(0, 0), None, fault=reason)


def _replay_part(
    source: Source,
    plan: Plan,
    first: int,
    stop: int | None,
    checker: Checker,
    on_progress: Callable[[int], None] | None,
) -> tuple[_Part, ReplayReport | None]:
    """One range; `stop` None for the last."""
    reducer, begun = None, b""
    if first:
        assert plan.snapshots is not None, "a range begins at a snapshot"
        try:
            start = start_at(source, plan.snapshots, first)
            reducer, begun = start.reducer(), _digest(start.payload)
        except NovateError as error:
            return _faulty(f"the snapshot of {first} entries is of no use: {error}"), None
    worker = _Ranged(reducer, first, plan.marks)
    report = replay(source.entries(first, stop), replayer=worker, checker=checker, on_progress=on_progress)
    ended = b""
    if stop is not None and report.ok and report.state is not None and worker.size == stop:
        ended = _digest(snapshot.dump(report.state))
    part = _Part(report.entries, begun, ended, worker.cuts, worker.hashed(), report.divergence, report.lead)
    return part, report


_counter: Any = None


def _begin(counter: Any) -> None:
    global _counter
    _counter = counter


def _in_process(source: Source, plan: Plan, first: int, stop: int) -> _Part:
    """A range in a process of its own; tells how far it is."""
    told = 0

    def progress(count: int) -> None:
        nonlocal told
        with _counter.get_lock():
            _counter.value += count - told
        told = count

    try:
        return _replay_part(source, plan, first, stop, Inline(plan.signatures), progress)[0]
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str):
            raise
        part = _faulty("")  # errors do not all travel between processes; what they say does
        part.error = code, str(getattr(error, "message", error))
        return part


# --- putting it together ---


def cuts_of(source: Source, plan: Plan, first: int) -> list[int]:
    """The sizes at which ranges begin, besides `first`: those snapshots that cut the journal most evenly. None when the
    longest range were half as long again as it should be: then one replay with its signatures elsewhere is faster."""
    size = source.size()
    if plan.snapshots is None or not source.pieces or plan.jobs < 2 or size - first < plan.least:
        return []
    known = [seq for seq in Snapshots(plan.snapshots).list() if first < seq < size]
    chosen: list[int] = []
    for number in range(1, plan.jobs):
        wanted = first + (size - first) * number // plan.jobs
        if known:
            chosen.append(min(known, key=lambda seq: abs(seq - wanted)))
    edges = sorted(set(chosen))
    longest = max(after - before for before, after in pairwise([first, *edges, size]))
    return edges if longest * plan.jobs * 2 <= (size - first) * 3 else []


def run(
    source: Source,
    plan: Plan,
    *,
    start: Start | None = None,
    prev_hashes: Sequence[bytes] = (),
    on_progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Replay a source, in ranges where snapshots allow it. The report does not depend on `plan.jobs`.

    `start`: begin there instead of at genesis; `prev_hashes`: per vault the hash of its last header there. Raises
    what the source raises, and `NovateError` SNAPSHOT_* when `start` is not the epoch's.
    """
    first = start.size if start is not None else 0
    cuts = cuts_of(source, plan, first) if plan.on_epoch is None and start is None else []
    notes: list[str] = []
    if cuts:
        report = _side_by_side(source, plan, cuts, notes, on_progress)
        if report is not None:
            return report
    report = _in_one_go(source, plan, start, prev_hashes, on_progress)
    report.notes = notes
    return report


@contextmanager
def _checker(source: Source, plan: Plan) -> Iterator[Checker]:
    size = source.size()
    many = plan.jobs > 1 and plan.signatures and (not size or size >= plan.least)
    checker: Checker
    if not plan.signatures:
        checker = Inline(False)
    else:
        checker = Processes(plan.jobs) if many else Threads(min(plan.jobs, 2))
    try:
        yield checker
    finally:
        checker.close()


def _in_one_go(
    source: Source,
    plan: Plan,
    start: Start | None,
    prev_hashes: Sequence[bytes],
    on_progress: Callable[[int], None] | None,
) -> ReplayReport:
    if start is None:
        worker = Replayer(on_epoch=plan.on_epoch, marks=plan.marks)
    else:
        worker = Replayer(
            start.reducer(), start.size, prev_hashes, None, plan.on_epoch, start.prefix, marks=plan.marks
        )  # fmt: skip
    with _checker(source, plan) as checker:
        report = replay(source.entries(worker.size), replayer=worker, checker=checker, on_progress=on_progress)
    report.first_epoch = start.epoch if start is not None else 0
    return report


def _side_by_side(
    source: Source, plan: Plan, cuts: list[int], notes: list[str], on_progress: Callable[[int], None] | None
) -> ReplayReport | None:
    """The ranges; None, with a note, when a snapshot was of no use."""
    context = get_context("spawn")
    counter = context.Value("Q", 0)
    edges = [0, *cuts]

    def tell(own: int) -> None:
        if on_progress is not None:
            on_progress(own + counter.value)

    remote = Plan(plan.jobs, plan.signatures, plan.snapshots, plan.marks, plan.least)
    with ProcessPoolExecutor(len(cuts), context, initializer=_begin, initargs=(counter,)) as pool:
        running = [
            pool.submit(_in_process, source, remote, first, stop)
            for first, stop in zip(edges, cuts, strict=False)
        ]  # fmt: skip
        last, report = _replay_part(source, plan, cuts[-1], None, Inline(plan.signatures), tell)
        parts = [_waited(future, lambda: tell(last.entries)) for future in running]
    parts.append(last)
    fault = _fault(parts)
    if fault:
        notes.append(f"{fault}; replayed in one go")
        return None
    return _merged(source, parts, report)


def _waited(future: "Future[_Part]", tell: Callable[[], None]) -> _Part:
    while not future.done():
        wait([future], timeout=_ASK_S)
        tell()
    part = future.result()
    if part.error is not None:
        raise NovateError(*part.error)
    return part


def _fault(parts: list[_Part]) -> str:
    """Why the ranges do not prove each other, or ""; what lies after a divergence does not matter."""
    for before, after in pairwise(parts):
        if before.divergence is not None:
            return ""
        if after.fault:
            return after.fault
        if before.ended != after.begun:
            return f"the snapshot of {before.rest.end} entries is not the state that the entries before it give"
    return ""


def _merged(source: Source, parts: list[_Part], last: ReplayReport | None) -> ReplayReport:
    """The report of one replay, from the parts of it in order."""
    report = ReplayReport()
    whole = CompactRange(0, 0)
    genesis: Genesis | None = None
    prev: tuple[bytes, ...] = ()
    for part in parts:
        report.entries += part.entries
        report.lead = max(report.lead, part.lead, key=lambda lead: lead[1])
        for cut in part.cuts:
            whole = whole.joined(cut.hashed)
            if cut.outcome is None:
                report.marks[cut.size] = whole.root(), cut.operator_key
                continue
            genesis = genesis or genesis_in(source)
            prev = prev or (bytes(32),) * len(genesis.vaults)
            headers = build_headers(genesis, cut.outcome, cut.time_us, cut.size, whole.root(), prev)
            prev = last_hashes(headers, prev)
            closed = ReplayedEpoch(cut.outcome, cut.time_us, cut.size, whole.root(), headers, prev)
            report.epochs.append(closed)
        whole = whole.joined(part.rest)
        if part.divergence is not None:
            report.divergence = part.divergence
            break
    else:
        report.state = last.state if last is not None else None
    report.size, report.root = whole.end, whole.root()
    return report
