# SPDX-License-Identifier: GPL-3.0-or-later
"""One embedded EVM process for the folder's tests, and a chain snapshot around each of them."""

from collections.abc import Iterator

import pytest

from clearing.chain.embedded import EmbeddedEvm, dev_key, start_embedded
from clearing.chain.rpc import Rpc
from clearing.chain.wallet import Wallet


@pytest.fixture(scope="session")
def evm() -> Iterator[EmbeddedEvm]:
    running = start_embedded(max_log_blocks=7, idle_exit_s=600)
    yield running
    running.stop()


@pytest.fixture
def rpc(evm: EmbeddedEvm) -> Iterator[Rpc]:
    with Rpc(evm.url) as connection:
        snapshot = connection.request("evm_snapshot")
        yield connection
        assert connection.request("evm_revert", snapshot) is True


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(dev_key(0))
