# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed commands: one envelope, or up to 1,000, answered after the commit that holds them.

Placing, replacing and cancelling orders, triggers, withdrawals and the rest are commands inside an envelope; the same
bytes always get the same receipt, so that a retry can do no harm.
"""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from clearing.api.context import Context
from clearing.api.http import errors
from clearing.api.http.guard import Limited
from clearing.api.http.limits import Quota, address_of
from clearing.api.http.shown import answer
from clearing.api.http.table import Param, Resource
from clearing.api.messages.commands import EnvelopeBody, EnvelopesBody, Receipt, Results
from clearing.model import ids
from clearing.model.errors import NovateError, Refused
from clearing.service import views, wire
from clearing.service.pipeline import Receipt as Found

MSGPACK: Final = "application/msgpack"
MAX_BATCH: Final = 1_000
MAX_BATCH_BYTES: Final = 8 << 20
_GROUP: Final = "commands"
_PROOF = Param("proof", str, "1: with the entry and its path to the checkpoint", default="0")
_envelopes = msgspec.msgpack.Decoder(list[bytes]).decode


class _Commands:
    def __init__(self, context: Context, quota: Quota) -> None:
        self._context = context
        self._quota = quota

    def _charge(self, request: Request, raws: list[bytes]) -> None:
        """Raises `Limited`."""
        verdict = self._quota.take(address_of(request), raws)
        request.state.verdict = verdict
        if not verdict.allowed:
            raise Limited(verdict)

    async def one(self, request: Request) -> Response:
        if _is_json(request):
            content = await wire.body(request, 2 * ids.MAX_ENVELOPE_BYTES + 100, "ENVELOPE_TOO_LARGE")
            raw = wire.data(wire.fields(content, EnvelopeBody).envelope, "envelope", 1, ids.MAX_ENVELOPE_BYTES)
        else:
            raw = await wire.body(request, ids.MAX_ENVELOPE_BYTES, "ENVELOPE_TOO_LARGE")
        self._charge(request, [raw])
        (found,) = await self._context.link.submit([raw])
        if isinstance(found, NovateError):
            raise found
        return answer(self._receipt(request, found))

    async def many(self, request: Request) -> Response:
        if _is_json(request):
            content = await wire.body(request, 2 * MAX_BATCH_BYTES, "BODY_TOO_LARGE")
            given = wire.fields(content, EnvelopesBody).envelopes
            raws = [wire.data(text, "envelopes", 1, ids.MAX_ENVELOPE_BYTES) for text in given]
        else:
            raws = _decoded(await wire.body(request, MAX_BATCH_BYTES, "BODY_TOO_LARGE"))
        if not 1 <= len(raws) <= MAX_BATCH:
            raise Refused("BAD_PARAMETER", f"{len(raws)} envelopes; send 1 to {MAX_BATCH} at once")
        self._charge(request, raws)
        results = [self._result(request, result) for result in await self._context.link.submit(raws)]
        return answer({"results": results})

    def _result(self, request: Request, result: Found | NovateError) -> dict[str, Any]:
        if isinstance(result, NovateError):
            return {"code": result.code, "message": result.message}
        return self._receipt(request, result)

    def _receipt(self, request: Request, found: Found) -> dict[str, Any]:
        told = views.receipt(found)
        if request.query_params.get("proof") == "1":
            path = self._context.store.inclusion(found.seq, found.checkpoint.size)
            told |= {"entry": views.plain(found.entry), "proof": views.plain(path)}
        return told


def _decoded(body: bytes) -> list[bytes]:
    try:
        return _envelopes(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise Refused("MALFORMED", f"the body is not a msgpack array of envelopes as bin: {error}") from None


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == errors.JSON


def resources(context: Context, quota: Quota) -> list[Resource]:
    """Routes that submit."""
    commands = _Commands(context, quota)
    refusals = (
        "MALFORMED", "BAD_SIGNATURE", "UNKNOWN_KEY", "UNSUPPORTED_KEY", "KEY_EXPIRED", "WRONG_DEPLOYMENT", "NONCE_USED",
        "UNKNOWN_ACCOUNT", "UNKNOWN_PUBLISHER", "ORACLE_REPLAYED", "OVERLOADED", "SHUTTING_DOWN", "NODE_HALTED",
        "SEQUENCER_UNREACHABLE", "DISK_FULL", "JOURNAL_FULL",
    )  # fmt: skip
    return [
        Resource(
            "POST", "/v1/commands", commands.one, "Submit a signed envelope", Receipt, _GROUP, (_PROOF,),
            {MSGPACK: bytes, errors.JSON: EnvelopeBody}, (*refusals, "ENVELOPE_TOO_LARGE"),
            "Answered once the entry is on disk. SEQUENCER_UNREACHABLE means that the outcome is not known: send the "
            "same bytes again. A command inside that was refused is in `rejected`, not an error of the request.",
            waits=False, submits=True,
        ),
        Resource(
            "POST", "/v1/commands/batch", commands.many, "Submit many signed envelopes", Results, _GROUP, (_PROOF,),
            {MSGPACK: bytes, errors.JSON: EnvelopesBody}, ("MALFORMED", "BODY_TOO_LARGE", *refusals[-6:]),
            "Sequenced in their order; one result each. The msgpack body is an array of bin.",
            waits=False, submits=True,
        ),
    ]  # fmt: skip
