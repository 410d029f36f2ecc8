# SPDX-License-Identifier: GPL-3.0-or-later
"""Offline proof bundles, made in this process: restoring an epoch's state is work that the writer's should not do.

Rules: leaves and paths come from the epoch's snapshot, verified against its roots (clearing.service.prover). Only what
needs the operator's key is asked of the writer: the signed head of the epoch, once per epoch. Which epoch a vault holds
is the writer's to say, too; while it is gone, bundles are of the last epochs that it named.
"""

import asyncio
import threading
from typing import Final

from clearing.api.link import Link
from clearing.model.errors import NovateError
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.epochs import EpochBook
from clearing.service.link.frames import UNREACHABLE
from clearing.service.prover import Prover
from proofs.checkpoint import origin_of

_SIGN_S: Final = 40.0


class _Asking:
    """A signer that asks the writer; its `sign` is called on a thread, while the loop goes on."""

    def __init__(self, link: Link, book: EpochBook, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin_of(book.genesis.origin, book.genesis.deployment)
        self._link = link
        self._loop = loop
        self.epochs: dict[int, int] = {}  # by the journal's size at their close

    def sign(self, operator_key: bytes, size: int, root: bytes) -> SignedCheckpoint:
        asked = self._link.ask("epoch_note", self.epochs[size], operator_key)
        note = asyncio.run_coroutine_threadsafe(asked, self._loop).result(_SIGN_S)
        return SignedCheckpoint(size, root, str(note))


class Bundles:
    """Makes bundles for one event loop, on which it is constructed."""

    def __init__(self, link: Link, book: EpochBook) -> None:
        self._link = link
        self._book = book
        self._signer = _Asking(link, book, asyncio.get_running_loop())
        self._prover = Prover(book, self._signer)
        self._posted: list[int] = []
        self._lock = threading.Lock()

    async def bundle(self, owner: bytes, vault: int = 0) -> bytes:
        """The bundle file of an owner (20 bytes) in a vault's tree, of the last epoch that was posted to it. Raises
        `Refused` NOT_POSTED, UNKNOWN_VAULT, UNKNOWN_OWNER; `NovateError` SNAPSHOT_*, SEQUENCER_UNREACHABLE."""
        try:
            posted: list[int] = await self._link.ask("posted")
        except NovateError as error:
            if error.code != UNREACHABLE or not self._posted:
                raise
            posted = self._posted
        return await asyncio.to_thread(self._make, posted, owner, vault)

    def _make(self, posted: list[int], owner: bytes, vault: int) -> bytes:
        with self._lock:
            for number, epoch in enumerate(posted):
                if epoch and posted[number] != (self._posted[number] if self._posted else 0):
                    record = self._book.load(epoch)
                    self._signer.epochs[record.snapshot_seq] = epoch
                    self._prover.posted(number, record)
            self._posted = posted
        return self._prover.bundle(owner, vault)
