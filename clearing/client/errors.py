# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between a client and the operator, and which of it means: send the same bytes again.

Rules: an error of the operator arrives with the operator's own code; no answer at all is OPERATOR_UNREACHABLE, and an
answer that is not the interface's is BAD_ANSWER. `transient` says that the same may be sent again later; for a signed
envelope that is always safe, since an identical one is carried out once.
"""

import random
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from clearing.model.errors import NovateError

# Codes that come per envelope, without an HTTP status: the same bytes may be sent again.
AGAIN: Final = frozenset(
    ("SEQUENCER_UNREACHABLE", "OVERLOADED", "SHUTTING_DOWN", "NODE_HALTED", "RATE_LIMITED", "INTERNAL")
)
# Refused before anything was passed on.
_REFUSED_WHOLE: Final = frozenset(("RATE_LIMITED", "OVERLOADED", "SHUTTING_DOWN"))
_STATUSES: Final = frozenset((0, 429, 502, 503, 504))


class ApiError(NovateError):
    """The operator refused, or did not answer. `status` is the HTTP status, 0 without an answer (and over the stream,
    which has none). `retry_after_s`: when the operator said to come again. `sent`: False when it is certain that
    nothing reached the operator."""

    def __init__(
        self, code: str, message: str, status: int = 0, retry_after_s: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.sent = sent

    @property
    def transient(self) -> bool:
        """Whether sending the same bytes again later is the thing to do."""
        return self.status in _STATUSES

    @property
    def unknown(self) -> bool:
        """Whether a command may be in the journal although this was the answer to it."""
        return self.sent and self.code not in _REFUSED_WHOLE


class OutcomeUnknown(ApiError):
    """OUTCOME_UNKNOWN: no answer came in all the time that was given. `envelope` may have been carried out or not:
    `send` the same bytes later to find out, and sign nothing in its place before."""

    def __init__(self, envelope: bytes, reason: str) -> None:
        text = f"no answer came, and the command may have been carried out ({reason}); send the same envelope again"
        super().__init__("OUTCOME_UNKNOWN", text)
        self.envelope = envelope


def refusal(url: str, content: bytes, status: int, headers: Mapping[str, str]) -> ApiError:
    """The error that an answer without success is."""
    try:
        after = float(headers.get("retry-after", ""))
    except ValueError:
        after = None
    try:
        body = msgspec.json.decode(content)
        return ApiError(str(body["code"]), str(body["message"]), status, after)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        return ApiError("BAD_ANSWER", f"HTTP {status} that is not the operator's; check the URL {url}", status, after)


def unreachable(url: str, error: Exception) -> ApiError:
    """No answer."""
    reason = str(error) or type(error).__name__
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.InvalidURL)
    return ApiError("OPERATOR_UNREACHABLE", f"no answer from {url} ({reason}); is the operator up?", sent=sent)


def failure(row: Mapping[str, Any]) -> ApiError:
    """The error of one envelope among several."""
    code = str(row["code"])
    return ApiError(code, str(row["message"]), 503 if code in AGAIN else 400)


def pause_s(attempt: int, first_s: float, most_s: float = 5.0, draw: random.Random | None = None) -> float:
    """How long to wait before attempt `attempt` + 1 (from 0): doubling, and jittered so that many who lost the same
    server do not come back in the same moment."""
    most = min(most_s, first_s * 2.0 ** min(attempt, 30))
    part: float = draw.uniform(0.5, 1.0) if draw is not None else random.uniform(0.5, 1.0)
    return most * part
