# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden vectors are what the code computes, and what the protocol's text says.

The second half is a reader that knows docs/protocol.md and SHA-256 and nothing of the packages, so that a
field moved in both a structure and its vectors shows. tests/contract/test_vectors.py holds Solidity to them.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from proofs.errors import EncodingError
from proofs.header import attestors_hash, peers_hash
from tools import vectors as tool

VECTORS = json.loads(tool.PATH.read_text())
DOMAIN = bytes.fromhex(VECTORS["exit_domain"]["domain"])
HEADER = (
    "domain32 lanes1 epoch8 close_time_us8 prev_header32 peers_hash32 journal_size8 journal_root32 state_root32 "
    "exit_root32 exit_sums16 inbox_count8 inbox_hash32 marks_hash32 params_hash32 scenarios_hash32 attestors_hash32 "
    "diff_hash32 ext_root32 l1_number8 l1_hash32"
)
STATE_LEAF = (
    "owner20 account4 sub2 salt32 equity8 deficit8 margin_initial8 margin_maintenance8 stress_loss8 details32 "
    "reserved32"
)
MESSAGE = "kind1 index8 owner20 asset1 amount16 l1_time8 data32"
VOUCHER = "domain32 owner20 asset1 cumulative16 expiry8"


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def number(text: str, width: int) -> bytes:
    return int(text).to_bytes(width, "big")


def u128(values: list[str]) -> bytes:
    return b"".join(number(value, 16) for value in values)


def layout(text: str, fields: dict[str, Any]) -> bytes:
    """Fields in the order of `text`, each as name and width in bytes; 20 and 32 are bytes, the rest numbers."""
    out = b""
    for item in text.split():
        name = item.rstrip("0123456789")
        width = int(item[len(name) :])
        value = fields[name]
        raw = (
            bytes.fromhex(value) if width in (20, 32) else u128(value) if name == "exit_sums" else number(value, width)
        )
        assert isinstance(value, list) or len(raw) == width
        out += raw
    return out


def leb128(text: str | int) -> bytes:
    """Unsigned LEB128, one digit of base 128 after the other."""
    value = int(text)
    digits: list[int] = []
    while value or not digits:
        value, digit = divmod(value, 128)
        digits.append(digit)
    return bytes([digit + 128 for digit in digits[:-1]] + digits[-1:])


def test_the_vectors_are_made_again_exactly() -> None:
    """A difference, in the order of fields too, means that a hashed format changed."""
    assert tool.PATH.read_text() == tool.text()


def test_the_check_tells_a_changed_and_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 0 only for the very bytes; without --check the file is written."""
    made = tmp_path / "new" / "hashing.json"
    monkeypatch.setattr(tool, "PATH", made)

    def check() -> object:
        monkeypatch.setattr("sys.argv", ["vectors", "--check"])
        with pytest.raises(SystemExit) as caught:
            tool.main()
        return caught.value.code

    assert check() != 0
    monkeypatch.setattr("sys.argv", ["vectors"])
    tool.main()
    assert check() == 0
    made.write_text(made.read_text().replace("31337", "31338"))
    assert check() != 0


def test_the_exit_domain_is_the_protocols() -> None:
    """Chain id and vault."""
    row = VECTORS["exit_domain"]
    assert digest(b"novate/exit/v1", number(row["chain_id"], 32), bytes.fromhex(row["vault"])) == DOMAIN


def test_every_number_of_lanes_and_both_edges_of_the_tree_are_there() -> None:
    """1, 2 and 4 lanes with leaves 0, 1, 5 and the last; headers of 1 and 4."""
    assert [tree["lanes"] for tree in VECTORS["exit_trees"]] == ["1", "2", "4"]
    for tree in VECTORS["exit_trees"]:
        assert [int(leaf["index"]) for leaf in tree["leaves"]] == [0, 1, 5, 2**20 - 1]
    assert [len(row["fields"]["exit_sums"]) for row in VECTORS["headers"]] == [1, 4]
    assert len(VECTORS["inbox"]) == 3


@pytest.mark.parametrize("tree", VECTORS["exit_trees"], ids=lambda tree: f"{tree['lanes']} lanes")
def test_the_exit_trees_are_the_protocols(tree: dict[str, Any]) -> None:
    """Leaf hashes, and from each leaf up to the root and the sums, which are the sums of the leaves."""
    lanes = int(tree["lanes"])
    for row in tree["leaves"]:
        values = u128(row["exits"]) + u128(row["withdraw_acks"])
        node = digest(b"\x00", DOMAIN, number(row["index"], 4), bytes.fromhex(row["owner"]), values)
        assert node.hex() == row["hash"]
        sums = [int(exit_) + int(ack) for exit_, ack in zip(row["exits"], row["withdraw_acks"], strict=True)]
        assert len(row["siblings"]) == 20
        for height, sibling in enumerate(row["siblings"]):
            theirs = [int(value) for value in row["sibling_sums"][height * lanes : (height + 1) * lanes]]
            pair = [(node, sums), (bytes.fromhex(sibling), theirs)]
            if int(row["index"]) >> height & 1:
                pair.reverse()
            node = digest(b"\x01", *(part for found, lane in pair for part in (found, u128([str(x) for x in lane]))))
            sums = [one + other for one, other in zip(sums, theirs, strict=True)]
        assert (node.hex(), [str(value) for value in sums]) == (tree["root"], tree["sums"])
    rows = [map(int, row[column]) for column in ("exits", "withdraw_acks") for row in tree["leaves"]]
    assert [str(sum(lane)) for lane in zip(*rows, strict=True)] == tree["sums"]


@pytest.mark.parametrize("row", VECTORS["headers"], ids=lambda row: f"{len(row['fields']['exit_sums'])} lanes")
def test_the_headers_are_the_protocols(row: dict[str, Any]) -> None:
    """Tag 3, version 1, then the fields."""
    fields = row["fields"] | {"lanes": str(len(row["fields"]["exit_sums"]))}
    raw = b"\x03\x01" + layout(HEADER, fields)
    assert (raw.hex(), digest(raw).hex()) == (row["encoded"], row["hash"])


def test_inbox_and_voucher_are_the_protocols() -> None:
    """The chain starts at zero."""
    rolling = bytes(32)
    for row in VECTORS["inbox"]:
        rolling = digest(b"\x04", rolling, layout(MESSAGE, row["fields"]))
        assert rolling.hex() == row["rolling_hash"]
    voucher = VECTORS["voucher"]
    assert digest(b"\x05", layout(VOUCHER, voucher["fields"])).hex() == voucher["hash"]


def test_the_diff_is_the_protocols() -> None:
    """One chunk: head, index deltas, bitmap, owners, exits, acknowledgements."""
    found = VECTORS["diff"]
    raw = b"\x01\x01" + number(found["epoch"], 8) + number(str(len(found["rows"])), 4)
    previous = -1
    for index, *_ in found["rows"]:
        raw += leb128(int(index) - previous - 1)
        previous = int(index)
    raw += bytes([sum(1 << at for at, (_, owner, *_) in enumerate(found["rows"]) if owner is not None)])
    raw += b"".join(bytes.fromhex(owner) for _, owner, *_ in found["rows"] if owner is not None)
    raw += b"".join(leb128(row[column][0]) for column in (2, 3) for row in found["rows"])
    assert [raw.hex()] == found["chunks"]
    assert [digest(raw).hex()] == found["chunk_hashes"]
    assert digest(b"novate/diff/v1", digest(raw)).hex() == found["diff_hash"]


def test_the_state_leaf_and_its_path_are_the_protocols() -> None:
    """Version 1 after the tag; position is the account number; 24 siblings."""
    found = VECTORS["state"]
    raw = b"\x00\x01" + bytes.fromhex(found["domain"]) + layout(STATE_LEAF, found["fields"])
    assert (raw.hex(), digest(raw).hex()) == (found["encoded"], found["hash"])
    node, account = digest(raw), int(found["fields"]["account"])
    assert len(found["proof"]) == 24
    for height, sibling in enumerate(found["proof"]):
        pair = [node, bytes.fromhex(sibling)]
        node = digest(b"\x01", *(reversed(pair) if account >> height & 1 else pair))
    assert node.hex() == found["root"]


@pytest.mark.parametrize("case", VECTORS["peers"], ids=lambda case: f"{len(case['previous'])} vaults")
def test_a_header_names_every_other_vaults_previous_one(case: dict[str, Any]) -> None:
    """By number, so that two peers cannot be exchanged; alone there is nothing to name."""
    previous = [bytes.fromhex(value) for value in case["previous"]]
    for row in case["hashes"]:
        mine = int(row["vault"])
        others = [bytes([at]) + value for at, value in enumerate(previous) if at != mine]
        expected = digest(b"novate/peers/v1", *others) if others else bytes(32)
        assert expected.hex() == row["hash"]


@pytest.mark.parametrize("row", VECTORS["attestors"], ids=lambda row: f"{row['threshold']} of {len(row['addresses'])}")
def test_the_attestors_hash_covers_threshold_and_addresses(row: dict[str, Any]) -> None:
    addresses = [bytes.fromhex(value) for value in row["addresses"]]
    packed = bytes([int(row["threshold"]), len(addresses)]) + b"".join(addresses)
    assert (digest(b"novate/attestors/v1", packed) if addresses else bytes(32)).hex() == row["hash"]


def test_what_no_deployment_has_is_not_hashed() -> None:
    """Unordered or repeated attestors, wrong widths, a vault that is not among those given."""
    one, two = bytes([1]) * 20, bytes([2]) * 20
    for threshold, attestors in ((1, [two, one]), (1, [one, one]), (1, [one[:19]]), (256, [one]), (-1, [one])):
        with pytest.raises(EncodingError):
            attestors_hash(threshold, attestors)
    for vault, previous in ((1, [bytes(32)]), (-1, [bytes(32)] * 2), (0, [bytes(32), b""]), (0, [])):
        with pytest.raises(EncodingError):
            peers_hash(vault, previous)
