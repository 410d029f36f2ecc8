// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestToken} from "../../src/TestToken.sol";
import {Checkpoint, Disagreement, ExitLeaf, Header, Voucher} from "../../src/Structs.sol";
import {Journals, Tree, Trees} from "../base/Trees.sol";
import {World} from "../base/World.sol";

/// @title Everyone around one vault, doing anything in any order
/// @dev The operator keeps honest books (`balance`, `acked`); what the vault owes follows from these books, from the
/// clock and from nothing that the vault says. An action either must succeed, with exactly the payments that the books
/// give, or must be refused: each tries to be wrong in both directions. `paid` counts what owners really received.
contract Handler is World {
    using Trees for Tree;

    uint256 internal constant OWNERS = 3;
    uint256 internal constant ASSETS = 2;
    uint256 internal constant ATTESTORS = 3;
    uint8 internal constant THRESHOLD = 2;
    uint256 internal constant QUORUM = ATTESTORS - THRESHOLD + 1;

    struct Objection {
        uint256 by;
        uint256 time;
        uint256 count;
        bool open;
    }

    // What the operator's journal says.
    mapping(uint256 owner => mapping(uint256 asset => uint128)) public balance;
    mapping(uint256 owner => mapping(uint256 asset => uint128)) public acked;
    // What each epoch's header promised.
    mapping(uint64 epoch => mapping(uint256 owner => mapping(uint256 asset => uint128))) internal exitAt;
    mapping(uint64 epoch => mapping(uint256 owner => mapping(uint256 asset => uint128))) internal ackAt;
    mapping(uint64 epoch => uint256) internal postedAt;
    // What was really moved.
    mapping(uint256 asset => uint256) public deposited;
    mapping(uint256 asset => uint256) public paid; // out of the holdings, repayments of advances included
    mapping(uint256 owner => mapping(uint256 asset => uint256)) public received; // by claim and escape, likewise
    mapping(uint256 owner => bool) public left;
    mapping(uint64 index => bool) public repaidDeposit;
    mapping(uint256 owner => mapping(uint256 asset => uint256)) public advanced;
    mapping(uint256 owner => mapping(uint256 asset => uint256)) public repaid;
    mapping(uint256 asset => uint256) public floated;
    mapping(uint256 asset => mapping(uint256 hour => uint256)) public vouchersOf;
    uint256 public maxVouchersPerHour;
    // Vetoes and ether.
    mapping(uint64 epoch => Objection) internal objections;
    mapping(uint64 epoch => mapping(uint256 attestor => bool)) internal objected;
    mapping(uint256 attestor => uint64) internal openOf;
    uint256 public bond;
    uint256 public bondsAtStake;
    uint256 public credited;
    // What must never change again.
    bool public frozen;
    uint64 public escapeEpoch;
    uint8 public reason;
    bytes32 internal escapeHash;
    uint256 public calls;

    constructor() {
        _build(ASSETS, ATTESTORS, THRESHOLD);
        bond = OPERATOR_BOND;
    }

    modifier counted() {
        ++calls;
        _;
    }

    // -- coming in

    function deposit(uint256 who, uint256 asset, uint256 amount) external counted {
        (who, asset) = (who % OWNERS, asset % ASSETS);
        amount = _within(amount, MIN_FIRST, 1e12);
        if (frozen) {
            vm.expectRevert();
            vault.deposit(uint8(asset), uint128(amount), _owner(who));
            return;
        }
        _deposit(_owner(who), uint8(asset), uint128(amount));
        deposited[asset] += amount;
    }

    function request(uint256 who, uint256 asset, uint256 amount, bool exit) external counted {
        address owner = _owner(who % OWNERS);
        asset %= ASSETS;
        vm.prank(owner);
        if (frozen) vm.expectRevert();
        if (exit) vault.forceExit(0);
        else vault.forceWithdrawal(uint8(asset), uint128(amount % 1e12), 0);
        if (frozen) return;
        if (exit) _note(3, owner, 0, 0, bytes32(0));
        else _note(2, owner, uint8(asset), uint128(amount % 1e12), bytes32(0));
    }

    function govern(bytes32 action, bool really) external counted {
        vm.prank(really ? GOVERNOR : _owner(0));
        if (frozen || !really) vm.expectRevert();
        vault.sendGovernance(action);
        if (!frozen && really) _note(4, GOVERNOR, 0, 0, action);
    }

    // -- the operator's books

    function trade(uint256 from, uint256 to, uint256 asset, uint256 amount) external counted {
        (from, to, asset) = (from % OWNERS, to % OWNERS, asset % ASSETS);
        uint128 moved = uint128(_within(amount, 0, balance[from][asset]));
        balance[from][asset] -= moved;
        balance[to][asset] += moved;
    }

    function withdraw(uint256 who, uint256 asset, uint256 amount) external counted {
        (who, asset) = (who % OWNERS, asset % ASSETS);
        uint128 moved = uint128(_within(amount, 0, balance[who][asset]));
        balance[who][asset] -= moved;
        acked[who][asset] += moved;
    }

    /// Closes an epoch that consumes some of the waiting messages.
    function close(uint256 seed) external counted {
        if (frozen || vault.operatorBond() < vault.requiredBondWei()) return;
        _advance(1);
        uint64 count = uint64(seed % 2 == 0 ? messages.length : _within(seed, consumed, messages.length));
        for (uint64 i = consumed; i < count; ++i) {
            if (messages[i].kind == 1) balance[_number(messages[i].owner)][messages[i].asset] += messages[i].amount;
        }
        ExitLeaf[] memory leaves = new ExitLeaf[](OWNERS);
        for (uint256 o = 0; o < OWNERS; ++o) {
            leaves[o] = ExitLeaf(uint32(o), _owner(o), new uint128[](ASSETS), new uint128[](ASSETS));
            for (uint256 a = 0; a < ASSETS; ++a) {
                (leaves[o].exits[a], leaves[o].withdrawAcks[a]) = (balance[o][a], acked[o][a]);
            }
        }
        uint64 epoch = _close(leaves, count);
        for (uint256 o = 0; o < OWNERS; ++o) {
            for (uint256 a = 0; a < ASSETS; ++a) {
                (exitAt[epoch][o][a], ackAt[epoch][o][a]) = (balance[o][a], acked[o][a]);
            }
        }
        postedAt[epoch] = _now();
    }

    /// A header that promises more than there is, signed by everyone, is not taken.
    function cheat(uint256 asset, uint256 excess) external counted {
        if (frozen) return;
        asset %= ASSETS;
        uint256 waiting;
        for (uint64 i = consumed; i < messages.length; ++i) {
            if (messages[i].kind == 1 && messages[i].asset == asset) waiting += messages[i].amount;
        }
        ExitLeaf[] memory leaves = _one(_leaf(0, _owner(0), 0, 0));
        uint256 claimed;
        for (uint256 o = 0; o < OWNERS; ++o) claimed += received[o][asset];
        leaves[0].exits[asset] =
            uint128(deposited[asset] - paid[asset] - waiting + claimed + 1 + excess % 1e12);
        Tree memory t = _tree(leaves);
        bytes memory chunk = abi.encode("cheat", calls);
        vault.publishDiff(chunk);
        bytes32[] memory chunks = new bytes32[](1);
        chunks[0] = sha256(chunk);
        Posting memory p = _posting(_header(t.root(), consumed, chunks), chunks);
        vm.expectRevert();
        _send(p);
    }

    /// A header signed by fewer than the threshold, or by others, is not taken.
    function forge(uint256 seed) external counted {
        if (frozen) return;
        _advance(1);
        bytes32[] memory none = new bytes32[](0);
        Posting memory p = _posting(_header(_tree(_one(_leaf(0, _owner(0), 0, 0))).root(), consumed, none), none);
        if (seed % 3 == 0) p.attestations = _attestBy(p.header, THRESHOLD - 1);
        else if (seed % 3 == 1) p.signature = _signEpoch(STRANGER_KEY, p.header);
        else (p.attestations[0], p.attestations[1]) = (p.attestations[0], p.attestations[0]);
        vm.expectRevert();
        _send(p);
    }

    function pass(uint256 seconds_) external counted {
        _advance(_within(seconds_, 1, seconds_ % 7 == 0 ? DEADLINE + 1 : WINDOW));
    }

    // -- vetoes

    function object(uint64 epoch, uint256 attestor) external counted {
        if (epochs == 0) return;
        epoch = uint64(_within(epoch, 1, epochs));
        attestor %= ATTESTORS;
        Objection storage o = objections[epoch];
        bool standing = _standing(o);
        bool good = !frozen && !objected[epoch][attestor] && !standing && _now() < postedAt[epoch] + WINDOW
            && openOf[attestor] == 0;
        address by = _attestor(attestor);
        vm.deal(by, by.balance + VETO_BOND);
        bytes32 hash = sha256(headerOf[epoch]); // a call of its own: it must not take the prank
        vm.prank(by);
        if (!good) vm.expectRevert();
        vault.veto{value: VETO_BOND}(epoch, hash, bytes32("why"));
        if (!good) return;
        if (o.open) _lapsed(epoch);
        (o.by, o.time, o.open) = (attestor, _now(), true);
        openOf[attestor] = epoch;
        bondsAtStake += VETO_BOND;
        _counted(epoch, attestor);
    }

    function agree(uint64 epoch, uint256 attestor) external counted {
        if (epochs == 0) return;
        epoch = uint64(_within(epoch, 1, epochs));
        attestor %= ATTESTORS;
        bool good = !frozen && !objected[epoch][attestor] && _standing(objections[epoch]);
        address by = _attestor(attestor);
        bytes32 hash = sha256(headerOf[epoch]);
        vm.prank(by);
        if (!good) vm.expectRevert();
        vault.second(epoch, hash);
        if (!good) return;
        _counted(epoch, attestor);
    }

    function settle(uint64 epoch) external counted {
        if (epochs == 0) return;
        epoch = uint64(_within(epoch, 1, epochs));
        Objection storage o = objections[epoch];
        if (!o.open || (!frozen && _standing(o))) {
            vm.expectRevert();
            vault.settleVeto(epoch);
            return;
        }
        vault.settleVeto(epoch);
        _lapsed(epoch);
    }

    // -- leaving

    /// Whoever is owed by a final header is paid exactly that, and nobody else anything.
    function claim(uint64 epoch, uint256 who) external counted {
        if (epochs == 0) return;
        // Mostly the newest header that pays, or after a freeze the newest that must not.
        if (epoch % 3 == 0) epoch = uint64(_within(epoch, 1, epochs));
        else epoch = epoch % 3 == 1 && this.lastFinal() != 0 ? this.lastFinal() : epochs;
        who %= OWNERS;
        uint256[] memory due = new uint256[](ASSETS);
        uint256 all;
        for (uint256 a = 0; a < ASSETS; ++a) {
            if (ackAt[epoch][who][a] > received[who][a]) due[a] = ackAt[epoch][who][a] - received[who][a];
            all += due[a];
        }
        Proof memory p = _proof(epoch, uint32(who));
        uint256[] memory before = _wallet(_owner(who));
        if (!_final(epoch) || all == 0) {
            vm.expectRevert();
            _claimWith(p);
            return;
        }
        _claimWith(p);
        _took(who, due, before);
    }

    /// A proof of somebody else's money pays nobody.
    function steal(uint64 epoch, uint256 who, uint256 victim) external counted {
        if (epochs == 0) return;
        epoch = uint64(_within(epoch, 1, epochs));
        (who, victim) = (who % OWNERS, victim % OWNERS);
        if (who == victim) return;
        Proof memory p = _proof(epoch, uint32(victim));
        p.leaf.owner = _owner(who);
        vm.expectRevert();
        _claimWith(p);
        vm.expectRevert();
        _escapeWith(p);
    }

    function freeze() external counted {
        if (frozen || _now() < freezableFrom()) {
            vm.expectRevert();
            vault.freeze();
            return;
        }
        uint64 last = _lastFinal();
        vault.freeze();
        _froze(last, 1);
    }

    function escape(uint256 who) external counted {
        who %= OWNERS;
        if (!frozen || escapeEpoch == 0) {
            if (epochs == 0) return;
            Proof memory q = _proof(epochs, uint32(who));
            vm.expectRevert();
            _escapeWith(q);
            return;
        }
        Proof memory p = _proof(escapeEpoch, uint32(who));
        if (left[who]) {
            vm.expectRevert();
            _escapeWith(p);
            return;
        }
        uint256[] memory due = new uint256[](ASSETS);
        for (uint256 a = 0; a < ASSETS; ++a) {
            uint256 owed = uint256(exitAt[escapeEpoch][who][a]) + ackAt[escapeEpoch][who][a];
            if (owed > received[who][a]) due[a] = owed - received[who][a];
        }
        uint256[] memory before = _wallet(_owner(who));
        _escapeWith(p);
        _took(who, due, before);
        left[who] = true;
    }

    function refund(uint64 index) external counted {
        if (messages.length == 0) return;
        index = uint64(_within(index, 0, messages.length - 1));
        bool good = frozen && messages[index].kind == 1 && index >= consumedOf[escapeEpoch] && !repaidDeposit[index];
        if (!good) {
            vm.expectRevert();
            _refund(index);
            return;
        }
        uint256 asset = messages[index].asset;
        uint256 before = _balance(uint8(asset), messages[index].owner);
        _refund(index);
        _eq(_balance(uint8(asset), messages[index].owner) - before, messages[index].amount, "refund");
        repaidDeposit[index] = true;
        paid[asset] += messages[index].amount;
    }

    // -- vouchers

    function fund(uint256 asset, uint256 amount) external counted {
        asset %= ASSETS;
        amount = _within(amount, 1, 1e12);
        vault.fundFloat(uint8(asset), uint128(amount));
        floated[asset] += amount;
    }

    function unfund(uint256 asset, uint256 amount, bool really) external counted {
        asset %= ASSETS;
        amount = _within(amount, 0, floated[asset] + 1);
        uint256 before = _balance(uint8(asset), TREASURY);
        vm.prank(really ? operator : _owner(1));
        if (!really || amount > floated[asset]) {
            vm.expectRevert();
            vault.withdrawFloat(uint8(asset), uint128(amount));
            return;
        }
        vault.withdrawFloat(uint8(asset), uint128(amount));
        _eq(_balance(uint8(asset), TREASURY) - before, amount, "float to the treasury");
        floated[asset] -= amount;
    }

    function redeem(uint256 who, uint256 asset, uint256 amount, uint256 twist) external counted {
        (who, asset) = (who % OWNERS, asset % ASSETS);
        amount = _within(amount, 0, twist % 2 == 0 ? floated[asset] : FLOAT_CAP);
        uint256 hour = _now() / 1 hours;
        Voucher memory v = _voucher(who, uint8(asset), uint128(advanced[who][asset] + amount));
        if (twist % 7 == 1) v.expiry = uint64(_now() - 1);
        uint256 key = twist % 7 == 2 ? STRANGER_KEY : _ownerKey(who);
        bool good = !frozen && amount != 0 && twist % 7 != 1 && twist % 7 != 2 && amount <= floated[asset]
            && vouchersOf[asset][hour] + amount <= FLOAT_CAP;
        bytes memory a = _signVoucher(key, v);
        bytes memory b = _signVoucher(OPERATOR_KEY, v);
        if (!good) {
            vm.expectRevert();
            vault.redeemVoucher(v, a, b);
            return;
        }
        uint256 before = _balance(uint8(asset), _owner(who));
        vault.redeemVoucher(v, a, b);
        _eq(_balance(uint8(asset), _owner(who)) - before, amount, "voucher");
        advanced[who][asset] += amount;
        floated[asset] -= amount;
        vouchersOf[asset][hour] += amount;
        if (vouchersOf[asset][hour] > maxVouchersPerHour) maxVouchersPerHour = vouchersOf[asset][hour];
    }

    // -- faults and ether

    function convict(uint256 seed) external counted {
        if (seed % 8 != 0 || vault.faultProven()) return;
        (Checkpoint memory a, bytes memory sa) = _checkpoint(9, Journals.HONEST);
        (Checkpoint memory b, bytes memory sb) = _checkpoint(9, 2);
        Disagreement memory d;
        uint64 last = _lastFinal();
        address reporter = _owner(2);
        vm.prank(reporter);
        vault.proveEquivocation(a, sa, b, sb, d);
        credited += bond; // half of it nobody's for good
        bond = 0;
        if (!frozen) _froze(last, 3);
    }

    /// Honest checkpoints convict nobody.
    function slander(uint64 size) external counted {
        size = uint64(_within(size, 1, 40));
        (Checkpoint memory a, bytes memory sa) = _checkpoint(size, Journals.HONEST);
        Disagreement memory d;
        vm.expectRevert();
        vault.proveEquivocation(a, sa, a, sa, d);
    }

    function topUp(uint256 wei_) external counted {
        wei_ = _within(wei_, 1, 1 ether);
        vm.deal(address(this), wei_);
        vault.postBond{value: wei_}();
        bond += wei_;
    }

    function takeBond(bool really) external counted {
        bool good = really && frozen && !vault.faultProven() && _now() >= vault.frozenAt() + DEADLINE;
        vm.prank(really ? operator : _owner(3));
        if (!good) {
            vm.expectRevert();
            vault.withdrawBond();
            return;
        }
        vault.withdrawBond();
        credited += bond;
        bond = 0;
    }

    function takeEther(uint256 who) external counted {
        address receiver = who % 5 == 4 ? BURNED : who % 5 == 0 ? TREASURY : who % 5 == 1 ? _owner(2) : who % 5 == 2 ? operator : _attestor(who % ATTESTORS);
        uint256 due = vault.ethCredit(receiver);
        if (due == 0) {
            vm.expectRevert();
            vault.withdrawEth(receiver);
            return;
        }
        uint256 before = receiver.balance;
        vault.withdrawEth(receiver);
        _eq(receiver.balance - before, due, "ether");
        credited -= due;
    }

    // -- what the invariants read

    /// Seconds UTC from which anyone may freeze.
    function freezableFrom() public view returns (uint256 from) {
        from = epochs == 0 ? deployedAt() : postedAt[epochs];
        if (consumed < messages.length && messages[consumed].l1Time < from) from = messages[consumed].l1Time;
        from += DEADLINE;
    }

    function objection(uint64 epoch) external view returns (uint256 count, bool open, bool standing) {
        Objection memory o = objections[epoch];
        return (o.count, o.open, _standing(o));
    }

    function theVault() external view returns (address) {
        return address(vault);
    }

    function tokenOf(uint256 asset) external view returns (TestToken) {
        return TestToken(tokens[asset]);
    }

    function ownerOf(uint256 number) external pure returns (address) {
        return _owner(number);
    }

    function posted() external view returns (uint64 count, uint64 consumed_, uint64 sent, bytes32 rolled) {
        return (epochs, consumed, uint64(messages.length), rolling[messages.length]);
    }

    function hashOf(uint64 epoch) external view returns (bytes32) {
        return epoch == 0 ? bytes32(0) : sha256(headerOf[epoch]);
    }

    function escapeHashThen() external view returns (bytes32) {
        return escapeHash;
    }

    function lastFinal() external view returns (uint64) {
        return frozen ? escapeEpoch : _lastFinal();
    }

    /// All that is still owed after a freeze: exits, acknowledged withdrawals and refunds.
    function owedAfterFreeze(uint256 asset) external view returns (uint256 owed) {
        for (uint256 o = 0; o < OWNERS; ++o) {
            uint256 promised = uint256(exitAt[escapeEpoch][o][asset]) + ackAt[escapeEpoch][o][asset];
            if (!left[o] && promised > received[o][asset]) owed += promised - received[o][asset];
        }
        for (uint64 i = consumedOf[escapeEpoch]; i < messages.length; ++i) {
            if (messages[i].kind == 1 && messages[i].asset == asset && !repaidDeposit[i]) owed += messages[i].amount;
        }
    }

    /// What an owner may have received at most: what the best header for it promised.
    function mostOwed(uint256 who, uint256 asset) external view returns (uint256 most) {
        for (uint64 e = 1; e <= epochs; ++e) {
            uint256 promised = ackAt[e][who][asset];
            if (frozen && e == escapeEpoch) promised += exitAt[e][who][asset];
            if (promised > most) most = promised;
        }
    }

    // -- inside

    function deployedAt() private pure returns (uint256) {
        return 1_700_000_000;
    }

    function _number(address owner) private pure returns (uint256 o) {
        while (_owner(o) != owner) ++o;
    }

    function _standing(Objection memory o) private view returns (bool) {
        return o.open && _now() < o.time + SECONDING;
    }

    function _counted(uint64 epoch, uint256 attestor) private {
        objected[epoch][attestor] = true;
        if (++objections[epoch].count < QUORUM) return;
        // As it stood before: every standing veto holds its header and all later ones, this one among them.
        _froze(_lastFinal(), 2);
        Objection storage o = objections[epoch];
        o.open = false;
        openOf[o.by] = 0;
        bondsAtStake -= VETO_BOND;
        credited += VETO_BOND;
    }

    function _lapsed(uint64 epoch) private {
        Objection storage o = objections[epoch];
        o.open = false;
        openOf[o.by] = 0;
        bondsAtStake -= VETO_BOND;
        credited += VETO_BOND; // the treasury's, or the attestor's own after a freeze
    }

    function _lastFinal() private view returns (uint64 last) {
        for (uint64 e = 1; e <= epochs; ++e) {
            if (_now() < postedAt[e] + WINDOW || _standing(objections[e])) return last;
            last = e;
        }
    }

    function _final(uint64 epoch) private view returns (bool) {
        return epoch <= (frozen ? escapeEpoch : _lastFinal());
    }

    function _froze(uint64 last, uint8 why) private {
        (frozen, escapeEpoch, reason) = (true, last, why);
        escapeHash = last == 0 ? bytes32(0) : sha256(headerOf[last]);
    }

    function _wallet(address who) private view returns (uint256[] memory held) {
        held = new uint256[](ASSETS);
        for (uint256 a = 0; a < ASSETS; ++a) held[a] = _balance(uint8(a), who);
    }

    /// The owner received what was due less what repaid an advance, in every asset, and nothing else.
    function _took(uint256 who, uint256[] memory due, uint256[] memory before) private {
        for (uint256 a = 0; a < ASSETS; ++a) {
            uint256 open = advanced[who][a] - repaid[who][a];
            uint256 back = open < due[a] ? open : due[a];
            _eq(_balance(uint8(a), _owner(who)) - before[a], due[a] - back, "exactly what is owed");
            received[who][a] += due[a];
            paid[a] += due[a];
            repaid[who][a] += back;
            floated[a] += back;
        }
    }
}
