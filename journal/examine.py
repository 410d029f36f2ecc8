# SPDX-License-Identifier: GPL-3.0-or-later
"""The reading that fsck runs in its child process: every hash of a journal, derived again from bytes.

Rules:
- Nothing stored is believed: block hashes, chain, terms, leaves, every tile, peaks, root and head are
  recomputed from the entries and compared with what is stored.
- Both ways of finding a block are tried (in order, and by search), since a damaged branch page can
  spoil one and leave the other.
- A damaged page can end this process at any read. `Progress` is how the parent then knows where.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import lmdb
from lmdb.verify import VerifyError, verify

from journal import block as blocks
from journal import errors, layout
from journal.block import Block
from journal.database import Database, View, check_file
from journal.errors import JournalError
from journal.head import Head
from journal.layout import WriterLock
from journal.tree import TILE_BYTES, TILE_LEVELS, TILE_WIDTH, Frontier, leaf_hashes, tile_key, tile_widths


class Progress(Protocol):
    """Told the seq that is about to be read."""

    def __call__(self, seq: int) -> None: ...


@dataclass(slots=True)
class Findings:
    """What an examination found; `problems` are (code, reason, seq or None)."""

    entries: int = 0
    blocks: int = 0
    root: bytes = b""
    problems: list[tuple[str, str, int | None]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, error: JournalError) -> None:
        """Note a problem."""
        self.problems.append((error.code, error.message, error.seq))


def examine(path: Path, progress: Progress) -> Findings:
    """Read all of the journal at `path`. Never raises for damage; damage may kill the process."""
    found = Findings()
    try:
        check_file(path)
        lock = _freeze(path, found)
    except JournalError as error:
        found.add(error)
        return found
    try:
        if lock is not None:
            _check_pages(path, found)
        _check_content(path, found, progress, use_lock_file=lock is None)
    except JournalError as error:
        found.add(error)
    except lmdb.Error as error:
        found.add(JournalError(errors.JOURNAL_CORRUPT, f"the database cannot be read: {error}"))
    finally:
        if lock is not None:
            lock.release()
    return found


def _freeze(path: Path, found: Findings) -> WriterLock | None:
    """Keep writers out while we look. With a writer at work, read one consistent view beside it."""
    if not (path / layout.WRITER_LOCK).exists():
        found.warnings.append("there is no writer.lock: this is a copy, or not a whole journal directory")
    try:
        return WriterLock(path, shared=True)
    except (JournalError, OSError):
        found.warnings.append("the journal is in use: the page structure was not checked")
        return None


def _check_pages(path: Path, found: Findings) -> None:
    """The database's own structure, read as plain bytes: a page both free and in use would be
    overwritten by some later append, though every reader is content today."""
    try:
        findings: list[str] = verify(path)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        findings = [str(error)]
    for finding in findings[:5]:
        found.add(JournalError(errors.JOURNAL_CORRUPT, f"page structure: {finding}"))


def _check_content(path: Path, found: Findings, progress: Progress, *, use_lock_file: bool) -> None:
    seen = layout.read_witness(path)
    db = Database(path, read_only=True, lock=use_lock_file)
    try:
        with db.read() as view:
            end = _walk(db, view, found, progress)
            head = view.head()[0]
            if seen is None:
                found.warnings.append("the witness is missing or unreadable: a lost tail would go unnoticed")
            elif end == head and not view.agrees(head, seen):
                found.add(
                    errors.corrupt(
                        f"entries up to seq {seen.next_seq} were acknowledged, the journal ends at "
                        f"{head.next_seq} or has another history",
                        min(seen.next_seq, head.next_seq),
                    )
                )
    finally:
        db.env.close()


def _walk(db: Database, view: View, found: Findings, progress: Progress) -> Head:
    """Read all blocks, rebuild the tree, compare; returns the head that the content amounts to."""
    stored_head, stored_peaks = view.head()
    end, frontier = Head(), Frontier()
    for block in _blocks(db, view, progress):
        blocks.check_link(block, end.next_seq, end.block_hash, end.term)
        _check_search(view, block)
        frontier, writes = frontier.extend(leaf_hashes(block.entries))
        for key, value in writes:
            if len(value) == TILE_BYTES:
                _check_tile(db, view, key, value, block.first_seq)
        end = Head(block.term, block.next_seq, block.hash, frontier.size)
        found.entries, found.blocks = end.next_seq, found.blocks + 1
    progress(end.next_seq)
    end = Head(end.term, end.next_seq, end.block_hash, frontier.size, frontier.root())
    found.root = end.tree_root
    for level, tail in enumerate(frontier.tails):
        if tail:
            key = tile_key(level, (frontier.size >> (TILE_LEVELS * level)) // TILE_WIDTH)
            _check_tile(db, view, key, tail, end.next_seq)
    _check_tile_keys(db, view, end.next_seq)
    if stored_head != end:
        raise errors.corrupt(
            f"the head says {stored_head.next_seq} entries and root {stored_head.tree_root.hex()}, "
            f"the blocks amount to {end.next_seq} and {end.tree_root.hex()}",
            min(end.next_seq, stored_head.next_seq),
        )
    if stored_peaks != frontier.stored_peaks():
        raise errors.corrupt("the stored frontier is not the tree's", end.next_seq)
    return end


def _blocks(db: Database, view: View, progress: Progress) -> Iterator[Block]:
    """Every block in key order, its own hash checked; stops with JOURNAL_CORRUPT at the first bad one."""
    due = count = 0
    with view.txn.cursor(db=db.blocks) as cursor:
        for key, raw in cursor:
            progress(due)
            if key != due.to_bytes(8, "big"):
                raise errors.corrupt(f"a block is stored under {key.hex()} where seq {due} is due", due)
            try:
                block = blocks.decode(raw)
            except JournalError as error:
                raise errors.corrupt(f"the block at seq {due} is damaged: {error}", due) from None
            yield block
            due, count = block.next_seq, count + 1
    if view.txn.stat(db=db.blocks)["entries"] != count:
        raise errors.corrupt("the count of blocks is not their number", due)


def _check_search(view: View, block: Block) -> None:
    for seq in (block.first_seq, block.next_seq - 1):
        if view.locate(seq) != (block.first_seq.to_bytes(8, "big"), block.raw):
            raise errors.corrupt(f"a search for seq {seq} does not find its block", block.first_seq)


def _check_tile(db: Database, view: View, key: bytes, expected: bytes, seq: int) -> None:
    if view.txn.get(key, db=db.tiles) != expected:
        raise errors.corrupt(f"tile {key[0]}/{int.from_bytes(key[1:], 'big')} is not what the entries hash to", seq)


def _check_tile_keys(db: Database, view: View, size: int) -> None:
    due = (tile_key(level, index) for level, index, _ in tile_widths(size))
    with view.txn.cursor(db=db.tiles) as cursor:
        for key in cursor.iternext(keys=True, values=False):
            if key != next(due, None):
                raise errors.corrupt(f"a tile is stored under {key.hex()} that the tree does not have", size)
    if next(due, None) is not None:
        raise errors.corrupt("tiles are missing", size)
