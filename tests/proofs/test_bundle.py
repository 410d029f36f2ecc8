# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: an honest one is complete, and no altered one is ever called ok."""

import json
import subprocess
import sys
from typing import Any

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
ASSETS = ("USDC", "EURC", "DAI", "WETH")


def make(index: int = 1, lanes: int = 1) -> tuple[b.Bundle, Header]:
    """A bundle with the exit leaf at `index`, two accounts of OWNER (who has leaf 1) and two entries."""
    domain = exit_domain(31337, VAULT)
    exits = SumTree(domain, lanes)
    exits.update(
        ExitLeaf(at, owner, (exit_,) * lanes, (ack,) * lanes)
        for at, owner, exit_, ack in ((0, b"T" * 20, 5, 0), (1, OWNER, 1_000, 250), (2, b"P" * 20, 9, 1))
    )
    states = StateTree(state_domain(DEPLOYMENT))
    leaves = [
        StateLeaf(OWNER, number, number - 3, bytes([number]) * 32, 500, 0, 50, 30, 0, b"d" * 32) for number in (3, 4)
    ]
    states.update((held.account, held.hash(states.domain)) for held in leaves)
    entries = [f"entry {number}".encode() for number in range(11)]
    hashes = [log.leaf_hash(entry) for entry in entries]
    header = Header(
        domain=domain, epoch=2, close_time_us=7, prev_header=b"p" * 32, journal_size=11, journal_root=log.root(hashes),
        state_root=states.root, exit_root=exits.root, exit_sums=exits.sums, inbox_count=3, inbox_hash=b"i" * 32,
        marks_hash=b"m" * 32, params_hash=b"q" * 32, diff_hash=b"f" * 32, l1_number=5, l1_hash=b"l" * 32,
    )  # fmt: skip
    leaf, path = exits.leaf(index), exits.proof(index)
    assert leaf is not None
    part = b.ExitPart(
        index, leaf.owner.hex(), tuple(map(str, leaf.exits)), tuple(map(str, leaf.withdraw_acks)),
        tuple(item.hex() for item in path.hashes), tuple(tuple(map(str, row)) for row in path.sums),
    )  # fmt: skip
    origin = note.origin_of("novate.example", DEPLOYMENT)
    accounts = tuple(
        b.StatePart(
            held.account, held.sub, held.salt.hex(), "500", "0", "50", "30", "0", held.details.hex(),
            tuple(item.hex() for item in states.proof(held.account)),
        )
        for held in leaves
    )  # fmt: skip
    shown = tuple(
        b.EntryPart(seq, entries[seq].hex(), tuple(item.hex() for item in log.inclusion_proof(seq, hashes)))
        for seq in (4, 10)
    )
    signed = note.sign(note.Checkpoint(origin, 11, header.journal_root), SEED)
    bundle = b.Bundle(
        b.FORMAT, DEPLOYMENT.hex(), 31337, VAULT.hex(), origin, PUBLIC.hex(), ASSETS[:lanes], header.encode().hex(),
        part, signed, accounts, shown,
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


@pytest.mark.parametrize("case", ["smaller", "other root", "other deployment"])
def test_a_checkpoint_well_signed_but_not_of_the_headers_journal_is_refused(case: str) -> None:
    """The operator's good signature is not enough: size and root are the header's, the origin the deployment's."""
    origin, size, root = BUNDLE.origin, 11, HEADER.journal_root
    match case:
        case "smaller":
            size = 10
        case "other root":
            root = b"r" * 32
        case _:
            origin = note.origin_of("novate.example", b"E" * 32)
    signed = note.sign(note.Checkpoint(origin, size, root), SEED)
    assert note.verify(signed, PUBLIC, origin).size == size
    altered = msgspec.structs.replace(BUNDLE, origin=origin, checkpoint=signed)
    verdict = verify(altered, header_hash=HEADER.hash(), operator_key=PUBLIC)
    assert [step.name for step in verdict.steps if step.status == "failed"] == ["checkpoint"]


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_bundle_names_one_asset_per_lane(lanes: int, change: int) -> None:
    """Otherwise a reader would show amounts under the wrong name."""
    bundle, header = make(lanes=lanes)
    assert verify(bundle, header_hash=header.hash(), operator_key=PUBLIC).complete
    wrong = msgspec.structs.replace(bundle, assets=("X",) * (lanes + change))
    assert not verify(wrong, header_hash=header.hash(), operator_key=PUBLIC).ok


def test_the_accounts_shown_are_those_of_the_exit_leafs_owner() -> None:
    """Another owner's exit leaf beside them, though it is in the tree, makes the accounts fail, and only them."""
    mixed, header = make(index=0)
    verdict = verify(mixed, header_hash=header.hash(), operator_key=PUBLIC)
    assert [step.name for step in verdict.steps if step.status == "failed"] == ["account 3", "account 4"]


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every string and number in the JSON tree that carries proof (not the names of assets)."""
    if isinstance(value, dict):
        return [place for key, item in value.items() if key != "assets" for place in places(item, (*path, key))]
    if isinstance(value, list):
        return [place for number, item in enumerate(value) for place in places(item, (*path, number))]
    return [path]


PLACES = places(TREE)


@given(st.data())
@settings(max_examples=200)
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


def altered(path: tuple[object, ...], new: object) -> bytes:
    """The file with `new` at `path`."""
    tree = json.loads(json.dumps(TREE))
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return json.dumps(tree).encode()


def value_at(path: tuple[object, ...]) -> Any:
    found: Any = TREE
    for key in path:
        found = found[key]
    return found


@pytest.mark.slow
def test_every_digit_of_the_file_is_bound() -> None:
    """Each character of each string by another of its alphabet, one by one, and each number by its neighbours."""
    for path in PLACES:
        old = value_at(path)
        if isinstance(old, int):
            news: list[object] = [old + 1, old - 1]
        else:
            swap = {char: "1" if char == "0" else "0" for char in "0123456789abcdef"}
            news = [old[:at] + swap.get(char, "0") + old[at + 1 :] for at, char in enumerate(old)]
        for new in news:
            assert not verify_bytes(altered(path, new), header_hash=HEADER.hash(), operator_key=PUBLIC).ok, (path, new)


DECIMALS = (
    "equity",
    "deficit",
    "margin_initial",
    "margin_maintenance",
    "stress_loss",
    "exits",
    "withdraw_acks",
    "sums",
)


@pytest.mark.parametrize("spelling", ["0{}", "+{}", "-{}", " {}", "{} ", "{}.0", "{}e0", "0x{}", "{}_0", "\uff10{}"])
def test_an_amount_has_one_spelling(spelling: str) -> None:
    """The same number otherwise written is refused, in every field that holds amounts."""
    found = [path for path in PLACES if any(name in path for name in DECIMALS)]
    assert {name for path in found for name in path if name in DECIMALS} == set(DECIMALS)
    for path in found:
        data = altered(path, spelling.format(value_at(path)))
        assert not verify_bytes(data, header_hash=HEADER.hash(), operator_key=PUBLIC).ok, path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("00" * 32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def holders(value: Any) -> list[Any]:
    """Every object and list in the JSON tree."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if isinstance(value, dict | list) else []) + [found for item in inner for found in holders(item)]


@given(st.data())
@settings(max_examples=100)
def test_any_altered_structure_is_refused_or_says_less(data: st.DataObject) -> None:
    """A value replaced, dropped or repeated anywhere: a verdict, never an exception. It is ok only if the
    same values stand there as before, or whole accounts or entries are left out or shown twice."""
    altered = json.loads(b.encode(BUNDLE))
    holder = data.draw(st.sampled_from([found for found in holders(altered) if found]))
    key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    action = data.draw(st.sampled_from(["replace", "drop", "repeat"]))
    if action == "drop":
        del holder[key]
    elif action == "repeat" and isinstance(holder, list):
        holder.insert(key, holder[key])
    else:
        holder[key] = data.draw(JSON)
    verdict = verify_bytes(json.dumps(altered).encode(), header_hash=HEADER.hash(), operator_key=PUBLIC)
    if verdict.ok:
        fixed = [name for name in TREE if name not in ("states", "entries", "assets")]
        assert all(altered[name] == TREE[name] for name in fixed)
        for name in ("states", "entries"):
            assert all(part in TREE[name] for part in altered.get(name, []))


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": 10**5_000},
        {"chain_id": -1},
        {"chain_id": True},
        {"checkpoint": "\ud800"},
        {"format": "novate-bundle/2"},
        {"origin": "a\x1b[2J"},
        {"origin": "x" * 256},
        {"assets": ("USDC\n",)},
        {"assets": ()},
        {"exit": None},
        {"states": None},
        {"header": None},
        {"states": (None,)},
        {"entries": (b.EntryPart(10**4_000, "", ()),)},
        {"vault": object()},
        {"assets": ("x" * b.MAX_BYTES,)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_hostile_bundle_in_memory_is_a_failed_step(changes: dict[str, Any]) -> None:
    """What no file can hold is refused like a malformed file, in a message that a terminal can show."""
    verdict = verify(msgspec.structs.replace(BUNDLE, **changes))
    assert [(step.name, step.status) for step in verdict.steps] == [("bundle", "failed")]
    assert verdict.steps[0].detail.isprintable()
    assert len(verdict.steps[0].detail) < 400


def test_a_field_given_twice_is_refused() -> None:
    """Readers differ in which of the two they take: at the top, and within."""
    text = json.dumps(TREE)
    for part in ('"vault": ', '"owner": ', '"seq": '):
        assert part in text
        assert not verify_bytes(text.replace(part, f"{part}0, {part}", 1).encode()).ok
    text_of_vault = f'"vault": "{BUNDLE.vault}"'
    assert not verify_bytes(text.replace(text_of_vault, f"{text_of_vault}, {text_of_vault}").encode()).ok


def test_a_verifier_loads_nothing_but_msgspec_and_pynacl() -> None:
    """A wallet vendors the package: no other third party's module, and nothing of the repository."""
    code = (
        "import sys; before = set(sys.modules); import proofs.verify; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = {"_cffi_backend", "_sodium", "cffi", "typing_extensions"}  # what the two load themselves
    assert set(found.stdout.split()) - theirs == {"proofs", "msgspec", "nacl"}


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
