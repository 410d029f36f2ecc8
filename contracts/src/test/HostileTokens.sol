// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestToken} from "../TestToken.sol";

/// @title Calls back into a target from inside every transfer, with calldata chosen by the test
contract ReentrantToken is TestToken("Reentrant", "REENT") {
    address public target;
    bytes public payload;
    /// @notice Whether the last call back was let in, and what it returned.
    bool public entered;
    bytes public result;
    /// @notice Whether transfers fail, so that a payer owes credit.
    bool public refusing;

    error Refused();

    function arm(address target_, bytes calldata payload_) external {
        target = target_;
        payload = payload_;
    }

    function refuse(bool on) external {
        refusing = on;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (refusing && from != address(0)) revert Refused();
        super._update(from, to, amount);
        if (target != address(0) && (from == target || to == target)) {
            (entered, result) = target.call(payload);
        }
    }
}

/// @title Keeps one percent of every transfer
contract FeeToken is TestToken("Fee", "FEE") {
    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0)) return super._update(from, to, amount);
        uint256 fee = amount / 100;
        super._update(from, to, amount - fee);
        super._update(from, address(this), fee);
    }
}

/// @title Refuses to move tokens to or from listed accounts; may answer false, burn gas or flood instead
contract BlockingToken is TestToken("Blocking", "BLOCK") {
    enum Manner {
        Revert,
        ReturnFalse,
        BurnGas,
        Flood
    }

    mapping(address account => bool) public listed;
    Manner public manner;

    error Listed(address account);

    function list(address account, bool on) external {
        listed[account] = on;
    }

    function setManner(Manner manner_) external {
        manner = manner_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (!listed[to]) return super.transfer(to, amount);
        if (manner == Manner.ReturnFalse) return false;
        if (manner == Manner.BurnGas) {
            while (true) {}
        }
        if (manner == Manner.Flood) {
            assembly {
                return(0, 20000)
            }
        }
        revert Listed(to);
    }
}

/// @title An old token whose transfers return nothing
contract SilentToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}
