# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault with an honest operator, built from the reference formats, for tests to use and to abuse.

Rules: account 0 of the chain pays for everything and stands for "anyone"; the operator is a key and needs
no account; owners are addresses that never send a transaction, since nothing needs them to, and attestors and
members (owners who sign) are keys, which send once the chain adopted them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from eth_keys.datatypes import PrivateKey

from contracts import load
from tests.contract.chain import Chain, Receipt, events
from tests.contract.reference import (
    Header,
    Leaf,
    Message,
    Node,
    Tree,
    attestors_hash,
    consistency,
    diff_hash,
    entry,
    exit_domain,
    journal_root,
    u,
)
from tests.contract.signing import (
    ATTESTORS,
    OPERATOR,
    STRANGER,
    address_of,
    key,
    sign,
    sign_attestation,
    sign_epoch,
    voucher_digest,
)

__all__ = [
    "ATTESTORS",
    "DEADLINE_S",
    "DEPLOYMENT",
    "FLOAT_CAP",
    "MARGIN_S",
    "MAX_DEPOSITORS",
    "MIN_FIRST",
    "NOBODY",
    "OPERATOR",
    "SECONDING_S",
    "STRANGER",
    "TOKEN",
    "TREASURY",
    "VAULT",
    "VETO_BOND",
    "WINDOW_S",
    "Proof",
    "Setup",
    "Voucher",
    "World",
    "member",
    "operator_address",
    "owner",
    "sign_epoch",
]

VAULT = load("Vault")
TOKEN = load("TestToken")
DEPLOYMENT = sha256(b"deployment").digest()
TREASURY = "0x" + "77" * 20
NOBODY = "0x" + "00" * 20
DEADLINE_S = 86_400
WINDOW_S = 3_600
SECONDING_S = 1_800
MARGIN_S = 60
MIN_FIRST = 1_000_000
MAX_DEPOSITORS = 1_000
VETO_BOND = 10**16
FLOAT_CAP = 10**9
ENTRIES_PER_EPOCH = 10


def owner(number: int) -> str:
    """The address of a user who has no account and no key on this chain."""
    return "0x" + sha256(b"owner" + u(number, 32)).hexdigest()[:40]


def member(number: int) -> PrivateKey:
    """The key of a user who signs or sends."""
    return key(f"member {number}")


def operator_address(signer: PrivateKey = OPERATOR) -> str:
    return address_of(signer)


@dataclass(frozen=True)
class Setup:
    """The constructor's struct by name; times in seconds, `float_caps` None for the same cap on every asset."""

    tokens: Sequence[str]
    deployment: bytes = DEPLOYMENT
    operator: str = address_of(OPERATOR)
    treasury: str = TREASURY
    governor: str = NOBODY
    deadline_s: int = DEADLINE_S
    window_s: int = WINDOW_S
    seconding_s: int = SECONDING_S
    min_first: int = MIN_FIRST
    max_depositors: int = MAX_DEPOSITORS
    attestors: Sequence[str] = ()
    threshold: int = 0
    veto_bond: int = VETO_BOND
    operator_bond: int = 0
    float_caps: Sequence[int] | None = None

    def struct(self) -> tuple[Any, ...]:
        caps = [FLOAT_CAP] * len(self.tokens) if self.float_caps is None else list(self.float_caps)
        roles = (self.deployment, self.operator, self.treasury, self.governor, list(self.tokens))
        times = (self.deadline_s, self.window_s, self.seconding_s)
        limits = (self.min_first, self.max_depositors, list(self.attestors), self.threshold)
        return (*roles, *times, *limits, self.veto_bond, self.operator_bond, caps)


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


Voucher = tuple[bytes, str, int, int, int]


@dataclass
class World:
    """One vault; `headers` and `trees` by epoch, `messages` by index, `journal` the leaf hashes of its entries."""

    chain: Chain
    vault: str
    setup: Setup
    domain: bytes
    messages: list[Message] = field(default_factory=list)
    rolling: list[bytes] = field(default_factory=lambda: [bytes(32)])
    headers: dict[int, Header] = field(default_factory=dict)
    trees: dict[int, Tree] = field(default_factory=dict)
    journal: list[bytes] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        chain: Chain,
        tokens: Sequence[str] | None = None,
        attestors: int = 0,
        threshold: int = 0,
        **setup: Any,
    ) -> "World":
        """A new vault over these token contracts, or over one new test token; `setup` as in `Setup`."""
        listed = list(tokens) if tokens is not None else [chain.deploy(TOKEN, "Test dollar", "TUSD")]
        signers = [address_of(one) for one in ATTESTORS[:attestors]]
        chosen = Setup(listed, attestors=signers, threshold=threshold, **setup)
        vault = chain.deploy(VAULT, chosen.struct())
        for token in listed:
            chain.send(TOKEN, token, "mint", chain.accounts[0], 1 << 100)
            chain.send(TOKEN, token, "approve", vault, (1 << 256) - 1)
        return cls(chain, vault, chosen, exit_domain(chain.chain_id, vault))

    @property
    def tokens(self) -> Sequence[str]:
        return self.setup.tokens

    @property
    def lanes(self) -> int:
        return len(self.tokens)

    @property
    def attestors(self) -> list[PrivateKey]:
        return ATTESTORS[: len(self.setup.attestors)]

    def view(self, function: str, *arguments: Any) -> Any:
        return self.chain.call(VAULT, self.vault, function, *arguments)

    def send(self, function: str, *arguments: Any, sender: int | str = 0, value: int = 0) -> Receipt:
        return self.chain.send(VAULT, self.vault, function, *arguments, sender=sender, value=value)

    def balance(self, who: str, asset: int = 0) -> int:
        return int(self.chain.call(TOKEN, self.tokens[asset], "balanceOf", who))

    # -- the inbox

    def note(self, receipt: Receipt) -> Message:
        """The one inbox message of a transaction, remembered as an operator would."""
        (event,) = events(receipt, VAULT, "InboxMessagePosted")
        fields = {"l1_time" if k == "l1Time" else k: v for k, v in event.items() if k != "rollingHash"}
        message = Message(**fields)
        self.messages.append(message)
        self.rolling.append(message.after(self.rolling[-1]))
        return message

    def deposit(self, who: str, amount: int, asset: int = 0) -> Message:
        self.send("deposit", asset, amount, who)
        message = Message(len(self.messages), who, asset, amount, self.chain.now())
        self.messages.append(message)
        self.rolling.append(message.after(self.rolling[-1]))
        return message

    # -- epochs

    def tree(self, leaves: list[Leaf]) -> Tree:
        return Tree(self.domain, self.lanes, leaves)

    def entries(self, size: int) -> list[bytes]:
        """The journal's first `size` leaf hashes; it grows as far as it is asked for."""
        while len(self.journal) < size:
            self.journal.append(entry(b"entry %d" % len(self.journal)))
        return self.journal[:size]

    def header(self, root: Node, consumed: int | None = None, chunks: Sequence[bytes] = ()) -> Header:
        """The next header an honest operator would sign over this exit root."""
        number, block_hash, now = self.chain.backend.block(None)
        count = len(self.messages) if consumed is None else consumed
        last = self.headers[len(self.headers)] if self.headers else None
        size = (last.journal_size if last else 0) + ENTRIES_PER_EPOCH
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
            journal_size=size,
            journal_root=journal_root(self.entries(size)),
            attestors_hash=attestors_hash(self.setup.threshold, list(self.setup.attestors)),
        )

    def consistency(self, header: Header) -> list[bytes]:
        """The proof that this header's journal extends the last posted one's."""
        old = self.headers[len(self.headers)].journal_size if self.headers else 0
        return consistency(old, self.entries(header.journal_size)) if 0 < old < header.journal_size else []

    def attestations(self, header: Header, signers: Sequence[PrivateKey]) -> list[bytes]:
        return [sign_attestation(one, header.hash(), self.chain.chain_id, self.vault) for one in signers]

    def posting(
        self,
        header: Header,
        chunks: Sequence[bytes] = (),
        key: PrivateKey = OPERATOR,
        signers: Sequence[PrivateKey] | None = None,
    ) -> tuple[Any, ...]:
        """The arguments of postEpoch as an honest poster makes them; as many attestors sign as are needed."""
        hashes = [sha256(chunk).digest() for chunk in chunks]
        signature = sign_epoch(key, header.hash(), self.chain.chain_id, self.vault)
        chosen = self.attestors[: self.setup.threshold] if signers is None else signers
        return header.encode(), hashes, self.consistency(header), signature, self.attestations(header, chosen)

    def post(
        self,
        header: Header,
        chunks: Sequence[bytes] = (),
        key: PrivateKey = OPERATOR,
        signers: Sequence[PrivateKey] | None = None,
    ) -> Receipt:
        receipt = self.send("postEpoch", *self.posting(header, chunks, key, signers))
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

    # -- leaving

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

    # -- vetoes and vouchers

    def veto(self, epoch: int, attestor: int, bond: int = VETO_BOND) -> Receipt:
        """By the attestor of this number, whom the chain adopts on the way."""
        sender = self.chain.adopt(self.attestors[attestor])
        arguments = (epoch, self.headers[epoch].hash(), sha256(b"evidence").digest())
        return self.send("veto", *arguments, sender=sender, value=bond)

    def second(self, epoch: int, attestor: int) -> Receipt:
        sender = self.chain.adopt(self.attestors[attestor])
        return self.send("second", epoch, self.headers[epoch].hash(), sender=sender)

    def voucher(self, who: PrivateKey, cumulative: int, asset: int = 0, valid_s: int = 600) -> Voucher:
        return (self.domain, address_of(who), asset, cumulative, self.chain.now() + valid_s)

    def redeem(self, voucher: Voucher, who: PrivateKey, operator: PrivateKey = OPERATOR) -> Receipt:
        digest = voucher_digest(voucher, self.chain.chain_id, self.vault)
        return self.send("redeemVoucher", voucher, sign(who, digest), sign(operator, digest))

    def with_setup(self, **changes: Any) -> Setup:
        """The vault's configuration with changes, for another one."""
        return replace(self.setup, **changes)
