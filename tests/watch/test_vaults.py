# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue of two vaults, and one whose genesis misstates its vault: what an attestor signs, and when."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.client.http import ApiClient
from clearing.model import commands as c
from clearing.model.params import Params
from clearing.service.layout import create_keys
from clearing.watch.attestor import Attestor, Settings
from tests.nodes import ChainNode, catch_up, start_node
from tests.service.chains import DEAD, DEADLINE_S, Deployed, deploy_place, deploy_venue, take_in, trade
from tests.service.world import USD, address_of, make_data_dir
from tests.watch.gate import Served
from tests.watch.scene import FUNDED, SILENT, WATCHERS, codes

pytestmark = pytest.mark.slow

NAMED: dict[str, Any] = {"attestors": tuple(wallet.address for wallet in WATCHERS), "threshold": 1}


@pytest.fixture(scope="module")
def evms(evm: ChainNode) -> Iterator[list[ChainNode]]:
    second = start_node(fund=FUNDED)
    yield [evm, second]
    second.stop()


class Watch:
    """An attestor of several vaults, `urls` being their chains' endpoints, and the operator that it follows."""

    def __init__(self, deployed: Deployed, folder: Path) -> None:
        self.deployed, self.folder, self.node = deployed, folder, deployed.node()
        take_in(self.node)
        trade(self.node)
        self.served = Served(self.node)
        self._opened: list[Attestor | Rpc | ApiClient] = []

    def attestor(self, name: str, *places: tuple[int, str]) -> Attestor:
        client = ApiClient(self.served.url)
        rpcs = [Rpc(url or self.deployed.places[number].rpc.url, attempts=1) for number, url in places]
        addresses = [self.deployed.places[number].vault.address for number, _ in places]
        vaults = [VaultClient(rpc, at, WATCHERS[0]) for rpc, at in zip(rpcs, addresses, strict=True)]
        settings = Settings(grace_s=30.0, alarm_s=0)
        made = Attestor(self.folder / name, client, vaults, WATCHERS[0], settings, SILENT)
        self._opened += [made, client, *rpcs]
        return made

    def signed(self, name: str) -> list[str]:
        return sorted(path.stem for path in (self.folder / name / "signed").iterdir())

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self.served.stop()
        self.node.close()
        for place in self.deployed.places:
            place.rpc.close()


@pytest.fixture
def watch(evms: list[ChainNode], tmp_path: Path) -> Iterator[Watch]:
    deployed = deploy_venue(tmp_path / "venue", evms, **NAMED)
    for place in deployed.places:
        catch_up(place.rpc)
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 3_000 * USD, 1)
    running = Watch(deployed, tmp_path)
    yield running
    running.close()


def test_a_header_is_signed_only_with_every_chain_in_view(watch: Watch) -> None:
    """A vault that is not watched, or whose chain does not answer from the start, may be frozen with its payouts not
    yet debited: nothing is signed for the others. Each vault is matched though another's chain is dead; with all in
    view both headers are signed, each once."""
    watch.node.poster.turn()
    half = watch.attestor("half", (0, ""))
    half.turn()
    assert codes(half) == ["VAULT_UNWATCHED"] and watch.signed("half") == []
    dead = watch.attestor("dead", (0, DEAD), (1, ""))
    dead.turn()
    assert codes(dead) == ["RPC_UNREACHABLE", "VAULT_UNWATCHED"] and watch.signed("dead") == []
    assert [row["vault"] for row in dead.status()["vaults"]] == [1]
    whole = watch.attestor("whole", (1, ""), (0, ""))
    whole.turn()
    assert codes(whole) == [] and watch.signed("whole") == ["0000000001-0", "0000000001-1"]
    watch.node.poster.post_missing()
    assert [place.vault.epoch_count() for place in watch.deployed.places] == [1, 1]
    whole.turn()
    assert [row["agreed_epochs"] for row in whole.status()["vaults"]] == [1, 1]


def test_nothing_is_signed_until_a_frozen_vault_is_settled(watch: Watch) -> None:
    """Vault 1 freezes; before its payouts are debited in the journal vault 0's next header is not signed, afterwards it
    is, and no header is asked of the frozen one."""
    whole = watch.attestor("whole", (0, ""), (1, ""))
    for _ in range(2):
        watch.node.poster.turn()
        whole.turn()
        watch.node.poster.post_missing()
    assert watch.signed("whole")[-1] == "0000000002-1"
    place = watch.deployed.places[1]
    before = watch.node.pipeline.reducer.state.epoch
    watch.node.operator.run(c.CloseEpoch(before + 1, tuple(blocks(watch))))
    place.pass_time(DEADLINE_S + 1)
    place.vault.freeze()
    watch.node.book.flush()
    whole.turn()
    assert codes(whole) == ["VAULT_FROZEN", "ESCAPE_UNSETTLED"]
    assert len(watch.signed("whole")) == 4
    assert watch.node.freezes[1].turn() is True
    watch.node.poster.post_missing()
    whole.turn()
    assert watch.signed("whole")[4:] == ["0000000003-0"] and codes(whole) == ["VAULT_FROZEN", "ESCAPE_UNSETTLED"]


def blocks(watch: Watch) -> Iterator[tuple[int, bytes]]:
    for place in watch.deployed.places:
        block = place.rpc.block(place.rpc.block_number() - 1)
        yield block.number, block.hash


@pytest.mark.parametrize(
    "said",
    [{"threshold": 2}, {"attestors": NAMED["attestors"][1:]}],
)
def test_a_genesis_that_misstates_the_attestors_is_signed_by_none(
    evm: ChainNode, tmp_path: Path, said: dict[str, Any]
) -> None:
    """Another threshold or another set than the contract's: an alert that names both, and no signature."""
    operator = address_of(create_keys(tmp_path / "venue").operator_secp256k1)
    place = deploy_place(evm, operator, Wallet(dev_key(4)), **NAMED)
    fields = NAMED | said
    spec = c.Vault(
        place.rpc.chain_id(), place.vault.address, tuple(place.vault.tokens()), fields["attestors"], fields["threshold"]
    )
    make_data_dir(tmp_path / "venue", vaults=(spec,), params=Params(oracle_max_age_us=3_600_000_000))
    deployed = Deployed(tmp_path / "venue", [place])
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 3_000 * USD)
    watch = Watch(deployed, tmp_path)
    watch.node.book.flush()
    attestor = watch.attestor("one", (0, ""))
    attestor.turn()
    assert codes(attestor) == ["GENESIS_DIFFERS"]
    assert ("threshold" if "threshold" in said else "attestors") in attestor.alerts[0]["message"]
    watch.node.operator.run(c.CloseEpoch(1, tuple(blocks(watch))))
    watch.node.poster.post_missing()
    assert all(place.vault.diff_block(digest) for digest in watch.node.book.load(1).part(0).chunk_hashes)
    attestor.turn()
    assert list(attestor.follower.epochs) == [1] and watch.signed("one") == []
    watch.close()
