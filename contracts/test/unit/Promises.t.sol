// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bonds} from "../../src/Bonds.sol";
import {Epochs} from "../../src/Epochs.sol";
import {InvalidVoucherSignature, WrongVoucherDomain} from "../../src/Evidence.sol";
import {Vetoes} from "../../src/Vetoes.sol";
import {Vouchers} from "../../src/Vouchers.sol";
import {Voucher} from "../../src/Structs.sol";
import {ContractWallet} from "../../src/test/ContractWallet.sol";
import {World} from "../base/World.sol";

/// Vetoes, bonds and vouchers, one rule each.
contract PromisesTest is World {
    function setUp() public {
        _build(1, 3, 2);
        _deposit(_owner(1), 0, 50_000_000);
        _advance(12);
    }

    function _closed() private returns (uint64) {
        _advance(1);
        return _close(_one(_leaf(1, _owner(1), 40_000_000, 10_000_000)), 1);
    }

    /// A lone veto holds its header and later ones for the seconding time, then costs its bond.
    function test_loneVeto() public {
        uint64 first = _closed();
        uint64 second = _closed();
        _veto(first, 0);
        (address by, uint64 time, uint8 count, uint8 state) = vault.vetoOf(first);
        _eq(by, _attestor(0), "by");
        _eq(time, _now(), "time");
        _eq(count, 1, "count");
        _eq(state, 1, "open");
        _eq(vault.finalAt(second), vault.headerTime(second) + WINDOW, "the window is the longer one");
        vm.warp(vault.headerTime(first) + WINDOW - 1);
        _eq(vault.finalisedEpoch(), 0, "held");
        vault.settleVeto(first);
        (,,, state) = vault.vetoOf(first);
        _eq(state, 3, "failed");
        _eq(vault.ethCredit(TREASURY), VETO_BOND, "the house has the bond");
        vm.warp(vault.headerTime(second) + WINDOW);
        _eq(vault.finalisedEpoch(), second, "goes on");
        vault.withdrawEth(TREASURY);
        _eq(TREASURY.balance, VETO_BOND, "pulled");
        _refuse(abi.encodeWithSelector(Bonds.NoEther.selector, TREASURY));
        vault.withdrawEth(TREASURY);
    }

    /// A veto at the window's end moves it, and what is no veto is refused by name.
    function test_refusedVetoes() public {
        uint64 epoch = _closed();
        bytes32 hash = sha256(headerOf[epoch]);
        vm.warp(vault.headerTime(epoch) + WINDOW - 1);
        _veto(epoch, 0);
        _eq(vault.finalAt(epoch), _now() + SECONDING, "moved");
        address by = _attestor(1);
        vm.deal(by, 1 ether);
        vm.prank(by);
        _refuse(abi.encodeWithSelector(Vetoes.VetoStanding.selector, epoch));
        vault.veto{value: VETO_BOND}(epoch, hash, 0);
        vm.prank(by);
        _refuse(Bonds.WrongBond.selector);
        vault.veto{value: 1}(epoch, hash, 0);
        address same = _attestor(0);
        vm.prank(same);
        _refuse(abi.encodeWithSelector(Vetoes.AlreadyObjected.selector, epoch, same));
        vault.second(epoch, hash);
        vm.prank(by);
        _refuse(Epochs.UnknownHeader.selector);
        vault.second(epoch, ~hash);
        vm.expectRevert();
        vault.second(epoch, hash);
        _refuse(Vetoes.SecondingNotOver.selector);
        vault.settleVeto(epoch);
        _advance(SECONDING);
        vm.prank(by);
        _refuse(abi.encodeWithSelector(Vetoes.NoStandingVeto.selector, epoch));
        vault.second(epoch, hash);
        vm.prank(by);
        _refuse(abi.encodeWithSelector(Vetoes.WindowOver.selector, epoch));
        vault.veto{value: VETO_BOND}(epoch, hash, 0);
        uint64 next = _closed();
        bytes32 nextHash = sha256(headerOf[next]);
        vm.deal(same, 1 ether);
        vm.prank(same);
        _refuse(abi.encodeWithSelector(Vetoes.VetoUnsettled.selector, epoch));
        vault.veto{value: VETO_BOND}(next, nextHash, 0);
        vault.settleVeto(epoch);
        _refuse(abi.encodeWithSelector(Vetoes.NoStandingVeto.selector, epoch));
        vault.settleVeto(epoch);
    }

    /// A lapsed veto inside the window makes room for the next attestor's, whose objection adds up with it.
    function test_objectionsAddUp() public {
        uint64 epoch = _closed();
        _veto(epoch, 0);
        _advance(SECONDING);
        _veto(epoch, 1);
        _eq(vault.freezeReason(), 2, "two of three object");
        _eq(vault.ethCredit(TREASURY), VETO_BOND, "the first lost its bond");
        _eq(vault.ethCredit(_attestor(1)), VETO_BOND, "the second has it back");
        _eq(vault.finalAt(epoch), 0, "void");
    }

    /// After a freeze every other open veto gives its bond back.
    function test_openVetoAtAFreeze() public {
        uint64 first = _closed();
        uint64 next = _closed();
        _veto(next, 2);
        _veto(first, 0);
        _second(first, 1);
        vault.settleVeto(next);
        _eq(vault.ethCredit(_attestor(2)), VETO_BOND, "back");
    }

    /// The bond of an honest operator is free a deadline after the end, for the operator alone.
    function test_bond() public {
        vm.prank(operator);
        vm.expectRevert();
        vault.withdrawBond();
        _freeze();
        vm.prank(operator);
        vm.expectRevert();
        vault.withdrawBond();
        _advance(DEADLINE);
        vm.expectRevert();
        vault.withdrawBond();
        vm.prank(operator);
        vault.withdrawBond();
        _eq(vault.ethCredit(operator), OPERATOR_BOND, "credited");
        _eq(vault.operatorBond(), 0, "gone");
        vault.withdrawEth(operator);
        _eq(operator.balance, OPERATOR_BOND, "paid");
    }

    /// A voucher pays at once from the float; the highest cumulative wins; the next claim repays it.
    function test_voucher() public {
        vault.fundFloat(0, 8_000_000);
        Voucher memory v = _voucher(1, 0, 6_000_000);
        _redeem(v, _ownerKey(1));
        _eq(_balance(0, _owner(1)), 6_000_000, "advanced");
        _eq(vault.floatOf(0), 2_000_000, "float");
        bytes memory a = _signVoucher(_ownerKey(1), v);
        bytes memory b = _signVoucher(OPERATOR_KEY, v);
        _refuse(abi.encodeWithSelector(Vouchers.StaleVoucher.selector, 6_000_000, 6_000_000));
        vault.redeemVoucher(v, a, b);
        uint64 epoch = _closed();
        _passWindow();
        _claim(epoch, 1);
        (uint96 total, uint96 repaid) = vault.advancedOf(_owner(1), 0);
        _eq(total, 6_000_000, "total");
        _eq(repaid, 6_000_000, "repaid");
        _eq(_balance(0, _owner(1)), 10_000_000, "the acknowledged sum in all");
        _eq(vault.floatOf(0), 8_000_000, "float again");
    }

    /// An escape repays too, and no voucher is paid after a freeze.
    function test_voucherAndEscape() public {
        vault.fundFloat(0, 8_000_000);
        _redeem(_voucher(1, 0, 8_000_000), _ownerKey(1));
        uint64 epoch = _closed();
        _passWindow();
        _freeze();
        Voucher memory late = _voucher(1, 0, 8_000_001);
        bytes memory a = _signVoucher(_ownerKey(1), late);
        bytes memory b = _signVoucher(OPERATOR_KEY, late);
        vm.expectRevert();
        vault.redeemVoucher(late, a, b);
        _escape(epoch, 1);
        _eq(_balance(0, _owner(1)), 50_000_000, "everything and no more");
        vm.prank(operator);
        vault.withdrawFloat(0, 8_000_000);
        _eq(_balance(0, TREASURY), 8_000_000, "the float is the house's");
    }

    /// Who did not sign, another vault, a wrong asset, an old voucher, a low float and a full hour are refused by name.
    function test_refusedVouchers() public {
        Voucher memory v = _voucher(1, 0, 1_000);
        bytes memory a = _signVoucher(_ownerKey(1), v);
        bytes memory b = _signVoucher(OPERATOR_KEY, v);
        _refuse(Vouchers.FloatTooLow.selector);
        vault.redeemVoucher(v, a, b);
        vault.fundFloat(0, 2 * FLOAT_CAP);
        _refuse(abi.encodeWithSelector(InvalidVoucherSignature.selector, _owner(1)));
        vault.redeemVoucher(v, b, b);
        _refuse(abi.encodeWithSelector(InvalidVoucherSignature.selector, operator));
        vault.redeemVoucher(v, a, a);
        v.domain = ~v.domain;
        _refuse(WrongVoucherDomain.selector);
        vault.redeemVoucher(v, a, b);
        v = _voucher(1, 3, 1_000);
        vm.expectRevert();
        vault.redeemVoucher(v, a, b);
        v = _voucher(1, 0, 1_000);
        v.expiry = uint64(_now() - 1);
        _refuse(abi.encodeWithSelector(Vouchers.VoucherExpired.selector, v.expiry));
        vault.redeemVoucher(v, a, b);
        _redeem(_voucher(1, 0, FLOAT_CAP), _ownerKey(1));
        v = _voucher(2, 0, 1);
        a = _signVoucher(_ownerKey(2), v);
        b = _signVoucher(OPERATOR_KEY, v);
        _refuse(Vouchers.OutflowCapped.selector);
        vault.redeemVoucher(v, a, b);
        _advance(1 hours);
        v = _voucher(2, 0, 1);
        _redeem(v, _ownerKey(2));
        vm.expectRevert();
        vault.fundFloat(3, 1);
        vm.expectRevert();
        vault.fundFloat(0, 0);
        vm.expectRevert();
        vault.withdrawFloat(0, 1);
        vm.prank(operator);
        vm.expectRevert();
        vault.withdrawFloat(3, 1);
        _eq(vault.floatCap(0), FLOAT_CAP, "cap");
    }

    /// A contract wallet (ERC-1271) has a channel as an account has.
    function test_contractOwner() public {
        vault.fundFloat(0, 1_000);
        ContractWallet wallet = new ContractWallet(_owner(4));
        Voucher memory v = Voucher(domain, address(wallet), 0, 700, uint64(_now()) + 60);
        bytes memory a = _signVoucher(_ownerKey(4), v);
        bytes memory b = _signVoucher(OPERATOR_KEY, v);
        vault.redeemVoucher(v, a, b);
        _eq(_balance(0, address(wallet)), 700, "paid");
    }
}
