# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of an epoch, from what the journal says: one function for operator and auditor, so that
there is nothing for them to disagree on but the journal."""

from clearing.model.commands import Genesis
from clearing.model.outcomes import EpochClosed
from proofs.hashing import exit_domain
from proofs.header import Header


def build_header(
    genesis: Genesis,
    outcome: EpochClosed,
    close_time_us: int,
    journal_size: int,
    journal_root: bytes,
    prev_header_hash: bytes,
) -> Header:
    """The header of the deployment's one vault. `journal_size` counts the entry that closed the epoch;
    `prev_header_hash` is 32 zero bytes for epoch 1."""
    vault = genesis.vaults[0]
    return Header(
        domain=exit_domain(vault.chain_id, vault.address),
        epoch=outcome.epoch,
        close_time_us=close_time_us,
        prev_header=prev_header_hash,
        journal_size=journal_size,
        journal_root=journal_root,
        state_root=outcome.state_root,
        exit_root=outcome.exit_root,
        exit_sums=outcome.exit_sums,
        inbox_count=outcome.inbox_count,
        inbox_hash=outcome.inbox_hash,
        marks_hash=outcome.marks_hash,
        params_hash=outcome.params_hash,
        scenarios_hash=outcome.scenarios_hash,
        diff_hash=outcome.diff_hash,
        l1_number=outcome.l1_number,
        l1_hash=outcome.l1_hash,
    )
