# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract ABI, as much of it as our contracts use, without the slow libraries.

Types: uintN, bool, address (20 `bytes`), bytesN, bytes, string, arrays and tuples of these.
Decoding treats its input as hostile: every offset and length is checked, and every failure is
`ChainError` RPC_BAD_DATA.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from clearing.chain.errors import ChainError

WORD: Final = 32
_ARRAY = re.compile(r"^(.*)\[(\d*)\]$")
_PANICS: Final = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x32: "index out of range",
}


def keccak(data: bytes) -> bytes:
    """Keccak-256 (32 bytes)."""
    from eth_hash.auto import keccak as hash_function

    return bytes(hash_function(data))


class Type(NamedTuple):
    """A parameter: ABI type text, name, and the fields when it is a tuple (or array of tuples)."""

    text: str
    name: str = ""
    fields: tuple["Type", ...] = ()
    indexed: bool = False

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> "Type":
        fields = tuple(cls.parse(part) for part in item.get("components", ()))
        return cls(str(item["type"]), str(item.get("name", "")), fields, bool(item.get("indexed", False)))

    def canonical(self) -> str:
        """The text that signatures hash: tuples spelled out."""
        if not self.text.startswith("tuple"):
            return self.text
        return "(" + ",".join(part.canonical() for part in self.fields) + ")" + self.text[5:]

    def element(self) -> tuple["Type", int] | None:
        """(element type, length) of an array, length -1 when dynamic; None for other types."""
        match = _ARRAY.match(self.text)
        if match is None:
            return None
        return Type(match[1], "", self.fields), int(match[2]) if match[2] else -1

    def dynamic(self) -> bool:
        array = self.element()
        if array is not None:
            return array[1] < 0 or array[0].dynamic()
        if self.text == "tuple":
            return any(part.dynamic() for part in self.fields)
        return self.text in ("bytes", "string")

    def head_size(self) -> int:
        if self.dynamic():
            return WORD
        array = self.element()
        if array is not None:
            return array[0].head_size() * array[1]
        if self.text == "tuple":
            return sum(part.head_size() for part in self.fields)
        return WORD


def _misfit(kind: Type, value: object) -> ChainError:
    name = kind.name or "argument"
    return ChainError("INVALID_ARGUMENT", f"{value!r} is not a {kind.canonical()} ({name})")


def _encode_word(kind: Type, value: Any) -> bytes:
    text = kind.text
    if text == "bool" and isinstance(value, bool):
        return int(value).to_bytes(WORD, "big")
    if text.startswith("uint") and isinstance(value, int) and 0 <= value < 1 << int(text[4:] or 256):
        return value.to_bytes(WORD, "big")
    if text == "address" and isinstance(value, bytes) and len(value) == 20:
        return value.rjust(WORD, b"\0")
    if text.startswith("bytes") and isinstance(value, bytes) and len(value) == int(text[5:]):
        return value.ljust(WORD, b"\0")
    raise _misfit(kind, value)


def _encode_one(kind: Type, value: Any) -> bytes:
    array = kind.element()
    if array is not None:
        if not isinstance(value, Sequence) or (array[1] >= 0 and len(value) != array[1]):
            raise _misfit(kind, value)
        body = encode([array[0]] * len(value), value)
        return body if array[1] >= 0 else len(value).to_bytes(WORD, "big") + body
    if kind.text == "tuple":
        return encode(kind.fields, value)
    if kind.text in ("bytes", "string"):
        raw = value.encode() if isinstance(value, str) else value
        if not isinstance(raw, bytes):
            raise _misfit(kind, value)
        return len(raw).to_bytes(WORD, "big") + raw + bytes(-len(raw) % WORD)
    return _encode_word(kind, value)


def encode(kinds: Sequence[Type], values: Sequence[Any]) -> bytes:
    """ABI bytes of `values` as a tuple of `kinds`. Raises `ChainError` INVALID_ARGUMENT."""
    if len(kinds) != len(values):
        raise ChainError("INVALID_ARGUMENT", f"{len(values)} values for {len(kinds)} parameters")
    offset = sum(kind.head_size() for kind in kinds)
    head, tail = bytearray(), bytearray()
    for kind, value in zip(kinds, values, strict=True):
        raw = _encode_one(kind, value)
        if kind.dynamic():
            head += (offset + len(tail)).to_bytes(WORD, "big")
            tail += raw
        else:
            head += raw
    return bytes(head + tail)


def _read(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ChainError("RPC_BAD_DATA", f"ABI data ends at byte {len(data)}, before {at + size}")
    return data[at : at + size]


def _uint(data: bytes, at: int) -> int:
    return int.from_bytes(_read(data, at, WORD), "big")


def _decode_word(kind: Type, word: bytes) -> Any:
    text, number = kind.text, int.from_bytes(word, "big")
    if text == "bool" and number < 2:
        return bool(number)
    if text.startswith("uint") and number < 1 << int(text[4:] or 256):
        return number
    if text == "address" and number < 1 << 160:
        return word[12:]
    if text.startswith("bytes") and not any(word[int(text[5:]) :]):
        return word[: int(text[5:])]
    raise ChainError("RPC_BAD_DATA", f"0x{word.hex()} is not a {text} ({kind.name or 'value'})")


def _decode_one(kind: Type, data: bytes, at: int) -> Any:
    array = kind.element()
    if array is not None:
        count = array[1]
        if count < 0:
            count, at = _uint(data, at), at + WORD
        if count * array[0].head_size() > len(data) - at:
            raise ChainError("RPC_BAD_DATA", f"an array of {count} elements in {len(data)} bytes")
        return list(decode([array[0]] * count, data[at:]))
    if kind.text == "tuple":
        return decode(kind.fields, data[at:])
    if kind.text in ("bytes", "string"):
        raw = _read(data, at + WORD, _uint(data, at))
        return raw if kind.text == "bytes" else raw.decode("utf-8", "replace")
    return _decode_word(kind, _read(data, at, WORD))


def decode(kinds: Sequence[Type], data: bytes) -> tuple[Any, ...]:
    """Values of ABI bytes. Raises `ChainError` RPC_BAD_DATA."""
    values, at = [], 0
    for kind in kinds:
        values.append(_decode_one(kind, data, _uint(data, at) if kind.dynamic() else at))
        at += kind.head_size()
    return tuple(values)


class Function(NamedTuple):
    selector: bytes
    inputs: tuple[Type, ...]
    outputs: tuple[Type, ...]


class Event(NamedTuple):
    topic: bytes
    inputs: tuple[Type, ...]


class Interface:
    """One contract's ABI by name. Functions that share a name are not supported (we have none)."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        self.functions: dict[str, Function] = {}
        self.events: dict[str, Event] = {}
        self.errors: dict[bytes, tuple[str, tuple[Type, ...]]] = {}
        self.constructor: tuple[Type, ...] = ()
        for item in abi:
            inputs = tuple(Type.parse(part) for part in item.get("inputs", ()))
            name = str(item.get("name", ""))
            digest = keccak(f"{name}({','.join(part.canonical() for part in inputs)})".encode())
            match item["type"]:
                case "function":
                    outputs = tuple(Type.parse(part) for part in item.get("outputs", ()))
                    self.functions[name] = Function(digest[:4], inputs, outputs)
                case "event":
                    self.events[name] = Event(digest, inputs)
                case "error":
                    self.errors[digest[:4]] = (name, inputs)
                case "constructor":
                    self.constructor = inputs

    def call(self, name: str, *values: Any) -> bytes:
        """Calldata of a call. Raises `ChainError` INVALID_ARGUMENT."""
        function = self.functions[name]
        return function.selector + encode(function.inputs, values)

    def arguments(self, name: str, calldata: bytes) -> tuple[Any, ...]:
        """The values in calldata. Raises `ChainError` RPC_BAD_DATA when it is another call."""
        function = self.functions[name]
        if calldata[:4] != function.selector:
            raise ChainError("RPC_BAD_DATA", f"the transaction does not call {name}")
        return decode(function.inputs, calldata[4:])

    def result(self, name: str, data: bytes) -> Any:
        """The single return value, or the tuple of them."""
        values = decode(self.functions[name].outputs, data)
        return values[0] if len(values) == 1 else values

    def log(self, name: str, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Fields of an event by name. Raises `ChainError` RPC_BAD_DATA."""
        event = self.events[name]
        keyed = [part for part in event.inputs if part.indexed]
        if len(topics) != len(keyed) + 1 or topics[0] != event.topic:
            raise ChainError("RPC_BAD_DATA", f"a log that is not a {name} event")
        plain = [part for part in event.inputs if not part.indexed]
        fields = {part.name: _decode_word(part, topic) for part, topic in zip(keyed, topics[1:], strict=True)}
        return fields | dict(zip((part.name for part in plain), decode(plain, data), strict=True))

    def explain(self, data: bytes) -> str:
        """Human text of revert data: `Name(field=value, ...)`; never raises."""
        selector, body = data[:4], data[4:]
        try:
            if selector == bytes.fromhex("08c379a0"):
                return str(decode([Type("string")], body)[0])
            if selector == bytes.fromhex("4e487b71"):
                code = decode([Type("uint256")], body)[0]
                return f"Panic({_PANICS.get(code, hex(code))})"
            if selector in self.errors:
                name, inputs = self.errors[selector]
                values = zip(inputs, decode(inputs, body), strict=True)
                shown = (f"{k.name}={'0x' + v.hex() if isinstance(v, bytes) else v}" for k, v in values)
                return f"{name}({', '.join(shown)})"
        except ChainError:
            pass
        return f"unknown error 0x{data[:36].hex()}" if data else "no reason given"

    def error_name(self, data: bytes) -> str:
        """The custom error's bare name, or an empty string."""
        return self.errors.get(data[:4], ("", ()))[0]


@lru_cache(maxsize=8)
def interface(name: str) -> Interface:
    """The ABI of one of our contracts (`Vault`, `TestToken`, ...), parsed once per process."""
    import contracts

    return Interface(contracts.load(name).abi)
