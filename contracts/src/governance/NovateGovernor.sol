// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Governor} from "@openzeppelin/contracts/governance/Governor.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {GovernorCountingSimple} from "@openzeppelin/contracts/governance/extensions/GovernorCountingSimple.sol";
import {GovernorTimelockControl} from "@openzeppelin/contracts/governance/extensions/GovernorTimelockControl.sol";
import {GovernorVotes} from "@openzeppelin/contracts/governance/extensions/GovernorVotes.sol";

import {NovateTimelock} from "./NovateTimelock.sol";
import {VotingShares} from "./VotingShares.sol";

/// @title How the holders of voting shares decide on risk parameters and on the house's money
/// @dev Who votes: holders of VotingShares, one vote a share, as held when voting begins. What passes: more votes
/// for than against, with at least `quorumShares` voting for or abstaining. Whoever holds `thresholdShares`
/// proposes. Delay, period, quorum and threshold are stated at deployment and cannot be changed, not by a
/// vote either: a majority of today cannot make itself the rule of tomorrow.
///
/// What a decision can do: through its timelock, send the vault's inbox the hash of one command
/// (Vault.sendGovernance). The clearinghouse then accepts that command once, if it lies within the hard bounds
/// that every replayer of the journal checks; a majority can neither loosen those nor, since the timelock's
/// delay is longer than the way out of the vault, bind anyone who would rather leave. It has no power
/// over the vault's money, headers, attestors or operator.
contract NovateGovernor is Governor, GovernorVotes, GovernorCountingSimple, GovernorTimelockControl {
    /// @notice Seconds between a proposal and the start of its vote.
    uint48 public immutable votingDelaySeconds;
    /// @notice Seconds a vote lasts.
    uint32 public immutable votingPeriodSeconds;
    /// @notice Shares that must vote for or abstain.
    uint256 public immutable quorumShares;
    /// @notice Shares that a proposer must hold.
    uint256 public immutable thresholdShares;

    /// @notice A constructor argument makes no sense; `field` names it.
    error InvalidGovernance(string field);
    /// @notice The timelock is the vault's governor for good.
    error TimelockFixed();

    /// @dev The timelock is deployed here, so that there is no moment in which anyone else administers it.
    constructor(
        VotingShares shares,
        uint48 votingDelay_,
        uint32 votingPeriod_,
        uint256 quorum_,
        uint256 threshold_,
        uint256 timelockDelay
    )
        Governor("Novate Governor")
        GovernorVotes(shares)
        GovernorTimelockControl(TimelockController(payable(new NovateTimelock(timelockDelay, address(this)))))
    {
        if (votingDelay_ > 365 days) revert InvalidGovernance("votingDelay");
        if (votingPeriod_ == 0 || votingPeriod_ > 365 days) revert InvalidGovernance("votingPeriod");
        if (quorum_ == 0 || quorum_ > shares.totalSupply()) revert InvalidGovernance("quorum");
        if (threshold_ == 0 || threshold_ > shares.totalSupply()) revert InvalidGovernance("threshold");
        votingDelaySeconds = votingDelay_;
        votingPeriodSeconds = votingPeriod_;
        quorumShares = quorum_;
        thresholdShares = threshold_;
    }

    function votingDelay() public view override returns (uint256) {
        return votingDelaySeconds;
    }

    function votingPeriod() public view override returns (uint256) {
        return votingPeriodSeconds;
    }

    function quorum(uint256) public view override returns (uint256) {
        return quorumShares;
    }

    function proposalThreshold() public view override returns (uint256) {
        return thresholdShares;
    }

    /// @notice Always refused: another timelock would have no say over the vault.
    function updateTimelock(TimelockController) public pure override {
        revert TimelockFixed();
    }

    // What follows only tells the compiler which of two inherited functions is meant.

    function state(uint256 proposalId)
        public
        view
        override(Governor, GovernorTimelockControl)
        returns (ProposalState)
    {
        return super.state(proposalId);
    }

    function proposalNeedsQueuing(uint256 proposalId)
        public
        view
        override(Governor, GovernorTimelockControl)
        returns (bool)
    {
        return super.proposalNeedsQueuing(proposalId);
    }

    function _queueOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint48) {
        return super._queueOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _executeOperations(
        uint256 proposalId,
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) {
        super._executeOperations(proposalId, targets, values, calldatas, descriptionHash);
    }

    function _cancel(
        address[] memory targets,
        uint256[] memory values,
        bytes[] memory calldatas,
        bytes32 descriptionHash
    ) internal override(Governor, GovernorTimelockControl) returns (uint256) {
        return super._cancel(targets, values, calldatas, descriptionHash);
    }

    function _executor() internal view override(Governor, GovernorTimelockControl) returns (address) {
        return super._executor();
    }
}
