# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator small enough to stand in a test: deposits, leaves, real headers, real signatures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from clearing.chain import blobs
from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, libraries_of, mint
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, attestation_digest, post_epoch_digest, voucher_digest
from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.hashing import exit_domain, sha256
from proofs.header import Header, attestors_hash
from proofs.inbox import Voucher
from proofs.leaf import ExitLeaf
from proofs.log import consistency_proof, leaf_hash
from proofs.log import root as journal_root
from proofs.sumtree import SumTree

DEADLINE_S, WINDOW_S = 3_600, 60
HOUSE = b"\x0f" * 20
ENTRIES_PER_EPOCH = 3


# index: owner, exits, withdraw_acks
Leaves = dict[int, tuple[bytes, tuple[int, ...], tuple[int, ...]]]


@cache
def wallet_of(number: int) -> Wallet:
    """The wallet of a funded development account: 0 the operator's, 3 the stranger's, 5 to 7 the attestors'."""
    return Wallet(dev_key(number))


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
    attestors: Sequence[Wallet] = ()
    threshold: int = 0
    last: Header | None = None
    journal: list[bytes] = field(default_factory=list)
    published: list[list[bytes]] = field(default_factory=list)

    @classmethod
    def deploy(
        cls,
        rpc: Rpc,
        lanes: int = 2,
        tokens: list[bytes] | None = None,
        operator: bytes = b"",
        attestors: Sequence[Wallet] = (),
        float_caps: Sequence[int] = (),
        beside: bytes = b"",
    ) -> "Scene":
        """A vault of its own. `attestors` must all sign and two of them void a header; the libraries of the vault
        `beside` are used again."""
        wallet = wallet_of(0)
        tokens = tokens or [deploy_token(rpc, wallet, f"Token {lane}", f"T{lane}") for lane in range(lanes)]
        for token in tokens:
            mint(rpc, wallet, token, wallet.address, 10**15)
        signers = sorted(attestors, key=lambda one: one.address)
        threshold = max(0, len(signers) - 1)
        params = VaultParams(
            b"\x77" * 32,
            operator or wallet.address,
            HOUSE,
            tokens,
            DEADLINE_S,
            WINDOW_S,
            attestors=[one.address for one in signers],
            threshold=threshold,
            veto_bond_wei=10**16 if signers else 0,
            float_caps=float_caps,
        )
        known = libraries_of(rpc, beside) if beside else None
        vault = deploy_vault(rpc, wallet, params, known)
        for lane in range(lanes):
            vault.approve(lane, 2**255)  # once, instead of a transaction before every deposit
        return cls.attach(rpc, vault.address, lanes, signers, threshold)

    @classmethod
    def attach(
        cls, rpc: Rpc, address: bytes, lanes: int = 2, attestors: Sequence[Wallet] = (), threshold: int = 0
    ) -> "Scene":
        """Fresh books for a vault in which nothing happened yet."""
        wallet = wallet_of(0)
        tree = SumTree(exit_domain(rpc.chain_id(), address), lanes)
        return cls(rpc, wallet, VaultClient(rpc, address, wallet), lanes, tree, attestors, threshold)

    @property
    def reader(self) -> VaultClient:
        """A client without a key, as a stranger would have."""
        return VaultClient(self.rpc, self.vault.address)

    def stranger(self) -> VaultClient:
        """A client whose wallet has nothing to do with the vault and pays the fees."""
        return VaultClient(self.rpc, self.vault.address, wallet_of(3))

    def client(self, number: int) -> VaultClient:
        """A client of the development account of this number."""
        return VaultClient(self.rpc, self.vault.address, wallet_of(number))

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
        in_blobs: bool = False,
    ) -> Header:
        """Set leaves (index: owner, exits, acks) and post the epoch; `split` rows per chunk, in calldata or blobs.

        `rows` and `root` let a test publish what an honest operator would not.
        """
        rows = self.rows(leaves) if rows is None else rows
        self.tree.update(ExitLeaf(index, *leaf) for index, leaf in leaves.items())
        epoch = self.vault.epoch_count() + 1
        step = split or max(1, len(rows))
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        chunks = [chunk for part in parts for chunk in encode_chunks(epoch, self.lanes, part)]
        hashes = self._publish(chunks, in_blobs)
        header = self._header(epoch, self.vault.inbox_count() if consumed is None else consumed, hashes, root)
        place = self.rpc.chain_id(), self.vault.address, header.hash()
        signature = self.wallet.sign_digest(post_epoch_digest(*place))
        signers = self.attestors[: self.threshold]
        attested = [one.sign_digest(attestation_digest(*place)) for one in signers]
        old = self.last.journal_size if self.last is not None else 0
        self.post(header.encode(), hashes, consistency_proof(old, self.journal), signature, attested)
        self.last = header
        self.published.append(chunks)
        return header

    def _publish(self, chunks: list[bytes], in_blobs: bool) -> list[bytes]:
        if in_blobs:
            made = [blobs.encode(chunk) for chunk in chunks]
            self.vault.publish_blobs(made)
            return [blobs.versioned_hash(blob) for blob in made]
        for chunk in chunks:
            self.vault.publish_diff(chunk)
        return [sha256(chunk) for chunk in chunks]

    def _header(self, epoch: int, count: int, hashes: list[bytes], root: bytes | None) -> Header:
        parent = self.rpc.block()
        size = epoch * ENTRIES_PER_EPOCH
        self.journal += [leaf_hash(b"entry %d" % number) for number in range(len(self.journal), size)]
        return Header(
            domain=self.tree.domain,
            epoch=epoch,
            close_time_us=parent.time_s * 1_000_000,
            prev_header=self.last.hash() if self.last is not None else bytes(32),
            journal_size=size,
            journal_root=journal_root(self.journal),
            state_root=sha256(b"state"),
            exit_root=self.tree.root if root is None else root,
            exit_sums=self.tree.sums,
            inbox_count=count,
            inbox_hash=self.vault.inbox_hash(count),
            marks_hash=bytes(32),
            params_hash=bytes(32),
            attestors_hash=attestors_hash(self.threshold, [one.address for one in self.attestors]),
            diff_hash=diff_hash(hashes),
            l1_number=parent.number,
            l1_hash=parent.hash,
        )

    def post(
        self, header: bytes, hashes: list[bytes], consistency: list[bytes], signature: bytes, attested: list[bytes]
    ) -> None:
        """Submit a header; a test may submit it another way."""
        self.vault.post_epoch(header, hashes, consistency, signature, attested)

    def voucher(self, owner: Wallet, asset: int, cumulative: int, valid_s: int = 600) -> tuple[Voucher, bytes, bytes]:
        """A voucher, its owner's signature, and the operator's."""
        made = Voucher(self.tree.domain, owner.address, asset, cumulative, self.rpc.time_s() + valid_s)
        digest = voucher_digest(self.rpc.chain_id(), self.vault.address, made)
        return made, owner.sign_digest(digest), self.wallet.sign_digest(digest)

    def advance(self, owner: Wallet, asset: int, cumulative: int) -> None:
        """Pay `cumulative` to an owner by voucher, out of a float that holds it."""
        self.vault.fund_float(asset, cumulative)
        self.vault.redeem_voucher(*self.voucher(owner, asset, cumulative))

    def pass_time(self, seconds: int) -> None:
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")

    def balances(self, owner: bytes) -> list[int]:
        return [self.vault.token_balance(asset, owner) for asset in range(self.lanes)]

    def holdings(self) -> list[int]:
        return [self.vault.holdings(asset) for asset in range(self.lanes)]

    def floats(self) -> list[int]:
        return [self.vault.float_of(asset) for asset in range(self.lanes)]
