# SPDX-License-Identifier: GPL-3.0-or-later
"""What an owner is owed, and the steps that are left to be paid. Reads only; nothing is sent.

Rules: a plan is a function of the chain's present state, never of what an earlier run remembers, so
planning again after a crash, or after somebody else acted, gives exactly the steps that are left.
Amounts are tuples of atoms, one per asset of the vault; times are seconds UTC by the chain's clock.
What vouchers advanced is repaid out of claims and escapes before the owner is paid: a step's amounts
are what the owner gets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from clearing.chain.vault import Claim, VaultClient, refund_arguments
from clearing.exit.assets import Asset, shown
from proofs.header import Header
from proofs.inbox import DEPOSIT, InboxMessage

Amounts = tuple[int, ...]
Deposits = Mapping[bytes, tuple[InboxMessage, ...]]


class Kind(StrEnum):
    """A step is one transaction of this kind."""

    FREEZE = "freeze"
    ESCAPE = "escape"
    REFUND = "refund"
    CLAIM = "claim"
    WITHDRAW_CREDIT = "withdraw_credit"


class Proofs(Protocol):
    """Claims against one header: rebuilt from the chain, or read from somebody's file."""

    @property
    def epoch(self) -> int:
        """The header's epoch."""

    @property
    def header(self) -> Header:
        """The header that the claims are proven against."""

    def claim_of(self, owner: bytes) -> Claim | None:
        """The owner's claim, or None when nothing was ever owed."""

    def owners(self) -> Iterator[bytes]:
        """Everyone who has one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: `function` of the vault with `arguments`, paying `amounts` to `owner` and giving
    `repaid` back to the float that advanced it."""

    kind: Kind
    owner: bytes
    amounts: Amounts
    function: str
    arguments: tuple[Any, ...]
    repaid: Amounts = ()

    def text(self, assets: Sequence[Asset] = ()) -> str:
        """One line for a person; without assets, one in atoms for scripts."""
        what = self.kind.value.replace("_", " ")
        if not self.owner:
            return what
        line = f"{what}: {_told(assets, self.amounts)} to 0x{self.owner.hex()}"
        return line + (f", {_told(assets, self.repaid)} back to the float" if any(self.repaid) else "")


def _told(assets: Sequence[Asset], amounts: Amounts) -> str:
    if assets:
        return shown(assets, amounts)
    return ", ".join(f"{amount} atoms of asset {a}" for a, amount in enumerate(amounts) if amount) or "0 atoms"


@dataclass(frozen=True, slots=True)
class VaultState:
    """What all owners' plans depend on. `deposits` by owner are those that no usable header consumed."""

    lanes: int
    frozen: bool
    chain_time_s: int
    freeze_at_s: int
    epoch: int
    latest_epoch: int
    escape_header: bytes = bytes(32)
    deposits: Deposits = field(default_factory=dict)

    @property
    def overdue(self) -> bool:
        """Whether anyone may freeze now."""
        return not self.frozen and self.chain_time_s >= self.freeze_at_s


@dataclass(frozen=True, slots=True)
class Status:
    """Where one owner stands. `owed` = exit + acknowledged withdrawals - claimed at `epoch`.

    `claimable` is the part of it that the vault releases now; `advanced` is what vouchers paid and nobody
    repaid: that much of every payment goes back to the float. `refundable` are deposits that no usable header
    consumed: paid back after a freeze, and part of the next header otherwise. `epoch` 0: no header is usable yet.
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
    claimed: Amounts
    owed: Amounts
    claimable: Amounts
    refundable: Amounts
    credit: Amounts
    advanced: Amounts
    refunds: tuple[InboxMessage, ...] = ()

    @property
    def seconds_to_freeze(self) -> int:
        """Seconds until anyone may freeze, if the operator does nothing; 0 when overdue or frozen."""
        return 0 if self.frozen else max(0, self.freeze_at_s - self.chain_time_s)

    @property
    def anything(self) -> bool:
        """Whether anything is or will be owed to the owner here."""
        return any(map(any, (self.owed, self.refundable, self.credit)))

    def net(self, amounts: Amounts) -> tuple[Amounts, Amounts]:
        """(what the owner gets, what goes back to the float) of a payment."""
        back = tuple(min(amount, advance) for amount, advance in zip(amounts, self.advanced, strict=True))
        return tuple(amount - part for amount, part in zip(amounts, back, strict=True)), back


def read_vault(vault: VaultClient, proofs: Proofs | None, deposits: Deposits | None = None) -> VaultState:
    """Read what every plan shares. `proofs` are the usable epoch's; `deposits` saves the scan of the inbox
    (they are not trusted: the contract checks each refund)."""
    frozen = vault.frozen()
    if deposits is None:
        deposits = unconsumed(vault, vault.escape_inbox_count() if frozen else consumed_by(proofs))
    return VaultState(
        lanes=len(vault.tokens()),
        frozen=frozen,
        chain_time_s=vault.rpc.time_s(),
        freeze_at_s=vault.freeze_at_s(),
        epoch=proofs.epoch if proofs is not None else 0,
        latest_epoch=vault.epoch_count(),
        escape_header=vault.escape_header() if frozen else bytes(32),
        deposits=deposits,
    )


def consumed_by(proofs: Proofs | None) -> int:
    """Inbox messages that the header consumed."""
    return proofs.header.inbox_count if proofs is not None else 0


def unconsumed(vault: VaultClient, first: int) -> Deposits:
    """Deposits from inbox index `first` on, by owner. Raises `ChainError` RPC_* (a lying log source too)."""
    found: dict[bytes, tuple[InboxMessage, ...]] = {}
    for message, _, _ in vault.inbox(first):
        if message.kind == DEPOSIT:
            found[message.owner] = (*found.get(message.owner, ()), message)
    return found


def status(vault: VaultClient, proofs: Proofs | None, owner: bytes, state: VaultState | None = None) -> Status:
    """What `owner` is owed. Raises `ChainError` when the chain cannot be read."""
    state = state or read_vault(vault, proofs)
    return _status(vault, proofs.claim_of(owner) if proofs is not None else None, owner, state)


def _status(vault: VaultClient, claim: Claim | None, owner: bytes, state: VaultState) -> Status:
    lanes = range(state.lanes)
    nothing = (0,) * state.lanes
    escaped = state.frozen and vault.escaped(owner)
    claimed = tuple(vault.claimed_of(owner, a) for a in lanes)
    owed = claimable = advanced = nothing
    if claim is not None and not escaped:
        acks = tuple(max(0, claim.withdraw_acks[a] - claimed[a]) for a in lanes)
        owed = tuple(max(0, claim.exits[a] + claim.withdraw_acks[a] - claimed[a]) for a in lanes)
        claimable = owed if state.frozen else acks
    if any(owed):
        advances = (vault.advanced_of(owner, a) for a in lanes)
        advanced = tuple(advance.total - advance.repaid for advance in advances)
    mine = tuple(m for m in state.deposits.get(owner, ()) if not state.frozen or not vault.refunded(m.index))
    return Status(
        owner=owner,
        epoch=state.epoch,
        latest_epoch=state.latest_epoch,
        index=claim.index if claim is not None else None,
        frozen=state.frozen,
        escaped=escaped,
        chain_time_s=state.chain_time_s,
        freeze_at_s=state.freeze_at_s,
        escape_header=state.escape_header,
        claimed=claimed,
        owed=owed,
        claimable=claimable,
        refundable=tuple(sum(m.amount for m in mine if m.asset == a) for a in lanes),
        credit=tuple(vault.credit(owner, a) for a in lanes),
        advanced=advanced,
        refunds=mine,
    )


def plan(
    vault: VaultClient,
    proofs: Proofs | None,
    owner: bytes,
    state: VaultState | None = None,
    may_freeze: bool = True,
) -> list[Step]:
    """The steps left for `owner`, in order; empty when nothing can be had now.

    An overdue vault is frozen first, when the owner has something to gain from it and `may_freeze`.
    """
    state = state or read_vault(vault, proofs)
    claim = proofs.claim_of(owner) if proofs is not None else None
    now = _status(vault, claim, owner, state)
    steps: list[Step] = []
    leaving = state.frozen or (state.overdue and may_freeze)
    if leaving and (any(now.owed) or any(now.refundable)):
        if not state.frozen:
            steps.append(Step(Kind.FREEZE, b"", (), "freeze", ()))
        steps += _leaving_steps(claim, state, now)
    elif any(now.net(now.claimable)[0]):
        steps.append(_leaf_step(Kind.CLAIM, claim, now, now.claimable))
    for asset, amount in enumerate(now.credit):
        if amount:
            amounts = tuple(amount if a == asset else 0 for a in range(state.lanes))
            steps.append(Step(Kind.WITHDRAW_CREDIT, owner, amounts, "withdrawCredit", (asset, owner)))
    return steps


def _leaving_steps(claim: Claim | None, state: VaultState, now: Status) -> list[Step]:
    steps = []
    if any(now.owed):
        steps.append(_leaf_step(Kind.ESCAPE, claim, now, now.owed))
    for message in now.refunds:
        amounts = tuple(message.amount if a == message.asset else 0 for a in range(state.lanes))
        steps.append(Step(Kind.REFUND, now.owner, amounts, "refund", refund_arguments(message)))
    return steps


def _leaf_step(kind: Kind, claim: Claim | None, now: Status, amounts: Amounts) -> Step:
    assert claim is not None, "only an owner with a leaf is owed something"
    paid, repaid = now.net(amounts)
    return Step(kind, now.owner, paid, kind.value, claim.arguments(), repaid)
