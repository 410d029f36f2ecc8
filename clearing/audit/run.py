# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole audit: replay, chains, money, times, checkpoint.

Rules:
- The chains are read before the journal ends, so that every epoch they hold then is in what was read.
- Epochs that commit to more entries than were read are not checked: a copy of the journal may be older than the
  chain. When one was posted longer ago than a copy has reason to lag, the verdict is none (`behind`).
- After a divergence nothing is compared with a chain: what follows it proves nothing.
- A journal without readable entries is held against the chains by its hashes alone, and the verdict is none.
- The same inputs give the same verdict, however many jobs compute it.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from clearing.audit.chain.anchor import anchored
from clearing.audit.chain.compare import disagreements, headers_of, unlisted
from clearing.audit.chain.identity import identity, number_of, stranger
from clearing.audit.chain.money import balances, money
from clearing.audit.chain.reading import Posted, Reading, read
from clearing.audit.chain.times import check_entries, check_times
from clearing.audit.checkpoint import check_note, check_policy, size_of
from clearing.audit.findings import Finding
from clearing.audit.pieces.ranges import Plan, run
from clearing.audit.pieces.starts import Start, start_of_epoch
from clearing.audit.replay import ReplayReport
from clearing.audit.source import LogSource, genesis_in
from clearing.audit.verdict import Audit, Request, VaultAudit
from clearing.chain.vault import VaultClient
from clearing.model.errors import NovateError
from proofs.hashing import exit_domain
from proofs.header import Header

NO_NOTE = "a witness policy was given, and the journal came without a signed checkpoint to hold against it"


def audit(request: Request, on_progress: Callable[[int, int], None] | None = None) -> Audit:
    """Run an audit. `on_progress` hears how many entries were compared, and of how many (0: unknown).

    Raises `NovateError` NO_GENESIS, SNAPSHOT_* and FROM_NEEDS_VAULTS, START_DIFFERS for a start that cannot be had,
    POLICY_INVALID, SAME_VAULT, `ChainError` when a chain cannot be read, and what the source raises.
    """
    began = time.perf_counter()
    _distinct(request)
    counts = [vault.epoch_count() for vault in request.vaults]
    if not request.source.readable():
        found = _by_hashes(request, counts)
    else:
        found = _by_replay(request, counts, on_progress)
    found.seconds = time.perf_counter() - began
    return found


def _distinct(request: Request) -> None:
    places = [(vault.rpc.chain_id(), vault.address) for vault in request.vaults]
    if len({*places}) != len(places):
        raise NovateError("SAME_VAULT", "two of the vaults are the same one; give each once")


def _by_replay(request: Request, counts: list[int], on_progress: Callable[[int, int], None] | None) -> Audit:
    source = request.source
    note = source.note()
    try:
        genesis = genesis_in(source)
    except NovateError as error:
        if error.code != "NO_GENESIS":
            raise
        return _no_genesis(request, error)
    size = size_of(note) if note else 0
    plan = replace(request.plan, marks=(size,)) if size else request.plan
    start: Start | None = None
    prev: tuple[bytes, ...] = ()
    if request.epoch:
        start = _start(request)
        prev = anchored(genesis, start, request.vaults) if request.vaults else (bytes(32),) * len(genesis.vaults)
    total = max(0, source.size() - (start.size if start is not None else 0))

    def progress(count: int) -> None:
        if on_progress is not None:
            on_progress(count, total)

    report = run(source, plan, start=start, prev_hashes=prev, on_progress=progress)
    found = Audit(genesis, report, plan.signatures, report.size, report.root)
    if report.ok:
        for vault, count in zip(request.vaults, counts, strict=True):
            _compare(request, found, vault, count)
        if request.times and request.vaults:
            chain_s = max(vault.rpc.time_s() for vault in request.vaults)
            found.findings += check_entries(report, chain_s, request.tolerance_s, int(time.time()))
    early = start is not None and size <= start.size
    if note and not early:
        found.checkpoint = check_note(note, genesis, report, request.policy)
        found.findings += found.checkpoint.findings
    elif request.policy is not None:
        found.findings.append(Finding("POLICY_UNSATISFIED", 0, _why(bool(note), size), -1))
    found.unchecked += _unchecked(request, found, start, bool(note), size)
    return found


def _why(note: bool, size: int) -> str:
    return f"the signed checkpoint is of {size} entries, before the start of this audit" if note else NO_NOTE


def _no_genesis(request: Request, error: NovateError) -> Audit:
    """A journal that does not even begin: diverges at its first entry. Raises `error` where it has no entry."""
    report = run(request.source, Plan())
    if report.ok:
        raise error
    return Audit(None, report, request.plan.signatures, 0, report.root, unchecked=["everything after the divergence"])


def _start(request: Request) -> Start:
    if request.plan.snapshots is None:
        raise NovateError("SNAPSHOT_NOT_FOUND", "to begin at an epoch needs snapshots; give --snapshots DIR")
    return start_of_epoch(request.source, request.plan.snapshots, request.epoch)


# --- the chains ---


def _compare(request: Request, found: Audit, vault: VaultClient, count: int) -> None:
    """One vault. What is none of this journal has no rows."""
    report = found.report
    assert found.genesis is not None and report.state is not None, "the journal was replayed"
    number = number_of(found.genesis, vault)
    if number is None:
        found.findings.append(Finding("WRONG_VAULT", 0, stranger(found.genesis, vault), -1))
        return
    wrong = identity(report.state, number, vault)
    if wrong:
        found.findings += [replace(fault, vault=number) for fault in wrong]
        return
    reading = read(vault, count, report.size)
    headers = headers_of(report, number)
    _look(request, found, number, reading, headers, disagreements(report, number, reading))


def _look(
    request: Request, found: Audit, number: int, reading: Reading, headers: list[Header], faults: list[Finding]
) -> None:
    """A vault's money and times, given the headers that the journal has and what was found of it so far."""
    rows, short = money(reading)
    history, more = balances(reading, headers)
    times, late = check_times(headers, reading, request.tolerance_s) if request.times else ([], [])
    found.findings += [replace(fault, vault=number) for fault in (*faults, *more, *short, *late)]
    if reading.beyond:
        _tell_beyond(request, found, number, reading)
    posted = {one.event.epoch: one.stored for one in reading.posted}
    place = reading.chain_id, reading.vault.address, reading.head
    found.vaults.append(VaultAudit(number, *place, posted, tuple(headers), tuple(rows), tuple(history), tuple(times)))


def _tell_beyond(request: Request, found: Audit, number: int, reading: Reading) -> None:
    """Say which epochs nothing is known of; withheld entries look the same as an old copy, but for the time."""
    first, last = reading.beyond[0], reading.beyond[-1]
    age_s = reading.vault.rpc.time_s() - first.time_s
    epochs = f"epoch {first.event.epoch}" + (f" to {last.event.epoch}" if first is not last else "")
    text = (
        f"{epochs} of vault {number}: posted up to {max(0, age_s)} s ago, over {last.header.journal_size} entries of "
        f"which {found.size} were read"
    )
    found.unchecked.append(text)
    if age_s > request.tolerance_s:
        found.behind.append(text)


def _unchecked(request: Request, found: Audit, start: Start | None, note: bool, size: int) -> list[str]:
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
        texts.append(
            f"the signed checkpoint: {'it is older than the start' if note else 'the journal came without one'}"
        )
    elif size < found.size:
        texts.append(f"entries from {size} on are not in the signed checkpoint yet")
    texts += _not_posted(found)
    if request.policy is None:
        texts.append("witnesses: no --policy was given, so nobody but the operator vouches that there is one history")
    return texts


def _not_posted(found: Audit) -> list[str]:
    """Entries that no posted epoch commits to, where chains were read: their operator may still write others."""
    if not found.vaults:
        return []
    epochs = {epoch for vault in found.vaults for epoch in vault.posted}
    sizes = [epoch.journal_size for epoch in found.report.epochs if epoch.outcome.epoch in epochs]
    last = max([*sizes, found.report.first])
    return [f"entries from {last} on were in no posted epoch when the chains were read"] if last < found.size else []


# --- without entries ---


def _by_hashes(request: Request, counts: list[int]) -> Audit:
    """What hashes alone show: that every posted journal root is this log's, that the posted sums are covered, that the
    posted times are sound, who signed the checkpoint and who witnessed it. No entry, no outcome, no balance."""
    source = request.source
    assert isinstance(source, LogSource), "any other source has its entries"
    if request.epoch:
        raise NovateError("ENTRIES_UNREADABLE", "the entries of this log cannot be read, so no audit can begin at one")
    note, size = source.note(), source.size()
    found = Audit(None, ReplayReport(), False, size, source.root(size), replayed=False)
    for number, (vault, count) in enumerate(zip(request.vaults, counts, strict=True)):
        reading = read(vault, count, size)
        place = f"0x{vault.address.hex()} on chain {reading.chain_id}"
        faults = [fault for one in reading.posted for fault in _rooted(source, vault, reading.chain_id, one)]
        headers = [one.header for one in reading.posted]
        _look(request, found, number, reading, headers, [*faults, *unlisted(reading)])
        found.unchecked.append(f"whether {place} is a vault of this journal, but for the roots that it holds")
    found.checkpoint = check_policy(note, request.policy)
    found.findings += found.checkpoint.findings
    form = "private, and no key was given" if source.log().form == "private" else "not in this copy"
    found.unchecked.append(
        f"entries: they are {form}; no signature, outcome, balance, liquidation or parameter was checked, and posted "
        "state and exit roots are the operator's word"
    )
    if not request.vaults:
        found.unchecked.append("vaults: no --rpc and --vault was given, so nothing was compared with a chain")
    if request.policy is None:
        found.unchecked.append("who signed the checkpoint, and who witnessed it: no --policy was given")
    return found


def _rooted(source: LogSource, vault: VaultClient, chain_id: int, one: Posted) -> list[Finding]:
    """A posted header against the log's hashes."""
    header, epoch, found = one.header, one.event.epoch, []
    if one.stored != one.event.header_hash or header.hash() != one.stored or header.epoch != epoch:
        message = f"epoch {epoch}: the vault stores {one.stored.hex()}, its log shows {header.hash().hex()}"
        found.append(Finding("HEADER_DIFFERS", epoch, message))
    if header.domain != exit_domain(chain_id, vault.address):
        found.append(Finding("HEADER_DIFFERS", epoch, f"the header of epoch {epoch} is another vault's"))
    root = source.root(header.journal_size)
    if root != header.journal_root:
        message = (
            f"epoch {epoch}: posted journal root 0x{header.journal_root.hex()} of {header.journal_size} entries, the "
            f"log has 0x{root.hex()}"
        )
        found.append(Finding("HEADER_DIFFERS", epoch, message))
    return found
