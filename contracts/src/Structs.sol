// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// The hashed structures of the protocol, field for field as in docs/protocol.md, and the shapes in which
/// evidence comes. Tags and lane counts are not fields: a tag is a constant of its type, and the lane
/// count is the arrays' length.

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

/// @notice What is fixed when a vault is deployed; see Deployment, Assets, Inbox, Epochs, Bonds, Vouchers.
struct Config {
    bytes32 deploymentId;
    address operator;
    address treasury;
    address governor; // zero: no governance messages
    address[] tokens; // 1 to 4; their order is the order of the lanes
    uint64 deadlineSeconds;
    uint64 challengeWindowSeconds;
    uint64 secondingSeconds;
    uint128 minFirstDeposit; // atoms
    uint32 maxDepositors;
    address[] attestors; // ascending; none only with threshold 0
    uint8 threshold;
    uint128 vetoBondWei;
    uint128 operatorBondWei;
    uint96[] floatCaps; // atoms that vouchers may pay per asset and hour
}

/// @notice What the next header must follow: the last posted one. Times are microseconds UTC.
struct Tip {
    uint64 epoch;
    uint64 closeTimeUs;
    uint64 journalSize;
    uint64 inboxCount;
    bytes32 journalRoot;
    bytes32 headerHash;
}

/// @notice A signed head of the journal: its number of entries and its RFC 9162 root.
struct Checkpoint {
    uint64 size;
    bytes32 root;
}

/// @notice One index, two leaves: each with its path in a journal of its own. Unused for equal sizes.
struct Disagreement {
    uint64 index;
    bytes32 leafA;
    bytes32[] pathA;
    bytes32 leafB;
    bytes32[] pathB;
}

/// @notice A node of an exit tree, by its children, and the way from it up to the root as the tree claims it.
/// `ownSums` holds, lane by lane, what each node of the way is said to sum to, the root excepted (the header
/// says that); `level` 1 is the parent of two leaves, 20 the root.
struct FalseSum {
    bytes32 left;
    uint128[] leftSums;
    bytes32 right;
    uint128[] rightSums;
    uint8 level;
    uint32 position;
    bytes32[] siblings;
    uint128[] siblingSums;
    uint128[] ownSums;
}
