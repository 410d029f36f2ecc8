# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed epochs on disk: what is needed to post one again, byte for byte, and to restart from it.

    epochs/<epoch, 10 digits>.epoch   canonical msgpack of an EpochRecord
    snapshots/                        state at the close (journal.snapshot)

Rules:
- Both are caches of the journal. A record is written before its snapshot, and a restart uses a
  snapshot only if every record up to its epoch is there: so replaying the tail makes again whatever
  was lost.
- A record holds a header per live vault; headers chain, so record n needs record n - 1.
"""

import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from clearing.audit.rounds import build_headers, last_hashes
from clearing.model.codec import encode
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError, Refused
from clearing.model.outcomes import EpochClosed
from clearing.service.commit import named
from clearing.service.layout import Layout
from clearing.service.pipeline import ClosedEpoch
from journal import JournalError
from journal.snapshot import Snapshots
from proofs.diff import decode_chunk
from proofs.hashing import sha256
from proofs.leaf import ExitLeaf

_SUFFIX: Final = ".epoch"
_VERSION: Final = 2


class VaultPart(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One vault's header of an epoch and the diff that it commits to."""

    header: bytes
    chunks: tuple[bytes, ...]

    @property
    def header_hash(self) -> bytes:
        return sha256(self.header)

    @property
    def chunk_hashes(self) -> list[bytes]:
        """SHA-256 of the diff's chunks, in order."""
        return [sha256(chunk) for chunk in self.chunks]


class EpochRecord(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One closed epoch. `snapshot_seq` is the journal's size right after the closing entry; `vaults` hold None
    for a frozen vault; `last_hashes` are the vaults' last header hashes, which the next headers name."""

    version: int
    epoch: int
    snapshot_seq: int
    journal_root: bytes
    outcome: EpochClosed
    vaults: tuple[VaultPart | None, ...]
    last_hashes: tuple[bytes, ...]

    def part(self, vault: int) -> VaultPart:
        """A vault's part. Raises `NovateError` UNKNOWN_VAULT, NO_HEADER."""
        if not 0 <= vault < len(self.vaults):
            raise Refused("UNKNOWN_VAULT", f"there is no vault {vault}; the deployment has {len(self.vaults)}")
        found = self.vaults[vault]
        if found is None:
            raise Refused("NO_HEADER", f"vault {vault} was frozen before epoch {self.epoch} and has no header of it")
        return found

    def live(self) -> list[int]:
        """Numbers of the vaults that have a header of this epoch."""
        return [number for number, part in enumerate(self.vaults) if part is not None]


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
        self.genesis = genesis
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
        size = closed.head.next_seq
        record = self._record(closed)
        write_durably(self._path(record.epoch), encode(record))
        try:
            self.snapshots.save(size, closed.head.block_hash, closed.payload)
            self.snapshots.prune(self._keep)
        except JournalError as error:
            raise named(error) from None
        return record

    def _record(self, closed: ClosedEpoch) -> EpochRecord:
        head, outcome = closed.head, closed.outcome
        prev = self.last_hashes(outcome.epoch - 1)
        size, root = head.next_seq, head.tree_root
        headers = build_headers(self.genesis, outcome, closed.time_us, size, root, prev)
        parts = tuple(
            VaultPart(header.encode(), tuple(chunks)) if header is not None else None
            for header, chunks in zip(headers, closed.chunks, strict=True)
        )
        return EpochRecord(_VERSION, outcome.epoch, size, root, outcome, parts, last_hashes(headers, prev))

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch:010d}{_SUFFIX}"

    def last_hashes(self, epoch: int) -> tuple[bytes, ...]:
        """Per vault the hash of its last header at an epoch; zero before the first. Raises `NovateError`
        UNKNOWN_EPOCH."""
        return self.load(epoch).last_hashes if epoch else (bytes(32),) * len(self.genesis.vaults)

    def leaves(self, vault: int, epoch: int) -> list[ExitLeaf]:
        """A vault's exit leaves as its header of `epoch` commits to them, ascending, from the records' diffs.

        Raises `NovateError` UNKNOWN_EPOCH, EPOCH_RECORD_DAMAGED.
        """
        leaves: dict[int, ExitLeaf] = {}
        for number in range(1, epoch + 1):
            for chunk in self.load(number).part(vault).chunks:
                for row in decode_chunk(chunk).rows:
                    owner = row.owner if row.owner is not None else leaves[row.index].owner
                    leaves[row.index] = ExitLeaf(row.index, owner, row.exits, row.acks)
        return [leaves[index] for index in sorted(leaves)]

    def load(self, epoch: int) -> EpochRecord:
        """A record. Raises `NovateError` UNKNOWN_EPOCH, EPOCH_RECORD_DAMAGED."""
        path = self._path(epoch)
        try:
            record = _decode(path.read_bytes())
        except FileNotFoundError:
            raise NovateError("UNKNOWN_EPOCH", f"epoch {epoch} is not closed yet; GET /v1/epochs lists them") from None
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise NovateError("EPOCH_RECORD_DAMAGED", f"{path}: {error}; delete it and restart") from None
        if record.version != _VERSION or record.epoch != epoch:
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
