# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a journal directory, apart from the database's own.

    data.mdb, lock.mdb   the database
    writer.lock          flock held by the one writer for as long as it is open
    reserve              2 MiB that are given back to the disk when it is full
    witness              the last acknowledged head, outside the database

Rules:
- Space for a commit is allocated in data.mdb before the database is touched. A full disk is thus met
  by our own call, before any sync, and not in the middle of a commit, where a short write and a failed
  sync look the same (the database reports both as EIO).
- The witness is written after each commit and is not synced: it may lag behind the journal, never lead
  it. A damaged meta page makes the database fall back to the commit before the last one, which is
  consistent in itself; only something outside the database can tell.
"""

import contextlib
import errno
import fcntl
import os
import resource
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from journal import errors
from journal.block import ZERO_HASH
from journal.errors import JournalError

DATA: Final = "data.mdb"
WRITER_LOCK: Final = "writer.lock"
RESERVE: Final = "reserve"
WITNESS: Final = "witness"
RESERVE_BYTES: Final = 2 << 20
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})

_WITNESS: Final = struct.Struct(">16sQ32s32s")
_WITNESS_MAGIC: Final = b"novate-witness/1"


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class WriterLock:
    """An exclusive lock on a journal directory; the kernel drops it when its holder dies."""

    def __init__(self, directory: Path, shared: bool = False) -> None:
        """Take the lock at once or raise JournalError: JOURNAL_LOCKED."""
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        self._fd = os.open(directory / WRITER_LOCK, flags, 0o644)
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise JournalError(
                errors.JOURNAL_LOCKED,
                f"{directory} is open for writing elsewhere; stop that process first",
            ) from None

    def release(self) -> None:
        """Give the lock up. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Preallocator:
    """Allocates space at the end of a data file ahead of the commits that will use it."""

    def __init__(self, path: Path, grow_bytes: int) -> None:
        self._path = path
        self._grow_bytes = grow_bytes
        self._fd = os.open(path, os.O_RDWR)
        self._end = os.fstat(self._fd).st_size

    @property
    def end(self) -> int:
        """Bytes up to which the file is allocated."""
        return self._end

    def ensure(self, end: int) -> None:
        """Allocate the file up to byte `end`. Raises JournalError: DISK_FULL."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and end > limit:
            raise self._full(end, f"this process may not write files over {limit} bytes")
        if end <= self._end:
            return
        ahead = max(end, self._end + self._grow_bytes)
        if limit != resource.RLIM_INFINITY:
            ahead = min(ahead, limit)
        try:
            self._allocate(ahead)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            # No room to grow in comfort; what this commit needs may still fit.
            self._allocate_exactly(end)

    def _allocate_exactly(self, end: int) -> None:
        try:
            self._allocate(end)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise self._full(end, os.strerror(error.errno or 0)) from None

    def _allocate(self, end: int) -> None:
        os.posix_fallocate(self._fd, self._end, end - self._end)
        self._end = end

    def _full(self, end: int, reason: str) -> JournalError:
        return JournalError(
            errors.DISK_FULL,
            f"{self._path} cannot grow to {end} bytes: {reason}; nothing was written. Free some space and retry",
        )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def make_reserve(directory: Path, reserve_bytes: int) -> bool:
    """Set the reserve file up if it is missing and there is space for it; says whether it stands."""
    path = directory / RESERVE
    if path.exists() or reserve_bytes == 0:
        return path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(fd, 0, reserve_bytes)
        os.fsync(fd)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if error.errno in NO_SPACE:
            return False
        raise
    finally:
        os.close(fd)
    return True


def free_reserve(directory: Path) -> bool:
    """Give the reserve back to the disk; says whether there was one."""
    try:
        (directory / RESERVE).unlink()
    except FileNotFoundError:
        return False
    sync_directory(directory)
    return True


@dataclass(frozen=True, slots=True)
class Seen:
    """What a witness says: entries [0, next_seq) were acknowledged, the last block had `block_hash`."""

    next_seq: int
    block_hash: bytes


class Witness:
    """The last acknowledged head, rewritten in place (one sector) after each commit."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / WITNESS, os.O_RDWR | os.O_CREAT, 0o644)

    def write(self, next_seq: int, block_hash: bytes) -> None:
        """Replace the record. Raises OSError."""
        os.pwrite(self._fd, witness_record(next_seq, block_hash), 0)

    def sync(self) -> None:
        """Make the record durable (when the journal is created or closed)."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def witness_record(next_seq: int, block_hash: bytes) -> bytes:
    """The bytes of a witness."""
    body = _WITNESS.pack(_WITNESS_MAGIC, next_seq, block_hash, ZERO_HASH)[: -len(ZERO_HASH)]
    return body + sha256(body).digest()


def read_witness(directory: Path) -> Seen | None:
    """Read the witness; None if there is none or a power cut or damage made it unreadable."""
    try:
        record = (directory / WITNESS).read_bytes()
    except FileNotFoundError:
        return None
    if len(record) != _WITNESS.size:
        return None
    magic, next_seq, block_hash, digest = _WITNESS.unpack(record)
    if magic != _WITNESS_MAGIC or sha256(record[: -len(digest)]).digest() != digest:
        return None
    return Seen(next_seq, block_hash)
