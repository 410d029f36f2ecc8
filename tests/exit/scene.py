# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator small enough to stand in a test: deposits, leaves, real headers, real signatures."""

from dataclasses import dataclass, field

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, post_epoch_digest
from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.hashing import exit_domain, sha256
from proofs.header import Header
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree

DEADLINE_S, WINDOW_S = 3_600, 60
HOUSE = b"\x0f" * 20


# index: owner, exits, withdraw_acks
Leaves = dict[int, tuple[bytes, tuple[int, ...], tuple[int, ...]]]


def member(number: int) -> bytes:
    """The address of a member; nobody holds its key, and nobody needs to."""
    return b"\xaa" * 16 + number.to_bytes(4, "big")


@dataclass
class Scene:
    """A vault with one or more assets, and the operator's books: leaves by index."""

    rpc: Rpc
    wallet: Wallet
    vault: VaultClient
    lanes: int
    tree: SumTree
    last: Header | None = None
    published: list[list[bytes]] = field(default_factory=list)

    @classmethod
    def deploy(cls, rpc: Rpc, lanes: int = 2, tokens: list[bytes] | None = None, operator: bytes = b"") -> "Scene":
        wallet = Wallet(dev_key(0))
        tokens = tokens or [deploy_token(rpc, wallet, f"Token {lane}", f"T{lane}") for lane in range(lanes)]
        for token in tokens:
            mint(rpc, wallet, token, wallet.address, 10**15)
        params = VaultParams(b"\x77" * 32, operator or wallet.address, HOUSE, tokens, DEADLINE_S, WINDOW_S)
        return cls.attach(rpc, deploy_vault(rpc, wallet, params).address, lanes)

    @classmethod
    def attach(cls, rpc: Rpc, address: bytes, lanes: int = 2) -> "Scene":
        """Fresh books for a vault in which nothing happened yet."""
        wallet = Wallet(dev_key(0))
        tree = SumTree(exit_domain(rpc.chain_id(), address), lanes)
        return cls(rpc, wallet, VaultClient(rpc, address, wallet), lanes, tree)

    @property
    def reader(self) -> VaultClient:
        """A client without a key, as a stranger would have."""
        return VaultClient(self.rpc, self.vault.address)

    def stranger(self) -> VaultClient:
        """A client whose wallet has nothing to do with the vault and pays the fees."""
        return VaultClient(self.rpc, self.vault.address, Wallet(dev_key(3)))

    def deposit(self, owner: bytes, *amounts: int) -> None:
        for asset, amount in enumerate(amounts):
            if amount:
                self.vault.deposit(asset, amount, owner)

    def rows(self, leaves: Leaves) -> list[DiffRow]:
        found = []
        for index, (owner, exits, acks) in sorted(leaves.items()):
            new = self.tree.leaf(index) is None
            found.append(DiffRow(index, owner if new else None, exits, acks))
        return found

    def close(
        self,
        leaves: Leaves,
        consumed: int | None = None,
        split: int = 0,
        rows: list[DiffRow] | None = None,
        root: bytes | None = None,
    ) -> Header:
        """Set leaves (index: owner, exits, acks) and post the epoch; `split` rows per chunk.

        `rows` and `root` let a test publish what an honest operator would not.
        """
        rows = self.rows(leaves) if rows is None else rows
        self.tree.update(ExitLeaf(index, *leaf) for index, leaf in leaves.items())
        epoch, count = (
            self.vault.epoch_count() + 1,
            self.vault.inbox_count() if consumed is None else consumed,
        )
        step = split or max(1, len(rows))
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        chunks = [chunk for part in parts for chunk in encode_chunks(epoch, self.lanes, part)]
        for chunk in chunks:
            self.vault.publish_diff(chunk)
        hashes = [sha256(chunk) for chunk in chunks]
        parent = self.rpc.block()
        header = Header(
            domain=self.tree.domain,
            epoch=epoch,
            close_time_us=parent.time_s * 1_000_000,
            prev_header=self.last.hash() if self.last is not None else bytes(32),
            journal_size=epoch,
            journal_root=sha256(b"journal"),
            state_root=sha256(b"state"),
            exit_root=self.tree.root if root is None else root,
            exit_sums=self.tree.sums,
            inbox_count=count,
            inbox_hash=self.vault.inbox_hash(count),
            marks_hash=bytes(32),
            params_hash=bytes(32),
            diff_hash=diff_hash(hashes),
            l1_number=parent.number,
            l1_hash=parent.hash,
        )
        digest = post_epoch_digest(self.rpc.chain_id(), self.vault.address, header.hash())
        self.post(header.encode(), hashes, self.wallet.sign_digest(digest))
        self.last = header
        self.published.append(chunks)
        return header

    def post(self, header: bytes, hashes: list[bytes], signature: bytes) -> None:
        """Submit a header; a test may submit it another way."""
        self.vault.post_epoch(header, hashes, signature)

    def pass_time(self, seconds: int) -> None:
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")

    def balances(self, owner: bytes) -> list[int]:
        return [self.vault.token_balance(asset, owner) for asset in range(self.lanes)]

    def holdings(self) -> list[int]:
        return [self.vault.holdings(asset) for asset in range(self.lanes)]
