# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test shares: one printed seed, hypothesis profiles, and no surprises from the caller's shell.

Rules:
- Randomness comes from the `rng` fixture or from hypothesis, so that a failure can be run again:
  `NOVATE_TEST_SEED=<printed seed> make test ARGS="-k <test>"`.
- No test waits on the wall clock for its verdict; hypothesis deadlines are off, since two cores are shared.
- Tests are independent of the caller's NOVATE_* variables, except NOVATE_TEST_*, which tune tests,
  NOVATE_DERIVE_CASES, a folder of test data, and NOVATE_GAS_JSON, where the gas table goes.
"""

from __future__ import annotations

import os
import random
import secrets

import pytest
from hypothesis import HealthCheck, settings

_SEED_VARIABLE = "NOVATE_TEST_SEED"
_KEPT = ("NOVATE_TEST_", "NOVATE_DERIVE_CASES", "NOVATE_GAS_JSON")

settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("default"), max_examples=5_000, stateful_step_count=200)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once, before xdist starts its workers, which inherit the environment."""
    os.environ.setdefault(_SEED_VARIABLE, str(secrets.randbits(32)))
    for name in [n for n in os.environ if n.startswith("NOVATE_") and not n.startswith(_KEPT)]:
        del os.environ[name]


def pytest_report_header(config: pytest.Config) -> str:
    """The first lines of the report, also under `-q`, carry the seed."""
    return f"{_SEED_VARIABLE}={os.environ[_SEED_VARIABLE]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat the seed after failures: `-q` prints no header."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"run again with {_SEED_VARIABLE}={os.environ[_SEED_VARIABLE]}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """A seed of this test's own: unlike a shared generator, it does not depend on which tests ran before."""
    return f"{os.environ[_SEED_VARIABLE]}/{request.node.nodeid}"


@pytest.fixture
def rng(seed: str) -> random.Random:
    """A generator for this test; print what you drew from it, or let the seed in the report say it."""
    return random.Random(seed)
