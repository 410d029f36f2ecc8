# SPDX-License-Identifier: GPL-3.0-or-later
"""Solidity hashes what docs/protocol.md says: random values against the plain reference of this folder."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from eth_abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import abi, load
from tests.contract import reference as ref
from tests.contract.chain import GAS, Chain, RawRevert, refused

HARNESS = load("HashingHarness")
EXAMPLES = 25

hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def uints(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


@pytest.fixture(scope="module")
def target(embedded: Chain) -> Iterator[str]:
    with embedded.sandbox():
        yield embedded.deploy(HARNESS)


@pytest.fixture(scope="module")
def harness(embedded: Chain, target: str) -> Any:
    return lambda function, *arguments: embedded.call(HARNESS, target, function, *arguments)


@settings(max_examples=EXAMPLES)
@given(chain_id=uints(256), vault=addresses)
def test_exit_domain_and_empty_leaf(harness: Any, chain_id: int, vault: str) -> None:
    domain = ref.exit_domain(chain_id, vault)
    assert harness("exitDomain", chain_id, vault) == domain
    assert harness("emptyLeaf", domain) == sha256(b"\x02" + domain).digest()


@settings(max_examples=EXAMPLES)
@given(data=st.data(), lanes=st.integers(1, 4), domain=hashes, index=uints(32), owner=addresses)
def test_exit_leaf(harness: Any, data: st.DataObject, lanes: int, domain: bytes, index: int, owner: str) -> None:
    row = st.lists(uints(128), min_size=lanes, max_size=lanes).map(tuple)
    leaf = ref.Leaf(index, owner, data.draw(row), data.draw(row))
    assert harness("exitLeaf", domain, (index, owner, leaf.exits, leaf.acks)) == leaf.hash(domain)


@settings(max_examples=EXAMPLES)
@given(
    previous=hashes,
    kind=uints(8),
    index=uints(64),
    owner=addresses,
    asset=uints(8),
    amount=uints(128),
    l1_time=uints(64),
    data=hashes,
)
def test_inbox_message(harness: Any, previous: bytes, **fields: Any) -> None:
    message = ref.Message(**fields)
    given_order = ("kind", "index", "owner", "asset", "amount", "l1_time", "data")
    packed = tuple(getattr(message, name) for name in given_order)
    assert harness("message", previous, packed) == message.after(previous)


@settings(max_examples=EXAMPLES)
@given(domain=hashes, owner=addresses, asset=uints(8), cumulative=uints(128), expiry=uints(64))
def test_voucher(harness: Any, domain: bytes, owner: str, asset: int, cumulative: int, expiry: int) -> None:
    fields = (domain, owner, asset, cumulative, expiry)
    assert harness("voucher", fields) == ref.voucher(*fields)


@settings(max_examples=EXAMPLES)
@given(chunks=st.lists(st.binary(max_size=100), max_size=5))
def test_diff(harness: Any, chunks: list[bytes]) -> None:
    assert harness("diff", [sha256(chunk).digest() for chunk in chunks]) == ref.diff_hash(chunks)


@st.composite
def headers(draw: st.DrawFn) -> ref.Header:
    lanes = draw(st.integers(1, 4))
    sums = tuple(draw(st.lists(uints(128), min_size=lanes, max_size=lanes)))
    named = (
        "domain prev_header exit_root inbox_hash diff_hash l1_hash peers_hash journal_root state_root "
        "marks_hash params_hash scenarios_hash attestors_hash ext_root"
    ).split()
    counted = "epoch close_time_us inbox_count l1_number journal_size".split()
    fields: dict[str, Any] = {name: draw(hashes) for name in named}
    fields |= {name: draw(uints(64)) for name in counted}
    return ref.Header(exit_sums=sums, **fields)


def _struct(h: ref.Header) -> tuple[Any, ...]:
    first = (h.version, h.domain, h.epoch, h.close_time_us, h.prev_header, h.peers_hash, h.journal_size)
    roots = (h.journal_root, h.state_root, h.exit_root, h.exit_sums, h.inbox_count, h.inbox_hash)
    hashes = (h.marks_hash, h.params_hash, h.scenarios_hash, h.attestors_hash, h.diff_hash, h.ext_root)
    return (*first, *roots, *hashes, h.l1_number, h.l1_hash)


@settings(max_examples=EXAMPLES)
@given(header=headers())
def test_header_bytes_and_fields_are_each_others_inverse(harness: Any, header: ref.Header) -> None:
    assert harness("encodeHeader", _struct(header)) == header.encode()
    decoded = harness("decodeHeader", header.encode())
    assert tuple(decoded) == _struct(header)


@settings(max_examples=EXAMPLES)
@given(header=headers(), cut=st.integers(1, 600), extra=st.binary(min_size=1, max_size=40))
def test_headers_of_another_shape_are_refused(harness: Any, header: ref.Header, cut: int, extra: bytes) -> None:
    """Wrong length, tag, version or lane count: exactly one encoding is a header."""
    whole = header.encode()
    lanes = len(header.exit_sums)
    for wrong in [
        whole[:-cut],
        whole + extra,
        header.but(tag=2).encode(),
        header.but(version=2).encode(),
        header.but(lanes=lanes + 1).encode(),
        header.but(lanes=lanes - 1).encode(),
    ]:
        with refused("MalformedHeader"):
            harness("decodeHeader", wrong)


@settings(max_examples=EXAMPLES)
@given(data=st.data(), lanes=st.integers(1, 4), leaf=hashes, index=uints(20))
def test_climbing_the_sum_tree(harness: Any, data: st.DataObject, lanes: int, leaf: bytes, index: int) -> None:
    """Root and sums are the reference's at any index, for one to four lanes."""
    row = st.lists(uints(120), min_size=lanes, max_size=lanes).map(tuple)
    own = data.draw(row)
    path = [ref.Node(sha256(bytes([level]) + leaf).digest(), data.draw(row)) for level in range(ref.DEPTH)]
    root = ref.climb(ref.Node(leaf, own), index, path)
    sums = [value for node in path for value in node.sums]
    found = harness("climb", leaf, index, own, [node.hash for node in path], sums)
    assert found == (root.hash, root.sums)


@settings(max_examples=EXAMPLES)
@given(level=st.integers(0, ref.DEPTH - 1), lane=st.integers(0, 3), excess=st.integers(0, 1000))
def test_sums_beyond_128_bits_are_refused_at_every_level(harness: Any, level: int, lane: int, excess: int) -> None:
    """An overflow anywhere on the path, however small, would hide a liability."""
    lanes = lane + 1
    sums = [[0] * lanes for _ in range(ref.DEPTH)]
    sums[level][lane] = (1 << 128) - 1 - excess
    siblings = [bytes(32)] * ref.DEPTH
    flat = [value for row in sums for value in row]
    own = [0] * lanes
    own[lane] = excess
    _, rootsums = harness("climb", bytes(32), 5, own, siblings, flat)
    assert rootsums[lane] == (1 << 128) - 1
    own[lane] += 1
    with refused("SumOverflow"):
        harness("climb", bytes(32), 5, own, siblings, flat)


@settings(max_examples=EXAMPLES)
@given(lanes=st.integers(1, 4), level=st.integers(0, ref.DEPTH - 1), data=st.data())
def test_words_that_are_no_u128_cannot_wrap_a_sum_back(
    embedded: Chain, target: str, lanes: int, level: int, data: st.DataObject
) -> None:
    """Calldata may hold any word where a u128 is due: 2^256 - x would lower a sum by x if it were added."""
    word = data.draw(st.integers(1 << 128, (1 << 256) - 1) | st.integers((1 << 256) - 1000, (1 << 256) - 1))
    sums = [0] * (ref.DEPTH * lanes)
    sums[level * lanes + data.draw(st.integers(0, lanes - 1))] = word
    types = ["bytes32", "uint256", "uint256[]", "bytes32[]", "uint256[]"]
    arguments = encode(types, [bytes(32), 3, [1000] * lanes, [bytes(32)] * ref.DEPTH, sums])
    calldata = "0x" + (abi.selector(HARNESS, "climb") + arguments).hex()
    with pytest.raises(RawRevert) as caught:
        embedded.backend.call({"from": embedded.accounts[0], "to": target, "data": calldata, "gas": GAS})
    assert abi.decode_revert(HARNESS, caught.value.data) == ("SumOverflow", ())
