# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh data directory per test, and one with funded members."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.world import World, make_data_dir


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "venue"
    make_data_dir(path)
    opened = World(path)
    yield opened
    opened.close()


@pytest.fixture
def market(world: World) -> World:
    world.open()
    return world
