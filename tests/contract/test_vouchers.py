# SPDX-License-Identifier: GPL-3.0-or-later
"""The state channel: paid at once from the operator's own float, and nothing is ever paid twice for it.

Rules: a member's acknowledged withdrawals (withdraw_ack) are what it is owed in all; a voucher pays a part
of that early. So member's balance + advance still to repay = what claims and escapes were due.
"""

from collections.abc import Callable
from typing import Any

import pytest

from contracts import load
from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf
from tests.contract.signing import OPERATOR, STRANGER, address_of, sign, voucher_digest
from tests.contract.world import FLOAT_CAP, TOKEN, TREASURY, VAULT, Voucher, World, member, owner

WALLET = load("ContractWallet")
DEPOSIT = 50_000_000
FLOAT = 20_000_000
ACK = 7_000_000
ALICE = member(1)
HER = address_of(ALICE)


def channel(chain: Chain, assets: int = 1, **setup: Any) -> World:
    """Alice deposited and one final epoch acknowledges a withdrawal; the operator funded its float."""
    tokens = [chain.deploy(TOKEN, f"Token {n}", "T") for n in range(assets)]
    world = World.create(chain, tokens=tokens, **setup)
    for asset in range(assets):
        world.deposit(HER, DEPOSIT, asset)
        world.send("fundFloat", asset, FLOAT)
    world.close_epoch([Leaf(1, HER, (DEPOSIT - ACK,) * assets, (ACK,) * assets)])
    return world


def test_a_voucher_pays_at_once_and_never_from_the_holdings(evm: Chain) -> None:
    """Before any header is final: the float pays, and what everyone deposited is untouched."""
    world = channel(evm)
    (event,) = events(world.redeem(world.voucher(ALICE, ACK), ALICE), VAULT, "VoucherRedeemed")
    assert event == {"owner": HER, "asset": 0, "amount": ACK, "cumulative": ACK}
    assert world.balance(HER) == ACK
    assert (world.view("floatOf", 0), world.view("holdings", 0)) == (FLOAT - ACK, DEPOSIT)
    assert (world.view("advancedOf", HER, 0), world.view("claimedOf", HER, 0)) == ((ACK, 0), 0)


def test_the_highest_cumulative_wins_and_an_older_one_adds_nothing(evm: Chain) -> None:
    """Vouchers are cumulative: in whatever order they come, the highest is what was paid. Defence: StaleVoucher."""
    world = channel(evm)
    first, second, third = (world.voucher(ALICE, amount) for amount in (1_000_000, 4_000_000, 5_000_000))
    world.redeem(second, ALICE)
    for old in (first, second):
        with refused("StaleVoucher"):
            world.redeem(old, ALICE)
    world.redeem(third, ALICE)
    assert world.balance(HER) == 5_000_000


def test_exit_after_voucher_pays_the_rest_only(evm: Chain) -> None:
    """The claim that the voucher ran ahead of repays the float first. Defence: _repayAdvance."""
    world = channel(evm)
    world.redeem(world.voucher(ALICE, 5_000_000), ALICE)
    world.pass_window()
    receipt = world.claim(1, 1)
    (repaid,) = events(receipt, VAULT, "AdvanceRepaid")
    assert repaid == {"owner": HER, "asset": 0, "amount": 5_000_000}
    assert world.balance(HER) == ACK
    assert (world.view("floatOf", 0), world.view("advancedOf", HER, 0)) == (FLOAT, (5_000_000, 5_000_000))
    assert world.view("holdings", 0) == DEPOSIT - ACK


def test_a_claim_smaller_than_the_advance_all_goes_to_the_float(evm: Chain) -> None:
    """And the next one pays what is still owed to it."""
    world = channel(evm)
    world.redeem(world.voucher(ALICE, ACK + 3_000_000), ALICE)
    world.pass_window()
    world.claim(1, 1)
    assert world.balance(HER) == ACK + 3_000_000
    assert world.view("advancedOf", HER, 0) == (ACK + 3_000_000, ACK)
    world.close_epoch([Leaf(1, HER, (DEPOSIT - 2 * ACK,), (2 * ACK,))])
    world.pass_window()
    world.claim(2, 1)
    assert world.balance(HER) == 2 * ACK
    assert (world.view("floatOf", 0), world.view("holdings", 0)) == (FLOAT, DEPOSIT - 2 * ACK)


@pytest.mark.parametrize("claimed_first", [False, True])
def test_voucher_beside_escape(evm: Chain, claimed_first: bool) -> None:
    """Redeem a voucher, then escape with the whole leaf. Defence: the escape repays the float first, so that
    voucher, claim and escape together pay exactly exit + withdraw_ack."""
    world = channel(evm)
    world.redeem(world.voucher(ALICE, ACK), ALICE)
    world.pass_window()
    if claimed_first:
        world.claim(1, 1)
    world.freeze()
    world.escape(1, 1)
    assert world.balance(HER) == DEPOSIT
    assert (world.view("floatOf", 0), world.view("holdings", 0)) == (FLOAT, 0)
    assert world.balance(world.vault) == FLOAT


def test_no_voucher_after_a_freeze(evm: Chain) -> None:
    """Or an operator and an owner in league could take the float after the owner has escaped. The float itself
    goes back to the treasury."""
    world = channel(evm)
    world.pass_window()
    voucher = world.voucher(ALICE, ACK, valid_s=1 << 30)
    world.freeze()
    with refused("VaultFrozen"):
        world.redeem(voucher, ALICE)
    world.escape(1, 1)
    with refused("NotOperator"):
        world.send("withdrawFloat", 0, FLOAT)
    assert world.balance(HER) == DEPOSIT


def test_an_advance_that_was_never_owed_is_the_operators_loss(evm: Chain) -> None:
    """A voucher after the claim pays a second time, from the float: the operator signed it. What others are owed
    stays covered."""
    world = channel(evm)
    world.pass_window()
    world.claim(1, 1)
    world.redeem(world.voucher(ALICE, ACK), ALICE)
    assert world.balance(HER) == 2 * ACK
    world.freeze()
    world.escape(1, 1)
    assert world.balance(HER) == DEPOSIT
    assert (world.view("floatOf", 0), world.view("holdings", 0)) == (FLOAT, 0)


def test_payouts_are_capped_by_the_hour(evm: Chain) -> None:
    """A stolen operator key empties no more than an hour's cap at a time. Defence: OutflowCapped."""
    world = channel(evm, float_caps=[3_000_000])
    evm.backend.mine_at((evm.now() // 3_600 + 1) * 3_600)
    world.redeem(world.voucher(ALICE, 2_000_000), ALICE)
    with refused("OutflowCapped"):
        world.redeem(world.voucher(ALICE, 3_000_001), ALICE)
    world.redeem(world.voucher(ALICE, 3_000_000), ALICE)
    with refused("OutflowCapped"):
        world.redeem(world.voucher(member(2), 1), member(2))
    evm.backend.mine_at((evm.now() // 3_600 + 1) * 3_600)
    world.redeem(world.voucher(ALICE, 6_000_000), ALICE)
    assert world.balance(HER) == 6_000_000


def test_a_cap_of_zero_closes_the_channel(evm: Chain) -> None:
    world = channel(evm, float_caps=[0])
    with refused("OutflowCapped"):
        world.redeem(world.voucher(ALICE, 1), ALICE)


FORGERIES: dict[str, tuple[Callable[[Voucher], Voucher], str]] = {
    "another vault's domain": (lambda v: (b"\x01" * 32, *v[1:]), "WrongVoucherDomain"),
    "a higher amount than signed": (lambda v: (*v[:3], v[3] + 1, v[4]), "InvalidVoucherSignature"),
    "a later expiry than signed": (lambda v: (*v[:4], v[4] + 1), "InvalidVoucherSignature"),
    "another owner": (lambda v: (v[0], owner(2), *v[2:]), "InvalidVoucherSignature"),
    "another asset": (lambda v: (*v[:2], 1, *v[3:]), "InvalidVoucherSignature"),
    "an asset that is not there": (lambda v: (*v[:2], 2, *v[3:]), "UnknownAsset"),
    "an expired one": (lambda v: (*v[:4], 1), "VoucherExpired"),
    "nothing": (lambda v: (*v[:3], 0, v[4]), "StaleVoucher"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_voucher_that_was_not_signed_so_is_refused(evm: Chain, name: str) -> None:
    change, error = FORGERIES[name]
    world = channel(evm, 2)
    true = world.voucher(ALICE, ACK)
    digest = voucher_digest(true, evm.chain_id, world.vault)
    forged: Voucher = change(true)
    with refused(error):
        world.send("redeemVoucher", forged, sign(ALICE, digest), sign(OPERATOR, digest))
    world.send("redeemVoucher", true, sign(ALICE, digest), sign(OPERATOR, digest))


def test_both_must_have_signed(evm: Chain) -> None:
    """Neither the owner alone nor the operator alone, nor a voucher of the same vault address on another chain."""
    world = channel(evm)
    voucher = world.voucher(ALICE, ACK)
    with refused("InvalidVoucherSignature"):
        world.redeem(voucher, STRANGER)
    with refused("InvalidVoucherSignature"):
        world.redeem(voucher, ALICE, STRANGER)
    elsewhere = voucher_digest(voucher, evm.chain_id + 1, world.vault)
    with refused("InvalidVoucherSignature"):
        world.send("redeemVoucher", voucher, sign(ALICE, elsewhere), sign(OPERATOR, elsewhere))
    world.redeem(voucher, ALICE)


def test_after_a_rotation_the_old_operator_signs_no_vouchers(evm: Chain) -> None:
    """Unredeemed vouchers end with the key that signed them: redeem in time, or have them signed again."""
    world = channel(evm)
    voucher = world.voucher(ALICE, ACK)
    world.send("rotateOperator", address_of(STRANGER), sender=evm.adopt(OPERATOR))
    with refused("InvalidVoucherSignature"):
        world.redeem(voucher, ALICE)
    world.redeem(voucher, ALICE, STRANGER)


def test_a_contract_wallet_owns_a_channel(evm: Chain) -> None:
    world = channel(evm)
    wallet = evm.deploy(WALLET, HER)
    voucher = (world.domain, wallet, 0, ACK, evm.now() + 600)
    with refused("InvalidVoucherSignature"):
        world.redeem(voucher, STRANGER)
    world.redeem(voucher, ALICE)
    assert world.balance(wallet) == ACK


def test_the_float_is_the_operators_and_no_solvency(evm: Chain) -> None:
    """A header cannot promise the float; nobody but the operator takes it back, and only to the treasury."""
    world = channel(evm)
    promised = [Leaf(1, HER, (DEPOSIT + 1,), (0,))]
    with refused("Insolvent"):
        world.close_epoch(promised)
    refusals: list[tuple[str, str, tuple[int, int], int | str]] = [
        ("NotOperator", "withdrawFloat", (0, 1), 0),
        ("UnknownAsset", "fundFloat", (1, 1), 0),
        ("ZeroAmount", "fundFloat", (0, 0), 0),
        ("UnknownAsset", "withdrawFloat", (1, 1), evm.adopt(OPERATOR)),
        ("FloatTooLow", "withdrawFloat", (0, FLOAT + 1), evm.adopt(OPERATOR)),
    ]
    for error, function, arguments, sender in refusals:
        with refused(error):
            world.send(function, *arguments, sender=sender)
    with refused("FloatTooLow"):
        world.redeem(world.voucher(ALICE, FLOAT + 1), ALICE)
    world.send("withdrawFloat", 0, FLOAT, sender=evm.adopt(OPERATOR))
    assert (world.balance(TREASURY), world.view("floatOf", 0), world.view("holdings", 0)) == (FLOAT, 0, DEPOSIT)
    assert world.view("floatCap", 0) == FLOAT_CAP


def test_lanes_have_channels_of_their_own(evm: Chain) -> None:
    """Two lanes share a word of counters; an advance in one is repaid from that one alone."""
    world = channel(evm, 4)
    world.redeem(world.voucher(ALICE, ACK, asset=1), ALICE)
    world.redeem(world.voucher(ALICE, 1_000_000, asset=3), ALICE)
    world.pass_window()
    world.claim(1, 1)
    assert [world.balance(HER, asset) for asset in range(4)] == [ACK] * 4
    assert [world.view("floatOf", asset) for asset in range(4)] == [FLOAT] * 4
    assert world.view("advancedOf", HER, 1) == (ACK, ACK)
    world.freeze()
    world.escape(1, 1)
    assert [world.balance(HER, asset) for asset in range(4)] == [DEPOSIT] * 4


def test_the_largest_leaf_values_leave_neighbours_alone(evm: Chain) -> None:
    """Counters of 96 bits next to each other and flags above them: the extremes of one lane change no other."""
    most = (1 << 96) - 1
    tokens = [evm.deploy(TOKEN, f"Token {n}", "T") for n in range(2)]
    world = World.create(evm, tokens=tokens, float_caps=[FLOAT, FLOAT])
    world.deposit(HER, most, 0)
    world.deposit(owner(2), most, 1)
    world.send("fundFloat", 1, FLOAT)
    world.redeem(world.voucher(ALICE, 5, asset=1), ALICE)
    world.close_epoch([Leaf(1, HER, (1, 0), (most - 1, 10)), Leaf(2, owner(2), (0, most - 10), (0, 0))])
    world.pass_window()
    world.claim(1, 1)
    assert (world.balance(HER, 0), world.balance(HER, 1)) == (most - 1, 10)
    world.freeze()
    for index in (1, 2):
        world.escape(1, index)
    assert (world.balance(HER, 0), world.balance(HER, 1), world.balance(owner(2), 1)) == (most, 10, most - 10)
    assert world.view("floatOf", 1) == FLOAT
