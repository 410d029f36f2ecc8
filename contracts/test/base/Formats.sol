// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint, ExitLeaf, Header, InboxMessage, Voucher} from "../../src/Structs.sol";

/// @title The protocol's bytes and digests, written down once more as docs/protocol.md gives them
/// @dev Shares nothing with the code under test but the names of the fields. tests/vectors binds both to Python.
library Formats {
    function lanes(uint128[] memory values) internal pure returns (bytes memory out) {
        for (uint256 a = 0; a < values.length; ++a) out = bytes.concat(out, abi.encodePacked(values[a]));
    }

    function exitDomain(uint256 chainId, address vault) internal pure returns (bytes32) {
        return sha256(abi.encodePacked("novate/exit/v1", chainId, vault));
    }

    function leaf(bytes32 domain, ExitLeaf memory l) internal pure returns (bytes32) {
        bytes memory head = abi.encodePacked(uint8(0), domain, l.index, l.owner);
        return sha256(bytes.concat(head, lanes(l.exits), lanes(l.withdrawAcks)));
    }

    function message(bytes32 previous, InboxMessage memory m) internal pure returns (bytes32) {
        bytes memory head = abi.encodePacked(uint8(4), previous, m.kind, m.index, m.owner);
        return sha256(bytes.concat(head, abi.encodePacked(m.asset, m.amount, m.l1Time, m.data)));
    }

    function diff(bytes32[] memory chunkHashes) internal pure returns (bytes32) {
        bytes memory out = "novate/diff/v1";
        for (uint256 i = 0; i < chunkHashes.length; ++i) out = bytes.concat(out, chunkHashes[i]);
        return sha256(out);
    }

    function attestors(uint8 threshold, address[] memory list) internal pure returns (bytes32) {
        if (list.length == 0) return 0;
        bytes memory out = abi.encodePacked("novate/attestors/v1", threshold, uint8(list.length));
        for (uint256 i = 0; i < list.length; ++i) out = bytes.concat(out, bytes20(list[i]));
        return sha256(out);
    }

    function header(Header memory h) internal pure returns (bytes memory) {
        bytes memory a = abi.encodePacked(uint8(3), h.version, h.domain, uint8(h.exitSums.length), h.epoch);
        bytes memory b = abi.encodePacked(h.closeTimeUs, h.prevHeader, h.peersHash, h.journalSize, h.journalRoot);
        bytes memory c = bytes.concat(h.stateRoot, h.exitRoot, lanes(h.exitSums));
        bytes memory d = abi.encodePacked(h.inboxCount, h.inboxHash, h.marksHash, h.paramsHash, h.scenariosHash);
        bytes memory e = abi.encodePacked(h.attestorsHash, h.diffHash, h.extRoot, h.l1Number, h.l1Hash);
        return bytes.concat(a, b, c, d, e);
    }

    // -- EIP-712

    function vaultDomain(uint256 chainId, address vault) internal pure returns (bytes32) {
        bytes32 kind =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(kind, keccak256("Novate Vault"), keccak256("1"), chainId, vault));
    }

    function journalDomain(bytes32 deployment) internal pure returns (bytes32) {
        bytes32 kind = keccak256("EIP712Domain(string name,string version,bytes32 salt)");
        return keccak256(abi.encode(kind, keccak256("Novate Journal"), keccak256("1"), deployment));
    }

    function postEpochDigest(bytes32 separator, bytes32 headerHash) internal pure returns (bytes32) {
        return _typed(separator, keccak256(abi.encode(keccak256("PostEpoch(bytes32 header)"), headerHash)));
    }

    function attestationDigest(bytes32 separator, bytes32 headerHash) internal pure returns (bytes32) {
        return _typed(separator, keccak256(abi.encode(keccak256("Attestation(bytes32 header)"), headerHash)));
    }

    function checkpointDigest(bytes32 deployment, Checkpoint memory c) internal pure returns (bytes32) {
        bytes32 kind = keccak256("Checkpoint(bytes32 domain,uint64 size,bytes32 root)");
        return _typed(journalDomain(deployment), keccak256(abi.encode(kind, deployment, c.size, c.root)));
    }

    function voucherDigest(bytes32 separator, Voucher memory v) internal pure returns (bytes32) {
        bytes32 kind = keccak256("Voucher(bytes32 domain,address owner,uint8 asset,uint128 cumulative,uint64 expiry)");
        return _typed(separator, keccak256(abi.encode(kind, v.domain, v.owner, v.asset, v.cumulative, v.expiry)));
    }

    function _typed(bytes32 separator, bytes32 structHash) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }
}
