# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests past the operator: what became of them, and from when silence has consequences.

Rules: a request is a message of the vault's inbox. A header that consumes it binds the operator to have dealt
with it, which whoever replays the journal checks (attestors before they sign); the contract alone knows
whether it was consumed. If not, anyone may freeze the vault a deadline after it was sent, and everyone leaves
with the last final header. Times are seconds UTC by the chain's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from clearing.chain.rpc import Log, Receipt, hexed
from clearing.chain.vault import VaultClient
from clearing.exit.assets import Asset
from clearing.exit.errors import ExitError
from clearing.exit.outlook import duration, moment
from clearing.exit.rebuild import require_vault
from proofs.header import Header
from proofs.inbox import FORCED_EXIT, FORCED_WITHDRAWAL, InboxMessage


class Fate(StrEnum):
    """What became of a request."""

    WAITING = "waiting"  # no header consumed it yet
    CONSUMED = "consumed"  # by a header that is not final yet
    FINAL = "final"  # by a header that is final
    VOID = "void"  # the vault froze before a header that consumed it was final


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `epoch` is the header that consumed it (0: none); `deadline_s` is when anyone may freeze if
    it is still waiting then."""

    message: InboxMessage
    fate: Fate
    epoch: int
    deadline_s: int

    def lines(self, assets: Sequence[Asset], now_s: int) -> list[str]:
        """For people."""
        lines = [f"request {self.message.index}: {what(self.message, assets)}, sent {moment(self.message.l1_time)}"]
        match self.fate:
            case Fate.WAITING if now_s >= self.deadline_s:
                lines.append("  waiting, and overdue: anyone may freeze the vault now; run: novate exit")
            case Fate.WAITING:
                left = duration(self.deadline_s - now_s)
                lines.append(f"  waiting; if it is not dealt with in {left} (at {moment(self.deadline_s)}),")
                lines.append("  anyone may freeze the vault: come back then and run: novate exit")
            case Fate.CONSUMED:
                lines.append(f"  consumed by epoch {self.epoch}, which is not final yet")
            case Fate.FINAL:
                lines.append(f"  consumed by epoch {self.epoch}, which is final; what it paid: novate claim")
            case Fate.VOID:
                lines.append("  void: the vault froze before; you leave with everything: novate exit")
        return lines


def what(message: InboxMessage, assets: Sequence[Asset]) -> str:
    """The request in words."""
    sub = int.from_bytes(message.data, "big")
    of = f" of sub-account {sub}" if sub else ""
    if message.kind == FORCED_EXIT:
        return f"close everything{of} and pay it out"
    known = assets[message.asset] if message.asset < len(assets) else None
    if not message.amount:
        return f"withdraw all free {known.symbol if known else f'asset {message.asset}'}{of}"
    return f"withdraw {known.text(message.amount) if known else message.amount}{of}"


def require_live(vault: VaultClient, owner: bytes) -> None:
    """Raises `ExitError` WRONG_DOMAIN, VAULT_FROZEN, HOUSE_REQUEST when a request would be refused."""
    require_vault(vault)
    if vault.frozen():
        raise ExitError("VAULT_FROZEN", "the vault is frozen and takes no requests; leave with everything: novate exit")
    if vault.treasury() == owner:
        raise ExitError("HOUSE_REQUEST", "the house cannot force anything; its money leaves by governance")


def require_asset(vault: VaultClient, asset: int) -> None:
    """Raises `ExitError` UNKNOWN_ASSET."""
    lanes = len(vault.tokens())
    if not 0 <= asset < lanes:
        raise ExitError("UNKNOWN_ASSET", f"the vault has assets 0 to {lanes - 1}, not {asset}; choose --asset")


def sent_in(vault: VaultClient, receipt: Receipt) -> InboxMessage:
    """The request that a transaction sent. Raises `ExitError` UNKNOWN_REQUEST."""
    topic = vault.abi.events["InboxMessagePosted"].topic
    for log in receipt.logs:
        if log.address == vault.address and log.topics[:1] == (topic,):
            return _message(vault, log)
    raise ExitError("UNKNOWN_REQUEST", f"{hexed(receipt.tx_hash)} sent no message to this vault's inbox")


def requests(vault: VaultClient, owner: bytes) -> list[Request]:
    """All requests of an owner, in order. Each one is checked against the inbox's rolling hash; an endpoint that
    hides one cannot be found out, so ask another if one is missing.

    Raises `ExitError` WRONG_DOMAIN, `ChainError` RPC_*.
    """
    require_vault(vault)
    topics = [vault.abi.events["InboxMessagePosted"].topic, None, owner.rjust(32, b"\0")]
    found = [_message(vault, log) for log in vault.rpc.logs(vault.address, topics, vault.first_block())]
    asked = [message for message in found if message.kind in (FORCED_WITHDRAWAL, FORCED_EXIT)]
    for message in asked:
        _require_genuine(vault, message)
    return [_judged(vault, message) for message in asked]


def request_of(vault: VaultClient, message: InboxMessage) -> Request:
    """What became of one request. Raises `ChainError` RPC_*."""
    return _judged(vault, message)


def _message(vault: VaultClient, log: Log) -> InboxMessage:
    fields = vault.abi.log("InboxMessagePosted", log.topics, log.data)
    names = ("kind", "index", "owner", "asset", "amount", "l1Time", "data")
    return InboxMessage(*(fields[name] for name in names))


def _require_genuine(vault: VaultClient, message: InboxMessage) -> None:
    known = message.index < vault.inbox_count()
    if not known or message.roll(vault.inbox_hash(message.index)) != vault.inbox_hash(message.index + 1):
        text = f"message {message.index} in the logs is not the inbox's; try another --rpc"
        raise ExitError("UNKNOWN_REQUEST", text)


def _judged(vault: VaultClient, message: InboxMessage) -> Request:
    deadline = message.l1_time + vault.deadline_s()
    frozen = vault.frozen()
    consumed = vault.escape_inbox_count() if frozen else vault.consumed_count()
    if message.index >= consumed:
        return Request(message, Fate.VOID if frozen else Fate.WAITING, 0, deadline)
    epoch = _consuming_epoch(vault, message)
    final = frozen or epoch <= vault.finalised_epoch()
    return Request(message, Fate.FINAL if final else Fate.CONSUMED, epoch, deadline)


def _consuming_epoch(vault: VaultClient, message: InboxMessage) -> int:
    """The first header that counts the message among those consumed."""
    for event in vault.epochs(vault.rpc.first_block_at(message.l1_time)):
        known = vault.header_hash(event.epoch) == event.header_hash
        if known and Header.decode(event.header).inbox_count > message.index:
            return event.epoch
    text = f"the header that consumed request {message.index} is not in the logs; try another --rpc"
    raise ExitError("HEADER_MISSING", text)
