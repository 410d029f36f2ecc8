# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay: apply every entry's envelope again and compare the entry's bytes.

Rules:
- The first divergence ends the replay, with its seq: what follows it proves nothing.
- An entry that the reducer would not have admitted (signature, key, nonce, deployment), or that is not
  canonical, is a divergence as well: the operator could not have journalled it honestly.
- Outcomes are compared as bytes. They are decoded only to say which field differs.
- Memory is flat: entries pass in chunks, and only epochs are kept. Signatures of a chunk are checked, and its leaves
  hashed, while the chunk before it is applied (`clearing.audit.checks`); neither needs state.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from clearing.audit.checks import Checked, Checker, Inline, Threads
from clearing.audit.divergence import Divergence, compare_outcomes
from clearing.audit.pieces.compact import CompactRange, of_leaves
from clearing.audit.rounds import build_headers, last_hashes
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.model.codec import decode_any_envelope, decode_entry, decode_envelope, encode_entry
from clearing.model.commands import Body, CloseEpoch, ConsumeInbox, Envelope, Genesis, OperatorBatch
from clearing.model.errors import NovateError, Refused
from clearing.model.outcomes import EpochClosed, Outcome, Rejected
from proofs.header import Header

__all__ = ["CHUNK", "Divergence", "ReplayReport", "ReplayedEpoch", "Replayer", "compare_outcomes", "replay"]

# A chunk has so many entries, or the first that bring it to so many bytes.
CHUNK: Final = 2_000
CHUNK_BYTES: Final = 2 << 20
NO_LEAD: Final = (-1, -(1 << 63))


class _Skim(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry with its outcomes left as bytes."""

    seq: int
    time_us: int
    envelope: bytes
    outcomes: msgspec.Raw


_skim = msgspec.msgpack.Decoder(_Skim).decode


@dataclass(frozen=True, slots=True)
class ReplayedEpoch:
    """An epoch as the replay closed it. `headers`: per vault of genesis, None once that one is frozen;
    `header_hashes`: per vault its last header's hash at this epoch, which the next headers name."""

    outcome: EpochClosed
    close_time_us: int
    journal_size: int
    journal_root: bytes
    headers: tuple[Header | None, ...]
    header_hashes: tuple[bytes, ...]


@dataclass(slots=True)
class ReplayReport:
    """What a replay found. `entries` were compared; `root` and `size` are of the log over them.

    `state` is the final state (None when not even a genesis was read). A replay that began at a snapshot compared
    entries from `first` on, which the epoch `first_epoch` closed (0 and 0: from genesis). `marks`: per size that was
    asked for the log's root there and the operator's key then (33 bytes). `lead`: of the entries that take in messages
    of a vault, the one that is furthest before its message's block, and by how many microseconds (negative: after it).
    `notes`: what did not go as planned and changes nothing.
    """

    entries: int = 0
    size: int = 0
    root: bytes = b""
    epochs: list[ReplayedEpoch] = field(default_factory=list)
    state: State | None = None
    divergence: Divergence | None = None
    first: int = 0
    first_epoch: int = 0
    marks: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    lead: tuple[int, int] = NO_LEAD
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.divergence is None


class _Diverged(Exception):
    def __init__(self, divergence: Divergence) -> None:
        super().__init__(str(divergence))
        self.divergence = divergence


@dataclass(slots=True)
class _Item:
    seq: int
    data: bytes
    time_us: int
    raw: bytes
    envelope: Envelope
    body: Body
    leaf: bytes = b""
    bad: Divergence | None = None


def _read(seq: int, data: bytes) -> _Item:
    """Decode an entry up to its body."""
    try:
        skim = _skim(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise _Diverged(Divergence(seq, "ENCODING", "an entry", f"bytes that are none ({error})")) from None
    if skim.seq != seq:
        raise _Diverged(Divergence(seq, "SEQUENCE", str(seq), str(skim.seq)))
    try:
        decode = decode_envelope if seq else decode_any_envelope
        envelope, body = decode(skim.envelope)
    except Refused as error:
        raise _Diverged(Divergence(seq, "ADMISSION", f"a refusal ({error})", "an entry")) from None
    return _Item(seq, data, skim.time_us, skim.envelope, envelope, body)


class Replayer:
    """Applies entries in order and compares.

    From genesis it computes the log's roots itself. To start from a snapshot, give the restored `reducer`, the `size`
    it stands at, the hashes of the vaults' last headers, and either `root_at(size)` for the roots or `prefix`, the
    hashes of the log up to `size`. `on_epoch` is called while the state is still as it was at the close. `marks`:
    sizes at which the log's root is wanted.
    """

    def __init__(
        self,
        reducer: Reducer | None = None,
        size: int = 0,
        prev_hashes: Sequence[bytes] = (),
        root_at: Callable[[int], bytes] | None = None,
        on_epoch: "Callable[[Reducer, ReplayedEpoch], None] | None" = None,
        prefix: CompactRange | None = None,
        marks: Iterable[int] = (),
    ) -> None:
        self.reducer = reducer
        self.size = size
        self.epochs: list[ReplayedEpoch] = []
        self.marks: dict[int, tuple[bytes, bytes]] = {}
        self.lead = NO_LEAD
        self._wanted = frozenset(marks)
        self._prev_hashes = tuple(prev_hashes)
        self._root_at = root_at
        self._on_epoch = on_epoch
        self._range = prefix or CompactRange(0, 0)
        self._leaves: list[bytes] = []

    def hashed(self) -> CompactRange:
        """The log's hashes over everything applied so far."""
        if self._leaves:
            self._range = self._range.joined(of_leaves(self._range.end, self._leaves))
            self._leaves = []
        return self._range

    def root(self) -> bytes:
        """The log's root over everything applied so far."""
        return self._root_at(self.size) if self._root_at is not None else self.hashed().root()

    def apply(self, item: _Item) -> None:
        """Apply one entry. Raises `_Diverged`."""
        if item.bad is not None:
            raise _Diverged(item.bad)
        reducer = self._reducer_for(item)
        try:
            outcomes = reducer.apply(item.time_us, item.envelope, item.body)
            again = encode_entry(item.seq, item.time_us, item.raw, outcomes)
        except NovateError as error:
            what = (
                "ADMISSION" if isinstance(error, Refused) else "TIME" if error.code == "TIME_WENT_BACK" else "INVARIANT"
            )
            raise _Diverged(Divergence(item.seq, what, f"a refusal ({error})", "an entry")) from None
        if again != item.data:
            raise _Diverged(self._explain(item, outcomes))
        self.size += 1
        if self._root_at is None:
            self._leaves.append(item.leaf)
        if self.size in self._wanted:
            self._mark(reducer)
        body = item.body
        if type(body) is OperatorBatch:
            if type(body.commands[0]) is CloseEpoch:
                self._close(reducer, item, outcomes)
            else:
                self._look_at_times(item.seq, item.time_us, body, outcomes)

    def _mark(self, reducer: Reducer) -> None:
        self.marks[self.size] = self.root(), reducer.state.operator_key

    def _look_at_times(self, seq: int, time_us: int, body: OperatorBatch, outcomes: list[Outcome]) -> None:
        for index, command in enumerate(body.commands):
            if type(command) is ConsumeInbox:
                lead_us = command.l1_time * 1_000_000 - time_us
                refused = any(type(outcome) is Rejected and outcome.index == index for outcome in outcomes)
                if lead_us > self.lead[1] and not refused:
                    self.lead = seq, lead_us

    def flush(self) -> None:
        """Fold the leaves of a chunk, so that none are kept."""
        self.hashed()

    def _reducer_for(self, item: _Item) -> Reducer:
        if self.reducer is None:
            if not isinstance(item.body, Genesis):
                raise _Diverged(Divergence(item.seq, "ADMISSION", "a genesis", type(item.body).__name__))
            try:
                self.reducer = Reducer(item.body)
            except NovateError as error:
                raise _Diverged(Divergence(item.seq, "ADMISSION", f"a refusal ({error})", "an entry")) from None
        return self.reducer

    def _explain(self, item: _Item, outcomes: list[Outcome]) -> Divergence:
        try:
            found = decode_entry(item.data).outcomes
        except NovateError as error:
            return Divergence(item.seq, "ENCODING", "canonical outcomes", str(error))
        fields = compare_outcomes(found, outcomes)
        return Divergence(item.seq, "OUTCOMES", f"{len(outcomes)} outcomes", f"{len(found)} outcomes", fields)

    def _close(self, reducer: Reducer, item: _Item, outcomes: list[Outcome]) -> None:
        outcome = next((found for found in outcomes if isinstance(found, EpochClosed)), None)
        if outcome is None:
            return
        genesis, root = reducer.state.genesis, self.root()
        prev = self._prev_hashes or (bytes(32),) * len(genesis.vaults)
        headers = build_headers(genesis, outcome, item.time_us, self.size, root, prev)
        self._prev_hashes = last_hashes(headers, prev)
        epoch = ReplayedEpoch(outcome, item.time_us, self.size, root, headers, self._prev_hashes)
        self.epochs.append(epoch)
        if self._on_epoch is not None:
            self._on_epoch(reducer, epoch)


def _chunks(entries: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for item in entries:
        chunk.append(item)
        size += len(item[1])
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decode_chunk(chunk: list[tuple[int, bytes]], first: int) -> tuple[list[_Item], Divergence | None]:
    """Items up to the first one that does not decode or is out of sequence, and that fault."""
    items: list[_Item] = []
    try:
        for offset, (seq, data) in enumerate(chunk):
            if seq != first + offset:
                raise _Diverged(Divergence(first + offset, "SEQUENCE", str(first + offset), str(seq)))
            items.append(_read(seq, data))
    except _Diverged as fault:
        return items, fault.divergence
    return items, None


class _Chunk:
    """Decoded entries whose signatures are being checked. `wait` before they are applied."""

    def __init__(self, chunk: list[tuple[int, bytes]], first: int, checker: Checker) -> None:
        self._checks: list[Checked] = checker.submit([data for _, data in chunk])
        self.items, self.fault = _decode_chunk(chunk, first)

    def wait(self) -> None:
        """Note in the items what the checks found."""
        at = 0
        for check in self._checks:
            leaves, bad = check()
            for item, leaf in zip(self.items[at:], leaves, strict=False):
                item.leaf = leaf
            for offset, reason in bad:
                if at + offset < len(self.items):
                    item = self.items[at + offset]
                    item.bad = Divergence(item.seq, "SIGNATURE", f"a refusal ({reason})", "an entry")
            at += len(leaves)


def _checked_chunks(entries: Iterable[tuple[int, bytes]], first: int, checker: Checker) -> Iterator[_Chunk]:
    """Chunks ready to apply, in order; the one after each is decoded and being checked already."""
    ahead: _Chunk | None = None
    for chunk in _chunks(entries):
        ready, ahead = ahead, _Chunk(chunk, first, checker)
        first += len(chunk)
        if ready is not None:
            ready.wait()
            yield ready
    if ahead is not None:
        ahead.wait()
        yield ahead


def replay(
    entries: Iterable[tuple[int, bytes]],
    *,
    check_signatures: bool = True,
    threads: int = 2,
    on_progress: Callable[[int], None] | None = None,
    replayer: Replayer | None = None,
    checker: Checker | None = None,
) -> ReplayReport:
    """Replay (seq, entry bytes) in order, from genesis unless a `replayer` stands elsewhere.

    `on_progress` hears the number of entries compared, after each chunk. `checker` checks signatures and hashes in
    place of `threads`, and is left open. Never raises for what is in the entries; errors of the iterable itself (a
    damaged journal) pass through.
    """
    worker = replayer if replayer is not None else Replayer()
    report = ReplayReport(first=worker.size)
    own = None if checker is not None else Threads(threads) if check_signatures else Inline(False)
    try:
        for chunk in _checked_chunks(entries, worker.size, checker or own or Inline(check_signatures)):
            for item in chunk.items:
                worker.apply(item)
                report.entries += 1
            if chunk.fault is not None:
                raise _Diverged(chunk.fault)
            worker.flush()
            if on_progress is not None:
                on_progress(report.entries)
    except _Diverged as diverged:
        report.divergence = diverged.divergence
    finally:
        if own is not None:
            own.close()
    report.size, report.root = worker.size, worker.root()
    report.epochs, report.marks, report.lead = worker.epochs, worker.marks, worker.lead
    report.state = worker.reducer.state if worker.reducer is not None else None
    return report
