# SPDX-License-Identifier: GPL-3.0-or-later
"""One venue for the folder's tests, with a chain snapshot and fresh copies of the attestors' folders around each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import ChainNode, catch_up, start_node
from tests.watch.scene import FUNDED, Scene, copy_folders


@pytest.fixture(scope="session")
def evm() -> Iterator[ChainNode]:
    running = start_node(fund=FUNDED)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def venue(evm: ChainNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Epochs 1 and 2 posted with the signatures of attestors 0 and 2; epoch 3 closed, and seen by none."""
    scene = Scene.open(evm, tmp_path_factory.mktemp("venue"))
    watchers = [scene.watcher(number) for number in range(3)]
    scene.round(watchers[0], watchers[2])
    scene.round(*watchers)
    scene.end_attestors()
    scene.keep_copy()
    scene.close_epoch()
    yield scene
    scene.close()


@pytest.fixture
def scene(venue: Scene, tmp_path: Path) -> Iterator[Scene]:
    """The venue; what a test does to the chain, to the attestors' folders and to the gate is undone."""
    copy_folders(venue, tmp_path)
    kept, venue.root = venue.root, tmp_path
    snapshot = venue.deployed.rpc.request("evm_snapshot")
    catch_up(venue.deployed.rpc)
    yield venue
    venue.end_attestors()
    venue.gate.reset()
    venue.root = kept
    assert venue.deployed.rpc.request("evm_revert", snapshot) is True
