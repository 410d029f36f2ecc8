# SPDX-License-Identifier: GPL-3.0-or-later
"""What a witness remembers: per log the last checkpoint that it cosigned, and what it refused.

    witness               the verifier key of the witness whose memory this is
    logs/<hash>           the last cosigned note of a log, with the log's signature and the witness's own
    forks/<hash>-...      notes that the log signed of a size whose other root the witness had cosigned
    unproven/...          the last notes that came without a proof that they extend the cosigned one
    .lock                 held by the process that writes

Rules:
- One process at a time, and one decision per log at a time (`deciding`).
- `keep` returns when the note is on disk for good: a file is written under another name, synced, renamed, and the
  folder is synced. Only then may the cosignature be shown to anybody.
- When it is not known whether a note got to the disk, its log is not decided on again before a restart.
- The memory is checked at the start: a note without this witness's valid cosignature is damage, not a fresh start.
- A lost memory is the worst fault a witness can have. An empty folder is therefore never taken for a new witness
  unless the caller says so.

A fork is a fault of the log, proven by two signed notes. A note without proof may be anybody's mistake, who had
it from the log's readers; only the last few are kept, so that nobody fills the disk with them.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from clearing.model.errors import NovateError
from proofs import checkpoint as notes
from proofs import cosignature
from proofs.checkpoint import Checkpoint, SignedNote
from proofs.errors import ProofError

MARKER: Final = "witness"
LOGS: Final = "logs"
FORKS: Final = "forks"
UNPROVEN: Final = "unproven"
LOCK: Final = ".lock"
KEEP_UNPROVEN: Final = 16
KEEP_FORKS: Final = 1_000
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


class Known(msgspec.Struct, frozen=True):
    """The last cosigned checkpoint of a log, when (seconds UTC), and the note with the log's signature and ours."""

    checkpoint: Checkpoint
    time_s: int
    note: str


class Memory(msgspec.Struct, frozen=True):
    """All that a folder holds: the witness's verifier key, the logs, and the notes it refused."""

    witness: str
    logs: tuple[Known, ...]
    forks: tuple[Path, ...]
    unproven: tuple[Path, ...]


def name_of(origin: str) -> str:
    """The file of a log: SHA-256 of its origin, since an origin may hold what no file name can."""
    return sha256(origin.encode()).hexdigest()


def read_memory(folder: Path) -> Memory:
    """Read and check a folder, beside the process that writes it. Raises NovateError WITNESS_NO_STATE,
    WITNESS_STATE_DAMAGED."""
    try:
        key = (folder / MARKER).read_text(encoding="utf-8").strip()
        name, public_key = cosignature.parse_witness_key(key)
    except (FileNotFoundError, NotADirectoryError):
        raise NovateError("WITNESS_NO_STATE", f"{folder} holds no witness's memory; check the path") from None
    except (ProofError, UnicodeDecodeError) as error:
        raise _damaged(folder / MARKER, error) from None
    paths = sorted(path for path in (folder / LOGS).glob("*") if not path.name.startswith("."))
    known = tuple(_read(path, name, public_key) for path in paths)
    return Memory(key, known, _kept(folder / FORKS), _kept(folder / UNPROVEN))


def _kept(folder: Path) -> tuple[Path, ...]:
    found = [path for path in folder.glob("*") if not path.name.startswith(".")]
    return tuple(sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name)))


def _read(path: Path, name: str, public_key: bytes) -> Known:
    try:
        text = path.read_bytes().decode()
        note = notes.parse(text)
        time_s = cosignature.verify(note, name, public_key)
    except (ProofError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None
    if time_s is None or path.name != name_of(note.checkpoint.origin):
        raise _damaged(path, "it is not a note that this witness cosigned, of the log that its name says")
    return Known(note.checkpoint, time_s, text)


def _damaged(path: Path, reason: object) -> NovateError:
    return NovateError(
        "WITNESS_STATE_DAMAGED",
        f"{path} is damaged ({reason}). Restore it as it was last; a witness that forgets what it cosigned must not "
        "run again under the same key",
    )


class State:
    """The folder, locked for writing until `close`. `verifier_key` is that of the witness.

    `new` makes a memory where there is none. Raises NovateError WITNESS_NO_STATE (there is none), WITNESS_LOCKED,
    WITNESS_OTHER_KEY (another witness's), WITNESS_STATE_DAMAGED, WITNESS_DISK.
    """

    def __init__(self, folder: Path, verifier_key: str, new: bool = False) -> None:
        self.folder = folder
        fresh = not (folder / MARKER).exists()
        if fresh and not new:
            raise NovateError(
                "WITNESS_NO_STATE",
                f"{folder} holds no memory. If this key has ever cosigned, restore the folder as it was last, or make "
                "a new key; with --new a key that never cosigned begins here",
            )
        if fresh and (folder / LOGS).is_dir() and any((folder / LOGS).iterdir()):
            raise _damaged(folder / MARKER, "it is missing beside a memory")
        with _naming(folder):
            for path in (folder, folder / LOGS, folder / FORKS, folder / UNPROVEN):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(folder.absolute().parent)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(verifier_key, new)
        except BaseException:
            self.close()
            raise

    def _take(self, verifier_key: str, new: bool) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NovateError("WITNESS_LOCKED", f"another witness runs on {self.folder}; stop it first") from None
        if new and not (self.folder / MARKER).exists():  # asked again, now that nobody else can make it
            with _naming(self.folder):
                _write(self.folder / MARKER, verifier_key.encode() + b"\n")
        memory = read_memory(self.folder)
        if memory.witness != verifier_key:
            raise NovateError(
                "WITNESS_OTHER_KEY", f"{self.folder} is the memory of {memory.witness}; give its key, or another folder"
            )
        self._known = {known.checkpoint.origin: known for known in memory.logs}
        self._unsure: set[str] = set()
        self._deciding: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Release the lock. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "State":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- decisions --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def deciding(self, origin: str) -> Iterator[Known | None]:
        """The last cosigned checkpoint of a log, None before the first; nobody else decides on it meanwhile.

        Raises NovateError WITNESS_HALTED when an earlier note may or may not be on disk.
        """
        with self._guard:
            lock = self._deciding.setdefault(origin, threading.Lock())
        with lock:
            if origin in self._unsure:
                raise NovateError(
                    "WITNESS_HALTED",
                    f"the disk failed while a checkpoint of {origin} was written; restart the witness when it is well",
                )
            yield self._known.get(origin)

    def keep(self, known: Known) -> None:
        """Remember a note durably, within `deciding`. Raises NovateError WITNESS_DISK."""
        origin = known.checkpoint.origin
        target = self.folder / LOGS / name_of(origin)
        with _naming(target):
            temporary = _written(target, known.note.encode())
            # From here on the disk may hold the new note or the old one, until the folder is synced.
            self._unsure.add(origin)
            temporary.replace(target)
            _sync(target.parent)
        self._unsure.discard(origin)
        self._known[origin] = known

    # -- refusals ---------------------------------------------------------------------------------

    def keep_fork(self, note: SignedNote, text: str) -> Path | None:
        """Keep a note of a known size with another root; None when it is kept already."""
        return self._refused(FORKS, note, text, KEEP_FORKS)

    def keep_unproven(self, note: SignedNote, text: str) -> Path | None:
        """Keep a note that came without a proof; the oldest make room."""
        return self._refused(UNPROVEN, note, text, KEEP_UNPROVEN)

    def _refused(self, room: str, note: SignedNote, text: str, most: int) -> Path | None:
        tip = note.checkpoint
        target = self.folder / room / f"{name_of(tip.origin)[:16]}-{tip.size}-{tip.root.hex()[:32]}"
        with self._guard:
            if target.exists():
                return None
            kept = _kept(target.parent)
            if room == FORKS and len(kept) >= most:
                return None  # a thousand proofs say no more than the first
            with _naming(target):
                for old in kept[: max(0, len(kept) + 1 - most)]:
                    old.unlink()
                _write(target, text.encode())
        return target


def _written(target: Path, data: bytes) -> Path:
    """A synced file beside `target`."""
    temporary = target.with_name(f".{target.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _write(target: Path, data: bytes) -> None:
    _written(target, data).replace(target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Any failure to write, under a stable code."""
    try:
        yield
    except OSError as error:
        help_ = "free space" if error.errno in _NO_SPACE else "check the disk and the folder's permissions"
        raise NovateError("WITNESS_DISK", f"{path} was not written: {error.strerror or error}; {help_}") from None
