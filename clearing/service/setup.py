# SPDX-License-Identifier: GPL-3.0-or-later
"""A new data directory: keys, configuration, and a journal whose first entry is the signed genesis.

Rules: nothing that exists is overwritten. Keys come first (`layout.create_keys`), since a vault is
deployed for the operator's address and the genesis names the vault; a set-up that was interrupted
goes on with the keys it finds. The journal is created last and whole.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clearing.core.reducer import RULES_VERSION, Reducer
from clearing.model.codec import decode_any_envelope, encode_entry
from clearing.model.commands import Genesis, Vault
from clearing.model.errors import NovateError
from clearing.model.params import Instrument, Params
from clearing.model.signature import public_key_of, sign
from clearing.service.commit import named
from clearing.service.config import FILE_NAME, Config, render, validate
from clearing.service.layout import Keys, Layout, create_keys
from journal import JournalError, Store


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is chosen once. Addresses have 20 bytes, `deployment` 32; `origin` is a domain name. `vaults` in the
    order that numbers them."""

    deployment: bytes
    origin: str
    vaults: tuple[Vault, ...]
    operator_address: bytes
    treasury: bytes
    instruments: tuple[Instrument, ...]
    params: Params = Params()  # noqa: RUF009 - frozen


def make_genesis(chosen: Deployment, keys: Keys) -> Genesis:
    """The genesis of a deployment with these keys."""
    return Genesis(
        rules_version=RULES_VERSION,
        deployment=chosen.deployment,
        origin=chosen.origin,
        operator_key=public_key_of(keys.operator),
        operator_address=chosen.operator_address,
        treasury=chosen.treasury,
        vaults=chosen.vaults,
        publishers=tuple(public_key_of(seed) for seed in keys.publishers),
        instruments=chosen.instruments,
        params=chosen.params,
    )


def genesis_entry(genesis: Genesis, seed: bytes, now_us: int) -> bytes:
    """Entry 0, signed by the operator's seed. Raises `NovateError` INVALID_GENESIS, INVALID_PARAMS."""
    raw = sign(genesis, seed)
    envelope, body = decode_any_envelope(raw)
    return encode_entry(0, now_us, raw, Reducer(genesis).apply(now_us, envelope, body))


def init_data_dir(
    data_dir: Path, chosen: Deployment, now_us: int, config: Config | None = None, publishers: int = 1
) -> Genesis:
    """Set a data directory up; returns its genesis. `now_us` is microseconds UTC.

    Raises `NovateError` DATA_DIR_NOT_EMPTY, INVALID_GENESIS, INVALID_PARAMS, CONFIG_INVALID, KEY_FILE_*,
    and the journal's codes.
    """
    layout = Layout(data_dir)
    if layout.journal.exists() or (data_dir / FILE_NAME).exists():
        raise NovateError("DATA_DIR_NOT_EMPTY", f"{data_dir} holds a deployment; choose another directory")
    settings = validate(config or Config())
    _check(chosen)
    _make_directory(data_dir)
    keys = create_keys(data_dir, publishers)
    genesis = make_genesis(chosen, keys)
    entry = genesis_entry(genesis, keys.operator, now_us)
    try:
        with Store.create(layout.journal, map_bytes=settings.journal_map_bytes) as store:
            store.append([entry], store.head())
    except JournalError as error:
        raise named(error) from None
    _write_config(data_dir / FILE_NAME, render(settings))
    return genesis


def _write_config(path: Path, text: str) -> None:
    """Mode 0600: an endpoint's URL may carry a key."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _check(chosen: Deployment) -> None:
    sizes: Sequence[tuple[str, bytes, int]] = (
        ("deployment", chosen.deployment, 32),
        ("operator_address", chosen.operator_address, 20),
        ("treasury", chosen.treasury, 20),
        *(("vault", vault.address, 20) for vault in chosen.vaults),
        *(("token", token, 20) for vault in chosen.vaults for token in vault.tokens),
        *(("attestor", address, 20) for vault in chosen.vaults for address in vault.attestors),
        *(("governor", vault.governor, 20) for vault in chosen.vaults if vault.governor),
    )
    for name, value, length in sizes:
        if len(value) != length:
            raise NovateError("INVALID_GENESIS", f"{name} has {len(value)} bytes; it must have {length}")
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789.-"
    if not 1 <= len(chosen.origin) <= 253 or any(letter not in allowed for letter in chosen.origin):
        message = f"origin {chosen.origin!r} must be a domain name in lower case, such as novate.example"
        raise NovateError("INVALID_GENESIS", message)


def _make_directory(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NovateError("DATA_DIR_UNUSABLE", f"{data_dir} cannot be created: {error.strerror}") from None
