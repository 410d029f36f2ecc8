# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's trading session: commands are signed here and the key goes nowhere.

Rules:
- One signature covers a batch of up to 50 commands, with one nonce and one expiry.
- Nonces start at the session's first microsecond and count up, so that a new session is above every earlier one without
  asking anyone, and commands of one session may arrive out of order, within a window of 1,024. Two sessions at the same
  time need two keys.
- A submission without an answer is repeated byte for byte, after a growing pause: the operator gives an identical
  retry the first one's receipt, so nothing happens twice. When the operator no longer has the receipt at hand and
  refuses such a repetition (NONCE_USED), the journal is searched for the envelope (clearing.client.resolve).
- When nothing answers in all attempts, `OutcomeUnknown` holds the envelope; only then is anything left to find out.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from clearing.client.errors import ApiError, OutcomeUnknown, pause_s
from clearing.client.resolve import asearch, search
from clearing.model import ids
from clearing.model.commands import MemberBatch, MemberCommand
from clearing.model.errors import NovateError
from clearing.model.signature import sign

if TYPE_CHECKING:
    from clearing.client.aio import AsyncApiClient
    from clearing.client.http import ApiClient


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


class Signer:
    """Signs for `account` with a 32-byte Ed25519 `seed`. `lifetime_us` is how long a command stays valid after
    signing."""

    def __init__(
        self,
        deployment: bytes,
        account: int,
        seed: bytes,
        *,
        clock_us: Callable[[], int] = now_us,
        lifetime_us: int = 60_000_000,
    ) -> None:
        self.account = account
        self.clock_us = clock_us
        self._deployment = deployment
        self._seed = seed
        self._lifetime_us = lifetime_us
        self.nonce = clock_us()
        self.on_sign: list[Callable[[int], None]] = []  # hear each nonce

    def sign(self, commands: Sequence[MemberCommand], expiry_us: int | None = None) -> bytes:
        """Envelope bytes of a batch. Raises `NovateError` BATCH_SIZE."""
        if not 1 <= len(commands) <= ids.MAX_COMMANDS_PER_BATCH:
            raise NovateError(
                "BATCH_SIZE", f"a batch holds 1 to {ids.MAX_COMMANDS_PER_BATCH} commands, not {len(commands)}"
            )
        self.nonce += 1
        expiry = self.clock_us() + self._lifetime_us if expiry_us is None else expiry_us
        body = MemberBatch(self._deployment, self.account, self.nonce, expiry, tuple(commands))
        for hear in tuple(self.on_sign):
            hear(self.nonce)
        return sign(body, self._seed)


class Session(Signer):
    """Submits what it signs. `attempts` and `pause_s` govern retries; with `proofs` receipts hold the entry and its
    path."""

    def __init__(
        self,
        api: "ApiClient",
        deployment: bytes,
        account: int,
        seed: bytes,
        *,
        clock_us: Callable[[], int] = now_us,
        lifetime_us: int = 60_000_000,
        attempts: int = 5,
        pause_s: float = 0.2,
        proofs: bool = False,
    ) -> None:
        super().__init__(deployment, account, seed, clock_us=clock_us, lifetime_us=lifetime_us)
        self._proofs = proofs
        self._api = api
        self._attempts = attempts
        self._pause_s = pause_s

    @classmethod
    def open(cls, api: "ApiClient", account: int, seed: bytes, **choices: Any) -> "Session":
        """A session of the deployment that `api` serves. Raises `ApiError`."""
        return cls(api, bytes.fromhex(str(api.status()["deployment"])[2:]), account, seed, **choices)

    def submit(self, *commands: MemberCommand) -> dict[str, Any]:
        """Sign, submit, and retry while there is no answer; the receipt. Raises `ApiError`, `NovateError`."""
        return self.send(self.sign(commands))

    def send(self, envelope: bytes) -> dict[str, Any]:
        """Submit signed bytes until there is an answer. Raises `ApiError`, `OutcomeUnknown`."""
        before, retry = self._api.head, _Retry(envelope, self._attempts, self._pause_s)
        while True:
            try:
                return self._api.submit(envelope, self._proofs)
            except ApiError as error:
                if retry.is_ours(error):
                    return search(self._api, envelope, before + 1, error)
                wait = retry.after(error)
            time.sleep(wait)


class AsyncSender(Protocol):
    """What takes signed bytes to the operator and brings the receipt: a stream. It retries by itself."""

    def send(self, envelope: bytes, *, outcomes: bool = False) -> Awaitable[dict[str, Any]]: ...


class AsyncSession(Signer):
    """As `Session`, for asyncio. With a `stream` submissions go over that connection, in the order of calls, and many
    may be under way; receipts then hold `outcomes` only if `outcomes` is chosen."""

    def __init__(
        self,
        api: "AsyncApiClient",
        deployment: bytes,
        account: int,
        seed: bytes,
        *,
        stream: AsyncSender | None = None,
        outcomes: bool = True,
        clock_us: Callable[[], int] = now_us,
        lifetime_us: int = 60_000_000,
        attempts: int = 5,
        pause_s: float = 0.2,
        proofs: bool = False,
    ) -> None:
        super().__init__(deployment, account, seed, clock_us=clock_us, lifetime_us=lifetime_us)
        self.api = api
        self.stream = stream
        self._outcomes = outcomes
        self._attempts = attempts
        self._pause_s = pause_s
        self._proofs = proofs

    @classmethod
    async def open(cls, api: "AsyncApiClient", account: int, seed: bytes, **choices: Any) -> "AsyncSession":
        """A session of the deployment that `api` serves. Raises `ApiError`."""
        return cls(api, bytes.fromhex(str((await api.status())["deployment"])[2:]), account, seed, **choices)

    async def submit(self, *commands: MemberCommand) -> dict[str, Any]:
        """Sign, submit, and retry while there is no answer; the receipt. Raises `ApiError`, `NovateError`."""
        return await self.send(self.sign(commands))

    async def send(self, envelope: bytes) -> dict[str, Any]:
        """Submit signed bytes until there is an answer. Raises `ApiError`, `OutcomeUnknown`."""
        if self.stream is not None:
            return await self.stream.send(envelope, outcomes=self._outcomes)
        before, retry = self.api.head, _Retry(envelope, self._attempts, self._pause_s)
        while True:
            try:
                return await self.api.submit(envelope, self._proofs)
            except ApiError as error:
                if retry.is_ours(error):
                    return await asearch(self.api, envelope, before + 1, error)
                wait = retry.after(error)
            await asyncio.sleep(wait)


class _Retry:
    """One envelope's attempts."""

    def __init__(self, envelope: bytes, attempts: int, first_s: float) -> None:
        self._envelope = envelope
        self._attempts = attempts
        self._first_s = first_s
        self._made = 0
        self._unknown = False

    def is_ours(self, error: ApiError) -> bool:
        """Whether this refusal says nothing of an earlier attempt, which may have been carried out."""
        return self._unknown and not error.transient

    def after(self, error: ApiError) -> float:
        """Seconds until the next attempt. Raises `error`, or `OutcomeUnknown`, when there is none."""
        self._made += 1
        if not error.transient:
            raise error
        self._unknown = self._unknown or error.unknown
        if self._made >= self._attempts:
            raise OutcomeUnknown(self._envelope, str(error)) if self._unknown else error
        return max(error.retry_after_s or 0.0, pause_s(self._made - 1, self._first_s))
