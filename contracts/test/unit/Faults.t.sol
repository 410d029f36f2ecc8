// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Faults} from "../../src/Faults.sol";
import {InvalidCheckpointSignature, InvalidOperatorSignature, MalformedProof, NoFault, NotIncluded} from "../../src/Evidence.sol";
import {Checkpoint, Disagreement, ExitLeaf, FalseSum, Header} from "../../src/Structs.sol";
import {Formats} from "../base/Formats.sol";
import {Journals, Lie, Tree, Trees} from "../base/Trees.sol";
import {World} from "../base/World.sol";

/// The five provable faults: what convicts, and what nearly does and does not.
contract FaultsTest is World {
    using Trees for Tree;

    uint64 private constant FORK = 4;

    function setUp() public {
        _build(1, 3, 2);
        _deposit(_owner(1), 0, 50_000_000);
        _advance(12);
    }

    function _closed() private returns (uint64) {
        _advance(1);
        return _close(_one(_leaf(1, _owner(1), 40_000_000, 10_000_000)), 1);
    }

    function _convicted(address reporter) private view {
        _true(vault.faultProven() && vault.frozen(), "convicted");
        _eq(vault.freezeReason(), 3, "reason");
        _eq(vault.operatorBond(), 0, "slashed");
        _eq(vault.ethCredit(reporter), OPERATOR_BOND / 2, "half to the reporter");
        _eq(vault.ethCredit(BURNED), OPERATOR_BOND - OPERATOR_BOND / 2, "half burned");
    }

    function _disagreement(uint64 sizeA, uint64 sizeB) private pure returns (Disagreement memory d) {
        d.index = FORK;
        (d.leafA, d.pathA) = (Journals.entry(FORK, Journals.HONEST), Journals.path(FORK, sizeA, Journals.HONEST));
        (d.leafB, d.pathB) = (Journals.entry(FORK, FORK), Journals.path(FORK, sizeB, FORK));
    }

    /// Two roots of one size.
    function test_equivocationOfOneSize() public {
        (Checkpoint memory a, bytes memory sa) = _checkpoint(9, Journals.HONEST);
        (Checkpoint memory b, bytes memory sb) = _checkpoint(9, FORK);
        Disagreement memory none;
        vm.prank(_owner(2));
        vault.proveEquivocation(a, sa, b, sb, none);
        _convicted(_owner(2));
    }

    /// One place with two entries, in journals of different sizes.
    function test_equivocationOfTwoSizes() public {
        (Checkpoint memory a, bytes memory sa) = _checkpoint(9, Journals.HONEST);
        (Checkpoint memory b, bytes memory sb) = _checkpoint(23, FORK);
        Disagreement memory d = _disagreement(9, 23);
        vm.prank(_owner(2));
        vault.proveEquivocation(a, sa, b, sb, d);
        _convicted(_owner(2));
    }

    /// One journal at two sizes, foreign signatures and broken paths are no evidence.
    function test_noEquivocation() public {
        (Checkpoint memory a, bytes memory sa) = _checkpoint(9, Journals.HONEST);
        (Checkpoint memory b, bytes memory sb) = _checkpoint(23, Journals.HONEST);
        Disagreement memory d = _disagreement(9, 23);
        d.leafB = d.leafA;
        d.pathB = Journals.path(FORK, 23, Journals.HONEST);
        _refuse(NoFault.selector);
        vault.proveEquivocation(a, sa, b, sb, d);
        _refuse(NoFault.selector);
        vault.proveEquivocation(a, sa, a, sa, d);
        (Checkpoint memory f, bytes memory sf) = _checkpoint(23, FORK);
        d = _disagreement(9, 23);
        d.pathB[0] = ~d.pathB[0];
        vm.expectRevert();
        vault.proveEquivocation(a, sa, f, sf, d);
        d = _disagreement(9, 23);
        d.index = 30;
        vm.expectRevert();
        vault.proveEquivocation(a, sa, f, sf, d);
        bytes memory other = _signCheckpoint(STRANGER_KEY, f);
        _refuse(InvalidCheckpointSignature.selector);
        vault.proveEquivocation(a, sa, f, other, d);
        _true(!vault.frozen(), "nobody is convicted");
    }

    /// A posted header whose journal is not the one that was signed.
    function test_headerConflict() public {
        uint64 epoch = _closed();
        bytes memory header = headerOf[epoch];
        (Checkpoint memory same, bytes memory ss) = _checkpoint(3, Journals.HONEST);
        Disagreement memory none;
        _refuse(NoFault.selector);
        vault.proveHeaderConflict(header, same, ss, none);
        (Checkpoint memory c, bytes memory sc) = _checkpoint(3, 1);
        bytes memory unposted = bytes.concat(header);
        unposted[20] = ~unposted[20];
        vm.expectRevert();
        vault.proveHeaderConflict(unposted, c, sc, none);
        vault.proveHeaderConflict(header, c, sc, none);
        _convicted(address(this));
    }

    /// Two headers that the operator signed for one epoch; one twice is none, nor are two epochs.
    function test_doubleHeader() public {
        uint64 epoch = _closed();
        bytes memory a = headerOf[epoch];
        bytes memory sa = _signEpoch(OPERATOR_KEY, a);
        Header memory h = _header(_tree(new ExitLeaf[](0)).root(), 1, new bytes32[](0));
        bytes memory later = Formats.header(h);
        bytes memory sl = _signEpoch(OPERATOR_KEY, later);
        _refuse(NoFault.selector);
        vault.proveDoubleHeader(a, sa, later, sl);
        _refuse(NoFault.selector);
        vault.proveDoubleHeader(a, sa, a, sa);
        h.epoch = epoch;
        bytes memory b = Formats.header(h);
        bytes memory sb = _signEpoch(STRANGER_KEY, b);
        _refuse(InvalidOperatorSignature.selector);
        vault.proveDoubleHeader(a, sa, b, sb);
        sb = _signEpoch(OPERATOR_KEY, b);
        vault.proveDoubleHeader(a, sa, b, sb);
        _convicted(address(this));
    }

    /// A node that hides what its children hold, at any level; an honest tree convicts nobody.
    function test_falseSum() public {
        uint8[4] memory levels = [1, 2, 9, 20];
        for (uint256 i = 0; i < levels.length; ++i) {
            for (uint256 lanes = 1; lanes <= 2; ++lanes) {
                _build(lanes, 3, 2);
                _deposit(_owner(1), 0, 50_000_000);
                _advance(12);
                ExitLeaf[] memory leaves = new ExitLeaf[](2);
                leaves[0] = _leaf(4, _owner(1), 30_000_000, 0);
                leaves[1] = _leaf(5, _owner(2), 90_000_000, 0);
                Tree memory t = _tree(leaves);
                uint8 level = levels[i];
                t.lie = Lie(level, uint32(4) >> level, _lanes(lanes, 0));
                t.lie.sums[0] = 30_000_000;
                uint64 epoch = _closeTree(t);
                FalseSum memory p = t.falseSum(level, 4 >> level);
                if (level > 1) {
                    FalseSum memory honest = t.falseSum(level - 1, 4 >> (level - 1));
                    _refuse(NoFault.selector);
                    vault.proveFalseSum(headerOf[epoch], honest);
                }
                p.level = 0;
                _refuse(MalformedProof.selector);
                vault.proveFalseSum(headerOf[epoch], p);
                p.level = level;
                uint128[] memory kept = p.leftSums;
                p.leftSums = _lanes(3, 0);
                _refuse(MalformedProof.selector);
                vault.proveFalseSum(headerOf[epoch], p);
                p.leftSums = kept;
                vault.proveFalseSum(headerOf[epoch], p);
                _convicted(address(this));
            }
        }
    }

    function _closeTree(Tree memory t) private returns (uint64) {
        return _closeTree(t, 1);
    }

    function _challenge(uint64 fork) private returns (uint64 id) {
        (Checkpoint memory c, bytes memory sc) = _checkpoint(9, fork);
        bytes32 leaf = Journals.entry(FORK, fork);
        bytes32[] memory path = Journals.path(FORK, 9, fork);
        vm.deal(_owner(3), VETO_BOND);
        vm.prank(_owner(3));
        id = vault.challengeReceipt{value: VETO_BOND}(c, sc, FORK, leaf, path);
    }

    /// A receipt that a posted journal holds is answered, and the challenger's bond is the house's.
    function test_answeredReceipt() public {
        uint64 id = _challenge(Journals.HONEST);
        _eq(vault.challengeOf(id).by, _owner(3), "by");
        _closed();
        uint64 epoch = _closed();
        bytes32[] memory path = Journals.path(FORK, 6, Journals.HONEST);
        path[0] = ~path[0];
        vm.expectRevert();
        vault.answerReceipt(id, headerOf[epoch], path);
        path[0] = ~path[0];
        vault.answerReceipt(id, headerOf[epoch], path);
        _eq(vault.ethCredit(TREASURY), VETO_BOND, "the house's");
        _refuse(Faults.NoChallenge.selector);
        vault.answerReceipt(id, headerOf[epoch], path);
        _refuse(Faults.NoChallenge.selector);
        vault.proveUnanswered(id);
    }

    /// One that no journal holds convicts after the deadline and not before.
    function test_unansweredReceipt() public {
        uint64 id = _challenge(FORK);
        _closed();
        uint64 epoch = _closed();
        bytes32[] memory path = Journals.path(FORK, 6, Journals.HONEST);
        vm.expectRevert();
        vault.answerReceipt(id, headerOf[epoch], path);
        _refuse(Faults.AnswerNotDue.selector);
        vault.proveUnanswered(id);
        _advance(DEADLINE - 100);
        _closed();
        _advance(200);
        vault.proveUnanswered(id);
        _convicted(address(this));
        _eq(vault.ethCredit(_owner(3)), VETO_BOND, "back");
    }

    /// A freeze that came before ends a challenge without a fault; what is no receipt is no challenge.
    function test_challengeAndFreeze() public {
        uint64 id = _challenge(FORK);
        (Checkpoint memory c, bytes memory sc) = _checkpoint(9, Journals.HONEST);
        bytes32[] memory path = Journals.path(FORK, 9, Journals.HONEST);
        _refuse(abi.encodeWithSelector(NotIncluded.selector, FORK));
        vault.challengeReceipt{value: VETO_BOND}(c, sc, FORK, bytes32(0), path);
        _freeze();
        vm.expectRevert();
        vault.challengeReceipt{value: VETO_BOND}(c, sc, FORK, bytes32(0), path);
        vault.proveUnanswered(id);
        _true(!vault.faultProven(), "no fault");
        _eq(vault.ethCredit(_owner(3)), VETO_BOND, "back");
    }
}
