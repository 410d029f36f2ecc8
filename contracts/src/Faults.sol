// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Escape} from "./Escape.sol";
import {Evidence, InvalidCheckpointSignature, MalformedProof, NoFault, NotIncluded} from "./Evidence.sol";
import {Hashing} from "./Hashing.sol";
import {Checkpoint, Disagreement, FalseSum} from "./Structs.sol";

/// @title Faults of the operator that anyone can prove: each freezes the vault and slashes the bond
/// @dev What is a fault is decided in the library Evidence, whose functions bear the names and parameters of
/// those here and revert if there is none; what follows from it is decided here. Where a guard against
/// reentrancy is missing, no foreign code is called.
abstract contract Faults is Escape {
    uint8 private constant FREEZE_FAULT = 3;
    uint8 private constant FAULT_EQUIVOCATION = 1;
    uint8 private constant FAULT_HEADER_CONFLICT = 2;
    uint8 private constant FAULT_DOUBLE_HEADER = 3;
    uint8 private constant FAULT_FALSE_SUM = 4;
    uint8 private constant FAULT_RECEIPT_VIOLATION = 5;

    struct Challenge {
        address by;
        uint64 deadline; // seconds UTC
        bool open;
        uint64 index;
        bytes32 leaf;
    }

    /// @notice Whether a fault was proven.
    bool public faultProven;
    uint64 private _challengeCount;
    mapping(uint64 id => Challenge) private _challenges;

    event FaultProven(uint8 indexed kind, address indexed reporter);
    event ReceiptChallenged(uint64 indexed id, address indexed by, uint64 index, bytes32 leaf, uint64 deadline);
    event ReceiptAnswered(uint64 indexed id, uint64 epoch);

    /// @notice No such challenge is open.
    error NoChallenge(uint64 id);
    /// @notice The operator may answer until then (seconds UTC).
    error AnswerNotDue(uint64 deadline);
    /// @notice The bond stays for a while after a freeze, and for good after a fault.
    error BondLocked();

    /// @notice Two signed checkpoints that cannot be of one journal.
    function proveEquivocation(
        Checkpoint calldata,
        bytes calldata,
        Checkpoint calldata,
        bytes calldata,
        Disagreement calldata
    ) external nonReentrant {
        _examine(Evidence.proveEquivocation.selector);
        _convict(FAULT_EQUIVOCATION);
    }

    /// @notice A header posted here whose journal disagrees with a signed checkpoint.
    function proveHeaderConflict(bytes calldata header, Checkpoint calldata, bytes calldata, Disagreement calldata)
        external
        nonReentrant
    {
        _requirePosted(header);
        _examine(Evidence.proveHeaderConflict.selector);
        _convict(FAULT_HEADER_CONFLICT);
    }

    /// @notice Two different headers that the operator signed for one epoch of this vault.
    function proveDoubleHeader(bytes calldata, bytes calldata, bytes calldata, bytes calldata) external nonReentrant {
        _examine(Evidence.proveDoubleHeader.selector);
        _convict(FAULT_DOUBLE_HEADER);
    }

    /// @notice A node of a posted header's exit tree that claims other sums than its children have.
    function proveFalseSum(bytes calldata header, FalseSum calldata) external nonReentrant {
        _requirePosted(header);
        _examine(Evidence.proveFalseSum.selector);
        _convict(FAULT_FALSE_SUM);
    }

    /// @notice Asks the operator to show that a posted journal holds an entry it gave a receipt for. The bond
    /// comes back if it cannot in time, and is the treasury's if it can.
    /// @param index the entry's place in the journal, `leaf` its leaf hash; the last parameter is its RFC 9162 path
    /// in the signed checkpoint.
    function challengeReceipt(
        Checkpoint calldata,
        bytes calldata,
        uint64 index,
        bytes32 leaf,
        bytes32[] calldata
    ) external payable returns (uint64 id) {
        if (frozen()) revert VaultFrozen();
        _takeVetoBond();
        _examine(Evidence.challengeReceipt.selector);
        id = ++_challengeCount;
        uint64 deadline = uint64(block.timestamp) + deadlineSeconds;
        _challenges[id] = Challenge(msg.sender, deadline, true, index, leaf);
        emit ReceiptChallenged(id, msg.sender, index, leaf, deadline);
    }

    /// @notice Shows that a posted header's journal holds the challenged entry. Anyone may.
    function answerReceipt(uint64 id, bytes calldata header, bytes32[] calldata path) external {
        Challenge storage c = _requireChallenge(id);
        uint64 epoch = _requirePosted(header);
        if (!Evidence.includedInHeader(c.leaf, c.index, header, path)) revert NotIncluded(c.index);
        c.open = false;
        _creditEther(treasury, vetoBondWei);
        emit ReceiptAnswered(id, epoch);
    }

    /// @notice Ends a challenge that was not answered in time: a fault, unless the vault froze before.
    function proveUnanswered(uint64 id) external {
        Challenge storage c = _requireChallenge(id);
        c.open = false;
        _creditEther(c.by, vetoBondWei);
        if (frozen()) return; // the operator can no longer post what would answer it
        if (block.timestamp < c.deadline) revert AnswerNotDue(c.deadline);
        _convict(FAULT_RECEIPT_VIOLATION);
    }

    /// @notice Who challenged, until when it must be answered, whether it is open, the entry's index and leaf hash.
    function challengeOf(uint64 id) external view returns (Challenge memory) {
        return _challenges[id];
    }

    /// @notice Frees the operator's bond, a deadline after a freeze that no fault caused or followed.
    function withdrawBond() external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        if (!frozen() || faultProven || block.timestamp < frozenAt() + deadlineSeconds) revert BondLocked();
        _releaseBond(msg.sender);
    }

    function _convict(uint8 kind) private {
        faultProven = true;
        emit FaultProven(kind, msg.sender);
        if (!frozen()) _freeze(FREEZE_FAULT);
        _slash(msg.sender);
    }

    function _requireChallenge(uint64 id) private view returns (Challenge storage c) {
        c = _challenges[id];
        if (!c.open) revert NoChallenge(id);
    }
}
