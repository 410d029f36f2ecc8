# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole audit: replay, chains, money, times, checkpoint; what was found, and what was not looked at.

Rules:
- Nothing passes by not being looked at: `unchecked` says in words what this audit did not check.
- The chains are read before the journal ends, so that every epoch they hold then is in what was read.
- Epochs that commit to more entries than were read are not checked: a copy of the journal may be older than the
  chain. When one was posted longer ago than a copy has reason to lag, the verdict is no verdict (`behind`).
- After a divergence nothing is compared with a chain: what follows it proves nothing.
- The same inputs give the same verdict, however many jobs compute it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from clearing.audit.chain import beyond, compare_with_chain, number_of
from clearing.audit.checkpoint import CheckpointResult, check_note, size_of
from clearing.audit.findings import Finding
from clearing.audit.money import MoneyRow, money
from clearing.audit.ranges import Plan, run
from clearing.audit.replay import ReplayReport
from clearing.audit.source import Source, genesis_in
from clearing.audit.starts import Start, start_of_epoch
from clearing.audit.times import TOLERANCE_S, TimeRow, check_times
from clearing.chain.structs import EpochEvent
from clearing.chain.vault import VaultClient
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.model.params import params_hash
from proofs.header import Header


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
    """One vault: the header hashes that it has, by epoch, its money, its times, and what was found."""

    number: int
    chain_id: int
    address: bytes
    posted: dict[int, bytes]
    money: tuple[MoneyRow, ...]
    times: tuple[TimeRow, ...]


@dataclass(slots=True)
class Audit:
    """What an audit found. `genesis`: None where the first entry is none, which is a divergence. `unchecked`: what it
    did not look at, in words; `behind`: which of that a complete copy of the journal would show."""

    genesis: Genesis | None
    report: ReplayReport
    signatures: bool
    seconds: float = 0.0
    vaults: list[VaultAudit] = field(default_factory=list)
    checkpoint: CheckpointResult | None = None
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.report.ok and not self.findings

    def parameters(self) -> Iterator[tuple[int, bytes]]:
        """(epoch, hash) of each parameter set, from the epoch that committed to it first; 0: as genesis has it."""
        if self.genesis is None:
            return
        last = params_hash(self.genesis.params, self.genesis.instruments)
        yield 0, last
        for epoch in self.report.epochs:
            if epoch.outcome.params_hash != last:
                last = epoch.outcome.params_hash
                yield epoch.outcome.epoch, last


def audit(request: Request, on_progress: Callable[[int], None] | None = None) -> Audit:
    """Run an audit.

    Raises `NovateError` NO_GENESIS, SNAPSHOT_* and FROM_NEEDS_VAULTS for a start that cannot be had, POLICY_INVALID,
    `ChainError` when a chain cannot be read, and what the source raises.
    """
    began = time.perf_counter()
    counts = [vault.epoch_count() for vault in request.vaults]
    note = request.source.note()
    try:
        genesis = genesis_in(request.source)
    except NovateError as error:
        if error.code != "NO_GENESIS":
            raise
        return _no_genesis(request, error)
    size = size_of(note) if note else 0
    plan = replace(request.plan, marks=(size,)) if size else request.plan
    start, prev = _start(request, genesis)
    report = run(request.source, plan, start=start, prev_hashes=prev, on_progress=on_progress)
    found = Audit(genesis, report, plan.signatures)
    if report.ok:
        for vault, count in zip(request.vaults, counts, strict=True):
            _compare(request, found, vault, count)
    if note and (size > report.first or not start):
        found.checkpoint = check_note(note, genesis, report, request.policy)
        found.findings += found.checkpoint.findings
    elif request.policy is not None:
        text = "a witness policy was given, and the journal came without a signed checkpoint to hold against it"
        found.findings.append(Finding("POLICY_UNSATISFIED", 0, text, -1))
    found.unchecked += _unchecked(request, found, start)
    found.seconds = time.perf_counter() - began
    return found


def _no_genesis(request: Request, error: NovateError) -> Audit:
    """A journal that does not even begin: diverges at its first entry. Raises `error` where it has no entry."""
    report = run(request.source, Plan())
    if report.ok:
        raise error
    return Audit(None, report, request.plan.signatures, unchecked=["everything after the divergence"])


def _compare(request: Request, found: Audit, vault: VaultClient, count: int) -> None:
    """One vault. What is none of this journal has no rows."""
    assert found.genesis is not None, "the journal was replayed"
    number = number_of(found.genesis, vault)
    events = [] if number is None else [e for e in vault.epochs(vault.first_block()) if e.epoch <= count]
    later = beyond(events, found.report.size)
    faults = compare_with_chain(found.report, vault, count - len(later))
    found.findings += faults
    if number is None or any(fault.code == "WRONG_VAULT" for fault in faults):
        return
    if later:
        _tell_beyond(request, found, number, vault, later)
        events = events[: -len(later)]
    times: list[TimeRow] = []
    if request.times:
        times, faults = check_times(found.report, number, vault, events, request.tolerance_s)
        found.findings += [replace(fault, vault=number) for fault in faults]
    posted = {event.epoch: event.header_hash for event in events}
    place = vault.rpc.chain_id(), vault.address
    found.vaults.append(VaultAudit(number, *place, posted, tuple(money(vault)[0]), tuple(times)))


def _tell_beyond(request: Request, found: Audit, number: int, vault: VaultClient, later: list[EpochEvent]) -> None:
    """Say which epochs nothing is known of; withheld entries look the same as an old copy, but for the time."""
    age_s = vault.rpc.time_s() - vault.rpc.block(later[0].block_number).time_s
    size = Header.decode(later[-1].header).journal_size
    epochs = f"epoch {later[0].epoch}" + (f" to {later[-1].epoch}" if len(later) > 1 else "")
    text = (
        f"{epochs} of vault {number}: posted up to {max(0, age_s)} s ago, over {size} entries of which "
        f"{found.report.size} were read"
    )
    found.unchecked.append(text)
    if age_s > request.tolerance_s:
        found.behind.append(text)


# --- beginning in the middle ---


def _start(request: Request, genesis: Genesis) -> tuple[Start | None, tuple[bytes, ...]]:
    """Where to begin, and the vaults' last header hashes there."""
    if not request.epoch:
        return None, ()
    if request.plan.snapshots is None:
        raise NovateError("SNAPSHOT_NOT_FOUND", "to begin at an epoch needs snapshots; give --snapshots DIR")
    start = start_of_epoch(request.source, request.plan.snapshots, request.epoch)
    if not request.vaults:
        return start, (bytes(32),) * len(genesis.vaults)
    return start, _posted_there(request, genesis, start)


def _posted_there(request: Request, genesis: Genesis, start: Start) -> tuple[bytes, ...]:
    """The last header hashes of all vaults at the start, whose posted headers must be the start's.

    Raises `NovateError` FROM_NEEDS_VAULTS, START_DIFFERS.
    """
    hashes: dict[int, bytes] = {}
    for vault in request.vaults:
        number = number_of(genesis, vault)
        if number is None:
            message = f"0x{vault.address.hex()} on chain {vault.rpc.chain_id()} is no vault of this journal"
            raise NovateError("FROM_NEEDS_VAULTS", message)
        last = min(start.epoch, vault.epoch_count())
        block = vault.header_block(last) if last else 0
        events = vault.epochs(block, block, last) if last else []
        hashes[number] = vault.header_hash(last) if last else bytes(32)
        if start.outcome.vaults[number].live:
            _same(start, number, next((e for e in events if e.header_hash == hashes[number]), None))
    if len(hashes) != len(genesis.vaults):
        count = len(genesis.vaults)
        raise NovateError("FROM_NEEDS_VAULTS", f"to begin at an epoch needs --rpc and --vault of all {count} vaults")
    return tuple(hashes[number] for number in range(len(genesis.vaults)))


def _same(start: Start, number: int, event: EpochEvent | None) -> None:
    """The header that a vault has of the start's epoch commits to the start."""
    if event is None or event.epoch != start.epoch:
        message = f"vault {number} has no header of epoch {start.epoch} yet; begin at an earlier one"
        raise NovateError("START_DIFFERS", message)
    header, outcome = Header.decode(event.header), start.outcome
    ours = (
        ("state root", outcome.state_root, header.state_root),
        ("journal root", start.prefix.root(), header.journal_root),
        ("journal size", start.size, header.journal_size),
        ("exit root", outcome.vaults[number].exit_root, header.exit_root),
        ("parameter hash", outcome.params_hash, header.params_hash),
    )
    for name, mine, theirs in ours:
        if mine != theirs:
            message = (
                f"the {name} of the snapshot at epoch {start.epoch} is {_hexed(mine)}, "
                f"vault {number} has {_hexed(theirs)}"
            )
            raise NovateError("START_DIFFERS", f"{message}; audit from genesis")


def _hexed(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _unchecked(request: Request, found: Audit, start: Start | None) -> list[str]:
    if not found.report.ok or found.genesis is None:
        return ["everything after the divergence"]
    missing = len(found.genesis.vaults) - len(found.vaults)
    texts = []
    if start is not None:
        rest = "its roots are those that the vaults have" if request.vaults else "its roots are the journal's own"
        texts.append(f"entries before {start.size}: the audit began at the state of epoch {start.epoch}, and {rest}")
    if not found.signatures:
        texts.append("signatures of commands and of the oracle")
    if missing:
        texts.append(f"{missing} of {len(found.genesis.vaults)} vaults: no --rpc and --vault was given for them")
    if not request.times and request.vaults:
        texts.append("entry times against the chain's clock")
    if found.checkpoint is None:
        texts.append("the signed checkpoint: the journal came without one")
    if request.policy is None:
        texts.append("witnesses: no --policy was given, so nobody but the operator vouches that there is one history")
    return texts
