# SPDX-License-Identifier: GPL-3.0-or-later
"""uvicorn's WebSocket protocol with a way to send frames that are encoded already, and to end a connection at once.

Rules:
- A server's text frame is not masked, so its bytes are the same for every receiver: it is framed once (`framed`) and
  shared. Compression is off, which would make it each receiver's own.
- A few small frames of a client may wait for the application before its socket is read no further: pausing for each, as
  uvicorn does, is two system calls per command.
- Nothing here waits for a peer. A connection that is ended has some seconds to take the closing frame, then its socket
  is cut; so is one that answers no ping, whether or not it reads.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION: Final = "novate.stream"
MAX_FRAME_BYTES: Final = 256 << 10
# What a client may have waiting here: so many frames of at most so many bytes, or one that is larger.
_SMALL_BYTES: Final = 4 << 10
_FEW_FRAMES: Final = 16
_TEXT: Final = 0x81


def framed(payload: bytes) -> bytes:
    """A text frame of a server, whole: RFC 6455 section 5.2."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload


def payload_of(frame: bytes) -> bytes:
    """What `framed` framed."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Wire(Protocol):
    """Where frames go. `on_room` is called when more may be written."""

    on_room: Callable[[], None] | None

    def has_room(self) -> bool: ...

    def write(self, frames: list[bytes]) -> None: ...

    def end(self, code: int, reason: str, patience_s: float) -> None: ...


class StreamProtocol(WebSocketsSansIOProtocol):
    """Offers itself to the application as `scope["extensions"][EXTENSION]`, a `Wire`."""

    on_room: Callable[[], None] | None = None

    def handle_connect(self, event: Request) -> None:
        """As uvicorn's; the application's task, which begins later, finds this object in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(Any, self.scope)["extensions"][EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """As uvicorn's, which pauses the reading unless it is paused already: so this says of a small frame."""
        if len(self.frames) == 1 and len(self.frames[0]) <= _SMALL_BYTES and self.queue.qsize() < _FEW_FRAMES:
            paused, self.read_paused = self.read_paused, True
            super().send_receive_event_to_app()
            self.read_paused = paused
        else:
            super().send_receive_event_to_app()

    def has_room(self) -> bool:
        """Whether the socket takes more without piling it up here."""
        return self.writable.is_set()

    def write(self, frames: list[bytes]) -> None:
        """Send frames as they are; nothing, once the connection is closing."""
        if self.conn.state is State.OPEN and not self.close_sent and not self.disconnected:
            self.transport.write(b"".join(frames))

    def end(self, code: int, reason: str, patience_s: float) -> None:
        """Send the closing frame, tell the application, and cut the socket when the peer does not answer in time."""
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """As uvicorn's."""
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    def keepalive_timeout(self) -> None:
        """As uvicorn's; and at once, since who answers no ping may not read what is left to be written either."""
        super().keepalive_timeout()
        self.transport.abort()


# For `uvicorn.Config`: a peer is cut that was silent for 30 s.
SETTINGS: Final[dict[str, Any]] = {
    "ws": StreamProtocol,
    "ws_max_size": MAX_FRAME_BYTES,
    "ws_per_message_deflate": False,
    "ws_ping_interval": 15.0,
    "ws_ping_timeout": 15.0,
}
