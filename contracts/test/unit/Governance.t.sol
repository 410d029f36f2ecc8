// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {NovateGovernor} from "../../src/governance/NovateGovernor.sol";
import {NovateTimelock} from "../../src/governance/NovateTimelock.sol";
import {VotingShares} from "../../src/governance/VotingShares.sol";
import {Config} from "../../src/Structs.sol";
import {World} from "../base/World.sol";

/// Shares, governor and timelock: a decision reaches the inbox slowly, and the rules themselves cannot be voted away.
contract GovernanceTest is World {
    VotingShares private shares;
    NovateGovernor private governor;
    NovateTimelock private timelock;
    uint48 private constant DELAY = 1 hours;
    uint32 private constant PERIOD = 2 hours;
    uint256 private constant WAIT = DEADLINE + WINDOW + SECONDING;

    function setUp() public {
        (address[] memory holders, uint256[] memory counts) = _holders(600, 400);
        shares = new VotingShares(holders, counts);
        governor = new NovateGovernor(shares, DELAY, PERIOD, 500, 100, WAIT);
        timelock = NovateTimelock(payable(governor.timelock()));
        delete tokens;
        _build(1, 0, 0);
        Config memory c = _config(0, 0);
        c.governor = address(timelock);
        _open(c);
        vm.prank(_owner(0));
        shares.delegate(_owner(0));
        vm.prank(_owner(1));
        shares.delegate(_owner(1));
        _advance(1);
    }

    function _holders(uint256 a, uint256 b) private pure returns (address[] memory list, uint256[] memory counts) {
        (list, counts) = (new address[](2), new uint256[](2));
        (list[0], list[1], counts[0], counts[1]) = (_owner(0), _owner(1), a, b);
    }

    function _call(address target, bytes memory data)
        private
        pure
        returns (address[] memory t, uint256[] memory v, bytes[] memory d)
    {
        (t, v, d) = (new address[](1), new uint256[](1), new bytes[](1));
        (t[0], d[0]) = (target, data);
    }

    /// Proposed, voted on by `yes`, queued; what it will call is left to be executed.
    function _passed(address target, bytes memory data) private {
        (address[] memory t, uint256[] memory v, bytes[] memory d) = _call(target, data);
        vm.prank(_owner(0));
        uint256 id = governor.propose(t, v, d, "why");
        _advance(DELAY + 1);
        vm.prank(_owner(0));
        governor.castVote(id, 1);
        _advance(PERIOD + 1);
        _eq(uint256(governor.state(id)), 4, "succeeded");
        _true(governor.proposalNeedsQueuing(id), "must wait");
        governor.queue(t, v, d, keccak256("why"));
    }

    function _execute(address target, bytes memory data) private {
        (address[] memory t, uint256[] memory v, bytes[] memory d) = _call(target, data);
        governor.execute(t, v, d, keccak256("why"));
    }

    /// A decision is a message in the vault's inbox, after a delay that is longer than leaving takes.
    function test_aDecision() public {
        bytes memory data = abi.encodeCall(vault.sendGovernance, (sha256("action")));
        _passed(address(vault), data);
        (address[] memory t, uint256[] memory v, bytes[] memory d) = _call(address(vault), data);
        _advance(WAIT - 10);
        vm.expectRevert();
        governor.execute(t, v, d, keccak256("why"));
        _advance(20);
        _execute(address(vault), data);
        _eq(vault.inboxCount(), 1, "in the inbox");
    }

    /// The timelock is fixed, its delay never falls below the deployment's, and rises only by a vote.
    function test_theRules() public {
        vm.expectRevert();
        timelock.updateDelay(WAIT + 1);
        _refuse(NovateGovernor.TimelockFixed.selector);
        governor.updateTimelock(timelock);
        _eq(governor.votingDelay(), DELAY, "delay");
        _eq(governor.votingPeriod(), PERIOD, "period");
        _eq(governor.quorum(0), 500, "quorum");
        _eq(governor.proposalThreshold(), 100, "threshold");
        _eq(timelock.governor(), address(governor), "governor");
        bytes memory data = abi.encodeCall(timelock.updateDelay, (WAIT + 5));
        _passed(address(timelock), data);
        _advance(WAIT + 1);
        _execute(address(timelock), data);
        _eq(timelock.getMinDelay(), WAIT + 5, "raised");
        data = abi.encodeCall(timelock.updateDelay, (WAIT - 1));
        _passed(address(timelock), data);
        _advance(WAIT + 10);
        (address[] memory t, uint256[] memory v, bytes[] memory d) = _call(address(timelock), data);
        vm.expectRevert();
        governor.execute(t, v, d, keccak256("why"));
    }

    /// A proposer may withdraw what is not voted on yet.
    function test_cancel() public {
        (address[] memory t, uint256[] memory v, bytes[] memory d) =
            _call(address(vault), abi.encodeCall(vault.sendGovernance, (bytes32(0))));
        vm.prank(_owner(0));
        uint256 id = governor.propose(t, v, d, "why");
        vm.prank(_owner(0));
        governor.cancel(t, v, d, keccak256("why"));
        _eq(uint256(governor.state(id)), 2, "cancelled");
    }

    /// Senseless constructions are refused.
    function test_senseless() public {
        vm.expectRevert();
        new NovateGovernor(shares, 366 days, PERIOD, 500, 100, WAIT);
        vm.expectRevert();
        new NovateGovernor(shares, DELAY, 0, 500, 100, WAIT);
        vm.expectRevert();
        new NovateGovernor(shares, DELAY, PERIOD, 1001, 100, WAIT);
        vm.expectRevert();
        new NovateGovernor(shares, DELAY, PERIOD, 500, 0, WAIT);
        vm.expectRevert();
        new NovateTimelock(0, address(this));
        (address[] memory holders, uint256[] memory counts) = _holders(1, 0);
        vm.expectRevert();
        new VotingShares(holders, counts);
        vm.expectRevert();
        new VotingShares(new address[](0), new uint256[](0));
        vm.expectRevert();
        new VotingShares(holders, new uint256[](1));
        (holders, counts) = _holders(1, 2);
        holders[1] = holders[0];
        vm.expectRevert();
        new VotingShares(holders, counts);
        _eq(shares.clock(), _now(), "votes are counted by time");
        _eq(keccak256(bytes(shares.CLOCK_MODE())), keccak256("mode=timestamp"), "mode");
    }
}
