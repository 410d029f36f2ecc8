// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Who votes, and with what weight: a fixed number of shares, one vote each
/// @dev All shares are minted to the stated holders at deployment; nobody can mint or burn any afterwards. The
/// first holders vote for themselves from the start; whoever receives shares later names a delegate (possibly
/// itself) before they count. Weight is what was held when a proposal's voting began, so shares bought or borrowed
/// during a vote change nothing. The clock is the block's time in seconds.
contract VotingShares is ERC20Votes {
    /// @notice The constructor's lists make no sense; `field` names the one.
    error InvalidShares(string field);

    /// @param holders distinct addresses; `shares` the number of votes of each.
    constructor(address[] memory holders, uint256[] memory shares)
        ERC20("Novate Voting Shares", "NVOTE")
        EIP712("Novate Voting Shares", "1")
    {
        if (holders.length == 0) revert InvalidShares("holders");
        if (holders.length != shares.length) revert InvalidShares("shares");
        for (uint256 i = 0; i < holders.length; ++i) {
            if (shares[i] == 0) revert InvalidShares("shares");
            if (balanceOf(holders[i]) != 0) revert InvalidShares("holders");
            _mint(holders[i], shares[i]);
            _delegate(holders[i], holders[i]);
        }
    }

    /// @notice A share is not divisible.
    function decimals() public pure override returns (uint8) {
        return 0;
    }

    /// @notice Seconds UTC: voting periods are times, on every chain alike.
    function clock() public view override returns (uint48) {
        return uint48(block.timestamp);
    }

    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }
}
