# SPDX-License-Identifier: GPL-3.0-or-later
"""One venue for a file's tests; a test says in which state it wants the operator, so their order does not matter."""

from collections.abc import Iterator

import pytest

from tests.cli.venue import DEADLINE_S, Venue


@pytest.fixture(scope="module")
def _venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    venue = Venue(tmp_path_factory.mktemp("venue"))
    yield venue
    venue.close()


@pytest.fixture
def venue(_venue: Venue) -> Venue:
    """The venue with its operator running."""
    return _venue.live()


@pytest.fixture
def stopped(_venue: Venue) -> Venue:
    """The venue with its operator stopped."""
    return _venue.stop()


@pytest.fixture
def abandoned(stopped: Venue) -> Iterator[Venue]:
    """The operator is gone, and the deadline has passed; the chain is as before afterwards."""
    place = int(stopped.rpc.request("evm_snapshot"), 16)
    stopped.pass_time(DEADLINE_S + 1)
    yield stopped
    assert stopped.rpc.request("evm_revert", place)
