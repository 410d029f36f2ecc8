# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commands need more than the plain install, and what they say when it is missing.

Rules: `novate` alone checks, trades and leaves; what replays, draws or runs a venue is an extra of the package. A
command whose extra is missing says so before it does anything, with the code MISSING_EXTRA, and its help and its
completion work all the same. tests/packaging holds these tables to what the sources import.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Final

import click

from clearing.cli.output import fail

# Extra -> the modules of the libraries that it adds to the plain install (pyproject.toml names the libraries).
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "audit": ("numpy",),
    "report": ("numpy", "scipy", "matplotlib"),
    "server": (
        "numpy", "scipy", "matplotlib",
        "starlette", "uvicorn", "prometheus_client", "structlog", "eth", "eth_typing", "eth_utils",
    ),
    "ingest": ("numpy", "databento_dbn", "zstandard"),
}  # fmt: skip

# Command -> extra; a group's holds for what is in it, unless the command has a line of its own.
NEEDS: Final[dict[str, str | None]] = {
    "attest evidence": None,
    "attest run": "server",
    "attest status": None,
    "audit": "audit",
    "config": "server",
    "demo": "server",
    "doctor": "server",
    "greeks": "audit",
    "ingest": "ingest",
    "init": "server",
    "keeper": "server",
    "operator": "server",
    "operator wind-down": None,
    "risk": "report",
    "stress": "report",
    "stress list": None,
    "witness run": "server",
}


def extra_of(path: Iterable[str]) -> str | None:
    """The extra that a command (such as ("operator", "run")) needs; None if the plain install will do."""
    words = list(path)
    for end in range(len(words), 0, -1):
        name = " ".join(words[:end])
        if name in NEEDS:
            return NEEDS[name]
    return None


def missing_from(extra: str) -> list[str]:
    """The extra's modules that are not installed."""
    return [name for name in MODULES[extra] if find_spec(name) is None]


def extra_with(module: str) -> str | None:
    """The smallest extra that brings a module, by its top-level name; None if it is no extra's."""
    found = [extra for extra, modules in MODULES.items() if module in modules]
    return min(found, key=lambda extra: len(MODULES[extra]), default=None)


def refuse(extra: str, module: str) -> None:
    """End the command: MISSING_EXTRA, exit status 1."""
    fail(
        "MISSING_EXTRA",
        f"install novate[{extra}]: this command needs {module}, which the plain install leaves out "
        f"(pip install 'novate[{extra}]', or pipx install --force 'novate[{extra}]')",
    )


def refuse_for(error: ModuleNotFoundError) -> None:
    """End the command with MISSING_EXTRA when the module that was not found is an extra's: only some ways through a
    command need it, or it was removed. Returns for any other module."""
    module = (error.name or "").split(".")[0]
    extra = extra_with(module)
    if extra is not None:
        refuse(extra, module)


def guarded(command: click.Command, path: tuple[str, ...]) -> click.Command:
    """The command, refusing to run while its extra is missing. Subcommands are guarded with it."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            guarded(inner, (*path, name))
    extra = extra_of(path)
    wanting = missing_from(extra) if extra is not None and command.callback is not None else []
    if extra is not None and wanting and not (isinstance(command, click.Group) and not command.invoke_without_command):
        needed, module = extra, wanting[0]

        def refused(**_: Any) -> None:
            refuse(needed, module)

        command.callback = refused
    return command
