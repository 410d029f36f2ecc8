# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator may choose at every start: endpoints, intervals, limits. `config.toml`.

Nothing here changes what is true: deployment, vaults, instruments and parameters are in the
journal's genesis. Unknown names and wrong types are errors, since a typing error in a
configuration should not be a default.

A venue with one vault is configured by `rpc_url` (several endpoints of its chain with commas between them) and
`confirmations`; one with several vaults, or with a quorum of endpoints, by a table `[[vaults]]` for each vault of
genesis, in genesis's order, and then those two are left alone.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from clearing.model.errors import NovateError

FILE_NAME = "config.toml"
FINALIZED: Final = "finalized"


class VaultConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vault's chain. Several `rpc_urls` serve the same chain and must answer alike, at least `quorum` of them;
    none means: not connected. `confirmations` is a number of blocks, or "finalized" for what the chain itself
    calls so. `max_fee_gwei`: what a unit of gas may cost, up to ten times that as the freeze deadline nears; 0
    leaves it to the built-in ceiling."""

    rpc_urls: tuple[str, ...] = ()
    confirmations: int | str = 12
    quorum: int = 1
    max_fee_gwei: float = 0.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices, with defaults. Times carry their unit; `rpc_url` empty means: no chain. `voucher_seconds`: how
    far ahead a voucher's expiry may lie; 0 countersigns none."""

    host: str = "127.0.0.1"
    port: int = 8640
    rpc_url: str = ""
    confirmations: int | str = 12
    epoch_seconds: int = 600
    post_seconds: float = 5.0
    poll_seconds: float = 1.0
    tick_seconds: float = 1.0
    verify_threads: int = 2
    max_batch: int = 1_000
    max_waiting: int = 50_000
    keep_snapshots: int = 3
    checkpoint_secp256k1: bool = True
    journal_map_bytes: int = 1 << 40
    voucher_seconds: int = 86_400
    vaults: tuple[VaultConfig, ...] = ()

    def vault(self, number: int) -> VaultConfig:
        """The choices for a vault of genesis; the defaults for one that is not named."""
        if number < len(self.vaults):
            return self.vaults[number]
        if number == 0 and not self.vaults:
            return VaultConfig(endpoints(self.rpc_url), self.confirmations)
        return VaultConfig()


def endpoints(text: str) -> tuple[str, ...]:
    """The URLs in a text that separates them by commas, each once."""
    return tuple(dict.fromkeys(url for part in text.split(",") if (url := part.strip())))


_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "epoch_seconds": (0, 86_400 * 365),
    "post_seconds": (0.01, 3_600),
    "poll_seconds": (0.01, 3_600),
    "tick_seconds": (0.01, 3_600),
    "verify_threads": (1, 256),
    "max_batch": (1, 10_000),
    "max_waiting": (1, 10_000_000),
    "keep_snapshots": (1, 1_000_000),
    "journal_map_bytes": (1 << 20, 1 << 46),
    "voucher_seconds": (0, 86_400 * 365),
}
_MAX_CONFIRMATIONS: Final = 10_000


def validate(config: Config) -> Config:
    """The same config. Raises `NovateError` CONFIG_INVALID naming the first value out of range."""
    for name, (low, high) in _BOUNDS.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise NovateError("CONFIG_INVALID", f"{name} = {value}: it must be {low:g} to {high:g}")
    _check_confirmations(config.confirmations)
    if config.vaults and config.rpc_url:
        raise NovateError("CONFIG_INVALID", "rpc_url and [[vaults]] exclude each other; name every endpoint there")
    for number, vault in enumerate(config.vaults):
        _check_confirmations(vault.confirmations)
        if not 1 <= vault.quorum <= max(1, len(vault.rpc_urls)):
            raise NovateError("CONFIG_INVALID", f"vault {number}: quorum must be 1 to the number of its rpc_urls")
        if not 0 <= vault.max_fee_gwei <= 1_000_000:
            raise NovateError("CONFIG_INVALID", f"vault {number}: max_fee_gwei must be 0 to 1,000,000")
    return config


def _check_confirmations(value: int | str) -> None:
    if value != FINALIZED and not (isinstance(value, int) and 0 <= value <= _MAX_CONFIRMATIONS):
        text = f'confirmations = {value!r}: it must be 0 to {_MAX_CONFIRMATIONS} blocks, or "{FINALIZED}"'
        raise NovateError("CONFIG_INVALID", text)


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


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which no URL or host name holds.
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def render(config: Config) -> str:
    """TOML text of a config, one line per choice."""
    lines = ["# Choices of the operator; what is true of the venue is in the journal's genesis."]
    chosen = msgspec.structs.asdict(config)
    vaults: Sequence[VaultConfig] = chosen.pop("vaults")
    lines += [f"{name} = {_toml(value)}" for name, value in chosen.items()]
    for vault in vaults:
        lines += ["", "[[vaults]]"]
        lines += [f"{name} = {_toml(value)}" for name, value in msgspec.structs.asdict(vault).items()]
    return "\n".join(lines) + "\n"


def override(config: Config, given: dict[str, Any]) -> Config:
    """The config with some values replaced; `rpc_urls` are the first vaults' endpoints (of one chain with commas
    between them), in genesis's order.

    Raises `NovateError` CONFIG_INVALID.
    """
    changed = {name: value for name, value in given.items() if name != "rpc_urls"}
    urls: Sequence[str] = given.get("rpc_urls") or ()
    if urls and (config.vaults or len(urls) > 1):
        count = max(len(urls), len(config.vaults))
        vaults = [config.vault(number) for number in range(count)]
        for number, url in enumerate(urls):
            vaults[number] = msgspec.structs.replace(vaults[number], rpc_urls=endpoints(url))
        changed |= {"vaults": tuple(vaults), "rpc_url": ""}
    elif urls:
        changed["rpc_url"] = urls[0]
    try:
        fields = msgspec.structs.asdict(config) | changed
        return validate(msgspec.convert(fields, Config))
    except msgspec.ValidationError as error:
        raise NovateError("CONFIG_INVALID", f"{error}; see config.toml for the names") from None
