# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers of one epoch over all vaults, from what the journal says, and what the next epoch's headers name of
them: one function for operator and auditor, so that there is nothing for them to disagree on but the journal.

Rules: epoch numbers are common. A frozen vault gets no header any more; its last one stays the one
that its peers name.
"""

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


def build_headers(
    genesis: Genesis,
    outcome: EpochClosed,
    close_time_us: int,
    journal_size: int,
    journal_root: bytes,
    prev_hashes: Sequence[bytes],
) -> tuple[Header | None, ...]:
    """Per vault of genesis its header of this epoch, None for a frozen one; the arguments are `build_header`'s."""
    return tuple(
        build_header(genesis, number, outcome, close_time_us, journal_size, journal_root, prev_hashes)
        if part.live
        else None
        for number, part in enumerate(outcome.vaults)
    )


def last_hashes(headers: Sequence[Header | None], prev_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Per vault the hash of its last header (32 bytes), given those before this epoch."""
    return tuple(
        header.hash() if header is not None else prev for header, prev in zip(headers, prev_hashes, strict=True)
    )
