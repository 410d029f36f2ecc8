# SPDX-License-Identifier: GPL-3.0-or-later
"""The writing end: an operator's data directory, made and driven by the operator's own parts.

Rule: what comes out is what a live operator leaves behind (keys, journal, snapshots, epoch records), so
that every tool for an operator's data works on it, and nothing here knows how to write a journal.
"""

from collections.abc import Sequence
from pathlib import Path

from clearing.ingest.venue import Venue
from clearing.model.errors import NovateError
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.commit import Committer
from clearing.service.config import Config
from clearing.service.layout import ED25519, SECP256K1, KeyRing, Layout, write_key
from clearing.service.pipeline import Pipeline, Receipt
from clearing.service.recover import open_store, recover
from clearing.service.setup import init_data_dir

_THREADS = 2


def require_empty(data_dir: Path) -> None:
    """Raises `NovateError` INGEST_DATA_DIR unless a new deployment can be made there."""
    try:
        if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
            return
    except OSError as error:
        raise NovateError("INGEST_DATA_DIR", f"{data_dir} cannot be used: {error.strerror}") from None
    raise NovateError("INGEST_DATA_DIR", f"{data_dir} is not empty; choose a new directory")


class Recorder:
    """A new deployment in `data_dir` (absent or empty) whose genesis is dated `now_us`.

    Raises `NovateError` INGEST_DATA_DIR, and the codes of journal and set-up.
    """

    def __init__(self, data_dir: Path, venue: Venue, now_us: int) -> None:
        require_empty(data_dir)
        layout = Layout(data_dir)
        _write_keys(layout, venue)
        # One signature per commit is enough here: no contract will ever see these checkpoints.
        config = Config(checkpoint_secp256k1=False)
        init_data_dir(data_dir, venue.deployment, now_us, config)
        self._store = open_store(layout, config.journal_map_bytes)
        try:
            found = recover(self._store, layout, config.keep_snapshots)
            signer = CheckpointSigner(found.genesis, KeyRing(layout.keys), None)
            self._committer = Committer(self._store, signer)
            self._pipeline = Pipeline(self._committer, found.reducer, threads=_THREADS, on_epoch=found.book.closed)
        except BaseException:
            self._store.close()
            raise
        self._book = found.book
        self.entry_bytes = len(self._store.entry(0))

    @property
    def size(self) -> int:
        """Number of durable entries."""
        return self._committer.size

    @property
    def root(self) -> bytes:
        """The journal's root over them (32 bytes)."""
        return self._store.root()

    def write(self, raws: Sequence[bytes], now_us: int) -> list[Receipt]:
        """Send envelopes through the pipeline as one group; receipts in order, all of it durable.

        Raises the first `NovateError` of an envelope that was not admitted: since all are ours, it is
        a fault of the venue (a full disk, say) and not of one order.
        """
        receipts: list[Receipt] = []
        error: NovateError | None = None
        for result in self._pipeline.process(raws, now_us):
            if isinstance(result, NovateError):
                error = error or result
            else:
                receipts.append(result)
                self.entry_bytes += len(result.entry)
        self._book.flush()
        if error is not None:
            raise error
        return receipts

    def close(self) -> None:
        """Give the journal back."""
        self._pipeline.close()
        self._store.close()


def _write_keys(layout: Layout, venue: Venue) -> None:
    try:
        layout.keys.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise NovateError("INGEST_DATA_DIR", f"{layout.root} cannot be used: {error.strerror}") from None
    keys = venue.keys
    write_key(layout.keys / f"operator{ED25519}", keys.operator)
    write_key(layout.keys / f"operator{SECP256K1}", keys.operator_secp256k1)
    for index, seed in enumerate(keys.publishers):
        write_key(layout.keys / f"publisher-{index}{ED25519}", seed)
