# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs in files: enough to leave with and no log, and useless once a single bit of them is another one."""

import hashlib
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.deploy import mint
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.exit.errors import ExitError
from clearing.exit.export import Exported, write_file, write_folder
from clearing.exit.plan import Kind, plan, read_vault
from clearing.exit.proof_file import open_proofs
from clearing.exit.rebuild import Rebuilt, rebuild
from clearing.exit.run import exit_all, run
from tests.exit.proxy import lying_endpoint
from tests.exit.scene import DEADLINE_S, HOUSE, WINDOW_S, Leaves, Scene, member

PAID = {HOUSE: [10, 0], member(1): [1_005, 50], member(2): [490, 0], member(3): [77, 3]}


def _scene(scene: Scene) -> None:
    """Members 1 and 2 and the house in a final epoch, member 3's and one more deposit unconsumed."""
    scene.deposit(member(1), 1_000, 50)
    scene.deposit(member(2), 500)
    leaves: Leaves = {
        0: (HOUSE, (10, 0), (0, 0)),
        1: (member(1), (910, 30), (90, 20)),
        2: (member(2), (490, 0), (0, 0)),
    }
    scene.close(leaves)
    scene.deposit(member(3), 77, 3)
    scene.deposit(member(1), 5)
    scene.pass_time(WINDOW_S)


def _written(scene: Scene, place: Path) -> Exported:
    rebuilt = rebuild(scene.reader)
    write = write_file if place.suffix == ".json" else write_folder
    return write(scene.reader, rebuilt, read_vault(scene.reader, rebuilt), place)


def _used(vault: VaultClient, path: Path, owner: bytes) -> tuple[object, object]:
    """Everything that an exit takes from a file."""
    found = open_proofs(vault, path, owner)
    return found.require_usable().claim_of(owner), found.deposits_of(owner)


def test_everyone_leaves_with_a_file_and_without_any_log(scene: Scene, tmp_path: Path) -> None:
    """One owner from one file of a folder, everyone else from a single file, to the atom; no log is asked for."""
    _scene(scene)
    single, folder = _written(scene, tmp_path / "all.json"), _written(scene, tmp_path / "parts")
    assert hashlib.sha256((tmp_path / "all.json").read_bytes()).digest() == single.sha256
    assert hashlib.sha256((tmp_path / "parts" / "index.json").read_bytes()).digest() == folder.sha256
    assert (single.owners, folder.owners, folder.files) == (4, 4, 3)
    scene.pass_time(DEADLINE_S)
    asked: list[str] = []

    def note(method: str, params: list[Any], result: Any) -> Any:
        asked.append(method)
        return result

    with lying_endpoint(scene.rpc.url, note) as url, Rpc(url) as rpc:
        vault = VaultClient(rpc, scene.vault.address, scene.stranger().wallet)
        mine = open_proofs(vault, tmp_path / "parts", member(1))
        assert list(mine.owners()) == [member(1), member(2), member(3)], "their addresses begin alike"
        report = run(vault, member(1), None, mine.require_usable, mine.deposits(member(1)))
        assert [event.step.kind for event in report.done] == [Kind.FREEZE, Kind.ESCAPE, Kind.REFUND]
        everyone = open_proofs(vault, tmp_path / "all.json")
        assert exit_all(vault, None, everyone.require_usable, everyone.deposits()).complete
    assert "eth_sendRawTransaction" in asked and "eth_getLogs" not in asked
    assert {owner: scene.balances(owner) for owner in PAID} == PAID
    assert scene.holdings() == [0, 0]


def test_one_bit_makes_a_file_useless(scene: Scene, tmp_path: Path, rng: random.Random) -> None:
    """Wherever it is, in a file or in a folder's index or part, before anything is sent."""
    _scene(scene)
    _written(scene, tmp_path / "all.json")
    _written(scene, tmp_path / "parts")
    part = f"parts/{member(1)[:1].hex()}.json"
    for name, opened in (("all.json", "all.json"), ("parts/index.json", "parts"), (part, "parts")):
        path = tmp_path / name
        honest = path.read_bytes()
        for bit in rng.sample(range(8 * len(honest)), 40):
            forged = bytearray(honest)
            forged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(forged)
            with pytest.raises(ExitError, match="EXPORT_"):
                _used(scene.reader, tmp_path / opened, member(1))
        path.write_bytes(honest[: rng.randrange(len(honest))])
        with pytest.raises(ExitError, match="EXPORT_"):
            _used(scene.reader, tmp_path / opened, member(1))
        path.write_bytes(honest)
    claim, _ = _used(scene.reader, tmp_path / "parts", member(1))
    assert claim is not None


def _forged(path: Path, change: Any) -> None:
    """Change one owner's row or the head, and make the checksum fit again."""
    data = json.loads(path.read_text())
    change(data)
    rows = ",\n".join(f'"{name}": ' + json.dumps(row, separators=(",", ":")) for name, row in data["owners"].items())
    body = '{"head": ' + json.dumps(data["head"], separators=(",", ":")) + ',\n"owners": {\n' + rows + "\n},\n"
    path.write_text(body + f'"sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}\n')


MINE = "0x" + member(1).hex()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data["owners"][MINE].update(exits=["2000", "30"]), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE]["siblings"].reverse(), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE]["siblings"].pop(), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE].update(index=2), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE].update(index="one"), "EXPORT_MALFORMED"),
        (lambda data: data["owners"][MINE]["deposits"][0].__setitem__(2, "6"), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE]["deposits"][0].__setitem__(0, 999), "EXPORT_FALSE"),
        (lambda data: data["owners"][MINE]["deposits"][0].pop(), "EXPORT_MALFORMED"),
        (lambda data: data["owners"].pop(MINE), "NOT_IN_EXPORT"),
        (lambda data: data["head"].update(header=data["head"]["header"][:-2] + "00"), "EXPORT_FALSE"),
        (lambda data: data["head"].update(epoch=0, header=""), "EXPORT_STALE"),
        (lambda data: data["head"].update(epoch="1"), "EXPORT_MALFORMED"),
        (lambda data: data["head"].update(vault="0x" + "11" * 20), "EXPORT_OTHER_VAULT"),
        (lambda data: data["head"].update(chain_id=1), "EXPORT_OTHER_VAULT"),
    ],
)
def test_a_forged_file_is_found_out_by_the_chain(
    forgery: tuple[Scene, Path], tmp_path: Path, change: Any, code: str
) -> None:
    """Its checksum fits, and still no claim and no deposit comes out of it that the chain does not know."""
    scene, honest = forgery
    path = tmp_path / "forged.json"
    path.write_bytes(honest.read_bytes())
    _forged(path, change)
    with pytest.raises(ExitError) as caught:
        _used(scene.reader, path, member(1))
    assert caught.value.code == code


@pytest.fixture(scope="module")
def forgery(fresh_vault: tuple[Rpc, bytes], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A scene with an export, made once, since these tests only read."""
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    scene = Scene.deploy(rpc, tokens=VaultClient(rpc, address).tokens(), beside=address)
    _scene(scene)
    path = tmp_path_factory.mktemp("export") / "all.json"
    _written(scene, path)
    yield scene, path
    assert rpc.request("evm_revert", snapshot) is True


def test_a_file_of_another_epoch_pays_nothing(scene: Scene, tmp_path: Path) -> None:
    """Neither before the vault's epoch moved on nor after: it says which epoch pays."""
    _scene(scene)
    _written(scene, tmp_path / "first.json")
    scene.close({2: (member(2), (480, 0), (10, 0))})
    scene.pass_time(WINDOW_S)
    with pytest.raises(ExitError, match=r"EXPORT_STALE.*epoch 1 and epoch 2 pays"):
        _used(scene.reader, tmp_path / "first.json", member(2))


def test_before_any_epoch_a_file_holds_the_deposits(scene: Scene, tmp_path: Path) -> None:
    scene.deposit(member(1), 40, 2)
    _written(scene, tmp_path / "all.json")
    scene.pass_time(DEADLINE_S)
    found = open_proofs(scene.reader, tmp_path / "all.json", member(1))
    assert found.claim_of(member(1)) is None
    report = run(scene.stranger(), member(1), None, found.require_usable, found.deposits(member(1)))
    assert (report.paid, scene.balances(member(1))) == ([40, 2], [40, 2])


def test_a_folder_that_holds_something_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    scene.deposit(member(1), 40)
    (tmp_path / "keep").write_text("mine")
    with pytest.raises(ExitError, match="EXPORT_EXISTS"):
        _written(scene, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_other_files_are_no_exports(scene: Scene, tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"{}\n", b"\xff" * 100 + b"\n", b'{"head": {"format":"novate-exit/1"']):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        with pytest.raises(ExitError, match="EXPORT_"):
            open_proofs(scene.reader, path, member(1))


def _many(scene: Scene, count: int) -> Rebuilt:
    """A posted epoch of `count` owners. Their diff is not published, since here nobody rebuilds it."""
    scene.deposit(member(1), count * count, count * count)
    owners = {n: hashlib.sha256(b"%d" % n).digest()[:20] for n in range(1, count + 1)}
    header = scene.close({n: (owner, (n, 1), (0, n)) for n, owner in owners.items()}, rows=[])
    scene.pass_time(WINDOW_S)
    leaves = {leaf.index: leaf for leaf in scene.tree.leaves()}
    return Rebuilt(1, header, header.encode(), leaves, {owner: n for n, owner in owners.items()}, scene.tree)


@pytest.mark.slow
def test_a_hundred_thousand_accounts_are_written_and_read_in_bounded_memory(scene: Scene, tmp_path: Path) -> None:
    """Beside the tree, writing takes what one row and a list of owners take, some bytes per owner; reading a file
    the same for the owners in it, which is all of them or a 256th."""
    mint(scene.rpc, scene.wallet, scene.vault.tokens()[1], scene.wallet.address, 10**15)
    rebuilt = _many(scene, 100_000)
    state = read_vault(scene.reader, rebuilt)
    owner = rebuilt.leaves[777].owner
    tracemalloc.start()
    made = write_folder(scene.reader, rebuilt, state, tmp_path / "parts")
    writing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    claim, _ = _used(scene.reader, tmp_path / "parts", owner)
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (made.owners, made.files) == (100_000, 257) and claim == rebuilt.claim_of(owner)
    assert writing < 32 << 20 and reading < 4 << 20, (writing, reading)


def test_plans_from_a_file_and_from_the_chain_are_the_same(scene: Scene, tmp_path: Path) -> None:
    _scene(scene)
    _written(scene, tmp_path / "all.json")
    scene.pass_time(DEADLINE_S)
    rebuilt = rebuild(scene.reader)
    found = open_proofs(scene.reader, tmp_path / "all.json")
    for owner in PAID:
        state = read_vault(scene.reader, found, found.deposits(owner))
        assert plan(scene.reader, found, owner, state) == plan(scene.reader, rebuilt, owner)
