# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault's money: what came in, what went out, what is there, and what was promised; now and at every posted epoch.

Rules:
- Now, per asset: deposits - paid out (claims, escapes, refunds) = holdings. All three are the chain's; logs that leave
  something out do not add up, since the holdings are the contract's own figure. The tokens that lie there are at least
  the holdings and the float.
- At each epoch, per asset: what its leaves promise (exits and acknowledged withdrawals, paid out or not) is no more
  than the deposits that it consumed; and the part of it that was not paid out yet is no more than what the vault held
  at the block that posted it (deposits less payments up to that block).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from clearing.audit.chain.reading import Posted, Reading
from clearing.audit.findings import Finding
from clearing.model import ids
from proofs.header import Header


@dataclass(frozen=True, slots=True)
class MoneyRow:
    """One asset of a vault, in atoms. `deposited`: ever; `waiting`: of that in messages that no posted epoch has
    consumed; `paid_out`: claims, escapes and refunds; `promised`: by the last posted epoch, paid out or not."""

    asset: int
    deposited: int
    waiting: int
    paid_out: int
    promised: int
    holdings: int
    float_atoms: int
    tokens: int

    @property
    def adds_up(self) -> bool:
        return self.deposited - self.paid_out == self.holdings

    @property
    def covered(self) -> bool:
        """Whether the tokens are there."""
        return self.tokens >= self.holdings + self.float_atoms


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One asset at one epoch, in atoms: deposits that the epoch consumed, what its leaves promise, and at the block
    that posted it what had been paid out and what the vault held."""

    epoch: int
    asset: int
    consumed: int
    promised: int
    paid_out: int
    held: int

    @property
    def ok(self) -> bool:
        return self.promised <= self.consumed and self.promised - self.paid_out <= self.held


def money(reading: Reading) -> tuple[list[MoneyRow], list[Finding]]:
    """A vault's assets as its chain has them at the head, and what does not add up."""
    last = next((one.header for one in reversed((*reading.posted, *reading.beyond))), None)
    consumed = last.inbox_count if last is not None else 0
    waiting = [event.message for event in reading.messages[consumed:] if event.message.kind == ids.INBOX_DEPOSIT]
    rows = [
        MoneyRow(
            asset,
            reading.deposited(asset),
            sum(message.amount for message in waiting if message.asset == asset),
            reading.paid_out(asset),
            last.exit_sums[asset] if last is not None and asset < len(last.exit_sums) else 0,
            figures.holdings,
            figures.float_atoms,
            figures.tokens,
        )
        for asset, figures in enumerate(reading.assets)
    ]
    return rows, [finding for row in rows for finding in _faults(row)]


def _faults(row: MoneyRow) -> Iterable[Finding]:
    if not row.adds_up:
        message = (
            f"{row.deposited} atoms of asset {row.asset} came in and {row.paid_out} went out, so "
            f"{row.deposited - row.paid_out} should be held; the vault says {row.holdings}"
        )
        yield Finding("HOLDINGS_DIFFER", 0, message)
    if not row.covered:
        owed = row.holdings + row.float_atoms
        message = f"the vault holds {row.tokens} atoms of asset {row.asset}, its books say {owed}"
        yield Finding("TOKENS_MISSING", 0, message)


def balances(reading: Reading, headers: Iterable[Header]) -> tuple[list[BalanceRow], list[Finding]]:
    """Epoch by epoch, headers' promises against the deposits they consumed; and for those that were posted, against
    what the vault held then. `headers` in order, as the journal or the chain has them; rows are of the posted ones."""
    posted = {one.event.epoch: one for one in reading.posted}
    rows: list[BalanceRow] = []
    found: list[Finding] = []
    came = _Running(reading)
    for header in headers:
        consumed = came.consumed(header.inbox_count)
        here = posted.get(header.epoch)
        if here is not None:
            came.to_block(here)
        for asset, promised in enumerate(header.exit_sums):
            row = BalanceRow(header.epoch, asset, consumed.get(asset, 0), promised, *came.paid_and_held(asset))
            if promised > row.consumed:
                message = f"epoch {header.epoch} promises {promised} of asset {asset}; {row.consumed} were deposited"
                found.append(Finding("INSOLVENT", header.epoch, message))
            elif here is not None and not row.ok:
                message = (
                    f"epoch {header.epoch} owes {promised - row.paid_out} of asset {asset} that were not paid out; the "
                    f"vault held {row.held} at block {here.event.block_number} that posted it"
                )
                found.append(Finding("INSOLVENT", header.epoch, message))
            if here is not None:
                rows.append(row)
    return rows, found


class _Running:
    """Sums over a vault's messages and payments, which only move on."""

    def __init__(self, reading: Reading) -> None:
        self._messages = reading.messages
        self._payments = sorted(reading.payments, key=lambda payment: payment.block_number)
        self._consumed: dict[int, int] = {}
        self._came: dict[int, int] = {}
        self._went: dict[int, int] = {}
        self._read = self._seen = self._paid = 0

    def consumed(self, count: int) -> dict[int, int]:
        """Deposits in the first `count` messages, by asset."""
        for event in self._messages[self._read : count]:
            if event.message.kind == ids.INBOX_DEPOSIT:
                self._consumed[event.message.asset] = self._consumed.get(event.message.asset, 0) + event.message.amount
        self._read = max(self._read, count)
        return self._consumed

    def to_block(self, posted: Posted) -> None:
        """Go to the end of the block that posted an epoch."""
        block = posted.event.block_number
        while self._seen < len(self._messages) and self._messages[self._seen].block_number <= block:
            message = self._messages[self._seen].message
            if message.kind == ids.INBOX_DEPOSIT:
                self._came[message.asset] = self._came.get(message.asset, 0) + message.amount
            self._seen += 1
        while self._paid < len(self._payments) and self._payments[self._paid].block_number <= block:
            payment = self._payments[self._paid]
            self._went[payment.asset] = self._went.get(payment.asset, 0) + payment.amount
            self._paid += 1

    def paid_and_held(self, asset: int) -> tuple[int, int]:
        went = self._went.get(asset, 0)
        return went, self._came.get(asset, 0) - went
