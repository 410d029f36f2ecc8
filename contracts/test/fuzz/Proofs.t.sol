// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Evidence} from "../../src/Evidence.sol";
import {ExitLeaf, Header} from "../../src/Structs.sol";
import {HashingHarness} from "../../src/test/HashingHarness.sol";
import {Formats} from "../base/Formats.sol";
import {Journals, Tree, Trees} from "../base/Trees.sol";
import {World} from "../base/World.sol";

/// Random trees and journals: every honest proof is accepted and every changed one refused.
contract ProofsTest is World {
    using Trees for Tree;

    HashingHarness private harness;

    function setUp() public {
        harness = new HashingHarness();
    }

    /// Each leaf of a random tree over one to four lanes is paid exactly; any flipped bit pays nobody.
    function testFuzz_claims(uint256 seed, uint256 flip) public {
        uint256 lanes = 1 + seed % 4;
        _build(lanes, 0, 0);
        uint256 count = 1 + (seed >> 8) % 5;
        ExitLeaf[] memory leaves = new ExitLeaf[](count);
        uint128[] memory total = _lanes(lanes, 0);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = ExitLeaf(uint32(i * 7919 + seed % 1000), _owner(i), _lanes(lanes, 0), _lanes(lanes, 0));
            for (uint256 a = 0; a < lanes; ++a) {
                uint256 r = uint256(keccak256(abi.encode(seed, i, a)));
                (leaves[i].exits[a], leaves[i].withdrawAcks[a]) = (uint64(r), uint64(r >> 64));
                total[a] += leaves[i].exits[a] + leaves[i].withdrawAcks[a];
            }
        }
        for (uint8 a = 0; a < lanes; ++a) _deposit(_owner(9), a, total[a] + MIN_FIRST);
        _advance(12);
        uint64 epoch = _close(leaves, uint64(lanes));
        _passWindow();
        for (uint256 i = 0; i < count; ++i) {
            Proof memory p = _proof(epoch, leaves[i].index);
            _flip(p, flip, lanes);
            vm.expectRevert();
            _claimWith(p);
            _claim(epoch, leaves[i].index);
            for (uint8 a = 0; a < lanes; ++a) _eq(_balance(a, _owner(i)), leaves[i].withdrawAcks[a], "exact");
        }
    }

    function _flip(Proof memory p, uint256 flip, uint256 lanes) private pure {
        uint256 what = flip % 6;
        flip >>= 8;
        uint128 bit = uint128(1) << uint8(flip % 96);
        if (what == 0) p.leaf.index ^= uint32(1) << uint8(flip % 20);
        else if (what == 1) p.leaf.exits[flip % lanes] ^= bit;
        else if (what == 2) p.leaf.withdrawAcks[flip % lanes] ^= bit;
        else if (what == 3) p.siblings[flip % 20] ^= bytes32(uint256(1) << uint8(flip >> 8));
        else if (what == 4) p.sums[flip % (20 * lanes)] ^= bit;
        else p.header[flip % p.header.length] ^= bytes1(uint8(1) << uint8((flip >> 16) % 8));
    }

    /// RFC 9162: a journal is consistent with every beginning of itself, and with nothing else.
    function testFuzz_consistency(uint16 a, uint16 b, uint256 flip) public view {
        uint64 n = uint64(_within(a, 1, 700));
        uint64 m = uint64(_within(b, 1, n));
        bytes32[] memory proof = Journals.consistency(m, n, Journals.HONEST);
        bytes32 oldRoot = Journals.root(m, Journals.HONEST);
        bytes32 newRoot = Journals.root(n, Journals.HONEST);
        _true(Evidence.consistent(m, oldRoot, n, newRoot, proof), "honest");
        bytes32 bit = bytes32(uint256(1) << uint8(flip));
        _true(!Evidence.consistent(m, oldRoot ^ bit, n, newRoot, proof), "old root");
        if (m != n) {
            _true(!Evidence.consistent(m, oldRoot, n, newRoot ^ bit, proof), "new root");
            proof[(flip >> 8) % proof.length] ^= bit;
            _true(!Evidence.consistent(m, oldRoot, n, newRoot, proof), "a node");
        }
    }

    /// A header's bytes say its fields and nothing else.
    function testFuzz_header(uint64 epoch, bytes32 root, uint128 sum, uint8 lanes) public view {
        Header memory h;
        (h.version, h.epoch, h.journalRoot) = (1, epoch, root);
        h.exitSums = _lanes(1 + lanes % 4, sum);
        bytes memory encoded = Formats.header(h);
        _eq(keccak256(harness.encodeHeader(h)), keccak256(encoded), "encoded");
        Header memory back = harness.decodeHeader(encoded);
        _eq(keccak256(abi.encode(back)), keccak256(abi.encode(h)), "decoded");
    }
}
