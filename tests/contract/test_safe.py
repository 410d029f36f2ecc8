# SPDX-License-Identifier: GPL-3.0-or-later
"""A real 2-of-3 Safe in every role that a contract can have: operator, co-signer of vouchers, owner."""

from typing import Any

import pytest

from contracts import abi
from tests.contract.chain import Chain, Reverted, events, refused
from tests.contract.reference import Header, Leaf
from tests.contract.safes import PUBLISHED, SOURCES, Safe, published_address
from tests.contract.signing import (
    OPERATOR,
    STRANGER,
    address_of,
    key,
    post_epoch_digest,
    sign,
    sign_checkpoint,
    voucher_digest,
)
from tests.contract.world import DEPLOYMENT, TREASURY, VAULT, World, member

OWNERS = [key(f"safe owner {n}") for n in range(3)]
DEPOSIT = 50_000_000

pytestmark = pytest.mark.parametrize("version", ["1.4.1", "1.5.0"])


def ruled(chain: Chain, version: str) -> tuple[World, Safe]:
    """A vault whose operator is a Safe of three owners, two of whom must sign."""
    safe = Safe.create(chain, version, OWNERS, 2)
    return World.create(chain, operator=safe.address), safe


def submit(world: World, header: Header, signature: bytes) -> None:
    world.send("postEpoch", header.encode(), [], world.consistency(header), signature, [], sender=5)
    world.headers[header.epoch] = header


def epoch_digest(world: World, header: Header) -> bytes:
    return post_epoch_digest(header.hash(), world.chain.chain_id, world.vault)


@pytest.mark.parametrize("name", SOURCES)
def test_this_is_the_code_at_the_published_addresses(version: str, name: str) -> None:
    """CREATE2 fixes an address by the code: what we test against is what people use."""
    assert published_address(version, name) == PUBLISHED[version][name]


def test_two_of_three_owners_post_an_epoch(evm: Chain, version: str) -> None:
    """ERC-1271 through Safe's fallback handler: the owners sign a Safe message around PostEpoch's digest."""
    world, safe = ruled(evm, version)
    assert (safe.view("getThreshold"), len(safe.view("getOwners"))) == (2, 3)
    for pair in ([0, 1], [1, 2]):
        header = world.header(world.tree([]).root())
        submit(world, header, safe.signature(epoch_digest(world, header), [safe.owners[n] for n in pair]))
    assert world.view("epochCount") == 2


def test_less_than_two_owners_post_nothing(evm: Chain, version: str) -> None:
    """One owner, one owner twice, an owner and a stranger, owners out of order, owners of another message or
    another vault, and owners who signed the bare digest: each is refused as the operator's signature."""
    world, safe = ruled(evm, version)
    header = world.header(world.tree([]).root())
    digest = epoch_digest(world, header)
    a, b = safe.owners[:2]
    elsewhere = post_epoch_digest(header.hash(), evm.chain_id, world.tokens[0])
    for wrong in (
        b"",
        safe.signature(digest, [a]),
        safe.signature(digest, [a, a]),
        safe.signature(digest, [b, a]),
        safe.signature(digest, [a, STRANGER]),
        safe.signature(epoch_digest(world, header.but(epoch=2)), [a, b]),
        safe.signature(elsewhere, [a, b]),
        sign(a, digest) + sign(b, digest),
    ):
        with refused("InvalidOperatorSignature"):
            submit(world, header, wrong)
    submit(world, header, safe.signature(digest, [a, b]))


def test_the_safe_hands_its_role_over_by_a_safe_transaction(evm: Chain, version: str) -> None:
    """rotateOperator takes the Safe as its sender; no owner alone can call it, and one signature is too few."""
    world, safe = ruled(evm, version)
    call = abi.encode_call(VAULT, "rotateOperator", address_of(OPERATOR))
    for single in safe.owners:
        with refused("NotOperator"):
            world.send("rotateOperator", address_of(OPERATOR), sender=evm.adopt(single))
    with pytest.raises(Reverted):
        safe.execute(world.vault, call, safe.owners[:1])
    receipt = safe.execute(world.vault, call, safe.owners[1:])
    assert events(receipt, VAULT, "OperatorRotated") == [{"previous": safe.address, "current": address_of(OPERATOR)}]
    world.post(world.header(world.tree([]).root()))


def test_the_safe_co_signs_vouchers(evm: Chain, version: str) -> None:
    """The operator's half of a voucher by two owners of the Safe, the owner's half by a key and by a Safe."""
    world, safe = ruled(evm, version)
    world.send("fundFloat", 0, DEPOSIT)
    alice = member(1)
    voucher = world.voucher(alice, 7_000_000)
    digest = voucher_digest(voucher, evm.chain_id, world.vault)
    with refused("InvalidVoucherSignature"):
        world.send("redeemVoucher", voucher, sign(alice, digest), safe.signature(digest, safe.owners[:1]))
    world.send("redeemVoucher", voucher, sign(alice, digest), safe.signature(digest, safe.owners[:2]))
    assert world.balance(address_of(alice)) == 7_000_000

    household = Safe.create(evm, version, [member(2), member(3)], 1)
    owned = (world.domain, household.address, 0, 1_000_000, evm.now() + 600)
    digest = voucher_digest(owned, evm.chain_id, world.vault)
    both = safe.signature(digest, safe.owners[:2])
    with refused("InvalidVoucherSignature"):
        world.send("redeemVoucher", owned, household.signature(digest, [STRANGER]), both)
    world.send("redeemVoucher", owned, household.signature(digest, household.owners[1:]), both)
    assert world.balance(household.address) == 1_000_000


def test_the_safe_manages_its_float_and_its_bond(evm: Chain, version: str) -> None:
    """What the operator alone may do, by Safe transactions: take the float back, and the bond after the end."""
    world, safe = ruled(evm, version)
    world.send("fundFloat", 0, DEPOSIT)
    world.send("postBond", value=10**15)
    safe.execute(world.vault, abi.encode_call(VAULT, "withdrawFloat", 0, DEPOSIT), safe.owners[:2])
    assert world.balance(TREASURY) == DEPOSIT
    bond = abi.encode_call(VAULT, "withdrawBond")
    with pytest.raises(Reverted):
        safe.execute(world.vault, bond, safe.owners[:2])
    world.freeze()
    evm.advance(world.setup.deadline_s)
    safe.execute(world.vault, bond, safe.owners[:2])
    world.send("withdrawEth", safe.address)
    assert evm.balance(safe.address) == 10**15


def test_a_key_named_by_the_safe_binds_it(evm: Chain, version: str) -> None:
    """A Safe cannot sign every commit: it names a key, whose two answers for one journal then convict it."""
    world, safe = ruled(evm, version)
    evidence = ((4, bytes(32)), (4, b"\x01" * 32))
    signatures = [sign_checkpoint(STRANGER, DEPLOYMENT, *one) for one in evidence]
    proof: tuple[Any, ...] = (evidence[0], signatures[0], evidence[1], signatures[1], (0, bytes(32), [], bytes(32), []))
    with refused("InvalidCheckpointSignature"):
        world.send("proveEquivocation", *proof)
    with refused("NotOperator"):
        world.send("nameSigner", address_of(STRANGER))
    safe.execute(world.vault, abi.encode_call(VAULT, "nameSigner", address_of(STRANGER)), safe.owners[:2])
    world.send("proveEquivocation", *proof)
    assert world.view("freezeReason") == 3


def test_money_of_a_safe_owner_is_claimed_and_escaped(evm: Chain, version: str) -> None:
    """Owners may be contracts: nothing of leaving needs their signature."""
    world = World.create(evm)
    household = Safe.create(evm, version, OWNERS, 2)
    world.deposit(household.address, DEPOSIT)
    world.close_epoch([Leaf(1, household.address, (DEPOSIT - 5,), (5,))])
    world.pass_window()
    world.claim(1, 1)
    world.freeze()
    world.escape(1, 1)
    assert world.balance(household.address) == DEPOSIT
