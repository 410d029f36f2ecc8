// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {TestToken} from "../../src/TestToken.sol";
import {Vault} from "../../src/Vault.sol";
import {Checkpoint, Config, ExitLeaf, Header, InboxMessage, Voucher} from "../../src/Structs.sol";
import {Formats} from "./Formats.sol";
import {Test} from "./Test.sol";
import {Journals, Node, Tree, Trees} from "./Trees.sol";

/// @title One vault with an honest operator, for tests to use and to abuse
/// @dev This contract pays for every deposit ("anyone"); the operator and the attestors are keys; owners need no
/// account unless they sign. What a poster would know (messages, headers, leaves by epoch) is remembered here.
abstract contract World is Test {
    using Trees for Tree;

    uint256 internal constant OPERATOR_KEY = 0x0be7a70;
    uint256 internal constant STRANGER_KEY = 0x57ba6e7;
    address internal constant TREASURY = address(uint160(0x7777));
    address internal constant GOVERNOR = address(uint160(0x6666));
    address internal constant BURNED = address(0xdEaD);
    bytes32 internal constant DEPLOYMENT = keccak256("deployment");
    uint64 internal constant DEADLINE = 1 days;
    uint64 internal constant WINDOW = 1 hours;
    uint64 internal constant SECONDING = 30 minutes;
    uint128 internal constant MIN_FIRST = 1_000_000;
    uint128 internal constant VETO_BOND = 0.01 ether;
    uint128 internal constant OPERATOR_BOND = 1 ether;
    uint96 internal constant FLOAT_CAP = 1_000_000_000;
    uint64 internal constant ENTRIES = 3;

    Vault internal vault;
    address[] internal tokens;
    uint256[] internal attestorKeys;
    address internal operator;
    bytes32 internal domain;
    bytes32 internal separator;

    InboxMessage[] internal messages;
    bytes32[] internal rolling;
    uint64 internal epochs;
    uint64 internal journalSize;
    uint64 internal consumed;
    mapping(uint64 epoch => bytes) internal headerOf;
    mapping(uint64 epoch => uint64) internal consumedOf;
    mapping(uint64 epoch => bytes) private _leavesOf;

    // -- the vault

    /// @dev A new world: `count` test tokens, `n` attestors of whom `k` must sign.
    function _build(uint256 count, uint256 n, uint8 k) internal {
        delete tokens;
        for (uint256 a = 0; a < count; ++a) tokens.push(address(new TestToken("Test dollar", "TUSD")));
        _open(_config(n, k));
    }

    function _config(uint256 n, uint8 k) internal returns (Config memory c) {
        operator = vm.addr(OPERATOR_KEY);
        _chooseAttestors(n);
        c.deploymentId = DEPLOYMENT;
        (c.operator, c.treasury, c.governor) = (operator, TREASURY, GOVERNOR);
        c.tokens = tokens;
        (c.deadlineSeconds, c.challengeWindowSeconds, c.secondingSeconds) = (DEADLINE, WINDOW, SECONDING);
        (c.minFirstDeposit, c.maxDepositors) = (MIN_FIRST, 1000);
        c.attestors = _attestors();
        c.threshold = k;
        (c.vetoBondWei, c.operatorBondWei) = (VETO_BOND, OPERATOR_BOND);
        c.floatCaps = new uint96[](tokens.length);
        for (uint256 a = 0; a < tokens.length; ++a) c.floatCaps[a] = FLOAT_CAP;
    }

    function _deploy(Config memory c) internal returns (Vault) {
        return Vault(vm.deployCode("Vault.sol:Vault", abi.encode(c)));
    }

    /// @dev What the constructor reverts with; empty when it does not.
    function _refusedBy(Config memory c) internal returns (bytes memory reason) {
        bytes memory code = bytes.concat(vm.getCode("Vault.sol:Vault"), abi.encode(c));
        address made;
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
            if iszero(made) {
                reason := mload(0x40)
                mstore(reason, returndatasize())
                returndatacopy(add(reason, 32), 0, returndatasize())
                mstore(0x40, and(add(add(reason, returndatasize()), 63), not(31)))
            }
        }
    }

    function _open(Config memory c) internal {
        if (_now() < 1_700_000_000) {
            vm.warp(1_700_000_000);
            vm.roll(1000);
        }
        vault = _deploy(c);
        domain = Formats.exitDomain(block.chainid, address(vault));
        separator = Formats.vaultDomain(block.chainid, address(vault));
        delete messages;
        delete rolling;
        rolling.push(0);
        (epochs, journalSize, consumed) = (0, 0, 0);
        for (uint256 a = 0; a < tokens.length; ++a) {
            TestToken(tokens[a]).mint(address(this), 1 << 95);
            // Not through the interface: a silent token's approve returns nothing.
            (bool ok,) = tokens[a].call(abi.encodeCall(IERC20.approve, (address(vault), type(uint256).max)));
            require(ok, "approve");
        }
        if (c.operatorBondWei != 0) {
            vm.deal(address(this), address(this).balance + c.operatorBondWei);
            vault.postBond{value: c.operatorBondWei}();
        }
    }

    function _chooseAttestors(uint256 n) private {
        delete attestorKeys;
        for (uint256 i = 0; i < n; ++i) attestorKeys.push(uint256(keccak256(abi.encode("attestor", i))) >> 8);
        for (uint256 i = 0; i < n; ++i) {
            for (uint256 j = i + 1; j < n; ++j) {
                if (vm.addr(attestorKeys[j]) >= vm.addr(attestorKeys[i])) continue;
                (attestorKeys[i], attestorKeys[j]) = (attestorKeys[j], attestorKeys[i]);
            }
        }
    }

    function _attestor(uint256 i) internal view returns (address) {
        return vm.addr(attestorKeys[i]);
    }

    function _attestors() internal view returns (address[] memory list) {
        list = new address[](attestorKeys.length);
        for (uint256 i = 0; i < list.length; ++i) list[i] = _attestor(i);
    }

    function _owner(uint256 number) internal pure returns (address) {
        return vm.addr(_ownerKey(number));
    }

    function _ownerKey(uint256 number) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("owner", number))) >> 8;
    }

    function _balance(uint8 asset, address who) internal view returns (uint256) {
        return TestToken(tokens[asset]).balanceOf(who);
    }

    // -- the inbox

    function _deposit(address owner, uint8 asset, uint128 amount) internal returns (uint64) {
        vault.deposit(asset, amount, owner);
        return _note(1, owner, asset, amount, 0);
    }

    /// @dev Remembers a message as an operator would that reads the chain.
    function _note(uint8 kind, address owner, uint8 asset, uint128 amount, bytes32 data) internal returns (uint64) {
        uint64 index = uint64(messages.length);
        messages.push(InboxMessage(kind, index, owner, asset, amount, uint64(_now()), data));
        rolling.push(Formats.message(rolling[index], messages[index]));
        return index;
    }

    function _refund(uint64 index) internal {
        InboxMessage memory m = messages[index];
        vault.refund(index, m.owner, m.asset, m.amount, m.l1Time, m.data);
    }

    // -- epochs

    function _leaf(uint32 index, address owner, uint128 exit, uint128 ack) internal view returns (ExitLeaf memory) {
        ExitLeaf memory l = ExitLeaf(index, owner, _lanes(tokens.length, 0), _lanes(tokens.length, 0));
        (l.exits[0], l.withdrawAcks[0]) = (exit, ack);
        return l;
    }

    function _one(ExitLeaf memory l) internal pure returns (ExitLeaf[] memory list) {
        list = new ExitLeaf[](1);
        list[0] = l;
    }

    function _tree(ExitLeaf[] memory leaves) internal view returns (Tree memory) {
        return Trees.make(domain, tokens.length, leaves);
    }

    function _treeOf(uint64 epoch) internal view returns (Tree memory) {
        return _tree(abi.decode(_leavesOf[epoch], (ExitLeaf[])));
    }

    /// @dev The next header that an honest operator would sign over this root.
    function _header(Node memory root, uint64 count, bytes32[] memory chunks) internal view returns (Header memory h) {
        (h.version, h.domain, h.epoch) = (1, domain, epochs + 1);
        h.closeTimeUs = uint64(_now()) * 1_000_000;
        h.prevHeader = epochs == 0 ? bytes32(0) : sha256(headerOf[epochs]);
        h.journalSize = journalSize + ENTRIES;
        h.journalRoot = Journals.root(h.journalSize, Journals.HONEST);
        h.stateRoot = sha256("state");
        (h.exitRoot, h.exitSums) = (root.hash, root.sums);
        (h.inboxCount, h.inboxHash) = (count, rolling[count]);
        (h.marksHash, h.paramsHash, h.scenariosHash) = (sha256("marks"), sha256("params"), sha256("scenarios"));
        h.attestorsHash = Formats.attestors(vault.threshold(), _attestors());
        h.diffHash = Formats.diff(chunks);
        h.l1Number = uint64(vm.getBlockNumber()) - 1;
        h.l1Hash = blockhash(h.l1Number);
    }

    /// @dev An epoch over these leaves, its diff published first.
    function _close(ExitLeaf[] memory leaves, uint64 count) internal returns (uint64) {
        return _closeTree(_tree(leaves), count);
    }

    function _closeTree(Tree memory t, uint64 count) internal returns (uint64 epoch) {
        bytes memory chunk = abi.encode("diff", epochs + 1);
        vault.publishDiff(chunk);
        bytes32[] memory chunks = new bytes32[](1);
        chunks[0] = sha256(chunk);
        Header memory h = _header(t.root(), count, chunks);
        _post(h, chunks);
        _leavesOf[h.epoch] = abi.encode(t.leaves);
        return h.epoch;
    }

    /// @dev The arguments of postEpoch as an honest poster makes them.
    struct Posting {
        bytes header;
        bytes32[] chunks;
        bytes32[] consistency;
        bytes signature;
        bytes[] attestations;
    }

    function _posting(Header memory h, bytes32[] memory chunks) internal view returns (Posting memory p) {
        p.header = Formats.header(h);
        p.chunks = chunks;
        p.consistency = Journals.consistency(journalSize, h.journalSize, Journals.HONEST);
        p.signature = _signEpoch(OPERATOR_KEY, p.header);
        p.attestations = _attest(p.header);
    }

    function _send(Posting memory p) internal {
        vault.postEpoch(p.header, p.chunks, p.consistency, p.signature, p.attestations);
    }

    function _post(Header memory h, bytes32[] memory chunks) internal {
        Posting memory p = _posting(h, chunks);
        _send(p);
        _remember(h, p.header);
    }

    function _remember(Header memory h, bytes memory encoded) internal {
        headerOf[h.epoch] = encoded;
        consumedOf[h.epoch] = h.inboxCount;
        (epochs, journalSize, consumed) = (h.epoch, h.journalSize, h.inboxCount);
    }

    // -- signatures

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _signEpoch(uint256 key, bytes memory header) internal view returns (bytes memory) {
        return _sign(key, Formats.postEpochDigest(separator, sha256(header)));
    }

    function _signCheckpoint(uint256 key, Checkpoint memory c) internal pure returns (bytes memory) {
        return _sign(key, Formats.checkpointDigest(DEPLOYMENT, c));
    }

    function _signVoucher(uint256 key, Voucher memory v) internal view returns (bytes memory) {
        return _sign(key, Formats.voucherDigest(separator, v));
    }

    /// @dev As many attestors as are needed.
    function _attest(bytes memory header) internal view returns (bytes[] memory) {
        return _attestBy(header, vault.threshold());
    }

    function _attestBy(bytes memory header, uint256 count) internal view returns (bytes[] memory list) {
        list = new bytes[](count);
        bytes32 digest = Formats.attestationDigest(separator, sha256(header));
        for (uint256 i = 0; i < count; ++i) list[i] = _sign(attestorKeys[i], digest);
    }

    /// @dev The operator's checkpoint over its journal, or over another one that differs at entry `fork`.
    function _checkpoint(uint64 size, uint64 fork) internal pure returns (Checkpoint memory c, bytes memory signature) {
        c = Checkpoint(size, Journals.root(size, fork));
        signature = _signCheckpoint(OPERATOR_KEY, c);
    }

    function _voucher(uint256 number, uint8 asset, uint128 cumulative) internal view returns (Voucher memory) {
        return Voucher(domain, _owner(number), asset, cumulative, uint64(_now()) + 600);
    }

    function _redeem(Voucher memory v, uint256 ownerKey) internal {
        (bytes memory a, bytes memory b) = (_signVoucher(ownerKey, v), _signVoucher(OPERATOR_KEY, v));
        vault.redeemVoucher(v, a, b);
    }

    // -- leaving

    /// @dev The arguments of claim and escape; tests change one and see it refused.
    struct Proof {
        bytes header;
        ExitLeaf leaf;
        bytes32[] siblings;
        uint128[] sums;
    }

    function _proof(uint64 epoch, uint32 index) internal view returns (Proof memory p) {
        Tree memory t = _treeOf(epoch);
        p.header = headerOf[epoch];
        p.leaf = t.find(index);
        (p.siblings, p.sums) = t.path(index);
    }

    function _claimWith(Proof memory p) internal {
        ExitLeaf memory l = p.leaf;
        vault.claim(p.header, l.index, l.owner, l.exits, l.withdrawAcks, p.siblings, p.sums);
    }

    function _escapeWith(Proof memory p) internal {
        ExitLeaf memory l = p.leaf;
        vault.escape(p.header, l.index, l.owner, l.exits, l.withdrawAcks, p.siblings, p.sums);
    }

    function _claim(uint64 epoch, uint32 index) internal {
        _claimWith(_proof(epoch, index));
    }

    function _escape(uint64 epoch, uint32 index) internal {
        _escapeWith(_proof(epoch, index));
    }

    function _passWindow() internal {
        _advance(WINDOW);
    }

    function _freeze() internal {
        uint64 from = vault.freezeAt();
        if (_now() < from) _advance(from - _now());
        vault.freeze();
    }

    // -- vetoes

    function _veto(uint64 epoch, uint256 attestor) internal {
        address by = _attestor(attestor);
        bytes32 hash = sha256(headerOf[epoch]);
        vm.deal(by, by.balance + VETO_BOND);
        vm.prank(by); // for the very next call, even one of a precompile: all hashes come before
        vault.veto{value: VETO_BOND}(epoch, hash, bytes32("evidence"));
    }

    function _second(uint64 epoch, uint256 attestor) internal {
        bytes32 hash = sha256(headerOf[epoch]);
        vm.prank(_attestor(attestor));
        vault.second(epoch, hash);
    }
}
