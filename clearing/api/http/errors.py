# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as answers: every one is {"code", "message"} with a stable code, and a status that follows from it.

Rules: what the caller did wrong is 4xx, what is ours is 5xx; 503 means that the same request may be sent again. A fault
without a code is INTERNAL, and its cause goes to the log.
"""

from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clearing.model.errors import NovateError, Refused
from journal import JournalError

JSON: Final = "application/json"
STATUS: Final[dict[str, int]] = {
    "MALFORMED": 400,
    "BAD_PARAMETER": 400,
    "BAD_SIGNATURE": 401,
    "UNSUPPORTED_KEY": 401,
    "UNKNOWN_KEY": 401,
    "KEY_EXPIRED": 401,
    "UNKNOWN_PUBLISHER": 401,
    "NOT_ATTESTOR": 403,
    "WRONG_DEPLOYMENT": 403,
    "UNKNOWN_ACCOUNT": 404,
    "UNKNOWN_OWNER": 404,
    "UNKNOWN_INSTRUMENT": 404,
    "UNKNOWN_EPOCH": 404,
    "UNKNOWN_SEQ": 404,
    "UNKNOWN_VAULT": 404,
    "UNKNOWN_ASSET": 404,
    "NO_HEADER": 404,
    "NOT_POSTED": 404,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "NONCE_USED": 409,
    "ORACLE_REPLAYED": 409,
    "GENESIS_TWICE": 409,
    "HEADER_DIFFERS": 409,
    "VOUCHER_TOO_HIGH": 409,
    "VOUCHER_TOO_LOW": 409,
    "FLOAT_TOO_LOW": 409,
    "OUTFLOW_CAPPED": 409,
    "VAULT_FROZEN": 409,
    "WINDING_DOWN": 409,
    "ENVELOPE_TOO_LARGE": 413,
    "BODY_TOO_LARGE": 413,
    "RATE_LIMITED": 429,
    "OVERLOADED": 503,
    "SHUTTING_DOWN": 503,
    "NODE_HALTED": 503,
    "SNAPSHOT_NOT_FOUND": 503,
    "SEQUENCER_UNREACHABLE": 503,
    "REPLICA_BEHIND": 503,
    "REPLICA_DIVERGED": 503,
    "HISTORY_STARTING": 503,
    "NO_CHAIN": 503,
    "RPC_UNREACHABLE": 503,
    "DISK_FULL": 507,
    "JOURNAL_FULL": 507,
}
# What any resource may answer, beside what it names itself.
COMMON: Final = ("BAD_PARAMETER", "RATE_LIMITED", "REPLICA_BEHIND", "INTERNAL")
_OF_STARLETTE: Final = {
    404: ("NOT_FOUND", "no such resource; GET /v1/openapi.json lists them"),
    405: ("METHOD_NOT_ALLOWED", "this resource has no such method; GET /v1/openapi.json lists them"),
}


class Error(msgspec.Struct, frozen=True):
    """A refusal or fault. `code` is stable; `message` says what can be done."""

    code: str
    message: str


def status_of(error: NovateError | JournalError) -> int:
    """HTTP status of an error."""
    known = STATUS.get(error.code)
    if known is not None:
        return known
    return 400 if isinstance(error, Refused) else 500


def json(value: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def answer(error: NovateError | JournalError) -> Response:
    """The answer that an error is."""
    return json(Error(error.code, error.message), status_of(error))


def internal() -> Response:
    """The answer to what went wrong without a code."""
    return json(Error("INTERNAL", "the operator failed on this request; its log says why"), 500)


async def on_http_error(_: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path or method."""
    assert isinstance(error, HTTPException)
    code, message = _OF_STARLETTE.get(error.status_code, ("HTTP_ERROR", str(error.detail)))
    return json(Error(code, message), error.status_code)
