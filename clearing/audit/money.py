# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault's money on its own chain: what came in, what went out, what is there.

Rules:
- Per asset: deposits - paid out (claims, escapes, refunds) = holdings. All three are the chain's; logs that leave
  something out do not add up, since the holdings are the contract's own figure.
- The tokens that lie there are at least the holdings and the float.
- What the last epoch promises (the journal's side of it) is compared with the deposits it consumed elsewhere;
  `MoneyRow` puts the figures side by side.
- A chain that moves on while it is read is read again.
"""

from dataclasses import dataclass
from typing import Final

from clearing.audit.findings import Finding
from clearing.chain.vault import VaultClient
from clearing.model import ids

_READINGS: Final = 4


@dataclass(frozen=True, slots=True)
class MoneyRow:
    """One asset of a vault, in atoms. `deposited`: ever; `waiting`: of that in messages that no posted epoch has
    consumed; `paid_out`: claims, escapes and refunds."""

    asset: int
    deposited: int
    waiting: int
    paid_out: int
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


def money(vault: VaultClient) -> tuple[list[MoneyRow], list[Finding]]:
    """A vault's assets as its chain has them, and what does not add up. Raises `ChainError`."""
    rows: list[MoneyRow] = []
    for _ in range(_READINGS):
        head = vault.rpc.block_number()
        rows = _rows(vault)
        if all(row.adds_up and row.covered for row in rows) or vault.rpc.block_number() == head:
            break
    found: list[Finding] = []
    for row in rows:
        if not row.adds_up:
            message = (
                f"{row.deposited} atoms of asset {row.asset} came in and {row.paid_out} went out, so "
                f"{row.deposited - row.paid_out} should be held; the vault says {row.holdings}"
            )
            found.append(Finding("HOLDINGS_DIFFER", 0, message))
        if not row.covered:
            owed = row.holdings + row.float_atoms
            message = f"the vault holds {row.tokens} atoms of asset {row.asset}, its books say {owed}"
            found.append(Finding("TOKENS_MISSING", 0, message))
    return rows, found


def _rows(vault: VaultClient) -> list[MoneyRow]:
    messages = [event.message for event in vault.inbox()]
    consumed, paid = vault.consumed_count(), vault.paid_out(vault.first_block())
    deposits = [message for message in messages if message.kind == ids.INBOX_DEPOSIT]
    return [
        MoneyRow(
            asset,
            sum(message.amount for message in deposits if message.asset == asset),
            sum(message.amount for message in deposits if message.asset == asset and message.index >= consumed),
            paid.get(asset, 0),
            vault.holdings(asset),
            vault.float_of(asset),
            vault.token_balance(asset, vault.address),
        )
        for asset in range(len(vault.tokens()))
    ]
