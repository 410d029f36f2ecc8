# SPDX-License-Identifier: GPL-3.0-or-later
"""One vault as its chain has it, read once: everything that is compared with it comes from here.

Rules:
- Epochs that were posted after the journal was begun to be read are left out: a live operator goes on meanwhile.
- Messages are checked against the contract's rolling hash, headers against the hash in their event, and that no header
  is missing from the logs is the caller's to look at (`listed`).
- Holdings, float and tokens are the contracts' figures at the head, messages and payments their logs. A chain that
  moved on between the two is read again.
"""

from dataclasses import dataclass
from typing import Final

from clearing.chain.errors import ChainError
from clearing.chain.structs import EpochEvent, InboxEvent, Payment
from clearing.chain.vault import VaultClient
from clearing.model import ids
from proofs.errors import EncodingError
from proofs.header import Header

_READINGS: Final = 4


@dataclass(frozen=True, slots=True)
class Posted:
    """One epoch: its event, its header, the hash that the contract stores, and its block's time (seconds UTC)."""

    event: EpochEvent
    header: Header
    stored: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class AssetFigures:
    """One asset at the head, in atoms: the vault's books, its float, and the tokens that lie there."""

    holdings: int
    float_atoms: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A vault. `count`: epochs that it held when the journal was begun; `posted`: those, as far as its logs list them;
    `beyond`: of these, the ones that commit to more entries than are to be compared."""

    vault: VaultClient
    chain_id: int
    count: int
    head: int
    posted: tuple[Posted, ...]
    beyond: tuple[Posted, ...]
    messages: tuple[InboxEvent, ...]
    payments: tuple[Payment, ...]
    assets: tuple[AssetFigures, ...]

    def listed(self) -> bool:
        """Whether the logs list every epoch that the contract counts."""
        return [one.event.epoch for one in (*self.posted, *self.beyond)] == list(range(1, self.count + 1))

    def deposited(self, asset: int) -> int:
        return sum(event.message.amount for event in self.messages if _brings(event, asset))

    def paid_out(self, asset: int) -> int:
        return sum(payment.amount for payment in self.payments if payment.asset == asset)


def _brings(event: InboxEvent, asset: int) -> bool:
    return event.message.kind == ids.INBOX_DEPOSIT and event.message.asset == asset


def read(vault: VaultClient, count: int, size: int | None = None) -> Reading:
    """The vault with its first `count` epochs, those over more than `size` entries set apart. Raises `ChainError`."""
    found = _once(vault, count, size)
    for _ in range(_READINGS - 1):
        if _adds_up(found) or vault.rpc.block_number() == found.head:
            break
        found = _once(vault, count, size)
    return found


def _adds_up(found: Reading) -> bool:
    return all(
        found.deposited(asset) - found.paid_out(asset) == one.holdings and one.tokens >= one.holdings + one.float_atoms
        for asset, one in enumerate(found.assets)
    )


def _once(vault: VaultClient, count: int, size: int | None) -> Reading:
    head, first = vault.rpc.block_number(), vault.first_block()
    posted = [_posted(vault, event) for event in vault.epochs(first) if event.epoch <= count]
    assets = [
        AssetFigures(vault.holdings(asset), vault.float_of(asset), vault.token_balance(asset, vault.address))
        for asset in range(len(vault.tokens()))
    ]
    return Reading(
        vault,
        vault.rpc.chain_id(),
        count,
        head,
        tuple(one for one in posted if size is None or one.header.journal_size <= size),
        tuple(one for one in posted if size is not None and one.header.journal_size > size),
        tuple(vault.inbox()),
        tuple(vault.payments(first)),
        tuple(assets),
    )


def _posted(vault: VaultClient, event: EpochEvent) -> Posted:
    try:
        header = Header.decode(event.header)
    except EncodingError as error:
        message = f"the log of epoch {event.epoch} holds no header ({error.message}); try another --rpc"
        raise ChainError("RPC_BAD_DATA", message) from None
    return Posted(event, header, vault.header_hash(event.epoch), vault.rpc.block(event.block_number).time_s)
