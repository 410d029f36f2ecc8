# SPDX-License-Identifier: GPL-3.0-or-later
"""State snapshots: opaque bytes in files beside the journal, never inside its database.

Rules:
- A snapshot belongs to one point of one journal: `seq` entries were applied, and the last of them ends
  the block with `block_hash`. It is a cache: the journal can always do without it.
- A file is complete or absent: written under a temporary name, synced, renamed, directory synced.
- Loading checks all of it (magic, name, lengths, SHA-256 of header and payload) and refuses the rest.

File `<seq, 20 digits>.snapshot`: `"novate-snapshot/1\\n" | seq u64 | block_hash 32 | payload length u64 |
SHA-256 of the payload 32 | SHA-256 of all header bytes before 32 | payload`.
"""

import contextlib
import os
import re
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from journal import errors
from journal.errors import JournalError
from journal.layout import NO_SPACE, sync_directory

MAGIC: Final = b"novate-snapshot/1\n"
_HEADER: Final = struct.Struct(f">{len(MAGIC)}sQ32sQ32s")
_HASH_BYTES: Final = 32
_HEADER_BYTES: Final = _HEADER.size + _HASH_BYTES
_NAME: Final = re.compile(r"([0-9]{20})\.snapshot")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A verified snapshot: the state after `seq` entries, the last in the block with `block_hash`."""

    seq: int
    block_hash: bytes
    payload: bytes


class Snapshots:
    """The snapshots in one directory, which is made when the first is saved."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def path(self, seq: int) -> Path:
        """Where the snapshot of `seq` is or would be."""
        return self.directory / f"{seq:020d}.snapshot"

    def save(self, seq: int, block_hash: bytes, payload: bytes) -> Path:
        """Write a snapshot durably, replacing one of the same seq.

        Raises JournalError: DISK_FULL, JOURNAL_UNREADABLE; what was there before is unchanged.
        """
        header = _HEADER.pack(MAGIC, seq, block_hash, len(payload), sha256(payload).digest())
        target = self.path(seq)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(header + sha256(header).digest())
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_directory(self.directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            code = errors.DISK_FULL if error.errno in NO_SPACE else errors.JOURNAL_UNREADABLE
            raise JournalError(code, f"the snapshot {target} was not written: {error.strerror}", seq) from None
        return target

    def list(self) -> "tuple[int, ...]":
        """The seqs of the files that are named as snapshots, ascending; they are not opened."""
        try:
            names = [entry.name for entry in self.directory.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name))))

    def load(self, seq: int) -> Snapshot:
        """Read one snapshot.

        Raises JournalError: SNAPSHOT_NOT_FOUND, SNAPSHOT_FOREIGN (another kind or version of file),
        SNAPSHOT_DAMAGED, JOURNAL_UNREADABLE.
        """
        path = self.path(seq)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise JournalError(errors.SNAPSHOT_NOT_FOUND, f"there is no snapshot {path}", seq) from None
        except OSError as error:
            raise JournalError(errors.JOURNAL_UNREADABLE, f"{path} cannot be read: {error.strerror}", seq) from None
        return _parse(path, seq, content)

    def latest(self, at_most_seq: int | None = None) -> Snapshot | None:
        """The newest sound snapshot (of at most `at_most_seq` entries); None if there is none.

        Damaged ones are passed over, since an older one or the journal itself serves as well; `damaged`
        names them.
        """
        for seq in reversed(self.list()):
            if at_most_seq is None or seq <= at_most_seq:
                with contextlib.suppress(JournalError):
                    return self.load(seq)
        return None

    def damaged(self) -> "dict[int, JournalError]":
        """Why each snapshot that does not load is refused, by seq."""
        found = {}
        for seq in self.list():
            try:
                self.load(seq)
            except JournalError as error:
                found[seq] = error
        return found

    def prune(self, keep: int) -> "tuple[int, ...]":
        """Delete all but the newest `keep` sound snapshots and what a killed `save` left; returns the
        deleted seqs. Damaged files do not count as kept and are left for someone to look at."""
        damaged = self.damaged()
        sound = [seq for seq in self.list() if seq not in damaged]
        doomed = tuple(sound[: max(0, len(sound) - keep)])
        for seq in doomed:
            self.path(seq).unlink(missing_ok=True)
        if self.directory.is_dir():
            for left_over in self.directory.glob("*.tmp"):
                left_over.unlink(missing_ok=True)
            sync_directory(self.directory)
        return doomed


def _parse(path: Path, seq: int, content: bytes) -> Snapshot:
    if content[: len(MAGIC)] != MAGIC:
        raise JournalError(errors.SNAPSHOT_FOREIGN, f"{path} is not a snapshot this version can read", seq)
    if len(content) < _HEADER_BYTES:
        raise _damaged(path, seq, "it was cut short")
    header, header_hash = content[: _HEADER.size], content[_HEADER.size : _HEADER_BYTES]
    if sha256(header).digest() != header_hash:
        raise _damaged(path, seq, "its header does not match its hash")
    _, written_seq, block_hash, length, payload_hash = _HEADER.unpack(header)
    payload = content[_HEADER_BYTES:]
    if len(payload) != length:
        raise _damaged(path, seq, f"it holds {len(payload)} bytes of {length}")
    if sha256(payload).digest() != payload_hash:
        raise _damaged(path, seq, "its content does not match its hash")
    if written_seq != seq:
        raise JournalError(errors.SNAPSHOT_FOREIGN, f"{path} holds the snapshot of seq {written_seq}", seq)
    return Snapshot(seq, block_hash, payload)


def _damaged(path: Path, seq: int, reason: str) -> JournalError:
    return JournalError(errors.SNAPSHOT_DAMAGED, f"{path} is damaged ({reason}): delete it", seq)
