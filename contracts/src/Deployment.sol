// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Evidence} from "./Evidence.sol";
import {Hashing} from "./Hashing.sol";
import {Config} from "./Structs.sol";

/// @title What is fixed at deployment and never changes
abstract contract Deployment {
    /// @notice Random id of the clearinghouse; one journal may serve several vaults under one id.
    bytes32 public immutable deploymentId;
    /// @notice Domain of this vault's exit tree: binds chain and vault.
    bytes32 public immutable domain;
    /// @notice Owner of leaf 0, the house: fees, insurance fund, operator's capital.
    address public immutable treasury;
    /// @notice Who alone may send governance messages: a timelock; zero when there is no governance.
    address public immutable governor;
    /// @notice Seconds an inbox message or the next epoch may be overdue before anyone can freeze.
    uint64 public immutable deadlineSeconds;
    /// @notice Seconds between the posting of a header and its use.
    uint64 public immutable challengeWindowSeconds;
    /// @notice Seconds for which one attestor's veto holds a header while others may second it.
    uint64 public immutable secondingSeconds;
    /// @notice Block time (seconds UTC) of the deployment.
    uint64 public immutable deployedAt;

    /// @dev One slot, so that whoever pays reads all of it at once.
    struct Status {
        uint64 frozenAt; // seconds UTC, zero while live
        uint64 escapeEpoch;
        uint64 escapeInboxCount;
        uint8 reason;
        uint8 openVetoes;
    }

    Status internal _status;

    /// @notice A constructor argument makes no sense; `field` names it.
    error InvalidConfiguration(string field);

    constructor(Config memory c) {
        if (c.deploymentId == 0) revert InvalidConfiguration("deploymentId");
        if (c.treasury == address(0)) revert InvalidConfiguration("treasury");
        if (c.secondingSeconds > 3650 days) revert InvalidConfiguration("secondingSeconds");
        if (c.challengeWindowSeconds > 3650 days) revert InvalidConfiguration("challengeWindowSeconds");
        // A shorter deadline would let a freeze void the header of an operator who was on time.
        uint64 least = c.challengeWindowSeconds + c.secondingSeconds;
        if (c.deadlineSeconds == 0 || c.deadlineSeconds < least || c.deadlineSeconds > 3650 days) {
            revert InvalidConfiguration("deadlineSeconds");
        }
        deploymentId = c.deploymentId;
        domain = Hashing.exitDomain(block.chainid, address(this));
        treasury = c.treasury;
        governor = c.governor;
        deadlineSeconds = c.deadlineSeconds;
        challengeWindowSeconds = c.challengeWindowSeconds;
        secondingSeconds = c.secondingSeconds;
        deployedAt = uint64(block.timestamp);
    }

    /// @dev Hands this call's arguments to the library's function of the same parameters as they came: to decode
    /// and encode the nested ones again would take more code than the vault has room for. Reverts as it does.
    function _examine(bytes4 selector) internal {
        address library_ = address(Evidence);
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, 0, calldatasize())
            mstore(data, or(selector, shr(32, shl(32, mload(data)))))
            if iszero(delegatecall(gas(), library_, data, calldatasize(), 0, 0)) {
                returndatacopy(data, 0, returndatasize())
                revert(data, returndatasize())
            }
        }
    }
}
