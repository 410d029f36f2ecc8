// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

/// @title What every test contract here has: the cheatcodes, short assertions, time
abstract contract Test {
    /// @dev Forge looks for this name.
    bool public constant IS_TEST = true;
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function _eq(uint256 left, uint256 right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function _eq(bytes32 left, bytes32 right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function _eq(address left, address right, string memory what) internal pure {
        vm.assertEq(left, right, what);
    }

    function _true(bool condition, string memory what) internal pure {
        vm.assertTrue(condition, what);
    }

    /// @dev The next external call must revert with exactly this error.
    function _refuse(bytes memory error_) internal {
        vm.expectRevert(error_);
    }

    /// @dev The next external call must revert with this error, whatever its arguments.
    function _refuse(bytes4 selector) internal {
        vm.expectPartialRevert(selector);
    }

    /// @dev Seconds UTC. `block.timestamp` may be read once and kept by the optimiser, across a warp.
    function _now() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    /// @dev A later block, `seconds_` later.
    function _advance(uint256 seconds_) internal {
        vm.warp(vm.getBlockTimestamp() + seconds_);
        vm.roll(vm.getBlockNumber() + 1);
    }

    /// @dev `value` folded into [low, high].
    function _within(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    function _lanes(uint256 count, uint128 value) internal pure returns (uint128[] memory list) {
        list = new uint128[](count);
        for (uint256 a = 0; a < count; ++a) list[a] = value;
    }
}
