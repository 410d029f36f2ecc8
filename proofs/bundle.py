# SPDX-License-Identifier: Apache-2.0
"""The offline proof bundle: one JSON file that holds all that a verdict needs.

Bytes are hex, amounts are decimal strings and counts are numbers below 2^53, so that any language
reads it without loss. Unknown fields are errors, and so are fields given twice (readers differ in
which they take) and text that a terminal would not show.
"""

import json
from typing import Annotated, Any

import msgspec

from proofs.errors import BundleError
from proofs.leaf import MAX_LANES

FORMAT = "novate-bundle/1"
MAX_BYTES = 8 * 1024 * 1024
_DEPTH_LIMIT = 64
_NAME_LIMIT = 255
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ExitPart(_Part, frozen=True):
    """The owner's exit leaf and its path (hashes hex, sums decimal per lane)."""

    index: Count
    owner: str
    exits: tuple[str, ...]
    withdraw_acks: tuple[str, ...]
    hashes: tuple[str, ...]
    sums: tuple[tuple[str, ...], ...]


class StatePart(_Part, frozen=True):
    """One account's state leaf and its path; amounts decimal."""

    account: Count
    sub: Count
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

    seq: Count
    entry: str
    proof: tuple[str, ...]


class Bundle(_Part, frozen=True):
    """Everything that `proofs.verify.verify` reads."""

    format: str
    deployment_id: str
    chain_id: Count
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
    """Bytes of the file: indented JSON. Raises `BundleError` for values that JSON cannot hold."""
    try:
        return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"the bundle cannot be written as JSON: {_plain(str(error))}") from None


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuses an object with a field given twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise BundleError("a field is given twice, so that readers may differ; fetch the bundle again")


def _plain(text: str) -> str:
    """At most 200 characters, those that a terminal shows: what hostile bytes may say in a message."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def decode(data: bytes) -> Bundle:
    """Strictly read a bundle. Raises `BundleError`."""
    if len(data) > MAX_BYTES:
        raise BundleError(f"the file has {len(data)} bytes; a bundle has at most {MAX_BYTES}")
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
        json.loads(data, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"not a Novate bundle: {_plain(str(error))}; fetch it again") from None
    if bundle.format != FORMAT:
        raise BundleError(f"format {_plain(bundle.format)!r} is not known; this reads {FORMAT}")
    if not 1 <= len(bundle.assets) <= MAX_LANES:
        raise BundleError(f"a vault has 1 to {MAX_LANES} assets; the bundle names {len(bundle.assets)}")
    if any(len(name) > _NAME_LIMIT or not name.isprintable() for name in (bundle.origin, *bundle.assets)):
        raise BundleError(f"the origin and the assets' names are at most {_NAME_LIMIT} printable characters")
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
