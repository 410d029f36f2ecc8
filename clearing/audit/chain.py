# SPDX-License-Identifier: GPL-3.0-or-later
"""The replayed journal against the chain: was what the operator posted what the journal says?

Findings and not exceptions: an auditor wants all of them. Faults of the endpoint are `ChainError`s,
since then nothing was found out.
"""

from dataclasses import dataclass

from clearing.audit.replay import ReplayReport
from clearing.chain.vault import InboxEvent, VaultClient
from clearing.core.state import State
from clearing.model import ids
from clearing.model.errors import NovateError


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. `epoch` is 0 when it concerns no epoch. Codes: WRONG_VAULT, HEADER_DIFFERS,
    EPOCH_NOT_IN_JOURNAL, INBOX_DIFFERS, INSOLVENT, TOKENS_MISSING."""

    code: str
    epoch: int
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def compare_with_chain(report: ReplayReport, vault: VaultClient, posted: int | None = None) -> list[Finding]:
    """Every disagreement between a replay and its vault; empty means that they agree.

    `posted`: how many epochs the vault held before the journal was read, when an operator goes on meanwhile.

    Raises `ChainError` when the chain cannot be read, `NovateError` NO_GENESIS for an empty report.
    """
    if report.state is None:
        raise NovateError("NO_GENESIS", "the replay read no genesis, so there is nothing to compare")
    wrong = _identity(report.state, vault)
    if wrong:
        return wrong
    messages = vault.inbox()
    return (
        _headers(report, vault, vault.epoch_count() if posted is None else posted)
        + _inbox(report, messages)
        + _solvency(report, vault, messages)
    )


def _identity(state: State, vault: VaultClient) -> list[Finding]:
    """A journal is compared with its own vault or not at all."""
    genesis = state.genesis.vaults[0]
    pairs = (
        ("chain id", vault.rpc.chain_id(), genesis.chain_id),
        ("address", vault.address, genesis.address),
        ("deployment id", vault.deployment_id(), state.deployment),
        ("exit domain", vault.domain(), state.exit_tree.domain),
        ("treasury", vault.treasury(), state.genesis.treasury),
        ("tokens", list(vault.tokens()), list(genesis.tokens)),
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
        return ", ".join(map(_text, value))
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _headers(report: ReplayReport, vault: VaultClient, count: int) -> list[Finding]:
    """The first `count` epochs; a live operator may have posted more since the journal was read."""
    found: list[Finding] = []
    rebuilt = {epoch.outcome.epoch: epoch.header for epoch in report.epochs}
    posted = [event for event in vault.epochs(vault.first_block()) if event.epoch <= count]
    for event in posted:
        mine = rebuilt.get(event.epoch)
        if mine is None:
            message = f"epoch {event.epoch} was posted, but {report.size} journal entries do not close it"
            found.append(Finding("EPOCH_NOT_IN_JOURNAL", event.epoch, message))
        elif vault.header_hash(event.epoch) != mine.hash() or event.header != mine.encode():
            theirs, ours = event.header_hash.hex(), mine.hash().hex()
            message = f"epoch {event.epoch}: posted {theirs}, the journal gives {ours}"
            found.append(Finding("HEADER_DIFFERS", event.epoch, message))
    if [event.epoch for event in posted] != list(range(1, count + 1)):
        message = f"the vault holds {count} epochs, but its logs do not list them all"
        found.append(Finding("HEADER_DIFFERS", count, message))
    return found


def _inbox(report: ReplayReport, messages: list[InboxEvent]) -> list[Finding]:
    """`vault.inbox` checked the events against their rolling hash; the journal's must be among them."""
    state = report.state
    assert state is not None
    count = state.inbox_count
    if count == 0:
        return []
    if count > len(messages):
        return [Finding("INBOX_DIFFERS", 0, f"the journal consumed {count} messages, the vault has {len(messages)}")]
    if messages[count - 1].rolling_hash != state.inbox_hash:
        message = f"the first {count} messages that the journal consumed are not the vault's"
        return [Finding("INBOX_DIFFERS", 0, message)]
    return []


def _solvency(report: ReplayReport, vault: VaultClient, messages: list[InboxEvent]) -> list[Finding]:
    """Per epoch and asset, promises against the deposits it consumed; and the tokens themselves."""
    found: list[Finding] = []
    for epoch in report.epochs:
        outcome = epoch.outcome
        for asset, promised in enumerate(outcome.exit_sums):
            consumed = messages[: outcome.inbox_count]
            paid_in = sum(m.amount for m, *_ in consumed if m.kind == ids.INBOX_DEPOSIT and m.asset == asset)
            if promised > paid_in:
                message = f"epoch {outcome.epoch} promises {promised} of asset {asset}; {paid_in} were deposited"
                found.append(Finding("INSOLVENT", outcome.epoch, message))
    for asset in range(len(vault.tokens())):
        held, owed = vault.token_balance(asset, vault.address), vault.holdings(asset)
        if held < owed:
            message = f"the vault holds {held} atoms of asset {asset}, its books say {owed}"
            found.append(Finding("TOKENS_MISSING", 0, message))
    return found
