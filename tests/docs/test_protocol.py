# SPDX-License-Identifier: GPL-3.0-or-later
"""The specification is enough: a reader written from it alone reads real journals, to the last hash and signature."""

import ast
import json
import sys
from pathlib import Path

import pytest
from coincurve import PublicKey
from nacl.signing import VerifyKey

from clearing.model import commands as c
from clearing.model import ids
from tests.docs import decoder as d
from tests.service.world import START_US, World, make_data_dir, order

GOLDEN = Path(__file__).parent.parent / "golden"


def signed(found: d.Entry) -> None:
    """The signature is over the message that the specification names; raises otherwise."""
    if found.key[0] == 1:
        VerifyKey(found.key[1:]).verify(d.message(found), found.signature)
        return
    signature = found.signature[:64] + bytes([found.signature[64] - 27])
    public = PublicKey.from_signature_and_message(signature, d.message(found), hasher=None)
    assert d.keccak(public.format(compressed=False)[1:])[12:] == found.key[1:]


def golden() -> tuple[list[bytes], dict[str, object]]:
    data = (GOLDEN / "journal-rules-3.bin").read_bytes()
    entries, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        entries.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return entries, json.loads((GOLDEN / "roots-rules-3.json").read_text())


def close(world: World, epoch: int) -> bytes:
    return world.operator(c.CloseEpoch(epoch, ((7, b"\x07" * 32),)))


def test_a_live_journal_is_read_from_its_blocks(tmp_path: Path) -> None:
    """Blocks, chain, entries, Merkle root, every signature, the checkpoint and the headers of two epochs."""
    make_data_dir(tmp_path)
    world = World(tmp_path)
    world.open()
    world.ok(world.batch("alice", order(coid=1, size=3)), world.batch("bob", order(ids.SELL, size=2, coid=1)))
    world.ok(close(world, 1))
    receipt = world.ok(world.batch("bob", c.CancelAll()), close(world, 2))[-1]
    raws = [found.raw for found in world.store.read(0)]
    entries = list(d.chain(raws))
    read = [d.entry(raw) for raw in entries]
    assert [found.seq for found in read] == list(range(len(entries)))
    assert len(raws) > 2 and read[-1].time_us >= read[0].time_us >= START_US
    for found in read:
        signed(found)
    leaves = [d.leaf(raw) for raw in entries]
    note = d.note(receipt.checkpoint.note)
    assert (note.size, note.root) == (len(entries), d.root(leaves))
    _check_note(note, read[0])
    previous = [d.ZERO]
    epochs = [found for found in read if any(outcome[0] == 17 for outcome in found.outcomes)]
    assert len(epochs) == 2
    for number, closing in enumerate(epochs, 1):
        made = d.header(read[0].body, closing, d.root(leaves[: closing.seq + 1]), 0, previous)
        world.book.flush()
        part = world.book.load(number).part(0)
        assert made == part.header
        previous = [part.header_hash]
    world.close()


def _check_note(note: d.Note, genesis: d.Entry) -> None:
    """Both signature lines are the genesis keys', over what the specification says."""
    deployment, domain, key, address = genesis.body[2:6]
    assert note.origin == f"{domain}/{deployment.hex()}/journal"
    first, second = note.lines
    assert first[:2] == (note.origin, d.key_id(note.origin, b"\x01", key[1:]))
    VerifyKey(key[1:]).verify(note.signed, first[2])
    assert second[1] == d.key_id(note.origin, b"\xffnovate-eip712-checkpoint", address)
    digest = d.checkpoint_digest(deployment, note.size, note.root)
    signature = second[2][:64] + bytes([second[2][64] - 27])
    public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    assert d.keccak(public.format(compressed=False)[1:])[12:] == address


def test_the_golden_journal_is_read() -> None:
    """Hundreds of entries of nearly every kind: canonical, signed, and with the recorded root."""
    entries, roots = golden()
    read = [d.entry(raw) for raw in entries]
    for found in read:
        signed(found)
    assert len(entries) == roots["entries"] and d.root([d.leaf(raw) for raw in entries]).hex() == roots["journal_root"]
    assert {found.body[0] for found in read} == {0, 1, 2, 3, 4}


def test_a_changed_byte_anywhere_is_found(tmp_path: Path) -> None:
    """One bit of any byte of a block: its form or its hash says so."""
    make_data_dir(tmp_path)
    world = World(tmp_path)
    world.open()
    raws = [found.raw for found in world.store.read(0)]
    world.close()
    for raw in raws[1:]:
        for at in range(len(raw)):
            broken = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            with pytest.raises((d.Bad, ValueError)):
                d.block(broken)
    with pytest.raises(d.Bad):
        list(d.chain(raws[1:]))
    with pytest.raises(d.Bad):
        list(d.chain([raws[0], *raws[2:]]))


@pytest.mark.parametrize("longer", ["cc05", "cd00ff", "ce0000ffff", "d0ff", "d9026161", "c50001ff", "dc000101", "0101"])
def test_other_forms_of_a_value_are_refused(longer: str) -> None:
    """What has a shorter form, or bytes behind it, is not the one encoding."""
    with pytest.raises(d.Bad):
        d.unpack(bytes.fromhex(longer))


def test_the_reader_knows_nothing_of_this_code() -> None:
    """It imports the standard library alone: else it would prove nothing about the specification."""
    tree = ast.parse(Path(d.__file__).read_text(encoding="utf-8"))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
