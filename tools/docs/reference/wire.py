# SPDX-License-Identifier: GPL-3.0-or-later
"""commands.md and outcomes.md: the bodies, commands and outcomes of the journal as they lie on the wire."""

from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from clearing.model import commands as c
from clearing.model import outcomes as o
from clearing.model.codec import Entry
from tools.docs.reference.configuration import type_name
from tools.docs.reference.text import code, documentation, page, table

_HOW = (
    "Each is a msgpack array: its tag where it has one, then its fields in the order given here. All fields are always "
    "there, nothing comes after them, every value has its shortest msgpack form ([protocol](../protocol.md))."
)


def pages() -> dict[str, str]:
    """commands.md and outcomes.md."""
    nested = (c.Envelope, c.Vault, c.Price, c.Surface, c.EscapeLeaf)
    return {
        "commands.md": page(
            "Commands",
            _HOW + " Instruments and parameters are in [parameters](parameters.md).",
            _group("Bodies of envelopes", get_args(c.Body)),
            _group("Commands of members", get_args(c.MemberCommand)),
            _group("Actions of owners", (c.RegisterKey, c.RevokeKey)),
            _group("Commands of the operator", get_args(c.OperatorCommand)),
            _group("Parts without a tag", nested),
        ),
        "outcomes.md": page(
            "Outcomes",
            _HOW + " The outcomes of an entry follow from the journal before it: replay gives the same bytes.",
            _group("The entry", (Entry,)),
            _group("Outcomes", sorted(get_args(o.Outcome), key=lambda kind: _tag(kind) or 0)),
            _group("Parts without a tag", (o.VaultEpoch,)),
        ),
    }


def _tag(kind: type[msgspec.Struct]) -> int | None:
    tag = kind.__struct_config__.tag
    return tag if isinstance(tag, int) else None


def _group(title: str, kinds: Iterable[Any]) -> str:
    return f"## {title}\n\n" + "\n\n".join(_one(kind) for kind in kinds)


def _one(kind: type[msgspec.Struct]) -> str:
    tag = _tag(kind)
    heading = f"### {kind.__name__}" + ("" if tag is None else f" (tag {tag})")
    fields = msgspec.structs.fields(kind)
    first = 0 if tag is None else 1
    rows = [(at, code(field.name), code(type_name(field.type))) for at, field in enumerate(fields, first)]
    text = documentation(kind) if kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(") else ""
    parts = [heading, text]
    if rows:
        parts.append(table(("place", "field", "type"), rows))
    return "\n\n".join(part for part in parts if part)
