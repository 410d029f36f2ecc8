# SPDX-License-Identifier: GPL-3.0-or-later
"""The replayed journal against the chain: was what the operator posted what the journal says?

Findings and not exceptions: an auditor wants all of them. Faults of the endpoint are `ChainError`s,
since then nothing was found out.
"""

from dataclasses import replace
from typing import Final

from clearing.audit.findings import Finding
from clearing.audit.money import money
from clearing.audit.replay import ReplayReport
from clearing.chain.structs import EpochEvent
from clearing.chain.vault import InboxEvent, VaultClient
from clearing.core.state import State
from clearing.core.vaults import VaultState
from clearing.model import ids
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from proofs.header import Header

__all__ = ["Finding", "beyond", "compare_with_chain", "identity", "number_of"]

# An operator stops closing epochs once it sees a freeze; this much later nobody can have missed it.
_FREEZE_GRACE_US: Final = 3_600_000_000


def compare_with_chain(report: ReplayReport, vault: VaultClient, posted: int | None = None) -> list[Finding]:
    """Every disagreement between a replay and one of its vaults; empty means that they agree.

    `posted`: how many epochs the vault held before the journal was read, when an operator goes on meanwhile.

    Raises `ChainError` when the chain cannot be read, `NovateError` NO_GENESIS for an empty report.
    """
    if report.state is None:
        raise NovateError("NO_GENESIS", "the replay read no genesis, so there is nothing to compare")
    number = number_of(report.state.genesis, vault)
    if number is None:
        told = ", ".join(f"0x{v.address.hex()} on chain {v.chain_id}" for v in report.state.genesis.vaults)
        message = (
            f"0x{vault.address.hex()} on chain {vault.rpc.chain_id()} is no vault of this journal, which has {told}"
        )
        return [Finding("WRONG_VAULT", 0, message)]
    found = identity(report.state, number, vault)
    if not found:
        messages = vault.inbox()
        found = (
            _headers(report, number, vault, vault.epoch_count() if posted is None else posted)
            + _inbox(report.state.vaults[number], messages)
            + _solvency(report, number, messages)
            + money(vault)[1]
            + _freeze(report, number, vault)
        )
    return [replace(finding, vault=number) for finding in found]


def number_of(genesis: Genesis, vault: VaultClient) -> int | None:
    """Which vault of genesis this is; None when it is none. Raises `ChainError`."""
    place = vault.rpc.chain_id(), vault.address
    return next((n for n, spec in enumerate(genesis.vaults) if (spec.chain_id, spec.address) == place), None)


def identity(state: State, number: int, vault: VaultClient) -> list[Finding]:
    """What genesis says of one of its vaults against the vault itself. A journal is compared with its own vaults or
    not at all. Raises `ChainError`."""
    genesis = state.genesis.vaults[number]
    governor = vault.governor()
    pairs = (
        ("deployment id", vault.deployment_id(), state.deployment),
        ("exit domain", vault.domain(), state.vaults[number].exit_tree.domain),
        ("treasury", vault.treasury(), state.genesis.treasury),
        ("tokens", list(vault.tokens()), list(genesis.tokens)),
        ("attestors", list(vault.attestors()), list(genesis.attestors)),
        ("threshold", vault.threshold(), genesis.threshold),
        ("governor", b"" if governor == bytes(20) else governor, genesis.governor),
    )
    return [
        Finding(
            "WRONG_VAULT",
            0,
            f"the vault's {name} is {_text(theirs)}, the journal's genesis says {_text(ours)}",
        )
        for name, theirs, ours in pairs
        if theirs != ours
    ]


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def beyond(events: list[EpochEvent], size: int) -> list[EpochEvent]:
    """The posted epochs that commit to more than the first `size` entries: what says nothing for or against these."""
    return [event for event in events if Header.decode(event.header).journal_size > size]


def _headers(report: ReplayReport, number: int, vault: VaultClient, count: int) -> list[Finding]:
    """The first `count` epochs; a live operator may have posted more since the journal was read."""
    found: list[Finding] = []
    rebuilt = {epoch.outcome.epoch: epoch.headers[number] for epoch in report.epochs}
    posted = [event for event in vault.epochs(vault.first_block()) if event.epoch <= count]
    for event in posted:
        if event.epoch <= report.first_epoch:
            continue  # the audit began after it
        mine = rebuilt.get(event.epoch)
        if mine is None:
            message = f"epoch {event.epoch} was posted, but {report.size} journal entries give no such header"
            found.append(Finding("EPOCH_NOT_IN_JOURNAL", event.epoch, message))
        elif vault.header_hash(event.epoch) != mine.hash() or event.header != mine.encode():
            theirs, ours = event.header_hash.hex(), mine.hash().hex()
            message = f"epoch {event.epoch}: posted {theirs}, the journal gives {ours}"
            found.append(Finding("HEADER_DIFFERS", event.epoch, message))
    if [event.epoch for event in posted] != list(range(1, count + 1)):
        message = f"the vault holds {count} epochs, but its logs do not list them all"
        found.append(Finding("HEADER_DIFFERS", count, message))
    return found


def _inbox(state: VaultState, messages: list[InboxEvent]) -> list[Finding]:
    """`vault.inbox` checked the events against their rolling hash; the journal's must be among them."""
    count = state.inbox_count
    if count == 0:
        return []
    if count > len(messages):
        return [Finding("INBOX_DIFFERS", 0, f"the journal consumed {count} messages, the vault has {len(messages)}")]
    if messages[count - 1].rolling_hash != state.inbox_hash:
        message = f"the first {count} messages that the journal consumed are not the vault's"
        return [Finding("INBOX_DIFFERS", 0, message)]
    return []


def _solvency(report: ReplayReport, number: int, messages: list[InboxEvent]) -> list[Finding]:
    """Per epoch and asset, promises against the deposits it consumed."""
    found: list[Finding] = []
    paid_in: dict[int, int] = {}
    consumed = 0
    for epoch in report.epochs:
        part = epoch.outcome.vaults[number]
        if not part.live:
            continue
        for event in messages[consumed : part.inbox_count]:
            if event.message.kind == ids.INBOX_DEPOSIT:
                paid_in[event.message.asset] = paid_in.get(event.message.asset, 0) + event.message.amount
        consumed = max(consumed, part.inbox_count)
        for asset, promised in enumerate(part.exit_sums):
            if promised > paid_in.get(asset, 0):
                name = f"epoch {epoch.outcome.epoch}"
                message = f"{name} promises {promised} of asset {asset}; {paid_in.get(asset, 0)} were deposited"
                found.append(Finding("INSOLVENT", epoch.outcome.epoch, message))
    return found


def _freeze(report: ReplayReport, number: int, vault: VaultClient) -> list[Finding]:
    """What the journal says of a freeze against the chain.

    The reducer admits only leaves and messages that it committed to at the escape epoch; so once epoch, header and
    consumed messages are the contract's, what it debited is what escapes and refunds pay.
    """
    assert report.state is not None
    epoch = report.state.vaults[number].frozen
    frozen = vault.frozen()
    if epoch is None:
        return _ignored(report, vault.frozen_at_s()) if frozen else []
    if not frozen:
        return [Finding("FALSE_FREEZE", epoch, "the journal froze this vault, its chain says that it is live")]
    closed = {e.outcome.epoch: e for e in report.epochs}.get(epoch)
    header = closed.headers[number] if closed is not None else None
    if header is None and 0 < epoch <= report.first_epoch:
        return []  # the audit began after it
    ours = (
        ("epoch", epoch, vault.escape_epoch()),
        ("header", header.hash() if header is not None else bytes(32), vault.escape_header()),
        ("consumed messages", header.inbox_count if header is not None else 0, vault.escape_inbox_count()),
    )
    return [
        Finding("ESCAPE_DIFFERS", epoch, f"the escape's {name} is {_text(theirs)}, the journal settled {_text(mine)}")
        for name, mine, theirs in ours
        if mine != theirs
    ]


def _ignored(report: ReplayReport, frozen_at_s: int) -> list[Finding]:
    """Epochs that were closed long after a freeze that the journal does not know."""
    late = [e for e in report.epochs if e.close_time_us > frozen_at_s * 1_000_000 + _FREEZE_GRACE_US]
    if not late:
        return []
    message = (
        f"frozen at {frozen_at_s} (seconds UTC), but epochs were closed from {late[0].outcome.epoch} on without it"
    )
    return [Finding("FREEZE_IGNORED", late[0].outcome.epoch, message)]
