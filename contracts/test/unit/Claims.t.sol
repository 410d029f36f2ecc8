// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {World} from "../base/World.sol";

contract ClaimsTest is World {
    function setUp() public {
        _build(2, 3, 2);
    }

    /// A depositor's acknowledged withdrawal is paid once the window is over.
    function test_pays() public {
        _deposit(_owner(1), 0, 5_000_000);
        _advance(12);
        uint64 epoch = _close(_one(_leaf(1, _owner(1), 3_000_000, 2_000_000)), 1);
        _passWindow();
        _claim(epoch, 1);
        _eq(_balance(0, _owner(1)), 2_000_000, "paid");
    }
}
