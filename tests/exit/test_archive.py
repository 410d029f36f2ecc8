# SPDX-License-Identifier: GPL-3.0-or-later
"""Epochs in blobs: rebuilt from whatever archive kept them, checked by their commitments, and from calldata alone
once the leaves were published again."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clearing.chain.blobs import commitment
from clearing.chain.rpc import Rpc
from clearing.chain.vault import BlobEvent
from clearing.exit.archive import BlobSource, open_archive
from clearing.exit.errors import ExitError
from clearing.exit.rebuild import Rebuilt, rebuild
from clearing.exit.run import exit_all, with_archive
from proofs.diff import DiffRow
from tests.chain.nodes import Anvil, free_port
from tests.exit.scene import DEADLINE_S, WINDOW_S, Leaves, Scene, member

pytestmark = pytest.mark.slow

GENESIS_S, SLOT_S = 1_000, 4


class World:
    """A scene whose second epoch is in a blob, and the blob as the node still has it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        scene.deposit(member(1), 100)
        scene.deposit(member(2), 50)
        scene.close({1: (member(1), (100, 0), (0, 0))})
        self.leaves: Leaves = {1: (member(1), (90, 0), (10, 0)), 2: (member(2), (50, 0), (0, 0))}
        scene.close(dict(self.leaves), in_blobs=True)
        scene.pass_time(WINDOW_S)
        (self.event,) = scene.reader.blobs_published()
        self.digest = self.event.versioned_hash
        found = scene.rpc.request("anvil_getBlobByHash", self.name)
        self.blob = bytes.fromhex(str(found)[2:])

    @property
    def name(self) -> str:
        return "0x" + self.digest.hex()

    def rebuilt(self, archive: BlobSource | None) -> Rebuilt | None:
        return rebuild(self.scene.reader, blobs=archive)

    def refused(self, archive: BlobSource | None) -> str:
        with pytest.raises(ExitError) as caught:
            self.rebuilt(archive)
        return f"{caught.value.code} {caught.value.message}"


@pytest.fixture(scope="module")
def world(fresh_vault: tuple[Rpc, bytes]) -> Iterator[World]:
    """Made once: blobs are slow to prove."""
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    yield World(Scene.attach(rpc, address))
    assert rpc.request("evm_revert", snapshot) is True


@contextmanager
def _server(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    """A web server that knows these paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"not here"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _same(found: Rebuilt | None, world: World) -> bool:
    return found is not None and found.tree.root == world.scene.tree.root and found.epoch == 2


@pytest.mark.parametrize("form", ["name", "0xname.blob", "name.hex", "name.json", "anything"])
def test_a_folder_gives_blobs_by_name_or_by_content(world: World, tmp_path: Path, form: str) -> None:
    digits = world.blob.hex()
    content = {"name.hex": digits.encode(), "name.json": json.dumps({"data": "0x" + digits}).encode()}
    file = form.replace("name", world.digest.hex())
    (tmp_path / file).write_bytes(content.get(form, world.blob))
    (tmp_path / "zeros").write_bytes(b"\xff" * len(world.blob))
    assert _same(world.rebuilt(open_archive(str(tmp_path))), world)


def test_a_missing_blob_is_named_and_an_altered_one_is_not_taken(world: World, tmp_path: Path) -> None:
    """Without an archive, without the file, and with one bit of it changed: an error that says what to do."""
    archive = open_archive(str(tmp_path))
    assert "BLOB_MISSING" in world.refused(None) and "pass --blobs" in world.refused(None)
    assert "the archive does not have it" in world.refused(archive)
    altered = bytearray(world.blob)
    altered[100] ^= 1
    (tmp_path / world.name).write_bytes(altered)
    told = world.refused(archive)
    assert "BLOB_MISSING" in told and world.name in told and "try another archive" in told
    (tmp_path / world.name).write_bytes(b"short")
    assert "BLOB_MISSING" in world.refused(archive)


def test_archives_on_the_web_and_beacon_nodes_give_blobs(world: World) -> None:
    """Raw bytes under the hash, JSON under a pattern, a beacon node's two forms by the slot of the block."""
    digits = "0x" + world.blob.hex()
    slot = (world.scene.rpc.block(world.event.block_number).time_s - GENESIS_S) // SLOT_S
    clock = {
        "/eth/v1/beacon/genesis": (200, json.dumps({"data": {"genesis_time": str(GENESIS_S)}}).encode()),
        "/eth/v1/config/spec": (200, json.dumps({"data": {"SECONDS_PER_SLOT": str(SLOT_S)}}).encode()),
    }
    other = "0x" + bytes(len(world.blob)).hex()
    known = "0x" + commitment(world.blob).hex()
    sidecars = [{"blob": other, "kzg_commitment": "0x" + "c0" + "00" * 47}, {"blob": digits, "kzg_commitment": known}]
    raw = {f"/{world.name}": (200, world.blob), f"/b/{world.name}.json": (200, json.dumps({"blob": digits}).encode())}
    new = f"/eth/v1/beacon/blobs/{slot}?versioned_hashes={world.name}"
    blobs = {new: (200, json.dumps({"data": [other, digits]}).encode())}
    old = {f"/eth/v1/beacon/blob_sidecars/{slot}": (200, json.dumps({"data": sidecars}).encode())}
    with _server(raw) as url:
        assert _same(world.rebuilt(open_archive(url)), world)
        assert _same(world.rebuilt(open_archive(url + "/b/{hash}.json")), world)
        assert "BLOBS_UNREACHABLE" in world.refused(open_archive("beacon+" + url))
    for answers in (blobs, old):
        with _server(clock | answers) as url:
            assert _same(world.rebuilt(open_archive("beacon+" + url)), world)
    with _server({f"/{world.name}": (503, b"")}) as url:
        assert "BLOBS_UNREACHABLE" in world.refused(open_archive(url))
    assert "BLOBS_UNREACHABLE" in world.refused(open_archive("http://127.0.0.1:9"))


def test_a_place_that_is_no_archive_is_named() -> None:
    with pytest.raises(ExitError, match="BLOBS_UNREACHABLE"):
        open_archive("/nonexistent")


def test_leaves_that_were_published_again_in_calldata_need_no_blob(world: World) -> None:
    """What the chain forgot does not matter once every live leaf was posted again, with its owner."""
    scene = world.scene
    snapshot = scene.rpc.request("evm_snapshot")
    before = scene.last, list(scene.journal)
    rows = [DiffRow(index, *leaf) for index, leaf in sorted(world.leaves.items())]
    scene.close(dict(world.leaves), rows=rows)
    scene.pass_time(WINDOW_S)
    found = world.rebuilt(None)
    assert found is not None and (found.epoch, found.tree.root) == (3, scene.tree.root)
    scene.last, scene.journal = before
    assert scene.rpc.request("evm_revert", snapshot) is True


@pytest.mark.slow
def test_everyone_leaves_from_blobs_on_a_real_node(tmp_path: Path) -> None:
    """The round trip on anvil: published in a type-3 transaction, archived, rebuilt, paid to the atom."""
    node = Anvil(free_port()).start()
    try:
        with Rpc(node.url) as rpc:
            world = World(Scene.deploy(rpc))
            assert isinstance(world.event, BlobEvent)
            (tmp_path / world.name).write_bytes(world.blob)
            world.scene.pass_time(DEADLINE_S)
            vault = world.scene.stranger()
            report = exit_all(vault, source=with_archive(vault, open_archive(str(tmp_path))))
            assert report.complete and report.paid == [150, 0]
            assert (world.scene.balances(member(1)), world.scene.balances(member(2))) == ([100, 0], [50, 0])
    finally:
        node.stop()
