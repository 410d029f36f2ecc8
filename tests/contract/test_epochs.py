# SPDX-License-Identifier: GPL-3.0-or-later
"""Which headers the vault admits, and who may sign them."""

from collections.abc import Callable
from hashlib import sha256

import pytest

from contracts import abi, load
from tests.contract.chain import Chain, Reverted, events, refused
from tests.contract.reference import Header, Leaf
from tests.contract.world import (
    OPERATOR,
    STRANGER,
    TOKEN,
    TREASURY,
    VAULT,
    World,
    operator_address,
    owner,
    sign_epoch,
)

DEPOSIT = 50_000_000


def opened(chain: Chain) -> World:
    """A vault with one consumed deposit, one posted epoch, and one deposit that waits."""
    world = World.create(chain)
    world.deposit(owner(1), DEPOSIT)
    world.close_epoch([Leaf(1, owner(1), (DEPOSIT,), (0,))])
    world.deposit(owner(2), DEPOSIT)
    return world


def next_header(world: World) -> Header:
    both = [Leaf(n, owner(n), (DEPOSIT,), (0,)) for n in (1, 2)]
    return world.header(world.tree(both).root())


def test_an_honest_header_is_stored_and_announced(chain: Chain) -> None:
    world = opened(chain)
    header = next_header(world)
    (event,) = events(world.post(header), VAULT, "EpochPosted")
    assert event == {"epoch": 2, "headerHash": header.hash(), "header": header.encode()}
    assert world.view("epochCount") == 2
    assert world.view("headerHash", 2) == world.view("lastHeaderHash") == header.hash()
    assert world.view("headerTime", 2) == chain.now()
    assert world.view("headerBlock", 2) == chain.backend.block(None)[0]
    assert world.view("consumedCount") == 2


FALSE_HEADERS: dict[str, tuple[Callable[[Header], Header], str]] = {
    "another chain or vault": (lambda h: h.but(domain=sha256(b"other").digest()), "WrongDomain"),
    "two lanes": (lambda h: h.but(exit_sums=(h.exit_sums[0], 0)), "WrongLanes"),
    "no lane": (lambda h: h.but(exit_sums=()), "WrongLanes"),
    "wrong tag": (lambda h: h.but(tag=4), "MalformedHeader"),
    "wrong version": (lambda h: h.but(version=2), "MalformedHeader"),
    "stale": (lambda h: h.but(prev_header=bytes(32)), "StaleHeader"),
    "a skipped epoch": (lambda h: h.but(epoch=3), "WrongEpoch"),
    "a repeated epoch": (lambda h: h.but(epoch=1), "WrongEpoch"),
    "a shorter journal": (lambda h: h.but(journal_size=9), "JournalInconsistent"),
    "another journal": (lambda h: h.but(journal_root=bytes(32)), "JournalInconsistent"),
    "other attestors": (lambda h: h.but(attestors_hash=sha256(b"x").digest()), "WrongAttestors"),
    "closed before the last": (lambda h: h.but(close_time_us=1), "CloseTimeOutOfRange"),
    "closed in the future": (
        lambda h: h.but(close_time_us=h.close_time_us + 120_000_000),
        "CloseTimeOutOfRange",
    ),
    "close time overflows": (lambda h: h.but(close_time_us=(1 << 64) - 1), "CloseTimeOutOfRange"),
    "unconsumes a message": (lambda h: h.but(inbox_count=0), "InboxCountOutOfRange"),
    "consumes one too many": (lambda h: h.but(inbox_count=3), "InboxCountOutOfRange"),
    "another inbox": (lambda h: h.but(inbox_hash=bytes(32)), "InboxHashMismatch"),
    "another diff": (lambda h: h.but(diff_hash=bytes(32)), "DiffHashMismatch"),
    "insolvent by one atom": (lambda h: h.but(exit_sums=(2 * DEPOSIT + 1,)), "Insolvent"),
    "insolvent by a lot": (lambda h: h.but(exit_sums=((1 << 128) - 1,)), "Insolvent"),
    "no L1 block": (lambda h: h.but(l1_number=0), "L1BlockMismatch"),
    "a future L1 block": (lambda h: h.but(l1_number=h.l1_number + 10), "L1BlockMismatch"),
    "a forked L1 block": (lambda h: h.but(l1_hash=bytes(32)), "L1BlockMismatch"),
}


@pytest.mark.parametrize("name", FALSE_HEADERS)
def test_a_false_header_is_refused_by_name(chain: Chain, name: str) -> None:
    """Signed by the operator and still refused; the honest one still passes afterwards."""
    change, error = FALSE_HEADERS[name]
    world = opened(chain)
    header = next_header(world)
    with refused(error):
        world.post(change(header))
    world.post(header)


def test_unconsumed_deposits_do_not_count_as_solvency(chain: Chain) -> None:
    """The money of a deposit that the header did not consume is not the header's to promise."""
    world = opened(chain)
    header = next_header(world).but(inbox_count=1, inbox_hash=world.rolling[1])
    with refused("Insolvent"):
        world.post(header)
    world.post(header.but(exit_sums=(DEPOSIT,)))


def test_claims_paid_do_not_reduce_what_may_be_promised(chain: Chain) -> None:
    """withdraw_ack is cumulative, so a paid withdrawal stays in the sums and must stay covered."""
    world = opened(chain)
    leaves = [Leaf(1, owner(1), (0,), (DEPOSIT,)), Leaf(2, owner(2), (DEPOSIT,), (0,))]
    epoch = world.close_epoch(leaves)
    world.pass_window()
    world.claim(epoch, 1)
    assert world.view("holdings", 0) == DEPOSIT
    world.close_epoch(leaves)
    with refused("Insolvent"):
        world.post(world.header(world.tree([*leaves, Leaf(3, owner(3), (1,), (0,))]).root()))


def test_donations_do_not_count_as_solvency(chain: Chain) -> None:
    world = opened(chain)
    chain.send(TOKEN, world.tokens[0], "transfer", world.vault, DEPOSIT)
    with refused("Insolvent"):
        world.post(next_header(world).but(exit_sums=(2 * DEPOSIT + 1,)))


def test_a_posted_header_is_stale_when_posted_again(chain: Chain) -> None:
    world = opened(chain)
    header = next_header(world)
    world.post(header)
    with refused("StaleHeader"):
        world.post(header)


def test_of_two_headers_on_the_same_one_only_the_first_passes(chain: Chain) -> None:
    """Compare-and-swap: a writer that was overtaken cannot post."""
    world = opened(chain)
    header = next_header(world)
    world.post(header)
    with refused("StaleHeader"):
        world.post(header.but(state_root=bytes(32)))


def test_an_epoch_whose_diff_was_not_published_is_refused(chain: Chain) -> None:
    """No header without the data to leave by."""
    world = opened(chain)
    chunks = [b"first chunk", b"second chunk"]
    header = next_header(world)
    header = world.header(world.tree([Leaf(1, owner(1), (1,), (0,))]).root(), chunks=chunks)
    world.send("publishDiff", chunks[0])
    with refused("DiffNotPublished"):
        world.post(header, chunks)
    (event,) = events(world.send("publishDiff", chunks[1]), VAULT, "DiffPublished")
    assert event == {"chunkHash": sha256(chunks[1]).digest(), "chunk": chunks[1]}
    assert world.view("diffBlock", sha256(chunks[1]).digest()) == chain.backend.block(None)[0]
    with refused("DiffHashMismatch"):
        world.post(header, chunks[::-1])
    assert events(world.send("publishDiff", chunks[1]), VAULT, "DiffPublished") == []
    world.post(header, chunks)


def test_only_the_operator_signs_and_anyone_submits(chain: Chain) -> None:
    world = opened(chain)
    header = next_header(world)
    with refused("InvalidOperatorSignature"):
        world.post(header, key=STRANGER)
    signature = sign_epoch(OPERATOR, header.hash(), chain.chain_id, world.vault)
    for wrong in (
        signature[:-1],
        signature + b"\x00",
        b"",
        bytes(65),
        sign_epoch(OPERATOR, header.hash(), chain.chain_id + 1, world.vault),
        sign_epoch(OPERATOR, header.hash(), chain.chain_id, world.tokens[0]),
        sign_epoch(OPERATOR, header.but(epoch=3).hash(), chain.chain_id, world.vault),
    ):
        with refused("InvalidOperatorSignature"):
            world.send("postEpoch", header.encode(), [], world.consistency(header), wrong, [])
    world.send("postEpoch", header.encode(), [], world.consistency(header), signature, [], sender=5)


def test_an_old_l1_block_whose_hash_the_chain_forgot_is_accepted(chain: Chain) -> None:
    """256 blocks later nothing can be compared; the header is still the operator's word."""
    world = opened(chain)
    header = next_header(world)
    chain.backend.mine(260)
    world.post(header)


def test_a_contract_wallet_can_be_the_operator(chain: Chain) -> None:
    """ERC-1271: the wallet's rules decide what is signed, and the wallet may hand its role over."""
    wallet = load("ContractWallet")
    key_account = 3
    safe = chain.deploy(wallet, operator_address())
    world = World.create(chain, operator=safe)
    header = world.header(world.tree([]).root())
    with refused("InvalidOperatorSignature"):
        world.post(header, key=STRANGER)
    world.post(header)

    held = chain.deploy(wallet, chain.accounts[key_account])
    other = World.create(chain, operator=held)
    call = abi.encode_call(VAULT, "rotateOperator", operator_address())
    chain.send(wallet, held, "execute", other.vault, call, sender=key_account)
    other.post(other.header(other.tree([]).root()))


def test_the_operator_hands_over_and_nobody_else(chain: Chain) -> None:
    """After a rotation the old key is worth nothing, and there is no other power to give."""
    world = World.create(chain, operator=chain.accounts[2])
    with refused("NotOperator"):
        world.send("rotateOperator", operator_address())
    with refused("InvalidConfiguration"):
        world.send("rotateOperator", "0x" + "00" * 20, sender=2)
    (event,) = events(world.send("rotateOperator", operator_address(), sender=2), VAULT, "OperatorRotated")
    assert event == {"previous": chain.accounts[2], "current": operator_address()}
    with refused("NotOperator"):
        world.send("rotateOperator", chain.accounts[2], sender=2)
    world.post(world.header(world.tree([]).root()))


def test_nothing_can_be_administered() -> None:
    """No pause, no sweep, no upgrade: the functions that change state are these. Of them the operator alone
    calls rotateOperator, nameSigner, withdrawFloat (its own float) and withdrawBond (its own bond, after the
    end), the governor sendGovernance, an attestor veto and second; all others are anyone's."""
    writing = {
        entry["name"]
        for entry in VAULT.abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }
    assert writing == {
        "answerReceipt",
        "challengeReceipt",
        "claim",
        "deposit",
        "escape",
        "forceExit",
        "forceWithdrawal",
        "freeze",
        "fundFloat",
        "nameSigner",
        "postBond",
        "postEpoch",
        "proveDoubleHeader",
        "proveEquivocation",
        "proveFalseSum",
        "proveHeaderConflict",
        "proveUnanswered",
        "publishBlobs",
        "publishDiff",
        "redeemVoucher",
        "refund",
        "rotateOperator",
        "second",
        "sendGovernance",
        "settleVeto",
        "veto",
        "withdrawBond",
        "withdrawCredit",
        "withdrawEth",
        "withdrawFloat",
    }
    payable = {entry["name"] for entry in VAULT.abi if entry.get("stateMutability") == "payable"}
    assert payable == {"challengeReceipt", "postBond", "veto"}
    assert not any(entry["type"] in ("fallback", "receive") for entry in VAULT.abi)


def test_deposits_build_the_inbox(chain: Chain) -> None:
    """Rolling hashes, times and totals are those of the messages, for every count."""
    world = World.create(chain)
    total = 0
    assert world.view("inboxHash", 0) == bytes(32)
    for number in (1, 2, 1):
        message = world.deposit(owner(number), DEPOSIT + number)
        total += message.amount
        count = message.index + 1
        assert world.view("inboxCount") == count
        assert world.view("inboxHash", count) == world.rolling[count]
        assert world.view("inboxTime", message.index) == message.l1_time
        assert world.view("depositsAt", count, 0) == world.view("holdings", 0) == total
    assert world.view("depositorCount") == 2
    for function, argument in (("inboxHash", 4), ("inboxTime", 3)):
        with refused("UnknownMessage"):
            world.view(function, argument)


def test_a_deposit_announces_its_message(chain: Chain) -> None:
    world = World.create(chain)
    receipt = world.send("deposit", 0, DEPOSIT, owner(1))
    (event,) = events(receipt, VAULT, "InboxMessagePosted")
    assert event.pop("rollingHash") == world.view("inboxHash", 1)
    expected = {
        "index": 0,
        "kind": 1,
        "owner": owner(1),
        "asset": 0,
        "amount": DEPOSIT,
        "l1Time": chain.now(),
    }
    assert event == {**expected, "data": bytes(32)}


def test_deposits_that_cannot_be_served_are_refused(chain: Chain) -> None:
    world = World.create(chain, max_depositors=2)
    refusals = [
        ("UnknownAsset", (1, DEPOSIT, owner(1))),
        ("ZeroAmount", (0, 0, owner(1))),
        ("InvalidOwner", (0, DEPOSIT, "0x" + "00" * 20)),
        ("InvalidOwner", (0, DEPOSIT, world.vault)),
        ("FirstDepositTooSmall", (0, 999_999, owner(1))),
        ("DepositTooLarge", (0, 1 << 96, owner(1))),
    ]
    for error, arguments in refusals:
        with refused(error):
            world.send("deposit", *arguments)
    world.deposit(owner(1), 1_000_000)
    world.deposit(owner(1), 1)
    world.deposit(owner(2), 1_000_000)
    with refused("TooManyDepositors"):
        world.deposit(owner(3), DEPOSIT)
    world.deposit(TREASURY, 1)
    world.deposit(owner(2), 1)
    with pytest.raises(Reverted):
        world.send("deposit", 0, DEPOSIT, owner(1), sender=4)
