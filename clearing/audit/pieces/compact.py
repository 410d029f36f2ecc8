# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of a piece of the log, wherever it begins, so that pieces can be hashed apart and then joined.

Rules:
- A range of leaves [begin, end) is kept as the roots of the largest aligned perfect subtrees that make it up:
  at most two per level. Joining two neighbours folds what has become complete; joining is associative, so it does
  not matter how a log was cut.
- The range that begins at 0 has RFC 9162's root: its subtrees folded from the right.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from proofs.hashing import HASH_BYTES
from proofs.log import node_hash


class Subtree(NamedTuple):
    """The root of the perfect subtree number `number` among those of 2^`level` leaves."""

    level: int
    number: int
    root: bytes


class CompactRange(NamedTuple):
    """Leaves `begin` to `end` (excluded) as subtrees in the order of their leaves."""

    begin: int
    end: int
    subtrees: tuple[Subtree, ...] = ()

    def root(self) -> bytes:
        """The RFC 9162 root of a range that begins at 0. Raises ValueError for another."""
        if self.begin:
            raise ValueError(f"a range from {self.begin} on has no root")
        folded = b""
        for subtree in reversed(self.subtrees):
            folded = node_hash(subtree.root, folded) if folded else subtree.root
        return folded or sha256(b"").digest()

    def joined(self, other: "CompactRange") -> "CompactRange":
        """This range and the one that begins where it ends. Raises ValueError for any other."""
        if other.begin != self.end:
            raise ValueError(f"a range from {other.begin} on does not continue one up to {self.end}")
        stack = list(self.subtrees)
        for subtree in other.subtrees:
            level, number, root = subtree
            while stack and number & 1 and stack[-1].level == level and stack[-1].number == number - 1:
                level, number, root = level + 1, number >> 1, node_hash(stack.pop().root, root)
            stack.append(Subtree(level, number, root))
        return CompactRange(self.begin, other.end, tuple(stack))


def of_leaves(begin: int, hashes: Sequence[bytes]) -> CompactRange:
    """The range of these leaf hashes (32 bytes each), the first being leaf `begin`. Level by level, one hash per
    inner node."""
    left: list[Subtree] = []
    right: list[Subtree] = []
    nodes, first, level = list(hashes), begin, 0
    while nodes:
        if first & 1:
            left.append(Subtree(level, first, nodes[0]))
            nodes, first = nodes[1:], first + 1
        if len(nodes) & 1:
            right.append(Subtree(level, first + len(nodes) - 1, nodes[-1]))
        nodes = [sha256(b"\x01" + one + other).digest() for one, other in zip(nodes[::2], nodes[1::2], strict=False)]
        first, level = first >> 1, level + 1
    return CompactRange(begin, begin + len(hashes), (*left, *reversed(right)))


def of_prefix(size: int, path: Sequence[bytes], last_leaf: bytes) -> CompactRange:
    """The first `size` leaves, given the last one's inclusion proof in the log of that size: its path holds exactly
    the subtrees to the left. What `root` says of it is as true as the proof. Raises ValueError if it has another
    shape."""
    subtrees: list[Subtree] = []
    rest, at = size - 1, 0
    levels = [level for level in range(rest.bit_length()) if rest >> level & 1] if size else []
    if size < 1 or len(path) != len(levels) or any(len(item) != HASH_BYTES for item in path):
        raise ValueError(f"no inclusion proof of the last of {size} leaves")
    for level, root in zip(reversed(levels), reversed(path), strict=True):
        subtrees.append(Subtree(level, at >> level, root))
        at += 1 << level
    last = CompactRange(rest, size, (Subtree(0, rest, last_leaf),))
    return CompactRange(0, rest, tuple(subtrees)).joined(last)
