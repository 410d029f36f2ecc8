# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around every resource: limits, `min_seq`, errors as answers, and headers that say how fresh the answer is.

Headers of each answer: x-novate-seq (the state is after this entry), x-novate-age-ms (since the sequencer was last
heard), x-novate-stale (1: longer ago than five seconds, or not connected), and x-ratelimit-limit, -remaining, -reset.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from clearing.api.context import Context
from clearing.api.http import errors
from clearing.api.http.limits import Buckets, Quota, Verdict, address_of
from clearing.api.http.table import Resource
from clearing.api.replica import Replica
from clearing.model.errors import NovateError, Refused
from clearing.service.wire import number
from journal import JournalError

Endpoint = Callable[[Request], Awaitable[Response]]
MIN_SEQ_S: Final = 2.0
_LAST_SEQ: Final = 2**53
_AHEAD: Final = 10_000


class Guard:
    """Makes endpoints of resources. Reads are limited by the client's address. What submits envelopes is limited by
    `quota`, a second time where its keys are known; it leaves the verdict in `request.state.verdict`."""

    def __init__(self, context: Context, quota: Quota) -> None:
        self._context = context
        self._quota = quota
        config = context.config.api
        self._reads = Buckets(config.reads_per_second, config.reads_burst)

    def endpoint(self, resource: Resource) -> Endpoint:
        """The resource's handler with everything around it."""

        async def answer(request: Request) -> Response:
            address = address_of(request)
            verdict = self._quota.knock(address) if resource.submits else self._reads.take(address)
            try:
                response = await self._answer(resource, request, verdict)
            except HTTPException:
                raise
            except Limited as error:
                response = errors.answer(error)
            except (NovateError, JournalError) as error:
                if errors.status_of(error) == 500:
                    self._context.report(f"http {resource.path}", error)
                response = errors.answer(error)
            except ClientDisconnect:
                response = errors.answer(Refused("MALFORMED", "the body was cut short; send all of it"))
            except Exception as error:  # noqa: BLE001 - a caller gets a code, never a traceback
                self._context.report(f"http {resource.path}", error)
                response = errors.internal()
            response.headers.update(getattr(request.state, "verdict", verdict).headers())
            response.headers.update(self._freshness())
            return response

        return answer

    async def _answer(self, resource: Resource, request: Request, verdict: Verdict) -> Response:
        if not verdict.allowed:
            raise Limited(verdict)
        text = request.query_params.get("min_seq")
        if text is not None and resource.waits:
            await self._reach(number(text, "min_seq", 0, _LAST_SEQ))
        found = await resource.handler(request)
        return errors.json(found) if isinstance(found, msgspec.Struct) else found

    async def _reach(self, seq: int) -> None:
        """Wait until the state is after entry `seq`. Raises `NovateError` REPLICA_BEHIND."""
        replica = self._context.replica
        if replica.seq > seq:
            return
        # Nobody was ever told of an entry far ahead.
        if seq > replica.head + _AHEAD or not await replica.wait_for(seq, MIN_SEQ_S):
            text = f"the state is after entry {replica.seq - 1}, not yet after {seq}; ask again in a second"
            raise NovateError("REPLICA_BEHIND", text)

    def _freshness(self) -> dict[str, str]:
        replica = self._context.replica
        return {
            "x-novate-seq": str(replica.seq - 1),
            "x-novate-age-ms": str(age_ms(replica)),
            "x-novate-stale": "1" if replica.stale else "0",
        }


def age_ms(replica: Replica) -> int:
    """Milliseconds since the sequencer was last heard; 2^53 for never."""
    return round(min(replica.age_s * 1_000, float(_LAST_SEQ)))


class Limited(Refused):
    """Too much was asked for. `verdict` says when again."""

    def __init__(self, verdict: Verdict) -> None:
        text = f"too many: send again in {verdict.retry_s} s, then more slowly; never over {verdict.limit} at once"
        super().__init__("RATE_LIMITED", text)
        self.verdict = verdict
