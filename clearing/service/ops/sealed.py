# SPDX-License-Identifier: GPL-3.0-or-later
"""Key files under a passphrase: Argon2id (memory-hard) and XSalsa20-Poly1305, both libsodium's.

Rules: a passphrase comes from a file or the environment, never from an argument. What does not open is one error,
whether the passphrase or the bytes are wrong. Names are file names without folders, so that opening writes nowhere
else.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from nacl import pwhash, secret, utils
from nacl.exceptions import CryptoError

from clearing.model.errors import NovateError

PASSPHRASE_VARIABLE: Final = "NOVATE_PASSPHRASE"
_MIN_LETTERS: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_VERSION: Final = 1


class _Sealed(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    salt: bytes
    operations: int
    memory: int
    box: bytes


def read_passphrase(file: Path | None) -> bytes | None:
    """From a file that only its owner can read, or from NOVATE_PASSPHRASE; None without either.

    Raises `NovateError` PASSPHRASE_UNSAFE, PASSPHRASE_WEAK.
    """
    if file is not None:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise NovateError("PASSPHRASE_UNSAFE", f"others can read {file}; run: chmod 600 {file}")
        text = file.read_bytes().strip()
    else:
        text = os.environ.get(PASSPHRASE_VARIABLE, "").encode().strip()
        if not text:
            return None
    if len(text) < _MIN_LETTERS:
        message = f"the passphrase has {len(text)} letters; take at least {_MIN_LETTERS}, better five random words"
        raise NovateError("PASSPHRASE_WEAK", message)
    return text


def seal(
    files: Mapping[str, bytes],
    passphrase: bytes,
    operations: int = pwhash.argon2id.OPSLIMIT_MODERATE,
    memory: int = pwhash.argon2id.MEMLIMIT_MODERATE,
) -> bytes:
    """The files by name, under the passphrase; `operations` and `memory` (bytes) are what a guess costs."""
    salt = utils.random(pwhash.argon2id.SALTBYTES)
    key = pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, passphrase, salt, operations, memory)
    box = secret.SecretBox(key).encrypt(msgspec.msgpack.encode(dict(files)))
    return msgspec.msgpack.encode(_Sealed(_VERSION, salt, operations, memory, bytes(box)))


def unseal(data: bytes, passphrase: bytes) -> dict[str, bytes]:
    """What was sealed. Raises `NovateError` SEAL_NOT_OPENED."""
    wrong = NovateError("SEAL_NOT_OPENED", "the keys do not open: another passphrase, or the file was altered")
    try:
        sealed = msgspec.msgpack.decode(data, type=_Sealed)
        if sealed.version != _VERSION or sealed.memory > 1 << 31 or sealed.operations > 100:
            raise wrong
        key = pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, passphrase, sealed.salt, sealed.operations, sealed.memory)
        files = msgspec.msgpack.decode(secret.SecretBox(key).decrypt(sealed.box), type=dict[str, bytes])
    except (msgspec.MsgspecError, CryptoError, ValueError, TypeError):
        raise wrong from None
    if not all(_NAME.fullmatch(name) for name in files):
        raise wrong
    return files
