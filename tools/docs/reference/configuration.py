# SPDX-License-Identifier: GPL-3.0-or-later
"""configuration.md: what the operator may choose, from the types of clearing.service.config; and the parameters of the
rules from clearing.model.params, in parameters.md."""

import re
from typing import Any, get_origin

import msgspec

from clearing.model import params, presets
from clearing.model.presets import Preset
from clearing.service import config
from tools.docs.reference.text import code, documentation, page, table

_PARTS = (
    params.FeeTier, params.Underlying, params.Asset, params.Instrument, params.StandardMargin, params.OracleRules,
    params.Ladder, params.Adaptive, params.Breaker, params.Borrowing, Preset, presets.Scenario, presets.VolShock,
    presets.SkewShock, presets.StaticDiscount, presets.Basis, presets.Contingency,
)  # fmt: skip


def pages() -> dict[str, str]:
    """configuration.md and parameters.md."""
    return {"configuration.md": _configuration(), "parameters.md": _parameters()}


def _configuration() -> str:
    sections = []
    for name in config.Config.__struct_fields__:
        default = getattr(config.Config(), name)
        if isinstance(default, msgspec.Struct):
            kind = type(default)
            rows = [_row(field, config.variable(f"{name}.{field.name}")) for field in msgspec.structs.fields(kind)]
            sections.append(f"## [{name}]\n\n{documentation(kind)}\n\n" + _table(rows))
    plain = [
        _row(field, config.variable(field.name))
        for field in msgspec.structs.fields(config.Config)
        if not isinstance(getattr(config.Config(), field.name), msgspec.Struct) and field.name != "vaults"
    ]
    vaults = [_row(field, "") for field in msgspec.structs.fields(config.VaultConfig)]
    return page(
        "Configuration of the operator",
        documentation(config),
        "`novate config show DATA --origin` prints what holds and where each value came from.",
        f"## Top level\n\n{documentation(config.Config)}\n\n" + _table(plain),
        *sections,
        f"## [[vaults]]\n\n{documentation(config.VaultConfig)}\n\n" + _table(vaults),
    )


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    return table(("name", "type", "default", "environment"), rows)


def _row(field: msgspec.structs.FieldInfo, variable: str) -> tuple[str, str, str, str]:
    return code(field.name), type_name(field.type), code(config.toml(field.default)), code(variable)


def type_name(kind: Any) -> str:
    """A type as people read it: `str`, `int | str`, `tuple[int, ...]`."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind.__name__
    text = str(kind).replace("typing.", "")
    return ".".join(text.split(".")) if "clearing." not in text else _short(text)


def _short(text: str) -> str:
    """Names without their modules."""
    return re.sub(r"(?:\w+\.)+(\w+)", r"\1", text)


def _parameters() -> str:
    sections = [f"## {kind.__name__}\n\n{documentation(kind)}\n\n" + _fields(kind) for kind in _PARTS]
    return page(
        "Parameters of the rules",
        "One versioned set, in the journal's genesis, hashed into every epoch's header and changed only by a "
        "journalled proposal after its notice. `novate params show` prints the set in force, `novate params check` "
        "tries a change. "
        "Units are in the names: `_ppm` parts per million, `_us` microseconds, `_atoms` a millionth of the settlement "
        "asset's unit, `_lots` lots. On the wire a set is an array in the order of this page.",
        f"## Params\n\n{documentation(params.Params)}\n\n" + _fields(params.Params),
        *sections,
    )


def _fields(kind: type[msgspec.Struct]) -> str:
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else _default(field.default)
        rows.append((code(field.name), code(type_name(field.type)), default))
    return table(("field", "type", "default"), rows)


def _default(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}'s"
    if isinstance(value, tuple):
        texts = []
        for item in value:
            if isinstance(item, Preset):
                texts.append("a preset")
            elif isinstance(item, msgspec.Struct):
                texts.append("(" + ", ".join(str(part) for part in msgspec.structs.astuple(item)) + ")")
            else:
                texts.append(str(item))
        return code("[" + ", ".join(texts) + "]")
    return code(f"{value:_}" if type(value) is int else value)
