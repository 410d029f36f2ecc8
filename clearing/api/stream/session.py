# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection of the stream, and the route that accepts it.

Rules:
- Whatever a client sends hurts nobody else: a frame that is not understood is answered with an error, twenty of them
  end the connection (1008); one that is too large or no text in UTF-8 ends it at once.
- Reading never waits for the sequencer: results come when they come. It waits only where the client itself is too fast
  or takes too little, and others are not touched by that.
- A connection that ends, in whatever way, gives its subscriptions back and sets off its cancels
  (clearing.api.stream.wills).
"""

import asyncio
from collections import Counter
from typing import Final

import msgspec
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from clearing.api.context import Context
from clearing.api.history import History
from clearing.api.http.limits import Buckets, Quota, Verdict, address_of
from clearing.api.messages import frames as f
from clearing.api.stream.hub import OF_INSTRUMENT, Hub
from clearing.api.stream.limits import Limits, limits_of
from clearing.api.stream.outbox import SLOW, Outbox, wire_of
from clearing.api.stream.protocol import framed
from clearing.api.stream.submits import Job, Submits
from clearing.api.stream.topics import Topic, encode
from clearing.api.stream.wills import Will, Wills, now_us
from clearing.model import ids
from clearing.model.errors import NovateError, Refused
from journal import JournalError

RESTART: Final = 1012
POLICY: Final = 1008
_decode: Final = msgspec.json.Decoder(f.Ask, strict=True).decode
_HOSTILE: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


class _Named(msgspec.Struct):
    id: f.Id = None


_named: Final = msgspec.json.Decoder(_Named, strict=True).decode


class Stream:
    """What the connections of an application share."""

    def __init__(self, context: Context, history: History, limits: Limits, quota: Quota | None = None) -> None:
        self.context = context
        self.limits = limits
        self.hub = Hub(context, history, limits)
        self.submits = Submits(context)
        self.wills = Wills(context)
        self.quota = quota or Quota(limits.key_per_second, limits.key_burst)
        self.closing = False
        self._connections: Counter[str] = Counter()
        self._reviewing = asyncio.create_task(self._review(), name="stream review")

    async def serve(self, socket: WebSocket) -> None:
        """One connection, as long as it lasts."""
        address = address_of(socket)
        if self.closing or self._connections.total() >= self.limits.connections:
            refused = Refused("OVERLOADED", "the operator takes no more streams now; retry in some seconds")
            await _deny(socket, refused, 503)
        elif self._connections[address] >= self.limits.connections_per_address:
            held = self._connections[address]
            refused = Refused("TOO_MANY_STREAMS", f"{address} has {held} streams; close some; one has many channels")
            await _deny(socket, refused, 429)
        else:
            self._connections[address] += 1
            try:
                await self._accepted(socket)
            finally:
                self._connections[address] -= 1
                if not self._connections[address]:
                    del self._connections[address]

    async def _accepted(self, socket: WebSocket) -> None:
        await socket.accept()
        session = Session(self, socket)
        self.hub.sessions.add(session)
        try:
            await session.read()
        except (WebSocketDisconnect, asyncio.CancelledError):
            pass  # the server ends it
        except Exception as error:  # noqa: BLE001 - ours; the client reconnects
            self.context.report("stream", error)
            session.end(1011, "INTERNAL")
        finally:
            session.finish()

    async def close(self) -> None:
        """Answers that are under way, cancels that are held, and 1012 to everyone."""
        self.closing = True
        self._reviewing.cancel()
        await self.submits.drain(self.limits.drain_s)
        for session in tuple(self.hub.sessions):
            session.end(RESTART, "RESTART")
        await self.wills.close(self.limits.drain_s)
        await self.hub.close()

    async def _review(self) -> None:
        while True:
            await asyncio.sleep(self.limits.heartbeat_s)
            try:
                await self.context.replica.settled()
                self.wills.review()
            except NovateError:
                continue


class Session:
    """A client's side of it."""

    def __init__(self, stream: Stream, socket: WebSocket) -> None:
        limits = stream.limits
        self._stream = stream
        self._socket = socket
        self._wire = wire_of(socket)
        self.outbox = Outbox(self._wire, limits, self._slow)
        self.topics: dict[tuple[str, int], Topic] = {}
        self.closed = False
        self._will = Will(self._notice)
        self._bad = 0
        self._under_way = 0
        self._submits = Buckets(limits.submits_per_second, limits.submits_burst, most=1)
        self._asks = Buckets(limits.asks_per_second, limits.asks_burst, most=1)

    # --- sending ---

    def tell(self, message: msgspec.Struct) -> None:
        """Queue a frame of this client's own."""
        self.outbox.put(framed(encode(message)))

    def end(self, code: int, reason: str) -> None:
        """End the connection, once; what waits is sent before."""
        if not self.closed:
            self.outbox.flush()
            self.finish()
            self._wire.end(code, reason, self._stream.limits.close_s)

    def finish(self) -> None:
        """The connection is over, or will be: give everything back, once."""
        if not self.closed:
            self.closed = True
            self.outbox.close()
            self._stream.hub.drop(self)
            self._stream.wills.ended(self._will)

    def _slow(self) -> None:
        self.end(SLOW, "SLOW_CONSUMER")

    def _notice(self, code: str, message: str) -> None:
        self.tell(f.Notice(code, message))

    # --- reading ---

    async def read(self) -> None:
        """Take frames until the end; none after `end`."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if self.closed:
                continue
            if text is None:
                self._refuse(None, "frames are text: send JSON, not binary")
            else:
                await self._take(text)

    def _refuse(self, number: f.Id, message: str) -> None:
        self._bad += 1
        self.tell(f.StreamError(number, "MALFORMED", message))
        if self._bad >= self._stream.limits.bad_frames:
            self.end(POLICY, "MALFORMED")

    async def _take(self, text: str) -> None:
        try:
            ask = _decode(text)
        except _HOSTILE as error:
            self._refuse(_id_of(text), f"not a frame of this stream: {error}; GET /v1/asyncapi.json describes them")
            return
        try:
            if isinstance(ask, f.Submit):
                self._submit(ask)
                return
            # A signature to check costs as much as a frame.
            weight = len(ask.envelopes) + 1 if isinstance(ask, f.CancelOnDisconnect) else 1
            if not self._asks.take(0, weight).allowed:  # slowed down, and nobody else with it
                await asyncio.sleep(weight / self._stream.limits.asks_per_second)
            await self._ask(ask)
        except (NovateError, JournalError) as error:
            self.tell(f.StreamError(ask.id, error.code, error.message))

    async def _ask(self, ask: f.Ask) -> None:
        match ask:
            case f.Subscribe():
                await self._subscribe(ask)
            case f.Unsubscribe():
                key = _key_of(ask)
                self._stream.hub.unsubscribe(self, ask.channel, key)
                place = {"instrument": ask.instrument, "account": ask.account}
                self.tell(f.Unsubscribed(ask.id, True, ask.channel, **place))
            case f.Ping():
                self.tell(f.Pong("pong", ask.id, self._stream.hub.seq, now_us()))
            case f.CancelOnDisconnect():
                raws = [_bytes(text) for text in ask.envelopes]
                await self._stream.wills.hand_over(self._will, raws, ask.grace_ms)
                self.tell(f.Armed(ask.id, True, len(raws), ask.grace_ms))
            case f.Leave():
                self._stream.wills.withdraw(self._will)
                self.tell(f.Left(ask.id, True))
                self.end(1000, "")
            case f.Submit():
                raise AssertionError("taken before")

    async def _subscribe(self, ask: f.Subscribe) -> None:
        key = _key_of(ask)
        limit = self._stream.limits.subscriptions
        if len(self.topics) >= limit and (ask.channel, key) not in self.topics:
            raise Refused("TOO_MANY_SUBSCRIPTIONS", f"a connection has at most {limit}; unsubscribe, or open another")
        await self._stream.hub.subscribe(self, ask, key)

    # --- commands ---

    def _submit(self, ask: f.Submit) -> None:
        """Raises `Refused`: nothing of the frame was sent."""
        raws = [_bytes(text) for text in ask.envelopes]
        count = len(raws)
        if self._under_way + count > self._stream.limits.under_way:
            text = f"{self._under_way} envelopes of this connection wait for results; send on when some have come"
            self.tell(f.StreamError(ask.id, "OVERLOADED", text, 100))
            return
        verdict = self._charge(raws)
        if not verdict.allowed:
            text = f"too many at once: send the same again in {verdict.retry_s} s, and then more slowly"
            self.tell(f.StreamError(ask.id, "RATE_LIMITED", text, verdict.retry_s * 1_000))
            return
        self._under_way += count

        def done(frame: bytes) -> None:
            self._under_way -= count
            self.outbox.put(frame)

        self._stream.submits.add(Job(ask.id, raws, ask.outcomes, done))

    def _charge(self, raws: list[bytes]) -> Verdict:
        """To the connection, its address and the keys that signed."""
        verdict = self._submits.take(0, len(raws))
        return self._stream.quota.take(address_of(self._socket), raws) if verdict.allowed else verdict


async def _deny(socket: WebSocket, error: Refused, status: int) -> None:
    answer = JSONResponse({"code": error.code, "message": error.message}, status, {"retry-after": "5"})
    await socket.send_denial_response(answer)


def _bytes(text: str) -> bytes:
    """Raises `Refused` MALFORMED, ENVELOPE_TOO_LARGE."""
    if len(text) > 2 * ids.MAX_ENVELOPE_BYTES + 2:
        raise Refused("ENVELOPE_TOO_LARGE", f"at most {ids.MAX_ENVELOPE_BYTES} bytes: fewer commands per batch")
    try:
        raw = bytes.fromhex(text[2:]) if text.startswith("0x") else b""
    except ValueError:
        raw = b""
    if not raw:
        raise Refused("MALFORMED", "an envelope is 0x and hexadecimal digits; nothing of this frame was sent")
    return raw


def _key_of(ask: f.Subscribe | f.Unsubscribe) -> int:
    """What a channel is of. Raises `Refused` BAD_PARAMETER."""
    wanted = "instrument" if ask.channel in OF_INSTRUMENT else "account" if ask.channel == "account" else None
    for name, given in (("instrument", ask.instrument), ("account", ask.account)):
        if (given is not None) != (name == wanted):
            needs = f"needs {wanted!r} and nothing else" if wanted else "is of the venue: no instrument, no account"
            raise Refused("BAD_PARAMETER", f"channel {ask.channel!r} {needs}")
    return (ask.account if ask.instrument is None else ask.instrument) or 0


def _id_of(text: str) -> f.Id:
    """The id of a frame that is wrong otherwise, so that its sender finds out which."""
    try:
        return _named(text).id
    except _HOSTILE:
        return None


def stream_route(
    context: Context, history: History, limits: Limits | None = None, quota: Quota | None = None
) -> WebSocketRoute:
    """The route of the stream. Call it on the event loop that serves it; it closes with the context. `quota`: what
    may be submitted, shared with whoever else takes envelopes."""
    stream = Stream(context, history, limits or limits_of(context.config.api), quota)
    context.on_close(stream.close)
    return WebSocketRoute("/v1/stream", stream.serve, name="stream")
