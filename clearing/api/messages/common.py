# SPDX-License-Identifier: GPL-3.0-or-later
"""What messages of the public interface have in common."""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Annotated, Any

from msgspec import Meta

# Counts of atoms, lots and the like; client order ids and nonces.
Amount = Annotated[str, Meta(pattern="^-?[0-9]+$")]
Hex = Annotated[str, Meta(pattern="^0x([0-9a-f]{2})*$")]


def described(components: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Schemas that msgspec made, by name, in a document's form: their descriptions are docstrings, which Python indents
    up to 3.12 and not from 3.13 on."""
    found = {}
    for name, schema in sorted(components.items()):
        text = schema.get("description")
        found[name] = schema | {"description": cleandoc(text)} if text is not None else schema
    return found
