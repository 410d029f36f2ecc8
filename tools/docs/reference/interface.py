# SPDX-License-Identifier: GPL-3.0-or-later
"""api.md: the public interface for readers, from its own OpenAPI document, and the streams from AsyncAPI.

Both documents are the ones that are served; they lie beside the page as openapi.json and asyncapi.json.
"""

import asyncio
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clearing.api.app import resources_of
from clearing.api.context import Context
from clearing.api.http import openapi
from clearing.api.stream import asyncapi
from clearing.service.config import Config
from tools.docs.reference.text import cell, code, page, table

Document = dict[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete")
_INTRODUCTION = (
    "Numbers of money, prices and sizes are decimal strings of integer units; ids, seqs and times in microseconds are "
    'JSON integers; bytes are 0x-hex. Every error is `{"code", "message"}` ([error codes](errors.md)). The documents '
    "themselves are served at `/v1/openapi.json` and `/v1/asyncapi.json`, and lie here as [openapi.json](openapi.json) "
    "and [asyncapi.json](asyncapi.json)."
)


class _Blank:
    """What a declaration holds and never uses: stands for everything that runs."""

    def __getattr__(self, name: str) -> "_Blank":
        return self

    def __call__(self, *args: object) -> "_Blank":
        return self


async def _openapi() -> Document:
    """The document as a process would serve it, made from the declarations alone."""
    blank: Any = _Blank()
    context = Context(Path(), Config(), blank, blank, blank, blank, blank, blank, blank)
    return openapi.document(resources_of(context, blank, blank), version("novate"))


def pages() -> dict[str, str]:
    """api.md, openapi.json and asyncapi.json of this code."""
    return render(asyncio.run(_openapi()), asyncapi.document())


def render(rest: Document, streams: Document) -> dict[str, str]:
    """api.md, openapi.json and asyncapi.json."""
    return {
        "openapi.json": json.dumps(rest, indent=1, ensure_ascii=False) + "\n",
        "asyncapi.json": json.dumps(streams, indent=1, ensure_ascii=False) + "\n",
        "api.md": page(
            "The public interface",
            _INTRODUCTION,
            "## Requests",
            *_requests(rest),
            "## Streams",
            cell(streams.get("info", {}).get("description", "")),
            *_channels(streams),
            "## Objects",
            *_objects(_schemas(rest) | _parts(streams)),
        ),
    }


# --- requests ----------------------------------------------------------------------------------


def _requests(document: Document) -> Iterator[str]:
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                yield _request(method, path, item[method], item.get("parameters", []), document)


def _request(method: str, path: str, operation: Document, shared: list[Document], document: Document) -> str:
    parts = [
        f"### {method.upper()} {path}",
        *map(cell, (operation.get("summary", ""), operation.get("description", ""))),
    ]
    parameters = [_resolved(each, document) for each in (*shared, *operation.get("parameters", []))]
    rows = [
        (code(each["name"]), each["in"], _kind(each.get("schema", {})), _default(each), each.get("description", ""))
        for each in parameters
    ]
    if rows:
        parts.append(table(("parameter", "in", "type", "default", "meaning"), rows))
    if body := _resolved(operation.get("requestBody", {}), document).get("content"):
        parts.append("Takes " + _contents(body) + ".")
    answers = [(status, _answer(_resolved(each, document))) for status, each in operation.get("responses", {}).items()]
    parts.append("\n".join(f"- {status}: {text}" for status, text in answers))
    return "\n\n".join(part for part in parts if part)


def _answer(response: Document) -> str:
    contents = _contents(response.get("content", {}))
    return cell(response.get("description", "")) + (f": {contents}" if contents else "")


def _contents(content: Document) -> str:
    found = [f"{code(media)} {_kind(each.get('schema', {}))}".strip() for media, each in content.items()]
    return " or ".join(found)


def _default(parameter: Document) -> str:
    if parameter.get("required"):
        return "required"
    return code(parameter.get("schema", {}).get("default", ""))


# --- streams -----------------------------------------------------------------------------------


def _channels(document: Document) -> Iterator[str]:
    for name, channel in document.get("channels", {}).items():
        text = [cell(channel.get(key, "")) for key in ("summary", "description")]
        messages = [
            _message(key, _resolved(each, document), document) for key, each in channel.get("messages", {}).items()
        ]
        parts = [f"### {channel.get('address', name) or name}", *text, *messages]
        yield "\n\n".join(part for part in parts if part)


def _message(name: str, message: Document, document: Document) -> str:
    payload = message.get("payload", {})
    payload = payload.get("schema", payload)
    text = cell(message.get("summary") or message.get("description") or "")
    head = f"**{cell(message.get('title', name))}**" + (f": {text}" if text else "")
    fields = _fields(_resolved(payload, document))
    return f"{head}\n\n{fields}" if fields else f"{head}: {_kind(payload)}"


# --- schemas -----------------------------------------------------------------------------------


def _schemas(document: Document) -> Document:
    found: Document = document.get("components", {}).get("schemas", {})
    return found


def _parts(streams: Document) -> Document:
    """What frames are made of; the frames themselves stand under their channels."""
    frames = {
        message.get("payload", {}).get("$ref", "").rsplit("/", 1)[-1]
        for message in streams.get("components", {}).get("messages", {}).values()
    }
    return {name: schema for name, schema in _schemas(streams).items() if name not in frames}


def _objects(schemas: Document) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        parts = [f"### {name}", cell(schema.get("description", "")), _fields(schema) or _kind(schema)]
        yield "\n\n".join(part for part in parts if part)


def _fields(schema: Document) -> str:
    properties = schema.get("properties", {})
    if not properties:
        return ""
    required = set(schema.get("required", ()))
    rows = [
        (code(name), _kind(each), "" if name in required else "optional", each.get("description", ""))
        for name, each in properties.items()
    ]
    return table(("field", "type", "", "meaning"), rows)


def _kind(schema: Document) -> str:
    """A schema in a few words; objects are named and explained at the end of the page."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[word]))
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return " or ".join(code(json.dumps(each)) for each in schema["enum"])
    kind = schema.get("type", "")
    if "prefixItems" in schema:
        return f"list of {', '.join(map(_kind, schema['prefixItems']))}"
    if kind == "array":
        return f"list of {_kind(schema.get('items', {})) or 'anything'}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _resolved(item: Document, document: Document) -> Document:
    """The item that a local reference names."""
    while "$ref" in item:
        found: Any = document
        for key in item["$ref"].removeprefix("#/").split("/"):
            found = found[key.replace("~1", "/").replace("~0", "~")]
        item = found
    return item
