// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {Hashing} from "./Hashing.sol";
import {Checkpoint, Disagreement, FalseSum, Header, Tip, Voucher} from "./Structs.sol";

/// @dev What a check asks the vault that it runs for.
interface IVaultFacts {
    function deploymentId() external view returns (bytes32);
    function domain() external view returns (bytes32);
    function operator() external view returns (address);
    function isSigner(address signer) external view returns (bool);
    function isAttestor(address signer) external view returns (bool);
    function threshold() external view returns (uint8);
    function attestorsHash() external view returns (bytes32);
    function lanes() external view returns (uint8);
    function tip() external view returns (Tip memory);
    function inboxCount() external view returns (uint64);
    function inboxHash(uint64 count) external view returns (bytes32);
    function depositsAt(uint64 count, uint8 asset) external view returns (uint256);
    function diffBlock(bytes32 chunkHash) external view returns (uint256);
}

/// @notice The header belongs to another chain, vault or tree.
error WrongDomain(bytes32 domain, bytes32 expected);
/// @notice The header has another number of lanes than the vault has assets.
error WrongLanes(uint256 headerLanes, uint8 expected);
/// @notice The header does not follow the last posted one: it was overtaken, or posted already.
error StaleHeader(bytes32 prevHeader, bytes32 lastHeader);
/// @notice Epochs are numbered 1, 2, 3, ...
error WrongEpoch(uint64 epoch, uint64 expected);
/// @notice The header names another set of attestors.
error WrongAttestors(bytes32 hash, bytes32 expected);
/// @notice The close time is before the previous one or ahead of the block.
error CloseTimeOutOfRange(uint64 closeTimeUs, uint64 earliestUs, uint64 latestUs);
/// @notice The header's journal does not extend the last one's: history was rewritten, or the proof is wrong.
error JournalInconsistent(uint64 size, uint64 previousSize);
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

/// @notice The proof's arrays do not have the lengths that its level and the lanes ask for.
error MalformedProof();
/// @notice The signature is of no key that binds the operator.
error InvalidCheckpointSignature();
/// @notice What was shown is no fault.
error NoFault();
/// @notice The path does not lead from the leaf to the root.
error NotIncluded(uint64 index);
/// @notice The signature is not the operator's.
error InvalidOperatorSignature();
/// @notice Fewer signatures of attestors than the threshold.
error TooFewAttestations(uint256 given, uint8 needed);
/// @notice Signature number `position` is no attestor's, or not in ascending order of the signers.
error InvalidAttestation(uint256 position, address signer);
/// @notice The voucher is of another vault.
error WrongVoucherDomain(bytes32 domain, bytes32 expected);
/// @notice Owner and operator must both have signed; `party` has not.
error InvalidVoucherSignature(address party);

/// @title Checks of headers, vouchers and of proofs about journals and trees, linked into the vault
/// @dev A library of its own, for the vault would not fit into 24,576 bytes with it. It has no state, writes
/// none and sends nothing; the vault calls it by delegatecall at an address that is fixed in the vault's code.
/// Journals are RFC 9162 trees over SHA-256: leaf 00, node 01. Checkpoints are signed in the journal's own
/// EIP-712 domain, which binds the deployment and no chain: the same two checkpoints convict the operator
/// on every vault of the deployment.
library Evidence {
    uint256 private constant DEPTH = 20;
    /// @dev Clocks differ; a close time may be ahead of the block's by this much.
    uint64 private constant CLOSE_TIME_SLACK_SECONDS = 60;
    bytes32 private constant JOURNAL_DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,bytes32 salt)");
    bytes32 private constant VAULT_DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant CHECKPOINT_TYPEHASH = keccak256("Checkpoint(bytes32 domain,uint64 size,bytes32 root)");
    bytes32 private constant POST_EPOCH_TYPEHASH = keccak256("PostEpoch(bytes32 header)");
    bytes32 private constant ATTESTATION_TYPEHASH = keccak256("Attestation(bytes32 header)");
    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 domain,address owner,uint8 asset,uint128 cumulative,uint64 expiry)");

    /// @notice Whether the journal (size n, rootN) extends (size m, rootM): RFC 9162, 2.1.4.2.
    /// @dev Nothing extends every journal; equal sizes need equal roots and an empty proof.
    function consistent(uint64 m, bytes32 rootM, uint64 n, bytes32 rootN, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return _consistent(m, rootM, n, rootN, proof);
    }

    function _consistent(uint64 m, bytes32 rootM, uint64 n, bytes32 rootN, bytes32[] calldata proof)
        private
        view
        returns (bool)
    {
        if (m == 0) return proof.length == 0;
        if (m == n) return proof.length == 0 && rootM == rootN;
        if (m > n) return false;
        uint256 fn = m - 1;
        uint256 sn = n - 1;
        while (fn & 1 == 1) (fn, sn) = (fn >> 1, sn >> 1);
        uint256 next;
        bytes32 fr = rootM; // when m is a power of two, the proof leaves its root out
        if (m & (m - 1) != 0) {
            if (proof.length == 0) return false;
            fr = proof[next++];
        }
        bytes32 sr = fr;
        for (; next < proof.length; ++next) {
            if (sn == 0) return false;
            bytes32 c = proof[next];
            if (fn & 1 == 1 || fn == sn) {
                fr = _node(c, fr);
                sr = _node(c, sr);
                while (fn & 1 == 0 && fn != 0) (fn, sn) = (fn >> 1, sn >> 1);
            } else {
                sr = _node(sr, c);
            }
            (fn, sn) = (fn >> 1, sn >> 1);
        }
        return sn == 0 && fr == rootM && sr == rootN;
    }

    /// @notice Whether `leaf` (a leaf hash) is entry `index` of the journal: RFC 9162, 2.1.3.2.
    function included(bytes32 leaf, uint64 index, Checkpoint calldata journal, bytes32[] calldata path)
        external
        view
        returns (bool)
    {
        return _included(leaf, index, journal.size, journal.root, path);
    }

    // -- what a header and a voucher need; each has the parameters of the vault's function of its name and reverts
    // unless everything is in order

    /// @notice A header that may follow the vault's last one, signed by the operator and enough attestors.
    function postEpoch(
        bytes calldata header,
        bytes32[] calldata chunkHashes,
        bytes32[] calldata consistency,
        bytes calldata operatorSignature,
        bytes[] calldata attestations
    ) external view {
        Header memory h = Hashing.decodeHeader(header);
        Tip memory tip = IVaultFacts(address(this)).tip();
        _requireSuccessor(h, tip);
        if (!_consistent(tip.journalSize, tip.journalRoot, h.journalSize, h.journalRoot, consistency)) {
            revert JournalInconsistent(h.journalSize, tip.journalSize);
        }
        _requireInbox(h, tip);
        _requireDiff(h.diffHash, chunkHashes);
        _requireL1Block(h.l1Number, h.l1Hash);
        _requireSolvent(h);
        bytes32 headerHash = sha256(header);
        bytes32 digest = _vaultDigest(keccak256(abi.encode(POST_EPOCH_TYPEHASH, headerHash)));
        address operator = IVaultFacts(address(this)).operator();
        if (!SignatureChecker.isValidSignatureNowCalldata(operator, digest, operatorSignature)) {
            revert InvalidOperatorSignature();
        }
        _requireAttested(_vaultDigest(keccak256(abi.encode(ATTESTATION_TYPEHASH, headerHash))), attestations);
    }

    /// @notice A voucher of this vault that owner and operator signed.
    function redeemVoucher(Voucher calldata v, bytes calldata ownerSignature, bytes calldata operatorSignature)
        external
        view
    {
        bytes32 domain = IVaultFacts(address(this)).domain();
        if (v.domain != domain) revert WrongVoucherDomain(v.domain, domain);
        bytes32 digest =
            _vaultDigest(keccak256(abi.encode(VOUCHER_TYPEHASH, v.domain, v.owner, v.asset, v.cumulative, v.expiry)));
        if (!SignatureChecker.isValidSignatureNowCalldata(v.owner, digest, ownerSignature)) {
            revert InvalidVoucherSignature(v.owner);
        }
        address operator = IVaultFacts(address(this)).operator();
        if (!SignatureChecker.isValidSignatureNowCalldata(operator, digest, operatorSignature)) {
            revert InvalidVoucherSignature(operator);
        }
    }

    // -- evidence of faults; each has the parameters of the vault's function of its name and reverts if it is none

    /// @notice Two signed checkpoints that cannot be of one journal.
    function proveEquivocation(
        Checkpoint calldata a,
        bytes calldata signatureA,
        Checkpoint calldata b,
        bytes calldata signatureB,
        Disagreement calldata d
    ) external view {
        _requireCheckpoint(a, signatureA);
        _requireCheckpoint(b, signatureB);
        _requireDisagreement(a, b, d);
    }

    /// @notice A header whose journal disagrees with a signed checkpoint.
    function proveHeaderConflict(
        bytes calldata header,
        Checkpoint calldata c,
        bytes calldata signature,
        Disagreement calldata d
    ) external view {
        _requireCheckpoint(c, signature);
        (uint64 size, bytes32 root) = Hashing.headerJournal(header);
        _requireDisagreement(Checkpoint(size, root), c, d);
    }

    /// @notice Two different headers that the operator signed for one epoch of the vault.
    function proveDoubleHeader(
        bytes calldata headerA,
        bytes calldata signatureA,
        bytes calldata headerB,
        bytes calldata signatureB
    ) external view {
        bytes32 domain = IVaultFacts(address(this)).domain();
        Header memory a = Hashing.decodeHeader(headerA);
        Header memory b = Hashing.decodeHeader(headerB);
        bytes32 hashA = sha256(headerA);
        bytes32 hashB = sha256(headerB);
        if (hashA == hashB || a.epoch != b.epoch || a.domain != domain || b.domain != domain) revert NoFault();
        _requireOperator(hashA, signatureA);
        _requireOperator(hashB, signatureB);
    }

    /// @notice A node of the header's exit tree that claims other sums than its children have.
    function proveFalseSum(bytes calldata header, FalseSum calldata p) external pure {
        if (!_falseSum(header, p)) revert NoFault();
    }

    /// @notice An entry in a signed checkpoint.
    function challengeReceipt(
        Checkpoint calldata c,
        bytes calldata signature,
        uint64 index,
        bytes32 leaf,
        bytes32[] calldata path
    ) external view {
        _requireCheckpoint(c, signature);
        if (!_included(leaf, index, c.size, c.root, path)) revert NotIncluded(index);
    }

    /// @notice An entry in a header's journal: what answers a challenge.
    function includedInHeader(bytes32 leaf, uint64 index, bytes calldata header, bytes32[] calldata path)
        external
        view
        returns (bool)
    {
        (uint64 size, bytes32 root) = Hashing.headerJournal(header);
        return _included(leaf, index, size, root, path);
    }

    /// @notice Whether two journals, both said to be the one journal, cannot be prefixes of one another.
    function disagree(Checkpoint calldata a, Checkpoint calldata b, Disagreement calldata d)
        external
        view
        returns (bool)
    {
        return _disagree(a, b, d);
    }

    function _requireSuccessor(Header memory h, Tip memory tip) private view {
        IVaultFacts vault = IVaultFacts(address(this));
        if (h.domain != vault.domain()) revert WrongDomain(h.domain, vault.domain());
        if (h.exitSums.length != vault.lanes()) revert WrongLanes(h.exitSums.length, vault.lanes());
        if (h.prevHeader != tip.headerHash) revert StaleHeader(h.prevHeader, tip.headerHash);
        if (h.epoch != tip.epoch + 1) revert WrongEpoch(h.epoch, tip.epoch + 1);
        if (h.attestorsHash != vault.attestorsHash()) revert WrongAttestors(h.attestorsHash, vault.attestorsHash());
        uint64 latestUs = (uint64(block.timestamp) + CLOSE_TIME_SLACK_SECONDS) * 1_000_000;
        if (h.closeTimeUs < tip.closeTimeUs || h.closeTimeUs > latestUs) {
            revert CloseTimeOutOfRange(h.closeTimeUs, tip.closeTimeUs, latestUs);
        }
    }

    function _requireInbox(Header memory h, Tip memory tip) private view {
        uint64 posted = IVaultFacts(address(this)).inboxCount();
        if (h.inboxCount < tip.inboxCount || h.inboxCount > posted) {
            revert InboxCountOutOfRange(h.inboxCount, tip.inboxCount, posted);
        }
        bytes32 expected = IVaultFacts(address(this)).inboxHash(h.inboxCount);
        if (h.inboxHash != expected) revert InboxHashMismatch(h.inboxHash, expected);
    }

    function _requireDiff(bytes32 diffHash, bytes32[] calldata chunkHashes) private view {
        bytes32 expected = Hashing.diff(chunkHashes);
        if (diffHash != expected) revert DiffHashMismatch(diffHash, expected);
        for (uint256 i = 0; i < chunkHashes.length; ++i) {
            if (IVaultFacts(address(this)).diffBlock(chunkHashes[i]) == 0) revert DiffNotPublished(chunkHashes[i]);
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
        for (uint8 a = 0; a < h.exitSums.length; ++a) {
            uint256 available = IVaultFacts(address(this)).depositsAt(h.inboxCount, a);
            if (h.exitSums[a] > available) revert Insolvent(a, h.exitSums[a], available);
        }
    }

    /// @dev At least `threshold` signatures, by distinct attestors in ascending order.
    function _requireAttested(bytes32 digest, bytes[] calldata attestations) private view {
        uint8 threshold = IVaultFacts(address(this)).threshold();
        if (attestations.length < threshold) revert TooFewAttestations(attestations.length, threshold);
        address last = address(0);
        for (uint256 i = 0; i < attestations.length; ++i) {
            (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, attestations[i]);
            bool known = problem == ECDSA.RecoverError.NoError && IVaultFacts(address(this)).isAttestor(signer);
            if (!known || signer <= last) revert InvalidAttestation(i, signer);
            last = signer;
        }
    }

    function _requireDisagreement(Checkpoint memory a, Checkpoint memory b, Disagreement calldata d) private view {
        if (!_disagree(a, b, d)) revert NoFault();
    }

    function _disagree(Checkpoint memory a, Checkpoint memory b, Disagreement calldata d) private view returns (bool) {
        if (a.size == b.size) return a.root != b.root;
        return d.leafA != d.leafB && _included(d.leafA, d.index, a.size, a.root, d.pathA)
            && _included(d.leafB, d.index, b.size, b.root, d.pathB);
    }

    /// @notice Whether a node of the header's exit tree claims other sums than its children have.
    function falseSum(bytes calldata header, FalseSum calldata p) external pure returns (bool) {
        return _falseSum(header, p);
    }

    /// @dev The node's hash is over its children, its claimed sums stand in its parent (or in the header).
    function _falseSum(bytes calldata header, FalseSum calldata p) private pure returns (bool) {
        uint256 lanes = uint8(header[34]);
        _requireShape(p, lanes);
        bytes32 node = sha256(
            abi.encodePacked(
                uint8(1), p.left, Hashing.packLanes(p.leftSums), p.right, Hashing.packLanes(p.rightSums)
            )
        );
        uint256 steps = DEPTH - p.level;
        for (uint256 i = 0; i < steps; ++i) node = _parent(node, p, i, lanes);
        if (node != Hashing.headerExitRoot(header)) return false;
        for (uint256 a = 0; a < lanes; ++a) {
            uint256 sum = uint256(p.leftSums[a]) + p.rightSums[a];
            if (sum != (steps == 0 ? Hashing.headerExitSum(header, a) : p.ownSums[a])) return true;
        }
        return false;
    }

    function _requireCheckpoint(Checkpoint calldata c, bytes calldata signature) private view {
        bytes32 id = IVaultFacts(address(this)).deploymentId();
        bytes32 separator =
            keccak256(abi.encode(JOURNAL_DOMAIN_TYPEHASH, keccak256("Novate Journal"), keccak256("1"), id));
        bytes32 hash = keccak256(abi.encode(CHECKPOINT_TYPEHASH, id, c.size, c.root));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, hash));
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (problem != ECDSA.RecoverError.NoError || !IVaultFacts(address(this)).isSigner(signer)) {
            revert InvalidCheckpointSignature();
        }
    }

    /// @dev Every operator's ever, or the present one's if that is a contract.
    function _requireOperator(bytes32 headerHash, bytes calldata signature) private view {
        bytes32 digest = _vaultDigest(keccak256(abi.encode(POST_EPOCH_TYPEHASH, headerHash)));
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (problem == ECDSA.RecoverError.NoError && IVaultFacts(address(this)).isSigner(signer)) return;
        address operator = IVaultFacts(address(this)).operator();
        if (!SignatureChecker.isValidSignatureNowCalldata(operator, digest, signature)) {
            revert InvalidOperatorSignature();
        }
    }

    /// @dev EIP-712 digest in the vault's domain: by delegatecall, this address is the vault's.
    function _vaultDigest(bytes32 structHash) private view returns (bytes32) {
        bytes32 separator = keccak256(
            abi.encode(VAULT_DOMAIN_TYPEHASH, keccak256("Novate Vault"), keccak256("1"), block.chainid, address(this))
        );
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function _requireShape(FalseSum calldata p, uint256 lanes) private pure {
        if (p.level == 0 || p.level > DEPTH) revert MalformedProof();
        uint256 steps = DEPTH - p.level;
        if (p.leftSums.length != lanes || p.rightSums.length != lanes || p.siblings.length != steps) {
            revert MalformedProof();
        }
        if (p.siblingSums.length != steps * lanes || p.ownSums.length != steps * lanes || p.position >> steps != 0) {
            revert MalformedProof();
        }
    }

    /// @dev The hash of the node above step i of the way.
    function _parent(bytes32 node, FalseSum calldata p, uint256 i, uint256 lanes) private pure returns (bytes32) {
        bytes memory own = Hashing.packLanes(p.ownSums[i * lanes:(i + 1) * lanes]);
        bytes memory other = Hashing.packLanes(p.siblingSums[i * lanes:(i + 1) * lanes]);
        bytes32 sibling = p.siblings[i];
        if ((p.position >> i) & 1 == 0) return sha256(abi.encodePacked(uint8(1), node, own, sibling, other));
        return sha256(abi.encodePacked(uint8(1), sibling, other, node, own));
    }

    function _included(bytes32 leaf, uint64 index, uint64 size, bytes32 root, bytes32[] calldata path)
        private
        view
        returns (bool)
    {
        if (index >= size) return false;
        uint256 fn = index;
        uint256 sn = size - 1;
        for (uint256 i = 0; i < path.length; ++i) {
            if (sn == 0) return false;
            if (fn & 1 == 1 || fn == sn) {
                leaf = _node(path[i], leaf);
                while (fn & 1 == 0 && fn != 0) (fn, sn) = (fn >> 1, sn >> 1);
            } else {
                leaf = _node(leaf, path[i]);
            }
            (fn, sn) = (fn >> 1, sn >> 1);
        }
        return sn == 0 && leaf == root;
    }

    /// @dev SHA256(01 | left | right), in scratch memory: proofs have dozens of these.
    function _node(bytes32 left, bytes32 right) private view returns (bytes32 hash) {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore8(buffer, 1)
            mstore(add(buffer, 1), left)
            mstore(add(buffer, 33), right)
            if iszero(staticcall(gas(), 2, buffer, 65, 0, 32)) { revert(0, 0) }
            hash := mload(0)
        }
    }
}
