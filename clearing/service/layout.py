# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory: what lies where, and the keys.

    config.toml                 choices of the operator (clearing.service.config)
    keys/operator.ed25519       signs journal commands and checkpoints: 64 hex digits, mode 0600
    keys/operator.secp256k1     signs headers and transactions
    keys/publisher-N.ed25519    signs oracle updates, while the publisher runs with the operator
    journal/                    the journal
    checkpoint                  the newest signed note, for who publishes the journal
    snapshots/                  state at epochs
    epochs/                     per closed epoch: headers and diff chunks, for posting again
    attestations/               per epoch: the attestors' signatures over its headers
    sending/                    per vault: transactions that are not mined yet
    vouchers/                   per owner and asset: the last voucher that was countersigned
    link.sock                   while it runs: the sequencer's socket, to which the interface connects
                                (clearing.service.link); the interface itself writes nothing here

Keys are written once and never overwritten. A key that others can read is refused and not
repaired, since it must be taken as known. After a rotation the old and the new file lie side by
side; which one is live is what the journal says, so keys are looked up by their public half.
"""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from nacl import bindings

from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.signature import public_key_of

ED25519 = ".ed25519"
SECP256K1 = ".secp256k1"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one data directory."""

    root: Path

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def epochs(self) -> Path:
        return self.root / "epochs"

    @property
    def attestations(self) -> Path:
        return self.root / "attestations"

    @property
    def sending(self) -> Path:
        return self.root / "sending"

    @property
    def vouchers(self) -> Path:
        return self.root / "vouchers"

    @property
    def link(self) -> Path:
        return self.root / "link.sock"


def read_key(path: Path) -> bytes:
    """A key of 32 bytes. Raises `NovateError` KEY_FILE_MISSING, KEY_FILE_UNSAFE, KEY_FILE_MALFORMED."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise NovateError("KEY_FILE_MISSING", f"{path} does not exist; restore it from your backup") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NovateError("KEY_FILE_MALFORMED", f"{path} cannot be read: {error}") from None
    if mode & 0o077:
        raise NovateError("KEY_FILE_UNSAFE", f"{path} has mode {mode:o}, others can read it; run: chmod 600 {path}")
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise NovateError("KEY_FILE_MALFORMED", f"{path} does not hold 64 hexadecimal digits")
    return key


def write_key(path: Path, key: bytes) -> None:
    """Write a new key file, mode 0600. Raises `NovateError` KEY_FILE_EXISTS."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise NovateError("KEY_FILE_EXISTS", f"{path} exists; keys are never overwritten") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def ensure_key(path: Path) -> bytes:
    """The key in `path`, made from fresh randomness when there is none."""
    if path.exists():
        return read_key(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    write_key(path, key)
    return key


class Ed25519Key:
    """A signing key, expanded once: libsodium wants seed and public key side by side."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    def __repr__(self) -> str:
        return f"Ed25519Key({self.public.hex()})"

    @property
    def tagged(self) -> bytes:
        """Type byte and public key (33 bytes), as the journal names keys."""
        return bytes([ids.KEY_ED25519]) + self.public

    def sign(self, message: bytes) -> bytes:
        """Signature (64 bytes)."""
        return bindings.crypto_sign(message, self._secret)[:64]


class KeyRing:
    """Keys of the directory by their public half, read again when one is asked for that is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ed25519: dict[bytes, bytes] = {}
        self.reload()

    def reload(self) -> None:
        """Read every key file. Raises what `read_key` raises."""
        self._ed25519 = {public_key_of(seed): seed for seed in map(read_key, sorted(self._folder.glob("*" + ED25519)))}

    def ed25519(self, tagged: bytes) -> Ed25519Key:
        """The key with this tagged public half. Raises `NovateError` KEY_NOT_HELD."""
        if tagged not in self._ed25519:
            self.reload()
        if tagged not in self._ed25519:
            raise NovateError(
                "KEY_NOT_HELD",
                f"no file in {self._folder} holds the key {tagged.hex()} that the journal names",
            )
        return Ed25519Key(self._ed25519[tagged])


@dataclass(frozen=True, slots=True)
class Keys:
    """Secrets of a new deployment, 32 bytes each."""

    operator: bytes
    operator_secp256k1: bytes
    publishers: tuple[bytes, ...]


def create_keys(data_dir: Path, publishers: int = 1) -> Keys:
    """Keys of a deployment; those whose files exist are kept, the others are made."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Layout(data_dir).keys
    return Keys(
        ensure_key(folder / f"operator{ED25519}"),
        ensure_key(folder / f"operator{SECP256K1}"),
        tuple(ensure_key(folder / f"publisher-{index}{ED25519}") for index in range(publishers)),
    )
