# SPDX-License-Identifier: GPL-3.0-or-later
"""The replayed journal against one vault: was what the operator posted what the journal says?

Findings and not exceptions: an auditor wants all of them. Faults of the endpoint are `ChainError`s,
since then nothing was found out.
"""

from dataclasses import replace
from typing import Final

from clearing.audit.chain.identity import identity, number_of, shown, stranger
from clearing.audit.chain.money import balances, money
from clearing.audit.chain.reading import Reading, read
from clearing.audit.findings import Finding
from clearing.audit.replay import ReplayReport
from clearing.chain.vault import VaultClient
from clearing.core.vaults import VaultState
from clearing.model.errors import NovateError
from proofs.header import Header

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
        return [Finding("WRONG_VAULT", 0, stranger(report.state.genesis, vault))]
    found = identity(report.state, number, vault)
    if not found:
        reading = read(vault, vault.epoch_count() if posted is None else posted)
        rows = balances(reading, headers_of(report, number))[1]
        found = disagreements(report, number, reading) + rows + money(reading)[1]
    return [replace(finding, vault=number) for finding in found]


def headers_of(report: ReplayReport, number: int) -> list[Header]:
    """A vault's headers as the replay gives them."""
    return [header for epoch in report.epochs if (header := epoch.headers[number]) is not None]


def disagreements(report: ReplayReport, number: int, reading: Reading) -> list[Finding]:
    """What a vault has otherwise than the replay: headers, messages, a freeze. Raises `ChainError`."""
    assert report.state is not None, "the journal was replayed"
    return (
        _headers(report, number, reading)
        + _inbox(report.state.vaults[number], reading)
        + _freeze(report, number, reading.vault)
    )


def unlisted(reading: Reading) -> list[Finding]:
    """That the logs leave an epoch out."""
    if reading.listed():
        return []
    message = f"the vault holds {reading.count} epochs, but its logs do not list them all"
    return [Finding("HEADER_DIFFERS", reading.count, message)]


def _headers(report: ReplayReport, number: int, reading: Reading) -> list[Finding]:
    found: list[Finding] = []
    rebuilt = {header.epoch: header for header in headers_of(report, number)}
    for event, header, stored in ((one.event, one.header, one.stored) for one in reading.posted):
        if event.epoch <= report.first_epoch:
            continue  # the audit began after it
        mine = rebuilt.get(event.epoch)
        if mine is None:
            message = f"epoch {event.epoch} was posted, but {report.size} journal entries give no such header"
            found.append(Finding("EPOCH_NOT_IN_JOURNAL", event.epoch, message))
        elif stored != mine.hash() or event.header != mine.encode():
            message = f"epoch {event.epoch}: posted {stored.hex()}, the journal gives {mine.hash().hex()}"
            found.append(Finding("HEADER_DIFFERS", event.epoch, f"{message}{parted(header, mine)}"))
    return found + unlisted(reading)


def parted(posted: Header, mine: Header) -> str:
    """The fields in which two headers differ, with both sides; "" where the bytes in the log are the same."""
    names = [name for name in mine.__struct_fields__ if getattr(posted, name) != getattr(mine, name)]
    told = "; ".join(
        f"{name}: the vault has {shown(getattr(posted, name))}, replay {shown(getattr(mine, name))}" for name in names
    )
    return f" ({told})" if told else ""


def _inbox(state: VaultState, reading: Reading) -> list[Finding]:
    """The messages were checked against the vault's rolling hash; the journal's must be among them."""
    count, messages = state.inbox_count, reading.messages
    if count == 0:
        return []
    if count > len(messages):
        return [Finding("INBOX_DIFFERS", 0, f"the journal consumed {count} messages, the vault has {len(messages)}")]
    if messages[count - 1].rolling_hash != state.inbox_hash:
        message = f"the first {count} messages that the journal consumed are not the vault's"
        return [Finding("INBOX_DIFFERS", 0, message)]
    return []


def _freeze(report: ReplayReport, number: int, vault: VaultClient) -> list[Finding]:
    """What the journal says of a freeze against the chain.

    The reducer admits only leaves and messages that it committed to at the escape epoch; so once epoch, header and
    consumed messages are the contract's, what it debited is what escapes and refunds pay.
    """
    assert report.state is not None, "the journal was replayed"
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
        Finding("ESCAPE_DIFFERS", epoch, f"the escape's {name} is {shown(theirs)}, the journal settled {shown(mine)}")
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
