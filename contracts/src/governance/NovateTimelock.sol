// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title The delay between a decision and its effect: the vault's `governor`
/// @dev Only the Governor that deployed it schedules and cancels; anyone executes what is due. Nobody administers
/// it, the Governor included: the role that could name another proposer is given up in the constructor. The
/// delay may be raised by a vote and never falls below the one of the deployment, which the deployment tool
/// takes only when it is longer than the vault's deadline, challenge window and seconding time together: whoever
/// dislikes a decision has a forced exit served, or the vault frozen, before it can take effect.
contract NovateTimelock is TimelockController {
    /// @dev Beyond this a mistake could not be told from an end of governance.
    uint256 public constant MAXIMUM_DELAY = 3650 days;

    /// @notice The one contract that schedules.
    address public immutable governor;
    /// @notice Seconds of the deployment's delay: no vote can go below.
    uint256 public immutable minimumDelay;

    /// @notice The delay must be between these two numbers of seconds.
    error DelayOutOfRange(uint256 delay, uint256 minimum, uint256 maximum);

    constructor(uint256 delay, address governor_)
        TimelockController(delay, _only(governor_), _only(address(0)), address(0))
    {
        _requireDelay(delay, 1);
        governor = governor_;
        minimumDelay = delay;
        _revokeRole(DEFAULT_ADMIN_ROLE, address(this));
    }

    /// @notice Changes the delay of what is scheduled from now on. Only by an executed proposal, and never to less
    /// than `minimumDelay`.
    function updateDelay(uint256 newDelay) public override {
        _requireDelay(newDelay, minimumDelay);
        super.updateDelay(newDelay);
    }

    function _requireDelay(uint256 delay, uint256 minimum) private pure {
        if (delay < minimum || delay > MAXIMUM_DELAY) revert DelayOutOfRange(delay, minimum, MAXIMUM_DELAY);
    }

    function _only(address account) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = account;
    }
}
