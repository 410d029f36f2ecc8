# SPDX-License-Identifier: GPL-3.0-or-later
"""Offline proof bundles of the latest posted epoch, per vault.

Rules: the live state has moved on, so leaves and paths come from the epoch's own snapshot, restored
and verified against its roots when the first bundle is asked for. That copy serves until the next
epoch is posted. Building it never holds the writer's lock.
"""

import threading
from typing import Protocol

from clearing.core import snapshot
from clearing.core.leaves import state_leaf
from clearing.core.state import Account, State
from clearing.model.errors import Refused
from clearing.model.params import params_hash
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.epochs import EpochBook, EpochRecord
from proofs import bundle as b


class Signer(Protocol):
    """Who signs heads: `CheckpointSigner`, or what asks one (clearing.api.proofs)."""

    @property
    def origin(self) -> str: ...

    def sign(self, operator_key: bytes, size: int, root: bytes) -> SignedCheckpoint: ...


class Prover:
    """Makes bundles. `posted` may be called from any thread."""

    def __init__(self, book: EpochBook, signer: Signer) -> None:
        self._book = book
        self._signer = signer
        self._lock = threading.Lock()
        self._posted: dict[int, EpochRecord] = {}
        self._views: dict[int, tuple[State, str]] = {}

    def posted(self, vault: int, record: EpochRecord) -> None:
        """From now on a vault's bundles are of this epoch."""
        with self._lock:
            self._posted[vault] = record
            epochs = {kept.epoch for kept in self._posted.values()}
            self._views = {epoch: view for epoch, view in self._views.items() if epoch in epochs}

    def _view(self, vault: int) -> tuple[EpochRecord, State, str]:
        """The record, state and signed checkpoint of the last epoch that was posted to a vault."""
        with self._lock:
            record = self._posted.get(vault)
            if record is None:
                raise Refused("NOT_POSTED", f"no epoch is posted to vault {vault} yet; ask again after the first")
            if record.epoch not in self._views:
                state = snapshot.load(self._book.payload(record), record.outcome)
                note = self._signer.sign(state.operator_key, record.snapshot_seq, record.journal_root).note
                self._views[record.epoch] = state, note
            return record, *self._views[record.epoch]

    def note(self, epoch: int, operator_key: bytes) -> str:
        """The signed head of a closed epoch, of this process's own record of it, by a key that is held here. Raises
        `NovateError` UNKNOWN_EPOCH, KEY_NOT_HELD."""
        record = self._book.load(epoch)
        return self._signer.sign(operator_key, record.snapshot_seq, record.journal_root).note

    def bundle(self, owner: bytes, vault: int = 0) -> bytes:
        """The bundle file of an owner (20 bytes) in a vault's tree. Raises `Refused` NOT_POSTED, UNKNOWN_VAULT,
        UNKNOWN_OWNER; `NovateError` SNAPSHOT_*."""
        count = len(self._book.genesis.vaults)
        if not 0 <= vault < count:
            raise Refused("UNKNOWN_VAULT", f"there is no vault {vault}; the deployment has {count}")
        record, state, note = self._view(vault)
        found = state.owners.get(owner)
        tree = state.vaults[vault].exit_tree
        leaf = tree.leaf(found.leaves[vault]) if found is not None and found.leaves[vault] >= 0 else None
        if found is None or leaf is None:
            message = (
                f"0x{owner.hex()} has no leaf in epoch {record.epoch} of vault {vault}; a deposit appears in the next"
            )
            raise Refused("UNKNOWN_OWNER", message)
        proof = tree.proof(leaf.index)
        spec = state.genesis.vaults[vault]
        exit_part = b.ExitPart(
            index=leaf.index,
            owner=owner.hex(),
            exits=_decimal(leaf.exits),
            withdraw_acks=_decimal(leaf.withdraw_acks),
            hashes=tuple(item.hex() for item in proof.hashes),
            sums=tuple(_decimal(row) for row in proof.sums),
        )
        hash_of_params = params_hash(state.params, state.specs())
        return b.encode(
            b.Bundle(
                format=b.FORMAT,
                deployment_id=state.deployment.hex(),
                chain_id=spec.chain_id,
                vault=spec.address.hex(),
                origin=self._signer.origin,
                operator_key=state.operator_key[1:].hex(),
                assets=tuple(token.hex() for token in spec.tokens),
                header=record.part(vault).header.hex(),
                exit=exit_part,
                checkpoint=note,
                states=tuple(_state_part(state, account, hash_of_params) for account in found.accounts),
            )
        )


def _decimal(values: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(map(str, values))


def _state_part(state: State, account: Account, hash_of_params: bytes) -> b.StatePart:
    """The leaf as it was committed, read back from its own preimage, so that there is one source of it."""
    raw = state_leaf(account, state.state_tree.domain, hash_of_params)
    salt, amounts, details = raw[60:92], raw[92:132], raw[132:164]
    equity, deficit, initial, maintenance, stress = (
        str(int.from_bytes(amounts[at : at + 8], "big")) for at in range(0, 40, 8)
    )
    return b.StatePart(
        account=account.number,
        sub=account.sub,
        salt=salt.hex(),
        equity=equity,
        deficit=deficit,
        margin_initial=initial,
        margin_maintenance=maintenance,
        stress_loss=stress,
        details=details.hex(),
        hashes=tuple(item.hex() for item in state.state_tree.proof(account.number)),
    )
