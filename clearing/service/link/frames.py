# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels on the link.

A frame is a 4-byte big-endian length and that many bytes of msgpack: an array whose first item is the message's tag.
A connection begins with `Hello` and is answered with `Welcome` or `Farewell`. As a "commands" connection it then
carries `Submit` and `Ask` one way, `Results` and `Answer` the other, in any order, paired by `id`. As a "follow"
connection it carries `Blocks` and `Beat` to the follower and nothing back.

Rules:
- A length of 0 or past the limit, bytes that are no message, or a message out of place end the connection with a
  `Farewell` that says why. Nothing of a bad frame is acted on.
- Both ends are processes of one machine and one user (the socket has mode 0600): the link authenticates nobody, and
  signatures of what it carries are the writer's to check.
"""

import struct
from typing import Any, Final

import msgspec

from clearing.model.errors import NovateError, Refused

VERSION: Final = 1
COMMANDS: Final = "commands"
FOLLOW: Final = "follow"
HEADER: Final = struct.Struct(">I")
# A submission of 1,000 envelopes of the largest size fits; an answer may hold as many entries of 65,535 bytes.
MAX_REQUEST_BYTES: Final = 96 << 20
MAX_ANSWER_BYTES: Final = 160 << 20
MAX_SUBMIT: Final = 1_000
UNREACHABLE: Final = "SEQUENCER_UNREACHABLE"


class _Frame(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages."""


class Signed(_Frame, frozen=True):
    """A signed head: entries, root (32 bytes), note."""

    size: int
    root: bytes
    note: str


class Hello(_Frame, frozen=True, tag=0):
    """`role`: COMMANDS or FOLLOW. A follower has all blocks before `from_seq`, the last with `block_hash` (32
    bytes; zeros at 0)."""

    version: int
    role: str
    from_seq: int = 0
    block_hash: bytes = bytes(32)


class Submit(_Frame, frozen=True, tag=1):
    """1 to MAX_SUBMIT signed envelopes, to be sequenced in this order."""

    id: int
    envelopes: list[bytes]


class Ask(_Frame, frozen=True, tag=2):
    """A question by name, with its arguments."""

    id: int
    name: str
    args: list[Any]


class Welcome(_Frame, frozen=True, tag=10):
    """The venue's deployment (32 bytes) and signed head."""

    version: int
    deployment: bytes
    head: Signed


class Farewell(_Frame, frozen=True, tag=11):
    """Why this connection ends."""

    code: str
    message: str


class Done(_Frame, frozen=True, tag=0):
    """An envelope that is in the journal as `entry`, under the signed head with the index `head`."""

    seq: int
    entry: bytes
    head: int


class Failed(_Frame, frozen=True, tag=1):
    """An envelope that was not taken. `refused`: its sender's fault, not the writer's."""

    code: str
    message: str
    refused: bool


class Results(_Frame, frozen=True, tag=12):
    """What became of each envelope of a `Submit`, in order, after the commit."""

    id: int
    heads: list[Signed]
    results: list[Done | Failed]


class Answer(_Frame, frozen=True, tag=13):
    """The answer to an `Ask`; with a `code`, its error. `refused`: the asker's fault, not the writer's."""

    id: int
    value: Any = None
    code: str = ""
    message: str = ""
    refused: bool = False


class Blocks(_Frame, frozen=True, tag=14):
    """Committed blocks in order, raw, and the signed head after the last of them."""

    blocks: list[bytes]
    head: Signed


class Beat(_Frame, frozen=True, tag=15):
    """Nothing new: the writer lives and its journal has `size` entries."""

    size: int


ToServer = Hello | Submit | Ask
ToClient = Welcome | Farewell | Results | Answer | Blocks | Beat

_encoder: Final = msgspec.msgpack.Encoder()
_to_server: Final[msgspec.msgpack.Decoder[ToServer]] = msgspec.msgpack.Decoder(ToServer)
_to_client: Final[msgspec.msgpack.Decoder[ToClient]] = msgspec.msgpack.Decoder(ToClient)
_HOSTILE: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


class BadFrame(NovateError):
    """The other end does not speak this protocol."""

    def __init__(self, message: str) -> None:
        super().__init__("LINK_BAD_FRAME", message)


def encode(message: ToServer | ToClient) -> bytes:
    """A whole frame. Raises `BadFrame` when it would be past the limit."""
    body = _encoder.encode(message)
    if len(body) > MAX_ANSWER_BYTES:
        raise BadFrame(f"a message of {len(body)} bytes is over the link's limit of {MAX_ANSWER_BYTES}")
    return HEADER.pack(len(body)) + body


def length(header: bytes, limit: int) -> int:
    """The length that a header announces. Raises `BadFrame`."""
    (size,) = HEADER.unpack(header)
    if not 0 < size <= limit:
        raise BadFrame(f"a frame of {size} bytes; it must have 1 to {limit}")
    return int(size)


def to_server(body: bytes) -> ToServer:
    """A client's message. Raises `BadFrame`."""
    try:
        return _to_server.decode(body)
    except _HOSTILE as error:
        raise BadFrame(f"these bytes are no message of the link: {error}") from None


def to_client(body: bytes) -> ToClient:
    """A server's message. Raises `BadFrame`."""
    try:
        return _to_client.decode(body)
    except _HOSTILE as error:
        raise BadFrame(f"these bytes are no message of the link: {error}") from None


def error_of(code: str, message: str, refused: bool) -> NovateError:
    """The error that was sent as its code and message."""
    return Refused(code, message) if refused else NovateError(code, message)
