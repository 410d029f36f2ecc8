# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's client: typed reads, log scans, and one sender per contract function.

Rules: reads need no key and import nothing slow. Scans check what they can on the spot (a chunk
against its hash, a header against the event's hash, the inbox against its rolling hash), so that
a lying or truncated log source is an error and not a wrong tree. Amounts are atoms of the asset,
addresses 20 bytes, hashes 32 bytes, contract times seconds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from clearing.chain.abi import Interface, interface
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Log, Receipt, Rpc, hexed
from clearing.chain.transact import Sender, explained
from clearing.chain.wallet import Wallet
from proofs.inbox import InboxMessage


class InboxEvent(NamedTuple):
    """A message of the vault's queue, the rolling hash after it, and the block it stands in."""

    message: InboxMessage
    rolling_hash: bytes
    block_number: int


class EpochEvent(NamedTuple):
    """A posted header: its bytes and the transaction that posted it."""

    epoch: int
    header_hash: bytes
    header: bytes
    block_number: int
    tx_hash: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The arguments of `claim` and `escape`: a header, a leaf, and its path from the bottom up."""

    header: bytes
    index: int
    owner: bytes
    exits: tuple[int, ...]
    withdraw_acks: tuple[int, ...]
    siblings: tuple[bytes, ...]
    sibling_sums: tuple[int, ...]

    def arguments(self) -> tuple[Any, ...]:
        """The values in the contract's order."""
        leaf = self.index, self.owner, self.exits, self.withdraw_acks
        return self.header, *leaf, self.siblings, self.sibling_sums


def refund_arguments(message: InboxMessage) -> tuple[Any, ...]:
    """The arguments of the contract's `refund` for a deposit."""
    head = message.index, message.owner, message.asset, message.amount
    return *head, message.l1_time, message.data


def _inbox_event(log: Log, fields: dict[str, Any]) -> InboxEvent:
    names = ("kind", "index", "owner", "asset", "amount", "l1Time", "data")
    return InboxEvent(InboxMessage(*(fields[name] for name in names)), fields["rollingHash"], log.block_number)


def _altered(what: str) -> ChainError:
    return ChainError("RPC_BAD_DATA", f"{what} is missing from the logs or altered; try another --rpc")


class VaultClient:
    """One vault behind one endpoint. With a `wallet` it can also send.

    Every method raises `ChainError`; reads TX_REVERTED, RPC_*; sends what `Sender.send` raises.
    """

    def __init__(self, rpc: Rpc, address: bytes, wallet: Wallet | None = None, timeout_s: float = 180.0) -> None:
        self.rpc, self.address = rpc, address
        self.abi: Interface = interface("Vault")
        self._token_abi: Interface = interface("TestToken")
        self._wallet, self._timeout_s = wallet, timeout_s
        self._tokens: list[bytes] | None = None

    def require_code(self) -> None:
        """Raises `ChainError` NO_CODE when there is no contract at the address."""
        if not self.rpc.code(self.address):
            text = f"no contract at {hexed(self.address)} on {self.rpc.url}; check the address and --rpc"
            raise ChainError("NO_CODE", text)

    # -- reads

    def read(self, name: str, *values: Any) -> Any:
        """A view's value. Raises `ChainError` NO_CODE when nothing answers at the address."""
        try:
            data = self.rpc.call(self.address, self.abi.call(name, *values))
        except ChainError as error:
            raise explained(error, [self.abi]) from None
        if not data:
            self.require_code()
        return self.abi.result(name, data)

    def frozen(self) -> bool:
        return bool(self.read("frozen"))

    def frozen_at_s(self) -> int:
        """The time of the freeze; zero while live."""
        return int(self.read("frozenAt"))

    def epoch_count(self) -> int:
        return int(self.read("epochCount"))

    def header_hash(self, epoch: int) -> bytes:
        return bytes(self.read("headerHash", epoch))

    def finalised_epoch(self) -> int:
        """The last epoch whose challenge window is over; zero if there is none."""
        return int(self.read("finalisedEpoch"))

    def header_block(self, epoch: int) -> int:
        """The block of an epoch's event; zero if there is no such epoch."""
        return int(self.read("headerBlock", epoch))

    def header_time_s(self, epoch: int) -> int:
        return int(self.read("headerTime", epoch))

    def inbox_count(self) -> int:
        return int(self.read("inboxCount"))

    def inbox_hash(self, count: int) -> bytes:
        """The rolling hash after the first `count` messages."""
        return bytes(self.read("inboxHash", count))

    def inbox_time_s(self, index: int) -> int:
        return int(self.read("inboxTime", index))

    def first_block(self) -> int:
        """The block of the deployment: no log of this vault is older."""
        return self.rpc.first_block_at(int(self.read("deployedAt")))

    def consumed_count(self) -> int:
        """Inbox messages that the last posted header consumed."""
        return int(self.read("consumedCount"))

    def escaped(self, owner: bytes) -> bool:
        return bool(self.read("escaped", owner))

    def refunded(self, index: int) -> bool:
        return bool(self.read("refunded", index))

    def escape_inbox_count(self) -> int:
        """Messages that the escape header consumed; later deposits are refunded."""
        return int(self.read("escapeInboxCount"))

    def claimed_of(self, owner: bytes, asset: int) -> int:
        return int(self.read("claimedOf", owner, asset))

    def credit(self, owner: bytes, asset: int) -> int:
        return int(self.read("credit", owner, asset))

    def holdings(self, asset: int) -> int:
        return int(self.read("holdings", asset))

    def freeze_at_s(self) -> int:
        """The time from which anyone may freeze."""
        return int(self.read("freezeAt"))

    def escape_epoch(self) -> int:
        return int(self.read("escapeEpoch"))

    def escape_header(self) -> bytes:
        return bytes(self.read("escapeHeader"))

    def domain(self) -> bytes:
        return bytes(self.read("domain"))

    def deployment_id(self) -> bytes:
        return bytes(self.read("deploymentId"))

    def operator(self) -> bytes:
        return bytes(self.read("operator"))

    def treasury(self) -> bytes:
        return bytes(self.read("treasury"))

    def tokens(self) -> list[bytes]:
        if self._tokens is None:
            self._tokens = cast("list[bytes]", self.read("tokens"))
        return self._tokens

    def deadline_s(self) -> int:
        return int(self.read("deadlineSeconds"))

    def challenge_window_s(self) -> int:
        return int(self.read("challengeWindowSeconds"))

    def token_balance(self, asset: int, owner: bytes) -> int:
        """What `owner` holds of the vault's asset, by the token itself."""
        data = self._token_abi.call("balanceOf", owner)
        return int(self._token_abi.result("balanceOf", self.rpc.call(self.tokens()[asset], data)))

    # -- scans

    def _logs(
        self, event: str, from_block: int, to_block: int | None, *topics: bytes
    ) -> list[tuple[Log, dict[str, Any]]]:
        keys = [self.abi.events[event].topic, *topics]
        found = self.rpc.logs(self.address, keys, from_block, to_block)
        return [(log, self.abi.log(event, log.topics, log.data)) for log in found]

    def inbox(self, first: int = 0, to_block: int | None = None) -> list[InboxEvent]:
        """Messages from index `first` on, in order, up to block `to_block` (None: all there are).

        Found by time and not by a scan from the chain's beginning. Raises `ChainError` RPC_BAD_DATA
        when one is missing or does not fit the rolling hash that the contract holds.
        """
        count = self.inbox_count()
        if first >= count:
            return []
        rolling, messages = self.inbox_hash(first), list[InboxEvent]()
        start = self.rpc.first_block_at(self.inbox_time_s(first))
        for log, fields in self._logs("InboxMessagePosted", start, to_block):
            if fields["index"] < first:
                continue  # an earlier message of the same block
            event = _inbox_event(log, fields)
            rolling = event.message.roll(rolling)
            if event.message.index != first + len(messages) or event.rolling_hash != rolling:
                break
            messages.append(event)
        else:
            if to_block is not None or first + len(messages) >= count:
                return messages
        missing = first + len(messages)
        raise _altered(f"inbox message {missing}")

    def epochs(self, from_block: int = 0, to_block: int | None = None, epoch: int | None = None) -> list[EpochEvent]:
        """Posted headers in order (only `epoch` when given); bytes checked against their hash."""
        topics = () if epoch is None else (epoch.to_bytes(32, "big"),)
        events = []
        for log, fields in self._logs("EpochPosted", from_block, to_block, *topics):
            header = fields["header"]
            if hashlib.sha256(header).digest() != fields["headerHash"]:
                raise _altered(f"the header of epoch {fields['epoch']}")
            place = log.block_number, log.tx_hash
            events.append(EpochEvent(fields["epoch"], fields["headerHash"], header, *place))
        return events

    def diffs(self, from_block: int = 0, to_block: int | None = None) -> dict[bytes, bytes]:
        """Published chunks by their hash, in order of publication."""
        chunks: dict[bytes, bytes] = {}
        for _, fields in self._logs("DiffPublished", from_block, to_block):
            chunk = fields["chunk"]
            if hashlib.sha256(chunk).digest() != fields["chunkHash"]:
                raise _altered(f"diff chunk {hexed(fields['chunkHash'])}")
            chunks.setdefault(fields["chunkHash"], chunk)
        return chunks

    def diff(self, chunk_hash: bytes) -> bytes | None:
        """One chunk, from the block where the contract says it was published; None when not found."""
        block = int(self.read("diffBlock", chunk_hash))
        return self.diffs(block, block).get(chunk_hash) if block else None

    def posted_chunks(self, event: EpochEvent) -> list[bytes] | None:
        """The chunk hashes named by the transaction that posted an epoch; None when unreadable.

        A call through another contract (a Safe) carries ours inside its own, so our selector is
        looked for anywhere. The caller checks the list against the header's diff hash.
        """
        found = self.rpc.transaction(event.tx_hash)
        if found is None:
            return None
        calldata, selector, at = found[1], self.abi.functions["postEpoch"].selector, -1
        while (at := calldata.find(selector, at + 1)) >= 0:
            try:
                header, chunks, _ = self.abi.arguments("postEpoch", calldata[at:])
            except ChainError:
                continue
            if header == event.header:
                return list(chunks)
        return None

    def credits_in(self, receipt: Receipt) -> dict[int, int]:
        """Atoms by asset that a transaction credited because the token refused the transfer."""
        topic = self.abi.events["Credited"].topic
        found: dict[int, int] = {}
        for log in receipt.logs:
            if log.address == self.address and log.topics[:1] == (topic,):
                fields = self.abi.log("Credited", log.topics, log.data)
                found[fields["asset"]] = found.get(fields["asset"], 0) + fields["amount"]
        return found

    # -- sends

    @property
    def wallet(self) -> Wallet:
        if self._wallet is None:
            raise ChainError("KEY_FILE", "this needs a key that pays the fee; pass a key file")
        return self._wallet

    def sender(self) -> Sender:
        return Sender(self.rpc, self.wallet, [self.abi, self._token_abi], self._timeout_s)

    def send(self, name: str, *values: Any) -> Receipt:
        """Call any function of the contract in a transaction. Raises as `Sender.send`."""
        return self.sender().send(self.address, self.abi.call(name, *values))

    def estimate(self, name: str, *values: Any) -> int:
        """Gas of a call by the wallet, or by the zero address without one; names its revert."""
        payer = self._wallet.address if self._wallet is not None else bytes(20)
        try:
            return self.rpc.estimate_gas(payer, self.address, self.abi.call(name, *values))
        except ChainError as error:
            raise explained(error, [self.abi, self._token_abi]) from None

    def allowance(self, asset: int) -> int:
        data = self._token_abi.call("allowance", self.wallet.address, self.address)
        return int(self._token_abi.result("allowance", self.rpc.call(self.tokens()[asset], data)))

    def deposit(self, asset: int, amount: int, owner: bytes) -> Receipt:
        """Deposit from the wallet for `owner`, approving exactly the amount when needed."""
        tokens = self.tokens()
        if not 0 <= asset < len(tokens):
            raise ChainError("INVALID_ARGUMENT", f"the vault has assets 0 to {len(tokens) - 1}, not {asset}")
        if self.allowance(asset) < amount:
            self.sender().send(tokens[asset], self._token_abi.call("approve", self.address, amount))
        return self.send("deposit", asset, amount, owner)

    def publish_diff(self, chunk: bytes) -> Receipt:
        return self.send("publishDiff", chunk)

    def post_epoch(self, header: bytes, chunk_hashes: Sequence[bytes], signature: bytes) -> Receipt:
        return self.send("postEpoch", header, list(chunk_hashes), signature)

    def claim(self, claim: Claim) -> Receipt:
        return self.send("claim", *claim.arguments())

    def escape(self, claim: Claim) -> Receipt:
        return self.send("escape", *claim.arguments())

    def freeze(self) -> Receipt:
        return self.send("freeze")

    def refund(self, message: InboxMessage) -> Receipt:
        return self.send("refund", *refund_arguments(message))

    def withdraw_credit(self, asset: int, owner: bytes) -> Receipt:
        return self.send("withdrawCredit", asset, owner)
