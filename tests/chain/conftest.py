# SPDX-License-Identifier: GPL-3.0-or-later
"""One embedded EVM and one anvil for the folder's tests, and a chain snapshot around each of them."""

from collections.abc import Iterator

import pytest

from clearing.chain.embedded import EmbeddedEvm, dev_key, start_embedded
from clearing.chain.rpc import Rpc
from clearing.chain.wallet import Wallet
from tests.chain.nodes import Anvil, free_port


@pytest.fixture(scope="session")
def evm() -> Iterator[EmbeddedEvm]:
    running = start_embedded(max_log_blocks=7, idle_exit_s=3_600)
    yield running
    running.stop()


@pytest.fixture
def rpc(evm: EmbeddedEvm) -> Iterator[Rpc]:
    with Rpc(evm.url) as connection:
        snapshot = connection.request("evm_snapshot")
        yield connection
        assert connection.request("evm_revert", snapshot) is True


@pytest.fixture(scope="session")
def anvil_of_session() -> Iterator[Anvil]:
    running = Anvil(free_port()).start()
    yield running
    running.stop()


@pytest.fixture
def anvil(anvil_of_session: Anvil) -> Iterator[Anvil]:
    """A real node that mines only when told to; as it was before after the test."""
    snapshot = anvil_of_session.request("evm_snapshot")
    anvil_of_session.request("evm_setAutomine", False)
    yield anvil_of_session
    anvil_of_session.request("anvil_dropAllTransactions")
    assert anvil_of_session.request("evm_revert", snapshot) is True
    anvil_of_session.request("evm_setAutomine", True)
    anvil_of_session.next_base_fee(10**9)


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(dev_key(0))
