# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recorded feed says, in words of no particular vendor.

Prices are atoms per lot (the decoder scales them), sizes lots, sides `ids.BUY` / `ids.SELL`, times
microseconds UTC and never decreasing within a file. `where` is the record or line number, from 1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from clearing.model.errors import NovateError


class _Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    time_us: int
    where: int


class Add(_Event, frozen=True):
    """An order rests from now on, behind all others of its price. `opening`: it did so before the
    file begins."""

    order_id: int
    side: int
    price_atoms: int
    size_lots: int
    opening: bool = False


class Cancel(_Event, frozen=True):
    """The order leaves the book with all its open size."""

    order_id: int


class PartialCancel(_Event, frozen=True):
    """`size_lots` of the order leave the book; the rest keeps its priority."""

    order_id: int
    size_lots: int


class Modify(_Event, frozen=True):
    """New price and new open size. Priority is lost by a new price and by a larger size."""

    order_id: int
    side: int
    price_atoms: int
    size_lots: int


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One resting order's part of a trade."""

    order_id: int
    price_atoms: int
    size_lots: int


class Trade(_Event, frozen=True):
    """One aggressor against the book in continuous trading. `fills` are the resting orders in the
    order in which they were hit; `aggressor_id` is 0 where the feed does not tell."""

    aggressor_id: int
    side: int
    fills: tuple[Fill, ...]


class Auction(_Event, frozen=True):
    """A print of a call auction: both sides were resting, nobody was the aggressor."""

    fills: tuple[Fill, ...]


class Clear(_Event, frozen=True):
    """The feed says that the book is empty now."""


class Halt(_Event, frozen=True):
    """Trading stopped or went on; a notice and no order."""


class Skipped(_Event, frozen=True):
    """A record that asks for nothing here; `what` is counted in the summary."""

    what: str


Event = Add | Cancel | PartialCancel | Modify | Trade | Auction | Clear | Halt | Skipped


class Source(Protocol):
    """A recorded file. `events` may be called once; `progress_ppm` says how much of it was read."""

    @property
    def symbol(self) -> str:
        """Name of the instrument, at most 32 characters."""

    @property
    def progress_ppm(self) -> int: ...

    def events(self) -> Iterator[Event]:
        """The events in file order. Raises `NovateError` INGEST_MALFORMED, naming file and place."""


def malformed(path: Path, where: int, what: str, unit: str = "line") -> NovateError:
    """The error of a place in a file that cannot be read: `<file>:<where>: <what>`."""
    return NovateError(
        "INGEST_MALFORMED",
        f"{path}:{where}: {what}; mend or cut the file at this {unit} and ingest into a new directory",
    )
