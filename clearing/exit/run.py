# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry an exit out, for one owner or for everyone.

Rules: nothing is remembered between runs; a run plans from the chain, sends what is left, and plans
again after a freeze, because the freeze fixes the escape header. A step that somebody else did
meanwhile counts as done. One owner's failure does not stop the others. Losing the endpoint stops
the run at once, and running again goes on where it ended.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt
from clearing.chain.vault import VaultClient
from clearing.exit.plan import Kind, Step, VaultState, plan, read_vault
from clearing.exit.rebuild import Rebuilt, rebuild

# What the contract says when a step was done already, by an earlier run or by somebody else.
_DONE_BY_OTHERS: Final = {
    Kind.FREEZE: "VaultFrozen",
    Kind.ESCAPE: "AlreadyEscaped",
    Kind.REFUND: "AlreadyRefunded",
    Kind.CLAIM: "NothingToClaim",
    Kind.WITHDRAW_CREDIT: "NoCredit",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: `state` is start, done, skipped (others did it) or failed; `gas` used when done."""

    number: int
    total: int
    step: Step
    state: str
    gas: int = 0
    tx_hash: bytes = b""
    message: str = ""


@dataclass
class Report:
    """What a run did. `paid` sums the atoms per asset of the steps that this run completed;
    `credited` is the part whose token refused the transfer and that waits as credit."""

    paid: list[int]
    credited: list[int]
    done: list[Event] = field(default_factory=list)
    skipped: list[Event] = field(default_factory=list)
    failed: list[Event] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every step that was planned is done."""
        return not self.failed

    @property
    def gas_used(self) -> int:
        return sum(event.gas for event in self.done)


Listener = Callable[[Event], None]


def run(vault: VaultClient, owner: bytes, listener: Listener | None = None) -> Report:
    """Do everything that `owner` can have now. The vault's client must carry a wallet for the fees.

    Raises `ExitError` when the tree cannot be rebuilt, `ChainError` RPC_*, KEY_FILE, TX_REFUSED or
    TX_TIMEOUT; a step that the contract refuses is in `Report.failed`.
    """
    return _run(vault, lambda _: [owner], listener)


def exit_all(vault: VaultClient, listener: Listener | None = None, rebuilt: Rebuilt | None = None) -> Report:
    """Do everything that anyone can have now: all leaves and all unconsumed deposits.

    `rebuilt` saves a scan when the caller has one of the usable epoch; it is not trusted further
    than that: the contract checks every leaf. Raises as `run`.
    """

    def everyone(found: tuple[Rebuilt | None, VaultState]) -> Iterable[bytes]:
        tree, state = found
        owners = [tree.leaves[index].owner for index in sorted(tree.leaves)] if tree is not None else []
        return dict.fromkeys([*owners, *(message.owner for message in state.unconsumed)])

    return _run(vault, everyone, listener, rebuilt)


def _run(
    vault: VaultClient,
    owners_of: Callable[[tuple[Rebuilt | None, VaultState]], Iterable[bytes]],
    listener: Listener | None,
    rebuilt: Rebuilt | None = None,
) -> Report:
    _ = vault.wallet  # fails here, and not after a scan, when there is no key
    tell = listener or (lambda _: None)
    tree = rebuilt if rebuilt is not None else rebuild(vault)
    state = read_vault(vault, tree)
    report = Report([0] * state.lanes, [0] * state.lanes)
    steps = _plan_for(vault, tree, state, owners_of((tree, state)))
    if steps and steps[0].kind is Kind.FREEZE:
        _execute(vault, steps[:1], report, tell)
        if report.failed:
            return report
        epoch = vault.escape_epoch()
        if tree is None or tree.epoch != epoch:
            tree = rebuild(vault)
        state = read_vault(vault, tree)
        steps = _plan_for(vault, tree, state, owners_of((tree, state)))
    _execute(vault, steps, report, tell)
    return report


def _plan_for(vault: VaultClient, tree: Rebuilt | None, state: VaultState, owners: Iterable[bytes]) -> list[Step]:
    """The owners' steps in one list, with at most one freeze, at the front."""
    steps = [step for owner in owners for step in plan(vault, tree, owner, state)]
    freeze = [step for step in steps if step.kind is Kind.FREEZE][:1]
    return freeze + [step for step in steps if step.kind is not Kind.FREEZE]


def _execute(vault: VaultClient, steps: list[Step], report: Report, tell: Listener) -> None:
    for number, step in enumerate(steps, 1):
        tell(Event(number, len(steps), step, "start"))
        try:
            receipt = vault.send(step.function, *step.arguments)
        except ChainError as error:
            if error.code != "TX_REVERTED":
                raise
            by_others = error.reason == _DONE_BY_OTHERS[step.kind]
            event = Event(number, len(steps), step, "skipped" if by_others else "failed", message=error.message)
            (report.skipped if by_others else report.failed).append(event)
        else:
            event = Event(number, len(steps), step, "done", receipt.gas_used, receipt.tx_hash)
            report.done.append(event)
            _book(vault, step, receipt, report)
        tell(event)


def _book(vault: VaultClient, step: Step, receipt: Receipt, report: Report) -> None:
    credited = vault.credits_in(receipt)
    for asset, amount in enumerate(step.amounts):
        report.credited[asset] += credited.get(asset, 0)
        report.paid[asset] += amount - credited.get(asset, 0)
