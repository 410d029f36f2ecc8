# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a chain is final, and whether something remembered is still part of it.

Rules: a place on a chain is a number and a hash; a number alone says nothing after a reorganisation.
Money is credited only at or below `FinalView.final`. Whoever remembers a place asks `is_canonical`
before relying on it: what stood in a block that is gone must be read, or sent, again.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt, Rpc, hexed

FINALIZED: Final = "finalized"
SAFE: Final = "safe"
Depth = int | Literal["finalized", "safe"]


class Mark(NamedTuple):
    """A block by number and hash (32 bytes)."""

    number: int
    hash: bytes


class FinalView:
    """A chain seen up to its final block.

    `depth` is the number of blocks that must lie on top (0: the head itself, for chains that do not
    reorganise), or the tag by which the node names final blocks.
    """

    def __init__(self, rpc: Rpc, depth: Depth) -> None:
        if isinstance(depth, int) and depth < 0:
            raise ChainError("INVALID_ARGUMENT", f"{depth} confirmations make no sense; use 0 or more")
        self.rpc, self.depth = rpc, depth

    def final(self) -> Mark:
        """The newest final block. Raises `ChainError` RPC_*."""
        if isinstance(self.depth, int):
            return self.mark(max(0, self.rpc.block_number() - self.depth))
        try:
            block = self.rpc.block(self.depth)
        except ChainError as error:
            if error.code != "RPC_ERROR":
                raise
            text = f"{self.rpc.url} names no {self.depth} block ({error.message}); count confirmations instead"
            raise ChainError("RPC_ERROR", text) from None
        return Mark(block.number, block.hash)

    def mark(self, number: int) -> Mark:
        """The block of this number as it stands now. Raises `ChainError` RPC_*."""
        block = self.rpc.block(number)
        return Mark(block.number, block.hash)

    def is_canonical(self, mark: Mark) -> bool:
        """Whether the block is part of the chain now, final or not. Raises `ChainError` RPC_*."""
        return mark.number <= self.rpc.block_number() and self.mark(mark.number).hash == mark.hash

    def is_final(self, mark: Mark) -> bool:
        """Whether the block is part of the chain and will stay so."""
        return mark.number <= self.final().number and self.is_canonical(mark)

    def require(self, mark: Mark) -> None:
        """Raises `ChainError` REORGED unless the block is part of the chain."""
        if not self.is_canonical(mark):
            text = f"block {mark.number} ({hexed(mark.hash)}) is no longer part of the chain; read from before it again"
            raise ChainError("REORGED", text)

    def last_canonical(self, marks: Iterable[Mark]) -> Mark | None:
        """The newest remembered block that is still part of the chain: the place to go on from."""
        newest_first = sorted(marks, key=lambda mark: mark.number, reverse=True)
        return next((mark for mark in newest_first if self.is_canonical(mark)), None)

    def still(self, receipt: Receipt) -> Receipt | None:
        """Where a mined transaction stands now: a reorganisation may have moved it, or (None) dropped it."""
        return self.rpc.receipt(receipt.tx_hash)

    def settled(self, receipt: Receipt) -> bool:
        """Whether a mined transaction is part of the chain and will stay so."""
        now = self.still(receipt)
        return now is not None and now.block_number <= self.final().number
