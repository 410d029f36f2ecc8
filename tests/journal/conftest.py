# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the journal's tests."""

from collections.abc import Iterator

import pytest

from journal.fsck import Checker


@pytest.fixture(scope="session")
def checker() -> Iterator[Checker]:
    """One fsck child for all tests; a check that stands still for 10 s counts as going in circles."""
    with Checker(stall_s=10.0) as shared:
        yield shared
