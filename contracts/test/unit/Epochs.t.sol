// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bonds} from "../../src/Bonds.sol";
import {Deployment} from "../../src/Deployment.sol";
import {Epochs} from "../../src/Epochs.sol";
import {
    CloseTimeOutOfRange,
    DiffHashMismatch,
    DiffNotPublished,
    InboxCountOutOfRange,
    InboxHashMismatch,
    Insolvent,
    InvalidAttestation,
    InvalidOperatorSignature,
    JournalInconsistent,
    L1BlockMismatch,
    StaleHeader,
    TooFewAttestations,
    WrongAttestors,
    WrongDomain,
    WrongEpoch,
    WrongLanes
} from "../../src/Evidence.sol";
import {Hashing} from "../../src/Hashing.sol";
import {Inbox} from "../../src/Inbox.sol";
import {Config, Header, Tip} from "../../src/Structs.sol";
import {ContractWallet} from "../../src/test/ContractWallet.sol";
import {World} from "../base/World.sol";
import {Formats} from "../base/Formats.sol";
import {Node, Tree, Trees} from "../base/Trees.sol";

/// @title Headers: what follows what, and what is refused
contract EpochsTest is World {
    using Trees for Tree;

    uint128 private constant AMOUNT = 5_000_000;

    function setUp() public {
        _build(2, 3, 2);
        _deposit(_owner(1), 0, AMOUNT);
        _advance(12);
    }

    /// A posted header is found by its epoch, and is what the next one must follow.
    function test_posting() public {
        Header memory h = _next();
        _post(h, _none());
        bytes memory encoded = headerOf[1];
        _eq(vault.epochCount(), 1, "epochCount");
        _eq(vault.headerHash(1), sha256(encoded), "headerHash");
        _eq(vault.lastHeaderHash(), sha256(encoded), "lastHeaderHash");
        _eq(vault.headerTime(1), _now(), "headerTime");
        _eq(vault.headerBlock(1), vm.getBlockNumber(), "headerBlock");
        _eq(vault.consumedCount(), 1, "consumedCount");
        Tip memory tip = vault.tip();
        _eq(tip.epoch, 1, "tip.epoch");
        _eq(tip.closeTimeUs, h.closeTimeUs, "tip.closeTimeUs");
        _eq(tip.journalSize, h.journalSize, "tip.journalSize");
        _eq(tip.inboxCount, 1, "tip.inboxCount");
        _eq(tip.journalRoot, h.journalRoot, "tip.journalRoot");
        _eq(tip.headerHash, sha256(encoded), "tip.headerHash");
        _eq(vault.finalAt(1), _now() + WINDOW, "finalAt");
        _eq(vault.finalisedEpoch(), 0, "not yet");
        _passWindow();
        _eq(vault.finalisedEpoch(), 1, "now");
        _eq(vault.finalAt(2), 0, "no such epoch");
    }

    /// Anyone submits; the signatures count.
    function test_anyoneSubmits() public {
        Posting memory p = _posting(_next(), _none());
        vm.prank(_owner(9));
        _send(p);
        _eq(vault.epochCount(), 1, "posted");
    }

    /// Bytes that are no header of this version.
    function test_malformedHeaders() public {
        Posting memory p = _posting(_next(), _none());
        bytes memory honest = p.header;
        bytes[5] memory wrong;
        wrong[0] = bytes.concat(honest, hex"00");
        wrong[1] = new bytes(490);
        wrong[2] = _with(honest, 0, 4);
        wrong[3] = _with(honest, 1, 2);
        wrong[4] = _with(honest, 34, 3);
        for (uint256 i = 0; i < wrong.length; ++i) {
            p.header = wrong[i];
            _refuse(abi.encodeWithSelector(Hashing.MalformedHeader.selector));
            _send(p);
        }
    }

    /// Of another vault, of another number of assets, not the next one, of another set of attestors.
    function test_headersThatDoNotFollow() public {
        Header memory h = _next();
        h.domain = keccak256("another");
        _refused(h, abi.encodeWithSelector(WrongDomain.selector, h.domain, domain));
        h = _next();
        h.exitSums = new uint128[](3);
        _refused(h, abi.encodeWithSelector(WrongLanes.selector, 3, 2));
        h = _next();
        h.prevHeader = keccak256("another");
        _refused(h, abi.encodeWithSelector(StaleHeader.selector, h.prevHeader, bytes32(0)));
        h = _next();
        h.epoch = 2;
        _refused(h, abi.encodeWithSelector(WrongEpoch.selector, 2, 1));
        h = _next();
        h.attestorsHash = 0;
        _refused(h, abi.encodeWithSelector(WrongAttestors.selector, bytes32(0), vault.attestorsHash()));
    }

    /// The same header again, and another one for the same epoch: compare-and-swap.
    function test_aHeaderIsPostedOnce() public {
        Header memory h = _next();
        Posting memory first = _posting(h, _none());
        h.stateRoot = keccak256("another");
        Posting memory other = _posting(h, _none());
        _send(first);
        _refuse(StaleHeader.selector);
        _send(first);
        _refuse(StaleHeader.selector);
        _send(other);
    }

    /// Close times move forward, and not ahead of the block by more than the slack.
    function test_closeTimes() public {
        Header memory h = _next();
        h.closeTimeUs = uint64(_now() + 60) * 1_000_000 + 1;
        _refused(h, abi.encodeWithSelector(CloseTimeOutOfRange.selector, h.closeTimeUs, 0, h.closeTimeUs - 1));
        h.closeTimeUs -= 1;
        _post(h, _none());
        uint64 last = h.closeTimeUs;
        _advance(12);
        h = _next();
        h.closeTimeUs = last - 1;
        _refused(h, abi.encodeWithSelector(CloseTimeOutOfRange.selector, last - 1, last, uint64(_now() + 60) * 1_000_000));
        h.closeTimeUs = last;
        _post(h, _none());
    }

    /// The journal of each header extends the last one's: a rewritten entry, a shorter journal, a wrong proof.
    function test_historyCannotBeRewritten() public {
        _post(_next(), _none());
        _advance(12);
        Header memory h = _next();
        Posting memory p = _posting(h, _none());
        p.consistency[0] = ~p.consistency[0];
        _refuse(abi.encodeWithSelector(JournalInconsistent.selector, h.journalSize, h.journalSize - ENTRIES));
        _send(p);
        p.consistency = _none();
        _refuse(JournalInconsistent.selector);
        _send(p);
        h.journalRoot = keccak256("rewritten");
        _refused(h, abi.encodeWithSelector(JournalInconsistent.selector, h.journalSize, h.journalSize - ENTRIES));
        h.journalSize = 1;
        p = _posting(_next(), _none());
        p.header = Formats.header(h);
        _refuse(JournalInconsistent.selector);
        _send(p);
    }

    /// An epoch in which nothing was journalled has the same journal and an empty proof.
    function test_equalJournals() public {
        _post(_next(), _none());
        Header memory last = _next();
        (last.journalSize, last.journalRoot) = (vault.tip().journalSize, vault.tip().journalRoot);
        _advance(12);
        _post(last, _none());
        _eq(vault.epochCount(), 2, "posted");
    }

    /// Messages are consumed in order, none twice, and only those that are there.
    function test_inbox() public {
        Header memory h = _next();
        h.inboxCount = 2;
        _refused(h, abi.encodeWithSelector(InboxCountOutOfRange.selector, 2, 0, 1));
        h = _next();
        h.inboxHash = keccak256("another");
        _refused(h, abi.encodeWithSelector(InboxHashMismatch.selector, h.inboxHash, rolling[1]));
        _post(_next(), _none());
        _advance(12);
        h = _next();
        (h.inboxCount, h.inboxHash) = (0, 0);
        _refused(h, abi.encodeWithSelector(InboxCountOutOfRange.selector, 0, 1, 1));
    }

    /// The diff is published first and in the order that the header names.
    function test_diff() public {
        bytes32[] memory chunks = new bytes32[](2);
        (chunks[0], chunks[1]) = (sha256("one"), sha256("two"));
        Header memory h = _next();
        h.diffHash = Formats.diff(chunks);
        vault.publishDiff("one");
        _eq(vault.diffBlock(chunks[0]), vm.getBlockNumber(), "published");
        Posting memory p = _posting(h, chunks);
        _refuse(abi.encodeWithSelector(DiffNotPublished.selector, chunks[1]));
        _send(p);
        vault.publishDiff("two");
        (chunks[0], chunks[1]) = (chunks[1], chunks[0]);
        _refuse(DiffHashMismatch.selector);
        _send(p);
        (chunks[0], chunks[1]) = (chunks[1], chunks[0]);
        _send(p);
    }

    /// Publishing again keeps the first block.
    function test_publishingAgain() public {
        vault.publishDiff("one");
        uint256 first = vm.getBlockNumber();
        _advance(12);
        vault.publishDiff("one");
        _eq(vault.diffBlock(sha256("one")), first, "the first block");
    }

    /// Every blob of the transaction counts as published; without one the call is refused.
    function test_blobs() public {
        _refuse(abi.encodeWithSelector(Epochs.NoBlobs.selector));
        vault.publishBlobs();
        bytes32[] memory blobs = new bytes32[](2);
        (blobs[0], blobs[1]) = (bytes32(uint256(1) << 248 | 7), bytes32(uint256(1) << 248 | 8));
        vm.blobhashes(blobs);
        vault.publishBlobs();
        uint256 first = vm.getBlockNumber();
        _advance(12);
        vault.publishBlobs();
        for (uint256 i = 0; i < 2; ++i) _eq(vault.diffBlock(blobs[i]), first, "published, once");
        Header memory h = _next();
        h.diffHash = Formats.diff(blobs);
        _post(h, blobs);
        _eq(vault.epochCount(), 1, "a header over blobs");
    }

    /// The block that a header names is past and this chain's; one too old to be known is taken as it is.
    function test_l1Block() public {
        Header memory h = _next();
        h.l1Number = uint64(vm.getBlockNumber());
        _refused(h, abi.encodeWithSelector(L1BlockMismatch.selector, h.l1Number, h.l1Hash));
        h.l1Number = 0;
        _refused(h, abi.encodeWithSelector(L1BlockMismatch.selector, 0, h.l1Hash));
        h = _next();
        h.l1Hash = keccak256("another");
        _refused(h, abi.encodeWithSelector(L1BlockMismatch.selector, h.l1Number, h.l1Hash));
        h.l1Number -= 300;
        _post(h, _none());
    }

    /// A header promises no more than the deposits it consumed, lane by lane.
    function test_solvency() public {
        _deposit(_owner(2), 1, AMOUNT);
        Header memory h = _next();
        h.exitSums[0] = AMOUNT + 1;
        _refused(h, abi.encodeWithSelector(Insolvent.selector, 0, AMOUNT + 1, AMOUNT));
        h = _next();
        h.exitSums[1] = 1; // the second deposit is not consumed
        _refused(h, abi.encodeWithSelector(Insolvent.selector, 1, 1, 0));
        h.exitSums[1] = 0;
        h.exitSums[0] = AMOUNT;
        _post(h, _none());
    }

    /// The operator's key, over this header, for this vault.
    function test_operatorSignature() public {
        Posting memory p = _posting(_next(), _none());
        bytes memory honest = p.signature;
        p.signature = _signEpoch(STRANGER_KEY, p.header);
        _refuse(abi.encodeWithSelector(InvalidOperatorSignature.selector));
        _send(p);
        p.signature = _sign(OPERATOR_KEY, Formats.postEpochDigest(Formats.vaultDomain(1, address(vault)), sha256(p.header)));
        _refuse(abi.encodeWithSelector(InvalidOperatorSignature.selector));
        _send(p);
        p.signature = new bytes(64);
        _refuse(abi.encodeWithSelector(InvalidOperatorSignature.selector));
        _send(p);
        p.signature = honest;
        _send(p);
    }

    /// A contract wallet can be the operator.
    function test_contractOperator() public {
        Config memory c = _config(3, 2);
        c.operator = address(new ContractWallet(vm.addr(OPERATOR_KEY)));
        _open(c);
        _advance(12);
        _post(_header(_tree(_one(_leaf(1, _owner(1), 0, 0))).root(), 0, _none()), _none());
        _eq(vault.epochCount(), 1, "posted");
    }

    /// At least k attestors, each once, ascending, over this header.
    function test_attestations() public {
        Posting memory p = _posting(_next(), _none());
        bytes[] memory honest = p.attestations;
        p.attestations = _attestBy(p.header, 1);
        _refuse(abi.encodeWithSelector(TooFewAttestations.selector, 1, 2));
        _send(p);
        p.attestations = honest;
        bytes memory first = honest[0];
        bytes memory other = honest[1];
        honest[1] = first;
        _refuse(abi.encodeWithSelector(InvalidAttestation.selector, 1, _attestor(0)));
        _send(p);
        honest[0] = other;
        _refuse(abi.encodeWithSelector(InvalidAttestation.selector, 1, _attestor(0)));
        _send(p);
        (honest[0], honest[1]) = (first, _sign(STRANGER_KEY, Formats.attestationDigest(separator, sha256(p.header))));
        _refuse(abi.encodeWithSelector(InvalidAttestation.selector, 1, vm.addr(STRANGER_KEY)));
        _send(p);
        honest[1] = _signEpoch(attestorKeys[1], p.header); // the operator's message is another one
        _refuse(InvalidAttestation.selector);
        _send(p);
        honest[1] = new bytes(65);
        _refuse(abi.encodeWithSelector(InvalidAttestation.selector, 1, address(0)));
        _send(p);
        p.attestations = _attestBy(p.header, 3); // more than needed
        _send(p);
    }

    /// No header without the operator's bond.
    function test_bondIsNeeded() public {
        Config memory c = _config(3, 2);
        c.operatorBondWei = 0;
        _open(c);
        _advance(12);
        _post(_header(_tree(_one(_leaf(1, _owner(1), 0, 0))).root(), 0, _none()), _none());
        c.operatorBondWei = OPERATOR_BOND;
        vault = _deploy(c);
        _refuse(abi.encodeWithSelector(Bonds.BondTooLow.selector, 0, OPERATOR_BOND));
        vault.postEpoch("", new bytes32[](0), new bytes32[](0), "", new bytes[](0));
    }

    /// The operator names its successor and the keys of its checkpoints, and nobody else does.
    function test_rotation() public {
        address next = vm.addr(STRANGER_KEY);
        _refuse(abi.encodeWithSelector(Epochs.NotOperator.selector, address(this)));
        vault.rotateOperator(next);
        _refuse(abi.encodeWithSelector(Epochs.NotOperator.selector, address(this)));
        vault.nameSigner(next);
        vm.startPrank(operator);
        _refuse(abi.encodeWithSelector(Deployment.InvalidConfiguration.selector, "operator"));
        vault.rotateOperator(address(0));
        vault.nameSigner(_owner(9));
        vault.rotateOperator(next);
        _refuse(abi.encodeWithSelector(Epochs.NotOperator.selector, operator));
        vault.rotateOperator(operator);
        vm.stopPrank();
        _eq(vault.operator(), next, "the new one");
        _true(vault.isSigner(operator) && vault.isSigner(next) && vault.isSigner(_owner(9)), "all of them bind");
        Posting memory p = _posting(_next(), _none());
        _refuse(abi.encodeWithSelector(InvalidOperatorSignature.selector));
        _send(p);
        p.signature = _signEpoch(STRANGER_KEY, p.header);
        _send(p);
    }

    /// After a freeze no header comes.
    function test_frozen() public {
        Posting memory p = _posting(_next(), _none());
        _freeze();
        _refuse(abi.encodeWithSelector(Inbox.VaultFrozen.selector));
        _send(p);
    }

    function _next() private view returns (Header memory) {
        return _header(_tree(_one(_leaf(1, _owner(1), AMOUNT, 0))).root(), 1, _none());
    }

    function _none() private pure returns (bytes32[] memory) {
        return new bytes32[](0);
    }

    function _refused(Header memory h, bytes memory error_) private {
        Posting memory p = _posting(h, _none());
        _refuse(error_);
        _send(p);
    }

    function _with(bytes memory data, uint256 at, uint8 value) private pure returns (bytes memory copy) {
        copy = bytes.concat(data);
        copy[at] = bytes1(value);
    }
}
