# SPDX-License-Identifier: GPL-3.0-or-later
"""The vote from end to end on the embedded EVM: deployed, proposed, voted, queued, executed, and read back."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import pytest

from clearing.chain import governance
from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault
from clearing.chain.embedded import dev_key
from clearing.chain.errors import ChainError
from clearing.chain.governance import ABSTAIN, AGAINST, FOR, GovernanceClient, GovernanceParams, deploy_governance
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet

DEADLINE_S, WINDOW_S, SECONDING_S = 86_400, 3_600, 1_800
DELAY_S = governance.way_out_s(DEADLINE_S, WINDOW_S, SECONDING_S) + 1
ACTION = hashlib.sha256(b"a command").digest()
HOLDERS = [Wallet(dev_key(n)) for n in (1, 2, 3)]
SHARES = (600, 300, 100)


class Ruled(NamedTuple):
    """A vault under a vote, and a client of it for each holder."""

    vault: VaultClient
    clients: list[GovernanceClient]


def params(delay_s: int = DELAY_S) -> GovernanceParams:
    holders = [(holder.address, shares) for holder, shares in zip(HOLDERS, SHARES, strict=True)]
    return GovernanceParams(holders, 3_600, 7_200, 250, 50, delay_s)


@pytest.fixture
def ruled(rpc: Rpc, wallet: Wallet) -> Ruled:
    made = deploy_governance(rpc, wallet, params(), DEADLINE_S, WINDOW_S, SECONDING_S)
    vault = deploy_vault(
        rpc,
        wallet,
        VaultParams(
            hashlib.sha256(b"deployment").digest(),
            wallet.address,
            b"\x77" * 20,
            [deploy_token(rpc, wallet)],
            DEADLINE_S,
            WINDOW_S,
            governor=made.timelock,
            seconding_s=SECONDING_S,
        ),
    )
    return Ruled(vault, [GovernanceClient(VaultClient(rpc, vault.address, holder)) for holder in HOLDERS])


def travel(rpc: Rpc, seconds: int) -> None:
    rpc.request("evm_increaseTime", seconds)
    rpc.request("evm_mine")


def test_a_decision_travels_from_proposal_to_inbox(rpc: Rpc, ruled: Ruled) -> None:
    """Every step by another hand, each state as it is told, and the message in the vault's queue at the end."""
    first, second, third = ruled.clients
    number = first.propose(ACTION, "Parameters, version 2\nfor a calmer ladder")
    (found,) = second.proposals()
    assert (found.id, found.action, found.proposer) == (number, ACTION, HOLDERS[0].address)
    assert found.description.startswith("Parameters, version 2\nfor a calmer ladder\n")
    assert first.standing(number).state == "pending"
    travel(rpc, 3_601)
    assert first.standing(number).state == "active"
    second.vote(number, FOR, "calmer is better")
    third.vote(number, AGAINST)
    travel(rpc, 7_201)
    standing = third.standing(number)
    assert standing == governance.Standing("succeeded", 100, 300, 0, 250, 0)
    third.queue(number)
    due_s = third.standing(number).due_s
    assert third.standing(number).state == "queued" and due_s >= rpc.block().time_s + DELAY_S - 1
    travel(rpc, DELAY_S)
    third.execute(number)
    assert third.standing(number).state == "executed"
    (event,) = ruled.vault.inbox()
    assert (event.message.kind, event.message.data) == (4, ACTION)
    assert event.message.owner == first.timelock == bytes(ruled.vault.read("governor"))


def test_the_rules_are_told_and_checked(ruled: Ruled) -> None:
    client = ruled.clients[0]
    assert client.rules() == {
        "voting_delay_s": 3_600,
        "voting_period_s": 7_200,
        "quorum": 250,
        "threshold": 50,
        "shares": 1_000,
    }
    assert client.delay_s() == DELAY_S
    assert [client.votes(holder.address) for holder in HOLDERS] == list(SHARES)
    checks = client.checks()
    assert len(checks) == 5 and all(check.ok for check in checks), checks


@pytest.mark.parametrize("delay_s", [0, 3_600, DELAY_S - 1])
def test_a_vote_that_could_outrun_those_who_leave_is_not_deployed(rpc: Rpc, wallet: Wallet, delay_s: int) -> None:
    """Governance change faster than exit. Defence: the deployment tool wants a delay beyond deadline, window and
    seconding together."""
    before = rpc.block_number()
    with pytest.raises(ChainError) as caught:
        deploy_governance(rpc, wallet, params(delay_s), DEADLINE_S, WINDOW_S, SECONDING_S)
    assert caught.value.code == "GOVERNANCE_TOO_FAST" and str(DELAY_S - 1) in caught.value.message
    assert rpc.block_number() == before


def test_a_vault_whose_vote_is_too_fast_is_noticed(rpc: Rpc, wallet: Wallet, ruled: Ruled) -> None:
    """A governor that was deployed for a vault with a shorter way out."""
    slow = ruled.vault
    made = VaultParams(b"\x01" * 32, wallet.address, b"\x77" * 20, slow.tokens(), 2 * DEADLINE_S, WINDOW_S)
    other = deploy_vault(rpc, wallet, made._replace(governor=ruled.clients[0].timelock))
    failed = [check.name for check in GovernanceClient(other).checks() if not check.ok]
    assert failed == ["slower than leaving"]


def test_steps_out_of_turn_say_what_is_wrong(rpc: Rpc, ruled: Ruled) -> None:
    client = ruled.clients[0]
    number = client.propose(ACTION, "text")
    steps: list[Callable[[], object]] = [
        lambda: client.vote(number, ABSTAIN),
        lambda: client.queue(number),
        lambda: client.execute(number),
    ]
    for step in steps:
        with pytest.raises(ChainError) as caught:
            step()
        assert caught.value.code == "NOT_NOW"
    with pytest.raises(ChainError) as caught:
        client.propose(ACTION, "text")
    assert caught.value.code == "ALREADY_PROPOSED"
    travel(rpc, 3_601)
    client.vote(number, FOR)
    travel(rpc, 7_201)
    client.queue(number)
    with pytest.raises(ChainError) as caught:
        client.execute(number)
    assert caught.value.code == "NOT_NOW"


def test_what_is_not_there_is_named(rpc: Rpc, wallet: Wallet, ruled: Ruled) -> None:
    client = ruled.clients[0]
    asks: list[Callable[[], object]] = [lambda: client.proposal(5), lambda: client.standing(5)]
    for ask in asks:
        with pytest.raises(ChainError) as caught:
            ask()
        assert caught.value.code == "UNKNOWN_PROPOSAL"
    with pytest.raises(ChainError) as caught:
        client.propose(b"short", "text")
    assert caught.value.code == "INVALID_ARGUMENT"
    plain = VaultParams(b"\x01" * 32, wallet.address, b"\x77" * 20, ruled.vault.tokens(), DEADLINE_S, WINDOW_S)
    for governor in (bytes(20), wallet.address, ruled.vault.tokens()[0]):
        with pytest.raises(ChainError) as caught:
            GovernanceClient(deploy_vault(rpc, wallet, plain._replace(governor=governor)))
        assert caught.value.code == "NO_GOVERNANCE"


def test_nobody_proposes_in_anothers_name(rpc: Rpc, ruled: Ruled) -> None:
    """The same text by another holder is refused, so that nobody proposes first and cancels."""
    first, second, _ = ruled.clients
    number = first.propose(ACTION, "text")
    stolen = first.proposal(number)
    with pytest.raises(ChainError) as caught:
        second._send("propose", *stolen.arguments()[:3], stolen.description)
    assert caught.value.reason == "GovernorRestrictedProposer"


def test_shares_are_delegated(rpc: Rpc, ruled: Ruled) -> None:
    first, second, _ = ruled.clients
    first.delegate(HOLDERS[1].address)
    assert (second.votes(HOLDERS[0].address), second.votes(HOLDERS[1].address)) == (0, 900)
