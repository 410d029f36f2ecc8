# SPDX-License-Identifier: GPL-3.0-or-later
"""EIP-712 messages of the vault and of the journal, laid out by hand, and who signs them.

Rules: digests are built from the type texts as docs/protocol.md gives them and from nothing of the code under
test; keys are derived from names, so that every run signs the same.
"""

from hashlib import sha256

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from tests.contract.reference import address, u

VAULT_DOMAIN = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
JOURNAL_DOMAIN = b"EIP712Domain(string name,string version,bytes32 salt)"
POST_EPOCH = b"PostEpoch(bytes32 header)"
ATTESTATION = b"Attestation(bytes32 header)"
CHECKPOINT = b"Checkpoint(bytes32 domain,uint64 size,bytes32 root)"
VOUCHER = b"Voucher(bytes32 domain,address owner,uint8 asset,uint128 cumulative,uint64 expiry)"


def key(name: str) -> PrivateKey:
    return PrivateKey(sha256(name.encode()).digest())


def address_of(signer: PrivateKey) -> str:
    return str(signer.public_key.to_address())


OPERATOR = key("operator")
STRANGER = key("stranger")
# Ascending by address, as a vault wants its attestors.
ATTESTORS = sorted((key(f"attestor {n}") for n in range(5)), key=lambda k: address(address_of(k)))


def sign(signer: PrivateKey, digest: bytes) -> bytes:
    """r | s | v with v 27 or 28."""
    signature = signer.sign_msg_hash(digest).to_bytes()
    return bytes(signature[:64]) + bytes([27 + signature[64]])


def typed(separator: bytes, kind: bytes, *words: bytes) -> bytes:
    struct = keccak(keccak(kind) + b"".join(words))
    return bytes(keccak(b"\x19\x01" + separator + struct))


def vault_domain(chain_id: int, vault: str) -> bytes:
    fields = keccak(VAULT_DOMAIN) + keccak(b"Novate Vault") + keccak(b"1") + u(chain_id, 256)
    return bytes(keccak(fields + bytes(12) + address(vault)))


def journal_domain(deployment: bytes) -> bytes:
    return bytes(keccak(keccak(JOURNAL_DOMAIN) + keccak(b"Novate Journal") + keccak(b"1") + deployment))


def post_epoch_digest(header_hash: bytes, chain_id: int, vault: str) -> bytes:
    return typed(vault_domain(chain_id, vault), POST_EPOCH, header_hash)


def sign_epoch(signer: PrivateKey, header_hash: bytes, chain_id: int, vault: str) -> bytes:
    return sign(signer, post_epoch_digest(header_hash, chain_id, vault))


def sign_attestation(signer: PrivateKey, header_hash: bytes, chain_id: int, vault: str) -> bytes:
    return sign(signer, typed(vault_domain(chain_id, vault), ATTESTATION, header_hash))


def sign_checkpoint(signer: PrivateKey, deployment: bytes, size: int, root: bytes) -> bytes:
    return sign(signer, typed(journal_domain(deployment), CHECKPOINT, deployment, u(size, 256), root))


def voucher_digest(voucher: tuple[bytes, str, int, int, int], chain_id: int, vault: str) -> bytes:
    """`voucher` is domain, owner, asset, cumulative, expiry."""
    domain, owner, *numbers = voucher
    words = (domain, bytes(12) + address(owner), *(u(number, 256) for number in numbers))
    return typed(vault_domain(chain_id, vault), VOUCHER, *words)
