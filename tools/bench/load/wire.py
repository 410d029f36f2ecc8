# SPDX-License-Identifier: GPL-3.0-or-later
"""A WebSocket client that costs little: RFC 6455 without extensions, frames made before they are timed.

Rules: what is measured is the service, and generator and service share the machine; a client library that decodes and
queues every frame would take from the service what it needs. Nothing is left out for it: frames are masked, pings are
answered, and a frame that a server may not send ends the run.
"""

import asyncio
import base64
import os
import socket
import time
from collections.abc import Callable

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_FINAL = 0x80
_LINGER_S = 8.0


class WireError(Exception):
    """The server broke the protocol, or ended a connection that was to stay."""


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame, whole."""
    size, key = len(payload), os.urandom(4)
    head = bytes((_FINAL | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 1 << 16:
        head += bytes((0x80 | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((0x80 | 127,)) + size.to_bytes(8, "big")
    stretched = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    return head + key + mixed.to_bytes(size, "big")


def handshake(host: str, port: int) -> bytes:
    """The request that opens a stream."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET /v1/stream HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


class Parser:
    """Frames from bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._open = False

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What is whole by now: opcode and payload. Raises `WireError`."""
        data = self._rest + data if self._rest else data
        at, found = 0, []
        if not self._open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return []
            if not data.startswith(b"HTTP/1.1 101"):
                raise WireError(f"no stream: {data[:80]!r}")
            self._open, at = True, end + 4
            found.append((0, b""))
        while len(data) - at >= 2:
            first, size, start = data[at], data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            elif size > 127 or not first & _FINAL:
                raise WireError("a masked frame, or one in parts, from a server that sends neither")
            if start + size > len(data):
                break
            found.append((first & 0x0F, data[start : start + size]))
            at = start + size
        self._rest = data[at:]
        return found


class Connection(asyncio.Protocol):
    """One open stream; `on_text` gets what it says, `on_end` how it ended. Heartbeats are text, too."""

    def __init__(self, on_text: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._on_text, self._on_end = on_text, on_end
        self._parser = Parser()
        self._ending = False

    @classmethod
    async def open(
        cls, host: str, port: int, on_text: Callable[[bytes], None], on_end: Callable[[str], None]
    ) -> "Connection":
        """Connect. Raises `WireError`, OSError."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: cls(on_text, on_end), host, port)
        made.transport.write(handshake(host, port))
        await asyncio.wait_for(made.opened, 30)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for opcode, payload in self._parser.feed(data):
                if opcode == TEXT:
                    self._on_text(payload)
                elif opcode == 0:
                    self.opened.set_result(None)
                elif opcode == PING:
                    self.transport.write(masked(payload, PONG))
                elif opcode == CLOSE:
                    self._end(f"closed with {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}")
        except WireError as error:
            self._end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"lost ({exc})")

    def _end(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(WireError(why))
        elif not self._ending:
            self._on_end(why)
        self._ending = True
        self.transport.close()

    def close(self) -> None:
        """Leave in good order."""
        if not self._ending:
            self._ending = True
            self.transport.write(masked((1000).to_bytes(2, "big"), CLOSE))
            self.transport.close()


class Sleeper:
    """A client that subscribes and never reads. Its socket is small, so that little hides in the kernel."""

    def __init__(self, host: str, port: int, asks: list[bytes]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._socket.settimeout(_LINGER_S)
        self._socket.connect((host, port))
        self._socket.sendall(handshake(host, port))
        self._socket.sendall(b"".join(map(masked, asks)))

    def wake(self) -> int | None:
        """Read what was left: the code that the server closed with; None when it was cut, or goes on for seconds."""
        # What a small window lets through waits for acknowledgements: it would take longer than the server waits.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        parser, deadline = Parser(), time.monotonic() + _LINGER_S
        with self._socket:
            try:
                while time.monotonic() < deadline and (data := self._socket.recv(1 << 16)):
                    for opcode, payload in parser.feed(data):
                        if opcode == CLOSE:
                            return int.from_bytes(payload[:2], "big")
            except OSError:
                return None
        return None
