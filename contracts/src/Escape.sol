// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Claims} from "./Claims.sol";
import {Hashing} from "./Hashing.sol";
import {ExitLeaf, InboxMessage} from "./Structs.sol";

/// @title Leaving without the operator: freeze, escape, refund
/// @dev A freeze is for good and fixes one escape header, the last whose window was over without a standing
/// veto. Its exits and the deposits it did not consume add up to no more than the vault holds, so there is no race.
abstract contract Escape is Claims {
    uint8 internal constant FREEZE_DEADLINE = 1;

    mapping(uint64 index => bool) private _refunded;

    event Frozen(uint64 indexed epoch, bytes32 indexed headerHash, uint8 reason);
    event Escaped(address indexed owner, uint8 indexed asset, uint128 amount, uint128 cumulative);
    event Refunded(uint64 indexed index, address indexed owner, uint8 indexed asset, uint128 amount);

    /// @notice The operator is not overdue before `freezeAt` (seconds UTC).
    error DeadlineNotPassed(uint64 freezeAt);
    /// @notice This is possible only after a freeze.
    error NotFrozen();
    /// @notice Escapes use the one header that the freeze fixed.
    error NotEscapeHeader(bytes32 headerHash, bytes32 escapeHeader);
    /// @notice This owner has escaped already.
    error AlreadyEscaped(address owner);
    /// @notice The escape header consumed this deposit: it is part of its owner's exit.
    error DepositConsumed(uint64 index, uint64 inboxCount);
    /// @notice The fields are not those of the deposit with this index.
    error WrongMessage(uint64 index);
    /// @notice This deposit was refunded already.
    error AlreadyRefunded(uint64 index);

    /// @notice Freezes the vault when the operator is overdue. Anyone may, and nobody can undo it.
    function freeze() external nonReentrant {
        if (frozen()) revert VaultFrozen();
        uint64 from = freezeAt();
        if (block.timestamp < from) revert DeadlineNotPassed(from);
        _freeze(FREEZE_DEADLINE);
    }

    /// @notice Pays the leaf's owner, whoever submits, exit + withdraw_ack - claimed in every asset, once.
    /// @param header the bytes of the escape header; the other arguments are those of `claim`.
    function escape(
        bytes calldata header,
        uint32 index,
        address owner,
        uint128[] calldata exits,
        uint128[] calldata withdrawAcks,
        bytes32[] calldata siblings,
        uint128[] calldata siblingSums
    ) external nonReentrant {
        ExitLeaf memory leaf = ExitLeaf(index, owner, exits, withdrawAcks);
        _requireEscapeHeader(header);
        _requireLeaf(header, leaf, siblings, siblingSums);
        _payEscape(leaf);
    }

    /// @notice Pays back a deposit that the escape header did not consume, once, to its owner.
    /// @dev The other arguments are the deposit's InboxMessagePosted.
    function refund(uint64 inboxIndex, address owner, uint8 asset, uint128 amount, uint64 l1Time, bytes32 data)
        external
        nonReentrant
    {
        if (!frozen()) revert NotFrozen();
        if (inboxIndex >= inboxCount()) revert UnknownMessage(inboxIndex, inboxCount());
        if (inboxIndex < _status.escapeInboxCount) revert DepositConsumed(inboxIndex, _status.escapeInboxCount);
        if (_refunded[inboxIndex]) revert AlreadyRefunded(inboxIndex);
        InboxMessage memory m = InboxMessage(KIND_DEPOSIT, inboxIndex, owner, asset, amount, l1Time, data);
        if (Hashing.message(inboxHash(inboxIndex), m) != inboxHash(inboxIndex + 1)) revert WrongMessage(inboxIndex);
        _refunded[inboxIndex] = true;
        _release(asset, amount);
        emit Refunded(inboxIndex, owner, asset, amount);
        _send(asset, owner, amount);
    }

    function frozen() public view override returns (bool) {
        return _status.frozenAt != 0;
    }

    /// @notice Block time (seconds UTC) of the freeze; zero while live.
    function frozenAt() public view returns (uint64) {
        return _status.frozenAt;
    }

    /// @notice Why it froze: 0 it did not, 1 the operator was overdue, 2 a veto was upheld, 3 a fault was proven.
    function freezeReason() external view returns (uint8) {
        return _status.reason;
    }

    /// @notice Block time (seconds UTC) from which freeze() succeeds unless the operator acts before.
    function freezeAt() public view returns (uint64) {
        uint64 last = epochCount() == 0 ? deployedAt : headerTime(epochCount());
        uint64 consumed = consumedCount();
        if (consumed < inboxCount()) {
            uint64 oldest = inboxTime(consumed);
            if (oldest < last) last = oldest;
        }
        return last + deadlineSeconds;
    }

    /// @notice Epoch of the escape header; zero while live, or if no header was final at the freeze.
    function escapeEpoch() external view returns (uint64) {
        return _status.escapeEpoch;
    }

    /// @notice Hash of the escape header; zero while live, or if no header was final at the freeze.
    function escapeHeader() public view returns (bytes32) {
        return headerHash(_status.escapeEpoch);
    }

    /// @notice Inbox messages that the escape header consumed; deposits from this index on are refunded.
    function escapeInboxCount() external view returns (uint64) {
        return _status.escapeInboxCount;
    }

    /// @notice Whether the deposit with this index was refunded.
    function refunded(uint64 inboxIndex) external view returns (bool) {
        return _refunded[inboxIndex];
    }

    /// @dev Fixes the escape header: as things stand at this moment, with everything that is vetoed held.
    function _freeze(uint8 reason) internal override {
        uint64 epoch = finalisedEpoch();
        _status = Status(uint64(block.timestamp), epoch, _inboxCountOf(epoch), reason, _status.openVetoes);
        emit Frozen(epoch, headerHash(epoch), reason);
    }

    /// @dev After a freeze, the headers behind the escape header are void even when their time comes.
    function _usable(uint64 epoch) internal view override returns (bool) {
        Status memory status = _status;
        if (status.frozenAt != 0) return epoch <= status.escapeEpoch;
        return _windowOver(epoch) && (status.openVetoes == 0 || epoch < _firstHeld());
    }

    function _requireEscapeHeader(bytes calldata header) private view {
        if (!frozen()) revert NotFrozen();
        bytes32 hash = sha256(header);
        bytes32 expected = escapeHeader();
        if (hash != expected) revert NotEscapeHeader(hash, expected);
    }

    function _payEscape(ExitLeaf memory leaf) private {
        address owner = leaf.owner;
        if (escaped(owner)) revert AlreadyEscaped(owner);
        _setEscaped(owner);
        uint256[] memory due = new uint256[](lanes);
        for (uint8 a = 0; a < lanes; ++a) {
            uint128 cumulative = leaf.exits[a] + leaf.withdrawAcks[a];
            due[a] = _settle(owner, a, cumulative);
            emit Escaped(owner, a, uint128(due[a]), cumulative);
            due[a] = _repayAdvance(owner, a, due[a]);
        }
        _sendAll(owner, due);
    }
}
