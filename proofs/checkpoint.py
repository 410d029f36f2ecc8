# SPDX-License-Identifier: Apache-2.0
"""The journal's size and root as a signed note (C2SP signed-note and tlog-checkpoint).

The body is three lines: origin, decimal size, base64 root. Signature lines follow a blank line. The
first is Ed25519 (algorithm 01). A second line, of an algorithm outside the registry (ff), carries
the operator's secp256k1 signature over EIP-712 `Checkpoint(bytes32 domain,uint64 size,bytes32 root)`
for the contract; readers that do not know it skip it, and its check lives outside this package.
"""

import base64
import binascii

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from proofs.errors import CheckpointError
from proofs.hashing import HASH_BYTES, OWNER_BYTES, fixed, sha256, shown

ED25519 = b"\x01"
EIP712 = b"\xffnovate-eip712-checkpoint"
_DASH = "\u2014 "
_MAX_BYTES = 16_384


def is_key_name(text: str) -> bool:
    """Whether a key may be so named: no space, plus or control character, nor what no terminal shows."""
    return bool(text) and text.isprintable() and "+" not in text and not any(char.isspace() for char in text)


class Checkpoint(msgspec.Struct, frozen=True):
    """Size (entries) and root (32 bytes) of the log named `origin`."""

    origin: str
    size: int
    root: bytes

    def body(self) -> bytes:
        """The signed text. Raises `CheckpointError` for what a note cannot hold."""
        if not is_key_name(self.origin):
            raise CheckpointError(
                f"origin {self.origin[:80]!r} is empty, or has a space, a plus or a control character"
            )
        if not 0 <= self.size < 1 << 63 or len(self.root) != HASH_BYTES:
            raise CheckpointError(f"size {shown(self.size)} is not below 2^63, or the root is not 32 bytes")
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


class SignedNote(msgspec.Struct, frozen=True):
    """A parsed note: its checkpoint and (key name, key id, signature bytes) per line, in order."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[str, bytes, bytes], ...]


def origin_of(domain: str, deployment_id: bytes) -> str:
    """Origin of a deployment's journal: `<domain>/<deployment id hex>/journal`."""
    return f"{domain}/{deployment_id.hex()}/journal"


def key_id(name: str, algorithm: bytes, key: bytes) -> bytes:
    """First four bytes of SHA-256(name | 0A | algorithm | key)."""
    return sha256(name.encode() + b"\n" + algorithm + key)[:4]


def verifier_key(name: str, algorithm: bytes, key: bytes) -> str:
    """A key as people hand it around (C2SP signed-note): `<name>+<key id, hex>+<base64 of algorithm | key>`."""
    return f"{name}+{key_id(name, algorithm, key).hex()}+{base64.b64encode(algorithm + key).decode()}"


def parse_verifier_key(text: str) -> tuple[str, bytes, bytes]:
    """Name, algorithm byte and key of a verifier key. Raises `CheckpointError`."""
    name, plus, rest = text.strip().partition("+")
    identity, second, data = rest.partition("+")
    if not plus or not second or not is_key_name(name):
        raise CheckpointError(f"{text[:80]!r} is not a verifier key: <name>+<key id>+<base64>")
    raw = _base64(data, "verifier key")
    if len(raw) != 33 or identity != key_id(name, raw[:1], raw[1:]).hex():
        raise CheckpointError(f"{text[:80]!r} does not hold the key that its id names; was it copied whole?")
    return name, raw[:1], raw[1:]


def signature_line(name: str, identity: bytes, signature: bytes) -> str:
    return f"{_DASH}{name} {base64.b64encode(identity + signature).decode()}\n"


def sign(checkpoint: Checkpoint, seed: bytes, extra_lines: tuple[str, ...] = ()) -> str:
    """Note text signed by an Ed25519 seed (32 bytes), with further signature lines after it.

    Raises `CheckpointError`, or `EncodingError` for the seed.
    """
    key = SigningKey(fixed(seed, 32, "seed"))
    body = checkpoint.body()
    identity = key_id(checkpoint.origin, ED25519, bytes(key.verify_key))
    line = signature_line(checkpoint.origin, identity, key.sign(body).signature)
    return body.decode() + "\n" + line + "".join(extra_lines)


def secp256k1_line(origin: str, address: bytes, signature: bytes) -> str:
    """The contract's signature line: 65 bytes of `address` (20 bytes). Raises `EncodingError`."""
    identity = key_id(origin, EIP712, fixed(address, OWNER_BYTES, "address"))
    return signature_line(origin, identity, fixed(signature, 65, "secp256k1 signature"))


def secp256k1_signature(note: SignedNote, address: bytes) -> bytes | None:
    """The 65-byte signature of `address` on a note, unchecked, or None."""
    identity = key_id(note.checkpoint.origin, EIP712, address)
    for name, found, signature in note.signatures:
        if name == note.checkpoint.origin and found == identity and len(signature) == 65:
            return signature
    return None


def parse(text: str) -> SignedNote:
    """Strictly parse a note, without checking signatures. Raises `CheckpointError`."""
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        raise CheckpointError("the checkpoint is larger than 16 KiB")
    body, blank, tail = text.partition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) != 3 or not tail.endswith("\n"):
        raise CheckpointError("a checkpoint is three lines, a blank line, and signature lines")
    origin, size, root = lines
    if not size.isascii() or not size.isdecimal() or (size != "0" and size.startswith("0")) or len(size) > 19:
        raise CheckpointError(f"size {size[:40]!r} is not a decimal number")
    checkpoint = Checkpoint(origin, int(size), _base64(root, "root"))
    if checkpoint.body() != (body + "\n").encode():
        raise CheckpointError("the checkpoint is not in its one canonical form")
    signatures = tuple(_signature(line) for line in tail[:-1].split("\n"))
    return SignedNote(checkpoint, signatures)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, data = line.removeprefix(_DASH).partition(" ")
    raw = _base64(data, "signature")
    if not line.startswith(_DASH) or not space or not is_key_name(name) or len(raw) < 5:
        raise CheckpointError(f"{line[:60]!r} is not a signature line")
    return name, raw[:4], raw[4:]


def _base64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointError(f"the {what} is not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise CheckpointError(f"the {what} is not canonical base64")
    return raw


def verify(text: str, public_key: bytes, origin: str) -> Checkpoint:
    """The checkpoint, if it is of `origin` and signed by `public_key` (32 bytes). Raises `CheckpointError`."""
    note = parse(text)
    if note.checkpoint.origin != origin:
        raise CheckpointError(f"the checkpoint is of {note.checkpoint.origin[:200]!r}, not of {origin[:200]!r}")
    identity = key_id(origin, ED25519, public_key)
    for name, found, signature in note.signatures:
        if name == origin and found == identity and len(signature) == 64:
            try:
                VerifyKey(public_key).verify(note.checkpoint.body(), signature)
            except (BadSignatureError, ValueError):
                raise CheckpointError("the Ed25519 signature does not match") from None
            return note.checkpoint
    raise CheckpointError("no signature line of the expected key")
