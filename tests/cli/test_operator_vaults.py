# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate` over two chains: deploy with attestors and bonds, set up, run, rotate, audit; all as processes."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearing.chain.embedded import EmbeddedEvm, start_embedded
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.cli.stage import Operator, wait_for
from clearing.client.http import ApiClient
from clearing.service.layout import Layout
from clearing.service.recover import open_store, read_genesis
from tests.cli.venue import Result, checked, command_line

pytestmark = pytest.mark.slow

CHAINS = (31_337, 31_338)
WATCHER = "0x" + "77" * 20


@dataclass
class Scene:
    """Two vaults of one deployment, deployed by one wallet."""

    folder: Path
    evms: list[EmbeddedEvm]
    payer: Path
    address: str
    vaults: list[str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def pairs(self) -> list[str]:
        """--rpc and --vault, once per vault."""
        rows = zip(self.evms, self.vaults, strict=True)
        return [word for evm, vault in rows for word in ("--rpc", evm.url, "--vault", vault)]

    def on(self, number: int) -> list[str]:
        return ["--rpc", self.evms[number].url, "--vault", self.vaults[number], "--wallet", str(self.payer)]

    @contextmanager
    def client(self, number: int) -> Iterator[VaultClient]:
        with Rpc(self.evms[number].url) as rpc:
            yield VaultClient(rpc, bytes.fromhex(self.vaults[number][2:]))


def run(*arguments: str) -> Result:
    return checked(command_line(*arguments), "--json" in arguments)


def ok(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.status == 0, f"{' '.join(arguments)} exited {result.status}: {result.err}"
    return result


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("two")
    payer = folder / "payer.wallet"
    address = ok("key", "new", str(payer), "--wallet", "--json").data["address"]
    operator = ok("operator", "keys", str(folder / "data"), "--json").data["operator_address"]
    funded = [bytes.fromhex(one[2:]) for one in (address, operator)]
    evms = [start_embedded(fund=funded, chain_id=chain, idle_exit_s=600) for chain in CHAINS]
    found = Scene(folder, evms, payer, address, [])
    identity = "0x" + "5a" * 32
    for number, evm in enumerate(evms):
        deployed = ok(
            "vault", "deploy", "--rpc", evm.url, "--wallet", str(payer), "--operator", operator,
            "--treasury", address, "--deployment", identity, "--governor", address,
            "--veto-bond", "0.25", "--operator-bond", "1.5", "--post-bond", "--float-cap", "100", "--json",
        ).data  # fmt: skip
        found.vaults.append(deployed["vault"])
        assert deployed["operator_bond_wei"] == 15 * 10**17, number
    ok("operator", "init", str(found.data), *found.pairs(), "--confirmations", "0")
    yield found
    for evm in evms:
        evm.stop()


def test_genesis_says_what_the_vaults_say(scene: Scene) -> None:
    """Both vaults in the order given, with their governor; config.toml names an endpoint for each."""
    store = open_store(Layout(scene.data), 1 << 40, read_only=True)
    genesis = read_genesis(store)
    store.close()
    assert [(spec.chain_id, "0x" + spec.address.hex()) for spec in genesis.vaults] == list(
        zip(CHAINS, scene.vaults, strict=True)
    )
    assert all(spec.governor == bytes.fromhex(scene.address[2:]) for spec in genesis.vaults)
    assert [spec.threshold for spec in genesis.vaults] == [0, 0]
    config = tomllib.loads((scene.data / "config.toml").read_text())
    assert [vault["rpc_urls"] for vault in config["vaults"]] == [[evm.url] for evm in scene.evms]
    checked_vault = ok("vault", "verify", *scene.pairs()[4:], "--journal", str(scene.data))
    assert "genesis: vault: number 1 of 2" in checked_vault.out


def test_two_chains_run_rotate_and_replay(scene: Scene) -> None:
    """Deposits on both chains, common epochs on both, keys rotated on both, and an audit that compares both."""
    folder = scene.folder / "run"
    folder.mkdir()
    running = Operator(scene.data, folder, 1)
    try:
        url = running.url()
        for number in (0, 1):
            ok("vault", "mint", "5000", *scene.on(number))
            ok("deposit", "1000", *scene.on(number))
        with ApiClient(url) as client:
            wait_for(lambda: client.status()["inbox_count"] == 2, "both deposits to arrive")
            epoch = int(client.status()["epoch"]) + 1
            wait_for(lambda: int(client.status()["posted_epoch"]) >= epoch, "an epoch on both chains")
            status = client.status()
            assert [row["inbox_count"] for row in status["vaults"]] == [1, 1]
            assert [row["held_atoms"] for row in status["assets"]] == [str(10**9)] * 2
        rotated = ok("operator", "rotate", str(scene.data), "--api", url, "--json").data
        assert len(rotated["transactions"]) == 2
        for number in (0, 1):
            with scene.client(number) as vault:
                assert "0x" + vault.operator().hex() == rotated["operator_address"]
        part = ok("audit", "replay", "--api", url, *scene.pairs()[:4])
        assert "every posted root is the journal's (of 1 of 2 vaults)" in part.out
        whole = ok("audit", "replay", "--api", url, *scene.pairs(), "--json").data
        assert whole["ok"] and whole["vaults_compared"] == whole["vaults"] == 2
    finally:
        running.kill()


def test_the_float_is_funded_and_told(scene: Scene) -> None:
    """What vouchers are paid from comes from whoever gives it."""
    ok("vault", "mint", "50", *scene.on(1))
    found = ok("vault", "fund-float", "12.5", *scene.on(1), "--json").data
    assert found["float_atoms"] == 12_500_000
    with scene.client(1) as vault:
        assert vault.float_cap(0) == 100_000_000
    more = ok("vault", "post-bond", "0.5", *scene.on(1), "--json").data
    assert more["bond_wei"] == 2 * 10**18 and more["required_wei"] == 15 * 10**17


def test_a_wind_down_ends_on_every_chain_and_can_be_watched_again(scene: Scene) -> None:
    """Asked about first; then halted, paid and posted on both chains, while the command tells how far it is. Running it
    again finds it over, and everyone claims."""
    folder = scene.folder / "end"
    folder.mkdir()
    running = Operator(scene.data, folder, 3_600)
    try:
        url = running.url()
        place = ("operator", "wind-down", str(scene.data), "--api", url)
        asked = run(*place)
        assert (asked.status, asked.code) == (1, "NOT_CONFIRMED") and "ends the venue for good" in asked.err
        begun = ok(*place, "--yes", "--no-wait", "--reason", "it was a good run", "--json").data
        assert begun["reason"] == "it was a good run"
        over = ok(*place, "--timeout", "60", "--json")
        assert over.data["over"] and "begun already" in over.err
        final = over.data["final_epoch"]
        assert [row["posted_epoch"] for row in over.data["vaults"]] == [final, final]
        again = ok(*place)
        assert "over" in again.out and str(final) in again.out
    finally:
        running.kill()
    for number in (0, 1):
        with scene.client(number) as vault:
            assert vault.epoch_count() == final


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attestor", WATCHER, "--threshold", "2"], "more than there are attestors"),
        (["--attestor", "0x12"], "is not an address"),
        (["--veto-bond", "1e3"], "decimal amount of ether"),
        (["--float-cap", "1", "--float-cap", "2"], "give one for each"),
    ],
)
def test_what_no_vault_can_have_is_refused_at_once(scene: Scene, arguments: list[str], says: str) -> None:
    """Before anything is sent."""
    who = ["--operator", scene.address, "--treasury", scene.address]
    found = run("vault", "deploy", "--rpc", scene.evms[0].url, "--wallet", str(scene.payer), *who, *arguments)
    assert found.status == 2 and says in " ".join(found.err.split())
