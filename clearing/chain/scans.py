# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's logs, read so that a lying or truncated log source is an error and not a wrong tree.

Rules: what can be checked on the spot is: a chunk against its hash, a header against the event's hash,
the inbox against the rolling hash that the contract holds. `to_block` None means: up to the head.
Every method raises `ChainError`: RPC_* (RPC_BAD_DATA when something is missing or altered).
"""

import hashlib
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.reads import VaultReads
from clearing.chain.rpc import Log, Receipt, hexed
from clearing.chain.structs import (
    BlobEvent,
    ChallengeEvent,
    EpochEvent,
    FaultEvent,
    InboxEvent,
    Payment,
    VetoEvent,
)
from proofs.inbox import InboxMessage


def _inbox_event(log: Log, fields: dict[str, Any]) -> InboxEvent:
    names = ("kind", "index", "owner", "asset", "amount", "l1Time", "data")
    return InboxEvent(InboxMessage(*(fields[name] for name in names)), fields["rollingHash"], log.block_number)


def _altered(what: str) -> ChainError:
    return ChainError("RPC_BAD_DATA", f"{what} is missing from the logs or altered; try another --rpc")


class VaultScans(VaultReads):
    """Log scans of one vault."""

    def _logs(
        self, event: str, from_block: int, to_block: int | None, *topics: bytes
    ) -> list[tuple[Log, dict[str, Any]]]:
        keys = [self.abi.events[event].topic, *topics]
        found = self.rpc.logs(self.address, keys, from_block, to_block)
        return [(log, self.abi.log(event, log.topics, log.data)) for log in found]

    def inbox(self, first: int = 0, to_block: int | None = None) -> list[InboxEvent]:
        """Messages from index `first` on, in order, up to block `to_block`.

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
        block = self.diff_block(chunk_hash)
        return self.diffs(block, block).get(chunk_hash) if block else None

    def blobs_published(self, from_block: int = 0, to_block: int | None = None) -> list[BlobEvent]:
        """Blobs that the vault took note of, by versioned hash. The chain forgets their content."""
        return [
            BlobEvent(fields["versionedHash"], log.block_number, log.tx_hash)
            for log, fields in self._logs("BlobPublished", from_block, to_block)
        ]

    def posted_chunks(self, event: EpochEvent) -> list[bytes] | None:
        """The chunk and blob hashes named by the transaction that posted an epoch; None when unreadable.

        A call through another contract (a Safe) carries ours inside its own, so our selector is
        looked for anywhere. The caller checks the list against the header's diff hash.
        """
        found = self.rpc.transaction(event.tx_hash)
        if found is None:
            return None
        calldata, selector, at = found[1], self.abi.functions["postEpoch"].selector, -1
        while (at := calldata.find(selector, at + 1)) >= 0:
            try:
                header, chunks, *_ = self.abi.arguments("postEpoch", calldata[at:])
            except ChainError:
                continue
            if header == event.header:
                return list(chunks)
        return None

    def vetoes(self, from_block: int = 0, to_block: int | None = None) -> list[VetoEvent]:
        """Vetoes in the order in which they were opened; how each stands is `veto_of`."""
        return [
            VetoEvent(f["epoch"], f["headerHash"], f["attestor"], f["evidence"], log.block_number, log.tx_hash)
            for log, f in self._logs("VetoOpened", from_block, to_block)
        ]

    def payments(self, from_block: int = 0, to_block: int | None = None) -> list[Payment]:
        """What claims, escapes and refunds took out of the holdings."""
        return [
            Payment(fields["asset"], fields["amount"], log.block_number)
            for event in ("Claimed", "Escaped", "Refunded")
            for log, fields in self._logs(event, from_block, to_block)
        ]

    def paid_out(self, from_block: int = 0, to_block: int | None = None) -> dict[int, int]:
        """Atoms by asset that claims, escapes and refunds took out of the holdings."""
        found: dict[int, int] = {}
        for payment in self.payments(from_block, to_block):
            found[payment.asset] = found.get(payment.asset, 0) + payment.amount
        return found

    def frozen_since(self, block: int) -> bool:
        """Whether the vault was frozen after this block. Times do not tell: blocks of fast chains share a second."""
        return bool(self._logs("Frozen", block + 1, None))

    def faults(self, from_block: int = 0, to_block: int | None = None) -> list[FaultEvent]:
        """Faults of the operator that were proven here."""
        return [
            FaultEvent(fields["kind"], fields["reporter"], log.block_number, log.tx_hash)
            for log, fields in self._logs("FaultProven", from_block, to_block)
        ]

    def challenges(self, from_block: int = 0, to_block: int | None = None) -> list[ChallengeEvent]:
        """Receipt challenges in order; whether one is still open is `challenge_of`."""
        return [
            ChallengeEvent(f["id"], f["by"], f["index"], f["leaf"], f["deadline"], log.block_number, log.tx_hash)
            for log, f in self._logs("ReceiptChallenged", from_block, to_block)
        ]

    def challenge_in(self, receipt: Receipt) -> int:
        """The number of the challenge that a transaction opened. Raises `ChainError` RPC_BAD_DATA."""
        topic = self.abi.events["ReceiptChallenged"].topic
        for log in receipt.logs:
            if log.address == self.address and log.topics[:1] == (topic,):
                return int(self.abi.log("ReceiptChallenged", log.topics, log.data)["id"])
        raise ChainError("RPC_BAD_DATA", f"{hexed(receipt.tx_hash)} opened no challenge of this vault")

    def credits_in(self, receipt: Receipt) -> dict[int, int]:
        """Atoms by asset that a transaction credited because the token refused the transfer."""
        topic = self.abi.events["Credited"].topic
        found: dict[int, int] = {}
        for log in receipt.logs:
            if log.address == self.address and log.topics[:1] == (topic,):
                fields = self.abi.log("Credited", log.topics, log.data)
                found[fields["asset"]] = found.get(fields["asset"], 0) + fields["amount"]
        return found
