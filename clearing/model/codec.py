# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of envelopes, bodies and entries. Decoding is strict: one value has one encoding.

msgspec raises UnicodeDecodeError and OverflowError besides its own errors on hostile bytes; all
of them become `Refused` MALFORMED here, so that no caller has to know.
"""

import hashlib

import msgspec

from clearing.model import ids
from clearing.model.commands import Body, Envelope
from clearing.model.errors import NovateError, Refused
from clearing.model.outcomes import Outcome

_HOSTILE = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    OverflowError,
    ValueError,
    RecursionError,
)

_encode = msgspec.msgpack.Encoder().encode
_decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
_decode_body = msgspec.msgpack.Decoder(Body).decode


class Entry(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The journal's record of one envelope and its outcomes. Time is microseconds UTC."""

    seq: int
    time_us: int
    envelope: bytes
    outcomes: list[Outcome]


_decode_entry = msgspec.msgpack.Decoder(Entry).decode


def encode(value: object) -> bytes:
    """Canonical msgpack of any model struct."""
    return _encode(value)


def body_hash(body: bytes) -> bytes:
    """SHA-256 of body bytes (32): what replay protection and oracle chains are keyed on."""
    return hashlib.sha256(body).digest()


def decode_envelope(data: bytes) -> tuple[Envelope, Body]:
    """Strictly decode wire bytes. Raises `Refused` MALFORMED or ENVELOPE_TOO_LARGE."""
    if len(data) > ids.MAX_ENVELOPE_BYTES:
        raise Refused(
            "ENVELOPE_TOO_LARGE",
            f"{len(data)} bytes; at most {ids.MAX_ENVELOPE_BYTES}: send fewer commands per batch",
        )
    return decode_any_envelope(data)


def decode_any_envelope(data: bytes) -> tuple[Envelope, Body]:
    """As `decode_envelope`, without the size limit (genesis may be larger)."""
    try:
        envelope = _decode_envelope(data)
        body = _decode_body(envelope.body)
    except _HOSTILE as error:
        raise Refused("MALFORMED", f"not a canonical envelope: {error}") from None
    if _encode(envelope) != data or _encode(body) != envelope.body:
        raise Refused("MALFORMED", "not the canonical encoding: use the shortest msgpack forms")
    return envelope, body


def encode_entry(seq: int, time_us: int, envelope: bytes, outcomes: list[Outcome]) -> bytes:
    """Entry bytes, the log's leaf data. Raises `NovateError` ENTRY_TOO_LARGE past 65,535 bytes."""
    data = _encode((seq, time_us, envelope, outcomes))
    if len(data) > ids.MAX_ENTRY_BYTES:
        raise NovateError("ENTRY_TOO_LARGE", f"entry {seq} has {len(data)} bytes; the limit is 65535")
    return data


def decode_entry(data: bytes) -> Entry:
    """Strictly decode entry bytes. Raises `NovateError` ENTRY_MALFORMED."""
    try:
        entry = _decode_entry(data)
    except _HOSTILE as error:
        raise NovateError("ENTRY_MALFORMED", f"not a journal entry: {error}") from None
    if _encode(entry) != data:
        raise NovateError("ENTRY_MALFORMED", "the entry is not in canonical encoding")
    return entry
