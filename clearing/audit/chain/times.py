# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry times against the chain's own clock. Times are the operator's word until a block contradicts or bounds them.

Rules:
- Sources: the time of the L1 block in which an epoch's header was posted, and the block that the operator named in
  the epoch's closing entry, by number and hash. Both are read from the chain, in seconds UTC.
- An entry cannot have been made after the block that posted its epoch, nor before the block that the close of the
  epoch before it names. Times in a journal never decrease (replay checks it), so it is enough to hold each close,
  which is its epoch's latest time, to three bounds:
    named block's time - tolerance <= close <= posting block's time + tolerance,
    posting block's time - the vault's deadline - tolerance <= close.
  Later than the deadline anyone could have frozen the vault, so a close that old is absurd.
- Tolerance: 15 minutes by default. Proposers may shift a block's time by seconds, L2 sequencers by minutes; an honest
  operator's clock is off by less.
- An entry that takes in messages of the vault's inbox cannot be older than their blocks, whose times the messages carry
  (the rolling hash binds them).
- Nothing can be later than both the chain's head and the auditor's own clock.
- The named block must be on the chain with that hash: a header tells which fork its operator saw.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clearing.audit.chain.reading import Reading
from clearing.audit.findings import Finding
from clearing.audit.replay import ReplayReport
from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient
from proofs.header import Header

TOLERANCE_S: Final = 900
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TimeRow:
    """One posted epoch: its close (microseconds), and the times (seconds) and numbers of the two blocks; `named_s` is
    0 where the named block is not on the chain."""

    epoch: int
    close_us: int
    named_block: int
    named_s: int
    posted_block: int
    posted_s: int

    @property
    def lag_s(self) -> int:
        """From the close to the posting block; negative when the close lies after it."""
        return self.posted_s - self.close_us // _US


def check_times(
    headers: Iterable[Header], reading: Reading, tolerance_s: int = TOLERANCE_S
) -> tuple[list[TimeRow], list[Finding]]:
    """The times of a vault's posted epochs, and what is wrong with them; `headers` as the journal (or, without one, the
    chain) has them. Raises `ChainError`."""
    closed = {header.epoch: header for header in headers}
    deadline_s = reading.vault.deadline_s()
    rows: list[TimeRow] = []
    found: list[Finding] = []
    for one in reading.posted:
        own = closed.get(one.event.epoch)
        if own is None:
            continue
        named_s = _named(reading.vault, own.l1_number, own.l1_hash)
        row = TimeRow(own.epoch, own.close_time_us, own.l1_number, named_s, one.event.block_number, one.time_s)
        rows.append(row)
        if not named_s:
            message = (
                f"epoch {own.epoch} names block {own.l1_number} with hash 0x{own.l1_hash.hex()}, "
                "which the chain does not have"
            )
            found.append(Finding("L1_BLOCK_DIFFERS", own.epoch, message))
        found += [Finding("ENTRY_TIME", own.epoch, text) for text in _faults(row, deadline_s, tolerance_s)]
    return rows, found


def check_entries(report: ReplayReport, chain_s: int, tolerance_s: int, now_s: int) -> list[Finding]:
    """What is wrong with entries' times whatever the epoch: messages from the future, entries from the future.
    `chain_s`: the latest head of any chain, seconds UTC."""
    found: list[Finding] = []
    seq, lead_us = report.lead
    if lead_us > tolerance_s * _US:
        text = f"entry {seq} takes in a message whose block is {lead_us // _US} s younger than the entry"
        found.append(Finding("ENTRY_TIME", 0, text, -1))
    last_s = report.state.time_us // _US if report.state is not None else 0
    if last_s > max(chain_s, now_s) + tolerance_s:
        text = f"the last entry is of {last_s} (seconds UTC), {last_s - max(chain_s, now_s)} s from now"
        found.append(Finding("ENTRY_TIME", 0, text, -1))
    return found


def _named(vault: VaultClient, block: int, digest: bytes) -> int:
    """The time of the block that a close names; 0 when the chain has no such block."""
    try:
        seen = vault.rpc.block(block)
    except ChainError as error:
        if error.code != "RPC_ERROR":
            raise
        return 0
    return seen.time_s if seen.hash == digest else 0


def _faults(row: TimeRow, deadline_s: int, tolerance_s: int) -> list[str]:
    close_s, texts = row.close_us // _US, []
    if row.lag_s < -tolerance_s:
        texts.append(
            f"epoch {row.epoch} closed at {close_s}, {-row.lag_s} s after block {row.posted_block} that posted it"
        )
    if row.lag_s > deadline_s + tolerance_s:
        texts.append(
            f"epoch {row.epoch} closed at {close_s}, {row.lag_s} s before it was posted; the deadline is {deadline_s} s"
        )
    if row.named_s and close_s < row.named_s - tolerance_s:
        texts.append(
            f"epoch {row.epoch} closed at {close_s}, {row.named_s - close_s} s before block {row.named_block} "
            "that it names"
        )
    return texts
