# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of an envelope whose receipt the operator no longer has at hand.

The operator answers identical retries from memory, of the last thousands of entries. Older ones are NONCE_USED, which
leaves two cases: the envelope is in the journal, or its nonce fell out of the window and it never will be. The journal
says which: its blocks are read from the entry that was the newest before the first attempt.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clearing.client.errors import ApiError
from clearing.model.codec import decode_entry

if TYPE_CHECKING:
    from clearing.client.aio import AsyncApiClient
    from clearing.client.http import ApiClient


def search(api: "ApiClient", envelope: bytes, from_seq: int, refused: ApiError) -> dict[str, Any]:
    """The receipt of an envelope that entry `from_seq` or a later one holds. Raises `refused` when none does, and
    `ApiError`."""
    scan = _Scan(envelope, from_seq)
    while scan.seq is None:
        if not scan.take(api.blocks(scan.next)):
            raise refused
    return _receipt(api.receipt(scan.seq), api.entry(scan.seq))


async def asearch(api: "AsyncApiClient", envelope: bytes, from_seq: int, refused: ApiError) -> dict[str, Any]:
    """As `search`."""
    scan = _Scan(envelope, from_seq)
    while scan.seq is None:
        if not scan.take(await api.blocks(scan.next)):
            raise refused
    return _receipt(await api.receipt(scan.seq), await api.entry(scan.seq))


class _Scan:
    """Looks through blocks as they come. `seq`: where the envelope is."""

    def __init__(self, envelope: bytes, from_seq: int) -> None:
        self.next = max(0, from_seq)
        self.seq: int | None = None
        self._envelope = envelope

    def take(self, blocks: Sequence[bytes]) -> bool:
        """Look; False at the end of the journal."""
        for seq, entry in _entries(blocks):
            if seq < self.next:
                continue
            self.next = seq + 1
            # Nearly all entries are somebody else's, and need not be decoded.
            if self._envelope in entry and decode_entry(entry).envelope == self._envelope:
                self.seq = seq
                break
        return bool(blocks)


def _entries(blocks: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    from journal.block import decode

    for raw in blocks:
        block = decode(raw)
        yield from enumerate(block.entries, block.first_seq)


def _receipt(proven: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """A receipt as the answer to a submission, with the entry and its path."""
    outcomes = entry["outcomes"]
    rejected = [outcome for outcome in outcomes if outcome["type"] == "Rejected"]
    return proven | {"time_us": entry["time_us"], "rejected": rejected, "outcomes": outcomes}
