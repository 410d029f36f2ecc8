# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows when a vault froze: its payouts are debited here, then the other vaults go on.

Rules:
- A freeze counts once it is final on its chain, since the journal cannot take it back.
- In this order: FreezeVault, the leaves of the escape header (from our records of that vault's diffs),
  the deposits that the journal had taken after it (from the vault's inbox), SettleEscape. The reducer
  checks leaves and deposits against what it committed to, so a mistake is refused and not believed.
- What does not add up to the escape header (ESCAPE_MISMATCH) is thrown away and collected once more: rows may be from
  a time before a repair of our records. Refused again, it is for people: each try stays in the journal.
- Where to go on is what the journal says, so a crash anywhere in between costs nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from clearing.chain.vault import VaultClient
from clearing.core.vaults import VaultState
from clearing.model import commands as c
from clearing.model.codec import encode
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook
from clearing.service.intake import consume_command
from clearing.service.links import Link
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline
from proofs.leaf import ExitLeaf

# An envelope holds 8,192 bytes; batch, key and signature take some of them.
_BYTES: Final = 7_500

T = TypeVar("T")


class FreezeWatch:
    """Follows one vault until its escape is settled in the journal."""

    def __init__(self, pipeline: Pipeline, operator: Operator, book: EpochBook, link: Link) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._book = book
        self._link = link
        self._started_over = False

    def turn(self) -> bool:
        """Bring a final freeze into the journal; whether its escape is settled.

        Raises `NovateError` ESCAPE_REFUSED, FREEZE_DIVERGED, ..., `ChainError`.
        """
        vault = self._vault
        if vault.settled:
            return True
        epoch = self._link.final_freeze()
        if epoch is None:
            return False
        if vault.frozen is None:
            self._run(c.FreezeVault(self._link.number, epoch))
        elif vault.frozen != epoch:
            message = f"the journal froze vault {self._link.number} at epoch {vault.frozen}, its chain at {epoch}"
            raise NovateError("FREEZE_DIVERGED", f"{message}: the chain was reorganised; stop and investigate")
        self._collect(epoch)
        refused = self._refused(c.SettleEscape(self._link.number))
        if refused == ["ESCAPE_MISMATCH"] and not self._started_over:
            self._started_over = True
            # Without rows these throw away what was collected of their kind.
            self._run(c.EscapeLeaves(self._link.number, ()))
            self._run(c.EscapeDeposits(self._link.number, ()))
            self._collect(epoch)
            refused = self._refused(c.SettleEscape(self._link.number))
        self._require_taken(c.SettleEscape, refused)
        return True

    @property
    def settled(self) -> bool:
        """Whether the journal has debited what the vault pays out."""
        return self._vault.settled

    @property
    def _vault(self) -> VaultState:
        return self._pipeline.reducer.state.vaults[self._link.number]

    def _collect(self, epoch: int) -> None:
        """Give the journal the leaves and deposits that it does not have yet."""
        for leaves in self._leaves(epoch):
            self._run(c.EscapeLeaves(self._link.number, leaves))
        for messages in self._deposits(self._link.require(), epoch):
            self._run(c.EscapeDeposits(self._link.number, messages))

    def _run(self, command: c.OperatorCommand) -> None:
        self._require_taken(type(command), self._refused(command))

    def _refused(self, command: c.OperatorCommand) -> list[str]:
        return rejections(self._operator.run(command))

    def _require_taken(self, kind: type[c.OperatorCommand], refused: list[str]) -> None:
        if refused:
            message = f"{kind.__name__} of vault {self._link.number} was refused: {', '.join(refused)}"
            raise NovateError("ESCAPE_REFUSED", f"{message}; run `novate journal fsck`, then restart")

    def _leaves(self, epoch: int) -> Iterator[tuple[c.EscapeLeaf, ...]]:
        """The escape header's leaves that the journal does not have yet, in commands of an envelope's size."""
        taken = self._vault.escape_next if epoch else 0
        wanted = [leaf for leaf in self._book.leaves(self._link.number, epoch) if leaf.index >= taken]
        return _packed([_row(leaf) for leaf in wanted])

    def _deposits(self, client: VaultClient, epoch: int) -> Iterator[tuple[c.ConsumeInbox, ...]]:
        """Messages that the journal consumed and the escape header did not, from where the journal stands."""
        vault = self._vault
        first, last = vault.escape_inbox_count, vault.inbox_count
        if first >= last:
            return iter(())
        events = client.inbox(first)[: last - first]
        return _packed([consume_command(self._link.number, event) for event in events])


def _row(leaf: ExitLeaf) -> c.EscapeLeaf:
    return c.EscapeLeaf(leaf.index, leaf.owner, tuple(leaf.exits), tuple(leaf.withdraw_acks))


def _packed(rows: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Rows in order, as many together as an envelope holds."""
    waiting: list[T] = []
    size = 0
    for row in rows:
        added = len(encode(row))
        if waiting and size + added > _BYTES:
            yield tuple(waiting)
            waiting, size = [], 0
        waiting.append(row)
        size += added
    if waiting:
        yield tuple(waiting)
