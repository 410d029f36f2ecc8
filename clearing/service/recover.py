# SPDX-License-Identifier: GPL-3.0-or-later
"""From a data directory to a running state: journal, newest sound snapshot, tail.

Rules:
- The journal is the truth. A snapshot that does not verify against the roots that the journal holds is
  passed over, and an older one or genesis is used instead.
- The tail is replayed and compared byte for byte, without checking signatures again: these entries are
  on our own disk under their block's hash. A difference means that this build does not reproduce what
  was acknowledged, and then nothing may start: REPLAY_DIVERGED.
"""

from dataclasses import dataclass

from clearing.audit.replay import ReplayedEpoch, Replayer, replay
from clearing.core import snapshot
from clearing.core.reducer import Reducer
from clearing.model.codec import decode_any_envelope, decode_entry
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.service.commit import named
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.pipeline import ClosedEpoch, Receipt, Recent, closing
from journal import Head, JournalError, Store
from journal.replay import entries


@dataclass(frozen=True, slots=True)
class Recovered:
    """`from_seq`: where the replay of the tail began; 0 without a usable snapshot."""

    reducer: Reducer
    book: EpochBook
    genesis: Genesis
    from_seq: int
    replayed: int


def open_store(layout: Layout, map_bytes: int, *, read_only: bool = False) -> Store:
    """The journal of a data directory. Raises `NovateError` with the journal's code."""
    try:
        return Store.open(layout.journal, read_only, map_bytes=map_bytes)
    except JournalError as error:
        raise named(error) from None


def read_genesis(store: Store) -> Genesis:
    """The body of entry 0. Raises `NovateError` NO_GENESIS, or the journal's codes."""
    if store.head().next_seq == 0:
        raise NovateError("NO_GENESIS", "the journal is empty; create the data directory again with `operator init`")
    try:
        _, body = decode_any_envelope(decode_entry(store.entry(0)).envelope)
    except JournalError as error:
        raise named(error) from None
    if not isinstance(body, Genesis):
        raise NovateError("NO_GENESIS", "entry 0 of this journal is no genesis; is it Novate's?")
    return body


def recover(store: Store, layout: Layout, keep_snapshots: int = 3) -> Recovered:
    """The state at the journal's head, and the records of every closed epoch.

    Raises `NovateError` REPLAY_DIVERGED, NO_GENESIS, DISK_FULL, and the journal's codes.
    """
    genesis = read_genesis(store)
    book = EpochBook(layout, genesis, keep_snapshots)
    try:
        reducer, size, prev = from_snapshot(store, book)
        worker = Replayer(
            reducer, size, prev, store.root, lambda reducer, epoch: _take_note(store, book, reducer, epoch)
        )
        report = replay(entries(store, size), check_signatures=False, replayer=worker)
    except JournalError as error:
        raise named(error) from None
    if report.divergence is not None:
        message = f"{report.divergence}; this build does not reproduce the journal: run `novate journal fsck`"
        raise NovateError("REPLAY_DIVERGED", message)
    assert worker.reducer is not None, "the journal has a genesis"
    return Recovered(worker.reducer, book, genesis, size, report.entries)


def state_at_head(store: Store, layout: Layout) -> Reducer:
    """The state at the journal's head, from the newest sound snapshot; nothing is written, so that it may be asked
    for beside a running operator. Raises `NovateError` REPLAY_DIVERGED, NO_GENESIS, and the journal's codes."""
    book = EpochBook(layout, read_genesis(store))
    try:
        worker = Replayer(*from_snapshot(store, book), store.root, lambda *_: None)
        report = replay(entries(store, worker.size), check_signatures=False, replayer=worker)
    except JournalError as error:
        raise named(error) from None
    if report.divergence is not None or worker.reducer is None:
        raise NovateError("REPLAY_DIVERGED", f"{report.divergence}; this build does not reproduce the journal")
    return worker.reducer


def _take_note(store: Store, book: EpochBook, reducer: Reducer, epoch: ReplayedEpoch) -> None:
    """Write the records of an epoch that the tail closes, as the pipeline would have."""
    closed = ClosedEpoch(epoch.journal_size - 1, epoch.close_time_us, epoch.outcome, reducer)
    block = next(store.read(closed.seq))
    closed.head = Head(block.term, epoch.journal_size, block.hash, epoch.journal_size, epoch.journal_root)
    book.closed(closed)
    book.flush()


def from_snapshot(store: Store, book: EpochBook) -> tuple[Reducer | None, int, tuple[bytes, ...]]:
    """The newest snapshot that verifies: its reducer, the journal's size there, the last headers' hashes."""
    whole, end = book.last_whole(), store.head().next_seq
    for seq in reversed(book.snapshots.list()):
        if not 0 < seq <= end:
            continue
        try:
            found = book.snapshots.load(seq)
            if next(store.read(seq - 1)).hash != found.block_hash:
                continue
            outcome = closing(decode_entry(store.entry(seq - 1)).outcomes)
            if outcome is None or outcome.epoch > whole or book.load(outcome.epoch).outcome != outcome:
                continue
            return Reducer(state=snapshot.load(found.payload, outcome)), seq, book.last_hashes(outcome.epoch)
        except (JournalError, NovateError):
            continue  # an older snapshot, or the journal alone, will do
    return None, 0, ()


def warm(recent: Recent, store: Store, count: int = 4_096) -> list[Receipt]:
    """Remember the last `count` entries, so that a retry across a restart gets its receipt.

    The receipts still need the checkpoint that the node signs when it starts.
    """
    size = store.head().next_seq
    receipts = []
    for seq, data in entries(store, max(0, size - count)):
        entry = decode_entry(data)
        envelope, _ = decode_any_envelope(entry.envelope)
        receipt = Receipt(seq, entry.time_us, data, entry.outcomes)
        recent.add(envelope, receipt)
        receipts.append(receipt)
    return receipts
