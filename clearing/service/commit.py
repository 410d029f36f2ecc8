# SPDX-License-Identifier: GPL-3.0-or-later
"""Group commit: entries become blocks of the journal, durable before anyone hears of them.

Rules:
- One append (one sync) per batch; only a batch past a block's limit of a million bytes takes several.
- Little room left refuses new commands before they are applied. If an append meets a full disk all
  the same, the journal's reserve is given back and the same block tried again; what still fails is
  the caller's to treat as fatal, since the state has run ahead.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from clearing.core.state import State
from clearing.model.errors import NovateError, Refused
from clearing.service.checkpoints import CheckpointSigner, SignedCheckpoint
from journal import Head, JournalError, Store
from journal.block import batches

# Asking for free space is a few system calls: once per so many commits or bytes is often enough,
# as the halt threshold leaves far more than that.
_CHECK_COMMITS: Final = 64
_CHECK_BYTES: Final = 1 << 20


def named(error: JournalError) -> NovateError:
    """The journal's error under our base class, with its code."""
    return NovateError(error.code, error.message)


class Committer:
    """The journal's writing end and its signed heads. `size` is the number of durable entries."""

    def __init__(self, store: Store, signer: CheckpointSigner) -> None:
        self.store = store
        self.latest: SignedCheckpoint | None = None
        self._signer = signer
        self._head: Head = store.head()
        self._commits = 0
        self._bytes = 0
        self._low: Refused | None = None
        # Hears of each group commit that succeeded: entries, seconds.
        self.on_commit: Callable[[int, float], None] | None = None
        self._check_space()

    @property
    def size(self) -> int:
        return self._head.next_seq

    def refusal(self) -> Refused | None:
        """Why nothing may be applied now: DISK_FULL or JOURNAL_FULL; None while there is room."""
        if self._low is not None or self._commits >= _CHECK_COMMITS or self._bytes >= _CHECK_BYTES:
            self._check_space()
        return self._low

    @property
    def refusal_now(self) -> Refused | None:
        """What `refusal` said last; any thread may ask."""
        return self._low

    def commit(self, entries: Sequence[bytes]) -> Head:
        """Make entries durable, in order; `size` says how far that went if it raises `NovateError`."""
        started = time.perf_counter()
        try:
            for part in batches(entries):
                self._head = self.store.append(part, self._head, use_reserve=True)
                self._bytes += sum(map(len, part))
        except JournalError as error:
            self._commits = _CHECK_COMMITS
            raise named(error) from error
        self._commits += 1
        if self.on_commit is not None:
            self.on_commit(len(entries), time.perf_counter() - started)
        return self._head

    def checkpoint(self, state: State) -> SignedCheckpoint:
        """The signed head: one signature per commit, by the operator key that `state` names."""
        if self.latest is None or self.latest.size != self.size:
            self.latest = self._signer.sign(state.operator_key, self.size, self._head.tree_root)
        return self.latest

    def _check_space(self) -> None:
        self._commits = self._bytes = 0
        space = self.store.space()
        if not space.halt:
            self._low = None
            return
        map_left = space.map_size_bytes - space.map_used_bytes
        if map_left * 1_000_000 // space.map_size_bytes == space.free_ppm:
            message = f"{map_left} bytes are left in the journal's map; restart with a larger journal_map_bytes"
            self._low = Refused("JOURNAL_FULL", message)
        else:
            message = (
                f"{space.disk_free_bytes} of {space.disk_size_bytes} bytes are left on the journal's disk; below 5 %, "
                "2 GiB at most, nothing new is taken, so that what must go on can: the operator must free space"
            )
            self._low = Refused("DISK_FULL", message)
