# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing epochs and posting them.

Rules:
- An epoch is closed only when the one before it is posted, so at most one waits for the chain.
- What is posted is taken from the epoch's record, so that a post after a crash or a reorganisation is
  byte-identical. Where to go on is what the vault says, never what we remember.
- A vault that holds another header than ours under the same number, or is frozen, ends posting:
  someone else signs with our key, or time ran out. Both are for people to look at.
"""

import threading
from collections.abc import Callable

from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, post_epoch_digest
from clearing.model.commands import CloseEpoch
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook, EpochRecord
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline


class Poster:
    """Closes and posts epochs. Without a `vault` it only closes them. Thread-safe by one lock."""

    def __init__(
        self,
        pipeline: Pipeline,
        operator: Operator,
        book: EpochBook,
        vault: VaultClient | None,
        signer: Wallet | None,
        confirmations: int = 0,
        on_posted: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._book = book
        self._vault = vault
        self._signer = signer
        self._confirmations = confirmations
        self._on_posted = on_posted
        self._lock = threading.Lock()
        self.posted_epoch = 0

    def turn(self) -> EpochRecord:
        """Post what is missing, then close the next epoch and post it; returns its record.

        Raises `NovateError` (POST_DIVERGED, VAULT_FROZEN, CLOSE_REFUSED, DISK_FULL, ...) and `ChainError`.
        """
        with self._lock:
            self._post_missing()
            epoch = self._pipeline.reducer.state.epoch + 1
            receipt = self._operator.run(CloseEpoch(epoch, (self._l1_block(),)))
            refused = rejections(receipt)
            if refused:
                raise NovateError("CLOSE_REFUSED", f"epoch {epoch} was not closed: {', '.join(refused)}")
            self._post_missing()
            return self._book.load(epoch)

    def post_missing(self) -> int:
        """Post every closed epoch that the vault does not have; returns how many."""
        with self._lock:
            return self._post_missing()

    def _l1_block(self) -> tuple[int, bytes]:
        """A final block. The contract takes none that is not past, and a node estimates gas as if in the
        newest block, so at most the one before it."""
        if self._vault is None:
            return 0, bytes(32)
        rpc: Rpc = self._vault.rpc
        block = rpc.block(max(0, rpc.block_number() - max(1, self._confirmations)))
        return block.number, block.hash

    def _post_missing(self) -> int:
        self._book.flush()
        closed = self._pipeline.reducer.state.epoch
        if self._vault is None:
            if closed > self.posted_epoch:
                self._done(closed)
            return 0
        posted = self._vault.epoch_count()
        self._check_tip(posted, closed)
        for epoch in range(posted + 1, closed + 1):
            self._post(self._vault, self._book.load(epoch))
            self._done(epoch)
        if closed and closed != self.posted_epoch:
            self._done(closed)
        return max(0, closed - posted)

    def _check_tip(self, posted: int, closed: int) -> None:
        assert self._vault is not None
        if posted > closed:
            message = f"the vault is at epoch {posted}, the journal at {closed}: an old copy; do not go on"
            raise NovateError("POST_DIVERGED", message)
        if posted and self._vault.header_hash(posted) != self._book.header_hash(posted):
            message = f"the vault holds another header of epoch {posted}; someone else has the key"
            raise NovateError("POST_DIVERGED", message)
        if self._vault.frozen():
            raise NovateError("VAULT_FROZEN", "the vault is frozen: nothing can be posted, everyone leaves by escape")

    def _post(self, vault: VaultClient, record: EpochRecord) -> None:
        assert self._signer is not None, "a poster with a vault has a key"
        for chunk, digest in zip(record.chunks, record.chunk_hashes, strict=True):
            if not int(vault.read("diffBlock", digest)):
                vault.publish_diff(chunk)
        digest = post_epoch_digest(vault.rpc.chain_id(), vault.address, record.header_hash)
        vault.post_epoch(record.header, record.chunk_hashes, self._signer.sign_digest(digest))

    def _done(self, epoch: int) -> None:
        self.posted_epoch = epoch
        if self._on_posted is not None:
            self._on_posted(self._book.load(epoch))
