# SPDX-License-Identifier: GPL-3.0-or-later
"""The API process's end of the link to the sequencer.

Rules:
- One connection for commands and questions, kept open and opened again for as long as the process lives. Requests on
  it overlap; answers are paired with them.
- Nothing is sent twice by itself. When the connection breaks, every waiting request fails with SEQUENCER_UNREACHABLE,
  which says whether the commands may have been journalled: sending the same signed bytes again is always safe, since
  the writer answers an identical retry with the first receipt.
- All of it belongs to one event loop.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError, Refused
from clearing.service.checkpoints import SignedCheckpoint
from clearing.service.link import frames as f
from clearing.service.link.unix import address
from clearing.service.pipeline import Receipt

RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 1.0
HELLO_TIMEOUT_S: Final = 10.0
# What is read ahead of whoever takes it; a larger frame passes in parts.
BUFFER_BYTES: Final = 1 << 20
# Results that are decoded before the loop serves others: about a millisecond.
DECODE_AT_ONCE: Final = 50
_NOT_SENT: Final = "the sequencer cannot be reached; nothing was sent: retry the same signed bytes in a moment"
_UNKNOWN: Final = (
    "the sequencer went away before it answered; whether this was journalled is not known: retry the same signed "
    "bytes, which cannot be carried out twice"
)
_SLOW: Final = (
    "the sequencer did not answer in {:g} s; whether this was journalled is not known: retry the same signed bytes, "
    "which cannot be carried out twice"
)
_BUSY: Final = "{} bytes of requests wait for the sequencer already; retry in a second"


def unreachable(message: str) -> NovateError:
    """SEQUENCER_UNREACHABLE, which is answered with status 503."""
    return NovateError(f.UNREACHABLE, message)


class Peer:
    """A connection after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: f.Welcome) -> None:
        self.reader = reader
        self.writer = writer
        self.welcome = welcome

    @classmethod
    async def connect(cls, path: Path, hello: f.Hello) -> "Peer":
        """Connect and say hello. Raises `NovateError`: SEQUENCER_UNREACHABLE, LINK_BAD_FRAME, or the code with
        which the sequencer turned us away."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                with address(path) as name:
                    reader, writer = await asyncio.open_unix_connection(name, limit=BUFFER_BYTES)
                try:
                    writer.write(f.encode(hello))
                    await writer.drain()
                    first = await receive(reader)
                    if isinstance(first, f.Farewell):
                        raise NovateError(first.code, first.message)
                    if not isinstance(first, f.Welcome):
                        raise f.BadFrame(f"a {type(first).__name__} where a Welcome was due")
                except BaseException:
                    writer.close()
                    raise
        except (OSError, EOFError) as error:
            raise unreachable(f"no sequencer answers at {path} ({type(error).__name__}); is it running?") from None
        return cls(reader, writer, first)

    def close(self) -> None:
        self.writer.close()


async def receive(reader: asyncio.StreamReader) -> f.ToClient:
    """The next message. Raises `BadFrame`, and OSError or EOFError when the connection ends."""
    size = f.length(await reader.readexactly(f.HEADER.size), f.MAX_ANSWER_BYTES)
    return f.to_client(await reader.readexactly(size))


def checkpoint_of(head: f.Signed) -> SignedCheckpoint:
    """The checkpoint that a message carries."""
    return SignedCheckpoint(head.size, head.root, head.note)


class Link:
    """The way to the writer. `start` and `close` it on the event loop that uses it.

    `timeout_s` bounds one request; `max_waiting_bytes` what may wait for an answer together. `on_change` hears
    whether it is connected.
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0, max_waiting_bytes: int = 64 << 20) -> None:
        self.path = path
        self.connected = False
        self.fault: NovateError | None = None
        self.on_change: Callable[[bool], None] | None = None
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting_bytes
        self._waiting_bytes = 0
        self._pending: dict[int, asyncio.Future[f.Results | f.Answer]] = {}
        self._next_id = 0
        self._peer: Peer | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Begin to connect; returns at once. `wait_connected` waits for it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="link")

    async def wait_connected(self, timeout_s: float) -> bool:
        """Whether the sequencer is reached within a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        return self.connected

    async def close(self) -> None:
        """End the connection; what waits fails. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def submit(self, envelopes: Sequence[bytes]) -> list[Receipt | NovateError]:
        """Have 1 to 1,000 signed envelopes sequenced in this order; per envelope its receipt or why it was refused.

        Answers after the commit that holds them. Raises `NovateError` SEQUENCER_UNREACHABLE, `Refused` OVERLOADED
        (nothing was sent) and BAD_PARAMETER (how many).
        """
        if not 1 <= len(envelopes) <= f.MAX_SUBMIT:
            raise Refused("BAD_PARAMETER", f"{len(envelopes)} envelopes; send 1 to {f.MAX_SUBMIT} at once")
        found = await self._request(lambda number: f.Submit(number, list(envelopes)))
        if not isinstance(found, f.Results) or len(found.results) != len(envelopes):
            raise f.BadFrame("the sequencer answered with something else than a result per envelope")
        return await self._results(found)

    async def _results(self, found: f.Results) -> list[Receipt | NovateError]:
        """Decode in turns: one commit may answer many requests at once, and the loop has others to serve."""
        heads = [checkpoint_of(head) for head in found.heads]
        results: list[Receipt | NovateError] = []
        for at in range(0, len(found.results), DECODE_AT_ONCE):
            async with self._turn:
                results += [_result(row, heads) for row in found.results[at : at + DECODE_AT_ONCE]]
                await asyncio.sleep(0)
        return results

    async def ask(self, name: str, *args: Any) -> Any:
        """What only the writer's process has: "status", "checkpoint", "posted", "epoch_note", "bundle", "attest",
        "attestations", "voucher", "report" (clearing.service.link.answers). Raises the `NovateError` or `Refused` of
        the answer, SEQUENCER_UNREACHABLE, OVERLOADED."""
        found = await self._request(lambda number: f.Ask(number, name, list(args)))
        if not isinstance(found, f.Answer):
            raise f.BadFrame("the sequencer answered a question with something else")
        if found.code:
            raise f.error_of(found.code, found.message, found.refused)
        return found.value

    # --- one request ---

    async def _request(self, make: Callable[[int], f.Submit | f.Ask]) -> f.Results | f.Answer:
        peer = self._peer
        if peer is None:
            raise unreachable(_NOT_SENT)
        self._next_id = number = self._next_id + 1
        frame = f.encode(make(number))
        # What was given up on may still wait to be sent, if the sequencer stands still.
        waiting = max(self._waiting_bytes, peer.writer.transport.get_write_buffer_size())
        if waiting + len(frame) > self._max_waiting:
            raise Refused("OVERLOADED", _BUSY.format(waiting))
        self._waiting_bytes += len(frame)
        future: asyncio.Future[f.Results | f.Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            peer.writer.write(frame)
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError:
            raise unreachable(_SLOW.format(self._timeout_s)) from None
        finally:
            self._waiting_bytes -= len(frame)
            self._pending.pop(number, None)

    # --- the connection ---

    async def _run(self) -> None:
        delay = RETRY_FIRST_S
        while True:
            try:
                peer = await Peer.connect(self.path, f.Hello(f.VERSION, f.COMMANDS))
                delay = RETRY_FIRST_S
                try:
                    self._set(peer)
                    await self._read(peer)
                finally:
                    self._set(None)
                    peer.close()
            except NovateError as error:
                self.fault = error
            except Exception as error:  # noqa: BLE001 - whatever ended it, there is a next connection
                self.fault = unreachable(f"the connection ended ({type(error).__name__})")
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_MOST_S)

    def _set(self, peer: Peer | None) -> None:
        self._peer, self.connected = peer, peer is not None
        if peer is not None:
            self.fault = None
            self._up.set()
        else:
            self._up.clear()
            pending, self._pending = self._pending, {}
            for future in pending.values():
                if not future.done():
                    future.set_exception(unreachable(_UNKNOWN))
        if self.on_change is not None:
            self.on_change(self.connected)

    async def _read(self, peer: Peer) -> None:
        while True:
            message = await receive(peer.reader)
            match message:
                case f.Results() | f.Answer():
                    future = self._pending.get(message.id)  # gone: its caller gave up
                    if future is not None and not future.done():
                        future.set_result(message)
                case f.Farewell():
                    raise NovateError(message.code, message.message)
                case f.Beat():
                    pass
                case _:
                    raise f.BadFrame(f"a {type(message).__name__} on a connection for commands")


def _result(row: f.Done | f.Failed, heads: list[SignedCheckpoint]) -> Receipt | NovateError:
    if isinstance(row, f.Failed):
        return f.error_of(row.code, row.message, row.refused)
    entry = decode_entry(row.entry)
    receipt = Receipt(row.seq, entry.time_us, row.entry, list(entry.outcomes))
    receipt.checkpoint = heads[row.head]
    return receipt
