# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounded tapes in memory, and pages from them.

Rules: items come in the order of their places; the oldest go when a bound is met. `floor` is the highest place at or
below which items may be missing (None: nothing is): what is above it is all there, what is not is in the journal.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar

from clearing.api.history.cursor import Place, Placed, cut

T = TypeVar("T", bound=Placed)
_NOTHING: deque[Placed] = deque()


class Ring(Protocol[T]):
    """Tapes by key (an instrument, an account)."""

    def add(self, key: int, item: T) -> None: ...

    def floor(self, key: int) -> Place | None: ...

    def items(self, key: int) -> deque[T]: ...


class Own(Generic[T]):
    """Each key has a tape of `most` items: a busy market does not push out a quiet one's."""

    def __init__(self, most: int, floor: Place | None) -> None:
        self._most = most
        self._first_floor = floor
        self._floors: dict[int, Place] = {}
        self._by: dict[int, deque[T]] = {}

    def add(self, key: int, item: T) -> None:
        """Append to the key's tape."""
        tape = self._by.get(key)
        if tape is None:
            self._by[key] = tape = deque()
        elif len(tape) >= self._most:
            gone = tape.popleft()
            self._floors[key] = gone.seq, gone.index
        tape.append(item)

    def floor(self, key: int) -> Place | None:
        """See the module's rules."""
        return self._floors.get(key, self._first_floor)

    def items(self, key: int) -> deque[T]:
        """The key's tape, oldest first; not to be changed."""
        return self._by.get(key, _NOTHING)  # type: ignore[arg-type]


class Shared(Generic[T]):
    """All keys together hold `most` items, so that memory does not grow with the number of accounts."""

    def __init__(self, most: int, floor: Place | None) -> None:
        self._most = most
        self._floor = floor
        self._keys: deque[int] = deque()
        self._by: dict[int, deque[T]] = {}

    def add(self, key: int, item: T) -> None:
        """Append to the key's tape; the oldest item of all goes."""
        tape = self._by.get(key)
        if tape is None:
            self._by[key] = tape = deque()
        tape.append(item)
        self._keys.append(key)
        if len(self._keys) > self._most:
            oldest = self._keys.popleft()
            rest = self._by[oldest]
            gone = rest.popleft()
            self._floor = gone.seq, gone.index
            if not rest:
                del self._by[oldest]

    def floor(self, key: int) -> Place | None:
        """See the module's rules; one for all keys."""
        return self._floor

    def items(self, key: int) -> deque[T]:
        """The key's tape, oldest first; not to be changed."""
        return self._by.get(key, _NOTHING)  # type: ignore[arg-type]


def place_of(item: Placed) -> Place:
    """Where an item stands."""
    return item.seq, item.index


def below(tape: deque[T], before: Place | None, limit: int) -> tuple[list[T], bool]:
    """(up to `limit` items below a place, newest first; whether there are more)."""
    found: list[T] = []
    for item in reversed(tape):
        if before is not None and (item.seq, item.index) >= before:
            continue
        if len(found) >= limit and place_of(item) != place_of(found[-1]):
            return found, True
        found.append(item)
    return found, False


def above(tape: deque[T], after: Place, limit: int) -> tuple[list[T], bool]:
    """(up to `limit` items above a place, oldest first; whether there are more)."""
    taken: list[T] = []
    for item in reversed(tape):  # who follows asks for the newest
        if (item.seq, item.index) <= after:
            break
        taken.append(item)
    taken.reverse()
    count = cut([place_of(item) for item in taken], limit)
    return taken[:count], count < len(taken)
