# SPDX-License-Identifier: GPL-3.0-or-later
"""Named errors of the journal.

Rules: every failure a caller can meet has a stable `code` (UPPER_SNAKE, never renamed) and a message
that names the offending value and what to do. `FatalJournalError` means that the process must end:
what reached the disk is unknown until the journal is opened again.
"""

from typing import Final

HEAD_MISMATCH: Final = "HEAD_MISMATCH"
TERM_TOO_LOW: Final = "TERM_TOO_LOW"
JOURNAL_FULL: Final = "JOURNAL_FULL"
DISK_FULL: Final = "DISK_FULL"
JOURNAL_CORRUPT: Final = "JOURNAL_CORRUPT"
JOURNAL_EXISTS: Final = "JOURNAL_EXISTS"
JOURNAL_LOCKED: Final = "JOURNAL_LOCKED"
JOURNAL_NOT_FOUND: Final = "JOURNAL_NOT_FOUND"
JOURNAL_UNREADABLE: Final = "JOURNAL_UNREADABLE"
JOURNAL_READ_ONLY: Final = "JOURNAL_READ_ONLY"
JOURNAL_CLOSED: Final = "JOURNAL_CLOSED"
JOURNAL_FORMAT: Final = "JOURNAL_FORMAT"
ENTRY_TOO_LARGE: Final = "ENTRY_TOO_LARGE"
BLOCK_TOO_LARGE: Final = "BLOCK_TOO_LARGE"
BLOCK_EMPTY: Final = "BLOCK_EMPTY"
BLOCK_MALFORMED: Final = "BLOCK_MALFORMED"
BLOCK_HASH_MISMATCH: Final = "BLOCK_HASH_MISMATCH"
OUT_OF_RANGE: Final = "OUT_OF_RANGE"
COMMIT_FAILED: Final = "COMMIT_FAILED"
SNAPSHOT_NOT_FOUND: Final = "SNAPSHOT_NOT_FOUND"
SNAPSHOT_DAMAGED: Final = "SNAPSHOT_DAMAGED"
SNAPSHOT_FOREIGN: Final = "SNAPSHOT_FOREIGN"
LOG_AHEAD: Final = "LOG_AHEAD"
LOG_BEHIND: Final = "LOG_BEHIND"
LOG_FOREIGN: Final = "LOG_FOREIGN"
LOG_FORKED: Final = "LOG_FORKED"
LOG_FORM: Final = "LOG_FORM"
LOG_INCOMPLETE: Final = "LOG_INCOMPLETE"
LOG_INVALID: Final = "LOG_INVALID"
LOG_KEY: Final = "LOG_KEY"
LOG_LOCKED: Final = "LOG_LOCKED"
NOTE_MISMATCH: Final = "NOTE_MISMATCH"


class JournalError(Exception):
    """A refusal or a finding; nothing was changed by the call that raised it.

    `code` is one of this module's constants, `message` is for people, and `seq` is the first entry
    number concerned where one is known.
    """

    def __init__(self, code: str, message: str, seq: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.seq = seq


class FatalJournalError(JournalError):
    """The outcome of a commit is unknown: end the process and open the journal anew.

    After a failed fdatasync the kernel may drop the dirty pages and let the next one "succeed", so no
    later append of this process may be believed; the store refuses them all.
    """


def corrupt(message: str, seq: int | None = None) -> JournalError:
    """JOURNAL_CORRUPT, with what a person should do next."""
    return JournalError(JOURNAL_CORRUPT, f"{message}. Run `novate journal fsck`", seq)
