// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vault} from "../../src/Vault.sol";
import {Test} from "../base/Test.sol";
import {Handler} from "./Handler.sol";

/// @title What holds after any sequence of anybody's actions
/// @dev The handler itself asserts that who is owed is paid exactly that and that everything else is refused.
contract LifeTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint256 private constant OWNERS = 3;
    uint256 private constant ASSETS = 2;
    address private constant TREASURY = address(uint160(0x7777));

    Handler private handler;
    Vault private vault;

    function setUp() public {
        handler = new Handler();
        vault = Vault(handler.theVault());
    }

    function targetContracts() external view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory list) {
        list = new FuzzSelector[](1);
        list[0].addr = address(handler);
        bytes4[25] memory chosen = [
            Handler.deposit.selector, Handler.deposit.selector, Handler.close.selector, Handler.close.selector,
            Handler.trade.selector, Handler.withdraw.selector, Handler.withdraw.selector, Handler.pass.selector,
            Handler.claim.selector, Handler.claim.selector, Handler.request.selector, Handler.govern.selector,
            Handler.cheat.selector, Handler.object.selector, Handler.agree.selector, Handler.settle.selector,
            Handler.steal.selector, Handler.freeze.selector, Handler.escape.selector, Handler.refund.selector,
            Handler.fund.selector, Handler.unfund.selector, Handler.redeem.selector, Handler.convict.selector,
            Handler.slander.selector
        ];
        list[0].selectors = new bytes4[](29);
        for (uint256 i = 0; i < 25; ++i) list[0].selectors[i] = chosen[i];
        list[0].selectors[25] = Handler.topUp.selector;
        list[0].selectors[26] = Handler.takeBond.selector;
        list[0].selectors[28] = Handler.forge.selector;
        list[0].selectors[27] = Handler.takeEther.selector;
    }

    /// Never more goes out than came in.
    function invariant_paidAtMostDeposited() external view {
        for (uint256 a = 0; a < ASSETS; ++a) _true(handler.paid(a) <= handler.deposited(a), "paid");
    }

    /// The vault has every token that came in and did not go out, to the atom.
    function invariant_tokensAreAllThere() external view {
        for (uint256 a = 0; a < ASSETS; ++a) {
            uint256 held = handler.tokenOf(a).balanceOf(address(vault));
            _eq(held, handler.deposited(a) - handler.paid(a) + handler.floated(a), "tokens");
        }
    }

    /// Holdings are deposits less payments, and no float among them.
    function invariant_holdings() external view {
        for (uint256 a = 0; a < ASSETS; ++a) {
            _eq(vault.holdings(uint8(a)), handler.deposited(a) - handler.paid(a), "holdings");
        }
    }

    /// Nobody received more than the best header for them promised.
    function invariant_nobodyIsPaidTwice() external view {
        for (uint256 o = 0; o < OWNERS; ++o) {
            for (uint256 a = 0; a < ASSETS; ++a) {
                _true(handler.received(o, a) <= handler.mostOwed(o, a), "received");
            }
        }
    }

    /// The counters are what was really paid.
    function invariant_counters() external view {
        for (uint256 o = 0; o < OWNERS; ++o) {
            for (uint256 a = 0; a < ASSETS; ++a) {
                _eq(vault.claimedOf(handler.ownerOf(o), uint8(a)), handler.received(o, a), "claimed");
                _eq(vault.credit(handler.ownerOf(o), uint8(a)), 0, "no credit while tokens pay");
            }
        }
    }

    /// After a freeze everything that is still owed is there.
    function invariant_afterAFreezeEveryoneCanBePaid() external view {
        if (!handler.frozen()) return;
        for (uint256 a = 0; a < ASSETS; ++a) {
            _true(handler.owedAfterFreeze(a) <= vault.holdings(uint8(a)), "owed");
        }
    }

    /// A freeze is for good, for its first reason, and fixes one header.
    function invariant_frozenNeverUnfreezes() external view {
        _true(vault.frozen() == handler.frozen(), "frozen");
        if (!handler.frozen()) return;
        _eq(vault.escapeEpoch(), handler.escapeEpoch(), "escape epoch");
        _eq(vault.freezeReason(), handler.reason(), "reason");
        _eq(vault.escapeHeader(), handler.escapeHashThen(), "escape header");
    }

    /// What is final is what the clock and the vetoes say.
    function invariant_finality() external view {
        _eq(vault.finalisedEpoch(), handler.lastFinal(), "final");
    }

    /// Who escaped, and which deposits were refunded.
    function invariant_nullifiers() external view {
        for (uint256 o = 0; o < OWNERS; ++o) {
            _true(vault.escaped(handler.ownerOf(o)) == handler.left(o), "escaped");
        }
        (,, uint64 sent,) = handler.posted();
        for (uint64 i = 0; i < sent; ++i) _true(vault.refunded(i) == handler.repaidDeposit(i), "refunded");
    }

    /// Only honest headers were taken, each on the last one.
    function invariant_headers() external view {
        (uint64 count, uint64 consumed,,) = handler.posted();
        _eq(vault.epochCount(), count, "epochs");
        _eq(vault.consumedCount(), consumed, "consumed");
        for (uint64 e = 1; e <= count; ++e) _eq(vault.headerHash(e), handler.hashOf(e), "header");
    }

    /// The inbox is what was sent, in order.
    function invariant_inbox() external view {
        (,, uint64 sent, bytes32 rolled) = handler.posted();
        _eq(vault.inboxCount(), sent, "messages");
        _eq(vault.inboxHash(sent), rolled, "inbox");
    }

    /// The float is what was put in, less what was taken and advanced, plus what came back.
    function invariant_float() external view {
        for (uint256 a = 0; a < ASSETS; ++a) _eq(vault.floatOf(uint8(a)), handler.floated(a), "float");
    }

    /// Advances are the vouchers', and repaid at most once.
    function invariant_advances() external view {
        for (uint256 o = 0; o < OWNERS; ++o) {
            for (uint256 a = 0; a < ASSETS; ++a) {
                (uint96 total, uint96 repaid) = vault.advancedOf(handler.ownerOf(o), uint8(a));
                _eq(total, handler.advanced(o, a), "advanced");
                _eq(repaid, handler.repaid(o, a), "repaid");
                _true(repaid <= total, "repaid at most once");
            }
        }
    }

    /// No hour's vouchers passed their limit.
    function invariant_outflowCap() external view {
        _true(handler.maxVouchersPerHour() <= vault.floatCap(0), "cap");
    }

    /// Every wei is a bond or somebody's credit.
    function invariant_ether() external view {
        _eq(address(vault).balance, handler.bond() + handler.bondsAtStake() + handler.credited(), "ether");
    }

    /// The operator's bond is what was posted and not slashed or taken.
    function invariant_operatorBond() external view {
        _eq(vault.operatorBond(), handler.bond(), "bond");
    }

    /// Nobody but owners and the treasury ever received a token.
    function invariant_noTokenElsewhere() external view {
        for (uint256 a = 0; a < ASSETS; ++a) {
            uint256 all = handler.tokenOf(a).balanceOf(address(vault)) + handler.tokenOf(a).balanceOf(TREASURY)
                + handler.tokenOf(a).balanceOf(address(handler));
            for (uint256 o = 0; o < OWNERS; ++o) all += handler.tokenOf(a).balanceOf(handler.ownerOf(o));
            _eq(all, handler.tokenOf(a).totalSupply(), "supply");
        }
    }

    /// Nobody changed what a deployment fixed.
    function invariant_configuration() external view {
        _eq(vault.threshold(), 2, "threshold");
        _eq(vault.attestors().length, 3, "attestors");
        _eq(vault.treasury(), TREASURY, "treasury");
        _eq(vault.challengeWindowSeconds(), 1 hours, "window");
        _eq(vault.deadlineSeconds(), 1 days, "deadline");
    }

    /// The deadline runs from the last header or from the oldest message that waits.
    function invariant_deadline() external view {
        if (!handler.frozen()) _eq(vault.freezeAt(), handler.freezableFrom(), "deadline");
    }

    /// Deposits are counted as they came.
    function invariant_depositTotals() external view {
        (,, uint64 sent,) = handler.posted();
        for (uint256 a = 0; a < ASSETS; ++a) _eq(vault.depositsAt(sent, uint8(a)), handler.deposited(a), "deposits");
    }

    /// Objections are counted as they came, and a veto is open only while it was neither upheld nor settled.
    function invariant_vetoes() external view {
        (uint64 count,,,) = handler.posted();
        for (uint64 e = 1; e <= count; ++e) {
            (,, uint8 objecting, uint8 state) = vault.vetoOf(e);
            (uint256 counted, bool open,) = handler.objection(e);
            _eq(objecting, counted, "objections");
            _true((state == 1) == open, "open");
        }
    }
}
