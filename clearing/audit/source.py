# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an audit reads a journal: a journal's own directory, a published log, or whatever yields entries.

Rules:
- A source is read from several processes at once when it can be sent there (pickled): then it opens what it reads in
  the process that reads. Nothing that a source says is believed because it said so: blocks, tiles and bundles are
  checked against their hashes, and every entry is replayed.
- `pieces` False: the source is read once, from its beginning, in one go.
- A private log without its key, or a copy of tiles alone, has roots and no entries: it is not `readable`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clearing.audit.pieces.compact import CompactRange, of_prefix
from clearing.model.codec import decode_any_envelope, decode_entry
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError, Refused
from journal import Store
from journal.published import PublishedLog
from journal.replay import entries as stored
from proofs.log import leaf_hash

Entries = Iterator[tuple[int, bytes]]


class Source(Protocol):
    """A journal to audit. `note` is the signed checkpoint it came with, "" without one."""

    @property
    def pieces(self) -> bool: ...

    def size(self) -> int:
        """How many entries there are to read; 0 when that is not known beforehand."""
        ...

    def note(self) -> str: ...

    def readable(self) -> bool:
        """Whether entries can be read at all."""
        ...

    def entries(self, first: int = 0, stop: int | None = None) -> Entries:
        """(seq, entry bytes) from `first` up to `stop` (excluded; default: all there are)."""
        ...

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The inclusion path of an entry in the log of `size` entries, as the source has it: to be verified."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A journal's own directory. Raises JournalError when it is damaged or cannot be opened."""

    path: Path
    text: str = ""
    pieces: bool = True

    def size(self) -> int:
        with Store.open(self.path, read_only=True) as store:
            return store.head().next_seq

    def note(self) -> str:
        return self.text

    def readable(self) -> bool:
        return True

    def entries(self, first: int = 0, stop: int | None = None) -> Entries:
        with Store.open(self.path, read_only=True) as store:
            for seq, data in stored(store, first):
                if stop is not None and seq >= stop:
                    return
                yield seq, data

    def inclusion(self, index: int, size: int) -> list[bytes]:
        with Store.open(self.path, read_only=True) as store:
            return store.inclusion(index, size)


@dataclass(slots=True)
class LogSource:
    """A published log. `opened` makes a reader of it, standing at the checkpoint to audit, in whatever process asks;
    it is called once per process."""

    opened: Callable[[], PublishedLog]
    pieces: bool = True
    _log: PublishedLog | None = None

    def log(self) -> PublishedLog:
        """This process's reader."""
        if self._log is None:
            self._log = self.opened()
        return self._log

    def __getstate__(self) -> tuple[Callable[[], PublishedLog], bool]:
        return self.opened, self.pieces

    def __setstate__(self, state: tuple[Callable[[], PublishedLog], bool]) -> None:
        self.opened, self.pieces = state
        self._log = None

    def size(self) -> int:
        return self.log().size

    def note(self) -> str:
        self.log().size  # noqa: B018 - fetches the checkpoint
        return self.log().note

    def readable(self) -> bool:
        return self.log().readable

    def entries(self, first: int = 0, stop: int | None = None) -> Entries:
        log = self.log()
        end = log.size if stop is None else min(stop, log.size)
        yield from enumerate(log.entries(first, end), first)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return self.log().tree().inclusion(index, size)

    def root(self, size: int) -> bytes:
        """The log's root over its first `size` entries, from checked tiles: no entry is needed for it."""
        return self.log().tree().root(size)


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Anything that yields (seq, entry) from the first entry on."""

    read: Callable[[], Entries]
    text: str = ""
    expected: int = 0
    pieces: bool = False

    def size(self) -> int:
        return self.expected

    def note(self) -> str:
        return self.text

    def readable(self) -> bool:
        return True

    def entries(self, first: int = 0, stop: int | None = None) -> Entries:
        for seq, data in self.read():
            if stop is not None and seq >= stop:
                return
            if seq >= first:
                yield seq, data

    def inclusion(self, index: int, size: int) -> list[bytes]:
        raise NovateError("NO_PROOFS", "this way of reading gives no proofs; audit a directory or a published log")


def entry_of(source: Source, seq: int) -> bytes:
    """One entry. Raises `NovateError` NO_ENTRY, and what the source raises."""
    found = list(source.entries(seq, seq + 1))  # to its end, since a journal is opened once per process
    if not found:
        raise NovateError("NO_ENTRY", f"the journal has no entry {seq}; it may end before it")
    return found[0][1]


def prefix_of(source: Source, size: int) -> tuple[CompactRange, bytes]:
    """The log's hashes over its first `size` entries, and the last of these. To be compared with a root that is known.

    Raises `NovateError` NO_ENTRY when the source does not have it, and what the source raises.
    """
    data = entry_of(source, size - 1)
    try:
        return of_prefix(size, source.inclusion(size - 1, size), leaf_hash(data)), data
    except ValueError as error:
        raise NovateError("NO_ENTRY", f"entry {size - 1} is not proven: {error}") from None


def genesis_in(source: Source) -> Genesis:
    """The genesis in entry 0. Raises `NovateError` NO_GENESIS, and what the source raises."""
    try:
        _, body = decode_any_envelope(decode_entry(entry_of(source, 0)).envelope)
    except NovateError as error:
        if isinstance(error, Refused) or error.code in ("NO_ENTRY", "ENTRY_MALFORMED"):
            body = None
        else:
            raise
    if not isinstance(body, Genesis):
        raise NovateError("NO_GENESIS", "entry 0 is not a genesis; this is not a Novate journal")
    return body
