// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "./Hashing.sol";

/// @title What is fixed at deployment and never changes
abstract contract Deployment {
    /// @notice Random id of the clearinghouse; one journal may serve several vaults under one id.
    bytes32 public immutable deploymentId;
    /// @notice Domain of this vault's exit tree: binds chain and vault.
    bytes32 public immutable domain;
    /// @notice Owner of leaf 0, the house: fees, insurance fund, operator's capital.
    address public immutable treasury;
    /// @notice Seconds an inbox message or the next epoch may be overdue before anyone can freeze.
    uint64 public immutable deadlineSeconds;
    /// @notice Seconds between the posting of a header and its use.
    uint64 public immutable challengeWindowSeconds;
    /// @notice Block time (seconds UTC) of the deployment.
    uint64 public immutable deployedAt;

    /// @notice A constructor argument makes no sense; `field` names it.
    error InvalidConfiguration(string field);

    constructor(bytes32 id, address treasury_, uint64 deadline, uint64 window) {
        if (id == 0) revert InvalidConfiguration("deploymentId");
        if (treasury_ == address(0)) revert InvalidConfiguration("treasury");
        // A shorter deadline would let a freeze void the header of an operator who was on time.
        if (deadline == 0 || deadline < window || deadline > 3650 days) {
            revert InvalidConfiguration("deadlineSeconds");
        }
        deploymentId = id;
        domain = Hashing.exitDomain(block.chainid, address(this));
        treasury = treasury_;
        deadlineSeconds = deadline;
        challengeWindowSeconds = window;
        deployedAt = uint64(block.timestamp);
    }
}
