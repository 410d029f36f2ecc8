# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit is asked, and what it found.

Rules:
- A verdict is one word: AGREES, DIFFERS (from a chain, a checkpoint, a policy), DIVERGES (the journal is not what its
  commands give) or UNDECIDED (nothing was found wrong, and not enough could be read to say that it is right: entries
  that are private, or that a copy of the journal lacks though they were posted long ago).
- Nothing passes by not being looked at: `unchecked` says in words what this audit did not check, whatever the verdict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from clearing.audit.chain.money import BalanceRow, MoneyRow
from clearing.audit.chain.times import TOLERANCE_S, TimeRow
from clearing.audit.checkpoint import CheckpointResult
from clearing.audit.findings import Finding
from clearing.audit.pieces.ranges import Plan
from clearing.audit.replay import ReplayReport
from clearing.audit.source import Source
from clearing.chain.vault import VaultClient
from clearing.model.commands import Genesis
from clearing.model.params import params_hash
from proofs.header import Header

AGREES: Final = "agrees"
DIFFERS: Final = "differs"
DIVERGES: Final = "diverges"
UNDECIDED: Final = "undecided"


@dataclass(frozen=True, slots=True)
class Request:
    """What to audit and how. `vaults`: clients of vaults of this journal. `policy`: text of a witness policy. `epoch`:
    begin at its close (0: at genesis), from `plan.snapshots`. `times`: compare entry times with the chains', within
    `tolerance_s`."""

    source: Source
    vaults: Sequence[VaultClient] = ()
    plan: Plan = field(default_factory=Plan)
    policy: str | None = None
    epoch: int = 0
    times: bool = True
    tolerance_s: int = TOLERANCE_S


@dataclass(frozen=True, slots=True)
class VaultAudit:
    """One vault, as it was at block `head` of its chain: the header hashes that it has, by epoch, the headers that they
    were compared with, its money now and at each epoch, its times."""

    number: int
    chain_id: int
    address: bytes
    head: int
    posted: dict[int, bytes]
    headers: tuple[Header, ...]
    money: tuple[MoneyRow, ...]
    balances: tuple[BalanceRow, ...]
    times: tuple[TimeRow, ...]


@dataclass(slots=True)
class Audit:
    """What an audit found. `genesis`: None where the first entry is none, or could not be read. `replayed`: whether the
    entries were there to be replayed; `size`, `root`: the log that was looked at. `unchecked`: what it did not look at,
    in words; `behind`: which of that a complete copy of the journal would show."""

    genesis: Genesis | None
    report: ReplayReport
    signatures: bool
    size: int = 0
    root: bytes = b""
    replayed: bool = True
    seconds: float = 0.0
    vaults: list[VaultAudit] = field(default_factory=list)
    checkpoint: CheckpointResult | None = None
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if not self.report.ok:
            return DIVERGES
        if self.findings:
            return DIFFERS
        return AGREES if self.replayed and not self.behind else UNDECIDED

    @property
    def ok(self) -> bool:
        return self.verdict == AGREES

    def parameters(self) -> Iterator[tuple[int, bytes]]:
        """(epoch, hash) of each parameter set, from the epoch that committed to it first; 0: as genesis has it. Without
        entries: as the first vault's headers have it."""
        last = b""
        if self.genesis is not None:
            last = params_hash(self.genesis.params, self.genesis.instruments)
            yield 0, last
        told = [(epoch.outcome.epoch, epoch.outcome.params_hash) for epoch in self.report.epochs]
        if not self.replayed and self.vaults:
            told = [(header.epoch, header.params_hash) for header in self.vaults[0].headers]
        for epoch, digest in told:
            if digest != last:
                last = digest
                yield epoch, last
