# SPDX-License-Identifier: GPL-3.0-or-later
"""From the vault's inbox into the journal.

Rules:
- Only messages with `confirmations` blocks on top are consumed, in index order, 50 to a batch.
- Where to go on is what the journal consumed (count and rolling hash), so nothing is kept beside it:
  after a crash a message is consumed once, for the reducer refuses any index but the next.
- The rolling hash after each batch must be the contract's. If it is not, the chain was reorganised
  below what we took as final, and no header could be posted any more: INBOX_DIVERGED, which is for people.
"""

from collections.abc import Sequence

from clearing.chain.vault import InboxEvent, VaultClient
from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.operator import Operator, rejections
from clearing.service.pipeline import Pipeline

BATCH = 50


class Intake:
    """Follows one vault's inbox."""

    def __init__(self, pipeline: Pipeline, operator: Operator, vault: VaultClient, confirmations: int) -> None:
        self._pipeline = pipeline
        self._operator = operator
        self._vault = vault
        self._confirmations = confirmations

    def turn(self) -> int:
        """Consume every confirmed message; returns how many. Raises `NovateError`, `ChainError`."""
        last = self._vault.rpc.block_number() - self._confirmations
        count, _ = self._consumed()
        if last < 0:
            return 0
        events = self._vault.inbox(count, last)
        for start in range(0, len(events), BATCH):
            self._consume(events[start : start + BATCH])
        return len(events)

    def _consumed(self) -> tuple[int, bytes]:
        state = self._pipeline.reducer.state
        with self._pipeline.lock:
            return state.inbox_count, state.inbox_hash

    def _consume(self, events: Sequence[InboxEvent]) -> None:
        commands = [
            c.ConsumeInbox(0, m.index, m.kind, m.owner, m.asset, m.amount, m.l1_time, m.data) for m, _, _ in events
        ]
        refused = rejections(self._operator.run(*commands))
        count, rolling = self._consumed()
        last = events[-1]
        if refused or count != last.message.index + 1 or rolling != last.rolling_hash:
            raise NovateError(
                "INBOX_DIVERGED",
                f"after message {last.message.index} the journal's rolling hash differs from the contract's "
                f"({', '.join(refused) or 'no rejection'}): the chain was reorganised; stop and investigate",
            )
