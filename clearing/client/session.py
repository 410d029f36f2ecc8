# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's trading session: commands are signed here and the key goes nowhere.

Rules:
- One signature covers a batch of up to 50 commands, with one nonce and one expiry.
- Nonces start at the session's first microsecond and count up, so that a new session is above every
  earlier one without asking anyone, and commands of one session may arrive out of order.
- A submission without an answer is repeated byte for byte: the operator gives an identical retry the
  first one's receipt, so nothing happens twice.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from clearing.client.http import ApiClient, ApiError
from clearing.model import ids
from clearing.model.commands import MemberBatch, MemberCommand
from clearing.model.errors import NovateError
from clearing.model.signature import sign


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1_000


class Session:
    """Signs for `account` with a 32-byte Ed25519 `seed`. `lifetime_us` is how long a command stays valid
    after signing; `attempts` and `pause_s` govern retries; with `proofs` receipts hold the entry and its path."""

    def __init__(
        self,
        api: ApiClient,
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
        self.account = account
        self._proofs = proofs
        self._api = api
        self._deployment = deployment
        self._seed = seed
        self._clock_us = clock_us
        self._lifetime_us = lifetime_us
        self._attempts = attempts
        self._pause_s = pause_s
        self._nonce = clock_us()

    def sign(self, commands: Sequence[MemberCommand], expiry_us: int | None = None) -> bytes:
        """Envelope bytes of a batch. Raises `NovateError` BATCH_SIZE."""
        if not 1 <= len(commands) <= ids.MAX_COMMANDS_PER_BATCH:
            raise NovateError(
                "BATCH_SIZE", f"a batch holds 1 to {ids.MAX_COMMANDS_PER_BATCH} commands, not {len(commands)}"
            )
        self._nonce += 1
        expiry = self._clock_us() + self._lifetime_us if expiry_us is None else expiry_us
        return sign(MemberBatch(self._deployment, self.account, self._nonce, expiry, tuple(commands)), self._seed)

    def submit(self, *commands: MemberCommand) -> dict[str, Any]:
        """Sign, submit, and retry while there is no answer; the receipt. Raises `ApiError`, `NovateError`."""
        return self.send(self.sign(commands))

    def send(self, envelope: bytes) -> dict[str, Any]:
        """Submit signed bytes until there is an answer. Raises `ApiError`."""
        for attempt in range(self._attempts):
            try:
                return self._api.submit(envelope, self._proofs)
            except ApiError as error:
                if not error.transient or attempt + 1 == self._attempts:
                    raise
            time.sleep(self._pause_s * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")
