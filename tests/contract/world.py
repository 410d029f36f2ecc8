# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault with an honest operator, built from the reference formats, for tests to use and to abuse.

Rules: account 0 of the chain pays for everything and stands for "anyone"; the operator is a key and needs
no account; owners are addresses that never send a transaction, since nothing needs them to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from contracts import load
from tests.contract.chain import Chain, Receipt
from tests.contract.reference import Header, Leaf, Message, Node, Tree, diff_hash, exit_domain, u

VAULT = load("Vault")
TOKEN = load("TestToken")
DEPLOYMENT = sha256(b"deployment").digest()
OPERATOR = PrivateKey(sha256(b"operator").digest())
STRANGER = PrivateKey(sha256(b"stranger").digest())
TREASURY = "0x" + "77" * 20
DEADLINE_S = 86_400
WINDOW_S = 3_600
MARGIN_S = 60
MIN_FIRST = 1_000_000
MAX_DEPOSITORS = 1_000


def owner(number: int) -> str:
    """The address of a user who has no account and no key on this chain."""
    return "0x" + sha256(b"owner" + u(number, 32)).hexdigest()[:40]


def operator_address(key: PrivateKey = OPERATOR) -> str:
    return str(key.public_key.to_address())


def sign_epoch(key: PrivateKey, header_hash: bytes, chain_id: int, vault: str) -> bytes:
    """The signature over EIP-712 PostEpoch(bytes32 header) in the vault's domain, laid out by hand."""
    kind = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    fields = keccak(kind) + keccak(b"Novate Vault") + keccak(b"1") + u(chain_id, 256)
    domain = keccak(fields + bytes(12) + bytes.fromhex(vault[2:]))
    struct = keccak(keccak(b"PostEpoch(bytes32 header)") + header_hash)
    signature = key.sign_msg_hash(keccak(b"\x19\x01" + domain + struct)).to_bytes()
    return bytes(signature[:64]) + bytes([27 + signature[64]])


@dataclass(frozen=True)
class Proof:
    """The arguments of claim and escape; tests change one and see it refused."""

    header: bytes
    leaf: Leaf
    path: list[Node]

    def arguments(self) -> tuple[Any, ...]:
        siblings = [node.hash for node in self.path]
        sums = [value for node in self.path for value in node.sums]
        return (
            self.header,
            self.leaf.index,
            self.leaf.owner,
            list(self.leaf.exits),
            list(self.leaf.acks),
            siblings,
            sums,
        )


@dataclass
class World:
    """One vault; `headers` and `trees` by epoch, `messages` by index."""

    chain: Chain
    vault: str
    tokens: list[str]
    operator: str
    domain: bytes
    messages: list[Message] = field(default_factory=list)
    rolling: list[bytes] = field(default_factory=lambda: [bytes(32)])
    headers: dict[int, Header] = field(default_factory=dict)
    trees: dict[int, Tree] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        chain: Chain,
        tokens: Sequence[str] | None = None,
        operator: str | None = None,
        deadline_s: int = DEADLINE_S,
        max_depositors: int = MAX_DEPOSITORS,
    ) -> "World":
        """A new vault over these token contracts, or over one new test token."""
        listed = list(tokens) if tokens is not None else [chain.deploy(TOKEN, "Test dollar", "TUSD")]
        signer = operator or operator_address()
        configuration = (listed, deadline_s, WINDOW_S, MIN_FIRST, max_depositors)
        vault = chain.deploy(VAULT, DEPLOYMENT, signer, TREASURY, *configuration)
        for token in listed:
            chain.send(TOKEN, token, "mint", chain.accounts[0], 1 << 100)
            chain.send(TOKEN, token, "approve", vault, (1 << 256) - 1)
        return cls(chain, vault, listed, signer, exit_domain(chain.chain_id, vault))

    @property
    def lanes(self) -> int:
        return len(self.tokens)

    def view(self, function: str, *arguments: Any) -> Any:
        return self.chain.call(VAULT, self.vault, function, *arguments)

    def send(self, function: str, *arguments: Any, sender: int = 0) -> Receipt:
        return self.chain.send(VAULT, self.vault, function, *arguments, sender=sender)

    def balance(self, who: str, asset: int = 0) -> int:
        return int(self.chain.call(TOKEN, self.tokens[asset], "balanceOf", who))

    def deposit(self, who: str, amount: int, asset: int = 0) -> Message:
        self.send("deposit", asset, amount, who)
        message = Message(len(self.messages), who, asset, amount, self.chain.now())
        self.messages.append(message)
        self.rolling.append(message.after(self.rolling[-1]))
        return message

    def tree(self, leaves: list[Leaf]) -> Tree:
        return Tree(self.domain, self.lanes, leaves)

    def header(self, root: Node, consumed: int | None = None, chunks: Sequence[bytes] = ()) -> Header:
        """The next header an honest operator would sign over this exit root."""
        number, block_hash, now = self.chain.backend.block(None)
        count = len(self.messages) if consumed is None else consumed
        last = self.headers[len(self.headers)] if self.headers else None
        return Header(
            domain=self.domain,
            epoch=len(self.headers) + 1,
            close_time_us=now * 1_000_000,
            prev_header=last.hash() if last else bytes(32),
            exit_root=root.hash,
            exit_sums=root.sums,
            inbox_count=count,
            inbox_hash=self.rolling[count],
            diff_hash=diff_hash(list(chunks)),
            l1_number=number,
            l1_hash=block_hash,
            journal_size=last.journal_size + 10 if last else 10,
        )

    def post(self, header: Header, chunks: Sequence[bytes] = (), key: PrivateKey = OPERATOR) -> Receipt:
        hashes = [sha256(chunk).digest() for chunk in chunks]
        signature = sign_epoch(key, header.hash(), self.chain.chain_id, self.vault)
        receipt = self.send("postEpoch", header.encode(), hashes, signature)
        self.headers[header.epoch] = header
        return receipt

    def close_epoch(self, leaves: list[Leaf], consumed: int | None = None) -> int:
        """Posts the next epoch over these leaves, its diff published first; returns its number."""
        tree = self.tree(leaves)
        chunk = b"diff of epoch %d" % (len(self.headers) + 1)
        self.send("publishDiff", chunk)
        header = self.header(tree.root(), consumed, [chunk])
        self.post(header, [chunk])
        self.trees[header.epoch] = tree
        return header.epoch

    def proof(self, epoch: int, index: int) -> Proof:
        tree = self.trees[epoch]
        return Proof(self.headers[epoch].encode(), tree.leaves[index], tree.path(index))

    def claim(self, epoch: int, index: int) -> Receipt:
        return self.send("claim", *self.proof(epoch, index).arguments())

    def escape(self, epoch: int, index: int) -> Receipt:
        return self.send("escape", *self.proof(epoch, index).arguments())

    def refund(self, message: Message) -> Receipt:
        fields = (message.owner, message.asset, message.amount, message.l1_time, message.data)
        return self.send("refund", message.index, *fields)

    def pass_window(self) -> None:
        self.chain.advance(WINDOW_S)

    def freeze(self) -> None:
        """Lets the deadline pass and freezes."""
        wait = self.view("freezeAt") - self.chain.now()
        if wait > 0:
            self.chain.advance(wait)
        self.send("freeze")
