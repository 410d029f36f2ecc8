# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit that begins in the middle rests on what the vaults have: every header of the start's epoch is built again
from the snapshot's entry and must be the posted one, byte for byte.

Rules:
- All vaults of the journal are needed, since each header names those of the others.
- A vault that was frozen by then has no header of that epoch. One that is live anchors the start for all, since every
  header holds the same state root and journal root; without any there is nothing to rest on.
"""

from collections.abc import Sequence

from clearing.audit.chain.compare import parted
from clearing.audit.chain.identity import number_of, stranger
from clearing.audit.pieces.starts import Start
from clearing.audit.rounds import build_headers
from clearing.chain.errors import ChainError
from clearing.chain.structs import EpochEvent
from clearing.chain.vault import VaultClient
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from proofs.errors import EncodingError
from proofs.header import Header


def anchored(genesis: Genesis, start: Start, clients: Sequence[VaultClient]) -> tuple[bytes, ...]:
    """The last header hashes of all vaults at a start that the vaults confirm.

    Raises `NovateError` FROM_NEEDS_VAULTS, START_DIFFERS; `ChainError`.
    """
    vaults = _numbered(genesis, clients)
    before = [_hash_at(vault, start.epoch - 1) for vault in vaults]
    now = list(before)
    headers = build_headers(genesis, start.outcome, start.time_us, start.size, start.root, before)
    if not any(header is not None for header in headers):
        message = f"every vault was frozen before epoch {start.epoch} closed, so no chain has a header of it"
        raise NovateError("START_DIFFERS", f"{message}; audit from genesis")
    for number, header in enumerate(headers):
        if header is not None:
            now[number] = _confirmed(vaults[number], number, header)
    return tuple(now)


def _numbered(genesis: Genesis, clients: Sequence[VaultClient]) -> list[VaultClient]:
    found: dict[int, VaultClient] = {}
    for client in clients:
        number = number_of(genesis, client)
        if number is None:
            raise NovateError("FROM_NEEDS_VAULTS", stranger(genesis, client))
        found[number] = client
    if len(found) != len(genesis.vaults):
        count = len(genesis.vaults)
        raise NovateError("FROM_NEEDS_VAULTS", f"to begin at an epoch needs --rpc and --vault of all {count} vaults")
    return [found[number] for number in range(len(genesis.vaults))]


def _hash_at(vault: VaultClient, epoch: int) -> bytes:
    """A vault's last header hash at an epoch; a frozen one keeps its last."""
    last = min(epoch, vault.epoch_count())
    return vault.header_hash(last) if last else bytes(32)


def _confirmed(vault: VaultClient, number: int, mine: Header) -> bytes:
    """The hash of a posted header that is `mine`."""
    if vault.epoch_count() < mine.epoch:
        message = f"vault {number} has no header of epoch {mine.epoch} yet; begin at an earlier one"
        raise NovateError("START_DIFFERS", message)
    stored = vault.header_hash(mine.epoch)
    if stored != mine.hash():
        message = f"the snapshot of epoch {mine.epoch} gives header {mine.hash().hex()}, vault {number} has "
        raise NovateError("START_DIFFERS", f"{message}{stored.hex()}{_told(vault, mine)}; audit from genesis")
    return stored


def _told(vault: VaultClient, mine: Header) -> str:
    """Which fields differ, where the chain's logs say; the hash alone has decided already."""
    try:
        block = vault.header_block(mine.epoch)
        events: list[EpochEvent] = vault.epochs(block, block, mine.epoch)
        return parted(Header.decode(events[0].header), mine) if events else ""
    except (ChainError, EncodingError):
        return ""
