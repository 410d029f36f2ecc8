# SPDX-License-Identifier: GPL-3.0-or-later
"""Places on a tape, and pages of it.

Rules: a place is (seq, index); a cursor is "SEQ" or "SEQ-INDEX". `before` "SEQ" means every item of an earlier entry,
`after` "SEQ" every item of a later one; with an index it means the place itself, so that an entry with more items than
a page holds can be paged through. Items that share a place are never parted: such a page may be longer by them.
"""

import re
from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from clearing.model.errors import Refused

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000
# Above any index of an outcome, and any seq of a journal.
LAST: Final = 2**62
_CURSOR: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,9}))?")


class Placed(Protocol):
    """Anything that an entry caused."""

    @property
    def seq(self) -> int: ...

    @property
    def index(self) -> int: ...


T = TypeVar("T")
Place = tuple[int, int]


class Cursor(NamedTuple):
    """Where to go on. `before`: newest first, places below it; `after`: oldest first, places above it."""

    before: Place | None = None
    after: Place | None = None
    limit: int = DEFAULT_LIMIT


class Page(NamedTuple, Generic[T]):
    """Items in the order asked for, and the cursor of the next page in that direction."""

    items: list[T]
    next: str | None


def cursor(before: str | None = None, after: str | None = None, limit: int | None = None) -> Cursor:
    """From what was asked. Raises `Refused` BAD_PARAMETER."""
    if before is not None and after is not None:
        raise Refused("BAD_PARAMETER", "give `before` (newest first) or `after` (oldest first), not both")
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise Refused("BAD_PARAMETER", f"limit {limit} is not 1 to {MAX_LIMIT}")
    most = DEFAULT_LIMIT if limit is None else limit
    if after is not None:
        return Cursor(None, _place("after", after, LAST), most)
    return Cursor(None if before is None else _place("before", before, -1), None, most)


def _place(name: str, text: str, index: int) -> Place:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise Refused("BAD_PARAMETER", f"{name}={text[:40]!r} is no cursor; give a seq, or `next` of the page before")
    seq, given = found.groups()
    return int(seq), index if given is None else int(given)


def text(place: Place) -> str:
    """A place as a cursor, to go on from it."""
    seq, index = place
    return str(seq) if index in (-1, LAST) else f"{seq}-{index}"


def cut(places: Sequence[Place], limit: int) -> int:
    """How many of the items at `places` (in the order of the page) belong on a page of `limit`."""
    count = min(limit, len(places))
    while 0 < count < len(places) and places[count] == places[count - 1]:
        count += 1
    return count
