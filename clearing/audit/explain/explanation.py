# SPDX-License-Identifier: GPL-3.0-or-later
"""What an explanation is made of: events, positions, and what an owner's leaves hold."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """One line of one entry. `cash`: change in atoms of the settlement asset, `after`: cash after it; `holdings` and
    `acks`: changes by lane; `lots`: change of the position in `instrument`."""

    seq: int
    time_us: int
    kind: str
    text: str
    cash: int
    after: int
    holdings: tuple[tuple[int, int], ...] = ()
    acks: tuple[tuple[int, int], ...] = ()


class Position(NamedTuple):
    """A position at the close; atoms. `funding`: unsettled, negative when the account owes it."""

    instrument: int
    symbol: str
    lots: int
    mark: int
    value: int
    funding: int


class Balance(NamedTuple):
    """An owner's leaf in one vault at the epoch, per asset of the vault in atoms, and how it is made up. `own` and
    `others`: payouts of the account, and of the owner's other accounts; `acks` likewise."""

    vault: int
    leaf: int
    exits: tuple[int, ...]
    acks: tuple[int, ...]
    own: tuple[int, ...]
    others: tuple[int, ...]
    own_acks: tuple[int, ...]


@dataclass(slots=True)
class Explanation:
    """The whole story of an account up to an epoch's close. `losses`: what of the claim the wind-down does not pay;
    `by_kind`: sums of cash by kind of event."""

    account: int
    owner: bytes
    epoch: int
    closing_seq: int
    state_root: bytes
    events: list[Event] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    cash: int = 0
    claim: int = 0
    losses: int = 0
    holdings: dict[int, int] = field(default_factory=dict)
    balances: list[Balance] = field(default_factory=list)

    def by_kind(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for event in self.events:
            found[event.kind] = found.get(event.kind, 0) + event.cash
        return found
