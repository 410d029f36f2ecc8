# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands share that publish and mirror a log: exit statuses, progress, going on until interrupted."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from clearing.cli.output import COULD_NOT_CHECK, DIVERGED, PROOF_INVALID, fail, note

if TYPE_CHECKING:
    from journal import Store
    from proofs.policy import Policy

P = ParamSpec("P")
R = TypeVar("R")

_STATUS = {
    "LOG_FORKED": DIVERGED,
    "LOG_INVALID": PROOF_INVALID,
    "CHECKPOINT_INVALID": PROOF_INVALID,
    "COSIGNATURE_INVALID": PROOF_INVALID,
    "POLICY_UNSATISFIED": PROOF_INVALID,
    "LOG_BEHIND": COULD_NOT_CHECK,
    "LOG_INCOMPLETE": COULD_NOT_CHECK,
    "LOG_UNREACHABLE": COULD_NOT_CHECK,
    "LOG_ANSWER": COULD_NOT_CHECK,
}
# While following, a fault of these is waited out: nothing was found out against the log.
PASSING = ("LOG_BEHIND", "LOG_INCOMPLETE", "LOG_UNREACHABLE", "LOG_ANSWER")

# Entries looked at together when a rotated key is searched, from the end of the journal backwards.
_SCANNED = 65_536

every_option = click.option(
    "--every", "every_s", type=click.FloatRange(0.1, 86_400), help="Go on, and look again every so many seconds."
)


def exiting(table: dict[str, int]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of commands: errors with these codes end the command with these exit statuses."""

    def decorate(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except Exception as error:
                code = getattr(error, "code", None)
                if isinstance(code, str) and code in table:
                    fail(code, str(getattr(error, "message", error)), table[code])
                raise

        return run

    return decorate


statuses = exiting(_STATUS)


class Meter:
    """Progress on a terminal's stderr: entries, rate, time to go; nothing elsewhere."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._show = sys.stderr.isatty()
        self._first = self._started = self._last = 0.0

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if not self._show or (now - self._last < 0.2 and done < of):
            return
        if not self._started:
            self._started, self._first = now, done
        self._last = now
        rate = (done - self._first) / (now - self._started) if now > self._started else 0.0
        left = f", {(of - done) / rate:,.0f} s to go" if rate and done < of else ""
        click.echo(f"\r\x1b[K{self._verb} {done:,} of {of:,} entries, {rate:,.0f}/s{left}", err=True, nl=done == of)
        if done == of:
            self._started = 0.0


# --- again and again ---


def repeat(turn: Callable[[], R], every_s: float | None, tell: Callable[[R], None], passing: tuple[str, ...]) -> None:
    """One turn, or one every so many seconds until it is interrupted; only a turn that changed something is told."""
    told: int | None = None
    waited_out = ""
    while True:
        try:
            done = turn()
            waited_out = ""
            size = getattr(done, "size", None)
            if told is None or size != told:
                tell(done)
                told = size
        except Exception as error:
            code = str(getattr(error, "code", ""))
            if every_s is None or told is None or code not in passing:
                raise
            if code != waited_out:
                note(f"{code}: {getattr(error, 'message', error)}; trying again every {every_s:g} s")
            waited_out = code
        if every_s is None:
            return
        time.sleep(every_s)


def named_key(entry: bytes) -> str | None:
    """The verifier key that entry 0 names as a genesis; None when it is none."""
    from clearing.model.codec import decode_any_envelope, decode_entry
    from clearing.model.commands import Genesis
    from clearing.model.errors import NovateError
    from proofs.checkpoint import ED25519, origin_of, verifier_key

    body: object = None
    with suppress(NovateError):
        body = decode_any_envelope(decode_entry(entry).envelope)[1]
    if not isinstance(body, Genesis):
        return None
    return verifier_key(origin_of(body.origin, body.deployment), ED25519, body.operator_key[1:])


def signing_key(store: "Store", note_text: str, known: str | None = None) -> str | None:
    """The verifier key of the log's own signature on a note: `known`, the genesis's, or, once the operator has rotated
    it, the one that the journal names last and that the note knows. None when the journal names none that signed it."""
    from journal.replay import entries
    from proofs.checkpoint import ED25519, parse, verifier_key

    first = next((entry for _, entry in entries(store)), b"")
    named = named_key(first)
    if named is None:
        return None
    found = parse(note_text)
    origin = found.checkpoint.origin
    ids = {identity.hex() for name, identity, _ in found.signatures if name == origin}

    def signed(candidate: str) -> bool:
        return candidate.split("+", 2)[1] in ids  # base64 may hold a plus, a name may not

    for candidate in (known, named):
        if candidate is not None and signed(candidate):
            return candidate
    for end in range(store.head().next_seq, 0, -_SCANNED):
        start = max(0, end - _SCANNED)
        rotated = [key for _, entry in islice(entries(store, start), end - start) for key in _rotations(entry)]
        for public in reversed(rotated):
            candidate = verifier_key(origin, ED25519, public)
            if signed(candidate):
                return candidate
    return None


def _rotations(entry: bytes) -> list[bytes]:
    """The operator's new Ed25519 keys that an entry brought into force, 32 bytes each."""
    from clearing.model.codec import decode_entry
    from clearing.model.outcomes import OperatorRotated

    return [found.new_key[1:] for found in decode_entry(entry).outcomes if isinstance(found, OperatorRotated)]


def read_policy(path: Path) -> "Policy":
    """A witness policy from its file; ends the command with POLICY_INVALID when it is none."""
    from proofs.errors import ProofError
    from proofs.policy import Policy

    try:
        return Policy.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        fail("POLICY_INVALID", f"{path} is not text")
    except ProofError as error:
        fail("POLICY_INVALID", f"{path}: {error.message}")
