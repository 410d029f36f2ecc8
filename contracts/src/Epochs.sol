// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {Hashing} from "./Hashing.sol";
import {Inbox} from "./Inbox.sol";
import {Header} from "./Structs.sol";

/// @title The chain of headers the operator signed
/// @dev A header is admitted only on top of the last one (compare-and-swap on its hash), consumes inbox
/// messages this contract knows, rests on data that was published, and promises no more than was
/// deposited. Whether its figures follow from the journal is not checked here: see README.md.
abstract contract Epochs is Inbox, EIP712 {
    bytes32 private constant POST_EPOCH_TYPEHASH = keccak256("PostEpoch(bytes32 header)");

    /// @dev Clocks differ; a close time may be ahead of the block's by this much.
    uint64 private constant CLOSE_TIME_SLACK_SECONDS = 60;

    struct Tip {
        uint64 epoch;
        uint64 closeTimeUs;
        uint64 journalSize;
        uint64 inboxCount;
    }

    struct Posted {
        bytes32 hash;
        uint64 time; // seconds UTC
        uint64 inboxCount;
        uint64 blockNumber;
    }

    /// @notice Signer of epochs, an account or an ERC-1271 wallet.
    address public operator;
    Tip private _tip;
    mapping(uint64 epoch => Posted) private _posted;
    mapping(bytes32 chunkHash => uint256 blockNumber) private _published;

    event DiffPublished(bytes32 indexed chunkHash, bytes chunk);
    event EpochPosted(uint64 indexed epoch, bytes32 indexed headerHash, bytes header);
    event OperatorRotated(address indexed previous, address indexed current);

    /// @notice The header belongs to another chain, vault or tree.
    error WrongDomain(bytes32 domain, bytes32 expected);
    /// @notice The header has another number of lanes than the vault has assets.
    error WrongLanes(uint256 headerLanes, uint8 expected);
    /// @notice The header does not follow the last posted one: it was overtaken, or posted already.
    error StaleHeader(bytes32 prevHeader, bytes32 lastHeader);
    /// @notice Epochs are numbered 1, 2, 3, ...
    error WrongEpoch(uint64 epoch, uint64 expected);
    /// @notice The journal is append-only.
    error JournalShrank(uint64 size, uint64 previousSize);
    /// @notice The close time is before the previous one or ahead of the block.
    error CloseTimeOutOfRange(uint64 closeTimeUs, uint64 earliestUs, uint64 latestUs);
    /// @notice The header consumes fewer messages than the last one, or more than there are.
    error InboxCountOutOfRange(uint64 count, uint64 consumed, uint64 posted);
    /// @notice The header consumed other messages than this vault's.
    error InboxHashMismatch(bytes32 hash, bytes32 expected);
    /// @notice The diff hash does not cover these chunks in this order.
    error DiffHashMismatch(bytes32 hash, bytes32 expected);
    /// @notice Publish this chunk first.
    error DiffNotPublished(bytes32 chunkHash);
    /// @notice The L1 block is zero, not past, or not the one with this hash.
    error L1BlockMismatch(uint64 number, bytes32 hash);
    /// @notice The header promises more than the deposits it consumed.
    error Insolvent(uint8 asset, uint256 sum, uint256 available);
    /// @notice The signature is not the operator's.
    error InvalidOperatorSignature();
    /// @notice Only the operator may name the next operator.
    error NotOperator(address sender);

    constructor(address operator_) EIP712("Novate Vault", "1") {
        if (operator_ == address(0)) revert InvalidConfiguration("operator");
        operator = operator_;
        emit OperatorRotated(address(0), operator_);
    }

    /// @notice Makes a part of an epoch's diff available in an event. Publishing again changes nothing.
    function publishDiff(bytes calldata chunk) external {
        bytes32 chunkHash = sha256(chunk);
        if (_published[chunkHash] != 0) return;
        _published[chunkHash] = block.number;
        emit DiffPublished(chunkHash, chunk);
    }

    /// @notice Appends a header. Anyone may submit what the operator signed.
    /// @param chunkHashes SHA-256 of the published chunks of this epoch's diff, in order.
    /// @param signature the operator's over EIP-712 PostEpoch(bytes32 header).
    function postEpoch(bytes calldata header, bytes32[] calldata chunkHashes, bytes calldata signature)
        external
        nonReentrant
    {
        if (frozen()) revert VaultFrozen();
        Header memory h = Hashing.decodeHeader(header);
        bytes32 headerHash_ = sha256(header);
        _requireSuccessor(h);
        _requireInbox(h);
        _requireDiff(h.diffHash, chunkHashes);
        _requireL1Block(h.l1Number, h.l1Hash);
        _requireSolvent(h);
        _requireSigned(headerHash_, signature);
        _tip = Tip(h.epoch, h.closeTimeUs, h.journalSize, h.inboxCount);
        _posted[h.epoch] = Posted(headerHash_, uint64(block.timestamp), h.inboxCount, uint64(block.number));
        emit EpochPosted(h.epoch, headerHash_, header);
    }

    /// @notice Hands the operator's role over. There is no other power of administration.
    function rotateOperator(address newOperator) external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (newOperator == address(0)) revert InvalidConfiguration("operator");
        emit OperatorRotated(operator, newOperator);
        operator = newOperator;
    }

    /// @notice Number of the last posted epoch; zero before the first.
    function epochCount() public view returns (uint64) {
        return _tip.epoch;
    }

    /// @notice Hash of the header of this epoch; zero if there is none.
    function headerHash(uint64 epoch) public view returns (bytes32) {
        return _posted[epoch].hash;
    }

    /// @notice Block time (seconds UTC) at which this epoch was posted; zero if there is none.
    function headerTime(uint64 epoch) public view returns (uint64) {
        return _posted[epoch].time;
    }

    /// @notice Number of the block in which this epoch was posted, where its event is; zero if there is none.
    function headerBlock(uint64 epoch) external view returns (uint64) {
        return _posted[epoch].blockNumber;
    }

    function lastHeaderHash() public view returns (bytes32) {
        return _posted[_tip.epoch].hash;
    }

    /// @notice Inbox messages consumed by the last posted header.
    function consumedCount() public view returns (uint64) {
        return _tip.inboxCount;
    }

    /// @notice Number of the block in which this chunk was published, where its event is; zero if it was not.
    function diffBlock(bytes32 chunkHash) external view returns (uint256) {
        return _published[chunkHash];
    }

    /// @notice The last epoch whose challenge window is over now; zero if there is none.
    function finalisedEpoch() public view returns (uint64 low) {
        uint64 high = _tip.epoch;
        // By bisection, for an operator could post more headers in one window than a walk has gas for.
        while (low < high) {
            uint64 middle = high - (high - low) / 2;
            if (_windowOver(middle)) low = middle;
            else high = middle - 1;
        }
    }

    function _windowOver(uint64 epoch) internal view returns (bool) {
        uint64 time = _posted[epoch].time;
        return time != 0 && time + challengeWindowSeconds <= block.timestamp;
    }

    function _inboxCountOf(uint64 epoch) internal view returns (uint64) {
        return _posted[epoch].inboxCount;
    }

    function _requireSuccessor(Header memory h) private view {
        Tip memory tip = _tip;
        if (h.domain != domain) revert WrongDomain(h.domain, domain);
        if (h.exitSums.length != lanes) revert WrongLanes(h.exitSums.length, lanes);
        if (h.prevHeader != lastHeaderHash()) revert StaleHeader(h.prevHeader, lastHeaderHash());
        if (h.epoch != tip.epoch + 1) revert WrongEpoch(h.epoch, tip.epoch + 1);
        if (h.journalSize < tip.journalSize) revert JournalShrank(h.journalSize, tip.journalSize);
        uint64 latestUs = (uint64(block.timestamp) + CLOSE_TIME_SLACK_SECONDS) * 1_000_000;
        if (h.closeTimeUs < tip.closeTimeUs || h.closeTimeUs > latestUs) {
            revert CloseTimeOutOfRange(h.closeTimeUs, tip.closeTimeUs, latestUs);
        }
    }

    function _requireInbox(Header memory h) private view {
        if (h.inboxCount < consumedCount() || h.inboxCount > inboxCount()) {
            revert InboxCountOutOfRange(h.inboxCount, consumedCount(), inboxCount());
        }
        bytes32 expected = inboxHash(h.inboxCount);
        if (h.inboxHash != expected) revert InboxHashMismatch(h.inboxHash, expected);
    }

    function _requireDiff(bytes32 diffHash, bytes32[] calldata chunkHashes) private view {
        bytes32 expected = Hashing.diff(chunkHashes);
        if (diffHash != expected) revert DiffHashMismatch(diffHash, expected);
        for (uint256 i = 0; i < chunkHashes.length; ++i) {
            if (_published[chunkHashes[i]] == 0) revert DiffNotPublished(chunkHashes[i]);
        }
    }

    /// @dev The chain forgets hashes after 256 blocks; an older one is taken as it is.
    function _requireL1Block(uint64 number, bytes32 hash) private view {
        if (number == 0 || number >= block.number) revert L1BlockMismatch(number, hash);
        bytes32 known = blockhash(number);
        if (known != 0 && known != hash) revert L1BlockMismatch(number, hash);
    }

    /// @dev sum <= holdings - unconsumed deposits + claimed. Since holdings + claimed is what was ever
    /// deposited, the right side is what was deposited by the messages that the header consumed.
    function _requireSolvent(Header memory h) private view {
        for (uint8 a = 0; a < lanes; ++a) {
            uint256 available = _totalAt(h.inboxCount, a);
            if (h.exitSums[a] > available) revert Insolvent(a, h.exitSums[a], available);
        }
    }

    function _requireSigned(bytes32 headerHash_, bytes calldata signature) private view {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(POST_EPOCH_TYPEHASH, headerHash_)));
        if (!SignatureChecker.isValidSignatureNowCalldata(operator, digest, signature)) {
            revert InvalidOperatorSignature();
        }
    }
}
