// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ExitLeaf, FalseSum} from "../../src/Structs.sol";
import {Formats} from "./Formats.sol";

struct Node {
    bytes32 hash;
    uint128[] sums;
}

/// @notice What a node of a tree is said to sum to, whatever its children do. Level 255 is no lie.
struct Lie {
    uint8 level;
    uint32 index;
    uint128[] sums;
}

/// @notice An exit tree: its leaves in any order, and the empty node of every level.
struct Tree {
    bytes32 domain;
    ExitLeaf[] leaves;
    Node[] empty;
    Lie lie;
}

/// @title Exit trees by their definition: a node is computed by asking for both its children
library Trees {
    uint256 internal constant DEPTH = 20;

    function make(bytes32 domain, uint256 lanes, ExitLeaf[] memory leaves) internal pure returns (Tree memory t) {
        t.domain = domain;
        t.leaves = leaves;
        t.lie.level = 255;
        t.empty = new Node[](DEPTH + 1);
        t.empty[0] = Node(sha256(abi.encodePacked(uint8(2), domain)), new uint128[](lanes));
        for (uint256 i = 0; i < DEPTH; ++i) t.empty[i + 1] = join(t.empty[i], t.empty[i]);
    }

    function join(Node memory left, Node memory right) internal pure returns (Node memory n) {
        bytes memory head = abi.encodePacked(uint8(1), left.hash, Formats.lanes(left.sums));
        n.hash = sha256(bytes.concat(head, right.hash, Formats.lanes(right.sums)));
        n.sums = new uint128[](left.sums.length);
        for (uint256 a = 0; a < n.sums.length; ++a) n.sums[a] = left.sums[a] + right.sums[a];
    }

    function root(Tree memory t) internal pure returns (Node memory) {
        return node(t, DEPTH, 0);
    }

    function node(Tree memory t, uint256 level, uint256 index) internal pure returns (Node memory n) {
        n = _true(t, level, index);
        if (t.lie.level == level && t.lie.index == index) n = Node(n.hash, t.lie.sums);
    }

    function leafNode(Tree memory t, ExitLeaf memory l) internal pure returns (Node memory n) {
        n.hash = Formats.leaf(t.domain, l);
        n.sums = new uint128[](l.exits.length);
        for (uint256 a = 0; a < n.sums.length; ++a) n.sums[a] = l.exits[a] + l.withdrawAcks[a];
    }

    function find(Tree memory t, uint256 index) internal pure returns (ExitLeaf memory) {
        for (uint256 i = 0; i < t.leaves.length; ++i) {
            if (t.leaves[i].index == index) return t.leaves[i];
        }
        revert("no such leaf");
    }

    /// @dev The siblings from the leaf's level upwards, as claim wants them.
    function path(Tree memory t, uint256 index)
        internal
        pure
        returns (bytes32[] memory siblings, uint128[] memory sums)
    {
        return pathFrom(t, 0, index);
    }

    /// @dev The siblings from a node of `level` upwards.
    function pathFrom(Tree memory t, uint256 level, uint256 index)
        internal
        pure
        returns (bytes32[] memory siblings, uint128[] memory sums)
    {
        uint256 lanes = t.empty[0].sums.length;
        siblings = new bytes32[](DEPTH - level);
        sums = new uint128[]((DEPTH - level) * lanes);
        for (uint256 i = 0; i < siblings.length; ++i) {
            Node memory other = node(t, level + i, (index >> i) ^ 1);
            siblings[i] = other.hash;
            for (uint256 a = 0; a < lanes; ++a) sums[i * lanes + a] = other.sums[a];
        }
    }

    /// @dev The contract's FalseSum of this node.
    function falseSum(Tree memory t, uint256 level, uint256 index) internal pure returns (FalseSum memory p) {
        uint256 lanes = t.empty[0].sums.length;
        Node memory left = node(t, level - 1, 2 * index);
        Node memory right = node(t, level - 1, 2 * index + 1);
        (p.left, p.leftSums, p.right, p.rightSums) = (left.hash, left.sums, right.hash, right.sums);
        (p.level, p.position) = (uint8(level), uint32(index));
        (p.siblings, p.siblingSums) = pathFrom(t, level, index);
        p.ownSums = new uint128[]((DEPTH - level) * lanes);
        for (uint256 i = 0; i < DEPTH - level; ++i) {
            uint128[] memory own = node(t, level + i, index >> i).sums;
            for (uint256 a = 0; a < lanes; ++a) p.ownSums[i * lanes + a] = own[a];
        }
    }

    function _true(Tree memory t, uint256 level, uint256 index) private pure returns (Node memory) {
        bool any = false;
        for (uint256 i = 0; i < t.leaves.length; ++i) {
            if (t.leaves[i].index >> level != index) continue;
            if (level == 0) return leafNode(t, t.leaves[i]);
            any = true;
        }
        if (!any) return t.empty[level];
        return join(node(t, level - 1, 2 * index), node(t, level - 1, 2 * index + 1));
    }
}

/// @title Journals by RFC 9162's own recursive definitions (2.1.1, 2.1.3.1, 2.1.4.1)
/// @dev Entry i is a fixed function of i. A journal may differ from the honest one in one entry, `fork`.
library Journals {
    uint64 internal constant HONEST = type(uint64).max;

    function entry(uint64 index, uint64 fork) internal pure returns (bytes32) {
        if (index == fork) return sha256(abi.encodePacked(uint8(0), "another entry ", index));
        return sha256(abi.encodePacked(uint8(0), "entry ", index));
    }

    function root(uint64 size, uint64 fork) internal pure returns (bytes32) {
        return size == 0 ? sha256("") : _mth(0, size, fork);
    }

    function path(uint64 index, uint64 size, uint64 fork) internal pure returns (bytes32[] memory) {
        bytes32[] memory found = new bytes32[](64);
        return _cut(found, _path(index, 0, size, fork, found, 0));
    }

    /// @dev The proof that the journal of `size` extends that of `old`; empty when old is 0 or all of it.
    function consistency(uint64 old, uint64 size, uint64 fork) internal pure returns (bytes32[] memory) {
        if (old == 0 || old == size) return new bytes32[](0);
        bytes32[] memory found = new bytes32[](64);
        return _cut(found, _subproof(old, 0, size, fork, true, found, 0));
    }

    function _split(uint64 count) private pure returns (uint64 k) {
        k = 1;
        while (k * 2 < count) k *= 2;
    }

    function _mth(uint64 low, uint64 high, uint64 fork) private pure returns (bytes32) {
        if (high - low == 1) return entry(low, fork);
        uint64 k = low + _split(high - low);
        return sha256(abi.encodePacked(uint8(1), _mth(low, k, fork), _mth(k, high, fork)));
    }

    function _path(uint64 index, uint64 low, uint64 high, uint64 fork, bytes32[] memory out, uint256 n)
        private
        pure
        returns (uint256)
    {
        if (high - low == 1) return n;
        uint64 k = low + _split(high - low);
        if (index < k) {
            n = _path(index, low, k, fork, out, n);
            out[n] = _mth(k, high, fork);
        } else {
            n = _path(index, k, high, fork, out, n);
            out[n] = _mth(low, k, fork);
        }
        return n + 1;
    }

    /// @dev `old` counts from `low`.
    function _subproof(
        uint64 old,
        uint64 low,
        uint64 high,
        uint64 fork,
        bool whole,
        bytes32[] memory out,
        uint256 n
    ) private pure returns (uint256) {
        if (old == high - low) {
            if (whole) return n;
            out[n] = _mth(low, high, fork);
            return n + 1;
        }
        uint64 k = _split(high - low);
        if (old <= k) {
            n = _subproof(old, low, low + k, fork, whole, out, n);
            out[n] = _mth(low + k, high, fork);
        } else {
            n = _subproof(old - k, low + k, high, fork, false, out, n);
            out[n] = _mth(low, low + k, fork);
        }
        return n + 1;
    }

    function _cut(bytes32[] memory list, uint256 length) private pure returns (bytes32[] memory) {
        assembly ("memory-safe") {
            mstore(list, length)
        }
        return list;
    }
}
