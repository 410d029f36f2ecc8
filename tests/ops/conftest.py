# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory with funded members, and one chain for those who need it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import ChainNode, start_node
from tests.service.chains import Deployed, deploy_venue
from tests.service.world import World, make_data_dir


@pytest.fixture
def market(tmp_path: Path) -> Iterator[World]:
    """A market without a chain."""
    make_data_dir(tmp_path / "venue")
    world = World(tmp_path / "venue")
    world.open()
    yield world
    world.close()


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    """A venue on a real chain; `deployed.node()` runs its operator."""
    venue = deploy_venue(tmp_path / "venue", [evm])
    yield venue
    venue.rpc.close()
