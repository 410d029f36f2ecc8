# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders for the load: reproducible, signed before anything is timed, so that both sides get the same bytes.

Rules:
- A member's envelopes are in the order in which its connection sends them; members do not depend on each other, so any
  interleaving of connections is a valid run.
- One command in three cancels an order of the member's own; one order in three is priced across the middle. What fills
  is decided by the book that is there, and counted from the journal.
"""

import random
from collections.abc import Sequence

from clearing.model import commands as c
from clearing.model import ids, signature
from tools.bench import workload as w

# Far below what an account may have open: a member cancels rather than be refused.
MOST_OPEN = 200
_CROSSES = 1 / 3
_CANCELS = 1 / 3


class Flow:
    """Signed envelopes of `members`, `per_batch` commands in each; every call goes on where the last one ended."""

    def __init__(self, members: int, per_batch: int, *, nonce: int = 0, seed: int = 11) -> None:
        self.members = members
        self.per_batch = per_batch
        self._rng = random.Random(seed)
        self._open: list[list[int]] = [[] for _ in range(members)]
        self._nonce = nonce

    @property
    def nonce(self) -> int:
        """The last that was used, of orders and envelopes alike: another flow goes on from there."""
        return self._nonce

    def take(self, each: int) -> list[list[bytes]]:
        """Per member so many envelopes."""
        return [[self._envelope(member) for _ in range(each)] for member in range(self.members)]

    def _envelope(self, member: int) -> bytes:
        commands = tuple(self._command(member) for _ in range(self.per_batch))
        self._nonce += 1
        batch = c.MemberBatch(w.DEPLOYMENT, w.account_number(member), self._nonce, w.FOREVER, commands)
        return signature.sign(batch, w.member_seed(member))

    def _command(self, member: int) -> c.MemberCommand:
        rng, mine = self._rng, self._open[member]
        if mine and (rng.random() < _CANCELS or len(mine) >= MOST_OPEN):
            return c.CancelOrder(mine.pop(rng.randrange(len(mine))))
        self._nonce += 1
        mine.append(self._nonce)
        side = rng.choice((ids.BUY, ids.SELL))
        away = -rng.randrange(1, 10) if rng.random() < _CROSSES else rng.randrange(20)
        price = w.MID - away if side == ids.BUY else w.MID + away
        return c.PlaceOrder(1, side, price, rng.randrange(1, 20), self._nonce, stp=0)


def interleaved(lists: Sequence[Sequence[bytes]]) -> list[bytes]:
    """One of each member, round by round: what arrives at a writer without connections before it."""
    return [raw for turn in zip(*lists, strict=True) for raw in turn]
