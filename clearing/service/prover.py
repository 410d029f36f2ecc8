# SPDX-License-Identifier: GPL-3.0-or-later
"""Offline proof bundles of the latest posted epoch.

Rules: the live state has moved on, so leaves and paths come from the epoch's own snapshot, restored
and verified against its roots when the first bundle is asked for. That copy serves until the next
epoch is posted. Building it never holds the writer's lock.
"""

import threading

from clearing.core import snapshot
from clearing.core.leaves import state_leaf
from clearing.core.state import Account, State
from clearing.model.errors import Refused
from clearing.model.params import params_hash
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.epochs import EpochBook, EpochRecord
from proofs import bundle as b
from proofs.header import Header


class Prover:
    """Makes bundles. `posted` may be called from any thread."""

    def __init__(self, book: EpochBook, signer: CheckpointSigner) -> None:
        self._book = book
        self._signer = signer
        self._lock = threading.Lock()
        self._record: EpochRecord | None = None
        self._state: State | None = None
        self._note = ""

    def posted(self, record: EpochRecord) -> None:
        """From now on bundles are of this epoch."""
        with self._lock:
            if self._record is None or self._record.epoch != record.epoch:
                self._record, self._state, self._note = record, None, ""

    def _view(self) -> tuple[EpochRecord, State, str]:
        """The posted epoch's record, state and signed checkpoint."""
        with self._lock:
            record = self._record
            if record is None:
                raise Refused("NOT_POSTED", "no epoch is posted yet; ask again after the first")
            if self._state is None:
                self._state = snapshot.load(self._book.payload(record), record.outcome)
                root = Header.decode(record.header).journal_root
                self._note = self._signer.sign(self._state.operator_key, record.snapshot_seq, root).note
            return record, self._state, self._note

    def bundle(self, owner: bytes) -> bytes:
        """The bundle file of an owner (20 bytes). Raises `Refused` NOT_POSTED, UNKNOWN_OWNER; `NovateError`
        SNAPSHOT_*."""
        record, state, note = self._view()
        found = state.owners.get(owner)
        leaf = state.exit_tree.leaf(found.leaf_index) if found is not None else None
        if found is None or leaf is None:
            message = f"0x{owner.hex()} has no leaf in epoch {record.epoch}; a deposit appears in the next epoch"
            raise Refused("UNKNOWN_OWNER", message)
        proof = state.exit_tree.proof(leaf.index)
        genesis = state.genesis
        vault = genesis.vaults[0]
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
                chain_id=vault.chain_id,
                vault=vault.address.hex(),
                origin=self._signer.origin,
                operator_key=state.operator_key[1:].hex(),
                assets=tuple(token.hex() for token in vault.tokens),
                header=record.header.hex(),
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
