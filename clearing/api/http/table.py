# SPDX-License-Identifier: GPL-3.0-or-later
"""How a resource is declared: its route, and all that its description in OpenAPI is made from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

# A struct is encoded as JSON; a Response is sent as it is.
Handler = Callable[[Request], Awaitable[msgspec.Struct | Response]]


@dataclass(frozen=True)
class Param:
    """A parameter in path or query. `kind` is a type that msgspec has a JSON schema for, with bounds where it has some:
    `Annotated[int, Meta(ge=1, le=1000)]`. `default` as text, or None when it must be given or may be left out."""

    name: str
    kind: Any
    doc: str
    required: bool = False
    default: str | None = None


@dataclass(frozen=True)
class Resource:
    """`answer`: the struct of a success, or a media type for what is not JSON. `body`: media types and what they hold.
    `errors`: codes beyond those that every resource may answer. `group`: the tag in OpenAPI. `waits`: it
    takes `min_seq`. `submits`: it is not limited as a read, but as what submits envelopes."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: type | str
    group: str
    params: tuple[Param, ...] = ()
    body: dict[str, Any] | None = None
    errors: tuple[str, ...] = ()
    doc: str = ""
    waits: bool = True
    submits: bool = False
