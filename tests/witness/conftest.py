# SPDX-License-Identifier: GPL-3.0-or-later
"""A vault whose operator has posted a bond, with a chain snapshot around each test that asks for it."""

from collections.abc import Iterator

import pytest

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from tests.nodes import ChainNode, start_node
from tests.witness.venue import DEPLOYMENT, OPERATOR, STAKE


@pytest.fixture(scope="session")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def deployed(evm: ChainNode) -> Iterator[VaultClient]:
    with Rpc(evm.url) as rpc:
        token = deploy_token(rpc, OPERATOR)
        params = VaultParams(
            *(DEPLOYMENT, OPERATOR.address, b"\x0f" * 20, [token], 3_600, 60),
            governor=Wallet(dev_key(1)).address,
            seconding_s=120,
            attestors=[],
            threshold=0,
            veto_bond_wei=10**15,
            operator_bond_wei=STAKE,
        )
        vault = deploy_vault(rpc, OPERATOR, params)
        vault.post_bond(STAKE)
        yield vault


@pytest.fixture
def vault(deployed: VaultClient) -> Iterator[VaultClient]:
    """The vault, as anybody sees it who has a wallet."""
    snapshot = deployed.rpc.request("evm_snapshot")
    yield VaultClient(deployed.rpc, deployed.address, Wallet(dev_key(2)))
    assert deployed.rpc.request("evm_revert", snapshot) is True
