# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed epochs on disk: what is needed to post one again, byte for byte, and to restart from it.

    epochs/<epoch, 10 digits>.epoch   canonical msgpack of an EpochRecord
    snapshots/                        state at the close (journal.snapshot)

Rules:
- Both are caches of the journal. A record is written before its snapshot, and a restart uses a
  snapshot only if every record up to its epoch is there: so replaying the tail makes again whatever
  was lost.
- A record names its header; headers chain, so record n needs record n - 1.
"""

import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from clearing.audit.headers import build_header
from clearing.model.codec import encode
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from clearing.service.commit import named
from clearing.service.layout import Layout
from clearing.service.pipeline import ClosedEpoch
from journal import JournalError
from journal.snapshot import Snapshots
from proofs.hashing import sha256
from proofs.header import Header

_SUFFIX: Final = ".epoch"


class EpochRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One closed epoch. `snapshot_seq` is the journal's size right after the closing entry."""

    version: int
    epoch: int
    snapshot_seq: int
    outcome: EpochClosed
    header: bytes
    chunks: tuple[bytes, ...]

    @property
    def header_hash(self) -> bytes:
        return sha256(self.header)

    @property
    def chunk_hashes(self) -> list[bytes]:
        """SHA-256 of the diff's chunks, in order."""
        return [sha256(chunk) for chunk in self.chunks]


_decode = msgspec.msgpack.Decoder(EpochRecord).decode


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or absent. Raises `NovateError` DISK_FULL for any failure to write."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise NovateError("DISK_FULL", f"{path} was not written: {error.strerror}; free space and restart") from None


class EpochBook:
    """Closed epochs of one data directory. `closed` may be called by the writer thread: it only queues;
    `flush` does the writing."""

    def __init__(self, layout: Layout, genesis: Genesis, keep_snapshots: int = 3) -> None:
        self.snapshots = Snapshots(layout.snapshots)
        self._folder = layout.epochs
        self._genesis = genesis
        self._keep = keep_snapshots
        self._queue: list[ClosedEpoch] = []
        self._lock = threading.Lock()

    def closed(self, epoch: ClosedEpoch) -> None:
        """Take note of an epoch that was committed."""
        with self._lock:
            self._queue.append(epoch)

    def flush(self) -> list[EpochRecord]:
        """Write what was noted; returns the new records. Raises `NovateError` DISK_FULL and others."""
        written = []
        with self._lock:
            while self._queue:
                written.append(self._write(self._queue[0]))
                self._queue.pop(0)
        return written

    def _write(self, closed: ClosedEpoch) -> EpochRecord:
        header = self._header(closed)
        size = closed.head.next_seq
        record = EpochRecord(1, closed.outcome.epoch, size, closed.outcome, header.encode(), tuple(closed.chunks))
        write_durably(self._path(record.epoch), encode(record))
        try:
            self.snapshots.save(size, closed.head.block_hash, closed.payload)
            self.snapshots.prune(self._keep)
        except JournalError as error:
            raise named(error) from None
        return record

    def _header(self, closed: ClosedEpoch) -> Header:
        head = closed.head
        prev = self.header_hash(closed.outcome.epoch - 1)
        return build_header(self._genesis, closed.outcome, closed.time_us, head.next_seq, head.tree_root, prev)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch:010d}{_SUFFIX}"

    def header_hash(self, epoch: int) -> bytes:
        """Hash of an epoch's header; zero for epoch 0. Raises `NovateError` UNKNOWN_EPOCH."""
        return self.load(epoch).header_hash if epoch else bytes(32)

    def load(self, epoch: int) -> EpochRecord:
        """A record. Raises `NovateError` UNKNOWN_EPOCH, EPOCH_RECORD_DAMAGED."""
        path = self._path(epoch)
        try:
            record = _decode(path.read_bytes())
        except FileNotFoundError:
            raise NovateError("UNKNOWN_EPOCH", f"epoch {epoch} is not closed yet; GET /v1/epochs lists them") from None
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise NovateError("EPOCH_RECORD_DAMAGED", f"{path}: {error}; delete it and restart") from None
        if record.version != 1 or record.epoch != epoch:
            raise NovateError(
                "EPOCH_RECORD_DAMAGED", f"{path} is not the record of epoch {epoch}; delete it and restart"
            )
        return record

    def written(self) -> int:
        """The newest epoch that has a record on disk; 0 without any."""
        names = sorted(path.stem for path in self._folder.glob(f"*{_SUFFIX}"))
        return int(names[-1]) if names else 0

    def last_whole(self) -> int:
        """The last epoch up to which every record is there and readable."""
        epoch = 0
        while self._path(epoch + 1).exists():
            try:
                self.load(epoch + 1)
            except NovateError:
                break
            epoch += 1
        return epoch

    def payload(self, record: EpochRecord) -> bytes:
        """The state snapshot of an epoch. Raises `NovateError` SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED."""
        try:
            return self.snapshots.load(record.snapshot_seq).payload
        except JournalError as error:
            raise named(error) from None
