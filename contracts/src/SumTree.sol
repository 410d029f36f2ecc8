// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Inclusion in the exit tree: depth 20, both children's sums in every node's preimage
/// @dev node = SHA256(01 | Lhash | Lsums | Rhash | Rsums), sums u128 per lane. The path is directed by
/// the index and never by the order of hashes, so that one leaf has one place. The path has exactly
/// 20 steps, so that no node can pass for a leaf. Every addition is checked against 2^128.
library SumTree {
    uint256 internal constant DEPTH = 20;

    /// @notice The proof must have 20 siblings and 20 sums per lane.
    error WrongProofLength();
    /// @notice The index does not fit into a tree of depth 20.
    error WrongIndex();
    /// @notice A sum on the path does not fit into 128 bits.
    error SumOverflow();

    /// @notice Root hash over `leaf`; `sums` (atoms per lane) is raised in place to the root's sums.
    /// @param siblings hashes from the leaf's level upwards.
    /// @param siblingSums sums of the siblings: level 0 lane 0, level 0 lane 1, ..., level 1 lane 0, ...
    function climb(
        bytes32 leaf,
        uint256 index,
        uint256[] memory sums,
        bytes32[] calldata siblings,
        uint128[] calldata siblingSums
    ) internal view returns (bytes32) {
        if (siblings.length != DEPTH || siblingSums.length != DEPTH * sums.length) revert WrongProofLength();
        if (index >> DEPTH != 0) revert WrongIndex();
        uint256 sibling;
        uint256 row;
        assembly ("memory-safe") {
            sibling := siblings.offset
            row := siblingSums.offset
        }
        if (sums.length == 1) return _climbOne(leaf, index, sums, sibling, row);
        return _climb(leaf, index, sums, sibling, row);
    }

    /// @dev _climb for the common case of one lane, where every offset is a constant: 4,000 gas less.
    function _climbOne(bytes32 node, uint256 index, uint256[] memory sums, uint256 sibling, uint256 row)
        private
        view
        returns (bytes32)
    {
        uint256 excess;
        uint256 sum = sums[0];
        assembly ("memory-safe") {
            // 01 at -1 | left hash at 0 | left sum at 32 | right hash at 48 | right sum at 80. Few variables, so
            // that none has to live in memory.
            let left := add(mload(0x40), 1)
            mstore8(sub(left, 1), 1)
            row := sub(row, sibling) // both advance by a word a level, so their distance is kept
            // A bit above the index says when all DEPTH bits are used up.
            for { index := or(index, shl(DEPTH, 1)) } gt(index, 1) { index := shr(1, index) } {
                let own := add(left, mul(and(index, 1), 48))
                let more := calldataload(add(sibling, row))
                // Sums before hashes: a sum's word spills 16 bytes into what follows it.
                mstore(add(own, 32), shl(128, sum))
                own := sub(add(shl(1, left), 48), own) // now the other child's place
                mstore(add(own, 32), shl(128, more))
                mstore(own, calldataload(sibling))
                mstore(sub(add(shl(1, left), 48), own), node)
                // `more` is included because a 256-bit addend could wrap `sum` back into range.
                sum := add(sum, more)
                excess := or(excess, or(sum, more))
                if iszero(staticcall(gas(), 2, sub(left, 1), 97, 0, 32)) { revert(0, 0) }
                node := mload(0)
                sibling := add(sibling, 32)
            }
        }
        if (excess >> 128 != 0) revert SumOverflow();
        sums[0] = sum;
        return node;
    }

    /// @dev One buffer beyond the free memory pointer holds every node's preimage in turn. `sibling` and
    /// `row` are calldata offsets, checked by the caller to have DEPTH hashes and DEPTH rows of sums.
    function _climb(bytes32 node, uint256 index, uint256[] memory sums, uint256 sibling, uint256 row)
        private
        view
        returns (bytes32)
    {
        uint256 excess;
        assembly ("memory-safe") {
            let left := add(mload(0x40), 1) // where the left child goes; the right one is `stride` further
            let stride := add(32, shl(4, mload(sums)))
            mstore8(sub(left, 1), 1)
            // A bit above the index says when all DEPTH bits are used up.
            for { index := or(index, shl(DEPTH, 1)) } gt(index, 1) { index := shr(1, index) } {
                let own := add(left, mul(and(index, 1), stride))
                let other := sub(add(shl(1, left), stride), own)
                // Sums before hashes: the last lane's word spills 16 bytes into what follows it.
                let place := add(sums, 32)
                for { let last := add(own, stride) own := add(own, 32) other := add(other, 32) } lt(own, last) {} {
                    let sum := mload(place)
                    mstore(own, shl(128, sum))
                    let more := calldataload(row)
                    mstore(other, shl(128, more))
                    sum := add(sum, more)
                    mstore(place, sum)
                    // `more` is included because a 256-bit addend could wrap `sum` back into range.
                    excess := or(excess, or(sum, more))
                    own := add(own, 16)
                    other := add(other, 16)
                    row := add(row, 32)
                    place := add(place, 32)
                }
                mstore(sub(own, stride), node)
                mstore(sub(other, stride), calldataload(sibling))
                sibling := add(sibling, 32)
                if iszero(staticcall(gas(), 2, sub(left, 1), add(1, shl(1, stride)), 0, 32)) { revert(0, 0) }
                node := mload(0)
            }
        }
        if (excess >> 128 != 0) revert SumOverflow();
        return node;
    }
}
