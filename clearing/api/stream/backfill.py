# SPDX-License-Identifier: GPL-3.0-or-later
"""What a subscriber missed: everything of a channel after an entry, up to the moment of its snapshot.

Rules: pages come from memory, and below that from the journal, which takes time in which more happens. So reading goes
on from where it was complete: that is in memory, and found without a pause. It ends, with a gap, at `MAX_ITEMS`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from clearing.api.history import Cursor, History, Page
from clearing.api.history.cursor import LAST, MAX_LIMIT, Place
from clearing.api.history.cursor import cursor as parse

MAX_ITEMS: Final = 1_000
_MAX_PAGES: Final = 20
Ask = Callable[[int, Cursor], Awaitable[Page[Any]]]


class Backfill(NamedTuple):
    """What came after an entry, oldest first. `gap`: it was too much, or is not known; then it is empty."""

    gap: bool
    items: list[Any]
    events: list[Any]


class _Tape:
    """One tape, read from an entry on."""

    def __init__(self, ask: Ask, key: int, after: int) -> None:
        self._ask = ask
        self._key = key
        self._after: Place = (after, LAST)
        self.items: list[Any] = []

    async def read(self, seq: Callable[[], int]) -> bool:
        """Take what there is, at least what there was at the call; False when it is too much. Raises `JournalError`,
        `NovateError`."""
        cursor = Cursor(None, self._after, MAX_LIMIT)
        for _ in range(_MAX_PAGES):
            known = (seq(), LAST)
            page = await self._ask(self._key, cursor)
            self.items += page.items
            if len(self.items) > MAX_ITEMS:
                return False
            if page.next is None:
                last = (self.items[-1].seq, self.items[-1].index) if self.items else known
                self._after = max(known, last)  # more may have happened since the page was made
                return True
            cursor = parse(None, page.next, MAX_LIMIT)
        return False


class Backfiller:
    """`channel` of `key` after entry `after`; `seq` says which entry is the newest that is applied."""

    def __init__(self, history: History, channel: str, key: int, after: int, seq: Callable[[], int]) -> None:
        self._seq = seq
        self._gap = after > seq()
        if channel == "account":
            self._tapes = [_Tape(history.fills, key, after), _Tape(history.events, key, after)]
        else:
            self._tapes = [_Tape(history.trades if channel == "trades" else history.funding, key, after)]

    async def read(self) -> None:
        """Take everything up to now: nothing is applied between the last look and the return."""
        done = False
        while not self._gap and not done:
            seq = self._seq()
            for tape in self._tapes:
                self._gap = self._gap or not await tape.read(self._seq)
            done = seq == self._seq()

    def found(self) -> Backfill:
        """What was taken."""
        if self._gap:
            return Backfill(True, [], [])
        return Backfill(False, self._tapes[0].items, self._tapes[-1].items if len(self._tapes) > 1 else [])
