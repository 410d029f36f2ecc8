# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of a vault's epoch, from what the journal says: one function for operator and auditor, so that
there is nothing for them to disagree on but the journal."""

from collections.abc import Sequence

from clearing.model.commands import Genesis
from clearing.model.outcomes import EpochClosed
from proofs.hashing import exit_domain
from proofs.header import Header, attestors_hash, peers_hash


def build_header(
    genesis: Genesis,
    vault_number: int,
    outcome: EpochClosed,
    close_time_us: int,
    journal_size: int,
    journal_root: bytes,
    prev_hashes: Sequence[bytes],
) -> Header:
    """The header for a live vault (`outcome.vaults[...].live`; a frozen one has none).

    `journal_size` counts the entry that closed the epoch, `journal_root` is the log's at that size. `prev_hashes`: per
    vault of genesis the hash of its previous header, 32 zero bytes before its first, the last one once it is frozen.
    """
    spec, epoch = genesis.vaults[vault_number], outcome.vaults[vault_number]
    return Header(
        domain=exit_domain(spec.chain_id, spec.address),
        epoch=outcome.epoch,
        close_time_us=close_time_us,
        prev_header=prev_hashes[vault_number],
        peers_hash=peers_hash(vault_number, prev_hashes),
        journal_size=journal_size,
        journal_root=journal_root,
        state_root=outcome.state_root,
        exit_root=epoch.exit_root,
        exit_sums=epoch.exit_sums,
        inbox_count=epoch.inbox_count,
        inbox_hash=epoch.inbox_hash,
        marks_hash=outcome.marks_hash,
        params_hash=outcome.params_hash,
        scenarios_hash=outcome.scenarios_hash,
        attestors_hash=attestors_hash(spec.threshold, spec.attestors),
        diff_hash=epoch.diff_hash,
        l1_number=epoch.l1_number,
        l1_hash=epoch.l1_hash,
    )
