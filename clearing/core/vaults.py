# SPDX-License-Identifier: GPL-3.0-or-later
"""The vaults of a deployment: one per chain, each with its inbox, its exit tree and its lanes.

Rules:
- Lanes are numbered through: vault 0's assets first. Asset 0 of every vault is the settlement asset, one currency
  wherever it lies; every other asset is collateral of its own, however many vaults hold the same token.
- An owner gets a leaf of a vault's exit tree at the epoch in which they are first owed something there, and keeps its
  index. The house has leaf 0.
- What each of the last 4,096 epochs committed to is kept per vault, since a freeze falls back to the last final one:
  so many epochs must take longer than a vault waits for headers and objections. Epoch 0 is the state before the
  first: no leaf, no message.
- Once frozen a vault takes nothing in or out, and has no header. While its escape is not settled (clearing.core.escape)
  nothing leaves through any other vault either, and no epoch closes. A settled vault is empty and forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from clearing.model.commands import EscapeLeaf, Vault
from proofs.hashing import exit_domain
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree

if TYPE_CHECKING:
    from clearing.core.state import AssetState, Owner, State

MAX_ROOTS = 4_096


class EpochRoot(NamedTuple):
    """What an epoch committed to for one vault; sums in atoms per asset of the vault."""

    epoch: int
    exit_root: bytes
    exit_sums: tuple[int, ...]
    inbox_count: int
    inbox_hash: bytes


class Escape:
    """What was collected of a frozen vault's escape header. `inbox_count` and `inbox_hash`: the deposits' rolling hash
    so far; `refunds`: atoms that the vault pays back, by (owner, asset of the vault)."""

    __slots__ = ("inbox_count", "inbox_hash", "leaves", "refunds", "tree")

    def __init__(self, tree: SumTree, root: EpochRoot) -> None:
        self.tree = tree
        self.leaves: list[EscapeLeaf] = []
        self.inbox_count = root.inbox_count
        self.inbox_hash = root.inbox_hash
        self.refunds: dict[tuple[bytes, int], int] = {}

    def add(self, leaves: tuple[EscapeLeaf, ...]) -> None:
        """All of them or none. Raises `EncodingError` or `SumTreeError` for what no tree holds."""
        self.tree.update(ExitLeaf(row.index, row.owner, row.exits, row.acks) for row in leaves)
        self.leaves.extend(leaves)


class VaultState:
    """One vault. `frozen`: its escape epoch once it is frozen, `settled`: whether that was debited. `roots`: see the
    module, ascending by epoch; `next_index`: the first leaf that is nobody's; `ignored`: deposits by message index that
    were credited to nobody; `diff_chunks`: what the last epoch changed in the tree."""

    __slots__ = (
        "diff_chunks", "escape", "exit_tree", "first_lane", "frozen", "ignored", "inbox_count", "inbox_hash", "lanes",
        "next_index", "number", "roots", "settled", "spec",
    )  # fmt: skip

    def __init__(self, number: int, spec: Vault, first_lane: int) -> None:
        self.number = number
        self.spec = spec
        self.first_lane = first_lane
        self.lanes = len(spec.tokens)
        self.inbox_count = 0
        self.inbox_hash = bytes(32)
        self.frozen: int | None = None
        self.settled = False
        self.escape: Escape | None = None
        self.roots: list[EpochRoot] = []
        self.ignored: list[int] = []
        self.next_index = 0
        self.diff_chunks: list[bytes] = []
        self.exit_tree = self.new_tree()

    def new_tree(self) -> SumTree:
        """An empty exit tree of this vault."""
        return SumTree(exit_domain(self.spec.chain_id, self.spec.address), self.lanes)

    @property
    def live(self) -> bool:
        return self.frozen is None

    @property
    def every_lane(self) -> range:
        """Its lanes in the deployment's numbering."""
        return range(self.first_lane, self.first_lane + self.lanes)

    @property
    def escape_next(self) -> int:
        """The smallest leaf index that may be collected next (0 while nothing was)."""
        return self.escape.leaves[-1].index + 1 if self.escape is not None and self.escape.leaves else 0

    @property
    def escape_inbox_count(self) -> int:
        """The index of the message that is collected next; `inbox_count` when nothing is being collected."""
        return self.escape.inbox_count if self.escape is not None else self.inbox_count

    def root_of(self, epoch: int) -> EpochRoot | None:
        """What an epoch committed to, unless it is too old or was never closed."""
        if epoch == 0:
            return EpochRoot(0, self.new_tree().root, (0,) * self.lanes, 0, bytes(32))
        at = epoch - self.roots[0].epoch if self.roots else -1
        return self.roots[at] if 0 <= at < len(self.roots) else None

    def remember(self, epoch: int) -> None:
        """Keep what this epoch commits to, and forget what no freeze falls back to."""
        tree = self.exit_tree
        self.roots.append(EpochRoot(epoch, tree.root, tree.sums, self.inbox_count, self.inbox_hash))
        del self.roots[:-MAX_ROOTS]

    def assets(self, state: State) -> list[AssetState]:
        """Its assets, in the order of its lanes."""
        return state.assets[self.first_lane : self.first_lane + self.lanes]

    def leaf_of(self, owner: Owner) -> int:
        """The owner's leaf index here, given now when there is none yet."""
        if owner.leaves[self.number] < 0:
            owner.leaves[self.number] = self.next_index
            self.next_index += 1
        return owner.leaves[self.number]


def vaults_of(specs: tuple[Vault, ...]) -> list[VaultState]:
    """The vaults of a genesis, empty, their lanes numbered through."""
    found: list[VaultState] = []
    lane = 0
    for number, spec in enumerate(specs):
        found.append(VaultState(number, spec, lane))
        lane += len(spec.tokens)
    return found


def lane_of(state: State, vault: int, asset: int) -> int | None:
    """The lane of a vault's asset, or None when there is no such vault or asset."""
    if not 0 <= vault < len(state.vaults) or not 0 <= asset < state.vaults[vault].lanes:
        return None
    return state.vaults[vault].first_lane + asset


def unsettled(state: State) -> bool:
    """Is there a frozen vault whose payouts were not debited yet?"""
    return any(vault.frozen is not None and not vault.settled for vault in state.vaults)
