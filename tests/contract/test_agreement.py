# SPDX-License-Identifier: GPL-3.0-or-later
"""The proofs package, the vault and this folder's plain reference say the same, and a proof made by the one
is money from the other."""

import random
from hashlib import sha256
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import diff, inbox
from proofs.header import Header
from proofs.leaf import ExitLeaf
from proofs.sumtree import SumTree, verify_exit
from tests.contract import reference as ref
from tests.contract.chain import Chain
from tests.contract.world import World, owner

u128 = st.integers(0, (1 << 128) - 1)
u96 = st.integers(0, (1 << 96) - 1)
u64 = st.integers(0, (1 << 64) - 1)
hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20)


def text(address: bytes) -> str:
    return "0x" + address.hex()


def as_header(header: ref.Header) -> Header:
    own = {"tag", "version", "lanes"}
    return Header(**{k: v for k, v in vars(header).items() if k not in own})


@given(
    kind=st.just(1),
    index=u64,
    owner=addresses,
    asset=st.integers(0, 3),
    amount=u128,
    l1_time=u64,
    data=hashes,
)
def test_messages_roll_alike(**fields: Any) -> None:
    theirs = inbox.InboxMessage(**fields).roll(bytes(32))
    assert ref.Message(**{**fields, "owner": text(fields["owner"])}).after(bytes(32)) == theirs


@given(domain=hashes, owner=addresses, asset=st.integers(0, 3), cumulative=u128, expiry=u64)
def test_vouchers_hash_alike(domain: bytes, owner: bytes, asset: int, cumulative: int, expiry: int) -> None:
    theirs = inbox.Voucher(domain, owner, asset, cumulative, expiry).hash()
    assert ref.voucher(domain, text(owner), asset, cumulative, expiry) == theirs


@given(chunks=st.lists(st.binary(max_size=40), max_size=4))
def test_diffs_hash_alike(chunks: list[bytes]) -> None:
    assert diff.diff_hash([sha256(chunk).digest() for chunk in chunks]) == ref.diff_hash(chunks)


@settings(max_examples=20)
@given(data=st.data(), lanes=st.integers(1, 4), domain=hashes)
def test_trees_have_the_same_root_sums_and_paths(data: st.DataObject, lanes: int, domain: bytes) -> None:
    row = st.lists(u96, min_size=lanes, max_size=lanes).map(tuple)
    indexes = data.draw(st.sets(st.integers(0, (1 << 20) - 1), min_size=1, max_size=6))
    leaves = [ExitLeaf(i, data.draw(addresses), data.draw(row), data.draw(row)) for i in sorted(indexes)]
    tree = SumTree(domain, lanes)
    tree.update(leaves)
    plain = ref.Tree(domain, lanes, [ref.Leaf(x.index, text(x.owner), x.exits, x.withdraw_acks) for x in leaves])
    assert ref.Node(tree.root, tree.sums) == plain.root()
    for leaf in leaves:
        proof = tree.proof(leaf.index)
        path = [ref.Node(h, s) for h, s in zip(proof.hashes, proof.sums, strict=True)]
        assert path == plain.path(leaf.index)


def test_what_proofs_builds_the_vault_pays(chain: Chain, rng: random.Random) -> None:
    """Leaves, tree, header and proofs of the package, over random leaves, through claim and escape."""
    world = World.create(chain)
    count = 20
    indexes = rng.sample(range(1 << 20), count)
    leaves = [
        ExitLeaf(
            index,
            bytes.fromhex(owner(n)[2:]),
            (rng.randrange(10**12),),
            (rng.randrange(1, 10**12),),
        )
        for n, index in enumerate(indexes)
    ]
    world.deposit(owner(0), sum(leaf.sums[0] for leaf in leaves))
    tree = SumTree(world.domain, 1)
    tree.update(leaves)
    plain = world.header(ref.Node(tree.root, tree.sums))
    header = as_header(plain)
    assert header.encode() == plain.encode() and Header.decode(plain.encode()) == header
    world.post(plain)
    world.pass_window()

    def arguments(leaf: ExitLeaf) -> tuple[Any, ...]:
        proof = tree.proof(leaf.index)
        verify_exit(leaf, proof, header.exit_root, header.exit_sums, header.domain)
        sums = [value for row in proof.sums for value in row]
        amounts = (list(leaf.exits), list(leaf.withdraw_acks))
        return (header.encode(), leaf.index, text(leaf.owner), *amounts, list(proof.hashes), sums)

    for leaf in leaves[::3]:
        world.send("claim", *arguments(leaf))
        assert world.balance(text(leaf.owner)) == leaf.withdraw_acks[0]
    world.freeze()
    for leaf in leaves:
        world.send("escape", *arguments(leaf))
        assert world.balance(text(leaf.owner)) == leaf.sums[0]
    assert world.balance(world.vault) == 0
