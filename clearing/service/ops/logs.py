# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's log on standard error: JSON lines, or text for people.

Rules:
- One line per event of the process (started, fault, alert, epoch), never one per command: at its speed the log would
  be the venue. Rotation and shipping are the service manager's.
- Secrets never reach it: what looks like a key or a credential in a URL is masked, whoever logs it.
- Lines of libraries (through `logging`) come out in the same form. Each line is one write, since the processes of a
  run share the stream.
"""

import logging
import re
import sys
from typing import Any, Final, TextIO

import structlog

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# The user part of a URL, and path or query pieces that are long enough to be a key.
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_TOKEN = re.compile(r"(?<=[/=])[A-Za-z0-9_\-]{20,}(?=[/?&#\s\"',;)]|$)")
_URL = re.compile(r"\b(?:https?|wss?)://[^\s\"'<>]+")
_SECRET_NAMES: Final = frozenset({"seed", "secret", "passphrase", "password", "private_key", "token"})
MASK: Final = "***"


def masked(text: str) -> str:
    """The text with the credentials of every URL in it masked; what is no URL is left alone."""
    return _URL.sub(lambda match: _TOKEN.sub(MASK, _USER.sub(f"{MASK}@", match[0])), text)


def _mask(_logger: Any, _method: str, event: Any) -> Any:
    for key, value in event.items():
        if key in _SECRET_NAMES:
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = masked(value)
    return event


def configure(as_json: bool = True, level: str = "info", stream: TextIO | None = None) -> Any:
    """Set logging up for this process; returns the logger. `level`: debug, info, warning or error."""
    output = stream or sys.stderr
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=output.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=output),  # a line in one write: processes share the file
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    return structlog.get_logger()
