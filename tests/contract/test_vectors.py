# SPDX-License-Identifier: GPL-3.0-or-later
"""Solidity computes the same golden vectors as Python: tests/vectors/hashing.json."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from contracts import load
from tests.contract.chain import Chain
from tools.vectors import PATH

HARNESS = load("HashingHarness")
VECTORS = json.loads(PATH.read_text())
DOMAIN = bytes.fromhex(VECTORS["exit_domain"]["domain"])
HEADER_NUMBERS = ("epoch", "close_time_us", "journal_size", "inbox_count", "l1_number")


@pytest.fixture(scope="module")
def harness(embedded: Chain) -> Iterator[Any]:
    with embedded.sandbox():
        address = embedded.deploy(HARNESS)
        yield lambda function, *arguments: embedded.call(HARNESS, address, function, *arguments)


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def test_exit_domain(harness: Any) -> None:
    """Chain id and vault."""
    row = VECTORS["exit_domain"]
    assert harness("exitDomain", int(row["chain_id"]), "0x" + row["vault"]) == DOMAIN


@pytest.mark.parametrize("tree", VECTORS["exit_trees"], ids=lambda tree: f"{tree['lanes']} lanes")
def test_exit_leaves_and_paths(harness: Any, tree: dict[str, Any]) -> None:
    """Each leaf's hash, and its path up to the root and the sums."""
    for row in tree["leaves"]:
        exits, acks = [int(x) for x in row["exits"]], [int(x) for x in row["withdraw_acks"]]
        found = harness("exitLeaf", DOMAIN, (int(row["index"]), "0x" + row["owner"], exits, acks))
        assert found == raw(row["hash"])
        sums = [exit_ + ack for exit_, ack in zip(exits, acks, strict=True)]
        siblings, sibling_sums = [raw(x) for x in row["siblings"]], [int(x) for x in row["sibling_sums"]]
        root, total = harness("climb", found, int(row["index"]), sums, siblings, sibling_sums)
        assert root == raw(tree["root"])
        assert [int(x) for x in total] == [int(x) for x in tree["sums"]]


@pytest.mark.parametrize("row", VECTORS["headers"], ids=lambda row: f"{len(row['fields']['exit_sums'])} lanes")
def test_headers(harness: Any, row: dict[str, Any]) -> None:
    """The fields in order give the bytes."""
    packed: list[Any] = [1]
    for name, value in row["fields"].items():
        if name == "exit_sums":
            packed.append([int(x) for x in value])
        else:
            packed.append(int(value) if name in HEADER_NUMBERS else raw(value))
    assert harness("encodeHeader", tuple(packed)) == raw(row["encoded"])


def test_inbox_messages_roll(harness: Any) -> None:
    """Three messages, one hash after the other."""
    rolling = bytes(32)
    for row in VECTORS["inbox"]:
        f = row["fields"]
        numbers = (int(f["asset"]), int(f["amount"]), int(f["l1_time"]))
        packed = (int(f["kind"]), int(f["index"]), "0x" + f["owner"], *numbers, raw(f["data"]))
        rolling = harness("message", rolling, packed)
        assert rolling == raw(row["rolling_hash"])


def test_voucher_and_diff(harness: Any) -> None:
    """The voucher's hash, and the hash over chunk hashes."""
    f = VECTORS["voucher"]["fields"]
    packed = (raw(f["domain"]), "0x" + f["owner"], int(f["asset"]), int(f["cumulative"]), int(f["expiry"]))
    assert harness("voucher", packed) == raw(VECTORS["voucher"]["hash"])
    chunks = [raw(x) for x in VECTORS["diff"]["chunk_hashes"]]
    assert harness("diff", chunks) == raw(VECTORS["diff"]["diff_hash"])
