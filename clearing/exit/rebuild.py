# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild every exit leaf and the exit tree from the chain alone.

Rules: the contract's state is the only anchor. The target header's hash is read from it; earlier
headers are accepted because the later one names their hash; a chunk because the header's diff hash
covers it; and the leaves because their tree has the header's root and sums. So logs, calldata and
the endpoint that serves them need not be trusted, only complete.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clearing.chain.errors import ChainError
from clearing.chain.rpc import hexed
from clearing.chain.vault import Claim, EpochEvent, VaultClient
from clearing.exit.errors import ExitError
from proofs.diff import DiffRow, decode_chunk, diff_hash
from proofs.errors import ProofError
from proofs.hashing import exit_domain
from proofs.header import Header
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree

Progress = Callable[[str], None]


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


def rebuild(vault: VaultClient, epoch: int | None = None, progress: Progress | None = None) -> Rebuilt | None:
    """The exit state at `epoch`: by default the escape header's, or while live the last final one's.

    None when no header is usable yet (then every deposit is refunded after a freeze).
    Raises `ExitError` with a code of `clearing.exit.errors`, `ChainError` when the chain cannot be read.
    """
    say = progress or (lambda _: None)
    vault.require_code()
    domain = exit_domain(vault.rpc.chain_id(), vault.address)
    if _claimed_domain(vault) != domain:
        raise ExitError("WRONG_DOMAIN", f"{hexed(vault.address)} is no vault of this chain; check address and --rpc")
    if epoch is None:
        epoch = vault.escape_epoch() if vault.frozen() else vault.finalised_epoch()
        if epoch == 0:
            return None
    anchor = vault.header_hash(epoch)
    if anchor == bytes(32):
        raise ExitError("EPOCH_UNKNOWN", f"epoch {epoch} was not posted; the last one is {vault.epoch_count()}")
    first, last = vault.first_block(), vault.header_block(epoch)
    say(f"reading headers of epochs 1 to {epoch} from blocks {first} to {last}")
    chain = _header_chain(vault.epochs(first, last), anchor, epoch)
    say("reading published diffs")
    published = vault.diffs(first, last)
    leaves: dict[int, ExitLeaf] = {}
    for event, header in chain:
        _apply(leaves, event.epoch, _rows(vault, event, header, published))
    say(f"building the tree of {len(leaves)} leaves")
    return _checked(chain[-1][0], chain[-1][1], domain, leaves)


def _claimed_domain(vault: VaultClient) -> bytes:
    """The contract's exit domain; empty when the contract knows no such thing."""
    try:
        return vault.domain()
    except ChainError as error:
        if error.code not in ("TX_REVERTED", "RPC_BAD_DATA"):
            raise
        return b""


def _header_chain(events: list[EpochEvent], anchor: bytes, epoch: int) -> list[tuple[EpochEvent, Header]]:
    """Headers 1..epoch, walked backwards from the hash that the contract holds."""
    by_hash = {event.header_hash: event for event in events}
    wanted, chain = anchor, list[tuple[EpochEvent, Header]]()
    for number in range(epoch, 0, -1):
        event = by_hash.get(wanted)
        if event is None:
            raise ExitError("HEADER_MISSING", f"the header of epoch {number} is not in the logs; try another --rpc")
        header = Header.decode(event.header)
        chain.append((event, header))
        wanted = header.prev_header
    return chain[::-1]


def _rows(vault: VaultClient, event: EpochEvent, header: Header, published: dict[bytes, bytes]) -> list[DiffRow]:
    """The changed leaves of one epoch, from the chunks that its header commits to."""
    hashes = vault.posted_chunks(event)
    if hashes is None or diff_hash(hashes) != header.diff_hash:
        hashes = _guess_chunks(event.epoch, published)
        if diff_hash(hashes) != header.diff_hash:
            text = f"the chunks of epoch {event.epoch} are not all in the logs; try another --rpc"
            raise ExitError("DIFF_MISSING", text)
    rows: list[DiffRow] = []
    for chunk_hash in hashes:
        chunk = published.get(chunk_hash) or vault.diff(chunk_hash)
        if chunk is None:
            text = f"chunk {hexed(chunk_hash)} of epoch {event.epoch} is not in the logs; try another --rpc"
            raise ExitError("DIFF_MISSING", text)
        rows += _decode(chunk, event.epoch, len(header.exit_sums))
    return rows


def _guess_chunks(epoch: int, published: dict[bytes, bytes]) -> list[bytes]:
    """Hashes of the chunks that say they belong to `epoch`, in order of publication.

    For endpoints that do not serve old transactions; the diff hash decides whether it is right.
    """
    mark = epoch.to_bytes(8, "big")
    return [digest for digest, chunk in published.items() if chunk[2:10] == mark]


def _decode(chunk: bytes, epoch: int, lanes: int) -> list[DiffRow]:
    try:
        decoded = decode_chunk(chunk)
    except ProofError as error:
        raise ExitError("DIFF_INVALID", f"a chunk of epoch {epoch} does not decode: {error.message}") from None
    if decoded.lanes != lanes:
        text = f"a chunk of epoch {epoch} has {decoded.lanes} lanes, the vault {lanes}"
        raise ExitError("DIFF_INVALID", text)
    return decoded.rows


def _apply(leaves: dict[int, ExitLeaf], epoch: int, rows: Iterable[DiffRow]) -> None:
    """Set the leaves of one epoch. Lenient where the root decides anyway: nobody is locked out
    because the operator repeated an owner."""
    for row in rows:
        known = leaves.get(row.index)
        owner = row.owner or (known.owner if known is not None else None)
        if owner is None:
            text = f"epoch {epoch} changes leaf {row.index}, which has no owner yet"
            raise ExitError("DIFF_INVALID", text)
        leaves[row.index] = ExitLeaf(row.index, owner, row.exits, row.acks)


def _checked(event: EpochEvent, header: Header, domain: bytes, leaves: dict[int, ExitLeaf]) -> Rebuilt:
    """The rebuilt state, once its tree has the header's root and sums."""
    tree = SumTree(domain, len(header.exit_sums))
    try:
        tree.update(leaves.values())
    except ProofError as error:
        text = f"the leaves of epoch {event.epoch} form no tree: {error.message}"
        raise ExitError("ROOT_MISMATCH", text) from None
    if tree.root != header.exit_root or tree.sums != header.exit_sums:
        text = f"the leaves published up to epoch {event.epoch} do not give its root and sums"
        raise ExitError("ROOT_MISMATCH", f"{text}: the operator withheld or altered data")
    indexes: dict[bytes, int] = {}
    # The contract pays an owner once; should an operator give one two leaves, the larger is used.
    for leaf in sorted(leaves.values(), key=lambda leaf: (sum(leaf.sums), -leaf.index)):
        indexes[leaf.owner] = leaf.index
    return Rebuilt(event.epoch, header, event.header, leaves, indexes, tree)
