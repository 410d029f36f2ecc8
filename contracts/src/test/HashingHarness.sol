// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashing} from "../Hashing.sol";
import {ExitLeaf, Header, InboxMessage, Voucher} from "../Structs.sol";
import {SumTree} from "../SumTree.sol";

/// @title The library functions, callable from tests
contract HashingHarness {
    function exitDomain(uint256 chainId, address vault) external pure returns (bytes32) {
        return Hashing.exitDomain(chainId, vault);
    }

    function emptyLeaf(bytes32 domain) external pure returns (bytes32) {
        return Hashing.emptyLeaf(domain);
    }

    function exitLeaf(bytes32 domain, ExitLeaf memory leaf) external view returns (bytes32) {
        return Hashing.exitLeaf(domain, leaf);
    }

    function message(bytes32 previous, InboxMessage memory m) external pure returns (bytes32) {
        return Hashing.message(previous, m);
    }

    function voucher(Voucher memory v) external pure returns (bytes32) {
        return Hashing.voucher(v);
    }

    function diff(bytes32[] memory chunkHashes) external pure returns (bytes32) {
        return Hashing.diff(chunkHashes);
    }

    function encodeHeader(Header memory h) external pure returns (bytes memory) {
        return Hashing.encodeHeader(h);
    }

    function decodeHeader(bytes calldata b) external pure returns (Header memory) {
        return Hashing.decodeHeader(b);
    }

    function climb(
        bytes32 leaf,
        uint256 index,
        uint256[] memory sums,
        bytes32[] calldata siblings,
        uint128[] calldata siblingSums
    ) external view returns (bytes32 root, uint256[] memory rootSums) {
        root = SumTree.climb(leaf, index, sums, siblings, siblingSums);
        rootSums = sums;
    }
}
