# SPDX-License-Identifier: GPL-3.0-or-later
"""Both EVMs, each started once, and a chain that is clean again after every test."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.contract.chain import Anvil, Chain, Embedded

_INSTALLED = Path(__file__).resolve().parents[2] / "contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"


def _binary() -> Path:
    return Path(os.environ.get("NOVATE_TEST_ANVIL", _INSTALLED))


@pytest.fixture(scope="session")
def embedded() -> Chain:
    return Chain(Embedded())


@pytest.fixture(scope="session")
def anvil() -> Iterator[Chain]:
    binary = _binary()
    if not binary.is_file():
        pytest.skip("anvil is not installed: run `npm ci` in contracts/, or set NOVATE_TEST_ANVIL")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="novate-anvil-") as cache:  # else states stay in the home folder
        options = ["--hardfork", "prague", "--port", str(port), "--silent", "--cache-path", cache]
        process = subprocess.Popen([str(binary), *options])
        try:
            backend = _wait(Anvil(port), process)
            yield Chain(backend)
            backend.close()
        finally:
            process.terminate()
            process.wait()


def _wait(backend: Anvil, process: "subprocess.Popen[bytes]") -> Anvil:
    for _ in range(200):
        try:
            backend.chain_id()
        except ConnectionError:
            assert process.poll() is None, "anvil ended by itself"
            time.sleep(0.05)
        else:
            return backend
    raise AssertionError("anvil did not answer within 10 seconds")


@pytest.fixture(scope="session")
def other_chain() -> Chain:
    """A second embedded EVM, with a chain id of its own."""
    return Chain(Embedded(chain_id=424_242))


@pytest.fixture
def evm(request: pytest.FixtureRequest) -> Iterator[Chain]:
    """One EVM, for what was shown not to depend on the node: anvil, which is quicker, or else the embedded one."""
    running = cast(Chain, request.getfixturevalue("anvil" if _binary().is_file() else "embedded"))
    with running.sandbox():
        yield running


@pytest.fixture
def embedded_evm(embedded: Chain) -> Iterator[Chain]:
    """The embedded EVM, where a test needs it by name."""
    with embedded.sandbox():
        yield embedded


# Two EVMs agree where one test asks both; the interpreted one is the slow suite's while the native one is here.
_SLOW = [pytest.mark.slow] if _binary().is_file() else []


@pytest.fixture(params=["anvil", pytest.param("embedded", marks=_SLOW)])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    running = cast(Chain, request.getfixturevalue(request.param))
    with running.sandbox():
        yield running
