// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The four hashed structures of the protocol, field for field as in docs/protocol.md. Tags and lane
/// counts are not fields: a tag is a constant of its type, and the lane count is the arrays' length.

/// @notice What an epoch commits to. `closeTimeUs` is microseconds UTC, sums are atoms per lane.
struct Header {
    uint8 version;
    bytes32 domain;
    uint64 epoch;
    uint64 closeTimeUs;
    bytes32 prevHeader;
    bytes32 peersHash;
    uint64 journalSize;
    bytes32 journalRoot;
    bytes32 stateRoot;
    bytes32 exitRoot;
    uint128[] exitSums;
    uint64 inboxCount;
    bytes32 inboxHash;
    bytes32 marksHash;
    bytes32 paramsHash;
    bytes32 scenariosHash;
    bytes32 attestorsHash;
    bytes32 diffHash;
    bytes32 extRoot;
    uint64 l1Number;
    bytes32 l1Hash;
}

/// @notice What one owner is owed: the wind-down payout and the cumulative withdrawals acknowledged.
struct ExitLeaf {
    uint32 index;
    address owner;
    uint128[] exits;
    uint128[] withdrawAcks;
}

/// @notice One message from the chain to the clearinghouse. `l1Time` is seconds UTC of its block.
struct InboxMessage {
    uint8 kind;
    uint64 index;
    address owner;
    uint8 asset;
    uint128 amount;
    uint64 l1Time;
    bytes32 data;
}

/// @notice A promise of the operator to one owner, cumulative per asset, until `expiry` (seconds UTC).
struct Voucher {
    bytes32 domain;
    address owner;
    uint8 asset;
    uint128 cumulative;
    uint64 expiry;
}
