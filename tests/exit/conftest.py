# SPDX-License-Identifier: GPL-3.0-or-later
"""One chain with a fresh vault for the folder's tests, and a chain snapshot around each of them."""

from collections.abc import Iterator

import pytest

from clearing.chain.rpc import Rpc
from tests.exit.scene import Scene
from tests.nodes import start_node


@pytest.fixture(scope="session")
def fresh_vault() -> Iterator[tuple[Rpc, bytes]]:
    running = start_node()
    with Rpc(running.url) as rpc:
        yield rpc, Scene.deploy(rpc).vault.address
    running.stop()


@pytest.fixture
def scene(fresh_vault: tuple[Rpc, bytes]) -> Iterator[Scene]:
    rpc, address = fresh_vault
    snapshot = rpc.request("evm_snapshot")
    yield Scene.attach(rpc, address)
    assert rpc.request("evm_revert", snapshot) is True
