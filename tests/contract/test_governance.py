# SPDX-License-Identifier: GPL-3.0-or-later
"""The holders' vote: who decides, how slowly, and what no majority can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from eth_hash.auto import keccak

from contracts import Artifact, abi, load
from tests.contract.chain import Chain, Receipt, Reverted, events, refused
from tests.contract.reference import Leaf
from tests.contract.signing import address_of
from tests.contract.world import DEADLINE_S, NOBODY, SECONDING_S, VAULT, WINDOW_S, World, member, owner

pytestmark = pytest.mark.slow

SHARES = load("VotingShares")
GOVERNOR = load("NovateGovernor")
TIMELOCK = load("NovateTimelock")
VOTING_DELAY_S, VOTING_PERIOD_S = 3_600, 7_200
WAY_OUT_S = DEADLINE_S + WINDOW_S + SECONDING_S
DELAY_S = WAY_OUT_S + 600
HOLDINGS = (600, 300, 100)  # of accounts 1, 2 and 3
QUORUM, THRESHOLD = 250, 50
ACTION = sha256(b"an action").digest()
DEFEATED, SUCCEEDED = 3, 4
AGAINST, FOR, ABSTAIN = 0, 1, 2
DEPOSIT = 50_000_000


@dataclass
class Council:
    """A vault under a vote; the holders are the chain's accounts 1, 2 and 3."""

    chain: Chain
    shares: str
    governor: str
    timelock: str
    world: World

    @classmethod
    def create(cls, chain: Chain, delay_s: int = DELAY_S, **setup: Any) -> "Council":
        shares = chain.deploy(SHARES, chain.accounts[1:4], list(HOLDINGS))
        rules = (VOTING_DELAY_S, VOTING_PERIOD_S, QUORUM, THRESHOLD)
        governor = chain.deploy(GOVERNOR, shares, *rules, delay_s)
        timelock = str(chain.call(GOVERNOR, governor, "timelock"))
        return cls(chain, shares, governor, timelock, World.create(chain, governor=timelock, **setup))

    def view(self, function: str, *arguments: Any) -> Any:
        return self.chain.call(GOVERNOR, self.governor, function, *arguments)

    def send(self, function: str, *arguments: Any, sender: int = 0) -> Receipt:
        return self.chain.send(GOVERNOR, self.governor, function, *arguments, sender=sender)

    def call(self, target: str, artifact: Artifact, function: str, *arguments: Any) -> "Motion":
        """A motion that the timelock makes this call."""
        calldata = abi.encode_call(artifact, function, *arguments)
        return Motion(self, [target], [0], [calldata], f"{function} {arguments}")

    def action(self, action: bytes = ACTION) -> "Motion":
        return self.call(self.world.vault, VAULT, "sendGovernance", action)


@dataclass
class Motion:
    """One proposal on its way."""

    council: Council
    targets: list[str]
    values: list[int]
    calldatas: list[bytes]
    text: str
    number: int = 0

    def propose(self, sender: int = 1) -> "Motion":
        calls = (self.targets, self.values, self.calldatas)
        (event,) = events(self.council.send("propose", *calls, self.text, sender=sender), GOVERNOR, "ProposalCreated")
        self.number = event["proposalId"]
        return self

    def vote(self, sides: dict[int, int]) -> "Motion":
        """By account: after the voting delay, and on to the end of the period."""
        chain = self.council.chain
        chain.backend.mine_at(self.council.view("proposalSnapshot", self.number) + 1)
        for sender, side in sides.items():
            self.council.send("castVote", self.number, side, sender=sender)
        chain.backend.mine_at(self.council.view("proposalDeadline", self.number) + 1)
        return self

    def state(self) -> int:
        return int(self.council.view("state", self.number))

    def _hashed(self) -> tuple[Any, ...]:
        return self.targets, self.values, self.calldatas, bytes(keccak(self.text.encode()))

    def queue(self) -> "Motion":
        self.council.send("queue", *self._hashed(), sender=5)
        return self

    def wait(self) -> "Motion":
        self.council.chain.backend.mine_at(self.council.view("proposalEta", self.number))
        return self

    def execute(self) -> Receipt:
        return self.council.send("execute", *self._hashed(), sender=5)

    def passed(self) -> "Motion":
        """Proposed, voted for by the largest holder, queued, and its delay over."""
        return self.propose().vote({1: FOR}).queue().wait()


@contextmanager
def refused_inside(artifact: Artifact, name: str) -> Iterator[None]:
    """As `refused`, for an error of a contract that was called by the one that is called."""
    with pytest.raises(Reverted) as caught:
        yield
    revert = abi.decode_revert(artifact, caught.value.data)
    assert revert is not None and revert.name == name, caught.value


def test_a_decision_reaches_the_inbox_and_must_be_consumed(embedded_evm: Chain) -> None:
    """Propose, vote, queue, wait, execute: then the message is in the queue like any other, from the timelock,
    and an operator who ignores it can be frozen."""
    council = Council.create(embedded_evm)
    world = council.world
    world.close_epoch([])
    message = world.note(council.action().passed().execute())
    assert (message.kind, message.owner, message.asset, message.amount) == (4, council.timelock, 0, 0)
    assert message.data == ACTION
    assert world.view("inboxHash", 1) == world.rolling[1]
    assert world.view("freezeAt") <= message.l1_time + DEADLINE_S
    world.close_epoch([])
    assert world.view("consumedCount") == 1


@pytest.mark.parametrize(
    ("sides", "state"),
    [
        ({1: FOR}, SUCCEEDED),
        ({2: FOR}, SUCCEEDED),
        ({2: FOR, 3: AGAINST}, SUCCEEDED),
        ({3: FOR}, DEFEATED),
        ({3: FOR, 2: ABSTAIN}, SUCCEEDED),
        ({1: AGAINST}, DEFEATED),
        ({2: FOR, 1: AGAINST}, DEFEATED),
        ({}, DEFEATED),
    ],
)
def test_a_majority_and_a_quorum_decide(embedded_evm: Chain, sides: dict[int, int], state: int) -> None:
    """More for than against, and at least the quorum for or abstaining; weight is shares."""
    motion = Council.create(embedded_evm).action().propose().vote(sides)
    assert motion.state() == state
    if state == DEFEATED:
        with refused("GovernorUnexpectedProposalState"):
            motion.queue()


def test_a_tie_fails(embedded_evm: Chain) -> None:
    council = Council.create(embedded_evm)
    embedded_evm.send(SHARES, council.shares, "transfer", embedded_evm.accounts[2], 150, sender=1)
    assert council.action().propose().vote({1: FOR, 2: AGAINST}).state() == DEFEATED


def test_shares_that_change_hands_during_a_vote_do_not_count_twice(embedded_evm: Chain) -> None:
    """Weight is what was held when voting began: nobody votes, passes the shares on and votes again."""
    council = Council.create(embedded_evm)
    motion = council.action().propose()
    embedded_evm.backend.mine_at(council.view("proposalSnapshot", motion.number) + 1)
    council.send("castVote", motion.number, FOR, sender=3)
    embedded_evm.send(SHARES, council.shares, "transfer", embedded_evm.accounts[4], 100, sender=3)
    embedded_evm.send(SHARES, council.shares, "delegate", embedded_evm.accounts[4], sender=4)
    council.send("castVote", motion.number, FOR, sender=4)
    assert council.view("proposalVotes", motion.number) == (0, 100, 0)
    assert embedded_evm.call(SHARES, council.shares, "getVotes", embedded_evm.accounts[4]) == 100
    with refused("GovernorAlreadyCastVote"):
        council.send("castVote", motion.number, FOR, sender=3)


def test_the_supply_is_fixed(embedded_evm: Chain) -> None:
    """Whatever changes the number of shares is not there to be called."""
    council = Council.create(embedded_evm)
    assert embedded_evm.call(SHARES, council.shares, "totalSupply") == sum(HOLDINGS)
    writing = {
        entry["name"]
        for entry in SHARES.abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }
    assert writing == {"approve", "delegate", "delegateBySig", "transfer", "transferFrom"}


def test_proposing_takes_shares(embedded_evm: Chain) -> None:
    with refused("GovernorInsufficientProposerVotes"):
        Council.create(embedded_evm).action().propose(sender=5)


@pytest.mark.parametrize("step", ["execute at once", "execute too early", "queue during the vote"])
def test_no_step_can_be_hurried(embedded_evm: Chain, step: str) -> None:
    council = Council.create(embedded_evm)
    motion = council.action().propose()
    if step == "queue during the vote":
        embedded_evm.backend.mine_at(council.view("proposalSnapshot", motion.number) + 1)
        council.send("castVote", motion.number, FOR, sender=1)
        with refused("GovernorUnexpectedProposalState"):
            motion.queue()
        return
    motion.vote({1: FOR})
    if step == "execute at once":
        with refused("GovernorUnexpectedProposalState"):
            motion.execute()
        return
    motion.queue()
    embedded_evm.backend.mine_at(council.view("proposalEta", motion.number) - 60)
    with refused_inside(TIMELOCK, "TimelockUnexpectedOperationState"):
        motion.execute()


def test_the_rules_cannot_be_changed_by_a_vote(embedded_evm: Chain) -> None:
    """Delay, period, quorum and threshold have no setters, and the timelock stays the one the vault knows."""
    council = Council.create(embedded_evm)
    names = {entry["name"] for entry in GOVERNOR.abi if entry["type"] == "function"}
    assert not {name for name in names if name.startswith(("set", "update"))} - {"updateTimelock"}
    assert (council.view("votingDelay"), council.view("votingPeriod")) == (VOTING_DELAY_S, VOTING_PERIOD_S)
    assert (council.view("quorum", 0), council.view("proposalThreshold")) == (QUORUM, THRESHOLD)
    motion = council.call(council.governor, GOVERNOR, "updateTimelock", embedded_evm.accounts[1]).passed()
    with refused("TimelockFixed"):
        motion.execute()


def test_nobody_administers_the_timelock(embedded_evm: Chain) -> None:
    """No account holds the admin role, the timelock itself included, so no vote can name another proposer."""
    council = Council.create(embedded_evm)
    admin, proposer, canceller, executor = (
        embedded_evm.call(TIMELOCK, council.timelock, name)
        for name in ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE", "CANCELLER_ROLE", "EXECUTOR_ROLE")
    )
    for who in (embedded_evm.accounts[0], council.governor, council.timelock, NOBODY):
        assert embedded_evm.call(TIMELOCK, council.timelock, "hasRole", admin, who) is False
        for role in (proposer, canceller):
            held = embedded_evm.call(TIMELOCK, council.timelock, "hasRole", role, who)
            assert held is (who == council.governor)
    assert embedded_evm.call(TIMELOCK, council.timelock, "hasRole", executor, NOBODY) is True
    for role in (admin, proposer, canceller):
        motion = council.call(council.timelock, TIMELOCK, "grantRole", role, embedded_evm.accounts[1]).passed()
        with refused_inside(TIMELOCK, "AccessControlUnauthorizedAccount"):
            motion.execute()
    schedule = (council.world.vault, 0, b"", bytes(32), bytes(32), DELAY_S)
    for sender in (0, 1):
        with refused("AccessControlUnauthorizedAccount"):
            embedded_evm.send(TIMELOCK, council.timelock, "schedule", *schedule, sender=sender)


def test_the_delay_rises_and_never_falls_below_the_deployments(embedded_evm: Chain) -> None:
    """Governance change faster than exit, first way: shorten the delay by a vote. Defence: updateDelay."""
    council = Council.create(embedded_evm)

    def update(delay_s: int) -> Motion:
        return council.call(council.timelock, TIMELOCK, "updateDelay", delay_s).passed()

    for too_short in (0, DELAY_S - 1):
        with refused_inside(TIMELOCK, "DelayOutOfRange"):
            update(too_short).execute()
    with refused_inside(TIMELOCK, "DelayOutOfRange"):
        update((3_650 * 86_400) + 1).execute()
    update(2 * DELAY_S).execute()
    assert embedded_evm.call(TIMELOCK, council.timelock, "getMinDelay") == 2 * DELAY_S
    update(DELAY_S).execute()
    assert embedded_evm.call(TIMELOCK, council.timelock, "getMinDelay") == DELAY_S
    with refused("TimelockUnauthorizedCaller"):
        embedded_evm.send(TIMELOCK, council.timelock, "updateDelay", 2 * DELAY_S)


def test_a_vote_cannot_bypass_its_own_delay_by_relaying(embedded_evm: Chain) -> None:
    """Second way: have the governor schedule something in the timelock itself, with no delay."""
    council = Council.create(embedded_evm)
    inner = (council.world.vault, 0, abi.encode_call(VAULT, "sendGovernance", ACTION), bytes(32), bytes(32), 0)
    schedule = abi.encode_call(TIMELOCK, "schedule", *inner)
    motion = council.call(council.governor, GOVERNOR, "relay", council.timelock, 0, schedule).passed()
    with refused_inside(TIMELOCK, "TimelockInsufficientDelay"):
        motion.execute()


def test_whoever_disagrees_is_out_before_the_decision_counts(embedded_evm: Chain) -> None:
    """Third way: an operator in league who serves a forced exit as late as it may, while an attestor in league
    holds the header as long as one can. The owner is still paid before the earliest execution. Defence: a delay
    longer than deadline, window and seconding together."""
    council = Council.create(embedded_evm, attestors=3, threshold=2)
    world, alice = council.world, member(1)
    world.deposit(address_of(alice), DEPOSIT)
    world.close_epoch([Leaf(1, address_of(alice), (DEPOSIT,), (0,))])
    motion = council.action().propose().vote({1: FOR})
    world.close_epoch(list(world.trees[1].leaves.values()))
    motion.queue()
    request = world.note(world.send("forceExit", 0, sender=embedded_evm.adopt(alice)))
    embedded_evm.backend.mine_at(request.l1_time + DEADLINE_S - 60)
    served = world.close_epoch([Leaf(1, address_of(alice), (0,), (DEPOSIT,))])
    embedded_evm.backend.mine_at(world.view("headerTime", served) + WINDOW_S - 60)
    world.veto(served, 0)
    embedded_evm.backend.mine_at(world.view("finalAt", served))
    world.claim(served, 1)
    assert world.balance(address_of(alice)) == DEPOSIT
    assert embedded_evm.now() < council.view("proposalEta", motion.number)
    with refused_inside(TIMELOCK, "TimelockUnexpectedOperationState"):
        motion.execute()


def test_a_request_that_is_not_served_freezes_the_vault_before_the_decision(embedded_evm: Chain) -> None:
    """Fourth way: not to serve the exit at all. Then anyone freezes, and the decision comes to nothing."""
    council = Council.create(embedded_evm)
    world, alice = council.world, member(1)
    world.deposit(address_of(alice), DEPOSIT)
    motion = council.action().propose().vote({1: FOR})
    world.close_epoch([Leaf(1, address_of(alice), (DEPOSIT,), (0,))])
    motion.queue()
    request = world.note(world.send("forceExit", 0, sender=embedded_evm.adopt(alice)))
    for _ in range(2):
        embedded_evm.advance(DEADLINE_S // 2 - 600)
        world.close_epoch(list(world.trees[1].leaves.values()), consumed=1)
    embedded_evm.backend.mine_at(request.l1_time + DEADLINE_S)
    world.send("freeze")
    world.escape(world.view("escapeEpoch"), 1)
    assert world.balance(address_of(alice)) == DEPOSIT
    motion.wait()
    with refused_inside(VAULT, "VaultFrozen"):
        motion.execute()


def test_only_the_timelock_sends_governance(embedded_evm: Chain) -> None:
    """Not the operator, the treasury, a holder, or the governor by itself; and nobody where there is none."""
    council = Council.create(embedded_evm)
    world = council.world
    for sender in (0, 1):
        with refused("NotGovernor"):
            world.send("sendGovernance", ACTION, sender=sender)
    relayed = council.call(
        council.governor, GOVERNOR, "relay", world.vault, 0, abi.encode_call(VAULT, "sendGovernance", ACTION)
    ).passed()
    with refused_inside(VAULT, "NotGovernor"):
        relayed.execute()
    free = World.create(embedded_evm, tokens=world.tokens)
    with refused("NotGovernor"):
        free.send("sendGovernance", ACTION)


def test_a_decision_is_carried_out_once(embedded_evm: Chain) -> None:
    council = Council.create(embedded_evm)
    motion = council.action().passed()
    motion.execute()
    with refused("GovernorUnexpectedProposalState"):
        motion.execute()
    with refused("GovernorUnexpectedProposalState"):
        council.action().propose()
    assert council.world.view("inboxCount") == 1


def test_senseless_rules_cannot_be_deployed(embedded_evm: Chain) -> None:
    shares = embedded_evm.deploy(SHARES, [owner(1)], [100])
    good: list[Any] = [shares, VOTING_DELAY_S, VOTING_PERIOD_S, 20, 1, DELAY_S]
    embedded_evm.deploy(GOVERNOR, *good)
    for place, value in ((1, 366 * 86_400), (2, 0), (2, 366 * 86_400), (3, 0), (3, 101), (4, 0), (4, 101)):
        with refused("InvalidGovernance"):
            embedded_evm.deploy(GOVERNOR, *good[:place], value, *good[place + 1 :])
    for delay in (0, 3_650 * 86_400 + 1):
        with refused_inside(TIMELOCK, "DelayOutOfRange"):
            embedded_evm.deploy(GOVERNOR, *good[:5], delay)
    lists: list[tuple[list[str], list[int]]] = [
        ([], []),
        ([owner(1)], [1, 2]),
        ([owner(1)], [0]),
        ([owner(1), owner(1)], [1, 2]),
    ]
    for holders, amounts in lists:
        with refused("InvalidShares"):
            embedded_evm.deploy(SHARES, holders, amounts)
