# SPDX-License-Identifier: GPL-3.0-or-later
"""What every figure rests on, and how figures become JSON."""

from decimal import Decimal
from typing import Any

import msgspec

from clearing.core.state import State
from clearing.model.ids import UNIT
from clearing.model.params import params_hash


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all reports: plain data, units in the names."""


class Provenance(Figures, frozen=True, kw_only=True):
    """The entry that the figures stand at, and hashes of what they were computed from.

    `seq` is the last entry (zero-based), `journal_root` the log's root over entries 0..seq. `risk_arrays`:
    underlying -> SHA-256 of its array; underlyings without an array are not there. `state_root` is that of
    `epoch`, which entry `epoch_seq` closed (-1: no epoch is closed yet).
    """

    version: str
    deployment: str
    seq: int
    time_us: int
    journal_root: str
    params_version: int
    params_hash: str
    risk_arrays: dict[str, str]
    epoch: int
    epoch_seq: int
    state_root: str


def provenance(state: State, seq: int, journal_root: bytes, epoch_seq: int, state_root: bytes) -> Provenance:
    """The provenance of a state that stands at entry `seq`."""
    arrays = {under.spec.symbol: hexed(under.array.digest) for under in state.underlyings.values() if under.array}
    return Provenance(
        version=_version(),
        deployment=hexed(state.deployment),
        seq=seq,
        time_us=state.time_us,
        journal_root=hexed(journal_root),
        params_version=state.params.version,
        params_hash=hexed(params_hash(state.params, state.specs())),
        risk_arrays=arrays,
        epoch=state.epoch,
        epoch_seq=epoch_seq,
        state_root=hexed(state_root),
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("novate")
    except PackageNotFoundError:
        return "from source"


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def from_unit(value: int) -> Decimal:
    """1e-12 as a decimal, exactly."""
    return decimal_of(value, UNIT)


def decimal_of(value: int, unit: int) -> Decimal:
    """value / unit, where unit is a power of ten, exactly and without trailing zeros."""
    digits = len(str(unit)) - 1
    text = f"{abs(value):0{digits + 1}d}"
    whole, fraction = text[: len(text) - digits], text[len(text) - digits :].rstrip("0")
    return Decimal(("-" if value < 0 else "") + whole + (f".{fraction}" if fraction else ""))


_QUANTITIES = ("_atoms", "_lots")


def to_json(value: Any, name: str = "") -> Any:
    """Reports as JSON data: quantities of money and size as decimal strings, since JSON numbers lose digits;
    counts, ids, times and ppm as numbers."""
    if isinstance(value, msgspec.Struct):
        return {field: to_json(getattr(value, field), field) for field in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): to_json(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, name) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith(_QUANTITIES):
        return str(value)
    return value
