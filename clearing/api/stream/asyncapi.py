# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the stream in AsyncAPI 3.0, made from the message types."""

import inspect
from importlib.metadata import version
from typing import Any, Final

import msgspec

from clearing.api.messages import frames as f
from clearing.api.messages.common import described

_REFERENCE: Final = f.SCHEMAS + "/{name}"
_ABOUT: Final = (
    "Text frames, each a JSON object of at most 256 KiB. What counts atoms, lots, client order ids and nonces is a "
    "decimal string; ids, entries (`seq`) and microseconds are numbers; bytes are 0x and hexadecimal digits. Account "
    "data is public, as it is in the journal.\n\n"
    "A subscription begins with a snapshot, then deltas; `seq` says up to which entry of the journal the data is "
    "complete, `prev_seq` the `seq` of the frame before it in the same subscription. Who finds another `prev_seq` than "
    "the `seq` it saw last subscribes again. After `reset` a new snapshot comes by itself. After a new connection: "
    "subscribe with `after`, the last `seq` seen; `gap` in the snapshot says that not all of it could be told, and the "
    "REST interface pages through the rest.\n\n"
    "Heartbeats come once a second. The server pings, and cuts who is silent for 30 seconds. Closing codes: 1008 after "
    "20 frames that are not understood, 1009 for a frame that is too large, 1012 when the server restarts (come back), "
    "1013 for a client that reads too slowly.\n\n"
    "`cancel_on_disconnect` is kept in this process: it holds for a lost connection, not for a killed server. "
    "ScheduleCancelAll, renewed by the client, is in the journal and holds for both."
)


def _name(kind: type[msgspec.Struct]) -> str:
    name = kind.__name__
    return name[0].lower() + name[1:]


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    doc = inspect.getdoc(kind)
    found: dict[str, Any] = {"name": kind.__name__, "payload": {"$ref": _REFERENCE.format(name=kind.__name__)}}
    if doc and not doc.startswith(kind.__name__ + "("):
        found["description"] = doc
    return found


def _operation(action: str, summary: str, kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/stream/messages/{_name(kind)}"} for kind in kinds]
    return {
        "action": action, "channel": {"$ref": "#/channels/stream"}, "summary": summary, "messages": messages,
    }  # fmt: skip


def document() -> dict[str, Any]:
    """The whole document. Deterministic. Actions are the server's, as AsyncAPI has it."""
    kinds: tuple[type[msgspec.Struct], ...] = (*f.ASKS, *f.TELLS)
    _, schemas = msgspec.json.schema_components((*kinds, *f.PARTS), ref_template=_REFERENCE)
    messages = {_name(kind): {"$ref": f"#/components/messages/{_name(kind)}"} for kind in kinds}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Novate stream", "version": version("novate"), "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": {"stream": {"address": "/v1/stream", "messages": messages, "bindings": {"ws": {"method": "GET"}}}},
        "operations": {
            "ask": _operation("receive", "What a client asks for", f.ASKS),
            "tell": _operation("send", "What the server tells", f.TELLS),
        },
        "components": {
            "messages": {_name(kind): _message(kind) for kind in kinds},
            "schemas": described(schemas),
        },
    }
