// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "../../src/Assets.sol";
import {Inbox} from "../../src/Inbox.sol";
import {Config} from "../../src/Structs.sol";
import {World} from "../base/World.sol";

/// @title Deposits, forced requests and governance messages, in one hashed queue
contract InboxTest is World {
    uint128 private constant AMOUNT = 5_000_000;

    function setUp() public {
        _build(3, 3, 2);
    }

    /// A deposit moves the tokens, is held, and rolls on the queue's hash; totals and times are kept by count.
    function test_deposit() public {
        uint256 before = _balance(1, address(this));
        _deposit(_owner(1), 1, AMOUNT);
        _advance(7);
        _deposit(_owner(2), 1, AMOUNT + 1);
        _deposit(_owner(2), 0, 3);
        _eq(before - _balance(1, address(this)), 2 * AMOUNT + 1, "taken");
        _eq(vault.holdings(1), 2 * AMOUNT + 1, "held");
        _eq(vault.inboxCount(), 3, "three messages");
        _eq(vault.depositorCount(), 2, "two depositors");
        for (uint64 i = 0; i <= 3; ++i) _eq(vault.inboxHash(i), rolling[i], "rolling hash");
        for (uint64 i = 0; i < 3; ++i) _eq(vault.inboxTime(i), messages[i].l1Time, "time");
        _eq(vault.depositsAt(1, 1), AMOUNT, "after one");
        _eq(vault.depositsAt(2, 1), 2 * AMOUNT + 1, "after two");
        _eq(vault.depositsAt(2, 0), 0, "another lane");
        _eq(vault.depositsAt(3, 0), 3, "another lane after three");
        _eq(vault.depositsAt(3, 1), 2 * AMOUNT + 1, "lanes share a word and not their totals");
        _eq(vault.depositsAt(3, 2), 0, "the odd word");
    }

    /// Nothing, for nobody, of no asset, to the vault itself: each has its error.
    function test_depositsRefused() public {
        _refuse(abi.encodeWithSelector(Assets.UnknownAsset.selector, 3));
        vault.deposit(3, AMOUNT, _owner(1));
        _refuse(abi.encodeWithSelector(Inbox.ZeroAmount.selector));
        vault.deposit(0, 0, _owner(1));
        _refuse(abi.encodeWithSelector(Inbox.InvalidOwner.selector, address(0)));
        vault.deposit(0, AMOUNT, address(0));
        _refuse(abi.encodeWithSelector(Inbox.InvalidOwner.selector, address(vault)));
        vault.deposit(0, AMOUNT, address(vault));
        _eq(vault.inboxCount(), 0, "nothing came in");
    }

    /// The first deposit has a minimum, later ones and the treasury's have none.
    function test_firstDeposits() public {
        _refuse(abi.encodeWithSelector(Inbox.FirstDepositTooSmall.selector, MIN_FIRST - 1, MIN_FIRST));
        vault.deposit(0, MIN_FIRST - 1, _owner(1));
        vault.deposit(0, MIN_FIRST, _owner(1));
        vault.deposit(2, 1, _owner(1));
        vault.deposit(0, 1, TREASURY);
        _eq(vault.depositorCount(), 1, "the treasury is not counted");
    }

    /// A vault has room for so many owners; those inside may go on.
    function test_depositorsAreLimited() public {
        Config memory c = _config(3, 2);
        c.maxDepositors = 2;
        _open(c);
        vault.deposit(0, AMOUNT, _owner(1));
        vault.deposit(0, AMOUNT, _owner(2));
        _refuse(abi.encodeWithSelector(Inbox.TooManyDepositors.selector, 2));
        vault.deposit(0, AMOUNT, _owner(3));
        vault.deposit(1, 1, _owner(1));
        vault.deposit(1, 1, TREASURY);
    }

    /// All deposits of one asset stay below 2^96 atoms, so that no leaf and no counter can overflow.
    function test_depositsAreBounded() public {
        vault.deposit(0, uint128(1 << 95) - 1, _owner(1));
        uint256 total = (1 << 96);
        _refuse(abi.encodeWithSelector(Inbox.DepositTooLarge.selector, 0, total));
        vault.deposit(0, uint128((1 << 95) + 1), _owner(1));
        _refuse(abi.encodeWithSelector(Inbox.DepositTooLarge.selector, 2, type(uint128).max));
        vault.deposit(2, type(uint128).max, _owner(1));
    }

    /// The sender alone is the owner of a forced request; amount zero asks for everything.
    function test_forcedRequests() public {
        vm.prank(_owner(4));
        vault.forceWithdrawal(2, 77, 5);
        _note(2, _owner(4), 2, 77, bytes32(uint256(5)));
        vm.prank(_owner(4));
        vault.forceWithdrawal(0, 0, 0);
        _note(2, _owner(4), 0, 0, 0);
        vm.prank(_owner(4));
        vault.forceExit(65535);
        _note(3, _owner(4), 0, 0, bytes32(uint256(65535)));
        _eq(vault.inboxHash(3), rolling[3], "rolling hash");
        _eq(vault.depositsAt(3, 2), 0, "no deposit");
        _eq(vault.depositorCount(), 0, "no depositor");
    }

    /// The house can force nothing; amounts and assets are bounded.
    function test_forcedRequestsRefused() public {
        vm.prank(TREASURY);
        _refuse(abi.encodeWithSelector(Inbox.HouseRequest.selector));
        vault.forceExit(0);
        vm.prank(TREASURY);
        _refuse(abi.encodeWithSelector(Inbox.HouseRequest.selector));
        vault.forceWithdrawal(0, 1, 0);
        _refuse(abi.encodeWithSelector(Assets.UnknownAsset.selector, 3));
        vault.forceWithdrawal(3, 1, 0);
        _refuse(abi.encodeWithSelector(Inbox.DepositTooLarge.selector, 0, 1 << 96));
        vault.forceWithdrawal(0, 1 << 96, 0);
    }

    /// Only the governor sends governance.
    function test_governance() public {
        _refuse(abi.encodeWithSelector(Inbox.NotGovernor.selector, address(this)));
        vault.sendGovernance(keccak256("action"));
        vm.prank(GOVERNOR);
        vault.sendGovernance(keccak256("action"));
        _note(4, GOVERNOR, 0, 0, keccak256("action"));
        _eq(vault.inboxHash(1), rolling[1], "rolling hash");
        Config memory c = _config(3, 2);
        c.governor = address(0);
        _open(c);
        vm.prank(GOVERNOR);
        _refuse(abi.encodeWithSelector(Inbox.NotGovernor.selector, GOVERNOR));
        vault.sendGovernance(keccak256("action"));
    }

    /// After a freeze nothing comes in.
    function test_nothingComesInAfterAFreeze() public {
        _freeze();
        _refuse(abi.encodeWithSelector(Inbox.VaultFrozen.selector));
        vault.deposit(0, AMOUNT, _owner(1));
        _refuse(abi.encodeWithSelector(Inbox.VaultFrozen.selector));
        vault.forceWithdrawal(0, 1, 0);
        _refuse(abi.encodeWithSelector(Inbox.VaultFrozen.selector));
        vault.forceExit(0);
        vm.prank(GOVERNOR);
        _refuse(abi.encodeWithSelector(Inbox.VaultFrozen.selector));
        vault.sendGovernance(keccak256("action"));
    }

    /// Views say which count they do not have.
    function test_viewsOfWhatIsNotThere() public {
        _deposit(_owner(1), 0, AMOUNT);
        _refuse(abi.encodeWithSelector(Inbox.UnknownMessage.selector, 2, 1));
        vault.inboxHash(2);
        _refuse(abi.encodeWithSelector(Inbox.UnknownMessage.selector, 1, 1));
        vault.inboxTime(1);
        _refuse(abi.encodeWithSelector(Inbox.UnknownMessage.selector, 2, 1));
        vault.depositsAt(2, 0);
        _refuse(abi.encodeWithSelector(Assets.UnknownAsset.selector, 3));
        vault.depositsAt(1, 3);
    }
}
