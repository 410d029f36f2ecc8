# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a header true? Before it is signed, and after it was posted.

Rules:
- `before_signing` lists everything that keeps us from signing our own header now. Most of it passes with time (a
  message that is not final yet, a diff that is not published yet), so it is a reason to wait and no accusation.
- `of_posted` accuses, and only on what we know: our own replay reaches the header's journal size, or diverged
  before it, or the journal was withheld for longer than the grace period.
- An endpoint that fails says nothing about the operator: `ChainError` passes through.
"""

from typing import NamedTuple

from clearing.chain.vault import VaultClient
from clearing.core.state import State
from clearing.watch.follow import Follower, OwnEpoch
from proofs.header import Header


class Objection(NamedTuple):
    """`reason` is a key of evidence.REASONS; `detail` says where to look."""

    reason: str
    detail: str


def frozen_unsettled(state: State, vaults: dict[int, VaultClient]) -> list[int]:
    """Vaults that are frozen on their chain and not settled in the journal. Raises `ChainError`."""
    return [n for n, vault in vaults.items() if not state.vaults[n].settled and vault.frozen()]


def before_signing(own: OwnEpoch, number: int, vault: VaultClient) -> list[str]:
    """Why our header of this vault is not signed now; empty when it may be. Raises `ChainError`."""
    header = own.replayed.headers[number]
    if header is None:
        return ["the vault is frozen"]
    found = []
    if vault.inbox_count() < header.inbox_count:
        found.append(f"the vault has {vault.inbox_count()} messages, the epoch consumed {header.inbox_count}")
    elif vault.inbox_hash(header.inbox_count) != header.inbox_hash:
        found.append(f"the first {header.inbox_count} messages that the epoch consumed are not the vault's")
    if vault.rpc.block(header.l1_number).hash != header.l1_hash:
        found.append(f"block {header.l1_number} of the chain is not the one that the epoch names")
    missing = [chunk for chunk in own.chunks[number] if not vault.diff_block(chunk)]
    if missing:
        found.append(f"{len(missing)} chunks of the diff are not published")
    return found


def of_posted(
    follower: Follower, number: int, epoch: int, posted: bytes, seconds_waited: float, grace_s: float
) -> Objection | None:
    """What is wrong with the header that stands on the chain; None when it is ours, or while we cannot know.

    `seconds_waited`: since we first saw it without having the journal that it covers.
    """
    theirs = Header.decode(posted)  # the contract admitted it, so it has the form
    own = follower.epochs.get(epoch)
    mine = own.replayed.headers[number] if own is not None else None
    if mine is not None:
        return None if mine.encode() == posted else Objection("HEADER_DIFFERS", _difference(theirs, mine))
    if own is not None:
        return Objection("NOT_IN_JOURNAL", f"the journal froze vault {number} before epoch {epoch}")
    if follower.size >= theirs.journal_size:
        return Objection(
            "NOT_IN_JOURNAL", f"{follower.size} entries replayed, none up to {theirs.journal_size} closes it"
        )
    if follower.divergence is not None:
        return Objection("JOURNAL_DIVERGED", str(follower.divergence))
    if seconds_waited > grace_s:
        return Objection("DATA_WITHHELD", f"{theirs.journal_size} entries are covered, {follower.size} were served")
    return None


def _difference(theirs: Header, mine: Header) -> str:
    """The fields in which two headers differ."""

    def shown(value: object) -> str:
        return "0x" + value.hex() if isinstance(value, bytes) else str(value)

    pairs = [(name, getattr(theirs, name), getattr(mine, name)) for name in theirs.__struct_fields__]
    return "; ".join(f"{name}: posted {shown(a)}, replay {shown(b)}" for name, a, b in pairs if a != b)
