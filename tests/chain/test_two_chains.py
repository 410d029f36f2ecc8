# SPDX-License-Identifier: GPL-3.0-or-later
"""Two embedded chains side by side: nothing signed for one counts on the other."""

from collections.abc import Iterator

import pytest

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, require_verified, verify_deployment
from clearing.chain.embedded import EmbeddedEvm, dev_key, start_embedded
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.wallet import Wallet, attestation_digest, checkpoint_digest

pytestmark = pytest.mark.slow

ANYBODY = bytes(19) + b"\xc2"


@pytest.fixture(scope="module")
def chains() -> Iterator[tuple[EmbeddedEvm, EmbeddedEvm]]:
    running = tuple(start_embedded(chain_id=n, dev_accounts=2, idle_exit_s=300) for n in (31_337, 31_338))
    yield running[0], running[1]
    for evm in running:
        evm.stop()


def test_each_chain_has_its_own_id_state_and_clock(chains: tuple[EmbeddedEvm, EmbeddedEvm], wallet: Wallet) -> None:
    with Rpc(chains[0].url) as one, Rpc(chains[1].url) as two:
        assert (one.chain_id(), two.chain_id()) == (31_337, 31_338)
        assert Sender(one, wallet).send(ANYBODY, b"", value=3).ok
        assert (one.balance(ANYBODY), two.balance(ANYBODY)) == (3, 0)
        one.request("evm_increaseTime", 100_000)
        one.request("evm_mine")
        assert one.block().time_s - two.block().time_s > 90_000
        with pytest.raises(ChainError, match="WRONG_CHAIN"):
            two.require_chain(31_337)


def test_a_vault_of_one_chain_is_another_one_on_the_other(chains: tuple[EmbeddedEvm, EmbeddedEvm]) -> None:
    """Same deployment, same address, same code: the domains differ, and so does everything signed in them."""
    wallet = Wallet(dev_key(1))
    vaults = []
    for evm in chains:
        with Rpc(evm.url) as rpc:
            token = deploy_token(rpc, wallet)
            params = VaultParams(b"\x01" * 32, wallet.address, b"\x0f" * 20, [token], 3_600, 60)
            vault = deploy_vault(rpc, wallet, params)
            require_verified(verify_deployment(rpc, vault.address, params))
            vaults.append((rpc.chain_id(), vault.address, vault.domain()))
    assert vaults[0][1] == vaults[1][1]
    assert vaults[0][2] != vaults[1][2]
    digests = [attestation_digest(chain, address, b"\x07" * 32) for chain, address, _ in vaults]
    assert digests[0] != digests[1]
    # A checkpoint binds the deployment and no chain: it has no chain to differ in.
    assert checkpoint_digest(b"\x01" * 32, 1, bytes(32)) != checkpoint_digest(b"\x02" * 32, 1, bytes(32))


def test_a_transaction_signed_for_one_chain_is_refused_by_the_other(
    chains: tuple[EmbeddedEvm, EmbeddedEvm], wallet: Wallet
) -> None:
    with Rpc(chains[1].url) as two:
        prices = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
        fields = {"type": 2, "chainId": 31_337, "nonce": 0, "gas": 21_000, "value": 1, "data": b"", "to": ANYBODY}
        with pytest.raises(ChainError, match="TX_REFUSED"):
            two.send_raw(wallet.sign_transaction(fields | prices)[0])
