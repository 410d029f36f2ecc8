# SPDX-License-Identifier: GPL-3.0-or-later
"""The LMDB environment of a journal, and verified reads from it.

Rules:
- Three named databases: `blocks` (first seq, u64 big-endian -> block), `tiles` (level u8, index u64 ->
  hashes), `meta` (format, head). The key of a block is its index: the block of any seq is one search.
- `lib_version=0` always: the binding bundles two file formats that cannot read each other.
- `sync=True` always, and never writemap.
- Nothing is returned that was not verified as far as one transaction can tell.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from journal import block as blocks
from journal import errors
from journal import head as heads
from journal.block import Block
from journal.errors import JournalError
from journal.head import Head
from journal.layout import DATA, Seen
from journal.tree import tile_key

FORMAT: Final = b"novate-journal/1"
PAGE_BYTES: Final = 4096
DEFAULT_MAP_BYTES: Final = 1 << 40
_MAX_READERS: Final = 512
_KEY_FORMAT: Final = b"format"
_KEY_HEAD: Final = b"head"

T = TypeVar("T")


class Database:
    """An open environment with its three databases."""

    def __init__(
        self, path: Path, *, read_only: bool, create: bool = False, lock: bool = True,
        map_bytes: int = DEFAULT_MAP_BYTES,
    ) -> None:  # fmt: skip
        """Open the environment at `path`.

        Raises JournalError: JOURNAL_NOT_FOUND, JOURNAL_CORRUPT, JOURNAL_FORMAT, JOURNAL_LOCKED (this
        process has it open already), JOURNAL_UNREADABLE (permissions and the like).
        """
        self.path = path
        if not create:
            check_file(path)
        self.env = _opened(path, lambda: lmdb.open(
            os.fspath(path), lib_version=0, map_size=map_bytes, max_dbs=3, readonly=read_only,
            create=create, sync=True, metasync=True, writemap=False, lock=lock,
            max_readers=_MAX_READERS, max_spare_txns=4, readahead=read_only,
        ))  # fmt: skip
        try:
            self._check_length()
            self.blocks, self.tiles, self.meta = _opened(
                path,
                lambda: tuple(self.env.open_db(name, create=create) for name in (b"blocks", b"tiles", b"meta")),
            )
            if create:
                self._initialise()
            elif (found := self.get(self.meta, _KEY_FORMAT)) != FORMAT:
                raise JournalError(errors.JOURNAL_FORMAT, f"{path} has format {found!r}; this version reads {FORMAT!r}")
        except BaseException:
            self.env.close()
            raise

    def _initialise(self) -> None:
        with self.env.begin(write=True) as txn:
            txn.put(_KEY_FORMAT, FORMAT, db=self.meta)
            txn.put(_KEY_HEAD, heads.encode(Head(), []), db=self.meta)

    def _check_length(self) -> None:
        # Reading a page past the end of a truncated file is SIGBUS, not an exception.
        needed = self.used_bytes()
        if (self.path / DATA).stat().st_size < needed:
            raise errors.corrupt(f"{self.path / DATA} was cut short: it must have {needed} bytes")

    def used_bytes(self) -> int:
        """The end of the last page in use."""
        return (int(self.env.info()["last_pgno"]) + 1) * PAGE_BYTES

    def get(self, db: "lmdb._Database", key: bytes) -> bytes | None:
        """One value in a transaction of its own."""
        with self.read() as view:
            return view.txn.get(key, db=db)

    def read(self) -> "View":
        """A consistent view; use as a context manager and keep it short, since it holds pages back."""
        return View(self)

    def put_head(self, txn: "lmdb.Transaction[bytes]", record: bytes) -> None:
        """Replace the head record inside a write transaction."""
        txn.put(_KEY_HEAD, record, db=self.meta)

    def head_record(self, txn: "lmdb.Transaction[bytes]") -> bytes:
        """The head record as stored. Raises JournalError: JOURNAL_CORRUPT."""
        record = txn.get(_KEY_HEAD, db=self.meta)
        if record is None:
            raise errors.corrupt(f"{self.path} has no head record")
        return record


class View:
    """One read transaction. Every read raises JournalError: JOURNAL_CORRUPT on what it cannot verify."""

    __slots__ = ("_db", "txn")

    def __init__(self, db: Database) -> None:
        self._db = db
        self.txn: lmdb.Transaction[bytes] = db.env.begin()

    def __enter__(self) -> "View":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.txn.abort()
        if isinstance(error, lmdb.Error):
            raise errors.corrupt(f"the database cannot be read: {error}") from error

    def head(self) -> tuple[Head, list[bytes]]:
        """The head and the tree's peaks."""
        return heads.decode(self._db.head_record(self.txn))

    def tile(self, level: int, index: int) -> bytes:
        """The stored bytes of a tile."""
        stored = self.txn.get(tile_key(level, index), db=self._db.tiles)
        if stored is None:
            raise errors.corrupt(f"tile {level}/{index} is missing")
        return stored

    def locate(self, seq: int) -> tuple[bytes, bytes] | None:
        """The (key, raw bytes) of the last block that begins at or before `seq`."""
        with self.txn.cursor(db=self._db.blocks) as cursor:
            wanted = seq.to_bytes(8, "big")
            if cursor.set_range(wanted):
                if cursor.key() != wanted and not cursor.prev():
                    return None
            elif not cursor.last():
                return None
            return cursor.item()

    def block(self, seq: int) -> Block:
        """The block that holds `seq`, its hash checked."""
        found = self.locate(seq)
        if found is None:
            raise errors.corrupt(f"no block holds seq {seq}", seq)
        try:
            block = blocks.decode(found[1])
        except JournalError as error:
            raise errors.corrupt(f"the block holding seq {seq} is damaged ({error})", seq) from None
        if block.first_seq.to_bytes(8, "big") != found[0] or not block.first_seq <= seq < block.next_seq:
            raise errors.corrupt(f"the block stored for seq {seq} is not its block", seq)
        return block

    def agrees(self, head: Head, seen: Seen) -> bool:
        """Whether the journal ending at `head` contains the history that its witness saw."""
        if seen.next_seq in (0, head.next_seq):
            return seen.next_seq == 0 or seen.block_hash == head.block_hash
        if seen.next_seq > head.next_seq:
            return False
        block = self.block(seen.next_seq - 1)
        return (block.next_seq, block.hash) == (seen.next_seq, seen.block_hash)


def check_file(path: Path) -> None:
    """Refuse what the database would silently re-initialise or what is not there.

    Raises JournalError: JOURNAL_NOT_FOUND, JOURNAL_CORRUPT, JOURNAL_UNREADABLE.
    """
    try:
        size_bytes = (path / DATA).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise JournalError(errors.JOURNAL_NOT_FOUND, f"there is no journal at {path}; create one first") from None
    except OSError as error:
        raise JournalError(errors.JOURNAL_UNREADABLE, f"{path} cannot be read: {error.strerror}") from None
    if size_bytes < 2 * PAGE_BYTES:
        raise errors.corrupt(f"{path / DATA} was cut short: it has {size_bytes} bytes")


def _opened(path: Path, opening: Callable[[], T]) -> T:
    try:
        return opening()
    except lmdb.Error as error:
        if "already open in this process" in str(error):
            raise JournalError(errors.JOURNAL_LOCKED, f"{path} is already open in this process") from None
        if getattr(error, "code", 0) in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise JournalError(errors.JOURNAL_UNREADABLE, f"{path} cannot be opened: {error}") from None
        if getattr(error, "code", 0) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise JournalError(errors.DISK_FULL, f"{path} cannot be opened: the disk is full") from None
        raise errors.corrupt(f"{path} is not a readable journal: {error}") from None
