# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the stream: whole, and what it says is what is taken. (What is told is held against it in every
test of the stream: tests.api.streams.)"""

import itertools
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.api.messages import frames as f
from clearing.api.stream.asyncapi import document

_decode = msgspec.json.Decoder(f.Ask, strict=True).decode
_OPS = ("subscribe", "unsubscribe", "ping", "submit", "cancel_on_disconnect", "leave")


def references(value: Any) -> set[str]:
    """All `$ref` within."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    return set[str]().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def test_the_document_is_whole() -> None:
    """JSON, the same each time; every reference leads somewhere, every message is of one operation, described, and
    named once."""
    found = document()
    assert msgspec.json.decode(msgspec.json.encode(found)) == found == document()
    assert found["asyncapi"] == "3.0.0" and found["info"]["version"]
    for reference in references(found):
        at: Any = found
        for part in reference.removeprefix("#/").split("/"):
            assert part in at, reference
            at = at[part]
    messages = [message for operation in found["operations"].values() for message in operation["messages"]]
    of_operations = [message["$ref"].rsplit("/", 1)[1] for message in messages]
    assert sorted(of_operations) == sorted(found["components"]["messages"])
    assert sorted(of_operations) == sorted(found["channels"]["stream"]["messages"])
    assert len({message["name"] for message in found["components"]["messages"].values()}) == len(of_operations)


def test_every_channel_has_a_snapshot_and_a_delta() -> None:
    """And both name the channel that a client subscribes to."""
    schemas = document()["components"]["schemas"]
    channels = schemas["Subscribe"]["properties"]["channel"]["enum"]
    fields = [schemas[kind.__name__]["properties"] for kind in f.TELLS if kind.__name__.endswith(("Snapshot", "Delta"))]
    told = {(found["type"]["enum"][0], found["channel"]["enum"][0]) for found in fields}
    assert told == set(itertools.product(("snapshot", "delta"), channels))


@pytest.fixture(scope="module")
def asks() -> dict[str, jsonschema_rs.Draft202012Validator]:
    """A validator by `op`."""
    schemas = document()["components"]["schemas"]
    return {
        schemas[kind.__name__]["properties"]["op"]["enum"][0]: jsonschema_rs.Draft202012Validator(
            {"$ref": f"#/components/schemas/{kind.__name__}", "components": {"schemas": schemas}}
        )
        for kind in f.ASKS
    }


_values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**54), st.text(max_size=70), st.lists(st.text(max_size=5), max_size=18),
    st.sampled_from(("book", "account", "trades")), st.sampled_from((0, 60_000, 60_001, 2**53, 2**53 + 1)),
)  # fmt: skip
_good = {
    "channel": st.sampled_from(("book", "account", "status")), "id": st.integers(0, 9) | st.text(max_size=9),
    "instrument": st.integers(0, 9), "account": st.integers(0, 9), "after": st.integers(0, 9),
    "envelopes": st.lists(st.just("0x00"), min_size=1, max_size=101), "grace_ms": st.integers(0, 60_000),
    "outcomes": st.booleans(),
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_OPS), st.data())
def test_a_frame_is_taken_just_when_it_is_as_described(asks: Any, op: str, data: st.DataObject) -> None:
    """The schema that a client is written from, and the decoder that takes its frames, agree."""
    fields = data.draw(st.sets(st.sampled_from((*_good, "more")), max_size=4))
    frame: dict[str, Any] = {"op": op}
    for name in sorted(fields):
        frame[name] = data.draw(_good[name] | _values if name in _good else _values)
    try:
        _decode(msgspec.json.encode(frame))
        taken = True
    except msgspec.ValidationError:
        taken = False
    assert taken == asks[op].is_valid(frame), frame
