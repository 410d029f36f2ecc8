# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild every exit leaf and the exit tree from the chain alone.

Rules: the contract's state is the only anchor. The target header's hash is read from it; earlier
headers are accepted because the later one names their hash; a chunk because the header's diff hash
covers it; and the leaves because their tree has the header's root and sums. So logs, calldata, archived
blobs and whoever serves them need not be trusted, only complete. And not even that where later epochs
published again what is missing: the root decides.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from clearing.chain.blobs import VERSION_KZG
from clearing.chain.errors import ChainError
from clearing.chain.rpc import hexed
from clearing.chain.vault import Claim, EpochEvent, VaultClient
from clearing.exit.archive import BlobSource, content
from clearing.exit.errors import ExitError
from proofs.diff import DiffRow, decode_chunk, diff_hash
from proofs.errors import ProofError
from proofs.hashing import exit_domain
from proofs.header import Header
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree

GROUP_EPOCHS: Final = 256  # chunks of so many epochs are held at a time

Progress = Callable[[str], None]
Posted = tuple[EpochEvent, Header]


@dataclass(frozen=True)
class Rebuilt:
    """The exit state at one epoch. `leaves` is keyed by index; `indexes` by the owner's address."""

    epoch: int
    header: Header
    header_bytes: bytes
    leaves: dict[int, ExitLeaf]
    indexes: dict[bytes, int]
    tree: SumTree

    def leaf_of(self, owner: bytes) -> ExitLeaf | None:
        """The owner's leaf, or None when nothing was ever owed."""
        index = self.indexes.get(owner)
        return None if index is None else self.leaves[index]

    def claim(self, leaf: ExitLeaf) -> Claim:
        """The arguments of `claim` and `escape` for one leaf."""
        path = self.tree.proof(leaf.index)
        return Claim(
            header=self.header_bytes,
            index=leaf.index,
            owner=leaf.owner,
            exits=tuple(leaf.exits),
            withdraw_acks=tuple(leaf.withdraw_acks),
            siblings=path.hashes,
            sibling_sums=tuple(value for sums in path.sums for value in sums),
        )

    def claim_of(self, owner: bytes) -> Claim | None:
        """The owner's claim, or None when nothing was ever owed."""
        leaf = self.leaf_of(owner)
        return None if leaf is None else self.claim(leaf)

    def owners(self) -> Iterator[bytes]:
        """Everyone with a leaf, by index."""
        return (self.leaves[index].owner for index in sorted(self.leaves))


@dataclass
class _Books:
    """Leaves as far as read, and what could not be read: the error's code and text, in order."""

    leaves: dict[int, ExitLeaf] = field(default_factory=dict)
    gaps: list[tuple[str, str]] = field(default_factory=list)

    def apply(self, epoch: int, rows: Iterable[DiffRow]) -> None:
        """Set the leaves of one epoch. Lenient where the root decides anyway: nobody is locked out
        because the operator repeated an owner, or because data is missing that was published again."""
        for row in rows:
            known = self.leaves.get(row.index)
            owner = row.owner or (known.owner if known is not None else None)
            if owner is None:
                if self.gaps:
                    continue  # the owner stands in what is missing
                text = f"epoch {epoch} changes leaf {row.index}, which has no owner yet"
                raise ExitError("DIFF_INVALID", text)
            self.leaves[row.index] = ExitLeaf(row.index, owner, row.exits, row.acks)


def rebuild(
    vault: VaultClient, epoch: int | None = None, progress: Progress | None = None, blobs: BlobSource | None = None
) -> Rebuilt | None:
    """The exit state at `epoch`: by default the escape header's, or while live the last final one's.

    None when no header is usable yet (then every deposit is refunded after a freeze). `blobs` is asked for
    what was published in blobs. Raises `ExitError` with a code of `clearing.exit.errors`, `ChainError` when
    the chain cannot be read.
    """
    say = progress or (lambda _: None)
    domain = require_vault(vault)
    if epoch is None:
        epoch = usable_epoch(vault)
        if epoch == 0:
            return None
    anchor = vault.header_hash(epoch)
    if anchor == bytes(32):
        raise ExitError("EPOCH_UNKNOWN", f"epoch {epoch} was not posted; the last one is {vault.epoch_count()}")
    first, last = vault.first_block(), vault.header_block(epoch)
    say(f"reading headers of epochs 1 to {epoch} from blocks {first} to {last}")
    chain = _header_chain(vault.epochs(first, last), anchor, epoch)
    books = _Books()
    for start in range(0, len(chain), GROUP_EPOCHS):
        group = chain[start : start + GROUP_EPOCHS]
        if len(chain) > GROUP_EPOCHS:
            say(f"reading published diffs of epochs {start + 1} to {start + len(group)}")
        _read_group(vault, group, first, books, blobs)
        first = group[-1][0].block_number
    say(f"building the tree of {len(books.leaves)} leaves")
    return _checked(*chain[-1], domain, books)


def usable_epoch(vault: VaultClient) -> int:
    """The epoch that pays: the escape header's after a freeze, else the last final one; 0 when there is none."""
    return vault.escape_epoch() if vault.frozen() else vault.finalised_epoch()


def require_vault(vault: VaultClient) -> bytes:
    """The vault's exit domain. Raises `ExitError` WRONG_DOMAIN, `ChainError` NO_CODE, when there is no vault of
    this chain at the address."""
    vault.require_code()
    domain = exit_domain(vault.rpc.chain_id(), vault.address)
    if _claimed_domain(vault) != domain:
        raise ExitError("WRONG_DOMAIN", f"{hexed(vault.address)} is no vault of this chain; check address and --rpc")
    return domain


def _claimed_domain(vault: VaultClient) -> bytes:
    """The contract's exit domain; empty when the contract knows no such thing."""
    try:
        return vault.domain()
    except ChainError as error:
        if error.code not in ("TX_REVERTED", "RPC_BAD_DATA"):
            raise
        return b""


def _header_chain(events: list[EpochEvent], anchor: bytes, epoch: int) -> list[Posted]:
    """Headers 1..epoch, walked backwards from the hash that the contract holds."""
    by_hash = {event.header_hash: event for event in events}
    wanted, chain = anchor, list[Posted]()
    for number in range(epoch, 0, -1):
        event = by_hash.get(wanted)
        if event is None:
            raise ExitError("HEADER_MISSING", f"the header of epoch {number} is not in the logs; try another --rpc")
        header = Header.decode(event.header)
        chain.append((event, header))
        wanted = header.prev_header
    return chain[::-1]


def _read_group(
    vault: VaultClient, group: list[Posted], first_block: int, books: _Books, blobs: BlobSource | None
) -> None:
    """Apply the diffs of some epochs in a row; most were published since `first_block`."""
    published = vault.diffs(first_block, group[-1][0].block_number)
    claimed: dict[int, list[bytes]] = {}
    for chunk_hash, chunk in published.items():
        claimed.setdefault(int.from_bytes(chunk[2:10], "big"), []).append(chunk_hash)
    for event, header in group:
        hashes = _hashes(vault, event, header, claimed.get(event.epoch, []))
        if hashes is None:
            text = f"the chunks of epoch {event.epoch} are not all in the logs; try another --rpc"
            books.gaps.append(("DIFF_MISSING", text))
            continue
        for chunk_hash in hashes:
            found = published.get(chunk_hash) or _fetch(vault, event.epoch, chunk_hash, books, blobs)
            if found is not None:
                books.apply(event.epoch, _decode(found, event.epoch, len(header.exit_sums)))


def _hashes(vault: VaultClient, event: EpochEvent, header: Header, claimed: list[bytes]) -> list[bytes] | None:
    """The chunks that a header commits to, in order; None when they cannot be found out.

    Tried first are the chunks that say they belong to the epoch, as they were published: that needs no
    old transaction. The diff hash decides whether it is right.
    """
    if diff_hash(claimed) == header.diff_hash:
        return claimed
    hashes = vault.posted_chunks(event)
    return hashes if hashes is not None and diff_hash(hashes) == header.diff_hash else None


def _fetch(vault: VaultClient, epoch: int, chunk_hash: bytes, books: _Books, blobs: BlobSource | None) -> bytes | None:
    """A chunk that the scan did not give: from the block that the contract names, or from the archive."""
    block = vault.diff_block(chunk_hash)
    found = vault.diffs(block, block).get(chunk_hash) if block else None
    if found is not None:
        return found
    in_blob = any(event.versioned_hash == chunk_hash for event in vault.blobs_published(block, block))
    if not in_blob and chunk_hash[:1] != VERSION_KZG:
        text = f"chunk {hexed(chunk_hash)} of epoch {epoch} is not in the logs; try another --rpc"
        books.gaps.append(("DIFF_MISSING", text))
        return None
    data, reason = content(blobs, chunk_hash, lambda: vault.rpc.block(block).time_s)
    if data is None:
        text = f"epoch {epoch} was published in blob {hexed(chunk_hash)}, which nodes forget: {reason}"
        books.gaps.append(("BLOB_MISSING", text))
    return data


def _decode(chunk: bytes, epoch: int, lanes: int) -> list[DiffRow]:
    try:
        decoded = decode_chunk(chunk)
    except ProofError as error:
        raise ExitError("DIFF_INVALID", f"a chunk of epoch {epoch}: {error.message}") from None
    if decoded.epoch != epoch or decoded.lanes != lanes:
        text = f"a chunk of epoch {epoch} is for epoch {decoded.epoch} and {decoded.lanes} lanes"
        raise ExitError("DIFF_INVALID", text)
    return decoded.rows


def _checked(event: EpochEvent, header: Header, domain: bytes, books: _Books) -> Rebuilt:
    """The rebuilt state, once its tree has the header's root and sums."""
    tree = SumTree(domain, len(header.exit_sums))
    leaves = books.leaves
    try:
        tree.update(leaves.values())
    except ProofError as error:
        text = f"the leaves of epoch {event.epoch} form no tree: {error.message}"
        raise ExitError("ROOT_MISMATCH", text) from None
    if tree.root != header.exit_root or tree.sums != header.exit_sums:
        if books.gaps:
            raise ExitError(*books.gaps[0])
        text = f"the leaves published up to epoch {event.epoch} do not give its root and sums"
        raise ExitError("ROOT_MISMATCH", f"{text}: the operator withheld or altered data")
    indexes: dict[bytes, int] = {}
    # The contract pays an owner once; should an operator give one two leaves, the larger is used.
    for leaf in sorted(leaves.values(), key=lambda leaf: (sum(leaf.sums), -leaf.index)):
        indexes[leaf.owner] = leaf.index
    return Rebuilt(event.epoch, header, event.header, leaves, indexes, tree)
