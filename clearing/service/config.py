# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator may choose at every start: endpoints, intervals, limits. `config.toml`.

Nothing here changes what is true: deployment, vaults, instruments and parameters are in the
journal's genesis. Unknown names and wrong types are errors, since a typing error in a
configuration should not be a default.

A venue with one vault is configured by `rpc_url` (several endpoints of its chain with commas between them) and
`confirmations`; one with several vaults, or with a quorum of endpoints, by a table `[[vaults]]` for each vault of
genesis, in genesis's order, and then those two are left alone.

What is chosen where, later ones winning: default, `config.toml`, environment, command-line option. In the environment
a value is NOVATE_CONFIG_ and its name in capitals: NOVATE_CONFIG_PORT, NOVATE_CONFIG_ALERTS_GAS_EPOCHS; texts are
taken as they are, lists have commas, `[[vaults]]` are only for the file. A variable that names nothing is an error.
An endpoint's URL may carry a password or a key: it belongs into the file (mode 0600) or the environment.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import msgspec

from clearing.model.errors import NovateError

FILE_NAME = "config.toml"
FINALIZED: Final = "finalized"
ENVIRONMENT: Final = "NOVATE_CONFIG_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class VaultConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vault's chain. Several `rpc_urls` serve the same chain and must answer alike, at least `quorum` of them;
    none means: not connected. `confirmations` is a number of blocks, or "finalized" for what the chain itself
    calls so. `max_fee_gwei`: what a unit of gas may cost, up to ten times that as the freeze deadline nears; 0
    leaves it to the built-in ceiling."""

    rpc_urls: tuple[str, ...] = ()
    confirmations: int | str = 12
    quorum: int = 1
    max_fee_gwei: float = 0.0


class AlertConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the operator is told. Shares in parts per million.

    `freeze_ppm`: of a vault's deadline that is used up; `gas_epochs`: that the operator's ether pays for, at what
    the last ones cost; `epoch_lag`: closed and not posted; `fund_atoms`: the least that the insurance fund should
    hold; `free_ppm`: left of disk or map; `near_ppm`: equity over maintenance margin below which an account counts
    as near it. Where a fact turns from a nuisance into an emergency is in clearing.service.ops.alerts.
    """

    freeze_ppm: int = 500_000
    gas_epochs: int = 50
    epoch_lag: int = 2
    fund_atoms: int = 0
    free_ppm: int = 100_000
    near_ppm: int = 1_250_000


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one asker may have of the public interface: reads of an address, signed envelopes of a key; of an address
    four times as many envelopes as of a key. A burst is what may come at once. `max_streams`: connections of
    WebSocket, of all and of one address. `proxies`: addresses and networks, with commas, whose X-Forwarded-For is
    believed; "" for none."""

    reads_per_second: float = 200.0
    reads_burst: int = 2_000
    commands_per_second: float = 1_000.0
    commands_burst: int = 5_000
    max_streams: int = 10_000
    max_streams_per_address: int = 2_000
    proxies: str = "127.0.0.1"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The choices, with defaults. Times carry their unit; `rpc_url` empty means: no chain. `voucher_seconds`: how
    far ahead a voucher's expiry may lie; 0 countersigns none. `host` and `port` are the public interface;
    `private_host` and `private_port` serve metrics, probes and the operator's own figures: keep them behind a
    firewall, and list in `private_names` the host names under which they are asked for. `watch_seconds`: how often
    those figures are looked at for alerts."""

    host: str = "127.0.0.1"
    port: int = 8640
    private_host: str = "127.0.0.1"
    private_port: int = 8641
    private_names: tuple[str, ...] = ()
    log_json: bool = True
    log_level: str = "info"
    watch_seconds: float = 5.0
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
    alerts: AlertConfig = AlertConfig()
    api: ApiConfig = ApiConfig()
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


_SECTIONS: Final[dict[str, type[Any]]] = {"alerts": AlertConfig, "api": ApiConfig}
_BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "private_port": (0, 65_535),
    "watch_seconds": (0.05, 3_600),
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
_ALERT_BOUNDS: dict[str, tuple[float, float]] = {
    "freeze_ppm": (1, 1_000_000),
    "gas_epochs": (0, 1_000_000),
    "epoch_lag": (1, 1_000_000),
    "fund_atoms": (0, 2**62),
    "free_ppm": (0, 1_000_000),
    "near_ppm": (1_000_000, 100_000_000),
}
_API_BOUNDS: dict[str, tuple[float, float]] = {
    "reads_per_second": (0.1, 1_000_000),
    "reads_burst": (1, 10_000_000),
    "commands_per_second": (0.1, 1_000_000),
    "commands_burst": (1, 10_000_000),
    "max_streams": (1, 1_000_000),
    "max_streams_per_address": (1, 1_000_000),
}
_MAX_CONFIRMATIONS: Final = 10_000


def validate(config: Config) -> Config:
    """The same config. Raises `NovateError` CONFIG_INVALID naming the first value out of range."""
    _check_bounds(config, _BOUNDS, "")
    _check_bounds(config.alerts, _ALERT_BOUNDS, "alerts.")
    _check_bounds(config.api, _API_BOUNDS, "api.")
    _check_proxies(config.api.proxies)
    if config.log_level not in LOG_LEVELS:
        raise NovateError("CONFIG_INVALID", f"log_level = {config.log_level!r}: it must be {' or '.join(LOG_LEVELS)}")
    if config.port and config.port == config.private_port and config.host == config.private_host:
        raise NovateError("CONFIG_INVALID", f"port and private_port are both {config.port}: they must differ")
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


def _check_bounds(values: object, bounds: dict[str, tuple[float, float]], prefix: str) -> None:
    for name, (low, high) in bounds.items():
        value = getattr(values, name)
        if not low <= value <= high:
            raise NovateError("CONFIG_INVALID", f"{prefix}{name} = {value}: it must be {low:g} to {high:g}")


def _check_proxies(text: str) -> None:
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            ip_network(part, strict=False)
        except ValueError:
            # "*" too: whoever may say from where it comes has no limits.
            message = f"api.proxies: {part!r} is no address or network, such as 127.0.0.1 or 10.0.0.0/8"
            raise NovateError("CONFIG_INVALID", message) from None


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


def read_text(data_dir: Path) -> str:
    """What config.toml says. Raises `NovateError` CONFIG_NOT_FOUND or CONFIG_INVALID."""
    path = data_dir / FILE_NAME
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NovateError(
            "CONFIG_NOT_FOUND",
            f"{path} does not exist; create the data directory with `novate operator init`",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NovateError("CONFIG_INVALID", f"{path} cannot be read: {error}") from None


def load(data_dir: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Config of a data directory and the environment (of this process, or as given).

    Raises `NovateError` CONFIG_NOT_FOUND or CONFIG_INVALID.
    """
    config = parse(read_text(data_dir), str(data_dir / FILE_NAME))
    return with_environment(config, os.environ if environ is None else environ)


def variable(name: str) -> str:
    """The environment variable of a value, such as "port" or "alerts.gas_epochs"."""
    return ENVIRONMENT + name.replace(".", "_").upper()


def _settable() -> dict[str, tuple[type[Any], str]]:
    """Per environment variable the struct and the field that it sets; `vaults` are for the file."""
    found: dict[str, tuple[type[Any], str]] = {}
    for name in Config.__struct_fields__:
        if name in _SECTIONS:
            kind = _SECTIONS[name]
            found |= {variable(f"{name}.{inner}"): (kind, inner) for inner in kind.__struct_fields__}
        elif name != "vaults":
            found[variable(name)] = (Config, name)
    return found


def with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    """The config with what NOVATE_CONFIG_* say. Raises `NovateError` CONFIG_INVALID naming the variable."""
    known = _settable()
    changed: dict[type[Any], dict[str, Any]] = {Config: {}} | {kind: {} for kind in _SECTIONS.values()}
    for key in sorted(environ):
        if not key.startswith(ENVIRONMENT):
            continue
        if key not in known:
            raise NovateError(
                "CONFIG_INVALID", f"{key} in the environment names no value; unset it, or see config.toml"
            )
        kind, name = known[key]
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        value = endpoints(environ[key]) if name == "private_names" else environ[key]
        try:
            changed[kind][name] = msgspec.convert(value, fields[name], strict=False)
        except msgspec.ValidationError as error:
            raise NovateError("CONFIG_INVALID", f"{key} = {environ[key][:80]!r} in the environment: {error}") from None
    if not any(changed.values()):
        return config
    for name, kind in _SECTIONS.items():
        if changed[kind]:
            changed[Config][name] = msgspec.structs.replace(getattr(config, name), **changed[kind])
    try:
        return validate(msgspec.structs.replace(config, **changed[Config]))
    except NovateError as error:
        raise NovateError(error.code, f"with the environment's NOVATE_CONFIG_*: {error.message}") from None


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which no URL or host name holds.
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)


def render(config: Config) -> str:
    """TOML text of a config, one line per choice."""
    lines = ["# Choices of the operator; what is true of the venue is in the journal's genesis."]
    chosen = msgspec.structs.asdict(config)
    vaults: Sequence[VaultConfig] = chosen.pop("vaults")
    sections = {name: chosen.pop(name) for name in _SECTIONS}
    lines += [f"{name} = {toml(value)}" for name, value in chosen.items()]
    for section, values in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {toml(value)}" for name, value in msgspec.structs.asdict(values).items()]
    for vault in vaults:
        lines += ["", "[[vaults]]"]
        lines += [f"{name} = {toml(value)}" for name, value in msgspec.structs.asdict(vault).items()]
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
