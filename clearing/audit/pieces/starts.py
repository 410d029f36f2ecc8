# SPDX-License-Identifier: GPL-3.0-or-later
"""Beginning an audit in the middle: at a snapshot of state whose roots are the epoch's.

Rules:
- A snapshot is nobody's word. Its state is rebuilt and compared with the roots in the entry that closed the epoch
  (`clearing.core.snapshot.load`); that entry is led to a journal root by its inclusion proof; and whoever wants to
  rest on it compares that root, and the header, with what was posted on the chain.
- What lies before the start is not audited, and the verdict says so.
- An auditor's own snapshots (`keep`) are files like an operator's; where those name the block that ends there, these
  carry the log's root.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clearing.audit.pieces.compact import CompactRange
from clearing.audit.replay import ReplayedEpoch
from clearing.audit.source import Source, prefix_of
from clearing.core import snapshot
from clearing.core.reducer import Reducer
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from journal import JournalError
from journal.snapshot import Snapshots


@dataclass(frozen=True, slots=True)
class Start:
    """Where an audit begins: after `size` entries, which closed `outcome`'s epoch at `time_us`. `payload` is the
    snapshot's, `prefix` the log's hashes up to there."""

    size: int
    time_us: int
    outcome: EpochClosed
    payload: bytes
    prefix: CompactRange

    @property
    def root(self) -> bytes:
        """The log's root at the start."""
        return self.prefix.root()

    @property
    def epoch(self) -> int:
        return self.outcome.epoch

    def reducer(self) -> Reducer:
        """A reducer at the restored state. Raises `NovateError` when the snapshot is not the epoch's."""
        return Reducer(state=snapshot.load(self.payload, self.outcome))


def closing(data: bytes) -> tuple[int, EpochClosed] | None:
    """Time and outcome of an entry that closed an epoch; None for another."""
    try:
        entry = decode_entry(data)
    except NovateError:
        return None
    found = next((outcome for outcome in entry.outcomes if isinstance(outcome, EpochClosed)), None)
    return (entry.time_us, found) if found is not None else None


def start_at(source: Source, folder: Path, size: int) -> Start:
    """The start at the snapshot of `size` entries.

    Raises `NovateError` SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED and others of snapshots, NO_ENTRY, SNAPSHOT_DIFFERS when
    no epoch was closed there; what the source raises. Its state is checked by `Start.reducer`.
    """
    try:
        payload = Snapshots(folder).load(size).payload
    except JournalError as error:
        raise NovateError(error.code, error.message) from None
    prefix, data = prefix_of(source, size)
    found = closing(data)
    if found is None:
        raise NovateError("SNAPSHOT_DIFFERS", f"entry {size - 1} closes no epoch; the snapshot is another journal's")
    return Start(size, *found, payload, prefix)


def start_of_epoch(source: Source, folder: Path, epoch: int) -> Start:
    """The start at an epoch's close. Raises `NovateError` SNAPSHOT_NOT_FOUND with what there is, and as `start_at`."""
    known: list[int] = []
    for size in Snapshots(folder).list():
        try:
            _, data = prefix_of(source, size)
        except (NovateError, JournalError):
            continue
        found = closing(data)
        if found is not None:
            known.append(found[1].epoch)
            if known[-1] == epoch:
                return start_at(source, folder, size)
    there = ", ".join(map(str, known)) or "none"
    raise NovateError("SNAPSHOT_NOT_FOUND", f"{folder} has no snapshot of epoch {epoch}; it has those of: {there}")


def keeper(folder: Path, every: int) -> "Callable[[Reducer, ReplayedEpoch], None]":
    """A hook for `Replayer` that leaves a snapshot at epochs that are at least `every` entries apart.

    It raises `NovateError` DISK_FULL and others.
    """
    last = [0]
    saved = Snapshots(folder)

    def keep(reducer: Reducer, epoch: ReplayedEpoch) -> None:
        if epoch.journal_size - last[0] < every:
            return
        last[0] = epoch.journal_size
        try:
            saved.save(epoch.journal_size, epoch.journal_root, snapshot.dump(reducer.state))
        except JournalError as error:
            raise NovateError(error.code, error.message) from None

    return keep
