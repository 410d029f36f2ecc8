# SPDX-License-Identifier: GPL-3.0-or-later
"""Which value of the configuration comes from where: default, file and line, environment variable, or option.

Rules:
- Lines are found with the TOML parser itself: a prefix of the file that parses, and holds a value that the last such
  prefix did not, ends with the statement that sets it. So every spelling of TOML is covered, and none is guessed.
- What is shown has its credentials masked: a URL's user part, and pieces of it that are long enough to be a key.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from clearing.service import config as configuration
from clearing.service.config import FILE_NAME, Config
from clearing.service.ops.logs import masked

_MAX_LINES: Final = 5_000


class Value(msgspec.Struct, frozen=True):
    """One value in force, such as `alerts.gas_epochs` or `vaults.0.quorum`. `source`: default, file, environment or
    option; `where`: file:line, the variable or the option."""

    name: str
    value: Any
    source: str
    where: str = ""


def leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted name; tables in lists by their number."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= leaves(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                found |= leaves(item, f"{name}.{number}.")
        else:
            found[name] = value
    return found


def lines_of(text: str) -> dict[str, int]:
    """The line (from 1) on which the statement begins that sets each value of a TOML text."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    begin: int | None = None
    for number, line in enumerate(lines[:_MAX_LINES], 1):
        bare = line.strip()
        if begin is None and (not bare or bare.startswith("#")):
            continue
        begin = begin or number
        try:
            table = tomllib.loads("\n".join(lines[:number]) + "\n")
        except tomllib.TOMLDecodeError:
            continue  # within a statement of several lines
        for name in leaves(table):
            found.setdefault(name, begin)
        begin = None
    return found


def explain(
    data_dir: Path, given: Mapping[str, Any], options: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> tuple[Config, list[Value]]:
    """The configuration as the operator would run with it, and every value's origin. `given` are overrides as for
    `config.override`, `options` the option that each of them came from.

    Raises `NovateError` CONFIG_NOT_FOUND, CONFIG_INVALID.
    """
    environ = os.environ if environ is None else environ
    config = configuration.override(configuration.load(data_dir, environ), dict(given))
    lines, path = lines_of(configuration.read_text(data_dir)), data_dir / FILE_NAME
    moved = _moved(given, config)
    rows = []
    for name, value in _in_force(config).items():
        variable = configuration.variable(name)
        option = next((options[key] for key, names in moved.items() if name in names), "")
        if option:
            rows.append(Value(name, value, "option", option))
        elif variable in environ:
            rows.append(Value(name, value, "environment", variable))
        elif name in lines:
            rows.append(Value(name, value, "file", f"{path}:{lines[name]}"))
        else:
            rows.append(Value(name, value, "default"))
    return config, rows


def _moved(given: Mapping[str, Any], config: Config) -> dict[str, set[str]]:
    """Per override the names that it sets: endpoints end up in `rpc_url` or in the vaults."""
    found = {name: {name} for name in given if name != "rpc_urls"}
    if given.get("rpc_urls"):
        numbers = range(len(given["rpc_urls"]))
        names = {f"vaults.{number}.rpc_urls" for number in numbers} if config.vaults else {"rpc_url"}
        found["rpc_urls"] = names
    return found


def _in_force(config: Config) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(config)
    return {name: value for name, value in leaves(table).items() if name != "vaults"}


def shown(value: Any) -> str:
    """A value as TOML would have it, credentials masked."""
    return configuration.toml(_masked(value))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """A value for JSON, credentials masked."""
    return _masked(value)
