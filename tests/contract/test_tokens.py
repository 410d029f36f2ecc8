# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that do not behave: none may rob the vault, and none may block another's payment."""

import pytest

from contracts import abi, load
from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Leaf
from tests.contract.world import TOKEN, VAULT, World, owner

REENTRANT = load("ReentrantToken")
FEE = load("FeeToken")
BLOCKING = load("BlockingToken")
SILENT = load("SilentToken")
DEPOSIT = 50_000_000
MANNERS = {"revert": 0, "return false": 1, "burn gas": 2, "flood": 3}


def two_assets(chain: Chain) -> World:
    """Asset 0 can block accounts, asset 1 is honest; user 1 is acknowledged half of either."""
    world = World.create(chain, tokens=[chain.deploy(BLOCKING), chain.deploy(TOKEN, "Other", "OTH")])
    for asset in (0, 1):
        world.deposit(owner(1), DEPOSIT, asset)
    half = (DEPOSIT // 2, DEPOSIT // 2)
    world.close_epoch([Leaf(1, owner(1), half, half)])
    world.pass_window()
    return world


@pytest.mark.parametrize("manner", MANNERS)
def test_a_refused_transfer_becomes_credit_and_blocks_nothing_else(chain: Chain, manner: str) -> None:
    """Whatever way the token refuses in, the other asset is paid and the refused one stays the owner's."""
    world = two_assets(chain)
    token = world.tokens[0]
    chain.send(BLOCKING, token, "list", owner(1), True)
    chain.send(BLOCKING, token, "setManner", MANNERS[manner])
    (event,) = events(world.claim(1, 1), VAULT, "Credited")
    assert event == {"owner": owner(1), "asset": 0, "amount": DEPOSIT // 2}
    assert (world.balance(owner(1), 0), world.balance(owner(1), 1)) == (0, DEPOSIT // 2)
    assert world.view("credit", owner(1), 0) == DEPOSIT // 2
    assert world.view("holdings", 0) == DEPOSIT // 2
    with refused("NothingToClaim"):
        world.claim(1, 1)

    world.freeze()
    world.escape(1, 1)
    assert world.balance(owner(1), 1) == DEPOSIT
    assert world.view("credit", owner(1), 0) == DEPOSIT

    chain.send(BLOCKING, token, "list", owner(1), False)
    (event,) = events(world.send("withdrawCredit", 0, owner(1)), VAULT, "CreditWithdrawn")
    assert event == {"owner": owner(1), "asset": 0, "amount": DEPOSIT}
    assert world.balance(owner(1), 0) == DEPOSIT
    assert world.balance(world.vault, 0) == 0
    with refused("NoCredit"):
        world.send("withdrawCredit", 0, owner(1))


def test_credit_stays_while_the_token_refuses(chain: Chain) -> None:
    world = two_assets(chain)
    chain.send(BLOCKING, world.tokens[0], "list", owner(1), True)
    world.claim(1, 1)
    with pytest.raises(Exception, match="0x"):
        world.send("withdrawCredit", 0, owner(1))
    assert world.view("credit", owner(1), 0) == DEPOSIT // 2
    for function, arguments in (("withdrawCredit", (2, owner(1))), ("credit", (owner(1), 2))):
        with refused("UnknownAsset"):
            world.view(function, *arguments)


def test_credit_is_no_solvency(chain: Chain) -> None:
    """What is credited has left the holdings: a header cannot promise it to somebody else."""
    world = two_assets(chain)
    chain.send(BLOCKING, world.tokens[0], "list", owner(1), True)
    world.claim(1, 1)
    leaves = [
        Leaf(1, owner(1), (0, 0), (DEPOSIT // 2, DEPOSIT // 2)),
        Leaf(2, owner(2), (DEPOSIT, 0), (0, 0)),
    ]
    with refused("Insolvent"):
        world.close_epoch(leaves)


def test_a_claim_with_too_little_gas_is_refused_instead_of_credited(chain: Chain) -> None:
    """Nobody can turn another's payment into credit by sending it with little gas."""
    world = two_assets(chain)
    arguments = world.proof(1, 1).arguments()
    with refused("InsufficientGas"):
        chain.send(VAULT, world.vault, "claim", *arguments, gas=300_000)
    chain.send(VAULT, world.vault, "claim", *arguments, gas=500_000)
    assert world.balance(owner(1), 0) == DEPOSIT // 2


def test_a_reentrant_token_gets_nowhere(chain: Chain) -> None:
    """From inside a payment, every function that moves or decides anything is closed."""
    world = World.create(chain, tokens=[chain.deploy(REENTRANT)])
    world.deposit(owner(1), DEPOSIT)
    waiting_leaves = [Leaf(1, owner(1), (DEPOSIT // 2,), (DEPOSIT // 2,))]
    world.close_epoch(waiting_leaves)
    world.pass_window()
    # Arguments are as short as can be: the token has little gas, and the guard comes before every check.
    claim: tuple[object, ...] = (b"", 1, owner(1), [], [], [], [])
    attempts: dict[str, tuple[object, ...]] = {
        "claim": claim,
        "escape": claim,
        "deposit": (0, 1_000_000, owner(2)),
        "withdrawCredit": (0, owner(1)),
        "freeze": (),
        "refund": (0, owner(1), 0, 1, 1, bytes(32)),
        "postEpoch": (b"", [], [], b"", []),
    }
    token = world.tokens[0]
    for function, arguments in attempts.items():
        with chain.sandbox():
            chain.send(REENTRANT, token, "arm", world.vault, abi.encode_call(VAULT, function, *arguments))
            world.claim(1, 1)
            assert chain.call(REENTRANT, token, "entered") is False, function
            revert = abi.decode_revert(VAULT, chain.call(REENTRANT, token, "result"))
            assert revert is not None and revert.name == "ReentrancyGuardReentrantCall", function
            assert world.balance(owner(1)) == DEPOSIT // 2


def test_a_reentrant_deposit_gets_nowhere(chain: Chain) -> None:
    world = World.create(chain, tokens=[chain.deploy(REENTRANT)])
    payload = abi.encode_call(VAULT, "deposit", 0, 2_000_000, owner(2))
    chain.send(REENTRANT, world.tokens[0], "arm", world.vault, payload)
    world.deposit(owner(1), DEPOSIT)
    assert chain.call(REENTRANT, world.tokens[0], "entered") is False
    assert world.view("inboxCount") == 1
    assert world.view("inboxHash", 1) == world.rolling[1]


def test_a_fee_on_transfer_token_cannot_be_deposited(chain: Chain) -> None:
    """Balance-delta accounting: what did not arrive was not deposited."""
    world = World.create(chain, tokens=[chain.deploy(FEE)])
    with refused("TransferAmountMismatch"):
        world.deposit(owner(1), DEPOSIT)
    assert world.view("inboxCount") == 0


def test_a_token_that_returns_nothing_works(chain: Chain) -> None:
    world = World.create(chain, tokens=[chain.deploy(SILENT)])
    world.deposit(owner(1), DEPOSIT)
    world.close_epoch([Leaf(1, owner(1), (0,), (DEPOSIT,))])
    world.pass_window()
    world.claim(1, 1)
    assert world.balance(owner(1)) == DEPOSIT
    assert world.view("credit", owner(1), 0) == 0


def test_four_assets_share_one_claim(chain: Chain) -> None:
    """Each lane has its own counters, totals and holdings, and one proof serves all."""
    world = World.create(chain, tokens=[chain.deploy(TOKEN, f"Token {n}", "T") for n in range(4)])
    amounts = (10_000_000, 20_000_000, 30_000_000, (1 << 96) - 1)
    for asset in (3, 1, 0, 2):
        world.deposit(owner(1), amounts[asset], asset)
    acks = (1, 2, 3, 4)
    exits = tuple(amount - ack for amount, ack in zip(amounts, acks, strict=True))
    world.close_epoch([Leaf(9, owner(1), exits, acks)])
    world.pass_window()
    world.claim(1, 9)
    assert tuple(world.balance(owner(1), asset) for asset in range(4)) == acks
    assert tuple(world.view("claimedOf", owner(1), asset) for asset in range(4)) == acks
    with refused("DepositTooLarge"):
        world.deposit(owner(2), 1_000_000, 3)
    world.freeze()
    world.escape(1, 9)
    assert tuple(world.balance(owner(1), asset) for asset in range(4)) == amounts
    assert all(world.view("holdings", asset) == 0 for asset in range(4))
