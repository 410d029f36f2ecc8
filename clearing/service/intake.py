# SPDX-License-Identifier: GPL-3.0-or-later
"""From the vaults' inboxes into the journal: one intake per vault.

Rules:
- Only messages that are final on their chain are consumed, in index order, 50 to a batch.
- Where to go on is what the journal consumed (count and rolling hash), so nothing is kept beside it:
  after a crash a message is consumed once, for the reducer refuses any index but the next.
- The rolling hash after each batch must be the contract's. If it is not, the chain was reorganised
  below what we took as final, and no header could be posted any more: INBOX_DIVERGED, which is for people.
- A frozen vault's inbox is over: what it took in after its escape header, it refunds. So is every inbox once a
  wind-down has paid everyone: what comes later is refunded after the freeze that must follow.
"""

from collections.abc import Sequence

from clearing.chain.vault import InboxEvent
from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.links import Link
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline

BATCH = 50


def consume_command(vault: int, event: InboxEvent) -> c.ConsumeInbox:
    """The journal's command for a message of a vault's inbox."""
    m = event.message
    return c.ConsumeInbox(vault, m.index, m.kind, m.owner, m.asset, m.amount, m.l1_time, m.data)


class Intake:
    """Follows one vault's inbox."""

    def __init__(self, pipeline: Pipeline, operator: Operator, link: Link) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._link = link

    def turn(self) -> int:
        """Consume every final message; returns how many. Raises `NovateError`, `ChainError`."""
        count, _, over = self._consumed()
        if over:
            return 0
        last = self._link.final_block()
        if last < 0:
            return 0
        events = self._link.require().inbox(count, last)
        for start in range(0, len(events), BATCH):
            self._consume(events[start : start + BATCH])
        return len(events)

    def _consumed(self) -> tuple[int, bytes, bool]:
        with self._pipeline.lock:
            vault = self._pipeline.reducer.state.vaults[self._link.number]
            over = vault.frozen is not None or self._pipeline.reducer.state.wound
            return vault.inbox_count, vault.inbox_hash, over

    def _consume(self, events: Sequence[InboxEvent]) -> None:
        commands = [consume_command(self._link.number, event) for event in events]
        refused = rejections(self._operator.run(*commands))
        count, rolling, over = self._consumed()
        if over:
            return  # since just now: what was not consumed is refunded by the contract
        last = events[-1]
        if refused or count != last.message.index + 1 or rolling != last.rolling_hash:
            raise NovateError(
                "INBOX_DIVERGED",
                f"after message {last.message.index} of vault {self._link.number} the journal's rolling hash "
                f"differs from the contract's ({', '.join(refused) or 'no rejection'}): the chain was reorganised; "
                "stop and investigate",
            )
