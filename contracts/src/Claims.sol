// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "./Hashing.sol";
import {ExitLeaf} from "./Structs.sol";
import {SumTree} from "./SumTree.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title Payment of acknowledged withdrawals against any finalised header
/// @dev Counters are cumulative and kept by owner: what was paid once is never paid again, whichever
/// header, leaf or submitter comes next, and an old header can only pay less than a newer one.
abstract contract Claims is Vouchers {
    event Claimed(address indexed owner, uint8 indexed asset, uint128 amount, uint128 cumulative);

    /// @notice The header's challenge window is not over, or a freeze came before its end.
    error HeaderNotFinal(uint64 epoch);
    /// @notice The leaf needs one exit and one acknowledgement per asset of the vault.
    error WrongLeafLanes(uint256 exits, uint256 withdrawAcks, uint8 expected);
    /// @notice Leaf values stay below 2^96.
    error LeafValueTooLarge(uint8 lane);
    /// @notice Leaf and path do not lead to the header's exit root.
    error RootMismatch(bytes32 root, bytes32 expected);
    /// @notice Leaf and path do not add up to the header's exit sums.
    error SumMismatch(uint8 lane, uint256 sum, uint256 expected);
    /// @notice Everything this leaf acknowledges was paid already.
    error NothingToClaim(address owner);

    /// @notice Pays the leaf's owner, whoever submits, withdraw_ack - claimed in every asset.
    /// @param header the bytes of a finalised header.
    /// @param siblings hashes from the leaf's level upwards, 20.
    /// @param siblingSums sums of the siblings, level by level, lane by lane.
    function claim(
        bytes calldata header,
        uint32 index,
        address owner,
        uint128[] calldata exits,
        uint128[] calldata withdrawAcks,
        bytes32[] calldata siblings,
        uint128[] calldata siblingSums
    ) external nonReentrant {
        ExitLeaf memory leaf = ExitLeaf(index, owner, exits, withdrawAcks);
        _requireFinal(header);
        _requireLeaf(header, leaf, siblings, siblingSums);
        _payClaim(leaf);
    }

    /// @dev Whether a posted header pays: its window is over, nothing holds it, and no freeze voided it.
    function _usable(uint64 epoch) internal view virtual returns (bool);

    function _requireFinal(bytes calldata header) private view {
        uint64 epoch = _requirePosted(header);
        if (!_usable(epoch)) revert HeaderNotFinal(epoch);
    }

    /// @dev Reverts unless the leaf stands in the header's exit tree with these values.
    function _requireLeaf(
        bytes calldata header,
        ExitLeaf memory leaf,
        bytes32[] calldata siblings,
        uint128[] calldata siblingSums
    ) internal view {
        uint256[] memory sums = _leafSums(leaf);
        bytes32 root = SumTree.climb(Hashing.exitLeaf(domain, leaf), leaf.index, sums, siblings, siblingSums);
        bytes32 expectedRoot = Hashing.headerExitRoot(header);
        if (root != expectedRoot) revert RootMismatch(root, expectedRoot);
        for (uint8 a = 0; a < lanes; ++a) {
            uint256 expected = Hashing.headerExitSum(header, a);
            if (sums[a] != expected) revert SumMismatch(a, sums[a], expected);
        }
    }

    /// @dev exit + withdraw_ack per lane, atoms.
    function _leafSums(ExitLeaf memory leaf) private view returns (uint256[] memory sums) {
        if (leaf.exits.length != lanes || leaf.withdrawAcks.length != lanes) {
            revert WrongLeafLanes(leaf.exits.length, leaf.withdrawAcks.length, lanes);
        }
        sums = new uint256[](lanes);
        for (uint8 a = 0; a < lanes; ++a) {
            uint256 exit = leaf.exits[a];
            uint256 ack = leaf.withdrawAcks[a];
            if ((exit | ack) >> 96 != 0) revert LeafValueTooLarge(a);
            sums[a] = exit + ack;
        }
    }

    function _payClaim(ExitLeaf memory leaf) private {
        uint256[] memory due = new uint256[](lanes);
        bool any;
        for (uint8 a = 0; a < lanes; ++a) {
            due[a] = _settle(leaf.owner, a, leaf.withdrawAcks[a]);
            if (due[a] == 0) continue;
            any = true;
            emit Claimed(leaf.owner, a, uint128(due[a]), leaf.withdrawAcks[a]);
            due[a] = _repayAdvance(leaf.owner, a, due[a]);
        }
        if (!any) revert NothingToClaim(leaf.owner);
        _sendAll(leaf.owner, due);
    }

    /// @dev Raises the owner's counter to `cumulative` and releases the difference; all effects of a
    /// payment happen here, before the first token is called.
    function _settle(address owner, uint8 asset, uint256 cumulative) internal returns (uint256 due) {
        uint256 claimed = _claimed(owner, asset);
        if (cumulative <= claimed) return 0;
        due = cumulative - claimed;
        _setClaimed(owner, asset, cumulative);
        _release(asset, due);
    }

    function _sendAll(address owner, uint256[] memory due) internal {
        for (uint8 a = 0; a < lanes; ++a) {
            if (due[a] != 0) _send(a, owner, due[a]);
        }
    }
}
