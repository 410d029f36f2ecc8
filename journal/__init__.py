# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: an append-only, hash-chained, Merkle-committed log of opaque entries.

Rules of this package:

- Entries are bytes. Nothing here knows what is in them, and nothing here imports `clearing`.
- It is the only importer of `lmdb` and `pymerkle`.
- An append is acknowledged (returns) only after its block, tree tiles, frontier and head are on disk.
- Every reader verifies what it read; LMDB has no checksums of its own.
"""

from journal.block import MAX_BLOCK_BYTES, MAX_ENTRY_BYTES, Block
from journal.errors import FatalJournalError, JournalError
from journal.head import Head
from journal.store import Space, Store

__all__ = [
    "MAX_BLOCK_BYTES",
    "MAX_ENTRY_BYTES",
    "Block",
    "FatalJournalError",
    "Head",
    "JournalError",
    "Space",
    "Store",
]
