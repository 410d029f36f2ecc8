# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator may choose at every start: endpoints, intervals, limits. `config.toml`.

Nothing here changes what is true: deployment, vault, instruments and parameters are in the
journal's genesis. Unknown names and wrong types are errors, since a typing error in a
configuration should not be a default.
"""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from clearing.model.errors import NovateError

FILE_NAME = "config.toml"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices, with defaults. Times carry their unit; `rpc_url` empty means: no chain."""

    host: str = "127.0.0.1"
    port: int = 8640
    rpc_url: str = ""
    confirmations: int = 12
    epoch_seconds: int = 600
    poll_seconds: float = 1.0
    tick_seconds: float = 1.0
    verify_threads: int = 2
    max_batch: int = 1_000
    max_waiting: int = 50_000
    keep_snapshots: int = 3
    checkpoint_secp256k1: bool = True
    journal_map_bytes: int = 1 << 40


_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "confirmations": (0, 10_000),
    "epoch_seconds": (0, 86_400 * 365),
    "poll_seconds": (0.01, 3_600),
    "tick_seconds": (0.01, 3_600),
    "verify_threads": (1, 256),
    "max_batch": (1, 10_000),
    "max_waiting": (1, 10_000_000),
    "keep_snapshots": (1, 1_000_000),
    "journal_map_bytes": (1 << 20, 1 << 46),
}


def validate(config: Config) -> Config:
    """The same config. Raises `NovateError` CONFIG_INVALID naming the first value out of range."""
    for name, (low, high) in _BOUNDS.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise NovateError("CONFIG_INVALID", f"{name} = {value}: it must be {low:g} to {high:g}")
    return config


def parse(text: str, where: str) -> Config:
    """Config of TOML text. Raises `NovateError` CONFIG_INVALID, naming `where`."""
    try:
        return validate(msgspec.convert(tomllib.loads(text), Config))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise NovateError("CONFIG_INVALID", f"{where}: {error}") from None
    except NovateError as error:
        raise NovateError(error.code, f"{where}: {error.message}") from None


def load(data_dir: Path) -> Config:
    """Config of a data directory. Raises `NovateError` CONFIG_NOT_FOUND or CONFIG_INVALID."""
    path = data_dir / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NovateError(
            "CONFIG_NOT_FOUND",
            f"{path} does not exist; create the data directory with `novate operator init`",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NovateError("CONFIG_INVALID", f"{path} cannot be read: {error}") from None
    return parse(text, str(path))


def render(config: Config) -> str:
    """TOML text of a config, one line per choice."""
    lines = ["# Choices of the operator; what is true of the venue is in the journal's genesis."]
    for name, value in msgspec.structs.asdict(config).items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str):
            # A JSON string is a TOML basic string, but for DEL, which no URL or host name holds.
            text = msgspec.json.encode(value).decode()
        else:
            text = repr(value)
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def override(config: Config, given: dict[str, Any]) -> Config:
    """The config with some values replaced. Raises `NovateError` CONFIG_INVALID."""
    try:
        return validate(msgspec.convert(msgspec.structs.asdict(config) | given, Config))
    except msgspec.ValidationError as error:
        raise NovateError("CONFIG_INVALID", f"{error}; see config.toml for the names") from None
