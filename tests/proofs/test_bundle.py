# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: an honest one is complete, and no altered one is ever called ok."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from proofs import bundle as b
from proofs import checkpoint as note
from proofs import log
from proofs.hashing import exit_domain, state_domain
from proofs.hashtree import StateTree
from proofs.header import Header
from proofs.leaf import ExitLeaf, StateLeaf
from proofs.sumtree import SumTree
from proofs.verify import verify, verify_bytes

SEED, DEPLOYMENT, VAULT, OWNER = b"s" * 32, b"D" * 32, b"V" * 20, b"O" * 20
PUBLIC = bytes(SigningKey(SEED).verify_key)


def make() -> tuple[b.Bundle, Header]:
    """A bundle with an exit leaf, two accounts and two entries."""
    domain = exit_domain(31337, VAULT)
    exits = SumTree(domain, 1)
    exits.update(
        [ExitLeaf(0, b"T" * 20, (5,), (0,)), ExitLeaf(1, OWNER, (1_000,), (250,)), ExitLeaf(2, b"P" * 20, (9,), (1,))]
    )
    states = StateTree(state_domain(DEPLOYMENT))
    leaves = [
        StateLeaf(OWNER, number, number - 3, bytes([number]) * 32, 500, 0, 50, 30, 0, b"d" * 32) for number in (3, 4)
    ]
    states.update((leaf.account, leaf.hash(states.domain)) for leaf in leaves)
    entries = [f"entry {number}".encode() for number in range(11)]
    hashes = [log.leaf_hash(entry) for entry in entries]
    header = Header(
        domain=domain, epoch=2, close_time_us=7, prev_header=b"p" * 32, journal_size=11, journal_root=log.root(hashes),
        state_root=states.root, exit_root=exits.root, exit_sums=exits.sums, inbox_count=3, inbox_hash=b"i" * 32,
        marks_hash=b"m" * 32, params_hash=b"q" * 32, diff_hash=b"f" * 32, l1_number=5, l1_hash=b"l" * 32,
    )  # fmt: skip
    path = exits.proof(1)
    part = b.ExitPart(
        1, OWNER.hex(), ("1000",), ("250",), tuple(item.hex() for item in path.hashes),
        tuple(tuple(map(str, row)) for row in path.sums),
    )  # fmt: skip
    origin = note.origin_of("novate.example", DEPLOYMENT)
    accounts = tuple(
        b.StatePart(
            leaf.account, leaf.sub, leaf.salt.hex(), "500", "0", "50", "30", "0", leaf.details.hex(),
            tuple(item.hex() for item in states.proof(leaf.account)),
        )
        for leaf in leaves
    )  # fmt: skip
    shown = tuple(
        b.EntryPart(seq, entries[seq].hex(), tuple(item.hex() for item in log.inclusion_proof(seq, hashes)))
        for seq in (4, 10)
    )
    signed = note.sign(note.Checkpoint(origin, 11, header.journal_root), SEED)
    bundle = b.Bundle(
        b.FORMAT, DEPLOYMENT.hex(), 31337, VAULT.hex(), origin, PUBLIC.hex(), ("USDC",), header.encode().hex(), part,
        signed, accounts, shown,
    )  # fmt: skip
    return bundle, header


BUNDLE, HEADER = make()
TREE = json.loads(b.encode(BUNDLE))


def test_an_honest_bundle_is_ok_and_with_the_chain_complete() -> None:
    """Without the chain's hash the verdict says that it was not asked."""
    assert b.decode(b.encode(BUNDLE)) == BUNDLE
    alone = verify_bytes(b.encode(BUNDLE))
    assert alone.ok
    assert not alone.complete
    assert [step.status for step in alone.steps if step.name == "chain"] == ["skipped"]
    assert verify(BUNDLE, header_hash=HEADER.hash(), operator_key=PUBLIC).complete


@pytest.mark.parametrize(("field", "value"), [("header_hash", b"x" * 32), ("operator_key", b"x" * 32)])
def test_another_chain_or_another_operator_is_refused(field: str, value: bytes) -> None:
    """What the caller trusts decides, not what the bundle says."""
    assert not verify(BUNDLE, **{field: value}).ok


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every string and number in the JSON tree that carries proof (not the names of assets)."""
    if isinstance(value, dict):
        return [place for key, item in value.items() if key != "assets" for place in places(item, (*path, key))]
    if isinstance(value, list):
        return [place for number, item in enumerate(value) for place in places(item, (*path, number))]
    return [path]


PLACES = places(TREE)


@given(st.data())
@settings(max_examples=600)
def test_any_altered_digit_is_refused(data: st.DataObject) -> None:
    """One character anywhere in the file, or one number: never ok."""
    altered = json.loads(b.encode(BUNDLE))
    path = data.draw(st.sampled_from(PLACES))
    holder = altered
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    if isinstance(old, int):
        holder[path[-1]] = data.draw(st.integers(0, 2**40).filter(lambda new: new != old))
    else:
        at = data.draw(st.integers(0, len(old) - 1))
        new = data.draw(st.sampled_from("0123456789abcdefABCDEF+/=\n ").filter(lambda char: char != old[at]))
        holder[path[-1]] = old[:at] + new + old[at + 1 :]
    verdict = verify_bytes(json.dumps(altered).encode(), header_hash=HEADER.hash(), operator_key=PUBLIC)
    assert not verdict.ok, path


@given(st.one_of(st.binary(max_size=300), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps(value).encode()
)))  # fmt: skip
def test_hostile_files_are_a_failed_step(data: bytes) -> None:
    """Never an exception."""
    verdict = verify_bytes(data)
    assert not verdict.ok
    assert verdict.steps[0].status == "failed"


@pytest.mark.parametrize("field", list(msgspec.structs.asdict(BUNDLE)))
def test_a_missing_or_unknown_field_is_refused(field: str) -> None:
    """Fields with defaults may be left out: fewer claims are then made, and none is wrong."""
    without = {key: value for key, value in TREE.items() if key != field}
    verdict = verify_bytes(json.dumps(without).encode())
    assert verdict.ok == (field in ("states", "entries"))
    assert not verify_bytes(json.dumps(TREE | {field + "_": 1}).encode()).ok
