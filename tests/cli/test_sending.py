# SPDX-License-Identifier: GPL-3.0-or-later
"""Payments by command line: cut off and repeated with --outbox, and sent through several endpoints of one chain."""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import dev_key, start_embedded
from clearing.chain.outbox import Outbox, Waiting
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from tests.cli.venue import DEAD, Result, checked, command_line
from tests.exit.proxy import lying_endpoint

PAYER = Wallet(dev_key(0))
USD = 1_000_000


@dataclass
class Scene:
    """A vault and a wallet that holds its token."""

    rpc: Rpc
    vault: VaultClient
    folder: Path

    @property
    def outbox(self) -> Path:
        return self.folder / "outbox"

    def run(self, *arguments: str, rpc: str = "") -> Result:
        env = {"NOVATE_RPC": rpc or self.rpc.url, "NOVATE_VAULT": "0x" + self.vault.address.hex()}
        env["NOVATE_WALLET"] = str(self.folder / "wallet")
        return checked(command_line(*arguments, env=env, cwd=self.folder), "--json" in arguments)

    def pay(self, *arguments: str) -> dict[str, Any]:
        """A payment with the outbox, as JSON."""
        done = self.run(*arguments, "--outbox", str(self.outbox), "--json")
        assert done.status == 0, done.err
        found: dict[str, Any] = done.data
        return found

    def paid(self) -> int:
        return self.vault.holdings(0)

    def left(self) -> list[str]:
        """Names of what the outbox remembers."""
        return [path.name for path in self.outbox.glob("*.json")]

    def cut_off(self) -> VaultClient:
        """The vault as a process uses it that will not see the end of what it sends; its memory is the outbox."""
        return VaultClient(Rpc(self.rpc.url), self.vault.address, PAYER, folder=self.outbox)


@pytest.fixture(scope="module")
def chain() -> Iterator[Rpc]:
    evm = start_embedded(idle_exit_s=600)  # mines before it answers, which these tests need
    with Rpc(evm.url) as rpc:
        yield rpc
    evm.stop()


@pytest.fixture(scope="module")
def deployed(chain: Rpc) -> VaultClient:
    token = deploy_token(chain, PAYER)
    mint(chain, PAYER, token, PAYER.address, 10**12)
    return deploy_vault(chain, PAYER, VaultParams(b"\x01" * 32, PAYER.address, b"\x02" * 20, [token], 3_600, 60))


@pytest.fixture
def scene(chain: Rpc, deployed: VaultClient, tmp_path: Path) -> Scene:
    PAYER.save(tmp_path / "wallet")
    return Scene(chain, deployed, tmp_path)


# -- once, over several runs


@pytest.mark.slow
def test_a_deposit_that_was_mined_while_nobody_waited_is_not_paid_twice(scene: Scene) -> None:
    """The same command tells what became of it, approves nothing, and pays again only when it is run again."""
    client, before = scene.cut_off(), scene.paid()
    client.approve(0, 30 * USD)
    client.sender().submit(client.address, client.abi.call("deposit", 0, 30 * USD, PAYER.address))
    client.rpc.close()
    assert len(scene.left()) == 1 and scene.paid() == before + 30 * USD
    found = scene.pay("deposit", "30")
    assert found["sent_before"] is True and scene.paid() == before + 30 * USD
    assert scene.left() == [] and scene.vault.allowance(0) == 0
    again = scene.pay("deposit", "30")
    assert again["sent_before"] is False and again["transaction"] != found["transaction"]
    assert scene.paid() == before + 60 * USD and scene.left() == []


@pytest.mark.slow
def test_a_float_that_was_never_handed_to_a_node_is_sent_by_the_next_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ended between writing it down and sending it: it goes out under the nonce it was signed for."""
    client, before = scene.cut_off(), scene.vault.float_of(0)
    client.approve(0, 7 * USD)

    def kept(_: Outbox, item: Waiting) -> None:
        item.accepted = True

    monkeypatch.setattr(Outbox, "_submit", kept)
    client.sender().submit(client.address, client.abi.call("fundFloat", 0, 7 * USD))
    monkeypatch.undo()
    client.rpc.close()
    assert scene.vault.float_of(0) == before and len(scene.left()) == 1
    assert scene.pay("vault", "fund-float", "7")["sent_before"] is True
    assert scene.vault.float_of(0) == before + 7 * USD and scene.left() == []


@pytest.mark.slow
def test_another_payment_is_not_taken_for_the_one_that_waits(scene: Scene) -> None:
    """Another amount is paid; what was sent before stays on record for the command that asks for it."""
    client, before = scene.cut_off(), scene.vault.operator_bond()
    client.sender().submit(client.address, client.abi.call("postBond"), 5)
    client.rpc.close()
    assert scene.pay("vault", "post-bond", "0.000000000000000003")["sent_before"] is False
    assert scene.vault.operator_bond() == before + 8 and len(scene.left()) == 1
    assert scene.pay("vault", "post-bond", "0.000000000000000005")["sent_before"] is True
    assert scene.vault.operator_bond() == before + 8 and scene.left() == []


@pytest.mark.slow
def test_an_allowance_of_an_earlier_run_does_not_answer_for_a_new_one(scene: Scene) -> None:
    """It was mined unseen and used up since; the deposit approves anew instead of being refused."""
    client, before = scene.cut_off(), scene.paid()
    token = scene.vault.tokens()[0]
    client.sender().submit(token, client._token_abi.call("approve", client.address, 11 * USD))
    client.rpc.close()
    scene.vault.send("deposit", 0, 11 * USD, PAYER.address)
    assert scene.vault.allowance(0) == 0 and len(scene.left()) == 1
    assert scene.pay("deposit", "11")["sent_before"] is False
    assert scene.paid() == before + 22 * USD and scene.left() == []


@pytest.mark.slow
def test_what_was_refused_is_told_once_and_can_be_sent_again(scene: Scene) -> None:
    """A deposit that an earlier run sent and the contract refused stands in nobody's way."""
    client, before = scene.cut_off(), scene.paid()
    client.sender().submit(client.address, client.abi.call("deposit", 0, 13 * USD, PAYER.address), gas=400_000)
    client.rpc.close()
    told = scene.run("deposit", "13", "--outbox", str(scene.outbox))
    assert (told.status, told.code) == (1, "TX_REVERTED") and "InsufficientAllowance" in told.err
    assert scene.left() == []
    assert scene.pay("deposit", "13")["sent_before"] is False and scene.paid() == before + 13 * USD


@pytest.mark.slow
def test_one_command_at_a_time_uses_an_outbox(scene: Scene) -> None:
    """The second one is refused before it sends anything."""
    scene.outbox.mkdir()
    before = scene.paid()
    with (scene.outbox / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        busy = scene.run("deposit", "1", "--outbox", str(scene.outbox))
    assert (busy.status, busy.code) == (1, "OUTBOX_BUSY") and scene.paid() == before


# -- several endpoints


@pytest.mark.slow
def test_endpoints_that_agree_serve_and_a_dead_one_is_passed_over(scene: Scene) -> None:
    """A payment and a verification through three endpoints of one chain, of which one is down."""
    before = scene.paid()
    with lying_endpoint(scene.rpc.url, lambda method, params, result: result) as other:
        rpc = f"{scene.rpc.url},{other},{DEAD}"
        assert scene.run("vault", "verify", rpc=rpc).status == 0
        paid = scene.run("deposit", "21", "--json", rpc=rpc)
    assert paid.status == 0, paid.err
    assert scene.paid() == before + 21 * USD


@pytest.mark.parametrize(
    "arguments",
    [
        ("vault", "verify"),
        ("deposit", "1"),
        ("exit", "--owner", "0x" + "11" * 20, "--dry-run"),
        ("operator", "init", "data"),
    ],
)
@pytest.mark.slow
def test_an_endpoint_that_lies_about_the_vault_is_caught(scene: Scene, arguments: tuple[str, ...]) -> None:
    """Another code there, another answer of the contract: nothing is done, and both endpoints are named."""
    before = scene.paid()

    def alter(method: str, params: list[Any], result: Any) -> Any:
        return result[:-2] + "ff" if method in ("eth_getCode", "eth_call") else result

    with lying_endpoint(scene.rpc.url, alter) as liar:
        done = scene.run(*arguments, rpc=f"{scene.rpc.url},{liar}")
    assert (done.status, done.code) == (4, "RPC_DISAGREE"), done.err
    assert liar in done.err and scene.rpc.url in done.err and scene.paid() == before
