# SPDX-License-Identifier: GPL-3.0-or-later
"""The headers of one epoch over all vaults, and what the next epoch's headers name of them.

Rules: epoch numbers are common. A frozen vault gets no header any more; its last one stays the one
that its peers name.
"""

from collections.abc import Sequence

from clearing.audit.headers import build_header
from clearing.model.commands import Genesis
from clearing.model.outcomes import EpochClosed
from proofs.header import Header


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
