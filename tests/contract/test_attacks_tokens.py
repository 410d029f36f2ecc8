# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile tokens against every function that moves them, vouchers and the float included; test_tokens.py has the
rest. Each names its defence."""

from typing import Any

import pytest

from contracts import abi, load
from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf
from tests.contract.signing import OPERATOR, address_of, sign, voucher_digest
from tests.contract.world import TOKEN, TREASURY, VAULT, World, member, owner

pytestmark = pytest.mark.slow

REENTRANT = load("ReentrantToken")
BLACKLIST = load("BlacklistToken")
FEE = load("FeeToken")
SILENT = load("SilentToken")
DEPOSIT, FLOAT, ACK, VOUCHED = 50_000_000, 20_000_000, 7_000_000, 3_000_000
ALICE = member(1)
HER = address_of(ALICE)
BOB = owner(2)


def funded(chain: Chain, tokens: list[str]) -> World:
    """Alice and Bob deposited in every asset and are acknowledged something; the float is full; a deposit of
    Alice waits that no header consumed."""
    world = World.create(chain, tokens=tokens)
    assets = range(len(tokens))
    for asset in assets:
        for who in (HER, BOB):
            world.deposit(who, DEPOSIT, asset)
        world.send("fundFloat", asset, FLOAT)
    amounts = ((DEPOSIT - ACK,) * len(tokens), (ACK,) * len(tokens))
    world.close_epoch([Leaf(1, HER, *amounts), Leaf(2, BOB, *amounts)])
    for asset in assets:
        world.deposit(HER, 1_234, asset)
    world.pass_window()
    return world


def redemption(world: World, asset: int = 0) -> tuple[Any, ...]:
    voucher = world.voucher(ALICE, VOUCHED, asset, valid_s=1 << 20)
    digest = voucher_digest(voucher, world.chain.chain_id, world.vault)
    return voucher, sign(ALICE, digest), sign(OPERATOR, digest)


# Arguments are as short as can be: the guard comes before every check.
ENTRIES: dict[str, tuple[Any, ...]] = {
    "claim": (b"", 1, HER, [], [], [], []),
    "escape": (b"", 1, HER, [], [], [], []),
    "deposit": (0, 1_000_000, BOB),
    "withdrawCredit": (0, HER),
    "refund": (4, HER, 0, 1, 1, bytes(32)),
    "freeze": (),
    "postEpoch": (b"", [], [], b"", []),
    "fundFloat": (0, 1),
    "withdrawFloat": (0, 1),
    "redeemVoucher": ((bytes(32), HER, 0, 1, 1), b"", b""),
    "withdrawEth": (HER,),
    "proveDoubleHeader": (b"", b"", b"", b""),
}


def assert_closed(world: World, function: str, arguments: tuple[Any, ...], sender: int | str = 0) -> None:
    """While `function` moves tokens, nothing in ENTRIES can be entered, and it goes on as if nothing had been."""
    chain, token = world.chain, world.tokens[0]
    for entry, values in ENTRIES.items():
        with chain.sandbox():
            chain.send(REENTRANT, token, "arm", world.vault, abi.encode_call(VAULT, entry, *values))
            world.send(function, *arguments, sender=sender)
            assert chain.call(REENTRANT, token, "entered") is False, (function, entry)
            revert = abi.decode_revert(VAULT, chain.call(REENTRANT, token, "result"))
            assert revert is not None and revert.name == "ReentrancyGuardReentrantCall", (function, entry, revert)


@pytest.mark.parametrize("function", ["deposit", "claim", "fundFloat", "withdrawFloat", "redeemVoucher"])
def test_a_reentrant_token_enters_nothing_while_the_vault_lives(evm: Chain, function: str) -> None:
    """Reentrancy from inside every payment. Defence: one guard over everything that calls a token."""
    world = funded(evm, [evm.deploy(REENTRANT)])
    arguments: dict[str, tuple[Any, ...]] = {
        "deposit": (0, 5_000_000, BOB),
        "claim": world.proof(1, 1).arguments(),
        "fundFloat": (0, 1_000),
        "withdrawFloat": (0, 1_000),
        "redeemVoucher": redemption(world),
    }
    sender = evm.adopt(OPERATOR) if function == "withdrawFloat" else 0
    assert_closed(world, function, arguments[function], sender)


@pytest.mark.parametrize("function", ["escape", "refund", "withdrawCredit"])
def test_a_reentrant_token_enters_nothing_after_the_freeze(evm: Chain, function: str) -> None:
    """The same for what pays out at the end."""
    world = funded(evm, [evm.deploy(REENTRANT)])
    world.freeze()
    if function == "withdrawCredit":
        evm.send(REENTRANT, world.tokens[0], "refuse", True)
        world.escape(1, 1)
        evm.send(REENTRANT, world.tokens[0], "refuse", False)
        assert world.view("credit", HER, 0) == DEPOSIT
    m = world.messages[2]
    arguments: dict[str, tuple[Any, ...]] = {
        "escape": world.proof(1, 1).arguments(),
        "refund": (m.index, m.owner, m.asset, m.amount, m.l1_time, m.data),
        "withdrawCredit": (0, HER),
    }
    assert_closed(world, function, arguments[function])


@pytest.mark.parametrize("function", ["forceExit", "settleVeto", "postBond", "publishDiff", "withdrawBond"])
def test_what_is_open_from_inside_a_payment_moves_nothing(evm: Chain, function: str) -> None:
    """Functions without the guard touch neither tokens nor what is owed: entered from inside a claim, the claim
    pays what it pays and the vault's books are the same."""
    world = funded(evm, [evm.deploy(REENTRANT)])
    arguments = {"forceExit": (0,), "settleVeto": (1,), "publishDiff": (b"x",)}.get(function, ())
    evm.send(REENTRANT, world.tokens[0], "arm", world.vault, abi.encode_call(VAULT, function, *arguments))
    world.claim(1, 1)
    assert (world.balance(HER), world.view("holdings", 0)) == (ACK, 2 * DEPOSIT + 1_234 - ACK)
    assert (world.view("frozen"), world.view("claimedOf", HER, 0)) == (False, ACK)
    with refused("NothingToClaim"):
        world.claim(1, 1)


def test_fees_on_transfer_are_refused_wherever_tokens_come_in(evm: Chain) -> None:
    """What did not arrive was not paid in. Defence: balances before and after, for deposits and for the float."""
    world = World.create(evm, tokens=[evm.deploy(FEE)])
    for function, arguments in (("deposit", (0, DEPOSIT, HER)), ("fundFloat", (0, FLOAT))):
        with refused("TransferAmountMismatch"):
            world.send(function, *arguments)
    assert (world.view("holdings", 0), world.view("floatOf", 0)) == (0, 0)


def test_a_token_that_returns_nothing_goes_all_the_way(evm: Chain) -> None:
    """Deposit, float, voucher, claim, escape, refund: none depends on a return value."""
    world = funded(evm, [evm.deploy(SILENT)])
    world.send("redeemVoucher", *redemption(world))
    world.claim(1, 1)
    world.freeze()
    world.escape(1, 1)
    world.escape(1, 2)
    world.refund(world.messages[2])
    world.send("withdrawFloat", 0, FLOAT, sender=evm.adopt(OPERATOR))
    assert (world.balance(HER), world.balance(BOB)) == (DEPOSIT + 1_234, DEPOSIT)
    assert (world.balance(TREASURY), world.balance(world.vault)) == (FLOAT, 0)


def listed(chain: Chain, *accounts: str) -> World:
    """Two assets; the issuer of the first has listed these accounts."""
    world = funded(chain, [chain.deploy(BLACKLIST), chain.deploy(TOKEN, "Other", "OTH")])
    for account in accounts:
        chain.send(BLACKLIST, world.tokens[0], "blacklist", account, True)
    return world


def owned(world: World, who: str) -> tuple[int, int, int]:
    """Balance of the first asset, credit in it, balance of the second."""
    return world.balance(who, 0), world.view("credit", who, 0), world.balance(who, 1)


def test_a_blacklisted_owner_keeps_what_is_hers_and_stops_nobody(evm: Chain) -> None:
    """Claim, voucher, escape and refund of an owner whom the issuer stopped. Defence: a failed transfer becomes
    her credit; her other asset and everyone else are paid as always."""
    world = listed(evm, HER)
    world.send("redeemVoucher", *redemption(world))
    assert owned(world, HER) == (0, VOUCHED, 0)
    world.claim(1, 1)
    world.claim(1, 2)
    assert owned(world, HER) == (0, ACK, ACK)
    assert owned(world, BOB) == (ACK, 0, ACK)
    world.freeze()
    for index in (1, 2):
        world.escape(1, index)
    for message in world.messages[4:]:
        world.refund(message)
    assert owned(world, HER) == (0, DEPOSIT + 1_234, DEPOSIT + 1_234)
    assert owned(world, BOB) == (DEPOSIT, 0, DEPOSIT)
    assert (world.view("holdings", 0), world.view("floatOf", 0)) == (0, FLOAT)
    with pytest.raises(Exception, match="0x"):
        world.send("withdrawCredit", 0, HER)
    evm.send(BLACKLIST, world.tokens[0], "blacklist", HER, False)
    world.send("withdrawCredit", 0, HER)
    assert owned(world, HER) == (DEPOSIT + 1_234, 0, DEPOSIT + 1_234)


@pytest.mark.parametrize("stopped", ["vault", "token"])
def test_an_issuer_who_stops_the_vault_or_the_token_stops_one_asset(evm: Chain, stopped: str) -> None:
    """Everyone's payment in that asset becomes credit, the other asset goes out, and nothing is lost when the
    issuer relents."""
    world = listed(evm)
    token = world.tokens[0]
    function, arguments = ("blacklist", (world.vault,)) if stopped == "vault" else ("pause", ())
    evm.send(BLACKLIST, token, function, *arguments, True)
    with pytest.raises(Exception, match="0x"):
        world.send("deposit", 0, DEPOSIT, BOB)
    world.send("deposit", 1, DEPOSIT, BOB)
    world.freeze()
    for index in (1, 2):
        (credited,) = events(world.escape(1, index), VAULT, "Credited")
        assert (credited["asset"], credited["amount"]) == (0, DEPOSIT)
    assert owned(world, HER) == (0, DEPOSIT, DEPOSIT)
    evm.send(BLACKLIST, token, function, *arguments, False)
    for who in (HER, BOB):
        world.send("withdrawCredit", 0, who)
    assert (world.balance(HER, 0), world.balance(BOB, 0)) == (DEPOSIT, DEPOSIT)


def test_a_blacklisted_treasury_stops_no_float(evm: Chain) -> None:
    """The operator's own float becomes the treasury's credit, and vouchers go on from what is left."""
    world = listed(evm, TREASURY)
    world.send("withdrawFloat", 0, FLOAT - VOUCHED, sender=evm.adopt(OPERATOR))
    assert owned(world, TREASURY) == (0, FLOAT - VOUCHED, 0)
    world.send("redeemVoucher", *redemption(world))
    assert (world.balance(HER, 0), world.view("floatOf", 0)) == (VOUCHED, 0)


def test_a_credit_is_paid_to_its_owner_alone_and_once(evm: Chain) -> None:
    """Whoever submits; and another's credit or another asset is not touched."""
    world = listed(evm, HER, BOB)
    for index in (1, 2):
        world.claim(1, index)
    evm.send(BLACKLIST, world.tokens[0], "blacklist", HER, False)
    world.send("withdrawCredit", 0, HER, sender=7)
    with refused("NoCredit"):
        world.send("withdrawCredit", 0, HER)
    with refused("NoCredit"):
        world.send("withdrawCredit", 1, HER)
    assert owned(world, HER) == (ACK, 0, ACK)
    assert owned(world, BOB) == (0, ACK, ACK)
