# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that holds a published log: one writer, files that are whole or absent, a checkpoint that comes last.

    checkpoint                    the signed note; replaced, all else is only ever added
    tile/<L>/<N>[.p/<W>]          hashes (proofs.tiles)
    tile/entries/<N>[.p/<W>]      entry bundles of an open log
    private/entries/<N>[.p/<W>]   sealed entry bundles of a private one (proofs.sealed)
    evidence/                     of a mirror: the notes of a log that forked
    .lock, .state                 the writer's own, of no use to a reader

Rules:
- A file is written under another name and renamed. Before the checkpoint is replaced, everything it
  commits to is synced: after a loss of power a checkpoint never names what is not there.
- What lies beyond the checkpoint after a kill may be damaged. It is compared before it is kept.
- A partial tile or bundle is deleted when the full one has been in a published checkpoint for some
  time: a reader who still works from an older checkpoint asks for it, and falls back to the full one.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from journal import errors
from journal.errors import JournalError
from journal.layout import NO_SPACE, sync_directory
from proofs.tiles import CHECKPOINT_PATH, OPEN_ENTRIES, PRIVATE_ENTRIES, TILE_WIDTH, Tile, levels

LOCK: Final = ".lock"
STATE: Final = ".state"
EVIDENCE: Final = "evidence"
KEEP_PARTIALS_S: Final = 3_600.0
_KNOWN: Final = frozenset({CHECKPOINT_PATH, "tile", "private", EVIDENCE, LOCK, STATE})
_SETTLE_FILES: Final = 2_048


class State(msgspec.Struct, forbid_unknown_fields=True):
    """What a writer remembers between runs. Losing it costs time and space, never truth.

    `swept`: partial tiles that were full at this size are gone; `marked`, `marked_at`: the size to sweep
    to next, and since when it has been published (seconds UTC). `pending` is the verified note that a
    mirror is fetching, of which `bundles` bundles are on disk for good.
    """

    swept: int = 0
    marked: int = 0
    marked_at: float = 0.0
    pending: str = ""
    bundles: int = 0


def directory(path: str | os.PathLike[str]) -> Callable[[str], bytes]:
    """A fetch from a directory: the bytes at a path below it; raises FileNotFoundError, as a web server's 404."""
    root = Path(path)

    def fetch(name: str) -> bytes:
        try:
            return (root / name).read_bytes()
        except (NotADirectoryError, IsADirectoryError):
            raise FileNotFoundError(f"{root / name} does not exist") from None

    return fetch


class Folder:
    """The directory, locked for writing until `close`.

    Raises JournalError: LOG_LOCKED, LOG_FOREIGN (it holds files that are no log's), DISK_FULL.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.fetch = directory(self.path)
        self.written = 0
        self._unsynced: list[Path] = []
        self._folders: set[Path] = set()
        with _naming(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            strangers = sorted(name for name in os.listdir(self.path) if name not in _KNOWN and name[:1] != ".")
        if strangers:
            raise JournalError(
                errors.LOG_FOREIGN,
                f"{self.path} holds {strangers[0]!r}, which is no part of a published log; choose an empty directory",
            )
        with _naming(self.path):
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise JournalError(
                errors.LOG_LOCKED, f"another process writes to {self.path}; stop it, or choose another directory"
            ) from None

    def close(self) -> None:
        """Release the lock. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- files ------------------------------------------------------------------------------------

    def note(self) -> str | None:
        """The checkpoint that readers see, None before the first one."""
        try:
            return self.fetch(CHECKPOINT_PATH).decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise JournalError(errors.LOG_INVALID, f"{self.path / CHECKPOINT_PATH} is not a note") from None

    def holds(self, name: str) -> bool:
        return (self.path / name).exists()

    def put(self, name: str, data: bytes) -> None:
        """Write a file unless it is there with these bytes. It is durable after the next `settle`."""
        target = self.path / name
        with contextlib.suppress(FileNotFoundError):
            if target.stat().st_size == len(data) and target.read_bytes() == data:
                # Perhaps the file of a run that was killed before it synced.
                self._later(target)
                return
        with _naming(target):
            self._make(target.parent)
            temporary = target.with_name(f".{target.name}.new")
            temporary.write_bytes(data)
            temporary.replace(target)
        self.written += 1
        self._later(target)

    def _later(self, target: Path) -> None:
        self._unsynced.append(target)
        if len(self._unsynced) >= _SETTLE_FILES:
            self.settle()

    def _make(self, folder: Path) -> None:
        """Make a folder; the names of new ones must be synced, too."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            self._folders.add(folder.parent)

    def settle(self) -> None:
        """Sync everything written so far."""
        with _naming(self.path):
            for target in self._unsynced:
                fd = os.open(target, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            for folder in sorted(self._folders | {target.parent for target in self._unsynced}):
                sync_directory(folder)
        self._unsynced.clear()
        self._folders.clear()

    def put_note(self, note: str) -> None:
        """Replace the checkpoint, after everything before it is on disk."""
        self.settle()
        self._replace(CHECKPOINT_PATH, note.encode())

    def _replace(self, name: str, data: bytes) -> None:
        target = self.path / name
        temporary = target.with_name(f".{target.name}.new")
        with _naming(target):
            self._make(target.parent)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_directory(target.parent)

    def keep_evidence(self, name: str, data: bytes) -> Path:
        """Keep a file under evidence/, durable at once; where it lies."""
        self._replace(f"{EVIDENCE}/{name}", data)
        return self.path / EVIDENCE / name

    # -- the writer's memory ----------------------------------------------------------------------

    def state(self) -> State:
        """The memory; a fresh one if it cannot be read, since nothing depends on it."""
        try:
            return msgspec.json.decode(self.fetch(STATE), type=State)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return State()

    def remember(self, state: State) -> None:
        """Write the memory, after everything it tells of is on disk."""
        self.settle()
        self._replace(STATE, msgspec.json.encode(state))

    def sweep(self, size: int, keep_s: float = KEEP_PARTIALS_S, now: Callable[[], float] = time.time) -> int:
        """After a checkpoint of `size` was published: delete partial tiles and bundles whose full ones have been
        published for `keep_s` seconds; how many. Returns 0 while none is that old."""
        state, at = self.state(), now()
        if state.marked > size or state.marked_at > at:  # another log's memory, or a clock that was set back
            state = State(pending=state.pending, bundles=state.bundles)
        deleted = 0
        if state.marked and at - state.marked_at >= keep_s:
            deleted = self._delete_partials(state.swept, state.marked)
            state.swept, state.marked = state.marked, 0
        elif state.marked:
            return 0
        if size >> 8 > state.swept >> 8:
            state.marked, state.marked_at = size, at
        elif not deleted:
            return 0
        self.remember(state)
        return deleted

    def _delete_partials(self, start: int, size: int) -> int:
        deleted = 0
        for level in range(levels(size)):
            first, last = start >> 8 * (level + 1), size >> 8 * (level + 1)
            for index in range(first, last):
                tile = Tile(level, index)
                names = [tile.path]
                if level == 0:
                    names += [tile.bundle_path(OPEN_ENTRIES), tile.bundle_path(PRIVATE_ENTRIES)]
                deleted += sum(self._delete_partial(name) for name in names)
        return deleted

    def _delete_partial(self, name: str) -> int:
        folder = self.path / f"{name}.p"
        if not folder.is_dir() or not self.holds(name):
            return 0
        deleted = 0
        for width in range(1, TILE_WIDTH):
            with contextlib.suppress(FileNotFoundError):
                (folder / str(width)).unlink()
                deleted += 1
        with contextlib.suppress(OSError):  # a stranger's file in it is not ours to delete
            folder.rmdir()
        return deleted


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk, under a stable code; any other failure names its path itself."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise JournalError(
                errors.DISK_FULL, f"{path} was not written: {error.strerror}; free space and run it again"
            ) from None
        raise
