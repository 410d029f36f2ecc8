# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that sign transactions and typed data. A key never leaves this module or its file.

Key files hold 64 hexadecimal digits and are readable by their owner only; a file that others can
read is refused rather than repaired, since the key must be taken as known. eth-account is loaded
when something is signed.
"""

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from clearing.chain.abi import keccak
from clearing.chain.errors import ChainError
from proofs.inbox import Voucher

VAULT_NAME: Final = "Novate Vault"
VAULT_VERSION: Final = "1"
JOURNAL_NAME: Final = "Novate Journal"
JOURNAL_VERSION: Final = "1"
CHECKPOINT_TYPE: Final = "Checkpoint(bytes32 domain,uint64 size,bytes32 root)"
_VOUCHER_TYPE: Final = "Voucher(bytes32 domain,address owner,uint8 asset,uint128 cumulative,uint64 expiry)"
_JOURNAL_TYPE: Final = b"EIP712Domain(string name,string version,bytes32 salt)"
_DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Wallet:
    """A secp256k1 key. `address` is 20 bytes."""

    __slots__ = ("_key", "address")

    def __init__(self, key: bytes) -> None:
        if len(key) != 32 or not 0 < int.from_bytes(key, "big") < _ORDER:
            raise ChainError("KEY_FILE", "a private key has 32 bytes and lies within the curve's order")
        self._key = key
        self.address = _address_of(key)

    def __repr__(self) -> str:
        return f"Wallet(0x{self.address.hex()})"

    @classmethod
    def load(cls, path: Path) -> "Wallet":
        """Read a key file. Raises `ChainError` KEY_FILE."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            text = f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
            raise ChainError("KEY_FILE", text) from None
        if mode & 0o077:
            text = f"{path} is readable by others (mode {mode:o}); run: chmod 600 {path}"
            raise ChainError("KEY_FILE", text)
        try:
            return cls(bytes.fromhex(text.removeprefix("0x")))
        except (ValueError, ChainError):
            text = f"{path} does not hold a private key of 64 hexadecimal digits"
            raise ChainError("KEY_FILE", text) from None

    @classmethod
    def create(cls, path: Path) -> "Wallet":
        """A new key in a new file, mode 0600. Raises `ChainError` KEY_FILE when the file exists."""
        wallet = cls(secrets.token_bytes(32))
        wallet.save(path)
        return wallet

    def save(self, path: Path) -> None:
        """Write the key to a new file, mode 0600. Raises `ChainError` KEY_FILE."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            text = f"cannot create {path}: {error.strerror}; keys are never overwritten"
            raise ChainError("KEY_FILE", text) from None
        with os.fdopen(descriptor, "w") as file:
            file.write(self._key.hex() + "\n")

    def sign_digest(self, digest: bytes) -> bytes:
        """65-byte signature r | s | v (v 27 or 28, low s) of a 32-byte digest."""
        from clearing.model.signature import eth_account

        return bytes(eth_account().Account.unsafe_sign_hash(digest, self._key).signature)

    def sign_transaction(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        """(raw bytes, hash) of an EIP-1559 transaction given by eth-account's field names."""
        from clearing.model.signature import eth_account

        signed = eth_account().Account.sign_transaction(fields, self._key)
        return bytes(signed.raw_transaction), bytes(signed.hash)

    def sign_blob_transaction(self, fields: dict[str, Any], blobs: Sequence[bytes]) -> tuple[list[bytes], bytes]:
        """(raw forms, hash) of a type-3 transaction; `fields` without the blobs' hashes.

        Two forms with one hash: with cell proofs (EIP-7594, since Osaka) and with blob proofs
        (EIP-4844, before it). A node takes the one of its fork. Raises `ChainError` BAD_BLOB.
        """
        # Signed by the hashes alone, since eth-account would load the trusted setup again for each blob.
        from clearing.chain.blobs import versioned_hash, wrapped

        hashes = [versioned_hash(blob) for blob in blobs]
        raw, tx_hash = self.sign_transaction(fields | {"type": 3, "blobVersionedHashes": hashes})
        return [wrapped(raw, blobs, cells=True), wrapped(raw, blobs, cells=False)], tx_hash


def _address_of(key: bytes) -> bytes:
    from coincurve import PublicKey

    return keccak(PublicKey.from_valid_secret(key).format(compressed=False)[1:])[12:]


def recover(digest: bytes, signature: bytes) -> bytes:
    """The 20-byte address that signed a digest; empty when the signature is malformed."""
    from coincurve import PublicKey

    if len(signature) != 65 or signature[64] not in (27, 28):
        return b""
    try:
        recoverable = signature[:64] + bytes([signature[64] - 27])
        key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except Exception:  # noqa: BLE001 - the library raises it bare on points off the curve
        return b""
    return keccak(key.format(compressed=False)[1:])[12:]


def domain_separator(chain_id: int, vault: bytes) -> bytes:
    """EIP-712 domain separator (32 bytes) of a vault."""
    words = [keccak(_DOMAIN_TYPE), keccak(VAULT_NAME.encode()), keccak(VAULT_VERSION.encode())]
    return keccak(b"".join([*words, chain_id.to_bytes(32, "big"), vault.rjust(32, b"\0")]))


def typed_digest(separator: bytes, type_text: str, *words: bytes) -> bytes:
    """EIP-712 digest of a struct whose fields are all 32-byte words."""
    return keccak(b"\x19\x01" + separator + keccak(keccak(type_text.encode()) + b"".join(words)))


def post_epoch_digest(chain_id: int, vault: bytes, header_hash: bytes) -> bytes:
    """What the operator signs to post a header: `PostEpoch(bytes32 header)`."""
    return typed_digest(domain_separator(chain_id, vault), "PostEpoch(bytes32 header)", header_hash)


def attestation_digest(chain_id: int, vault: bytes, header_hash: bytes) -> bytes:
    """What an attestor signs who replayed the journal up to a header: `Attestation(bytes32 header)`."""
    return typed_digest(domain_separator(chain_id, vault), "Attestation(bytes32 header)", header_hash)


def voucher_digest(chain_id: int, vault: bytes, voucher: Voucher) -> bytes:
    """What owner and operator sign: the voucher's fields as EIP-712 words, in the vault's domain."""
    numbers = (voucher.asset, voucher.cumulative, voucher.expiry)
    asset, cumulative, expiry = (number.to_bytes(32, "big") for number in numbers)
    words = voucher.domain, voucher.owner.rjust(32, b"\0"), asset, cumulative, expiry
    return typed_digest(domain_separator(chain_id, vault), _VOUCHER_TYPE, *words)


def journal_separator(deployment: bytes) -> bytes:
    """EIP-712 domain separator of a deployment's journal: no chain and no vault, so that one signature
    convicts on every vault of the deployment."""
    words = keccak(_JOURNAL_TYPE), keccak(JOURNAL_NAME.encode()), keccak(JOURNAL_VERSION.encode())
    return keccak(b"".join([*words, deployment]))


def checkpoint_digest(deployment: bytes, size: int, root: bytes) -> bytes:
    """What the operator signs under a checkpoint: `Checkpoint(bytes32 domain,uint64 size,bytes32 root)`,
    where `domain` is the deployment's id."""
    return typed_digest(journal_separator(deployment), CHECKPOINT_TYPE, deployment, size.to_bytes(32, "big"), root)
