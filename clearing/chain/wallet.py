# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that sign transactions and typed data. A key never leaves this module or its file.

Key files hold 64 hexadecimal digits and are readable by their owner only; a file that others can
read is refused rather than repaired, since the key must be taken as known. eth-account is loaded
when something is signed.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from clearing.chain.abi import keccak
from clearing.chain.errors import ChainError

VAULT_NAME: Final = "Novate Vault"
VAULT_VERSION: Final = "1"
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
        from eth_account import Account

        return bytes(Account.unsafe_sign_hash(digest, self._key).signature)

    def sign_transaction(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        """(raw bytes, hash) of an EIP-1559 transaction given by eth-account's field names."""
        from eth_account import Account

        signed = Account.sign_transaction(fields, self._key)
        return bytes(signed.raw_transaction), bytes(signed.hash)


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


def checkpoint_digest(chain_id: int, vault: bytes, domain: bytes, size: int, root: bytes) -> bytes:
    """What the operator signs under a checkpoint: `Checkpoint(bytes32 domain,uint64 size,bytes32 root)`."""
    type_text = "Checkpoint(bytes32 domain,uint64 size,bytes32 root)"
    return typed_digest(domain_separator(chain_id, vault), type_text, domain, size.to_bytes(32, "big"), root)
