# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the interface in OpenAPI 3.1, made from the resources' declarations and the message types."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from clearing.api.http import errors
from clearing.api.http.table import Param, Resource
from clearing.api.messages.common import described

_REFERENCE: Final = "#/components/schemas/{name}"
_HEADERS: Final = {
    "x-novate-seq": "the state is after this entry of the journal",
    "x-novate-age-ms": "milliseconds since the sequencer was last heard",
    "x-novate-stale": "1 when that is too long ago, or it is not connected",
    "x-ratelimit-limit": "requests that may come at once",
    "x-ratelimit-remaining": "of them left",
    "x-ratelimit-reset": "seconds until all are there again",
}
_MIN_SEQ: Final = Param(
    "min_seq", Annotated[int, Meta(ge=0, le=2**53)], "wait until the state is after this entry, two seconds at most"
)
_ABOUT: Final = (
    "What counts atoms, lots, client order ids and nonces is a decimal string; ids, entries (`seq`) and microseconds "
    "are numbers; bytes are 0x and hexadecimal digits. Everything that changes something is signed by its sender, and "
    "the same bytes always get the same receipt. Account data is public, as it is in the journal."
)


def document(resources: Sequence[Resource], version: str) -> dict[str, Any]:
    """The whole document. Deterministic."""
    structs = sorted(_structs(resources), key=lambda kind: kind.__name__)
    kinds = [*structs, *(param.kind for resource in resources for param in resource.params), errors.Error, int]
    _, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        paths.setdefault(resource.path, {})[resource.method.lower()] = _operation(resource)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Novate", "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": described(components)},
    }


def _structs(resources: Sequence[Resource]) -> set[Any]:
    found: set[Any] = set()
    for resource in resources:
        bodies = resource.body.values() if resource.body is not None else ()
        found |= {kind for kind in (resource.answer, *bodies) if not isinstance(kind, str) and kind is not bytes}
    return found


def _operation(resource: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _name(resource),
        "tags": [resource.group],
        "summary": resource.summary,
        "parameters": [
            _parameter(param, resource) for param in (*resource.params, *([_MIN_SEQ] if resource.waits else []))
        ],
        "responses": _responses(resource),
    }
    if resource.doc:
        found["description"] = resource.doc
    if resource.body is not None:
        content = {media: {"schema": _schema(kind)} for media, kind in resource.body.items()}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _params(resource: Resource) -> tuple[Param, ...]:
    return (*resource.params, _MIN_SEQ) if resource.waits else resource.params


def _name(resource: Resource) -> str:
    words = re.findall(r"[a-z_]+", resource.path.removeprefix("/v1"))
    return "_".join((resource.method.lower(), *words))


def _schema(kind: Any) -> dict[str, Any]:
    if kind is bytes:
        return {"type": "string", "format": "binary"}
    (found,), _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return found


def _parameter(param: Param, resource: Resource) -> dict[str, Any]:
    schema = _schema(param.kind)
    if param.default is not None:
        schema = schema | {"default": int(param.default) if param.default.isdigit() else param.default}
    in_path = f"{{{param.name}}}" in resource.path
    where = "path" if in_path else "query"
    return {"name": param.name, "in": where, "required": in_path or param.required, "description": param.doc} | {
        "schema": schema
    }


def _responses(resource: Resource) -> dict[str, Any]:
    if isinstance(resource.answer, str):
        text = resource.answer.startswith("text/")
        content = {resource.answer: {"schema": {"type": "string"} if text else _schema(bytes)}}
    else:
        content = {errors.JSON: {"schema": _schema(resource.answer)}}
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}
    found: dict[str, Any] = {"200": {"description": "done", "headers": headers, "content": content}}
    codes: dict[int, list[str]] = {}
    for code in dict.fromkeys((*resource.errors, *errors.COMMON)):
        if code == "REPLICA_BEHIND" and not resource.waits:
            continue
        codes.setdefault(errors.STATUS.get(code, 500 if code == "INTERNAL" else 400), []).append(code)
    error = {errors.JSON: {"schema": _schema(errors.Error)}}
    for status in sorted(codes):
        found[str(status)] = {"description": ", ".join(codes[status]), "content": error}
    if resource.path == "/v1/health":  # the same body tells why
        found["503"] = {"description": "stale or halted", "content": content}
    return found
