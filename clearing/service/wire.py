# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTTP interface takes: bodies, parameters and JSON objects, read strictly.

Rules: whatever is not what a resource takes is a `Refused` BAD_PARAMETER (a body that is too large: the code that
the resource names), and says what would be right. Nothing is read past its limit.
"""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from clearing.model.errors import Refused

T = TypeVar("T")


class AttestationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/attestations. Bytes are 0x-hexadecimal."""

    vault: int
    epoch: int
    header_hash: str
    signature: str


class VoucherBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/vouchers. `cumulative`: atoms, as a number or a decimal string; `expiry`: seconds UTC."""

    vault: int
    asset: int
    cumulative: int | str
    expiry: int
    owner: str
    signature: str


async def body(request: Request, limit: int, code: str) -> bytes:
    """The body, read no further than `limit` bytes. Raises `Refused` with `code`."""
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > limit:
            raise Refused(code, f"the body is larger than {limit} bytes; send less at once")
        parts.append(part)
    return b"".join(parts)


def number(text: str, name: str, low: int, high: int) -> int:
    """A decimal parameter in low..high. Raises `Refused` BAD_PARAMETER."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= high):
        raise Refused("BAD_PARAMETER", f"{name} = {text[:40]!r}: it must be a whole number from {low} to {high}")
    return int(text)


def address(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise Refused("BAD_PARAMETER", f"{text[:50]!r} is not an address: 0x and 40 hexadecimal digits")
    return raw


def data(text: str, name: str, low: int, high: int) -> bytes:
    """Bytes of a hexadecimal field, `low` to `high` of them. Raises `Refused` BAD_PARAMETER."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if not low <= len(raw) <= high:
        size = str(low) if low == high else f"{low} to {high}"
        raise Refused("BAD_PARAMETER", f"{name} {text[:40]!r} is not {size} bytes of hexadecimal digits")
    return raw


def fields(content: bytes, kind: type[T]) -> T:
    """A JSON object of a known shape. Raises `Refused` BAD_PARAMETER."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused("BAD_PARAMETER", f"the body is not the JSON object of this resource: {error}") from None
