// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ExitLeaf, Header, InboxMessage, Voucher} from "./Structs.sol";

/// @title Every hash of the protocol (SHA-256, fixed-width big-endian, one tag byte each)
/// @dev tests/vectors/hashing.json holds the same values for Python and Solidity.
library Hashing {
    uint8 internal constant VERSION = 1;

    uint8 internal constant TAG_LEAF = 0x00;
    uint8 internal constant TAG_EMPTY = 0x02;
    uint8 internal constant TAG_HEADER = 0x03;
    uint8 internal constant TAG_INBOX = 0x04;
    uint8 internal constant TAG_VOUCHER = 0x05;

    // Offsets of the header's fields; those behind the exit sums move by 16 bytes per lane.
    uint256 private constant AT_EPOCH = 35;
    uint256 private constant AT_EXIT_ROOT = 187;
    uint256 private constant AT_SUMS = 219;
    uint256 private constant BYTES_WITHOUT_SUMS = 491;
    uint256 private constant LANE_BYTES = 16;

    /// @notice The bytes are no header of this version: wrong length, tag, version or lane count.
    error MalformedHeader();

    function exitDomain(uint256 chainId, address vault) internal pure returns (bytes32) {
        return sha256(abi.encodePacked("novate/exit/v1", chainId, vault));
    }

    function emptyLeaf(bytes32 domain) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(TAG_EMPTY, domain));
    }

    /// @dev Every claim pays for this hash, so its preimage is written once, in place. Each word spills
    /// 16 bytes into what follows it, so everything is written in order.
    function exitLeaf(bytes32 domain, ExitLeaf memory leaf) internal view returns (bytes32 hash) {
        uint256 head = (uint256(leaf.index) << 224) | (uint256(uint160(leaf.owner)) << 64);
        uint128[] memory exits = leaf.exits;
        uint128[] memory acks = leaf.withdrawAcks;
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore8(buffer, TAG_LEAF)
            mstore(add(buffer, 1), domain)
            mstore(add(buffer, 33), head)
            let to := add(buffer, 57)
            for { let from := add(exits, 32) let end := add(from, shl(5, mload(exits))) } lt(from, end) {} {
                mstore(to, shl(128, mload(from)))
                to := add(to, 16)
                from := add(from, 32)
            }
            for { let from := add(acks, 32) let end := add(from, shl(5, mload(acks))) } lt(from, end) {} {
                mstore(to, shl(128, mload(from)))
                to := add(to, 16)
                from := add(from, 32)
            }
            if iszero(staticcall(gas(), 2, buffer, sub(to, buffer), 0, 32)) { revert(0, 0) }
            hash := mload(0)
        }
    }

    function message(bytes32 previous, InboxMessage memory m) internal pure returns (bytes32) {
        return sha256(
            abi.encodePacked(TAG_INBOX, previous, m.kind, m.index, m.owner, m.asset, m.amount, m.l1Time, m.data)
        );
    }

    function voucher(Voucher memory v) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(TAG_VOUCHER, v.domain, v.owner, v.asset, v.cumulative, v.expiry));
    }

    /// @param chunkHashes SHA-256 of each chunk, in order.
    function diff(bytes32[] memory chunkHashes) internal pure returns (bytes32) {
        return sha256(abi.encodePacked("novate/diff/v1", chunkHashes));
    }

    /// @notice The header's fields. Reverts with MalformedHeader unless tag, version, length and lanes agree.
    function decodeHeader(bytes calldata b) internal pure returns (Header memory h) {
        if (b.length < BYTES_WITHOUT_SUMS || uint8(b[0]) != TAG_HEADER || uint8(b[1]) != VERSION) {
            revert MalformedHeader();
        }
        uint256 lanes = uint8(b[34]);
        if (b.length != BYTES_WITHOUT_SUMS + LANE_BYTES * lanes) revert MalformedHeader();
        h.version = VERSION;
        h.domain = bytes32(b[2:34]);
        h.epoch = headerEpoch(b);
        h.closeTimeUs = uint64(bytes8(b[43:51]));
        h.prevHeader = bytes32(b[51:83]);
        h.peersHash = bytes32(b[83:115]);
        h.journalSize = uint64(bytes8(b[115:123]));
        h.journalRoot = bytes32(b[123:155]);
        h.stateRoot = bytes32(b[155:187]);
        h.exitRoot = headerExitRoot(b);
        h.exitSums = new uint128[](lanes);
        for (uint256 a = 0; a < lanes; ++a) h.exitSums[a] = headerExitSum(b, a);
        _decodeTail(b[AT_SUMS + LANE_BYTES * lanes:], h);
    }

    /// @dev The readers below are for headers whose hash was stored, so whose shape was checked.
    function headerEpoch(bytes calldata b) internal pure returns (uint64) {
        return uint64(bytes8(b[AT_EPOCH:AT_EPOCH + 8]));
    }

    function headerCloseTimeUs(bytes calldata b) internal pure returns (uint64) {
        return uint64(bytes8(b[43:51]));
    }

    function headerJournal(bytes calldata b) internal pure returns (uint64 size, bytes32 root) {
        return (uint64(bytes8(b[115:123])), bytes32(b[123:155]));
    }

    function headerInboxCount(bytes calldata b) internal pure returns (uint64) {
        uint256 start = AT_SUMS + LANE_BYTES * uint8(b[34]);
        return uint64(bytes8(b[start:start + 8]));
    }

    function headerExitRoot(bytes calldata b) internal pure returns (bytes32) {
        return bytes32(b[AT_EXIT_ROOT:AT_SUMS]);
    }

    function headerExitSum(bytes calldata b, uint256 lane) internal pure returns (uint128) {
        uint256 start = AT_SUMS + LANE_BYTES * lane;
        return uint128(bytes16(b[start:start + LANE_BYTES]));
    }

    /// @notice The bytes that decodeHeader reads; what the header's hash is taken over.
    function encodeHeader(Header memory h) internal pure returns (bytes memory) {
        bytes memory head = abi.encodePacked(
            TAG_HEADER, h.version, h.domain, uint8(h.exitSums.length), h.epoch, h.closeTimeUs, h.prevHeader, h.peersHash
        );
        bytes memory roots = abi.encodePacked(h.journalSize, h.journalRoot, h.stateRoot, h.exitRoot);
        bytes memory inbox = abi.encodePacked(h.inboxCount, h.inboxHash);
        bytes memory hashes = abi.encodePacked(
            h.marksHash, h.paramsHash, h.scenariosHash, h.attestorsHash, h.diffHash, h.extRoot, h.l1Number, h.l1Hash
        );
        return bytes.concat(head, roots, packLanes(h.exitSums), inbox, hashes);
    }

    /// @dev 16 bytes per lane; abi.encodePacked would pad array elements to 32.
    function packLanes(uint128[] memory values) internal pure returns (bytes memory out) {
        assembly ("memory-safe") {
            let count := mload(values)
            out := mload(0x40)
            mstore(out, shl(4, count))
            let to := add(out, 32)
            for { let i := 1 } iszero(gt(i, count)) { i := add(i, 1) } {
                // Writes 16 bytes too many, which the next lane or the next allocation overwrites.
                mstore(to, shl(128, mload(add(values, shl(5, i)))))
                to := add(to, 16)
            }
            mstore(0x40, and(add(to, 47), not(31)))
        }
    }

    function _decodeTail(bytes calldata b, Header memory h) private pure {
        h.inboxCount = uint64(bytes8(b[0:8]));
        h.inboxHash = bytes32(b[8:40]);
        h.marksHash = bytes32(b[40:72]);
        h.paramsHash = bytes32(b[72:104]);
        h.scenariosHash = bytes32(b[104:136]);
        h.attestorsHash = bytes32(b[136:168]);
        h.diffHash = bytes32(b[168:200]);
        h.extRoot = bytes32(b[200:232]);
        h.l1Number = uint64(bytes8(b[232:240]));
        h.l1Hash = bytes32(b[240:272]);
    }
}
