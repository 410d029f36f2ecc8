# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a vault next and when, and what its user should do about it, in plain words.

Rules: everything is read from the contract, times are seconds UTC by the chain's clock. A moment that
depends on what others do is told as such: an operator who posts an epoch moves the deadline.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clearing.chain.structs import FREEZE_REASONS, VETO_OPEN
from clearing.chain.vault import VaultClient
from clearing.exit.assets import Asset, shown
from clearing.exit.plan import Status, VaultState

SHOWN_HEADERS: Final = 3
AGAIN: Final = "run the same command"


@dataclass(frozen=True, slots=True)
class Pending:
    """A header that is posted and not final. `vetoed_by` is empty when no veto is open."""

    epoch: int
    final_at_s: int
    vetoed_by: bytes
    objectors: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a vault stands. `pending` are the newest headers that are not final, newest last, and every one of them
    that is vetoed among those."""

    chain_time_s: int
    frozen: bool
    frozen_at_s: int
    freeze_reason: str
    freeze_at_s: int
    final_epoch: int
    latest_epoch: int
    pending: tuple[Pending, ...]

    def lines(self) -> list[str]:
        """The vault's state for people."""
        if self.frozen:
            which = (
                f"epoch {self.final_epoch} pays" if self.final_epoch else "no epoch was final: deposits are refunded"
            )
            return [f"frozen since {moment(self.frozen_at_s)} ({self.freeze_reason}); {which}"]
        last = f"epoch {self.final_epoch} is the last final one" if self.final_epoch else "no epoch is final yet"
        found = [last if self.latest_epoch else "no epoch is posted yet"]
        for row in self.pending:
            left = duration(row.final_at_s - self.chain_time_s)
            line = f"epoch {row.epoch} is posted and final in {left}"
            if row.vetoed_by:
                line += f", unless the veto of 0x{row.vetoed_by.hex()} is upheld ({row.objectors} object)"
            found.append(line)
        if self.chain_time_s >= self.freeze_at_s:
            found.append("the deadline has passed: the vault can be frozen now")
        else:
            left = duration(self.freeze_at_s - self.chain_time_s)
            found.append(f"without another epoch anyone may freeze in {left}, at {moment(self.freeze_at_s)}")
        return found


def read_outlook(vault: VaultClient, state: VaultState) -> Outlook:
    """Raises `ChainError` when the chain cannot be read."""
    final = vault.escape_epoch() if state.frozen else vault.finalised_epoch()
    waiting = [] if state.frozen else range(final + 1, state.latest_epoch + 1)
    # The first one that waits tells of a veto that holds all of them, the newest ones what is new.
    chosen = sorted({*waiting[:1], *waiting[-SHOWN_HEADERS:]})
    return Outlook(
        chain_time_s=state.chain_time_s,
        frozen=state.frozen,
        frozen_at_s=vault.frozen_at_s(),
        freeze_reason=_reason(vault.freeze_reason()),
        freeze_at_s=state.freeze_at_s,
        final_epoch=final,
        latest_epoch=state.latest_epoch,
        pending=tuple(_pending(vault, epoch, state.chain_time_s) for epoch in chosen),
    )


def _reason(number: int) -> str:
    return FREEZE_REASONS[number] if number < len(FREEZE_REASONS) else f"reason {number}"


def _pending(vault: VaultClient, epoch: int, now_s: int) -> Pending:
    veto = vault.veto_of(epoch)
    # One that nobody seconded in time lapses by itself, settled or not.
    standing = veto.state == VETO_OPEN and now_s < veto.time_s + vault.seconding_s()
    return Pending(epoch, vault.final_at(epoch), veto.by if standing else b"", veto.objectors if standing else 0)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next; `at_s` when there is a time for it."""

    text: str
    at_s: int | None = None


def advise(now: Status, outlook: Outlook, assets: Sequence[Asset], failed: int = 0) -> Advice:
    """What the owner should do after a run (or instead of one) that left things as in `now`."""
    if failed:
        return Advice(f"{failed} steps were refused, see above; {AGAIN} later")
    if any(now.credit):
        waiting = shown(assets, now.credit)
        return Advice(f"the token refused to pay {waiting}, which waits as credit; once it pays, {AGAIN}")
    if now.frozen:
        if any(now.owed) or any(now.refundable):
            return Advice(f"{shown(assets, _sum(now.owed, now.refundable))} can be paid now; {AGAIN} with --wallet")
        return Advice("nothing is left for this owner here" if now.index or now.escaped else "nothing is owed here")
    return _while_live(now, outlook, assets)


def _while_live(now: Status, outlook: Outlook, assets: Sequence[Asset]) -> Advice:
    more = any(now.owed) or any(now.refundable)
    if more and outlook.chain_time_s >= outlook.freeze_at_s:
        return Advice(f"the operator is overdue: {AGAIN} with --wallet, which freezes the vault and pays everything")
    if any(now.net(now.claimable)[0]):
        return Advice(f"{shown(assets, now.net(now.claimable)[0])} can be paid now; {AGAIN} with --wallet")
    held = next((row for row in outlook.pending if row.vetoed_by), None)
    if held is not None:
        text = f"epoch {held.epoch} is held by a veto until {moment(held.final_at_s)}; come back after that and {AGAIN}"
        return Advice(text, held.final_at_s)
    if outlook.pending:
        newest = outlook.pending[-1]
        when = f"epoch {newest.epoch} is final at {moment(newest.final_at_s)}"
        return Advice(f"{when}; what it acknowledges is paid then: come back after that and {AGAIN}", newest.final_at_s)
    if not more:
        return Advice("nothing is owed here that is final; what the operator owes shows in its next epoch")
    text = (
        "the operator is alive, so ask it for a withdrawal (novate withdraw), or force one (novate force exit); "
        f"if it posts no epoch and leaves requests undone, come back after {moment(outlook.freeze_at_s)} and {AGAIN}"
    )
    return Advice(text, outlook.freeze_at_s)


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [left + right for left, right in zip(one, other, strict=True)]


def duration(seconds: int) -> str:
    """`5 h 3 min 2 s`; nothing below zero."""
    hours, rest = divmod(max(0, seconds), 3600)
    return f"{hours} h {rest // 60} min {rest % 60} s"


def moment(time_s: int) -> str:
    """Seconds UTC as people write them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_s))
