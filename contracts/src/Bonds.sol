// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Ether at stake: the operator's bond, attestors' and challengers' bonds
/// @dev Paid out by pull alone, so that no receiver can block anything. Tokens are never touched here.
abstract contract Bonds is ReentrancyGuardTransient {
    /// @dev Half of a slashed bond ends here, so that an operator who reports itself loses.
    address private constant BURNED = address(0xdEaD);

    /// @notice Wei that an attestor puts up for a veto, and a challenger for a challenge.
    uint128 public immutable vetoBondWei;
    /// @notice Wei of bond without which no header can be posted.
    uint128 public immutable requiredBondWei;

    /// @notice Wei that answer for the operator's faults.
    uint256 public operatorBond;
    mapping(address receiver => uint256 amount) private _ethCredit;

    event BondPosted(address indexed payer, uint256 amount, uint256 bond);
    event BondSlashed(address indexed reporter, uint256 amount);
    event BondWithdrawn(address indexed operator, uint256 amount);
    event EtherPaid(address indexed receiver, uint256 amount);

    /// @notice Exactly `expected` wei must come with this call.
    error WrongBond(uint256 sent, uint256 expected);
    /// @notice The operator's bond is below what posting needs: postBond() raises it.
    error BondTooLow(uint256 bond, uint256 required);
    /// @notice Nothing is credited to this address.
    error NoEther(address receiver);
    /// @notice The receiver refused the ether.
    error EtherRefused(address receiver);

    constructor(uint128 vetoBond, uint128 operatorBond_) {
        vetoBondWei = vetoBond;
        requiredBondWei = operatorBond_;
    }

    /// @notice Raises the operator's bond by what comes with the call. It is free again only after the end.
    function postBond() external payable {
        operatorBond += msg.value;
        emit BondPosted(msg.sender, msg.value, operatorBond);
    }

    /// @notice Wei that withdrawEth pays to this address.
    function ethCredit(address receiver) external view returns (uint256) {
        return _ethCredit[receiver];
    }

    /// @notice Pays an address what is credited to it, whoever submits.
    function withdrawEth(address receiver) external nonReentrant {
        uint256 amount = _ethCredit[receiver];
        if (amount == 0) revert NoEther(receiver);
        _ethCredit[receiver] = 0;
        emit EtherPaid(receiver, amount);
        (bool ok,) = receiver.call{value: amount}("");
        if (!ok) revert EtherRefused(receiver);
    }

    function _creditEther(address receiver, uint256 amount) internal {
        _ethCredit[receiver] += amount;
    }

    function _takeVetoBond() internal {
        if (msg.value != vetoBondWei) revert WrongBond(msg.value, vetoBondWei);
    }

    function _requireBond() internal view {
        if (operatorBond < requiredBondWei) revert BondTooLow(operatorBond, requiredBondWei);
    }

    function _slash(address reporter) internal {
        uint256 bond = operatorBond;
        if (bond == 0) return;
        operatorBond = 0;
        _creditEther(reporter, bond / 2);
        _creditEther(BURNED, bond - bond / 2);
        emit BondSlashed(reporter, bond);
    }

    function _releaseBond(address operator_) internal {
        uint256 bond = operatorBond;
        operatorBond = 0;
        _creditEther(operator_, bond);
        emit BondWithdrawn(operator_, bond);
    }
}
