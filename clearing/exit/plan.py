# SPDX-License-Identifier: GPL-3.0-or-later
"""What an owner is owed, and the steps that are left to be paid. Reads only; nothing is sent.

Rules: a plan is a function of the chain's present state, never of what an earlier run remembers, so
planning again after a crash, or after somebody else acted, gives exactly the steps that are left.
Amounts are tuples of atoms, one per asset of the vault; times are seconds UTC by the chain's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient, refund_arguments
from clearing.exit.rebuild import Rebuilt
from proofs.inbox import DEPOSIT, InboxMessage


class Kind(StrEnum):
    """A step is one transaction of this kind."""

    FREEZE = "freeze"
    ESCAPE = "escape"
    REFUND = "refund"
    CLAIM = "claim"
    WITHDRAW_CREDIT = "withdraw_credit"


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: `function` of the vault with `arguments`, paying `amounts` to `owner`."""

    kind: Kind
    owner: bytes
    amounts: tuple[int, ...]
    function: str
    arguments: tuple[Any, ...]

    def text(self) -> str:
        """One line for a person."""
        paid = ", ".join(f"{amount} atoms of asset {a}" for a, amount in enumerate(self.amounts) if amount)
        to = f" to 0x{self.owner.hex()}" if self.owner else ""
        return self.kind.value.replace("_", " ") + (f": {paid}{to}" if paid else "")


@dataclass(frozen=True, slots=True)
class VaultState:
    """What all owners' plans depend on. `unconsumed` are the deposits that no usable header
    consumed, without those already refunded."""

    lanes: int
    frozen: bool
    chain_time_s: int
    freeze_at_s: int
    epoch: int
    latest_epoch: int
    unconsumed: tuple[InboxMessage, ...]

    @property
    def overdue(self) -> bool:
        """Whether anyone may freeze now."""
        return not self.frozen and self.chain_time_s >= self.freeze_at_s


@dataclass(frozen=True, slots=True)
class Status:
    """Where one owner stands. `owed` = exit + acknowledged withdrawals - claimed at `epoch`.

    `claimable` can be paid now; `refundable` are deposits that no usable header consumed: paid back
    after a freeze, and part of the next header otherwise. `epoch` 0: no header is usable yet.
    """

    owner: bytes
    epoch: int
    latest_epoch: int
    index: int | None
    frozen: bool
    escaped: bool
    chain_time_s: int
    freeze_at_s: int
    escape_header: bytes
    claimed: tuple[int, ...]
    owed: tuple[int, ...]
    claimable: tuple[int, ...]
    refundable: tuple[int, ...]
    credit: tuple[int, ...]

    @property
    def seconds_to_freeze(self) -> int:
        """Seconds until anyone may freeze, if the operator does nothing; 0 when overdue or frozen."""
        return 0 if self.frozen else max(0, self.freeze_at_s - self.chain_time_s)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A step and the gas limit it needs; None when it only becomes possible after an earlier step."""

    step: Step
    gas: int | None
    reason: str


def read_vault(vault: VaultClient, rebuilt: Rebuilt | None) -> VaultState:
    """Read what every plan shares. `rebuilt` is the usable epoch's state, from `rebuild`."""
    frozen = vault.frozen()
    epoch = rebuilt.epoch if rebuilt is not None else 0
    if frozen:
        consumed = vault.escape_inbox_count()
    else:
        consumed = rebuilt.header.inbox_count if rebuilt is not None else 0
    deposits = [m for m, _, _ in vault.inbox(consumed) if m.kind == DEPOSIT]
    return VaultState(
        lanes=len(vault.tokens()),
        frozen=frozen,
        chain_time_s=vault.rpc.time_s(),
        freeze_at_s=vault.freeze_at_s(),
        epoch=epoch,
        latest_epoch=vault.epoch_count(),
        unconsumed=tuple(m for m in deposits if not frozen or not vault.refunded(m.index)),
    )


def status(vault: VaultClient, rebuilt: Rebuilt | None, owner: bytes, state: VaultState | None = None) -> Status:
    """What `owner` is owed. Raises `ChainError` when the chain cannot be read."""
    state = state or read_vault(vault, rebuilt)
    leaf = rebuilt.leaf_of(owner) if rebuilt is not None else None
    lanes = range(state.lanes)
    escaped = state.frozen and vault.escaped(owner)
    claimed = tuple(vault.claimed_of(owner, a) for a in lanes)
    owed, claimable = (0,) * state.lanes, (0,) * state.lanes
    if leaf is not None:
        acks = tuple(max(0, leaf.withdraw_acks[a] - claimed[a]) for a in lanes)
        total = tuple(max(0, leaf.exits[a] + leaf.withdraw_acks[a] - claimed[a]) for a in lanes)
        owed = (0,) * state.lanes if escaped else total
        claimable = owed if state.frozen else acks
    mine = [m for m in state.unconsumed if m.owner == owner]
    return Status(
        owner=owner,
        epoch=state.epoch,
        latest_epoch=state.latest_epoch,
        index=leaf.index if leaf is not None else None,
        frozen=state.frozen,
        escaped=escaped,
        chain_time_s=state.chain_time_s,
        freeze_at_s=state.freeze_at_s,
        escape_header=vault.escape_header() if state.frozen else bytes(32),
        claimed=claimed,
        owed=owed,
        claimable=claimable,
        refundable=tuple(sum(m.amount for m in mine if m.asset == a) for a in lanes),
        credit=tuple(vault.credit(owner, a) for a in lanes),
    )


def plan(vault: VaultClient, rebuilt: Rebuilt | None, owner: bytes, state: VaultState | None = None) -> list[Step]:
    """The steps left for `owner`, in order; empty when nothing can be had now.

    An overdue vault is frozen first, when the owner has something to gain from it.
    """
    state = state or read_vault(vault, rebuilt)
    now = status(vault, rebuilt, owner, state)
    steps: list[Step] = []
    leaving = state.frozen or state.overdue
    if leaving and (any(now.owed) or any(now.refundable)):
        if not state.frozen:
            steps.append(Step(Kind.FREEZE, b"", (), "freeze", ()))
        steps += _leaving_steps(rebuilt, state, now)
    elif any(now.claimable):
        steps.append(_leaf_step(Kind.CLAIM, rebuilt, owner, now.claimable))
    for asset, amount in enumerate(now.credit):
        if amount:
            amounts = tuple(amount if a == asset else 0 for a in range(state.lanes))
            steps.append(Step(Kind.WITHDRAW_CREDIT, owner, amounts, "withdrawCredit", (asset, owner)))
    return steps


def _leaving_steps(rebuilt: Rebuilt | None, state: VaultState, now: Status) -> list[Step]:
    steps = []
    if any(now.owed):
        steps.append(_leaf_step(Kind.ESCAPE, rebuilt, now.owner, now.owed))
    for message in state.unconsumed:
        if message.owner == now.owner:
            amounts = tuple(message.amount if a == message.asset else 0 for a in range(state.lanes))
            steps.append(Step(Kind.REFUND, now.owner, amounts, "refund", refund_arguments(message)))
    return steps


def _leaf_step(kind: Kind, rebuilt: Rebuilt | None, owner: bytes, amounts: tuple[int, ...]) -> Step:
    leaf = rebuilt.leaf_of(owner) if rebuilt is not None else None
    assert rebuilt is not None and leaf is not None, "only an owner with a leaf is owed something"
    return Step(kind, owner, amounts, kind.value, rebuilt.claim(leaf).arguments())


def dry_run(vault: VaultClient, steps: Sequence[Step]) -> list[Estimate]:
    """Gas limits of steps on the present state, without sending anything."""
    estimates = []
    freezes = any(step.kind is Kind.FREEZE for step in steps)
    for step in steps:
        if freezes and step.kind in (Kind.ESCAPE, Kind.REFUND):
            estimates.append(Estimate(step, None, "possible after the freeze"))
            continue
        try:
            estimates.append(Estimate(step, vault.estimate(step.function, *step.arguments), ""))
        except ChainError as error:
            if error.code != "TX_REVERTED":
                raise
            estimates.append(Estimate(step, None, error.message))
    return estimates
