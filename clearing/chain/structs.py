# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract's structs and events as Python sees them.

Rules: field for field in the contract's order, so that a tuple here is an argument there. Amounts are
atoms of the asset, addresses 20 bytes, hashes 32 bytes, contract times seconds.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proofs.inbox import InboxMessage

VETO_NONE, VETO_OPEN, VETO_UPHELD, VETO_FAILED = range(4)
FREEZE_NONE, FREEZE_DEADLINE, FREEZE_VETO, FREEZE_FAULT = range(4)
FREEZE_REASONS: Final = ("not frozen", "deadline", "veto", "fault")
FAULT_EQUIVOCATION, FAULT_HEADER_CONFLICT, FAULT_DOUBLE_HEADER, FAULT_FALSE_SUM, FAULT_RECEIPT_VIOLATION = range(1, 6)
FAULTS: Final = {
    FAULT_EQUIVOCATION: "equivocation",
    FAULT_HEADER_CONFLICT: "header conflict",
    FAULT_DOUBLE_HEADER: "double header",
    FAULT_FALSE_SUM: "false sum",
    FAULT_RECEIPT_VIOLATION: "receipt violation",
}


class InboxEvent(NamedTuple):
    """A message of the vault's queue, the rolling hash after it, and the block it stands in."""

    message: InboxMessage
    rolling_hash: bytes
    block_number: int


class Payment(NamedTuple):
    """What a claim, an escape or a refund took out of the holdings (atoms), and the block it stands in."""

    asset: int
    amount: int
    block_number: int


class EpochEvent(NamedTuple):
    """A posted header: its bytes and the transaction that posted it."""

    epoch: int
    header_hash: bytes
    header: bytes
    block_number: int
    tx_hash: bytes


class VetoEvent(NamedTuple):
    """A veto as it was opened. `evidence` is the SHA-256 of the attestor's published reason."""

    epoch: int
    header_hash: bytes
    attestor: bytes
    evidence: bytes
    block_number: int
    tx_hash: bytes


class BlobEvent(NamedTuple):
    """A blob whose publication the vault took note of; the transaction carries it."""

    versioned_hash: bytes
    block_number: int
    tx_hash: bytes


class FaultEvent(NamedTuple):
    """A fault of the operator that was proven: `kind` is one of FAULT_*, in words in FAULTS."""

    kind: int
    reporter: bytes
    block_number: int
    tx_hash: bytes


class ChallengeEvent(NamedTuple):
    """A receipt challenge: the operator must answer it by `deadline_s` with an inclusion proof."""

    id: int
    by: bytes
    entry: int
    leaf: bytes
    deadline_s: int
    block_number: int
    tx_hash: bytes


class Tip(NamedTuple):
    """What the next header must follow: the last posted one, all zero before the first."""

    epoch: int
    close_time_us: int
    journal_size: int
    inbox_count: int
    journal_root: bytes
    header_hash: bytes


class VetoState(NamedTuple):
    """Who vetoed an epoch's header and when; how many object; VETO_NONE, _OPEN, _UPHELD or _FAILED."""

    by: bytes
    time_s: int
    objectors: int
    state: int


class Challenge(NamedTuple):
    """A receipt challenge as the vault holds it."""

    by: bytes
    deadline_s: int
    open: bool
    entry: int
    leaf: bytes


class Advance(NamedTuple):
    """What vouchers paid an owner in all, and what claims and escapes gave back to the float."""

    total: int
    repaid: int


class Checkpoint(NamedTuple):
    """A head of the journal: entries and RFC 9162 root."""

    size: int
    root: bytes


class Disagreement(NamedTuple):
    """One index, two leaf hashes, each with its inclusion path in a journal of its own."""

    entry: int = 0
    leaf_a: bytes = bytes(32)
    path_a: tuple[bytes, ...] = ()
    leaf_b: bytes = bytes(32)
    path_b: tuple[bytes, ...] = ()


class FalseSum(NamedTuple):
    """A node of an exit tree by its children, and the way up from it as the tree claims it.

    `own_sums` are the sums claimed for each node of the way, level by level and lane by lane, the root
    excepted; `level` 1 is the parent of two leaves.
    """

    left: bytes
    left_sums: tuple[int, ...]
    right: bytes
    right_sums: tuple[int, ...]
    level: int
    position: int
    siblings: tuple[bytes, ...]
    sibling_sums: tuple[int, ...]
    own_sums: tuple[int, ...]


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
