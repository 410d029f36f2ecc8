// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestToken} from "../TestToken.sol";

/// @title A dollar token as its issuers run them: listed accounts can neither send nor receive, and all can be paused
/// @dev BlockingToken stops receiving alone.
contract BlacklistToken is TestToken("Blacklist", "BLACK") {
    mapping(address account => bool) public blacklisted;
    bool public paused;

    error Blacklisted(address account);
    error Paused();

    function blacklist(address account, bool on) external {
        blacklisted[account] = on;
    }

    function pause(bool on) external {
        paused = on;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (paused) revert Paused();
        if (blacklisted[from]) revert Blacklisted(from);
        if (blacklisted[to]) revert Blacklisted(to);
        super._update(from, to, amount);
    }
}
