# SPDX-License-Identifier: Apache-2.0
"""A witness's cosignature on a checkpoint (C2SP tlog-cosignature, Ed25519: signature type 04).

It says: at this time, this was the largest checkpoint of this log that the witness had seen, and it extends
all those that the witness cosigned before. It is one more signature line on the note:

    — <witness> base64(key id | timestamp, u64 big-endian seconds UTC | Ed25519 signature, 64 bytes)

over `cosignature/v1\\ntime <timestamp>\\n` and the note's body, with key id = the first four bytes of
SHA-256(name | 0A | 04 | public key). The signed text does not name the witness, so that one key must not
serve two names. The post-quantum kind (06) is not read here: its lines are those of unknown keys.
"""

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from proofs.checkpoint import (
    Checkpoint,
    SignedNote,
    is_key_name,
    key_id,
    parse_verifier_key,
    signature_line,
)
from proofs.checkpoint import verifier_key as _verifier_key
from proofs.errors import CheckpointError, CosignatureError
from proofs.hashing import fixed, shown

COSIGNATURE = b"\x04"
MAX_TIME_S = (1 << 63) - 1
_TIME_BYTES = 8
_SIGNATURE_BYTES = 64


def message(body: bytes, time_s: int) -> bytes:
    """The signed text for a note's body, cosigned at `time_s` (seconds UTC). Raises `CosignatureError`."""
    if not isinstance(time_s, int) or isinstance(time_s, bool) or not 0 <= time_s <= MAX_TIME_S:
        raise CosignatureError(f"time {shown(time_s)} is not a number of seconds below 2^63")
    return b"cosignature/v1\ntime %d\n" % time_s + body


def sign(checkpoint: Checkpoint, name: str, seed: bytes, time_s: int) -> str:
    """The signature line of the witness `name` (key: a seed of 32 bytes), cosigning at `time_s` (seconds UTC).

    Raises `CosignatureError` (name or time), `CheckpointError`, `EncodingError` (seed).
    """
    if not is_key_name(name):
        raise CosignatureError(f"{name[:80]!r} is no name of a witness: empty, or with a space, a plus or a control")
    key = SigningKey(fixed(seed, 32, "seed"))
    signature = key.sign(message(checkpoint.body(), time_s)).signature
    identity = key_id(name, COSIGNATURE, bytes(key.verify_key))
    return signature_line(name, identity, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def verifier_key(name: str, public_key: bytes) -> str:
    """A witness's key as people hand it around: `<name>+<key id>+<base64 of 04 | public key>`."""
    return _verifier_key(name, COSIGNATURE, fixed(public_key, 32, "public key"))


def parse_witness_key(text: str) -> tuple[str, bytes]:
    """Name and public key (32 bytes) of a witness's verifier key. Raises `CheckpointError`."""
    name, algorithm, key = parse_verifier_key(text)
    if algorithm != COSIGNATURE:
        raise CheckpointError(f"the key of {name} is of type {algorithm.hex()}, not an Ed25519 witness's (04)")
    return name, key


def verify(note: SignedNote, name: str, public_key: bytes) -> int | None:
    """When the witness cosigned this note (seconds UTC, its newest line), None if it did not.

    Lines of other names or key ids are somebody else's. A line under this name and key id that does not verify is
    no missing one: somebody forged it or the note was altered. C2SP signed-note has the whole note refused then.
    Raises `CosignatureError`.
    """
    identity = key_id(name, COSIGNATURE, fixed(public_key, 32, "public key"))
    newest: int | None = None
    for line_name, line_id, payload in note.signatures:
        if (line_name, line_id) == (name, identity):
            time_s = _verified(note.checkpoint.body(), name, public_key, payload)
            newest = time_s if newest is None else max(newest, time_s)
    return newest


def _verified(body: bytes, name: str, public_key: bytes, payload: bytes) -> int:
    if len(payload) != _TIME_BYTES + _SIGNATURE_BYTES:
        raise CosignatureError(f"the cosignature of {name} has {len(payload)} bytes, not a time and a signature (72)")
    time_s = int.from_bytes(payload[:_TIME_BYTES], "big")
    try:
        VerifyKey(public_key).verify(message(body, time_s), payload[_TIME_BYTES:])
    except (BadSignatureError, ValueError):
        raise CosignatureError(f"the cosignature of {name} does not match this checkpoint") from None
    return time_s
