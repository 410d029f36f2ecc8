# SPDX-License-Identifier: GPL-3.0-or-later
"""The last committed blocks, in memory, for those who follow.

Rules:
- The writer adds and goes on; it never waits for a follower, and never works for one. Memory is bounded: the oldest
  blocks make room for new ones.
- A follower that falls behind the oldest is told so (LINK_TOO_FAR_BEHIND) and reads what it missed from the journal
  on disk, which every process of this machine can.
- A block is shown only together with a signed head that covers it.
"""

import threading
import time
from collections import deque
from typing import Final, NamedTuple

from clearing.model.errors import NovateError
from clearing.service.checkpoints import SignedCheckpoint
from journal import Head
from journal.block import Block

RING_BYTES: Final = 32 << 20
# Who reads the disk may be ahead of what was published, for as long as a commit takes to be signed.
_AHEAD_S: Final = 2.0


class News(NamedTuple):
    """Blocks after a position, the signed head, and the position after them."""

    blocks: list[bytes]
    head: SignedCheckpoint
    position: int


class Ring:
    """Blocks are numbered by position, from 0 for the first that this process published."""

    def __init__(self, head: Head, checkpoint: SignedCheckpoint, limit_bytes: int = RING_BYTES) -> None:
        self._limit = limit_bytes
        self._changed = threading.Condition()
        self._fresh: list[Block] = []  # the writer's own
        self._blocks: deque[Block] = deque()
        self._bytes = 0
        self._end = 0  # the position after the last block
        self._size, self._hash = head.next_seq, head.block_hash
        self._checkpoint = checkpoint
        self._closed = False

    @property
    def checkpoint(self) -> SignedCheckpoint:
        """The signed head."""
        return self._checkpoint

    # --- the writer ---

    def add(self, block: Block) -> None:
        """Take note of a durable block; `publish` shows it."""
        self._fresh.append(block)

    def publish(self, checkpoint: SignedCheckpoint) -> None:
        """Show what was added, under a signed head."""
        fresh, self._fresh = self._fresh, []
        with self._changed:
            for block in fresh:
                self._blocks.append(block)
                self._bytes += len(block.raw)
                self._size, self._hash = block.next_seq, block.hash
            self._end += len(fresh)
            while self._bytes > self._limit and len(self._blocks) > 1:
                self._bytes -= len(self._blocks.popleft().raw)
            self._checkpoint = checkpoint
            self._changed.notify_all()

    def close(self) -> None:
        """Wake everyone for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- followers ---

    def join(self, from_seq: int, block_hash: bytes) -> int:
        """The position of who has all blocks before `from_seq`, the last with this hash.

        Raises `NovateError` LINK_TOO_FAR_BEHIND, LINK_AHEAD, LINK_JOURNAL_DIFFERS.
        """
        until = time.monotonic() + _AHEAD_S
        with self._changed:
            while from_seq > self._size and not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._find(from_seq, block_hash)

    def _find(self, from_seq: int, block_hash: bytes) -> int:
        if from_seq > self._size:
            message = (
                f"the journal ends before entry {from_seq}: it is not the one you followed; restore and join again"
            )
            raise NovateError("LINK_AHEAD", message)
        expected = self._hash if from_seq == self._size else None
        position = self._end
        for block in reversed(self._blocks):
            if from_seq >= block.next_seq:
                break
            position -= 1
            expected = block.prev_hash if block.first_seq == from_seq else None
        if expected is None:
            if self._blocks and from_seq > self._blocks[0].first_seq:
                raise NovateError(
                    "LINK_JOURNAL_DIFFERS", f"no block begins at entry {from_seq}; restore and join again"
                )
            message = f"the blocks at entry {from_seq} are no longer here; read them from the journal and join again"
            raise NovateError("LINK_TOO_FAR_BEHIND", message)
        if expected != block_hash:
            message = f"the block before entry {from_seq} is another here: restore from this journal and join again"
            raise NovateError("LINK_JOURNAL_DIFFERS", message)
        return position

    def wait(self, position: int, timeout_s: float, most_bytes: int) -> News | None:
        """What follows a position, at most about `most_bytes` at once; None when nothing came in time or at the end.

        Raises `NovateError` LINK_TOO_FAR_BEHIND.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._end <= position and not self._closed and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._end <= position:
                return None
            first = self._end - len(self._blocks)
            if position < first:
                message = "you read too slowly and were passed by; read the journal on disk and join again"
                raise NovateError("LINK_TOO_FAR_BEHIND", message)
            found, total = [], 0
            for index in range(position - first, len(self._blocks)):
                found.append(self._blocks[index].raw)
                total += len(found[-1])
                if total >= most_bytes:
                    break
            return News(found, self._checkpoint, position + len(found))

    @property
    def size(self) -> int:
        """Entries that were published."""
        return self._size
