# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the public interface says what its OpenAPI and AsyncAPI documents say."""

import json
from typing import Any

import msgspec

from tools.docs.reference.interface import render


class Level(msgspec.Struct):
    """A price of the book."""

    price_atoms: str
    orders: int = 0


class Book(msgspec.Struct):
    """Both sides, best first."""

    seq: int
    bids: list[Level]
    side: str | None = None


def documents() -> tuple[dict[str, Any], dict[str, Any]]:
    (book,), components = msgspec.json.schema_components([Book], ref_template="#/components/schemas/{name}")
    depth = {
        "name": "depth",
        "in": "query",
        "description": "levels | of each side",
        "schema": {"type": "integer", "default": 20},
    }
    path = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    get = {
        "summary": "A market's book",
        "parameters": [path, {"$ref": "#/components/parameters/depth"}],
        "responses": {
            "200": {"description": "the book", "content": {"application/json": {"schema": book}}},
            "404": {"description": "UNKNOWN_INSTRUMENT"},
        },
    }
    post = {
        "summary": "Submit",
        "requestBody": {"content": {"application/msgpack": {"schema": {"type": "string"}}}},
        "responses": {"200": {"description": "a receipt"}},
    }
    parts = {"schemas": components, "parameters": {"depth": depth}}
    rest = {"paths": {"/v1/books/{id}": {"get": get}, "/v1/commands": {"post": post}}, "components": parts}
    delta = {
        "title": "delta",
        "summary": "what changed",
        "payload": {"type": "object", "properties": {"seq": {"type": "integer"}}},
    }
    channel = {"address": "book", "summary": "Levels", "messages": {"delta": {"$ref": "#/components/messages/delta"}}}
    streams = {"channels": {"book": channel}, "components": {"messages": {"delta": delta}}}
    return rest, streams


def test_requests_streams_and_objects_are_on_the_page() -> None:
    """Parameters with bounds of a cell, bodies, answers, messages, and types that link to their tables."""
    rest, streams = documents()
    made = render(rest, streams)
    text = made["api.md"]
    for line in (
        "### GET /v1/books/{id}",
        "| `id` | path | integer | required |  |",
        "| `depth` | query | integer | `20` | levels \\| of each side |",
        "- 200: the book: `application/json` [Book](#book)",
        "- 404: UNKNOWN_INSTRUMENT",
        "Takes `application/msgpack` string.",
        "**delta**: what changed",
        "| `bids` | list of [Level](#level) |  |  |",
        "| `side` | string or null | optional |  |",
        "Both sides, best first.",
    ):
        assert line in text, line
    assert json.loads(made["openapi.json"]) == rest and json.loads(made["asyncapi.json"]) == streams
