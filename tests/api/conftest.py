# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory with funded members, whose journal is free."""

from pathlib import Path

import pytest

from tests.api.venue import make_venue
from tests.service.world import World


@pytest.fixture
def venue(tmp_path: Path) -> World:
    return make_venue(tmp_path / "venue")
