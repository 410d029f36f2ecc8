# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTTP interface may see and do: the running parts behind one object, and nothing else."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any

from clearing.core.state import State
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.service import views
from clearing.service.attestations import AttestationBook
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.epochs import EpochBook
from clearing.service.pipeline import Pipeline, Receipt
from clearing.service.poster import Poster
from clearing.service.prover import Prover
from clearing.service.sequencer import Sequencer
from clearing.service.vouchers import VoucherDesk
from journal import Store
from proofs.log import leaf_hash


class Venue:
    """The running venue. `faults` gives the last error per background part, for GET /v1/status."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        sequencer: Sequencer,
        book: EpochBook,
        prover: Prover,
        poster: Poster,
        attestations: AttestationBook,
        vouchers: VoucherDesk,
        ending: Callable[[], dict[str, Any] | None],
        faults: Callable[[], dict[str, str]],
    ) -> None:
        self.store = store
        self.book = book
        self.prover = prover
        self.attestations = attestations
        self.vouchers = vouchers
        self._poster = poster
        self._ending = ending
        self._pipeline = pipeline
        self._sequencer = sequencer
        self._faults = faults

    @property
    def state(self) -> State:
        """Read it under `lock` only."""
        return self._pipeline.reducer.state

    @property
    def lock(self) -> Lock:
        return self._pipeline.lock

    @property
    def genesis(self) -> Genesis:
        return self.state.genesis

    def submit(self, raw: bytes) -> Future[Receipt]:
        return self._sequencer.submit(raw)

    def submit_many(self, raws: Sequence[bytes]) -> list[Future[Receipt]]:
        return self._sequencer.submit_many(raws)

    def checkpoint(self) -> SignedCheckpoint:
        """The signed head of the last commit."""
        latest = self._pipeline.committer.latest
        if latest is None:
            raise NovateError("NODE_HALTED", "no checkpoint was signed yet; the operator is starting or has halted")
        return latest

    def status(self) -> dict[str, Any]:
        """Counters, the signed head, and what is wrong."""
        checkpoint = self.checkpoint()
        with self.lock:
            counters = views.status(self.state)
        return counters | self.writer_status() | {"size": checkpoint.size, "root": views.plain(checkpoint.root)}

    def writer_status(self) -> dict[str, Any]:
        """What is not in the state: the parts beside the reducer, and what is wrong. Takes no lock."""
        halted = self._pipeline.halted or self._sequencer.fatal
        return {
            "size": self.checkpoint().size,
            "posted": self.posted(),
            "posted_epoch": self._poster.posted_epoch,
            "posting": self._poster.view(),
            "wind_down": self._ending(),
            "waiting": self._sequencer.waiting,
            "halted": None if halted is None else getattr(halted, "code", type(halted).__name__),
            "faults": self._faults(),
        }

    def shown(self, found: Receipt) -> dict[str, Any]:
        """What makes a receipt complete: the entry, and its path to the checkpoint of its commit."""
        path = self.store.inclusion(found.seq, found.checkpoint.size)
        return {"entry": views.plain(found.entry), "proof": views.plain(path)}

    def proven_receipt(self, seq: int) -> dict[str, Any]:
        """Entry, inclusion proof and the signed checkpoint that it leads to."""
        checkpoint = self.checkpoint()
        entry = self.store.entry(seq)
        return {
            "seq": seq,
            "entry": views.plain(entry),
            "entry_hash": views.plain(leaf_hash(entry)),
            "proof": views.plain(self.store.inclusion(seq, checkpoint.size)),
            "checkpoint": {
                "size": checkpoint.size,
                "root": views.plain(checkpoint.root),
                "note": checkpoint.note,
            },
        }

    def epochs(self, first: int, limit: int) -> dict[str, Any]:
        """Closed epochs from `first` on, oldest first, at most `limit`."""
        # The reducer may be an epoch ahead of the records, which are written after its commit.
        last = min(self.state.epoch, self.book.written())
        posted = self.posted()
        found = []
        for number in range(first, min(last, first + limit - 1) + 1):
            record = self.book.load(number)
            live = record.live()
            hashes = {str(vault): views.plain(record.part(vault).header_hash) for vault in live}
            done = all(number <= posted[vault] for vault in live)
            found.append({"epoch": number, "header_hashes": hashes, "posted": done})
        return {"last": last, "posted": self._poster.posted_epoch, "epochs": found}

    def posted(self) -> list[int]:
        """Per vault the last epoch that it holds."""
        return [vault.posted_epoch for vault in self._poster.vaults]

    def headers(self, number: int) -> dict[str, Any]:
        """Every live vault's header of an epoch."""
        record, posted = self.book.load(number), self.posted()
        rows = [views.header(record, vault, number <= posted[vault]) for vault in record.live()]
        return {"epoch": number, "headers": rows}

    def attested(self, number: int) -> dict[str, Any]:
        """Who has signed an epoch's headers, and who has not."""
        live = self.book.load(number).live()
        return {"epoch": number, "vaults": [self.attestations.view(vault, number) for vault in live]}
