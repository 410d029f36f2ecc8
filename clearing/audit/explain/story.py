# SPDX-License-Identifier: GPL-3.0-or-later
"""How a balance came to be: an account's money entry by entry, up to an epoch's close.

Rules:
- Amounts are what replay did, and the words are the outcomes': of every entry the change of cash must be the sum of
  the lines that its outcomes give. What no outcome names (a funding payment is settled silently when a position is
  touched; a wind-down and an escape say sums only) is computed from the state before and after, and named.
- Funding is shown when it is settled; what is not settled at the close is a line of its own there.
- From the account to the leaf: `clearing.audit.explain.leaf`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from clearing.audit.explain.explanation import Event, Explanation
from clearing.audit.explain.leaf import Told, explained, summed
from clearing.audit.explain.wording import FUNDING, SHARED_LOSS, Line, lines_of
from clearing.audit.replay import Replayer, replay
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.model.commands import CloseEpoch, OperatorBatch
from clearing.model.errors import NovateError


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
            self.found = explained(
                self.account, Told(self.events, self.acks, self._bases), reducer.state, self.epochs[-1], item.seq
            )


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
    told = summed(change for line in lines for change in line.holdings)
    lanes = sorted({*before.holdings, *after.holdings, *told})
    held = tuple(
        (lane, amount)
        for lane in lanes
        if (amount := after.holdings.get(lane, 0) - before.holdings.get(lane, 0) - told.get(lane, 0))
    )
    acks: tuple[tuple[int, int], ...] = ()
    if after.acks and (cash or held or not after.cash):
        named = summed(change for line in lines for change in line.acks)
        acks = tuple(
            (lane, more)
            for lane, amount in enumerate(after.acks)
            if (more := amount - (before.acks[lane] if before.acks else 0) - named.get(lane, 0)) > 0
        )
    return Line("", "", cash, held, acks) if cash or held or acks else None


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
