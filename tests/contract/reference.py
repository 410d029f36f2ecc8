# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's formats, written down once more and as plainly as they are specified.

Rules: nothing here is shared with the code under test, and nothing is fast. An exit tree is a dict of its
leaves, and a node is computed by asking for both its children.
"""

from dataclasses import dataclass, field, replace
from hashlib import sha256

DEPTH = 20


def u(value: int, bits: int) -> bytes:
    return value.to_bytes(bits // 8, "big")


def lanes_of(values: tuple[int, ...]) -> bytes:
    return b"".join(u(value, 128) for value in values)


def address(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def exit_domain(chain_id: int, vault: str) -> bytes:
    return sha256(b"novate/exit/v1" + u(chain_id, 256) + address(vault)).digest()


@dataclass(frozen=True)
class Leaf:
    """One owner's leaf; amounts are atoms per lane."""

    index: int
    owner: str
    exits: tuple[int, ...]
    acks: tuple[int, ...]

    def sums(self) -> tuple[int, ...]:
        return tuple(e + a for e, a in zip(self.exits, self.acks, strict=True))

    def hash(self, domain: bytes) -> bytes:
        head = b"\x00" + domain + u(self.index, 32) + address(self.owner)
        return sha256(head + lanes_of(self.exits) + lanes_of(self.acks)).digest()


@dataclass(frozen=True)
class Node:
    hash: bytes
    sums: tuple[int, ...]


def join(left: Node, right: Node) -> Node:
    preimage = b"\x01" + left.hash + lanes_of(left.sums) + right.hash + lanes_of(right.sums)
    return Node(sha256(preimage).digest(), tuple(a + b for a, b in zip(left.sums, right.sums, strict=True)))


def climb(node: Node, index: int, siblings: list[Node]) -> Node:
    """The root over `node` at `index`, siblings from the leaf's level upwards."""
    for level, sibling in enumerate(siblings):
        node = join(sibling, node) if index >> level & 1 else join(node, sibling)
    return node


class Tree:
    """The exit tree of these leaves, each at its index.

    `lies` are sums by (level, index) that a node is said to have whatever its children have.
    """

    def __init__(
        self, domain: bytes, lanes: int, leaves: list[Leaf], lies: dict[tuple[int, int], tuple[int, ...]] | None = None
    ) -> None:
        self.domain = domain
        self.lies = lies or {}
        self.leaves = {leaf.index: leaf for leaf in leaves}
        self._empty = [Node(sha256(b"\x02" + domain).digest(), (0,) * lanes)]
        for _ in range(DEPTH):
            self._empty.append(join(self._empty[-1], self._empty[-1]))

    def node(self, level: int, index: int) -> Node:
        node = self._true(level, index)
        return Node(node.hash, self.lies.get((level, index), node.sums))

    def _true(self, level: int, index: int) -> Node:
        if all(leaf >> level != index for leaf in self.leaves):
            return self._empty[level]
        if level == 0:
            leaf = self.leaves[index]
            return Node(leaf.hash(self.domain), leaf.sums())
        return join(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def root(self) -> Node:
        return self.node(DEPTH, 0)

    def path(self, index: int) -> list[Node]:
        return [self.node(level, (index >> level) ^ 1) for level in range(DEPTH)]

    def false_sum(self, level: int, index: int) -> tuple[object, ...]:
        """The contract's FalseSum of this node: its children, the way up, and what each node of it claims."""
        left, right = self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1)
        way = [(above, index >> (above - level)) for above in range(level, DEPTH)]
        own = [value for place in way for value in self.node(*place).sums]
        siblings = [self.node(above, at ^ 1) for above, at in way]
        sums = [value for sibling in siblings for value in sibling.sums]
        hashes = [sibling.hash for sibling in siblings]
        return left.hash, list(left.sums), right.hash, list(right.sums), level, index, hashes, sums, own


@dataclass(frozen=True)
class Message:
    """One inbox message, a deposit by default; `l1_time` is seconds."""

    index: int
    owner: str
    asset: int
    amount: int
    l1_time: int
    kind: int = 1
    data: bytes = bytes(32)

    def after(self, previous: bytes) -> bytes:
        head = b"\x04" + previous + u(self.kind, 8) + u(self.index, 64) + address(self.owner)
        tail = u(self.asset, 8) + u(self.amount, 128) + u(self.l1_time, 64) + self.data
        return sha256(head + tail).digest()


@dataclass(frozen=True)
class Header:
    """An epoch header; `replace` makes the false ones."""

    domain: bytes
    epoch: int
    close_time_us: int
    prev_header: bytes
    exit_root: bytes
    exit_sums: tuple[int, ...]
    inbox_count: int
    inbox_hash: bytes
    diff_hash: bytes
    l1_number: int
    l1_hash: bytes
    journal_size: int
    tag: int = 3
    version: int = 1
    lanes: int = -1
    peers_hash: bytes = bytes(32)
    journal_root: bytes = field(default=sha256(b"journal").digest())
    state_root: bytes = field(default=sha256(b"state").digest())
    marks_hash: bytes = field(default=sha256(b"marks").digest())
    params_hash: bytes = field(default=sha256(b"params").digest())
    scenarios_hash: bytes = bytes(32)
    attestors_hash: bytes = bytes(32)
    ext_root: bytes = bytes(32)

    def encode(self) -> bytes:
        lanes = len(self.exit_sums) if self.lanes < 0 else self.lanes
        return b"".join(
            [
                u(self.tag, 8),
                u(self.version, 8),
                self.domain,
                u(lanes, 8),
                u(self.epoch, 64),
                u(self.close_time_us, 64),
                self.prev_header,
                self.peers_hash,
                u(self.journal_size, 64),
                self.journal_root,
                self.state_root,
                self.exit_root,
                lanes_of(self.exit_sums),
                u(self.inbox_count, 64),
                self.inbox_hash,
                self.marks_hash,
                self.params_hash,
                self.scenarios_hash,
                self.attestors_hash,
                self.diff_hash,
                self.ext_root,
                u(self.l1_number, 64),
                self.l1_hash,
            ]
        )

    def hash(self) -> bytes:
        return sha256(self.encode()).digest()

    def but(self, **changes: object) -> "Header":
        return replace(self, **changes)  # type: ignore[arg-type]


def diff_hash(chunks: list[bytes]) -> bytes:
    return sha256(b"novate/diff/v1" + b"".join(sha256(chunk).digest() for chunk in chunks)).digest()


def voucher(domain: bytes, owner: str, asset: int, cumulative: int, expiry: int) -> bytes:
    head = b"\x05" + domain + address(owner) + u(asset, 8)
    return sha256(head + u(cumulative, 128) + u(expiry, 64)).digest()


def attestors_hash(threshold: int, attestors: list[str]) -> bytes:
    """Zero when there are none; `attestors` ascending."""
    if not attestors:
        return bytes(32)
    head = b"novate/attestors/v1" + u(threshold, 8) + u(len(attestors), 8)
    return sha256(head + b"".join(address(one) for one in attestors)).digest()


# --- the journal: RFC 9162, section 2.1, by its own recursive definitions ---


def entry(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def journal_root(leaves: list[bytes]) -> bytes:
    """MTH over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return sha256(b"\x01" + journal_root(leaves[:k]) + journal_root(leaves[k:])).digest()


def journal_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH: from the leaf upwards."""
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*journal_path(index, leaves[:k]), journal_root(leaves[k:])]
    return [*journal_path(index - k, leaves[k:]), journal_root(leaves[:k])]


def consistency(old: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """PROOF that the journal of `leaves` extends its first `old` entries; empty when nothing was before."""
    if old in (0, len(leaves)):
        return [] if whole else [journal_root(leaves)]
    k = _split(len(leaves))
    if old <= k:
        return [*consistency(old, leaves[:k], whole), journal_root(leaves[k:])]
    return [*consistency(old - k, leaves[k:], False), journal_root(leaves[:k])]
