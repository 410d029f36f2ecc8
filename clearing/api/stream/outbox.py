# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits to be sent to one client: a bounded queue of frames that are encoded already.

Rules:
- `put` never waits. Frames that are put in the same turn of the loop go out in one write.
- Who takes too little is dropped (1013), and what waited for it is forgotten. A frame onto an empty queue is always
  taken, however large.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from clearing.api.stream.limits import Limits
from clearing.api.stream.protocol import EXTENSION, Wire, payload_of

SLOW: Final = 1013


class Outbox:
    """The queue of one connection. `on_slow` is called once, when it is full."""

    def __init__(self, wire: Wire, limits: Limits, on_slow: Callable[[], None]) -> None:
        self._wire = wire
        self._limits = limits
        self._on_slow = on_slow
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = []
        self._bytes = 0
        self._scheduled = False
        self._closed = False
        self._calm = asyncio.Event()
        self._calm.set()
        wire.on_room = self._flush

    def put(self, frame: bytes) -> None:
        """Send a frame when there is room."""
        if self._closed:
            return
        frames = self._frames
        limits = self._limits
        if frames and (len(frames) >= limits.queue_frames or self._bytes + len(frame) > limits.queue_bytes):
            self.close()
            self._on_slow()
            return
        frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > limits.calm_bytes:
            self._calm.clear()
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def calm(self) -> None:
        """Wait until little waits to be sent: before something large is made. A client that takes nothing for a while
        is dropped."""
        try:
            async with asyncio.timeout(self._limits.calm_s):
                await self._calm.wait()
        except TimeoutError:
            self.close()
            self._on_slow()

    def close(self) -> None:
        """Forget what waits, and take no more."""
        self._closed = True
        self._frames = []
        self._bytes = 0
        self._calm.set()
        self._wire.on_room = None

    def flush(self) -> None:
        """Write what waits now, before the connection is ended in good order."""
        if self._frames:
            self._wire.write(self._frames)
            self._frames = []
            self._bytes = 0

    def _flush(self) -> None:
        self._scheduled = False
        if self._frames and self._wire.has_room():
            frames, self._frames = self._frames, []
            self._bytes = 0
            self._calm.set()
            self._wire.write(frames)


class AsgiWire:
    """A `Wire` over any ASGI server: a task sends text frame by text frame."""

    def __init__(self, socket: WebSocket) -> None:
        self.on_room: Callable[[], None] | None = None
        self._socket = socket
        self._sending: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def has_room(self) -> bool:
        return self._sending is None

    def write(self, frames: list[bytes]) -> None:
        before = self._sending
        self._sending = asyncio.create_task(self._send(frames, before))

    def end(self, code: int, reason: str, patience_s: float) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(code, reason, patience_s))

    async def _send(self, frames: list[bytes], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        try:
            for frame in frames:
                await self._socket.send_text(payload_of(frame).decode())
        except (WebSocketDisconnect, RuntimeError):
            return  # it is gone, or is being closed: the receiving side says so
        if self._sending is asyncio.current_task():
            self._sending = None
            if self.on_room is not None:
                self.on_room()

    async def _end(self, code: int, reason: str, patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                if self._sending is not None:
                    await self._sending
                await self._socket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            if self._sending is not None:
                self._sending.cancel()


def wire_of(socket: WebSocket) -> Wire:
    """The server's own (clearing.api.stream.protocol) where it offers one."""
    found: Wire | None = socket.scope.get("extensions", {}).get(EXTENSION)
    return found if found is not None else AsgiWire(socket)
