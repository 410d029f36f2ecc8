# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden vectors of every hashed structure, shared by Python and Solidity: tests/vectors/hashing.json.

`python -m tools.vectors` writes the file, `--check` compares. Inputs are fixed; the file changes only
when a format does, which is a new version and not an edit. Bytes are hex, integers decimal strings.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.hashing import exit_domain, sha256, state_domain
from proofs.hashtree import StateTree
from proofs.header import Header, attestors_hash, peers_hash
from proofs.inbox import InboxMessage, Voucher
from proofs.leaf import ExitLeaf, StateLeaf
from proofs.sumtree import SumTree

PATH = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "hashing.json"
VAULT = bytes(range(1, 21))
CHAIN_ID = 31337
DOMAIN = exit_domain(CHAIN_ID, VAULT)


def _fixed(name: str, length: int = 32) -> bytes:
    return sha256(name.encode())[:length]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value]


def _leaf(index: int, lanes: int) -> ExitLeaf:
    exits = tuple((index + 1) * 10**12 + lane for lane in range(lanes))
    acks = tuple(2**96 - 1 - index - lane if lane else index * 7 for lane in range(lanes))
    return ExitLeaf(index=index, owner=_fixed(f"owner {index}", 20), exits=exits, withdraw_acks=acks)


def _tree(lanes: int) -> dict[str, Any]:
    tree = SumTree(DOMAIN, lanes)
    indexes = (0, 1, 5, 2**20 - 1)
    tree.update(_leaf(index, lanes) for index in indexes)
    leaves = []
    for index in indexes:
        leaf, proof = _leaf(index, lanes), tree.proof(index)
        row = {"index": index, "owner": leaf.owner, "exits": leaf.exits, "withdraw_acks": leaf.withdraw_acks}
        row |= {"hash": leaf.hash(DOMAIN), "siblings": proof.hashes}
        leaves.append(row | {"sibling_sums": [value for sums in proof.sums for value in sums]})
    return {"lanes": lanes, "root": tree.root, "sums": tree.sums, "leaves": leaves}


def _header(lanes: int) -> dict[str, Any]:
    header = Header(
        domain=DOMAIN,
        epoch=3,
        close_time_us=1_700_000_000_000_000,
        prev_header=_fixed("prev_header"),
        journal_size=12_345,
        journal_root=_fixed("journal_root"),
        state_root=_fixed("state_root"),
        exit_root=_fixed("exit_root"),
        exit_sums=tuple(10**15 + lane for lane in range(lanes)),
        inbox_count=17,
        inbox_hash=_fixed("inbox_hash"),
        marks_hash=_fixed("marks_hash"),
        params_hash=_fixed("params_hash"),
        diff_hash=_fixed("diff"),
        l1_number=99,
        l1_hash=_fixed("l1"),
    )
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    return {"fields": fields, "encoded": header.encode(), "hash": header.hash()}


def _inbox() -> list[dict[str, Any]]:
    rolling, found = bytes(32), []
    for index in range(3):
        message = InboxMessage(
            1, index, _fixed(f"owner {index}", 20), 0, 10**9 + index, 1_700_000_000 + index, bytes(32)
        )
        rolling = message.roll(rolling)
        fields = {name: getattr(message, name) for name in message.__struct_fields__}
        found.append({"fields": fields, "rolling_hash": rolling})
    return found


def _diff() -> dict[str, Any]:
    rows = [
        DiffRow(0, _fixed("house", 20), (5,), (0,)),
        DiffRow(1, None, (300,), (127,)),
        DiffRow(9, _fixed("nine", 20), (2**96 - 1,), (128,)),
    ]
    chunks = encode_chunks(4, 1, rows)
    hashes = [hashlib.sha256(chunk).digest() for chunk in chunks]
    return {"epoch": 4, "rows": rows, "chunks": chunks, "chunk_hashes": hashes, "diff_hash": diff_hash(hashes)}


def _state() -> dict[str, Any]:
    domain = state_domain(_fixed("deployment"))
    leaf = StateLeaf(_fixed("owner 1", 20), 3, 0, _fixed("salt"), 10**9, 0, 5 * 10**7, 3 * 10**7, 0, _fixed("details"))
    tree = StateTree(domain)
    tree.update([(3, leaf.hash(domain)), (4, _fixed("other"))])
    fields = {name: getattr(leaf, name) for name in leaf.__struct_fields__}
    shown = {"fields": fields, "domain": domain, "encoded": leaf.encode(domain), "hash": leaf.hash(domain)}
    return shown | {"root": tree.root, "proof": tree.proof(3)}


def _voucher() -> dict[str, Any]:
    voucher = Voucher(DOMAIN, _fixed("owner 1", 20), 0, 123_456_789, 1_800_000_000)
    fields = {name: getattr(voucher, name) for name in voucher.__struct_fields__}
    return {"fields": fields, "hash": voucher.hash()}


def _peers() -> list[dict[str, Any]]:
    """Each vault's view of the previous headers; a deployment of one vault has no peers."""
    found = []
    for count in (1, 2, 4):
        previous = [_fixed(f"header {number}") if number != 2 else bytes(32) for number in range(count)]
        rows = [{"vault": vault, "hash": peers_hash(vault, previous)} for vault in range(count)]
        found.append({"previous": previous, "hashes": rows})
    return found


def _attestors() -> list[dict[str, Any]]:
    found = []
    for threshold, count in ((0, 0), (1, 1), (3, 5)):
        addresses = sorted(_fixed(f"attestor {number}", 20) for number in range(count))
        row = {"threshold": threshold, "addresses": addresses, "hash": attestors_hash(threshold, addresses)}
        found.append(row)
    return found


def vectors() -> dict[str, Any]:
    """All vectors as plain JSON values."""
    found = {
        "format": "novate-vectors/1",
        "exit_domain": {"chain_id": CHAIN_ID, "vault": VAULT, "domain": DOMAIN},
        "exit_trees": [_tree(lanes) for lanes in (1, 2, 4)],
        "headers": [_header(lanes) for lanes in (1, 4)],
        "inbox": _inbox(),
        "voucher": _voucher(),
        "diff": _diff(),
        "state": _state(),
        "peers": _peers(),
        "attestors": _attestors(),
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def text() -> str:
    """The file, to the byte: the order of fields is the order in which a structure hashes them."""
    return json.dumps(vectors(), indent=1) + "\n"


def main() -> None:
    """Write or, with --check, compare."""
    if "--check" in sys.argv:
        same = PATH.is_file() and PATH.read_text() == text()
        sys.exit(0 if same else f"{PATH} is not what the code computes; a format changed")
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(text())


if __name__ == "__main__":
    main()
