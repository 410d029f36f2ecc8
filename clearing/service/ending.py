# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a wind-down is.

Rules: what is true is in the journal. The final epoch is the first one that closed after the entry in which everything
was acknowledged; that entry is looked up once, from the journal's end backwards, and so found again after a restart.
"""

import threading
from typing import Any

from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import WindDownDone
from clearing.service.epochs import EpochBook
from clearing.service.pipeline import Pipeline
from journal import Store


class Ending:
    """Reads the end of a venue. Thread-safe."""

    def __init__(self, store: Store, pipeline: Pipeline, book: EpochBook) -> None:
        self._store = store
        self._pipeline = pipeline
        self._book = book
        self._lock = threading.Lock()
        self._done_seq: int | None = None
        self._final = 0

    @property
    def done(self) -> bool:
        """Whether everything is acknowledged."""
        return bool(self._pipeline.reducer.state.wound)

    def final_epoch(self) -> int | None:
        """The epoch that carries all acknowledgements, once it is closed and on disk."""
        if not self.done:
            return None
        with self._lock:
            if not self._final:
                self._final = self._find()
            return self._final or None

    def view(self) -> dict[str, Any] | None:
        """The wind-down as JSON; None when there is none."""
        state = self._pipeline.reducer.state
        if not state.winding:
            return None
        return {"reason": state.winding, "done": self.done, "final_epoch": self.final_epoch()}

    def _find(self) -> int:
        if self._done_seq is None:
            self._done_seq = self._last_done()
        epoch = self._book.written()
        if not epoch or self._load_size(epoch) <= self._done_seq:
            return 0
        while epoch > 1 and self._load_size(epoch - 1) > self._done_seq:
            epoch -= 1
        return epoch

    def _load_size(self, epoch: int) -> int:
        return self._book.load(epoch).snapshot_seq

    def _last_done(self) -> int:
        """The entry in which the wind-down ended. The state may be ahead of what is durable: then the newest."""
        seq = self._store.head().next_seq
        while seq > 0:
            seq -= 1
            if any(isinstance(outcome, WindDownDone) for outcome in decode_entry(self._store.entry(seq)).outcomes):
                return seq
        raise NovateError(
            "JOURNAL_CORRUPT", "the state has wound down, but no entry says so; run `novate journal fsck`"
        )
