// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "./Assets.sol";
import {Deployment} from "./Deployment.sol";
import {Epochs} from "./Epochs.sol";
import {Escape} from "./Escape.sol";
import {Inbox} from "./Inbox.sol";

/// @title One chain's vault of a Novate clearinghouse: immutable, without an owner
/// @dev Composition only: Assets (tokens and payment), Inbox (deposits), Epochs (headers), Claims
/// (withdrawals), Escape (freeze, escape, refund).
contract Vault is Escape {
    /// @param tokens 1 to 4 ERC-20 contracts; their order is the order of the lanes.
    /// @param challengeWindowSeconds at most `deadlineSeconds`.
    /// @param minFirstDeposit atoms.
    /// @param maxDepositors at most 2^20 - 1.
    constructor(
        bytes32 deploymentId,
        address operator,
        address treasury,
        address[] memory tokens,
        uint64 deadlineSeconds,
        uint64 challengeWindowSeconds,
        uint128 minFirstDeposit,
        uint32 maxDepositors
    )
        Assets(tokens)
        Deployment(deploymentId, treasury, deadlineSeconds, challengeWindowSeconds)
        Inbox(minFirstDeposit, maxDepositors)
        Epochs(operator)
    {}
}
