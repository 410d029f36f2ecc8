# SPDX-License-Identifier: GPL-3.0-or-later
"""Our ABI codec agrees with eth-abi, and hostile bytes give a named error."""

from typing import Any

import pytest
from eth_abi import decode as eth_decode
from eth_abi import encode as eth_encode
from hypothesis import given
from hypothesis import strategies as st

from clearing.chain.abi import Interface, Type, decode, encode, keccak
from clearing.chain.errors import ChainError

SCALARS = {
    "uint8": st.integers(0, 2**8 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint128": st.integers(0, 2**128 - 1),
    "uint256": st.integers(0, 2**256 - 1),
    "bool": st.booleans(),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=20),
}


@st.composite
def typed_values(draw: Any, depth: int = 2) -> tuple[Type, Any]:
    kind = draw(st.sampled_from([*SCALARS, "array", "fixed", "tuple"] if depth else list(SCALARS)))
    if kind in SCALARS:
        return Type(kind), draw(SCALARS[kind])
    if kind == "tuple":
        parts = draw(st.lists(typed_values(depth=depth - 1), min_size=1, max_size=3))
        return Type("tuple", "", tuple(t for t, _ in parts)), tuple(v for _, v in parts)
    inner, value = draw(typed_values(depth=depth - 1))
    count = draw(st.integers(1 if kind == "fixed" else 0, 3))
    return Type(inner.text + (f"[{count}]" if kind == "fixed" else "[]"), "", inner.fields), [value] * count


def _plain(value: Any) -> Any:
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value


@given(st.lists(typed_values(), min_size=1, max_size=4))
def test_encoding_is_eth_abis_and_decodes_back(pairs: list[tuple[Type, Any]]) -> None:
    kinds, values = [t for t, _ in pairs], [v for _, v in pairs]
    raw = encode(kinds, values)
    names = [kind.canonical() for kind in kinds]
    assert raw == eth_encode(names, values)
    assert _plain(decode(kinds, raw)) == _plain(eth_decode(names, raw)) == _plain(values)


@given(st.lists(typed_values(), min_size=1, max_size=3), st.binary(max_size=300))
def test_hostile_bytes_decode_or_give_a_named_error(pairs: list[tuple[Type, Any]], raw: bytes) -> None:
    kinds = [kind for kind, _ in pairs]
    codes = set()
    for data in (raw, encode(kinds, [value for _, value in pairs])[:-1]):
        try:
            decode(kinds, data)
        except ChainError as error:
            codes.add(error.code)
    assert codes <= {"RPC_BAD_DATA"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("address", b"\x01" * 19),
        ("bytes32", b"\x01" * 31),
        ("bool", 1),
        ("uint64", "5"),
        ("bytes", 7),
        ("uint8[2]", [1]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(ChainError) as caught:
        encode([Type(kind)], [value])
    assert caught.value.code == "INVALID_ARGUMENT"


def test_addresses_with_dirty_high_bytes_are_refused() -> None:
    with pytest.raises(ChainError, match="RPC_BAD_DATA"):
        decode([Type("address")], b"\x01" * 32)


def test_a_huge_array_length_is_refused_before_it_is_allocated() -> None:
    raw = (32).to_bytes(32, "big") + (2**200).to_bytes(32, "big")
    with pytest.raises(ChainError, match="RPC_BAD_DATA"):
        decode([Type("uint8[]")], raw)


def test_revert_data_is_explained_by_the_error_of_the_abi() -> None:
    fields = [{"name": "due", "type": "uint64"}]
    known = Interface([{"type": "error", "name": "TooEarly", "inputs": fields}])
    data = keccak(b"TooEarly(uint64)")[:4] + (7).to_bytes(32, "big")
    assert known.explain(data) == "TooEarly(due=7)"
    assert known.error_name(data) == "TooEarly"
    assert known.explain(bytes.fromhex("08c379a0") + eth_encode(["string"], ["nope"])) == "nope"
    panic = bytes.fromhex("4e487b71") + eth_encode(["uint256"], [0x11])
    assert known.explain(panic) == "Panic(arithmetic overflow)"
    assert known.explain(data[:9]).startswith("unknown error 0x")
    assert known.explain(b"") == "no reason given"
