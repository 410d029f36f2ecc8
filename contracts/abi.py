# SPDX-License-Identifier: Apache-2.0
"""Calldata, results, events and reverts of an artifact, as bytes: eth-abi and nothing else.

Rules: names, never selectors, on the outside; the contracts overload nothing, so a name is enough.
Addresses are 0x-strings (any case) on the way in and lower-case 0x-strings on the way out. Import it
lazily: eth-abi takes long to load.
"""

from typing import Any

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_hash.auto import keccak

from contracts import Artifact

__all__ = [
    "AbiError",
    "Revert",
    "decode_event",
    "decode_result",
    "decode_revert",
    "encode_call",
    "encode_constructor",
    "event_topic",
    "selector",
]

_BUILT_IN: dict[bytes, tuple[str, list[str]]] = {
    keccak(b"Error(string)")[:4]: ("Error", ["string"]),
    keccak(b"Panic(uint256)")[:4]: ("Panic", ["uint256"]),
}


class AbiError(Exception):
    """Bytes and ABI do not agree: `code` is UNKNOWN_NAME, CANNOT_ENCODE or CANNOT_DECODE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Revert(tuple[str, tuple[Any, ...]]):
    """Name and arguments of a contract's error."""

    __slots__ = ()

    def __new__(cls, name: str, arguments: tuple[Any, ...]) -> "Revert":
        return super().__new__(cls, (name, arguments))

    @property
    def name(self) -> str:
        return self[0]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self[1]


def _type(parameter: dict[str, Any]) -> str:
    kind: str = parameter["type"]
    if kind.startswith("tuple"):
        inner = ",".join(_type(component) for component in parameter["components"])
        return f"({inner}){kind.removeprefix('tuple')}"
    return kind


def _types(parameters: list[dict[str, Any]]) -> list[str]:
    return [_type(parameter) for parameter in parameters]


def _entry(artifact: Artifact, kind: str, name: str) -> dict[str, Any]:
    for entry in artifact.abi:
        if entry["type"] == kind and entry.get("name", "") == name:
            return entry
    raise AbiError("UNKNOWN_NAME", f"{artifact.name} has no {kind} named {name!r}")


def _signature_hash(entry: dict[str, Any]) -> bytes:
    return bytes(keccak(f"{entry['name']}({','.join(_types(entry['inputs']))})".encode()))


def _encode(types: list[str], arguments: tuple[Any, ...], what: str) -> bytes:
    if len(arguments) != len(types):
        raise AbiError("CANNOT_ENCODE", f"{what} takes {len(types)} arguments, not {len(arguments)}")
    try:
        return encode(types, arguments)
    except (EncodingError, ValueError, TypeError) as error:
        raise AbiError("CANNOT_ENCODE", f"an argument of {what} does not fit its type: {error}") from error


def _decode(types: list[str], data: bytes, what: str) -> tuple[Any, ...]:
    try:
        return tuple(decode(types, data))
    except (DecodingError, OverflowError, ValueError) as error:
        raise AbiError(
            "CANNOT_DECODE", f"what the node returned is no {what} ({error}); is this contract a vault?"
        ) from error


def selector(artifact: Artifact, function: str) -> bytes:
    """First 4 bytes of the function's calldata. Raises `AbiError` UNKNOWN_NAME."""
    return _signature_hash(_entry(artifact, "function", function))[:4]


def encode_call(artifact: Artifact, function: str, *arguments: Any) -> bytes:
    """Calldata of one call. Raises `AbiError` UNKNOWN_NAME or CANNOT_ENCODE."""
    entry = _entry(artifact, "function", function)
    return _signature_hash(entry)[:4] + _encode(_types(entry["inputs"]), arguments, function)


def encode_constructor(artifact: Artifact, *arguments: Any) -> bytes:
    """Data of the transaction that deploys the contract. Raises `AbiError` CANNOT_ENCODE."""
    types = next((_types(e["inputs"]) for e in artifact.abi if e["type"] == "constructor"), [])
    return artifact.bytecode + _encode(types, arguments, f"{artifact.name}'s constructor")


def decode_result(artifact: Artifact, function: str, data: bytes) -> tuple[Any, ...]:
    """What a call returned, one element per return value. Raises `AbiError` CANNOT_DECODE."""
    return _decode(_types(_entry(artifact, "function", function)["outputs"]), data, f"result of {function}")


def event_topic(artifact: Artifact, event: str) -> bytes:
    """First topic (32 bytes) of the event's logs. Raises `AbiError` UNKNOWN_NAME."""
    return _signature_hash(_entry(artifact, "event", event))


def decode_event(artifact: Artifact, event: str, topics: list[bytes], data: bytes) -> dict[str, Any]:
    """The event's fields by name; an indexed field of dynamic type is its 32-byte hash.

    Raises `AbiError` CANNOT_DECODE if topics and data are not this event's.
    """
    entry = _entry(artifact, "event", event)
    indexed = [p for p in entry["inputs"] if p["indexed"]]
    plain = [p for p in entry["inputs"] if not p["indexed"]]
    if len(topics) != 1 + len(indexed) or topics[0] != _signature_hash(entry):
        raise AbiError("CANNOT_DECODE", f"the log is no {event} of {artifact.name}")
    kinds = ["bytes32" if _is_dynamic(_type(p)) else _type(p) for p in indexed]
    fields = {p["name"]: value for p, value in zip(plain, _decode(_types(plain), data, event), strict=True)}
    for parameter, kind, topic in zip(indexed, kinds, topics[1:], strict=True):
        fields[parameter["name"]] = _decode([kind], topic, event)[0]
    return {p["name"]: fields[p["name"]] for p in entry["inputs"]}


def decode_revert(artifact: Artifact, data: bytes) -> Revert | None:
    """The named error in a revert's data; None when it is no error this artifact knows."""
    built_in = _BUILT_IN.get(data[:4])
    if built_in is not None:
        return Revert(built_in[0], _decode(built_in[1], data[4:], "revert"))
    for entry in artifact.abi:
        if entry["type"] == "error" and _signature_hash(entry)[:4] == data[:4]:
            return Revert(entry["name"], _decode(_types(entry["inputs"]), data[4:], "revert"))
    return None


def _is_dynamic(kind: str) -> bool:
    return kind in ("bytes", "string") or "[" in kind or "(" in kind
