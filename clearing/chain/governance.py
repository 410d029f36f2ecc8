# SPDX-License-Identifier: GPL-3.0-or-later
"""The holders' vote: deploying it, and proposing, voting, queueing and executing.

Rules: a proposal is one call, the vault's `sendGovernance` with the hash of one command, through the
timelock that the vault calls its governor. What the hash stands for is the caller's business: this module
never sees a command, only 32 bytes and a text that the chain keeps beside them. Shares are whole numbers,
times seconds, addresses 20 bytes. The timelock's delay is longer than the way out of the vault (deadline,
challenge window and seconding together); nothing here deploys or trusts another one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import contracts
from clearing.chain.abi import Interface, interface, keccak
from clearing.chain.deploy import Check, deploy
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt, Rpc, hexed
from clearing.chain.transact import Sender, explained
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet

AGAINST: Final = 0
FOR: Final = 1
ABSTAIN: Final = 2
STATES: Final = ("pending", "active", "canceled", "defeated", "succeeded", "queued", "expired", "executed")
_NOT_NOW: Final = ("GovernorUnexpectedProposalState", "TimelockUnexpectedOperationState")
_CONTRACTS: Final = ("NovateGovernor", "NovateTimelock", "VotingShares", "Vault")


class GovernanceParams(NamedTuple):
    """What a deployment states: holders with their shares, times in seconds, quorum and threshold in shares."""

    holders: Sequence[tuple[bytes, int]]
    voting_delay_s: int
    voting_period_s: int
    quorum: int
    threshold: int
    timelock_delay_s: int


class Governance(NamedTuple):
    """The three contracts of one deployment. `timelock` is the address to give a vault as its governor."""

    shares: bytes
    governor: bytes
    timelock: bytes


class Proposal(NamedTuple):
    """A proposal as it was announced. `action` is the 32-byte hash it would send, empty if it does other things."""

    id: int
    proposer: bytes
    targets: list[bytes]
    values: list[int]
    calldatas: list[bytes]
    description: str
    vote_start_s: int
    vote_end_s: int
    action: bytes

    def arguments(self) -> tuple[Any, ...]:
        """What `queue` and `execute` take."""
        return self.targets, self.values, self.calldatas, keccak(self.description.encode())


class Standing(NamedTuple):
    """Where a proposal stands: shares by side, and from when it can be executed (0: not queued)."""

    state: str
    against: int
    in_favour: int
    abstained: int
    quorum: int
    due_s: int


def way_out_s(deadline_s: int, window_s: int, seconding_s: int) -> int:
    """Seconds within which whoever asks to leave is served or the vault can be frozen, whatever is vetoed."""
    return deadline_s + window_s + seconding_s


def require_slower_than_exit(delay_s: int, deadline_s: int, window_s: int, seconding_s: int) -> None:
    """Raises `ChainError` GOVERNANCE_TOO_FAST unless a decision takes longer than leaving."""
    least = way_out_s(deadline_s, window_s, seconding_s)
    if delay_s <= least:
        text = f"a delay of {delay_s} s would let a vote outrun those who want to leave; take more than {least} s"
        raise ChainError("GOVERNANCE_TOO_FAST", text)


def require_timelock(rpc: Rpc, address: bytes, deadline_s: int, window_s: int, seconding_s: int) -> None:
    """Before a vault with these times is deployed under a governor that is a contract.

    Raises `ChainError` NO_GOVERNANCE unless it is a timelock of this kind, GOVERNANCE_TOO_FAST.
    """
    floor = int(_view(rpc, address, "NovateTimelock", "minimumDelay"))
    require_slower_than_exit(floor, deadline_s, window_s, seconding_s)


def checks_of(vault: VaultClient) -> list[Check]:
    """What `GovernanceClient.checks` finds of a vault's governor, if that is a contract; none else.

    A contract of another kind is a failed check. Raises `ChainError` RPC_*.
    """
    if not vault.rpc.code(vault.governor()):
        return []
    try:
        found = GovernanceClient(vault).checks()
    except ChainError as error:
        if error.code != "NO_GOVERNANCE":
            raise
        return [Check("governance", False, error.message)]
    return [check._replace(name=f"governance: {check.name}") for check in found]


def deploy_governance(
    rpc: Rpc, wallet: Wallet, params: GovernanceParams, deadline_s: int, window_s: int, seconding_s: int
) -> Governance:
    """Shares, governor and timelock for a vault that will be deployed with these times.

    Raises `ChainError` GOVERNANCE_TOO_FAST, TX_REVERTED and what `Sender.send` raises.
    """
    require_slower_than_exit(params.timelock_delay_s, deadline_s, window_s, seconding_s)
    holders, amounts = [owner for owner, _ in params.holders], [shares for _, shares in params.holders]
    shares = deploy(rpc, wallet, "VotingShares", holders, amounts).contract
    rules = params.voting_delay_s, params.voting_period_s, params.quorum, params.threshold
    governor = deploy(rpc, wallet, "NovateGovernor", shares, *rules, params.timelock_delay_s).contract
    timelock = _view(rpc, governor, "NovateGovernor", "timelock")
    return Governance(shares, governor, timelock)


def _view(rpc: Rpc, address: bytes, name: str, function: str, *values: Any) -> Any:
    """A view of one of our contracts. Raises `ChainError` NO_GOVERNANCE when nothing of the kind is there."""
    known = interface(name)
    try:
        data = rpc.call(address, known.call(function, *values))
        if data:
            return known.result(function, data)
    except ChainError as error:
        if error.code not in ("TX_REVERTED", "RPC_BAD_DATA") or known.error_name(error.data):
            raise explained(error, [known]) from None
    raise ChainError("NO_GOVERNANCE", f"{hexed(address)} is no {name}; this vault has no vote of ours")


class GovernanceClient:
    """The vote over one vault. The vault's client needs a wallet for whatever sends.

    Raises `ChainError` NO_GOVERNANCE when the vault's governor is not a timelock of this kind.
    """

    def __init__(self, vault: VaultClient) -> None:
        self.vault, self.rpc = vault, vault.rpc
        self.timelock = bytes(vault.read("governor"))
        if not any(self.timelock):
            raise ChainError("NO_GOVERNANCE", f"the vault {hexed(vault.address)} was deployed without a governor")
        self.governor = bytes(_view(self.rpc, self.timelock, "NovateTimelock", "governor"))
        self.shares = bytes(_view(self.rpc, self.governor, "NovateGovernor", "token"))
        self._abi: Interface = interface("NovateGovernor")
        self._known = [interface(name) for name in _CONTRACTS]

    # -- reads

    def _read(self, function: str, *values: Any) -> Any:
        return _view(self.rpc, self.governor, "NovateGovernor", function, *values)

    def delay_s(self) -> int:
        """Seconds between queueing and execution, as of now."""
        return int(_view(self.rpc, self.timelock, "NovateTimelock", "getMinDelay"))

    def votes(self, holder: bytes) -> int:
        """Shares that would count for a holder in a vote that begins now."""
        return int(_view(self.rpc, self.shares, "VotingShares", "getVotes", holder))

    def rules(self) -> dict[str, int]:
        """Voting delay and period (seconds), quorum, threshold and all shares."""
        supply = int(_view(self.rpc, self.shares, "VotingShares", "totalSupply"))
        names = ("votingDelaySeconds", "votingPeriodSeconds", "quorumShares", "thresholdShares")
        delay, period, quorum, threshold = (int(self._read(name)) for name in names)
        return {
            "voting_delay_s": delay,
            "voting_period_s": period,
            "quorum": quorum,
            "threshold": threshold,
            "shares": supply,
        }

    def proposals(self) -> list[Proposal]:
        """All proposals in order. No proposal over a vault is older than the vault."""
        event = self._abi.events["ProposalCreated"]
        found = self.rpc.logs(self.governor, [event.topic], self.vault.first_block())
        return [self._proposal(self._abi.log("ProposalCreated", log.topics, log.data)) for log in found]

    def proposal(self, number: int) -> Proposal:
        """One proposal by its id. Raises `ChainError` UNKNOWN_PROPOSAL."""
        for proposal in self.proposals():
            if proposal.id == number:
                return proposal
        raise ChainError("UNKNOWN_PROPOSAL", f"no proposal {number} here; `novate govern status` lists them")

    def _proposal(self, fields: dict[str, Any]) -> Proposal:
        calls = fields["targets"], fields["values"], fields["calldatas"]
        return Proposal(
            fields["proposalId"],
            fields["proposer"],
            *calls,
            fields["description"],
            fields["voteStart"],
            fields["voteEnd"],
            self._action(*calls),
        )

    def _action(self, targets: list[bytes], values: list[int], calldatas: list[bytes]) -> bytes:
        """The hash that a proposal sends to this vault; empty when it does anything else, or more."""
        if targets != [self.vault.address] or values != [0]:
            return b""
        try:
            return bytes(self.vault.abi.arguments("sendGovernance", calldatas[0])[0])
        except ChainError:
            return b""

    def standing(self, number: int) -> Standing:
        """State, votes and time of execution. Raises `ChainError` UNKNOWN_PROPOSAL."""
        try:
            state = STATES[self._read("state", number)]
        except ChainError as error:
            if error.reason == "GovernorNonexistentProposal":
                raise ChainError("UNKNOWN_PROPOSAL", f"no proposal {number} at {hexed(self.governor)}") from None
            raise
        against, in_favour, abstained = self._read("proposalVotes", number)
        quorum = int(self._read("quorumShares"))
        return Standing(state, against, in_favour, abstained, quorum, int(self._read("proposalEta", number)))

    # -- sends

    def _send(self, function: str, *values: Any) -> Receipt:
        sender = Sender(self.rpc, self.vault.wallet, self._known)
        try:
            return sender.send(self.governor, self._abi.call(function, *values))
        except ChainError as error:
            if error.reason in _NOT_NOW:
                text = "a vote needs an active proposal, queueing one that passed, execution one whose delay is over"
                raise ChainError("NOT_NOW", f"{text}; see: novate govern status", error.reason, error.data) from None
            raise

    def propose(self, action: bytes, description: str) -> int:
        """Propose that the vault's inbox gets `action` (32 bytes); the proposal's id.

        The wallet's address is added to the text, which keeps anyone else from proposing the same first and
        cancelling it. Raises `ChainError` INVALID_ARGUMENT, ALREADY_PROPOSED, TX_REVERTED
        (GovernorInsufficientProposerVotes).
        """
        if len(action) != 32:
            raise ChainError("INVALID_ARGUMENT", f"an action hash has 32 bytes, not {len(action)}")
        call = self.vault.abi.call("sendGovernance", action)
        text = f"{description}\n#proposer={hexed(self.vault.wallet.address)}"
        try:
            receipt = self._send("propose", [self.vault.address], [0], [call], text)
        except ChainError as error:
            if error.code == "NOT_NOW":
                text = "this very proposal was made before; word its reason differently"
                raise ChainError("ALREADY_PROPOSED", text, error.reason, error.data) from None
            raise
        topic = self._abi.events["ProposalCreated"].topic
        for log in receipt.logs:
            if log.address == self.governor and log.topics[:1] == (topic,):
                return int(self._abi.log("ProposalCreated", log.topics, log.data)["proposalId"])
        raise ChainError("RPC_BAD_DATA", "the receipt of the proposal has no ProposalCreated; try another --rpc")

    def vote(self, number: int, side: int, reason: str = "") -> Receipt:
        """Vote AGAINST, FOR or ABSTAIN with all shares held at the vote's start."""
        if reason:
            return self._send("castVoteWithReason", number, side, reason)
        return self._send("castVote", number, side)

    def queue(self, number: int) -> Receipt:
        """Hand a proposal that passed to the timelock; anyone may."""
        return self._send("queue", *self.proposal(number).arguments())

    def execute(self, number: int) -> Receipt:
        """Carry out a queued proposal whose delay is over; anyone may."""
        return self._send("execute", *self.proposal(number).arguments())

    def delegate(self, to: bytes) -> Receipt:
        """Let `to` (possibly oneself) vote with the wallet's shares, in votes that begin later."""
        known = interface("VotingShares")
        return Sender(self.rpc, self.vault.wallet, self._known).send(self.shares, known.call("delegate", to))

    # -- verification

    def checks(self) -> list[Check]:
        """Whether the vote over this vault is what it claims: code, roles, and slower than leaving."""
        found = [
            self._code("governor's code", "NovateGovernor", self.governor),
            self._code("timelock's code", "NovateTimelock", self.timelock),
            self._code("shares' code", "VotingShares", self.shares),
        ]
        named = bytes(self._read("timelock"))
        found.append(Check("governor and timelock name each other", named == self.timelock, hexed(named)))
        names = ("deadlineSeconds", "challengeWindowSeconds", "secondingSeconds")
        least = way_out_s(*(int(self.vault.read(name)) for name in names))
        floor = int(_view(self.rpc, self.timelock, "NovateTimelock", "minimumDelay"))
        text = f"a decision takes at least {floor} s, leaving at most {least} s"
        found.append(Check("slower than leaving", floor > least, text))
        return found

    def _code(self, name: str, artifact: str, address: bytes) -> Check:
        code = self.rpc.code(address)
        same = contracts.runtime_matches(contracts.load(artifact), code)
        digest = hashlib.sha256(code).hexdigest()[:16]
        return Check(name, same, f"{hexed(address)}, {'the artifact' if same else 'not the artifact'} ({digest})")
