# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering receipt challenges: whoever holds a checkpoint of ours may ask a vault where an entry went.

Rules:
- An unanswered challenge freezes the vault and takes the operator's bond, so each is answered as soon as a
  posted header covers the entry, with its inclusion path in that header's journal.
- A challenge over a leaf that our journal does not hold cannot be answered: two journals were signed with our
  key, or it is damaged. That is for people: RECEIPT_DIVERGED.
- Where to go on scanning is the newest block that was final at the last look, so a reorganisation hides nothing.
"""

from clearing.chain.vault import ChallengeEvent, VaultClient
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook
from clearing.service.links import Link
from journal import Store


class Answerer:
    """Follows one vault's receipt challenges."""

    def __init__(self, store: Store, book: EpochBook, link: Link) -> None:
        self._store = store
        self._book = book
        self._link = link
        self._from_block = -1
        self._waiting: dict[int, ChallengeEvent] = {}

    def turn(self) -> int:
        """Answer what is open and covered; returns how many. Raises `NovateError` RECEIPT_DIVERGED, `ChainError`."""
        client = self._link.require()
        if client.frozen():
            return 0  # nothing can be proven unanswered any more
        if self._from_block < 0:
            self._from_block = client.first_block()
        final = self._link.final_block()
        for event in client.challenges(self._from_block):
            self._waiting[event.id] = event
        self._from_block = max(self._from_block, final + 1)
        answered = 0
        for number in sorted(self._waiting):
            if not client.challenge_of(number).open:
                del self._waiting[number]
            elif self._answer(client, self._waiting[number]):
                answered += 1
        return answered

    def _answer(self, client: VaultClient, event: ChallengeEvent) -> bool:
        """Show the entry; False while no posted header covers it."""
        epoch = client.epoch_count()
        if not epoch:
            return False
        record = self._book.load(epoch)
        if event.entry >= record.snapshot_seq:
            return False
        if self._store.leaf(event.entry) != event.leaf:
            message = (
                f"challenge {event.id} of vault {self._link.number}: entry {event.entry} is another in our journal"
            )
            raise NovateError("RECEIPT_DIVERGED", f"{message}; find out who signed with the operator's key")
        path = self._store.inclusion(event.entry, record.snapshot_seq)
        client.urgent(1.0).answer_receipt(event.id, record.part(self._link.number).header, path)
        return True
