# SPDX-License-Identifier: GPL-3.0-or-later
"""How a balance came to be: an account's money entry by entry, and from there to its owner's exit leaf, to the atom.

Rules:
- Amounts are what replay did, and the words are the outcomes': of every entry the change of cash must be the sum of
  the lines that its outcomes give. What no outcome names (a funding payment is settled silently when a position is
  touched; a wind-down and an escape say sums only) is computed from the state before and after, and named.
- Funding is shown when it is settled; what is not settled at the close is a line of its own there.
- At the epoch's close: cash + positions at mark - unsettled funding = claim; the claim less the account's share of
  losses that nobody covers, plus collateral, is what the wind-down pays out (clearing.core.winddown); the payouts of
  the owner's accounts are the leaf's exits, and withdrawals that were acknowledged its acks.
- A sum that does not come out is an error (EXPLAIN_DIFFERS) and not a rounding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from clearing.audit.replay import ReplayedEpoch, Replayer, replay
from clearing.audit.wording import FUNDING, KINDS, SHARED_LOSS, Line, lines_of
from clearing.core.epoch import claim_of, house_claim, lanes_of
from clearing.core.margin import equity
from clearing.core.reducer import Reducer
from clearing.core.state import Account, State
from clearing.core.winddown import Claim, allocate
from clearing.model import ids
from clearing.model.commands import CloseEpoch, OperatorBatch
from clearing.model.errors import NovateError

__all__ = ["KINDS", "Balance", "Event", "Explanation", "Line", "Position", "explain"]


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


class _Before(NamedTuple):
    """An account around an entry; `cuts`: what defaults took of it that no outcome says yet; `acks`: by lane, those
    of an owner who has no other account."""

    cash: int
    holdings: dict[int, int]
    slots: dict[int, tuple[int, int]]
    cuts: int
    acks: tuple[int, ...]


class _Done(Exception):
    """The epoch is closed; nothing after it matters."""


class _Teller(Replayer):
    """Replays, and writes down what concerns one account."""

    def __init__(self, account: int, epoch: int) -> None:
        super().__init__()
        self.account, self.epoch = account, epoch
        self.events: list[Event] = []
        self.acks: dict[int, int] = {}
        self.found: Explanation | None = None
        self._sides: dict[int, int] = {}
        self._bases: dict[int, int] = {}

    def apply(self, item: Any) -> None:
        state = self.reducer.state if self.reducer is not None else None
        before = _look(state, self.account) if state is not None else _NOTHING
        if state is not None and _closes(item.body, self.epoch):
            self._bases = {account.number: account.basis for account in state.accounts}
        super().apply(item)
        assert self.reducer is not None, "an entry was applied"
        self._note(item, self.reducer.state, before)
        if self.found is not None:
            raise _Done

    def _note(self, item: Any, state: State, before: _Before) -> None:
        after = _look(state, self.account)
        funding = _funding(state, before, after)
        lines = [_without(line, funding) for line in lines_of(state, self.account, self._sides)]
        for instrument, amount in funding.items():
            verb = "received" if amount > 0 else "paid"
            text = f"funding {verb} on {before.slots[instrument][0]:+,} lots {_symbol(state, instrument)}"
            lines.insert(0, Line(FUNDING, text, amount))
        if before.cuts != after.cuts:
            when = "taken now and told in a later entry" if after.cuts > before.cuts else "taken by an earlier entry"
            lines.append(Line(SHARED_LOSS, f"share of a default, {when}", before.cuts - after.cuts))
        rest = _rest(lines, before, after)
        if rest is not None:
            kind, text = _unnamed(item.body)
            lines.append(rest._replace(kind=kind, text=text))
        self._book(item, lines, before.cash)

    def _book(self, item: Any, lines: list[Line], cash: int) -> None:
        for line in lines:
            cash += line.cash
            for lane, amount in line.acks:
                self.acks[lane] = self.acks.get(lane, 0) + amount
            self.events.append(
                Event(item.seq, item.time_us, line.kind, line.text, line.cash, cash, line.holdings, line.acks)
            )

    def _close(self, reducer: Reducer, item: Any, outcomes: Any) -> None:
        super()._close(reducer, item, outcomes)
        if self.epochs and self.epochs[-1].outcome.epoch == self.epoch:
            self.found = _explained(self, reducer.state, self.epochs[-1], item.seq)


_NOTHING = _Before(0, {}, {}, 0, ())


def _closes(body: object, epoch: int) -> bool:
    command = body.commands[0] if isinstance(body, OperatorBatch) and body.commands else None
    return isinstance(command, CloseEpoch) and command.epoch == epoch


def _look(state: State, number: int) -> _Before:
    if number >= len(state.accounts):
        return _NOTHING
    account = state.accounts[number]
    return _Before(
        account.cash,
        {lane: held.amount for lane, held in account.holdings.items()},
        {slot.inst.id: (slot.size, slot.funding) for slot in account.slots.values()},
        sum(share for _, who, _, share in state.cuts if who == number),
        tuple(account.owner.acks) if len(account.owner.accounts) == 1 else (),
    )


def _funding(state: State, before: _Before, after: _Before) -> dict[int, int]:
    """By instrument, what was settled: the size before the entry times the move of the index since."""
    found = {}
    for instrument, (size, old) in before.slots.items():
        inst = state.instruments.get(instrument)
        now = after.slots[instrument][1] if instrument in after.slots else inst.funding_index if inst else old
        if size and now != old:
            found[instrument] = -size * (now - old)
    return found


def _without(line: Line, funding: dict[int, int]) -> Line:
    """A settlement says what was paid with the funding in it, which has a line of its own."""
    return line._replace(cash=line.cash - funding.get(line.instrument, 0)) if line.with_funding else line


def _rest(lines: list[Line], before: _Before, after: _Before) -> Line | None:
    """What the lines leave unexplained of an entry; None when that is nothing."""
    cash = after.cash - before.cash - sum(line.cash for line in lines)
    told = _summed(change for line in lines for change in line.holdings)
    lanes = sorted({*before.holdings, *after.holdings, *told})
    held = tuple(
        (lane, amount)
        for lane in lanes
        if (amount := after.holdings.get(lane, 0) - before.holdings.get(lane, 0) - told.get(lane, 0))
    )
    acks: tuple[tuple[int, int], ...] = ()
    if after.acks and (cash or held or not after.cash):
        named = _summed(change for line in lines for change in line.acks)
        acks = tuple(
            (lane, more)
            for lane, amount in enumerate(after.acks)
            if (more := amount - (before.acks[lane] if before.acks else 0) - named.get(lane, 0)) > 0
        )
    return Line("", "", cash, held, acks) if cash or held or acks else None


def _summed(changes: Iterable[tuple[int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for lane, amount in changes:
        found[lane] = found.get(lane, 0) + amount
    return found


def _unnamed(body: object) -> tuple[str, str]:
    command = type(body.commands[0]).__name__ if isinstance(body, OperatorBatch) else type(body).__name__
    words = {
        "RunWindDown": ("WIND-DOWN", "paid out, or shared losses, as the venue ended"),
        "SettleEscape": ("ESCAPE", "debited for what a frozen vault pays out"),
        "ResolveDeficit": ("LIQUIDATION FEE", "fee of a book taken over by the insurance fund"),
    }
    return words.get(command, ("OTHER", f"by {command}"))


def _symbol(state: State, instrument: int) -> str:
    inst = state.instruments.get(instrument)
    return inst.spec.symbol if inst is not None else str(instrument)


# --- from the account to the leaf ---


def _explained(teller: _Teller, state: State, epoch: ReplayedEpoch, seq: int) -> Explanation:
    if teller.account >= len(state.accounts):
        message = f"no account {teller.account} at epoch {teller.epoch}; the highest is {len(state.accounts) - 1}"
        raise NovateError("UNKNOWN_ACCOUNT", message)
    account = state.accounts[teller.account]
    owner = account.owner
    found = Explanation(account.number, owner.address, teller.epoch, seq, epoch.outcome.state_root, teller.events)
    found.positions = [
        Position(
            slot.inst.id,
            slot.inst.spec.symbol,
            slot.size,
            slot.inst.mark,
            slot.size * slot.inst.mark,
            slot.size * (slot.funding - slot.inst.funding_index),
        )
        for slot in account.slots.values()
        if slot.size
    ]
    found.cash, found.claim = account.cash, equity(account)
    found.holdings = {lane: held.amount for lane, held in account.holdings.items()}
    payouts = _payouts(state, account, teller._bases)
    if account.number >= ids.HOUSE_ACCOUNTS:
        own = payouts[account.number]
        found.losses = found.claim - sum(own[lane] for lane in state.cash_lanes)
        found.balances = list(_balances(state, account, payouts, teller.acks, own))
    _check(found, state, payouts)
    return found


def _payouts(state: State, account: Account, bases: dict[int, int]) -> dict[int, tuple[int, ...]]:
    """What the close paid each account of the owner, computed again with the gains as they were before it."""
    members = state.accounts[ids.HOUSE_ACCOUNTS :] if state.coupled else account.owner.accounts
    claims = [_claim(state, one, bases) for one in members if one.number >= ids.HOUSE_ACCOUNTS]
    return allocate(claims, house_claim(state), lanes_of(state)).users


def _claim(state: State, account: Account, bases: dict[int, int]) -> Claim:
    now = claim_of(state, account)
    gain = max(0, min(now.claim, now.claim - bases.get(account.number, 0)))
    return now._replace(gain=gain)


def _balances(
    state: State, account: Account, payouts: dict[int, tuple[int, ...]], acks: dict[int, int], own: tuple[int, ...]
) -> Iterator[Balance]:
    owner = account.owner
    for vault in state.vaults:
        if not vault.live:
            continue
        lanes = vault.every_lane
        paid = tuple(own[lane] for lane in lanes)
        others = tuple(sum(payouts[one.number][lane] for one in owner.accounts if one is not account) for lane in lanes)
        yield Balance(
            vault.number,
            owner.leaves[vault.number],
            tuple(owner.exits[lane] for lane in lanes),
            tuple(owner.acks[lane] for lane in lanes),
            paid,
            others,
            tuple(acks.get(lane, 0) for lane in lanes),
        )


def _check(found: Explanation, state: State, payouts: dict[int, tuple[int, ...]]) -> None:
    """Every sum of the story, to the atom. Raises `NovateError` EXPLAIN_DIFFERS."""
    sums = [("cash", sum(event.cash for event in found.events), found.cash)]
    value = found.cash + sum(position.value + position.funding for position in found.positions)
    sums.append(("claim", value, found.claim))
    for lane, amount in _summed(change for event in found.events for change in event.holdings).items():
        sums.append((f"holding in lane {lane}", amount, found.holdings.get(lane, 0)))
    for balance in found.balances:
        for asset, exits in enumerate(balance.exits):
            made = balance.own[asset] + balance.others[asset]
            sums.append((f"exit of asset {asset} in vault {balance.vault}", made, exits))
            if len(state.accounts[found.account].owner.accounts) == 1:
                sums.append(
                    (f"acks of asset {asset} in vault {balance.vault}", balance.own_acks[asset], balance.acks[asset])
                )
    for name, ours, theirs in sums:
        if ours != theirs:
            message = f"account {found.account}, epoch {found.epoch}: {name} is {theirs}, its events give {ours}"
            raise NovateError("EXPLAIN_DIFFERS", f"{message}; please report it")


def explain(
    entries: Iterable[tuple[int, bytes]],
    account: int,
    epoch: int,
    *,
    check_signatures: bool = True,
    on_progress: Any = None,
) -> Explanation:
    """The story of an account up to the close of an epoch.

    Raises `NovateError` REPLAY_DIVERGED, UNKNOWN_ACCOUNT, UNKNOWN_EPOCH, EXPLAIN_DIFFERS; what the entries raise.
    """
    teller = _Teller(account, epoch)
    try:
        report = replay(entries, check_signatures=check_signatures, on_progress=on_progress, replayer=teller)
    except _Done:
        assert teller.found is not None, "done once it was found"
        return teller.found
    if report.divergence is not None:
        raise NovateError("REPLAY_DIVERGED", f"the journal is not what its commands give: {report.divergence}")
    raise NovateError("UNKNOWN_EPOCH", f"epoch {epoch} is not closed yet; the last one is {len(report.epochs)}")
