# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 9162's definitions, written as the text has them: recursive, slow, and obviously right."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256


def leaf(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


class Reference:
    """MTH, PATH and PROOF of RFC 9162 section 2.1 over a list of leaf hashes."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = list(leaves)
        self._mth = cache(self._compute)

    def _compute(self, start: int, end: int) -> bytes:
        if end - start == 0:
            return sha256(b"").digest()
        if end - start == 1:
            return self.leaves[start]
        middle = start + _split(end - start)
        return node(self._mth(start, middle), self._mth(middle, end))

    def root(self, size: int) -> bytes:
        return self._mth(0, size)

    def path(self, index: int, size: int) -> list[bytes]:
        return self._path(index, 0, size)

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._mth(middle, end)]
        return [*self._path(index, middle, end), self._mth(start, middle)]

    def proof(self, size1: int, size2: int) -> list[bytes]:
        return self._subproof(size1, 0, size2, True)

    def _subproof(self, prior: int, start: int, end: int, whole: bool) -> list[bytes]:
        if prior == end - start:
            return [] if whole else [self._mth(start, end)]
        middle = start + _split(end - start)
        if prior <= middle - start:
            return [*self._subproof(prior, start, middle, whole), self._mth(middle, end)]
        return [*self._subproof(prior - (middle - start), middle, end, False), self._mth(start, middle)]
