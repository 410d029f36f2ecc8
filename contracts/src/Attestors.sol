// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deployment} from "./Deployment.sol";

/// @title Who replays the journal and signs headers beside the operator: k of n
/// @dev The set is fixed at deployment. Every header names its hash. With fewer than k left at work no header
/// can be posted, which freezes the vault after the deadline: attestors can stop it and not take from it.
abstract contract Attestors is Deployment {
    /// @dev Bounds the work of a post and of looking for standing vetoes.
    uint256 internal constant MAX_ATTESTORS = 16;

    /// @notice Signatures of attestors that a header needs.
    uint8 public immutable threshold;
    /// @notice Attestors that void a header together: n - k + 1, so many that the others are fewer than k.
    uint8 public immutable vetoQuorum;
    /// @notice SHA-256 of threshold, number and addresses; zero when there are no attestors.
    bytes32 public immutable attestorsHash;

    address[] private _attestors;
    mapping(address signer => bool) private _isAttestor;

    /// @notice The sender is no attestor of this vault.
    error NotAttestor(address sender);

    constructor(address[] memory list, uint8 k) {
        uint256 n = list.length;
        if (n > MAX_ATTESTORS || k > n || (k == 0) != (n == 0)) revert InvalidConfiguration("threshold");
        address last = address(0);
        bytes memory packed = abi.encodePacked("novate/attestors/v1", k, uint8(n));
        for (uint256 i = 0; i < n; ++i) {
            if (list[i] <= last) revert InvalidConfiguration("attestors");
            last = list[i];
            _isAttestor[last] = true;
            packed = abi.encodePacked(packed, last);
        }
        _attestors = list;
        threshold = k;
        vetoQuorum = uint8(n - k + 1);
        attestorsHash = n == 0 ? bytes32(0) : sha256(packed);
    }

    /// @notice The attestors' addresses, ascending.
    function attestors() external view returns (address[] memory) {
        return _attestors;
    }

    /// @notice Whether this address is one of them.
    function isAttestor(address signer) public view returns (bool) {
        return _isAttestor[signer];
    }

    function _requireAttestor(address sender) internal view {
        if (!_isAttestor[sender]) revert NotAttestor(sender);
    }
}
