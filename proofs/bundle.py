# SPDX-License-Identifier: Apache-2.0
"""The offline proof bundle: one JSON file that holds all that a verdict needs.

Bytes are hex, big integers are decimal strings, so that any language reads it without loss.
Unknown fields are errors.
"""

import msgspec

from proofs.errors import BundleError

FORMAT = "novate-bundle/1"
MAX_BYTES = 8 * 1024 * 1024
_DEPTH_LIMIT = 64


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ExitPart(_Part, frozen=True):
    """The owner's exit leaf and its path (hashes hex, sums decimal per lane)."""

    index: int
    owner: str
    exits: tuple[str, ...]
    withdraw_acks: tuple[str, ...]
    hashes: tuple[str, ...]
    sums: tuple[tuple[str, ...], ...]


class StatePart(_Part, frozen=True):
    """One account's state leaf and its path; amounts decimal."""

    account: int
    sub: int
    salt: str
    equity: str
    deficit: str
    margin_initial: str
    margin_maintenance: str
    stress_loss: str
    details: str
    hashes: tuple[str, ...]


class EntryPart(_Part, frozen=True):
    """A journal entry (hex) and its inclusion in the log of the header's size."""

    seq: int
    entry: str
    proof: tuple[str, ...]


class Bundle(_Part, frozen=True):
    """Everything that `proofs.verify.verify` reads."""

    format: str
    deployment_id: str
    chain_id: int
    vault: str
    origin: str
    operator_key: str
    assets: tuple[str, ...]
    header: str
    exit: ExitPart
    checkpoint: str
    states: tuple[StatePart, ...] = ()
    entries: tuple[EntryPart, ...] = ()


def encode(bundle: Bundle) -> bytes:
    """Bytes of the file: indented JSON."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"


def decode(data: bytes) -> Bundle:
    """Strictly read a bundle. Raises `BundleError`."""
    if len(data) > MAX_BYTES:
        raise BundleError(f"the file has {len(data)} bytes; a bundle has at most {MAX_BYTES}")
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise BundleError(f"not a Novate bundle: {error}; fetch it again") from None
    if bundle.format != FORMAT:
        raise BundleError(f"format {bundle.format!r} is not known; this reads {FORMAT}")
    if len(bundle.exit.hashes) > _DEPTH_LIMIT or len(bundle.exit.sums) > _DEPTH_LIMIT:
        raise BundleError("the exit path is longer than any tree")
    return bundle


def unhex(text: str, what: str) -> bytes:
    """Bytes of lower-case hex; every other spelling is refused. Raises `BundleError`."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise BundleError(f"{what} is not hex") from None
    if raw.hex() != text:
        raise BundleError(f"{what} is not lower-case hex")
    return raw


def number(text: str, what: str) -> int:
    """A non-negative decimal. Raises `BundleError`."""
    if not text.isascii() or not text.isdecimal() or len(text) > 40 or str(int(text)) != text:
        raise BundleError(f"{what} {text[:50]!r} is not a decimal number")
    return int(text)
