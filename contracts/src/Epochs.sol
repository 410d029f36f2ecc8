// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Attestors} from "./Attestors.sol";
import {Bonds} from "./Bonds.sol";
import {Evidence} from "./Evidence.sol";
import {Hashing} from "./Hashing.sol";
import {Inbox} from "./Inbox.sol";
import {Tip} from "./Structs.sol";

/// @title The chain of headers that operator and attestors signed
/// @dev A header is admitted only on top of the last one (compare-and-swap on its hash), over a journal that
/// extends the last one's, consumes inbox messages this contract knows, rests on data that was published,
/// and promises no more than was deposited. Whether its figures follow from the journal is what the
/// attestors sign for: see README.md.
abstract contract Epochs is Inbox, Attestors, Bonds {
    struct Last {
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
    Last private _last;
    bytes32 private _journalRoot; // of the last posted header
    mapping(address signer => bool) private _isSigner;
    mapping(uint64 epoch => Posted) private _posted;
    mapping(bytes32 chunkHash => uint256 blockNumber) private _published;

    event DiffPublished(bytes32 indexed chunkHash, bytes chunk);
    event BlobPublished(bytes32 indexed versionedHash);
    event EpochPosted(uint64 indexed epoch, bytes32 indexed headerHash, bytes header);
    event OperatorRotated(address indexed previous, address indexed current);
    event CheckpointSignerNamed(address indexed signer);

    /// @notice The transaction carries no blob.
    error NoBlobs();
    /// @notice No such header was posted at this epoch of this vault.
    error UnknownHeader(bytes32 headerHash);
    /// @notice Only the operator may name the next operator.
    error NotOperator(address sender);

    constructor(address operator_) {
        if (operator_ == address(0)) revert InvalidConfiguration("operator");
        _install(operator_);
    }

    /// @notice Makes a part of an epoch's diff available in an event. Publishing again changes nothing.
    function publishDiff(bytes calldata chunk) external {
        bytes32 chunkHash = sha256(chunk);
        if (_published[chunkHash] != 0) return;
        _published[chunkHash] = block.number;
        emit DiffPublished(chunkHash, chunk);
    }

    /// @notice Takes note that the blobs of this transaction were published. Anyone who archived them can
    /// show that they are the ones, until the same leaves are published again in calldata.
    function publishBlobs() external {
        bytes32 hash = blobhash(0);
        if (hash == 0) revert NoBlobs();
        for (uint256 i = 1; hash != 0; ++i) {
            if (_published[hash] == 0) {
                _published[hash] = block.number;
                emit BlobPublished(hash);
            }
            hash = blobhash(i);
        }
    }

    /// @notice Appends a header. Anyone may submit what operator and attestors signed.
    /// @dev Evidence.postEpoch checks it. After the header come the SHA-256 hashes of the published chunks of this
    /// epoch's diff (of a blob: its versioned hash) in order; the RFC 9162 proof from the last posted header's
    /// journal to this one's, empty for the first; the operator's signature over EIP-712
    /// PostEpoch(bytes32 header); and those of at least `threshold` attestors over EIP-712
    /// Attestation(bytes32 header), ascending by signer.
    function postEpoch(
        bytes calldata header,
        bytes32[] calldata, /* chunkHashes */
        bytes32[] calldata, /* consistency */
        bytes calldata, /* operatorSignature */
        bytes[] calldata /* attestations */
    ) external nonReentrant {
        if (frozen()) revert VaultFrozen();
        _requireBond();
        _examine(Evidence.postEpoch.selector);
        bytes32 headerHash_ = sha256(header);
        (uint64 epoch, uint64 consumed) = (Hashing.headerEpoch(header), Hashing.headerInboxCount(header));
        (uint64 size, bytes32 root) = Hashing.headerJournal(header);
        _last = Last(epoch, Hashing.headerCloseTimeUs(header), size, consumed);
        _journalRoot = root;
        _posted[epoch] = Posted(headerHash_, uint64(block.timestamp), consumed, uint64(block.number));
        emit EpochPosted(epoch, headerHash_, header);
    }

    /// @notice Hands the operator's role over. There is no other power of administration.
    function rotateOperator(address newOperator) external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (newOperator == address(0)) revert InvalidConfiguration("operator");
        _install(newOperator);
    }

    /// @notice Names a key whose checkpoints and receipts bind the operator: needed when the operator is a
    /// contract, which cannot sign every commit. What a key signed binds for good.
    function nameSigner(address signer) external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        _isSigner[signer] = true;
        emit CheckpointSignerNamed(signer);
    }

    /// @notice Whether this key's checkpoints bind the operator: every operator's ever, and those named.
    function isSigner(address signer) public view returns (bool) {
        return _isSigner[signer];
    }

    /// @notice Number of the last posted epoch; zero before the first.
    function epochCount() public view returns (uint64) {
        return _last.epoch;
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

    function lastHeaderHash() external view returns (bytes32) {
        return _posted[_last.epoch].hash;
    }

    /// @notice What the next header must follow.
    function tip() external view returns (Tip memory) {
        Last memory last = _last;
        bytes32 hash = _posted[last.epoch].hash;
        return Tip(last.epoch, last.closeTimeUs, last.journalSize, last.inboxCount, _journalRoot, hash);
    }

    /// @notice Inbox messages consumed by the last posted header.
    function consumedCount() public view returns (uint64) {
        return _last.inboxCount;
    }

    /// @notice Number of the block in which this chunk was published, where its event is; zero if it was not.
    function diffBlock(bytes32 chunkHash) external view returns (uint256) {
        return _published[chunkHash];
    }

    /// @dev Freezes the vault for a reason of Escape's.
    function _freeze(uint8 reason) internal virtual;

    /// @dev The last epoch up to `high` whose challenge window is over now; zero if there is none. By
    /// bisection, for an operator could post more headers in one window than a walk has gas for.
    function _lastOver(uint64 high) internal view returns (uint64 low) {
        while (low < high) {
            uint64 middle = high - (high - low) / 2;
            if (_windowOver(middle)) low = middle;
            else high = middle - 1;
        }
    }

    /// @dev Epoch of a posted header, from its bytes.
    function _requirePosted(bytes calldata header) internal view returns (uint64 epoch) {
        bytes32 hash = sha256(header);
        // A header that was posted is well-formed; bytes of another shape cannot have its hash.
        epoch = header.length < 43 ? 0 : Hashing.headerEpoch(header);
        if (epoch == 0 || headerHash(epoch) != hash) revert UnknownHeader(hash);
    }

    function _windowOver(uint64 epoch) internal view returns (bool) {
        uint64 time = _posted[epoch].time;
        return time != 0 && time + challengeWindowSeconds <= block.timestamp;
    }

    function _inboxCountOf(uint64 epoch) internal view returns (uint64) {
        return _posted[epoch].inboxCount;
    }

    function _install(address operator_) private {
        emit OperatorRotated(operator, operator_);
        operator = operator_;
        _isSigner[operator_] = true;
    }
}
