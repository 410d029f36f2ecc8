# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancel on disconnect: signed cancels that the server holds, and submits when a connection ends.

The operator cannot sign for anybody, so a client hands over envelopes that it has signed. They are worth what this
process is worth: if it is killed, they are gone. What holds without it is ScheduleCancelAll, the dead man's switch in
the journal, which the client renews.

Rules:
- What is handed over must be usable when it is needed: signed by a live key of its account, with an unused nonce and
  an expiry at least `MIN_LIFE_S` past the grace; and it may do nothing but cancel.
- A key's envelope for an account is held once. Who hands over anew, on whatever connection, takes it over: the other
  connection (it may be dead without anybody having noticed) no longer cancels. A client with two connections at the
  same time uses two keys.
- Within the grace after an end, handing over anew calls the cancelling off. At shutdown there is no grace.
- Submission is tried until the sequencer has answered or the envelope has expired.
- What becomes unusable while it is held (its nonce was used or passed, its key revoked, its expiry near) is told to the
  client once, as a notice.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from clearing.api.context import Context
from clearing.core.state import State
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import decode_envelope
from clearing.model.errors import NovateError, Refused
from clearing.model.signature import verify

MIN_LIFE_S: Final = 60
_MAX_COMMANDS: Final = 50
_CANCELS: Final = (c.CancelAll, c.CancelOrder, c.ScheduleCancelAll)
_AGAIN: Final = ("SEQUENCER_UNREACHABLE", "OVERLOADED", "NODE_HALTED", "SHUTTING_DOWN")
_RETRY_FIRST_S: Final = 0.1
_RETRY_MOST_S: Final = 5.0
_TOGETHER: Final = 1_000
Holder = tuple[int, bytes]


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


class Held:
    """An envelope that was handed over."""

    __slots__ = ("body", "key", "raw", "warned")

    def __init__(self, raw: bytes, body: c.MemberBatch, key: bytes) -> None:
        self.raw = raw
        self.body = body
        self.key = key
        self.warned = False

    @property
    def holder(self) -> Holder:
        return self.body.account, self.key


class Will:
    """What one connection handed over. `notice` reaches its client while it is there."""

    def __init__(self, notice: Callable[[str, str], None]) -> None:
        self.notice = notice
        self.held: list[Held] = []
        self.grace_ms = 0
        self.timer: asyncio.TimerHandle | None = None


class Wills:
    """One per application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by: dict[Holder, Will] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def hand_over(self, will: Will, raws: Sequence[bytes], grace_ms: int) -> None:
        """Replace what `will` holds. Nothing is changed when any is refused. Raises `Refused` and `NovateError`."""
        held = [_decoded(raw) for raw in raws]
        if len({one.holder for one in held}) < len(held):
            raise Refused("BAD_PARAMETER", "two envelopes are of the same key and account; put the commands into one")
        state = await self._context.replica.settled()
        for one in held:
            flaw = _flaw(state, one, grace_ms)
            if flaw is not None:
                raise flaw
        self._release(will)
        for one in held:
            before = self._by.get(one.holder)
            if before is not None:
                self._supersede(before, one.holder)
            self._by[one.holder] = will
        will.held, will.grace_ms = held, grace_ms

    def withdraw(self, will: Will) -> None:
        """The client leaves in good order."""
        self._release(will)

    def ended(self, will: Will) -> None:
        """The connection ended: cancel, after the grace."""
        if will.held:
            loop = asyncio.get_running_loop()
            will.timer = loop.call_later(will.grace_ms / 1_000, self._fire, will) if will.grace_ms else None
            if will.timer is None:
                self._fire(will)

    def review(self) -> None:
        """Tell clients whose envelopes could not be used any more. Call it with a whole state."""
        for holder, will in self._by.items():
            for one in will.held:
                if one.holder == holder and not one.warned and will.timer is None:
                    flaw = _flaw(self._context.replica.state, one, 0, MIN_LIFE_S // 2)
                    if flaw is not None:
                        one.warned = True
                        text = f"account {one.body.account}: {flaw.code}: {flaw.message}; hand over a new one"
                        will.notice("CANCEL_UNUSABLE", text)

    async def close(self, timeout_s: float) -> None:
        """Submit everything that is held, at once, and wait for the answers for a time."""
        for will in dict.fromkeys(self._by.values()):
            self._fire(will)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    # --- inner ---

    def _release(self, will: Will) -> None:
        for one in will.held:
            if self._by.get(one.holder) is will:
                del self._by[one.holder]
        will.held = []

    def _supersede(self, will: Will, holder: Holder) -> None:
        will.held = [one for one in will.held if one.holder != holder]
        if will.timer is None:
            text = f"account {holder[0]}: another connection of the same key cancels on its end now; this one does not"
            will.notice("CANCEL_SUPERSEDED", text)

    def _fire(self, will: Will) -> None:
        if will.timer is not None:
            will.timer.cancel()
            will.timer = None
        held = will.held
        self._release(will)
        if held:
            task = asyncio.create_task(self._submit(held))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _submit(self, held: list[Held]) -> None:
        """Until each is answered or expired."""
        delay = _RETRY_FIRST_S
        while held:
            try:
                results = await self._context.link.submit([one.raw for one in held[:_TOGETHER]])
            except NovateError as error:
                results = [error] * len(held)
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                self._context.report("stream cancel on disconnect", error)
                results = [NovateError("OVERLOADED", str(error))] * len(held)
            left = []
            for one, result in zip(held, results, strict=False):
                if isinstance(result, NovateError) and result.code in _AGAIN and one.body.expiry_us > now_us():
                    left.append(one)
                else:
                    self._note(one, result)
            held = left
            if held:
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MOST_S)

    def _note(self, one: Held, result: object) -> None:
        log = self._context.log
        if log is not None:
            code = result.code if isinstance(result, NovateError) else "done"
            log.info("cancelled on disconnect", account=one.body.account, nonce=str(one.body.nonce), result=code)


def _decoded(raw: bytes) -> Held:
    """Raises `Refused` MALFORMED, BAD_SIGNATURE, UNSUPPORTED_KEY, NOT_A_CANCEL."""
    envelope, body = decode_envelope(raw)
    cancels = isinstance(body, c.MemberBatch) and all(isinstance(command, _CANCELS) for command in body.commands)
    if not isinstance(body, c.MemberBatch) or not cancels or not 1 <= len(body.commands) <= _MAX_COMMANDS:
        raise Refused("NOT_A_CANCEL", "hand over batches of CancelAll, CancelOrder and ScheduleCancelAll, nothing else")
    verify(envelope, body)
    return Held(raw, body, envelope.key)


def _flaw(state: State, one: Held, grace_ms: int, life_s: int = MIN_LIFE_S) -> Refused | None:
    """Why an envelope could not be used at the end of a grace; None when it could."""
    body, key = one.body, state.keys.get(one.key)
    if body.deployment != state.deployment:
        return Refused("WRONG_DEPLOYMENT", "the envelope is for another deployment; GET /v1/status names this one")
    if not 0 <= body.account < len(state.accounts):
        return Refused("UNKNOWN_ACCOUNT", f"there is no account {body.account}")
    if key is None or key.owner is not state.accounts[body.account].owner or key.revoked:
        return Refused("UNKNOWN_KEY", "the key is not registered for this account's owner, or was revoked")
    if not key.scope & ids.SCOPE_TRADE:
        return Refused("OUT_OF_SCOPE", "the session key may not trade; register a key with the needed scope")
    if not key.nonces.is_fresh(body.nonce):
        return Refused("NONCE_USED", f"nonce {body.nonce} is used or too old; use one above {key.nonces.high}")
    needed = now_us() + (life_s * 1_000 + grace_ms) * 1_000
    if min(body.expiry_us, key.expiry_us) < needed:
        text = f"the envelope or its key expires within {life_s} s of the end of the grace; sign one that lasts longer"
        return Refused("CANCEL_EXPIRES_SOON", text)
    return None
