# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing epochs, and posting each header to its own vault.

Rules:
- An epoch is closed only when the one before it is posted on every live vault, so at most one waits for
  the chains. Vaults are posted to at the same time: a slow or dead chain holds up the next epoch and
  not the other chains' posting of this one.
- What is posted is taken from the epoch's record, so that a post after a crash or a reorganisation is
  byte-identical. Where to go on is what each vault says, never what we remember.
- A header goes out once `threshold` attestors have signed it. Until then nothing is wrong; when the
  next epoch is due, it is.
- After a wind-down its final epoch is the last: from then on it is only posted again where a chain forgot it.
- Fees follow the freeze deadline: what waits in a pool is bid for anew at the urgency of that moment, not at the one
  of when it was sent (`Hurry`).
- What an epoch's transactions cost is remembered per vault, since how long the ether lasts depends on it.
- A vault that holds another header than ours under the same number ends posting: someone else signs
  with our key. A frozen vault is left to clearing.service.freeze, and the others go on once its
  escape is settled.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.fees import deadline_urgency
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import post_epoch_digest
from clearing.model.commands import CloseEpoch
from clearing.model.errors import NovateError
from clearing.service.attestations import AttestationBook
from clearing.service.epochs import EpochBook, EpochRecord
from clearing.service.links import Link
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline

Proof = Callable[[int, int], list[bytes]]
_COSTS = 8
Posted = Callable[[int, EpochRecord], None]


class Hurry:
    """Seconds until anyone may freeze a vault, counted on by this machine's clock between two looks at the chain, so
    that a transaction that waits, and a chain that does not answer, do not stop the time."""

    def __init__(self, link: Link, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._clock_s = clock_s
        self._seen: tuple[int, float] | None = None
        self.deadline_s = 0

    def look(self) -> None:
        """Ask the chain. Raises `ChainError`."""
        self.deadline_s = self.deadline_s or self._link.require().deadline_s()
        self._seen = self._link.seconds_left(), self._clock_s()

    @property
    def seconds_left(self) -> int | None:
        """None before the first look; negative when the deadline is past."""
        if self._seen is None:
            return None
        seconds, at_s = self._seen
        return int(seconds - (self._clock_s() - at_s))

    @property
    def age_s(self) -> float | None:
        """Seconds since the chain was last asked."""
        return None if self._seen is None else self._clock_s() - self._seen[1]

    def urgency(self) -> float:
        """How much posting matters now, 0 (no hurry) to 1 (at the deadline): what fees follow."""
        left = self.seconds_left
        return 0.0 if left is None else deadline_urgency(-self.deadline_s, 0, -left)


class VaultPoster:
    """Posts to one vault; without a chain everything closed counts as posted. Thread-safe by one lock.

    `posted_epoch` is what the vault held when it was last asked; `waiting` says that attestations are missing.
    """

    def __init__(
        self, link: Link, pipeline: Pipeline, book: EpochBook, attested: AttestationBook, proof: Proof, posted: Posted
    ) -> None:
        self.link = link
        self.posted_epoch = 0
        self.frozen = False
        self.waiting = False
        self.hurry = Hurry(link)
        # What the last epochs cost here, in wei, oldest first.
        self.costs_wei: deque[int] = deque(maxlen=_COSTS)
        self._pipeline = pipeline
        self._book = book
        self._attested = attested
        self._proof = proof
        self._on_posted = posted
        self._told = 0
        self._spent_wei = 0
        self._lock = threading.Lock()

    def post_missing(self) -> int:
        """Post every closed epoch that the vault does not have; returns how many.

        Raises `NovateError` POST_DIVERGED, DISK_FULL, ..., `ChainError`.
        """
        with self._lock:
            self._book.flush()
            closed = self._book.written()
            if self.link.client is None:
                self._reached(self._last_header(closed))
                return 0
            return self._catch_up(self.link.client, closed)

    @property
    def seconds_left(self) -> int | None:
        """Seconds until anyone may freeze the vault; None before its chain was asked."""
        return self.hurry.seconds_left

    @property
    def urgency(self) -> float:
        return self.hurry.urgency()

    def done(self, epoch: int) -> bool:
        """Whether nothing of this epoch is left to post here."""
        return self.frozen or self.posted_epoch >= epoch

    def _catch_up(self, vault: VaultClient, closed: int) -> int:
        posted = vault.epoch_count()
        self._check_tip(vault, posted, closed)
        self.frozen, self.waiting = vault.frozen(), False
        if self.frozen:
            self._reached(posted)
            return 0
        self.hurry.look()
        for epoch in range(posted + 1, closed + 1):
            if not self._post(vault.urgent(self.hurry.urgency), self._book.load(epoch)):
                self.waiting = True
                self._reached(epoch - 1)
                return epoch - 1 - posted
            self._reached(epoch)
        self._reached(closed)
        return max(0, closed - posted)

    def _last_header(self, closed: int) -> int:
        """The last closed epoch that has a header for this vault."""
        while closed and self._book.load(closed).vaults[self.link.number] is None:
            closed -= 1
        return closed

    def _check_tip(self, vault: VaultClient, posted: int, closed: int) -> None:
        name = f"vault {self.link.number}"
        if posted > closed:
            message = f"{name} is at epoch {posted}, the journal at {closed}: an old copy; do not go on"
            raise NovateError("POST_DIVERGED", message)
        if not posted:
            return
        ours = self._book.load(posted).vaults[self.link.number]
        if ours is None or vault.header_hash(posted) != ours.header_hash:
            raise NovateError(
                "POST_DIVERGED", f"{name} holds another header of epoch {posted}; someone else has the key"
            )

    def _post(self, vault: VaultClient, record: EpochRecord) -> bool:
        """Publish and post one epoch; False while attestations are missing."""
        part = record.part(self.link.number)
        for chunk, digest in zip(part.chunks, part.chunk_hashes, strict=True):
            # Before the attestors sign: they check that the data is there.
            if not vault.diff_block(digest):
                self._spent_wei += vault.publish_diff(chunk).paid_wei
        attestations = self._attested.enough(self.link.number, record.epoch)
        if attestations is None:
            return False
        before = self._book.load(record.epoch - 1).snapshot_seq if record.epoch > 1 else 0
        consistency = self._proof(before, record.snapshot_seq) if before else []
        digest = post_epoch_digest(self.link.spec.chain_id, vault.address, part.header_hash)
        signature = vault.wallet.sign_digest(digest)
        paid = vault.post_epoch(part.header, part.chunk_hashes, consistency, signature, attestations).paid_wei
        self.costs_wei.append(self._spent_wei + paid)
        self._spent_wei = 0
        return True

    def _reached(self, epoch: int) -> None:
        self.posted_epoch = epoch  # which may be back, after a reorganisation
        if epoch and epoch != self._told:
            self._told = epoch
            self._on_posted(self.link.number, self._book.load(epoch))


class Poster:
    """Closes epochs and posts them to every live vault. Thread-safe."""

    def __init__(
        self,
        pipeline: Pipeline,
        operator: Operator,
        book: EpochBook,
        links: Sequence[Link],
        attested: AttestationBook,
        proof: Proof,
        on_posted: Posted,
        final: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._book = book
        self._attested = attested
        self._final = final
        self.vaults = [VaultPoster(link, pipeline, book, attested, proof, on_posted) for link in links]
        self._lock = threading.Lock()
        self._overdue = False

    @property
    def posted_epoch(self) -> int:
        """The last epoch that every live vault holds; of the vault that froze last when none lives."""
        live = [vault.posted_epoch for vault in self.vaults if not vault.frozen]
        return min(live) if live else max(vault.posted_epoch for vault in self.vaults)

    def turn(self) -> EpochRecord:
        """Post what is missing, then close the next epoch and post it; returns its record.

        Raises `NovateError` (POST_DIVERGED, VAULT_FROZEN, ESCAPE_UNSETTLED, ATTESTATIONS_MISSING, CLOSE_REFUSED,
        DISK_FULL, ...) and `ChainError`.
        """
        with self._lock:
            self._post_missing()
            final = self._final()
            if final is not None:  # the venue has wound down: there is nothing left to close
                return self._book.load(final)
            self._overdue = True
            return self._close()

    def post_missing(self) -> int:
        """Post every closed epoch that a vault does not have, and close the next one if that had to wait for
        this; returns how many were posted."""
        with self._lock:
            count = self._post_missing()
            if self._overdue and self._final() is None and self._unready() is None:
                self._close()
            return count

    def hurry(self) -> None:
        """Have the next epoch closed as soon as the last one is posted, whatever the interval."""
        self._overdue = True

    def _close(self) -> EpochRecord:
        unready = self._unready()
        if unready is not None:
            raise unready
        state = self._pipeline.reducer.state
        epoch = state.epoch + 1
        receipt = self._operator.run(CloseEpoch(epoch, tuple(map(self._l1_block, self.vaults))))
        refused = rejections(receipt)
        if refused:
            raise NovateError("CLOSE_REFUSED", f"epoch {epoch} was not closed: {', '.join(refused)}")
        self._overdue = False
        self._post_missing()
        return self._book.load(epoch)

    def _unready(self) -> NovateError | None:
        """Why the next epoch cannot be closed yet."""
        closed = self._pipeline.reducer.state.epoch
        frozen = [vault.link.number for vault in self.vaults if vault.frozen]
        unsettled = [number for number in frozen if not self._settled(number)]
        if unsettled:
            message = f"vault {unsettled[0]} is frozen on its chain; closing goes on when its escape is settled here"
            return NovateError("ESCAPE_UNSETTLED", message)
        if len(frozen) == len(self.vaults):
            return NovateError("VAULT_FROZEN", "no vault is live: nothing can be posted, everyone leaves by escape")
        for vault in self.vaults:
            if vault.done(closed):
                continue
            number = vault.link.number
            if vault.waiting:
                missing = self._attested.view(number, vault.posted_epoch + 1)["missing"]
                message = (
                    f"epoch {vault.posted_epoch + 1} of vault {number} lacks attestations; {missing} have not signed"
                )
                return NovateError("ATTESTATIONS_MISSING", message)
            return NovateError("EPOCH_UNPOSTED", f"epoch {closed} is not posted on vault {number} yet")
        return None

    def _settled(self, number: int) -> bool:
        return self._pipeline.reducer.state.vaults[number].settled

    def _l1_block(self, vault: VaultPoster) -> tuple[int, bytes]:
        return (0, bytes(32)) if self._settled(vault.link.number) else vault.link.l1_block()

    def _post_missing(self) -> int:
        self._book.flush()
        return sum(in_turn_or_parallel([vault.post_missing for vault in self.vaults]))

    def view(self) -> list[dict[str, Any]]:
        """Per vault what is posted, and what it waits for, as JSON."""
        closed = self._book.written()
        rows = []
        for vault in self.vaults:
            number = vault.link.number
            waits = vault.waiting and vault.posted_epoch < closed
            rows.append(
                {
                    "vault": number,
                    "posted_epoch": vault.posted_epoch,
                    "frozen_on_chain": vault.frozen,
                    "seconds_to_freeze": vault.seconds_left,
                    "urgency": round(vault.urgency, 3),
                    "attestations": self._attested.view(number, vault.posted_epoch + 1) if waits else None,
                }
            )
        return rows


def in_turn_or_parallel(works: Sequence[Callable[[], int]]) -> list[int]:
    """Results of all works; every one is finished before an error is raised, a fault of ours before a chain's."""
    if len(works) == 1:
        return [works[0]()]
    with ThreadPoolExecutor(len(works), thread_name_prefix="vault") as pool:
        futures = [pool.submit(work) for work in works]
        errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, ChainError))
    return [future.result() for future in futures]
