# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal as this process holds and recomputes it.

Rules:
- Blocks come from the operator's read API and are believed for nothing: hash, chain and Merkle tree are checked when
  a block is appended to a copy of our own, and every entry is replayed, signatures included, before the copy grows
  by it. So the copy holds what we agree with and nothing else, and can be served when the operator is gone.
- A copy that cannot grow (a full disk) is a fault that passes: the block is kept and written first next time.
- The first entry that does not reproduce ends the following, for good: `divergence` says where and how.
- A signed checkpoint must be of a log that ours extends or that extends ours. The last one is kept, as evidence.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clearing.audit.replay import Divergence, ReplayedEpoch, Replayer, replay
from clearing.chain.wallet import checkpoint_digest, recover
from clearing.client.http import ApiClient, ApiError
from clearing.core.reducer import Reducer
from clearing.core.state import State
from clearing.model.errors import NovateError
from journal import JournalError, Store
from journal.block import Block, decode
from journal.errors import FatalJournalError
from journal.replay import entries
from proofs import checkpoint as notes
from proofs.errors import ProofError
from proofs.hashing import sha256


class Signed(NamedTuple):
    """A checkpoint that the operator signed for the contract: size, root (32 bytes), signature (65 bytes)."""

    size: int
    root: bytes
    signature: bytes


class OwnEpoch(NamedTuple):
    """An epoch as our replay closed it; `chunks`: per vault the SHA-256 hashes of its diff."""

    replayed: ReplayedEpoch
    chunks: tuple[tuple[bytes, ...], ...]


class Follower:
    """A verified copy of the journal and the state that follows from it. Close it."""

    def __init__(self, folder: Path, client: ApiClient) -> None:
        """Raises `JournalError` when the copy cannot be used. Reads and replays what it holds already."""
        self._client = client
        path = folder / "journal"
        self.store = Store.open(path) if path.exists() else Store.create(path)
        self.epochs: dict[int, OwnEpoch] = {}
        self.divergence: Divergence | None = None
        self.checkpoint: Signed | None = None
        self._replayer = Replayer(on_epoch=self._closed)
        self._unkept: Block | None = None
        try:
            self._apply(entries(self.store))
        except BaseException:
            self.store.close()
            raise

    @property
    def size(self) -> int:
        """Entries that were replayed and agreed with."""
        return self._replayer.size

    @property
    def state(self) -> State | None:
        """None before the genesis was read."""
        return self._replayer.reducer.state if self._replayer.reducer is not None else None

    def close(self) -> None:
        self.store.close()

    def turn(self) -> int:
        """Catch up with the operator; how many entries that were.

        Raises `ApiError` when it does not answer, `NovateError` BLOCKS_REFUSED when it serves what is no journal,
        DISK_FULL or JOURNAL_FULL when the copy does not grow, `FatalJournalError`. A divergence is not raised: see
        `divergence`.
        """
        start = self.size
        self._keep()
        while self._agrees() and (blocks := self._ask()):
            before = self.size
            for raw in blocks:
                if self._agrees():
                    self._take(raw)
            if self.size == before:
                break
        return self.size - start

    def _ask(self) -> list[bytes]:
        try:
            return self._client.blocks(self.size)
        except ApiError as error:
            if error.code != "UNKNOWN_SEQ":
                raise
            message = f"the operator's journal ends before entry {self.size}, up to which it served one"
            raise NovateError("BLOCKS_REFUSED", f"{message}: it serves another journal than before") from None

    def _agrees(self) -> bool:
        return self.divergence is None

    def _take(self, raw: bytes) -> None:
        head = self.store.head()
        try:
            block = decode(raw)
            if block.first_seq + block.count <= head.next_seq:
                return
            if (block.first_seq, block.prev_hash) != (head.next_seq, head.block_hash):
                message = f"the operator's block at {block.first_seq} does not continue ours at {head.next_seq}"
                raise NovateError("BLOCKS_REFUSED", f"{message}: it serves another journal than before")
        except JournalError as error:
            raise NovateError("BLOCKS_REFUSED", f"the operator serves no journal: {error}") from None
        self._apply(_numbered(block))
        if self._agrees():
            self._unkept = block
            self._keep()

    def _keep(self) -> None:
        """Write the block that was agreed with last, unless it is written."""
        if self._unkept is None:
            return
        try:
            self.store.append_block(self._unkept, self.store.head())
        except FatalJournalError:
            raise
        except JournalError as error:
            raise NovateError(error.code, f"our copy of the journal does not grow: {error.message}") from None
        self._unkept = None

    def _apply(self, items: Iterator[tuple[int, bytes]]) -> None:
        self.divergence = replay(items, replayer=self._replayer).divergence

    def _closed(self, reducer: Reducer, epoch: ReplayedEpoch) -> None:
        chunks = tuple(tuple(sha256(chunk) for chunk in vault.diff_chunks) for vault in reducer.state.vaults)
        self.epochs[epoch.outcome.epoch] = OwnEpoch(epoch, chunks)

    # --- checkpoints ---

    def check_head(self) -> list[str]:
        """Compare the operator's signed head with our log; what is wrong with it. Raises `ApiError`."""
        state = self.state
        if state is None or self.divergence is not None:
            return []
        text = self._client.checkpoint()
        origin = notes.origin_of(state.genesis.origin, state.deployment)
        try:
            note = notes.parse(text)
            if note.checkpoint.size > self.size:
                return []  # the next turn reads on and judges it then, by the key that is the operator's there
            found = notes.verify(text, state.operator_key[1:], origin)
        except ProofError as error:
            return [f"the operator's checkpoint is not signed as it should be: {error}"]
        signature = notes.secp256k1_signature(note, state.operator_address)
        digest = checkpoint_digest(state.deployment, found.size, found.root)
        if signature is None or recover(digest, signature) != state.operator_address:
            return ["the operator's checkpoint has no signature that a contract could check"]
        if self.store.root(found.size) != found.root:
            return [f"the operator signed root 0x{found.root.hex()} at size {found.size}; what it served gives another"]
        self.checkpoint = Signed(found.size, found.root, signature)
        return []


def _numbered(block: Block) -> Iterator[tuple[int, bytes]]:
    found: Sequence[bytes] = block.entries
    return ((block.first_seq + at, entry) for at, entry in enumerate(found))
