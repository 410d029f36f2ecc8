# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands speak: exit codes, JSON or text on stdout, errors and progress on stderr."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from clearing.model.ids import MAX_AMOUNT_ATOMS

OK, ERROR, USAGE, PROOF_INVALID, COULD_NOT_CHECK, DIVERGED = range(6)

# Faults on the way to the chain or the operator: nothing was found out.
_COULD_NOT_CHECK = (
    "BAD_ANSWER",
    "OPERATOR_UNREACHABLE",
    "RPC_BAD_DATA",
    "RPC_DISAGREE",
    "RPC_ERROR",
    "RPC_UNREACHABLE",
    "TX_TIMEOUT",
)

P = ParamSpec("P")
R = TypeVar("R")


def could_not_check(code: str) -> bool:
    """Whether an error of this code means that nothing was found out (exit status 4)."""
    return code in _COULD_NOT_CHECK


def fail(code: str, message: str, status: int = ERROR) -> NoReturn:
    """End with a stable code and a sentence that helps, on stderr and on one line."""
    click.echo(f"novate: {code}: {' '.join(message.split())}", err=True)
    raise SystemExit(status)


def note(text: str) -> None:
    """Progress, to stderr."""
    click.echo(text, err=True)


def emit(data: Mapping[str, Any], as_json: bool, lines: Iterable[str] | None = None) -> None:
    """Data to stdout: one JSON object, or the given lines (default: aligned key-value pairs)."""
    if as_json:
        click.echo(json.dumps(data, indent=2, sort_keys=False, default=_plain))
        return
    if lines is None:
        width = max((len(key) for key in data), default=0)
        lines = [f"{key.ljust(width)}  {_text(value)}" for key, value in data.items()]
    for line in lines:
        click.echo(line)


def _plain(value: object) -> object:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=_plain)
    return str(value)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every error into one line with a stable code and an exit status, never a traceback.

    A fault on the way to the chain or the operator means that nothing could be checked (4). An error
    without a code is a fault of ours: INTERNAL, with the traceback when NOVATE_DEBUG is set.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (click.ClickException, click.Abort, SystemExit):
            raise
        except BrokenPipeError:
            sys.stderr.close()
            raise SystemExit(ERROR) from None
        except KeyboardInterrupt:
            fail("INTERRUPTED", "stopped by the user; see what was done before you repeat it")
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            fail("IO_ERROR", f"{reason}; check the path and its permissions")
        except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one line
            if isinstance(error, ModuleNotFoundError):
                from clearing.cli.extras import refuse_for

                refuse_for(error)
            code = getattr(error, "code", None)
            if isinstance(code, str):
                message = str(getattr(error, "message", error))
                fail(code, message, COULD_NOT_CHECK if could_not_check(code) else ERROR)
            if os.environ.get("NOVATE_DEBUG"):
                click.echo(traceback.format_exc(), err=True, nl=False)
            reason = f"{type(error).__name__}: {error}"
            fail("INTERNAL", f"a fault of novate, please report it ({reason}); NOVATE_DEBUG=1 shows where")

    return run


def parse_address(text: str, what: str) -> bytes:
    """20 bytes from 0x-hex, or a usage error naming the value."""
    raw = text.removeprefix("0x")
    try:
        value = bytes.fromhex(raw)
    except ValueError:
        value = b""
    if len(value) != 20:
        raise click.UsageError(f"{what} {text!r} is not an address; give 0x and 40 hex digits")
    return value


def parse_usd(text: str, what: str = "amount") -> int:
    """Atoms from a decimal amount such as 12.50 (six decimals), or a usage error that calls it `what`."""
    whole, _, fraction = text.partition(".")
    if not (whole.isdecimal() and (fraction == "" or fraction.isdecimal()) and len(fraction) <= 6 and whole.isascii()):
        raise click.UsageError(f"{what} {text[:40]!r} is not a positive decimal with at most 6 decimals, such as 12.50")
    # More digits than any amount has are not even converted: Python refuses thousands of them.
    atoms = int((whole + fraction.ljust(6, "0"))[:40])
    if len(whole) > 30 or atoms > MAX_AMOUNT_ATOMS:
        raise click.UsageError(f"{what} {text[:40]!r} is too large; the most is {MAX_AMOUNT_ATOMS // 1_000_000}")
    return atoms


def lanes(amounts: Sequence[Any]) -> str:
    """Amounts by lane: the settlement asset in units, the others in atoms where there are any."""
    others = [f"{int(amount)} atoms of asset {lane}" for lane, amount in enumerate(amounts) if lane and int(amount)]
    return ", ".join([usd(int(amounts[0])), *others])


def moment(time_us: Any) -> str:
    """Microseconds UTC as people write them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(time_us) // 1_000_000))


def usd(atoms: int) -> str:
    """Atoms as a decimal with thousands separators: 1234567890 -> 1,234.567890."""
    sign = "-" if atoms < 0 else ""
    whole, fraction = divmod(abs(atoms), 1_000_000)
    return f"{sign}{whole:,}.{fraction:06d}"
