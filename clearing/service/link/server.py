# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequencer's end of the link: a socket in the data directory, and the connections on it.

Rules:
- The writer thread touches two things here, and waits for neither: a result goes into a list, and its connection is
  woken; a commit goes into the ring, and followers are woken. Sockets, encoding and questions are other threads'.
- Receipts are sent after the commit that holds the command, since that is when the writer resolves them.
- Whoever does not read is cut: a connection with too many unread answers, a follower whom the ring has passed by, one
  that takes nothing for `SEND_TIMEOUT_S`. Others do not notice.
- What a client sends can end its own connection and nothing else.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from clearing.model.errors import NovateError
from clearing.service.link import frames as f
from clearing.service.link.answers import Answers
from clearing.service.link.commands import Commands
from clearing.service.link.ring import Ring
from clearing.service.link.unix import listen
from clearing.service.sequencer import Sequencer

HELLO_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 20.0
BEAT_S: Final = 1.0
DRAIN_S: Final = 2.0
MAX_CONNECTIONS: Final = 64
_MOST_PUSH_BYTES: Final = 2 << 20
_CHUNK_BYTES: Final = 1 << 18
Report = Callable[[str, BaseException], None]


class Channel:
    """A connected socket that speaks frames."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = bytearray()

    def receive(self, limit: int) -> bytes | None:
        """The next frame's body; None when the other end is done. Raises `BadFrame`, OSError. After a TimeoutError it
        can be called again: what has come is kept."""
        if not self._fill(f.HEADER.size):
            return None
        end = f.HEADER.size + f.length(bytes(self._rest[: f.HEADER.size]), limit)
        self._fill(end)
        body = bytes(self._rest[f.HEADER.size : end])
        del self._rest[:end]
        return body

    def _fill(self, size: int) -> bool:
        """Have `size` bytes at hand; False when the other end is done and nothing is."""
        while len(self._rest) < size:
            part = self.sock.recv(_CHUNK_BYTES)
            if not part:
                if self._rest:
                    raise f.BadFrame("the connection ended within a frame")
                return False
            self._rest += part
        return True

    def send(self, *messages: f.ToClient) -> None:
        """Raises OSError, TimeoutError when the other end does not read."""
        self.sock.sendall(b"".join(map(f.encode, messages)))

    def farewell(self, error: NovateError) -> None:
        """Say why, if the other end still listens, and end it."""
        with contextlib.suppress(OSError):
            self.sock.settimeout(1.0)
            self.send(f.Farewell(error.code, error.message))
        self.end()

    def end(self, how: int = socket.SHUT_RDWR) -> None:
        """Wake whoever waits on the socket; the thread that reads it closes it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(how)


class LinkServer:
    """Serves the link of one data directory from construction to `close`. The writer's calls of `ring` are
    the caller's to connect. Raises `NovateError` LINK_UNAVAILABLE when it cannot listen."""

    def __init__(
        self, path: Path, deployment: bytes, sequencer: Sequencer, ring: Ring, answers: Answers, report: Report
    ) -> None:
        self.path = path
        self.answers = answers
        self._deployment = deployment
        self._sequencer = sequencer
        self._ring = ring
        self._report = report
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="link ask")
        self._lock = threading.Lock()
        self._channels: set[Channel] = set()
        self._closed = False
        self._listener = listen(path)
        self._thread = threading.Thread(target=self._accept, name="link", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._channels)

    def close(self) -> None:
        """Take nothing more, send what is answered and committed to those who read, and remove the socket. Call it
        when the sequencer is closed. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            channels = list(self._channels)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._ring.close()
        for channel in channels:
            channel.end(socket.SHUT_RD)
        until = time.monotonic() + DRAIN_S
        while self._channels and time.monotonic() < until:
            time.sleep(0.005)
        for channel in channels:
            channel.end()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- connections ---

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                self._report("link", error)
                time.sleep(0.1)  # out of descriptors: let some go
                continue
            channel = Channel(sock)
            if self._admit(channel):
                threading.Thread(target=self._serve, args=(channel,), name="link reader", daemon=True).start()
            else:
                channel.farewell(NovateError("OVERLOADED", f"{MAX_CONNECTIONS} connections are open; retry later"))
                sock.close()

    def _admit(self, channel: Channel) -> bool:
        with self._lock:
            admitted = len(self._channels) < MAX_CONNECTIONS and not self._closed
            if admitted:
                self._channels.add(channel)
            return admitted

    def _serve(self, channel: Channel) -> None:
        """One connection, to its end."""
        try:
            self._converse(channel)
        except NovateError as error:
            channel.farewell(error)
        except OSError:
            pass  # it went away, or took nothing for too long
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self._report("link", error)
        finally:
            channel.end()
            channel.sock.close()
            with self._lock:
                self._channels.discard(channel)

    def _converse(self, channel: Channel) -> None:
        channel.sock.settimeout(HELLO_TIMEOUT_S)
        first = channel.receive(1 << 10)
        if first is None:
            return
        hello = f.to_server(first)
        if not isinstance(hello, f.Hello):
            raise f.BadFrame(f"a {type(hello).__name__} before the Hello")
        if hello.version != f.VERSION:
            message = f"the sequencer speaks version {f.VERSION} of the link, not {hello.version}; update both together"
            raise NovateError("LINK_VERSION", message)
        channel.sock.settimeout(SEND_TIMEOUT_S)
        if hello.role == f.FOLLOW:
            self._feed(channel, hello)
        elif hello.role == f.COMMANDS:
            channel.send(self._welcome())
            Commands(channel, self._sequencer, self.answers, self._pool).run()
        else:
            raise f.BadFrame(f"no role is named {hello.role[:40]!r}; roles are {f.COMMANDS} and {f.FOLLOW}")

    def _welcome(self) -> f.Welcome:
        return f.Welcome(f.VERSION, self._deployment, f.Signed(*self._ring.checkpoint))

    def _feed(self, channel: Channel, hello: f.Hello) -> None:
        position = self._ring.join(hello.from_seq, hello.block_hash)
        channel.send(self._welcome())
        while True:
            news = self._ring.wait(position, BEAT_S, _MOST_PUSH_BYTES)
            if news is None:
                if self._closed:
                    return
                channel.send(f.Beat(self._ring.size))
            else:
                position = news.position
                channel.send(f.Blocks(news.blocks, f.Signed(*news.head)))
