# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: `head()`, `append(entries, expected)`, `read(from_seq)`, and proofs.

Rules:
- An append is one transaction: the block, its tree tiles, the frontier and the new head, synced before
  it returns. It is compare-and-append: the caller says which head it extends, and any other is refused.
- One writer. A second one is refused when it opens, and if it gets past that, when it appends.
- A full disk or map refuses the append and loses nothing. Any other failure of a commit is fatal: the
  store then refuses everything, and the process must end (see FatalJournalError).
- Open after fork: a store does not work in a child of the process that opened it.
- What is read is verified: block hash, chain, and leaves and roots against the head's root.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lmdb

from journal import block as blocks
from journal import errors, layout
from journal import head as heads
from journal.block import Block
from journal.database import DEFAULT_MAP_BYTES, PAGE_BYTES, Database, View
from journal.errors import FatalJournalError, JournalError
from journal.head import Head
from journal.layout import Preallocator, Witness, WriterLock
from journal.tree import Frontier, TileTree, consistency_proof, inclusion_proof, leaf_hashes

DEFAULT_GROW_BYTES: Final = 8 << 20
HALT_FREE_PPM: Final = 50_000
# A disk counts as no larger than this: orders halt at 2 GiB free, and not at 200 GB of a disk of 4 TB.
_DISK_COUNTED_BYTES: Final = 40 << 30
# What a commit may need beyond the block and the tiles themselves: copies of the search path in each
# of the databases, and the list of freed pages.
_SLACK_PAGES: Final = 64
_TRUSTED_ROOTS: Final = 1024


@dataclass(frozen=True, slots=True)
class Space:
    """What room is left. `free_ppm` is the smaller part that is free, of the map or of the disk (which counts as
    40 GiB at most); below 5 % `halt` says that new orders should be refused until there is more."""

    disk_free_bytes: int
    disk_size_bytes: int
    map_used_bytes: int
    map_size_bytes: int
    reserve_ready: bool
    free_ppm: int
    halt: bool


class Store:
    """A journal on this machine's disk. Make one with `create` or `open`; close it, or use `with`."""

    def __init__(self, db: Database, lock: WriterLock | None, grow_bytes: int, reserve_bytes: int) -> None:
        self._db = db
        self._lock = lock
        self._pid = os.getpid()
        self._failed: str | None = None
        self._closed = False
        self._reserve_bytes = reserve_bytes
        self._roots: dict[int, bytes] = {}
        self._recent: Block | None = None
        # Hears each block that was appended, once it is durable: it must be quick and must not fail.
        self.on_append: Callable[[Block], None] | None = None
        seen = layout.read_witness(db.path)
        with db.read() as view:
            self._head, peaks = view.head()
            self._record = heads.encode(self._head, peaks)
            self._frontier = Frontier.load(self._head.tree_size, peaks, view)
            _check_end(view, self._head, self._frontier, seen)
        self._witness: Witness | None = None
        self._space: Preallocator | None = None
        if lock is not None:
            db.env.reader_check()
            layout.make_reserve(db.path, reserve_bytes)
            self._witness = Witness(db.path)
            self._witness.write(self._head.next_seq, self._head.block_hash)
            self._space = Preallocator(db.path / layout.DATA, grow_bytes)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, map_bytes: int = DEFAULT_MAP_BYTES,
        grow_bytes: int = DEFAULT_GROW_BYTES, reserve_bytes: int = layout.RESERVE_BYTES,
    ) -> "Store":  # fmt: skip
        """Create an empty journal at `path` and open it for writing.

        It is made in a directory beside `path` and renamed, so that a journal exists whole or not at all.
        Raises JournalError: JOURNAL_EXISTS (an empty directory is accepted), JOURNAL_LOCKED, DISK_FULL,
        JOURNAL_UNREADABLE.
        """
        target = Path(path).absolute()
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise JournalError(errors.JOURNAL_EXISTS, f"{target} exists; open it, or choose another path")
        try:
            lock = _create_directory(target, map_bytes, reserve_bytes)
        except OSError as error:
            code = errors.DISK_FULL if error.errno in layout.NO_SPACE else errors.JOURNAL_UNREADABLE
            raise JournalError(code, f"{target} cannot be created: {error.strerror}") from None
        return cls._opened(target, lock, map_bytes, grow_bytes, reserve_bytes)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], read_only: bool = False, *, map_bytes: int = DEFAULT_MAP_BYTES,
        grow_bytes: int = DEFAULT_GROW_BYTES, reserve_bytes: int = layout.RESERVE_BYTES,
    ) -> "Store":  # fmt: skip
        """Open the journal at `path`; any number of readers may be open beside the one writer.

        Raises JournalError: JOURNAL_NOT_FOUND, JOURNAL_LOCKED, JOURNAL_CORRUPT, JOURNAL_FORMAT,
        JOURNAL_UNREADABLE. A badly damaged file can end the process instead: check it with fsck.
        """
        target = Path(path).absolute()
        if not (target / layout.DATA).exists():
            raise JournalError(errors.JOURNAL_NOT_FOUND, f"there is no journal at {target}; create one first")
        try:
            lock = None if read_only else WriterLock(target)
        except OSError as error:
            raise JournalError(errors.JOURNAL_UNREADABLE, f"{target} cannot be opened: {error.strerror}") from None
        return cls._opened(target, lock, map_bytes, grow_bytes, reserve_bytes)

    @classmethod
    def _opened(
        cls, path: Path, lock: WriterLock | None, map_bytes: int, grow_bytes: int, reserve_bytes: int
    ) -> "Store":
        db: Database | None = None
        try:
            db = Database(path, read_only=lock is None, map_bytes=map_bytes)
            return cls(db, lock, grow_bytes, reserve_bytes)
        except BaseException:
            if db is not None:
                db.env.close()
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Close the journal and release the writer lock. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return  # the parent's: closing it here would pull the locks from under it
        self._db.env.close()
        for held in (self._space, self._witness):
            if held is not None:
                held.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- the head ---------------------------------------------------------------------------------

    def head(self) -> Head:
        """Where the journal ends. A reader sees what the writer last committed."""
        if self._lock is not None:
            self._check_usable()
            return self._head
        with self._view() as view:
            return view.head()[0]

    def space(self) -> Space:
        """What room is left on the disk and in the map; a few system calls, not for every append."""
        self._check_usable()
        disk = os.statvfs(self._db.path)
        used, size = self._db.used_bytes(), int(self._db.env.info()["map_size"])
        ahead = max(0, self._space.end - used) if self._space is not None else 0
        free, total = disk.f_bavail * disk.f_frsize + ahead, disk.f_blocks * disk.f_frsize
        counted = max(1, min(total, _DISK_COUNTED_BYTES))
        ppm = min(min(free, counted) * 1_000_000 // counted, (size - used) * 1_000_000 // size)
        ready = (self._db.path / layout.RESERVE).exists()
        return Space(free, total, used, size, ready, ppm, ppm < HALT_FREE_PPM)

    # -- appending --------------------------------------------------------------------------------

    def append(
        self, entries: Sequence[bytes], expected: Head, term: int | None = None, *, use_reserve: bool = False
    ) -> Head:
        """Append `entries` as one block after `expected`; returns the new head once all is on disk.

        `term` defaults to the head's. With `use_reserve`, a full disk is met by giving up the reserve:
        for what must go on when orders are already halted (cancels, withdrawals, the epoch's close).
        Raises JournalError: HEAD_MISMATCH, TERM_TOO_LOW, BLOCK_EMPTY, ENTRY_TOO_LARGE, BLOCK_TOO_LARGE,
        BLOCK_MALFORMED, DISK_FULL, JOURNAL_FULL, JOURNAL_READ_ONLY; nothing was written. Raises
        FatalJournalError: COMMIT_FAILED; end the process.
        """
        self._check_writable(expected)
        built = blocks.build(expected.term if term is None else term, expected.next_seq, expected.block_hash, entries)
        return self._append(built, use_reserve)

    def append_block(self, block: Block | bytes, expected: Head, *, use_reserve: bool = False) -> Head:
        """Append a block that was made elsewhere, after checking all of it. Raises as `append` does,
        and BLOCK_HASH_MISMATCH."""
        self._check_writable(expected)
        checked = blocks.decode(block if isinstance(block, bytes) else block.raw)
        if (checked.first_seq, checked.prev_hash) != (expected.next_seq, expected.block_hash):
            raise JournalError(
                errors.HEAD_MISMATCH,
                f"the block continues seq {checked.first_seq}, the journal is at {expected.next_seq}",
                expected.next_seq,
            )
        return self._append(checked, use_reserve)

    def _append(self, block: Block, use_reserve: bool) -> Head:
        if block.term < self._head.term:
            raise JournalError(
                errors.TERM_TOO_LOW,
                f"term {block.term} was superseded by term {self._head.term}",
                block.first_seq,
            )
        frontier, tiles = self._frontier.extend(leaf_hashes(block.entries))
        head = Head(block.term, block.next_seq, block.hash, frontier.size, frontier.root())
        record = heads.encode(head, frontier.stored_peaks())
        self._make_room(len(block.raw), sum(len(value) for _, value in tiles), len(tiles), use_reserve)
        self._commit(block, tiles, record)
        self._head, self._frontier, self._record, self._recent = head, frontier, record, block
        try:
            assert self._witness is not None
            self._witness.write(head.next_seq, head.block_hash)
        except OSError as error:
            raise self._fatal(f"the witness cannot be written: {error.strerror}") from None
        if self.on_append is not None:
            self.on_append(block)
        return head

    def _make_room(self, block_bytes: int, tile_bytes: int, tiles: int, use_reserve: bool) -> None:
        assert self._space is not None
        pages = block_bytes // PAGE_BYTES + tile_bytes // PAGE_BYTES + 2 * tiles + _SLACK_PAGES
        end = self._db.used_bytes() + pages * PAGE_BYTES
        try:
            self._space.ensure(end)
        except JournalError:
            if not use_reserve or not layout.free_reserve(self._db.path):
                raise
            self._space.ensure(end)
        except OSError as error:
            raise self._fatal(f"the data file cannot grow: {error.strerror}") from None

    def _commit(self, block: Block, tiles: list[tuple[bytes, bytes]], record: bytes) -> None:
        txn: lmdb.Transaction[bytes] | None = None
        try:
            txn = self._db.env.begin(write=True)
            if self._db.head_record(txn) != self._record:
                raise JournalError(
                    errors.HEAD_MISMATCH,
                    "another process has written to this journal; stop one of the two",
                    block.first_seq,
                )
            # append=True out of order returns False and says nothing else.
            if not txn.put(block.first_seq.to_bytes(8, "big"), block.raw, append=True, db=self._db.blocks):
                raise errors.corrupt(f"a block is stored past the head, seq {block.first_seq}")
            for key, value in tiles:
                txn.put(key, value, db=self._db.tiles)
            self._db.put_head(txn, record)
            txn.commit()
        except lmdb.MapFullError:
            _abort(txn)
            raise JournalError(
                errors.JOURNAL_FULL,
                "the map is full; nothing was written. Open the journal with a larger map_bytes",
            ) from None
        except lmdb.Error as error:
            _abort(txn)
            raise self._fatal(str(error)) from None
        except BaseException:
            _abort(txn)
            raise

    def _fatal(self, reason: str) -> FatalJournalError:
        self._failed = f"a commit failed ({reason}) and what reached the disk is unknown; end this process"
        return FatalJournalError(errors.COMMIT_FAILED, self._failed)

    def _check_writable(self, expected: Head) -> None:
        self._check_usable()
        if self._lock is None:
            raise JournalError(errors.JOURNAL_READ_ONLY, "this journal was opened for reading only")
        if expected != self._head:
            raise JournalError(
                errors.HEAD_MISMATCH,
                f"the append expects seq {expected.next_seq} and block {expected.block_hash.hex()[:16]}, the "
                f"journal is at seq {self._head.next_seq} and block {self._head.block_hash.hex()[:16]}",
                self._head.next_seq,
            )

    def _check_usable(self) -> None:
        if self._failed is not None:
            raise FatalJournalError(errors.COMMIT_FAILED, self._failed)
        if self._closed:
            raise JournalError(errors.JOURNAL_CLOSED, "this journal was closed; open it again")
        if self._pid != os.getpid():
            raise JournalError(errors.JOURNAL_LOCKED, "this journal was opened before a fork; open it after")

    # -- reading ----------------------------------------------------------------------------------

    def _view(self) -> View:
        self._check_usable()
        return self._db.read()

    def read(self, from_seq: int = 0) -> Iterator[Block]:
        """Yield the verified blocks from the one holding `from_seq` to the head as it is now.

        No transaction is held between blocks, so a slow reader does not hold pages back.
        Raises JournalError: OUT_OF_RANGE, JOURNAL_CORRUPT with the first bad seq.
        """
        end = self.head()
        if not 0 <= from_seq <= end.next_seq:
            raise _out_of_range(f"seq {from_seq}", end.next_seq)
        return self._blocks(from_seq, end)

    def _blocks(self, from_seq: int, end: Head) -> Iterator[Block]:
        seq, prev_hash, term = from_seq, blocks.ZERO_HASH, 0
        if 0 < seq < end.next_seq:
            with self._view() as view:
                seq = view.block(from_seq).first_seq
                if seq:
                    before = view.block(seq - 1)
                    prev_hash, term = before.hash, before.term
        while seq < end.next_seq:
            with self._view() as view:
                block = view.block(seq)
            blocks.check_link(block, seq, prev_hash, term)
            seq, prev_hash, term = block.next_seq, block.hash, block.term
            if seq >= end.next_seq and (seq, prev_hash) != (end.next_seq, end.block_hash):
                raise errors.corrupt("the last block is not the one that the head names", block.first_seq)
            yield block

    def entry(self, seq: int) -> bytes:
        """The entry `seq`, checked against its block and against its leaf in the tree.

        Raises JournalError: OUT_OF_RANGE, JOURNAL_CORRUPT.
        """
        with self._view() as view:
            size = view.head()[0].tree_size
            if not 0 <= seq < size:
                raise _out_of_range(f"entry {seq}", size)
            block = self._recent
            if block is None or not block.first_seq <= seq < block.next_seq:
                block = self._recent = view.block(seq)
            entry = block.entries[seq - block.first_seq]
            if leaf_hashes([entry])[0] != TileTree(view, size).get_leaf(seq + 1):
                raise errors.corrupt(f"entry {seq} is not what the tree committed to", seq)
            return entry

    # -- proofs -----------------------------------------------------------------------------------

    def root(self, size: int | None = None) -> bytes:
        """The tree's root over the first `size` entries (default: all). Raises JournalError:
        OUT_OF_RANGE, JOURNAL_CORRUPT."""
        with self._view() as view:
            head = view.head()[0]
            wanted = head.tree_size if size is None else size
            if not 0 <= wanted <= head.tree_size:
                raise _out_of_range(f"tree size {wanted}", head.tree_size)
            return self._trusted_root(view, head, wanted)

    def leaf(self, index: int) -> bytes:
        """The leaf hash of entry `index`, proven to be in the tree. Raises as `inclusion` does."""
        return self._proven(index, None)[0]

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The RFC 9162 inclusion path of leaf `index` (zero-based) in the tree of `size` entries.

        Raises JournalError: OUT_OF_RANGE, JOURNAL_CORRUPT (the stored tiles do not lead to the root).
        """
        return self._proven(index, size)[1]

    def _proven(self, index: int, size: int | None) -> tuple[bytes, list[bytes]]:
        with self._view() as view:
            head = view.head()[0]
            wanted = head.tree_size if size is None else size
            if not 0 <= index < wanted <= head.tree_size:
                raise _out_of_range(f"leaf {index} at size {wanted}", head.tree_size)
            leaf, path, root = inclusion_proof(TileTree(view, head.tree_size), index, wanted)
            if root != self._trusted_root(view, head, wanted):
                raise errors.corrupt(f"the tiles above leaf {index} are damaged", index)
            return leaf, path

    def consistency(self, size1: int, size2: int | None = None) -> list[bytes]:
        """The RFC 9162 proof that the tree of `size2` entries extends the one of `size1`.

        Empty where there is nothing to prove (equal sizes, or an empty first tree).
        Raises JournalError: OUT_OF_RANGE, JOURNAL_CORRUPT.
        """
        with self._view() as view:
            head = view.head()[0]
            later = head.tree_size if size2 is None else size2
            if not 0 <= size1 <= later <= head.tree_size:
                raise _out_of_range(f"sizes {size1} and {later}", head.tree_size)
            if size1 in (0, later):
                return []
            path, root1, root2 = consistency_proof(TileTree(view, head.tree_size), size1, later)
            trusted = self._trusted_root(view, head, size1), self._trusted_root(view, head, later)
            if (root1, root2) != trusted:
                raise errors.corrupt("the tiles of this proof are damaged", size1)
            return path

    def _trusted_root(self, view: View, head: Head, size: int) -> bytes:
        """The root at `size`, shown to be a prefix of the head's root and remembered."""
        if size == head.tree_size:
            return head.tree_root
        if size == 0:
            return heads.EMPTY_ROOT
        known = self._roots.get(size)
        if known is None:
            _, known, root = consistency_proof(TileTree(view, head.tree_size), size, head.tree_size)
            if root != head.tree_root:
                raise errors.corrupt(f"the tiles at size {size} are damaged", size)
            if len(self._roots) >= _TRUSTED_ROOTS:
                self._roots.clear()
            self._roots[size] = known
        return known


def _create_directory(target: Path, map_bytes: int, reserve_bytes: int) -> WriterLock:
    """Make the journal's directory under a temporary name, sync it, rename it; returns the held lock."""
    making = target.with_name(f".{target.name}.creating")
    making.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(making)
    try:
        for left_over in making.iterdir():  # of a creation that was killed
            if left_over.name != layout.WRITER_LOCK:
                left_over.unlink()
        Database(making, read_only=False, create=True, map_bytes=map_bytes).env.close()
        if not layout.make_reserve(making, reserve_bytes) and reserve_bytes:
            raise JournalError(errors.DISK_FULL, f"{target} cannot be created: there is no space for its reserve")
        witness = Witness(making)
        witness.write(0, blocks.ZERO_HASH)
        witness.sync()
        witness.close()
        fd = os.open(making / layout.DATA, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        layout.sync_directory(making)
        try:
            making.rename(target)  # replaces an empty directory, refuses a full one
        except OSError:
            raise JournalError(errors.JOURNAL_EXISTS, f"{target} was created meanwhile; open it") from None
        layout.sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        lock.release()
        raise
    return lock


def _check_end(view: View, head: Head, frontier: Frontier, seen: layout.Seen | None) -> None:
    """At opening: the last block, the frontier, the head and the witness must tell the same story."""
    if frontier.root() != head.tree_root:
        raise errors.corrupt("the frontier does not fold to the head's root")
    if head.next_seq:
        last = view.block(head.next_seq - 1)
        if (last.next_seq, last.hash, last.term) != (head.next_seq, head.block_hash, head.term):
            raise errors.corrupt("the last block is not the one that the head names")
    if seen is not None and not view.agrees(head, seen):
        raise errors.corrupt(
            f"entries up to seq {seen.next_seq} were acknowledged, but the data file ends at {head.next_seq} "
            "or has another history: it was damaged, or restored from an older copy. Do not go on from it",
            head.next_seq,
        )


def _abort(txn: "lmdb.Transaction[bytes] | None") -> None:
    if txn is not None:
        txn.abort()


def _out_of_range(what: str, size: int) -> JournalError:
    return JournalError(errors.OUT_OF_RANGE, f"{what} is out of range: the journal holds {size} entries")
