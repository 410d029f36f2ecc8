// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "../../src/Assets.sol";
import {Claims} from "../../src/Claims.sol";
import {Escape} from "../../src/Escape.sol";
import {Inbox} from "../../src/Inbox.sol";
import {ExitLeaf} from "../../src/Structs.sol";
import {SumTree} from "../../src/SumTree.sol";
import {TestToken} from "../../src/TestToken.sol";
import {BlockingToken} from "../../src/test/HostileTokens.sol";
import {World} from "../base/World.sol";

/// Claims, freeze, escape and refunds, one rule each.
contract LeavingTest is World {
    function setUp() public {
        _build(2, 3, 2);
    }

    function _funded(uint128 exit, uint128 ack) private returns (uint64 epoch) {
        _deposit(_owner(1), 0, exit + ack);
        _deposit(_owner(1), 1, 9_000_000);
        _advance(12);
        ExitLeaf memory l = _leaf(1, _owner(1), exit, ack);
        (l.exits[1], l.withdrawAcks[1]) = (8_000_000, 1_000_000);
        epoch = _close(_one(l), 2);
    }

    /// A leaf of one lane is paid like one of several.
    function test_oneLane() public {
        _build(1, 0, 0);
        _deposit(_owner(1), 0, 5_000_000);
        _advance(12);
        uint64 epoch = _close(_one(_leaf(7, _owner(1), 3_000_000, 2_000_000)), 1);
        _passWindow();
        _claim(epoch, 7);
        _eq(_balance(0, _owner(1)), 2_000_000, "claimed");
        _freeze();
        _escape(epoch, 7);
        _eq(_balance(0, _owner(1)), 5_000_000, "escaped");
    }

    /// An acknowledged withdrawal is paid in every asset, once, after the window and not before.
    function test_claim() public {
        uint64 epoch = _funded(3_000_000, 2_000_000);
        Proof memory p = _proof(epoch, 1);
        _refuse(abi.encodeWithSelector(Claims.HeaderNotFinal.selector, epoch));
        _claimWith(p);
        _passWindow();
        _claimWith(p);
        _eq(_balance(0, _owner(1)), 2_000_000, "asset 0");
        _eq(_balance(1, _owner(1)), 1_000_000, "asset 1");
        _eq(vault.claimedOf(_owner(1), 1), 1_000_000, "counter");
        _refuse(abi.encodeWithSelector(Claims.NothingToClaim.selector, _owner(1)));
        _claimWith(p);
    }

    /// Another value, place, sum, sibling or header proves nothing.
    function test_falseProofs() public {
        uint64 epoch = _funded(3_000_000, 2_000_000);
        _passWindow();
        Proof memory p = _proof(epoch, 1);
        p.leaf.withdrawAcks[0] += 1;
        _refuse(Claims.RootMismatch.selector);
        _claimWith(p);
        p = _proof(epoch, 1);
        p.leaf.index = 2;
        _refuse(Claims.RootMismatch.selector);
        _claimWith(p);
        p = _proof(epoch, 1);
        p.sums[5] = 1;
        _refuse(Claims.RootMismatch.selector);
        _claimWith(p);
        p = _proof(epoch, 1);
        p.siblings[19] = ~p.siblings[19];
        _refuse(Claims.RootMismatch.selector);
        _claimWith(p);
        p = _proof(epoch, 1);
        p.siblings = new bytes32[](19);
        vm.expectRevert();
        _claimWith(p);
        p = _proof(epoch, 1);
        p.header[40] = bytes1(uint8(p.header[40]) ^ 1);
        vm.expectRevert();
        _claimWith(p);
        p = _proof(epoch, 1);
        p.leaf.exits = _lanes(1, 0);
        _refuse(Claims.WrongLeafLanes.selector);
        _claimWith(p);
        p = _proof(epoch, 1);
        p.leaf.exits[0] = 1 << 96;
        _refuse(abi.encodeWithSelector(Claims.LeafValueTooLarge.selector, 0));
        _claimWith(p);
        p = _proof(epoch, 1);
        p.leaf.index = uint32(1) << 20;
        vm.expectRevert();
        _claimWith(p);
    }

    /// Siblings whose sums pass 128 bits are refused in either climb.
    function test_overflow() public {
        for (uint256 lanes = 1; lanes <= 2; ++lanes) {
            _build(lanes, 0, 0);
            _deposit(_owner(1), 0, 5_000_000);
            _advance(12);
            uint64 epoch = _close(_one(_leaf(1, _owner(1), 3_000_000, 2_000_000)), 1);
            _passWindow();
            Proof memory p = _proof(epoch, 1);
            p.sums[0] = type(uint128).max;
            _refuse(SumTree.SumOverflow.selector);
            _claimWith(p);
        }
    }

    /// Nobody freezes a vault whose operator is in time; after the deadline anyone does, once.
    function test_freeze() public {
        _funded(3_000_000, 2_000_000);
        _refuse(abi.encodeWithSelector(Escape.DeadlineNotPassed.selector, vault.freezeAt()));
        vault.freeze();
        _freeze();
        _true(vault.frozen(), "frozen");
        _eq(vault.frozenAt(), _now(), "when");
        _eq(vault.freezeReason(), 1, "deadline");
        _eq(vault.escapeEpoch(), 1, "epoch");
        _eq(vault.escapeHeader(), sha256(headerOf[1]), "header");
        _eq(vault.escapeInboxCount(), 2, "inbox");
        _refuse(Inbox.VaultFrozen.selector);
        vault.freeze();
    }

    /// An escape pays everything at once, once, and counts what a claim has paid.
    function test_escape() public {
        uint64 epoch = _funded(3_000_000, 2_000_000);
        Proof memory p = _proof(epoch, 1);
        _refuse(Escape.NotFrozen.selector);
        _escapeWith(p);
        _passWindow();
        _claimWith(p);
        _freeze();
        _escapeWith(p);
        _eq(_balance(0, _owner(1)), 5_000_000, "asset 0");
        _eq(_balance(1, _owner(1)), 9_000_000, "asset 1");
        _true(vault.escaped(_owner(1)), "escaped");
        _eq(vault.holdings(0), 0, "nothing left");
        _refuse(abi.encodeWithSelector(Escape.AlreadyEscaped.selector, _owner(1)));
        _escapeWith(p);
        _refuse(abi.encodeWithSelector(Claims.NothingToClaim.selector, _owner(1)));
        _claimWith(p);
    }

    /// A header whose window was open at the freeze pays nothing, ever; the one before does.
    function test_voidHeader() public {
        uint64 epoch = _funded(3_000_000, 2_000_000);
        _passWindow();
        uint64 late = _close(_one(_leaf(1, _owner(1), 0, 5_000_000)), 2);
        vm.warp(vault.freezeAt() - DEADLINE + 1);
        _veto(late, 0);
        _second(late, 1);
        _eq(vault.freezeReason(), 2, "by veto");
        _passWindow();
        Proof memory p = _proof(late, 1);
        _refuse(abi.encodeWithSelector(Claims.HeaderNotFinal.selector, late));
        _claimWith(p);
        _refuse(Escape.NotEscapeHeader.selector);
        _escapeWith(p);
        _escape(epoch, 1);
        _eq(_balance(0, _owner(1)), 5_000_000, "by the header before");
    }

    /// Deposits that the escape header did not consume come back, once, and only as they were.
    function test_refund() public {
        _funded(3_000_000, 2_000_000);
        _passWindow();
        uint64 index = _deposit(_owner(2), 1, 4_000_000);
        _refuse(Escape.NotFrozen.selector);
        _refund(index);
        _freeze();
        _refuse(abi.encodeWithSelector(Escape.DepositConsumed.selector, 0, 2));
        _refund(0);
        _refuse(Inbox.UnknownMessage.selector);
        vault.refund(9, _owner(2), 1, 4_000_000, 0, 0);
        uint64 when = messages[index].l1Time;
        _refuse(abi.encodeWithSelector(Escape.WrongMessage.selector, index));
        vault.refund(index, _owner(2), 1, 4_000_001, when, 0);
        _refund(index);
        _true(vault.refunded(index), "refunded");
        _eq(_balance(1, _owner(2)), 4_000_000, "back");
        _refuse(abi.encodeWithSelector(Escape.AlreadyRefunded.selector, index));
        _refund(index);
    }

    /// Before any epoch a freeze pays every deposit back.
    function test_noEpoch() public {
        uint64 index = _deposit(_owner(2), 0, 4_000_000);
        _freeze();
        _eq(vault.escapeEpoch(), 0, "none");
        _refund(index);
        _eq(_balance(0, _owner(2)), 4_000_000, "back");
    }

    /// What a token refuses becomes credit, and is paid when the token lets it.
    function test_credit() public {
        BlockingToken token = new BlockingToken();
        delete tokens;
        tokens.push(address(token));
        _open(_config(0, 0));
        _deposit(_owner(1), 0, 5_000_000);
        _advance(12);
        uint64 epoch = _close(_one(_leaf(1, _owner(1), 0, 5_000_000)), 1);
        _passWindow();
        token.list(_owner(1), true);
        _claim(epoch, 1);
        _eq(vault.credit(_owner(1), 0), 5_000_000, "credit");
        vm.expectRevert();
        vault.withdrawCredit(0, _owner(1));
        token.list(_owner(1), false);
        vault.withdrawCredit(0, _owner(1));
        _eq(_balance(0, _owner(1)), 5_000_000, "paid");
        address owner = _owner(1);
        _refuse(abi.encodeWithSelector(Assets.NoCredit.selector, owner, 0));
        vault.withdrawCredit(0, owner);
        vm.expectRevert();
        vault.withdrawCredit(1, owner);
        vm.expectRevert();
        vault.credit(owner, 1);
        vm.expectRevert();
        vault.claimedOf(owner, 1);
    }
}
