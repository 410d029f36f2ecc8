# SPDX-License-Identifier: GPL-3.0-or-later
"""What cancels a member's orders when the member is gone. Two forms, which may be used together.

- `CancelOnDisconnect`: a signed CancelAll lies with the operator's interface, which submits it when the connection
  ends. At once, and as good as that process: if it is killed, the envelope is gone.
- `DeadMansSwitch`: ScheduleCancelAll in the journal, renewed before its time. It holds whatever happens to the
  interface or the network, since the sequencer's clock carries it out.
"""

import asyncio
import contextlib
from typing import Final

from clearing.client.errors import ApiError
from clearing.client.session import AsyncSession
from clearing.client.stream import AsyncStream
from clearing.model.commands import CancelAll, ScheduleCancelAll

# A held envelope's nonce must stay in the window of 1,024 below the newest: it is replaced in time.
RENEW_AFTER: Final = 400
LIFE_S: Final = 3_600


class CancelOnDisconnect:
    """Armed from `arm` until `disarm`, over reconnections. `grace_ms`: how long the operator waits for this client to
    come back. The session's key must not have another connection that does the same."""

    def __init__(self, stream: AsyncStream, session: AsyncSession, grace_ms: int = 0) -> None:
        self._stream = stream
        self._session = session
        self._grace_ms = grace_ms
        self._signed_at = 0
        self._renewing: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    async def arm(self) -> None:
        """Hand over, and again whenever it is needed. Raises `ApiError`, if the first time fails."""
        await self._stream.connected()
        await self._hand_over()
        self._stream.on_connect.append(self._hand_over)
        self._stream.on_notice.append(self._told)
        self._session.on_sign.append(self._signed)
        self._renewing = asyncio.create_task(self._renew())

    async def disarm(self) -> None:
        """Withdraw it: what is open stays open when the connection ends. Raises `ApiError`."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        self._renewing = None
        self._stream.on_connect.remove(self._hand_over)
        self._stream.on_notice.remove(self._told)
        self._session.on_sign.remove(self._signed)
        await self._stream.ask({"op": "cancel_on_disconnect", "envelopes": []})

    async def _hand_over(self) -> None:
        expiry = self._session.clock_us() + LIFE_S * 1_000_000
        envelope = self._session.sign([CancelAll()], expiry)
        self._signed_at = self._session.nonce
        texts = ["0x" + envelope.hex()]
        await self._stream.ask({"op": "cancel_on_disconnect", "envelopes": texts, "grace_ms": self._grace_ms})

    def _signed(self, nonce: int) -> None:
        if nonce - self._signed_at >= RENEW_AFTER:
            self._due.set()

    def _told(self, code: str) -> None:
        # SUPERSEDED is another connection of the same key: taking it back would be a quarrel without end.
        if code == "CANCEL_UNUSABLE":
            self._due.set()

    async def _renew(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LIFE_S / 2):
                    await self._due.wait()
            self._due.clear()
            try:
                await self._hand_over()
            except ApiError:
                await asyncio.sleep(1.0)  # a new connection hands over by itself; a refusal is tried again
                self._due.set()


class DeadMansSwitch:
    """All orders and triggers of the account are cancelled `after_s` seconds after this client was heard last. Enter
    it; it is renewed every third of that time and disarmed at the end. Renewals that fail are tried again: what they
    fail with is in `failed`."""

    def __init__(self, session: AsyncSession, after_s: float = 30.0) -> None:
        self._session = session
        self._after_s = after_s
        self._running: asyncio.Task[None] | None = None
        self.failed: ApiError | None = None

    async def __aenter__(self) -> "DeadMansSwitch":
        await self._arm()
        self._running = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
        with contextlib.suppress(ApiError):  # then it fires, which is what it is for
            await self._session.submit(ScheduleCancelAll(0))

    async def _arm(self) -> None:
        at_us = self._session.clock_us() + round(self._after_s * 1_000_000)
        receipt = await self._session.submit(ScheduleCancelAll(at_us))
        if receipt["rejected"]:
            row = receipt["rejected"][0]
            raise ApiError(str(row["code"]), f"the switch was not set: {row}", 400)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._after_s / 3)
            try:
                await self._arm()
                self.failed = None
            except ApiError as error:
                self.failed = error
