// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assets} from "./Assets.sol";
import {Deployment} from "./Deployment.sol";
import {Hashing} from "./Hashing.sol";
import {SumTree} from "./SumTree.sol";
import {InboxMessage} from "./Structs.sol";

/// @title The queue from the chain to the clearinghouse: deposits, forced requests, governance
/// @dev An operator who does not consume it in time can be frozen by anyone. For every count of messages the rolling hash, the time of the last one and the cumulative
/// deposits per asset are stored, so what is not consumed yet follows from a count alone.
abstract contract Inbox is Assets, Deployment {
    uint8 internal constant KIND_DEPOSIT = 1;
    uint8 private constant KIND_FORCED_WITHDRAWAL = 2;
    uint8 private constant KIND_FORCED_EXIT = 3;
    uint8 private constant KIND_GOVERNANCE = 4;

    uint256 private constant TOTAL_BITS = 96;

    /// @notice Atoms (of any asset) that an owner's first deposit must have at least.
    uint128 public immutable minFirstDeposit;
    /// @notice Distinct owners for whom may be deposited; the treasury is not counted.
    uint32 public immutable maxDepositors;

    /// @notice Distinct owners for whom was deposited so far.
    uint32 public depositorCount;
    uint64 private _count;
    mapping(uint64 count => bytes32) private _hashes;
    mapping(uint64 count => uint256[2] words) private _totals; // see _totalAt

    event InboxMessagePosted(
        uint64 indexed index,
        uint8 kind,
        address indexed owner,
        uint8 asset,
        uint128 amount,
        uint64 l1Time,
        bytes32 data,
        bytes32 rollingHash
    );

    /// @notice The vault is frozen: nothing but claims, escapes, refunds and credit is possible.
    error VaultFrozen();
    /// @notice The amount is zero.
    error ZeroAmount();
    /// @notice Nobody could ever be paid at this address.
    error InvalidOwner(address owner);
    /// @notice An owner's first deposit must be at least `minimum` atoms.
    error FirstDepositTooSmall(uint128 amount, uint128 minimum);
    /// @notice The vault has as many depositors as its tree has room for; use another owner or vault.
    error TooManyDepositors(uint32 maximum);
    /// @notice All deposits of one asset together stay below 2^96 atoms.
    error DepositTooLarge(uint8 asset, uint256 total);
    /// @notice The house cannot force anything: its tranches answer for everyone's losses.
    error HouseRequest();
    /// @notice Only the governor may send governance messages.
    error NotGovernor(address sender);
    /// @notice The inbox has fewer messages than that.
    error UnknownMessage(uint64 index, uint64 count);

    constructor(uint128 minFirst, uint32 maximum) {
        // Leaf 0 is the treasury's.
        if (maximum == 0 || maximum > (1 << SumTree.DEPTH) - 1) revert InvalidConfiguration("maxDepositors");
        minFirstDeposit = minFirst;
        maxDepositors = maximum;
    }

    /// @notice Moves `amount` atoms from the sender into the vault, for `owner` in the clearinghouse.
    function deposit(uint8 asset, uint128 amount, address owner) external nonReentrant {
        if (frozen()) revert VaultFrozen();
        if (asset >= lanes) revert UnknownAsset(asset);
        if (amount == 0) revert ZeroAmount();
        if (owner == address(0) || owner == address(this)) revert InvalidOwner(owner);
        _admit(owner, asset, amount);
        _post(InboxMessage(KIND_DEPOSIT, _count, owner, asset, amount, uint64(block.timestamp), 0));
        _collect(asset, msg.sender, amount);
    }

    /// @notice Asks for a withdrawal of the sender's, past the operator. If it is not dealt with in time, anyone
    /// can freeze.
    /// @param amount atoms; zero asks for all that is free.
    /// @param sub the sender's sub-account.
    function forceWithdrawal(uint8 asset, uint128 amount, uint16 sub) external {
        if (asset >= lanes) revert UnknownAsset(asset);
        _force(KIND_FORCED_WITHDRAWAL, asset, amount, sub);
    }

    /// @notice Asks that a sub-account of the sender be closed and paid out, past the operator.
    function forceExit(uint16 sub) external {
        _force(KIND_FORCED_EXIT, 0, 0, sub);
    }

    /// @notice Tells the clearinghouse what the governor approved. `action` is its hash.
    function sendGovernance(bytes32 action) external {
        if (msg.sender != governor) revert NotGovernor(msg.sender);
        if (frozen()) revert VaultFrozen();
        _post(InboxMessage(KIND_GOVERNANCE, _count, msg.sender, 0, 0, uint64(block.timestamp), action));
    }

    /// @notice Whether the vault is frozen, for good.
    function frozen() public view virtual returns (bool);

    /// @notice Messages posted so far; the next one gets this index.
    function inboxCount() public view returns (uint64) {
        return _count;
    }

    /// @notice Rolling hash over the first `count` messages; zero for none.
    function inboxHash(uint64 count) public view returns (bytes32) {
        if (count > _count) revert UnknownMessage(count, _count);
        return _hashes[count];
    }

    /// @notice Block time (seconds UTC) of the message with this zero-based index.
    function inboxTime(uint64 index) public view returns (uint64) {
        if (index >= _count) revert UnknownMessage(index, _count);
        return uint64(_totals[index + 1][0] >> (2 * TOTAL_BITS));
    }

    /// @notice Atoms of this asset deposited by the first `count` messages.
    function depositsAt(uint64 count, uint8 asset) public view returns (uint256) {
        if (count > _count) revert UnknownMessage(count, _count);
        if (asset >= lanes) revert UnknownAsset(asset);
        return _totalAt(count, asset);
    }

    function _force(uint8 kind, uint8 asset, uint128 amount, uint16 sub) private {
        if (frozen()) revert VaultFrozen();
        if (msg.sender == treasury) revert HouseRequest();
        if (amount >> TOTAL_BITS != 0) revert DepositTooLarge(asset, amount);
        bytes32 data = bytes32(uint256(sub));
        _post(InboxMessage(kind, _count, msg.sender, asset, amount, uint64(block.timestamp), data));
    }

    function _admit(address owner, uint8 asset, uint128 amount) private {
        if (owner != treasury && !_known(owner)) {
            if (amount < minFirstDeposit) revert FirstDepositTooSmall(amount, minFirstDeposit);
            if (depositorCount >= maxDepositors) revert TooManyDepositors(maxDepositors);
            ++depositorCount;
        }
        _setKnown(owner, asset);
    }

    function _post(InboxMessage memory m) private {
        uint64 next = m.index + 1;
        bytes32 rollingHash = Hashing.message(_hashes[m.index], m);
        uint256 added = m.kind == KIND_DEPOSIT ? m.amount : 0;
        uint256 total = _totalAt(m.index, m.asset) + added;
        if (total >> TOTAL_BITS != 0) revert DepositTooLarge(m.asset, total);
        _count = next;
        _hashes[next] = rollingHash;
        for (uint256 word = 0; 2 * word < lanes; ++word) {
            uint256 packed = uint256(uint192(_totals[m.index][word])) | (uint256(m.l1Time) << (2 * TOTAL_BITS));
            if (word == m.asset >> 1) packed += added << (TOTAL_BITS * (m.asset & 1));
            _totals[next][word] = packed;
        }
        emit InboxMessagePosted(m.index, m.kind, m.owner, m.asset, m.amount, m.l1Time, m.data, rollingHash);
    }

    /// @dev A word is time u64 | total of the odd lane u96 | total of the even lane u96.
    function _totalAt(uint64 count, uint8 asset) internal view returns (uint256) {
        return uint96(_totals[count][asset >> 1] >> (TOTAL_BITS * (asset & 1)));
    }
}
