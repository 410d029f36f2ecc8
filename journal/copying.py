# SPDX-License-Identifier: GPL-3.0-or-later
"""A consistent copy of a journal, also while its writer is at work.

Rules:
- The copy is one transaction's view: everything up to some commit, nothing of the next. The writer does not wait.
- It is made under the caller's directory and synced before this returns; it is not verified here (`journal.fsck`).
- It gets a witness of its own head: it is a whole journal, which can be opened, and which says where it ends.
"""

import os
from pathlib import Path

import lmdb

from journal import errors, layout
from journal.database import Database
from journal.errors import JournalError
from journal.head import Head
from journal.layout import Witness


def copy_journal(source: Path, target: Path) -> Head:
    """Copy the journal at `source` into `target`, which must not exist; the head of the copy.

    Raises JournalError: JOURNAL_NOT_FOUND, JOURNAL_CORRUPT, JOURNAL_EXISTS, JOURNAL_LOCKED (open in this process),
    JOURNAL_UNREADABLE, DISK_FULL.
    """
    database = Database(source.absolute(), read_only=True)
    try:
        target.mkdir()
    except FileExistsError:
        database.env.close()
        raise JournalError(errors.JOURNAL_EXISTS, f"{target} exists; choose another path") from None
    try:
        database.env.copy(os.fspath(target))
        return _finish(target)
    except (OSError, lmdb.Error) as error:
        number = getattr(error, "errno", None) or getattr(error, "code", 0)
        code = errors.DISK_FULL if number in layout.NO_SPACE else errors.JOURNAL_UNREADABLE
        raise JournalError(code, f"{target} was not written: {error}") from None
    finally:
        database.env.close()


def used_bytes(source: Path) -> int:
    """What a copy of the journal at `source` will take. Raises JournalError as `copy_journal` does."""
    database = Database(source.absolute(), read_only=True)
    try:
        return database.used_bytes()
    finally:
        database.env.close()


def _finish(target: Path) -> Head:
    """Witness and lock file beside the copied data, all of it synced; the head."""
    copied = Database(target, read_only=True, lock=False)
    try:
        with copied.read() as view:
            head = view.head()[0]
    finally:
        copied.env.close()
    witness = Witness(target)
    witness.write(head.next_seq, head.block_hash)
    witness.sync()
    witness.close()
    (target / layout.WRITER_LOCK).touch(0o644)
    descriptor = os.open(target / layout.DATA, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
    layout.sync_directory(target)
    return head
