# SPDX-License-Identifier: Apache-2.0
"""Entry bundles of a log that is published privately: encrypted, while tiles and checkpoints stay in clear.

Rules:
- A log has one key of 32 bytes. Bundle N is sealed under a key of its own, derived by BLAKE2b keyed with
  the log key over N; who is given that key reads the 256 entries of this bundle and no others.
- A sealed bundle is XSalsa20-Poly1305 (libsodium's secretbox): 24 bytes of nonce, then the box. The nonce
  is a keyed hash of the contents: the same bundle always gives the same bytes, so that a publication that
  was interrupted repeats itself, and different widths of a bundle never share a nonce.
- Decrypting shows only that the holder of the key wrote it. That the entries are the log's is checked
  against the leaf hashes, as for an open log.

What a reader without the key can check: that the log only grows, that a checkpoint is signed and
cosigned, and that an entry which its owner discloses with a proof is in it. What such a reader cannot
check: any entry that nobody disclosed, and therefore no replay, no balance and no solvency. What such a
reader learns: how many entries there are, when they were published, the length of each bundle, and the
leaf hash of each entry, which lets a guess be confirmed. An entry holds a signature that an outsider
cannot guess; one made of guessable bytes alone would not be hidden by its hash.
"""

from hashlib import blake2b
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from proofs.errors import TileError
from proofs.hashing import fixed, unsigned

KEY_BYTES: Final = SecretBox.KEY_SIZE
OVERHEAD_BYTES: Final = SecretBox.NONCE_SIZE + SecretBox.MACBYTES
_KEY: Final = b"novate/bundle/v1"
_NONCE_KEY: Final = b"novate/nonces/v1"


def bundle_key(log_key: bytes, index: int) -> bytes:
    """The key (32 bytes) of bundle number `index`. Raises `EncodingError`."""
    number = unsigned(index, 64, "bundle number")
    return blake2b(number, digest_size=KEY_BYTES, key=fixed(log_key, KEY_BYTES, "log key"), person=_KEY).digest()


def seal(log_key: bytes, index: int, bundle: bytes) -> bytes:
    """Bundle `index`, encrypted. Raises `EncodingError` for a key that is not 32 bytes."""
    key = bundle_key(log_key, index)
    nonce = blake2b(bundle, digest_size=SecretBox.NONCE_SIZE, key=key, person=_NONCE_KEY).digest()
    return bytes(SecretBox(key).encrypt(bundle, nonce))


def unseal(log_key: bytes, index: int, sealed: bytes) -> bytes:
    """The bundle in clear. Raises `TileError` if it was not sealed under this log key and number."""
    return unseal_with(bundle_key(log_key, index), sealed)


def unseal_with(key: bytes, sealed: bytes) -> bytes:
    """As `unseal`, with the key of this one bundle."""
    try:
        return SecretBox(fixed(key, KEY_BYTES, "bundle key")).decrypt(sealed)
    except (CryptoError, ValueError, TypeError):
        raise TileError("the bundle does not open with this key: it is another log's key, or it was changed") from None
