# SPDX-License-Identifier: GPL-3.0-or-later
"""Vouchers: what the operator countersigns, and that the contract pays exactly that."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.chain.wallet import Wallet, voucher_digest
from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.node import Node
from clearing.service.vouchers import Signed
from proofs.inbox import Voucher
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEADLINE_S, Deployed, Web, command, deploy_venue, publish, refusal, register, take_in
from tests.service.world import TREASURY, USD, owner_of, seed_of

FLOAT = 500 * USD
CAP = 400 * USD


@pytest.fixture(scope="module")
def evm() -> Iterator[ChainNode]:
    running = start_node()
    yield running
    running.stop()


@pytest.fixture
def deployed(evm: ChainNode, tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", [evm], float_caps=[CAP])
    venue.deposit("alice", 1_000 * USD)
    venue.vault.fund_float(0, FLOAT)
    yield venue
    venue.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    """Alice has 300 dollars acknowledged."""
    running = deployed.node()
    take_in(running)
    publish(running)
    register(running, "alice")
    command(running, "alice", c.Withdraw(0, 0, 300 * USD))
    yield running
    running.close()


def expiry() -> int:
    """Past what the tests move the chain's clock by."""
    return int(time.time()) + 10 * 3_600


def signed(deployed: Deployed, cumulative: int, until: int, signer: str = "alice") -> bytes:
    """The owner's signature over a voucher of alice's."""
    vault = deployed.vault
    voucher = Voucher(vault.domain(), owner_of("alice"), 0, cumulative, until)
    return Wallet(seed_of(signer)).sign_digest(voucher_digest(deployed.rpc.chain_id(), vault.address, voucher))


def ask(deployed: Deployed, node: Node, cumulative: int, until: int = 0, signer: str = "alice") -> Signed:
    until = until or expiry()
    signature = signed(deployed, cumulative, until, signer)
    return node.vouchers.countersign(0, 0, cumulative, until, owner_of("alice"), signature)


def code(deployed: Deployed, node: Node, cumulative: int, until: int = 0, signer: str = "alice") -> str:
    return refusal(lambda: ask(deployed, node, cumulative, until, signer))


def redeem(deployed: Deployed, found: Signed) -> None:
    voucher = Voucher(deployed.vault.domain(), found.owner, found.asset, found.cumulative, found.expiry)
    deployed.vault.redeem_voucher(voucher, found.owner_signature, found.operator_signature)


def test_an_acknowledged_withdrawal_is_paid_before_its_epoch(deployed: Deployed, node: Node) -> None:
    """Both signatures satisfy the contract, which pays the owner at once; the next voucher adds to it."""
    vault = deployed.vault
    redeem(deployed, ask(deployed, node, 100 * USD))
    assert vault.token_balance(0, owner_of("alice")) == 100 * USD
    redeem(deployed, ask(deployed, node, 300 * USD))
    assert vault.token_balance(0, owner_of("alice")) == 300 * USD
    assert vault.float_of(0) == FLOAT - 300 * USD


def test_no_more_than_was_acknowledged(deployed: Deployed, node: Node) -> None:
    """One atom above the acknowledged withdrawals is refused; acknowledged later, it is granted."""
    assert code(deployed, node, 300 * USD + 1) == "VOUCHER_TOO_HIGH"
    command(node, "alice", c.Withdraw(0, 0, 1))
    assert ask(deployed, node, 300 * USD + 1).cumulative == 300 * USD + 1


def test_figures_never_cross_not_even_after_a_restart(deployed: Deployed, node: Node) -> None:
    """Once a figure is signed, a lower one is refused and the higher one named, in this process and the next."""
    until = expiry()
    ask(deployed, node, 200 * USD, until)
    with pytest.raises(NovateError, match=str(200 * USD)) as raised:
        ask(deployed, node, 150 * USD, until)
    assert raised.value.code == "VOUCHER_TOO_LOW"
    node.close()
    again = deployed.node()
    assert code(deployed, again, 150 * USD) == "VOUCHER_TOO_LOW"
    assert ask(deployed, again, 200 * USD, until + 9).expiry == until + 9
    assert code(deployed, again, 200 * USD, until) == "VOUCHER_TOO_LOW"
    again.close()


def test_it_is_on_disk_before_anyone_has_it(deployed: Deployed, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the figure cannot be written, no signature leaves; a lower one may still be signed then."""

    def full(*_: object) -> None:
        raise NovateError("DISK_FULL", "no space")

    with monkeypatch.context() as patch:
        patch.setattr("clearing.service.vouchers.write_durably", full)
        assert code(deployed, node, 250 * USD) == "DISK_FULL"
    assert ask(deployed, node, 100 * USD).cumulative == 100 * USD


def test_float_and_cap_bound_what_is_promised(deployed: Deployed, node: Node) -> None:
    """A voucher that the contract could not pay is not signed: above the hourly cap, or above what the float holds."""
    command(node, "alice", c.Withdraw(0, 0, 350 * USD))
    assert code(deployed, node, CAP + 1) == "OUTFLOW_CAPPED"
    assert code(deployed, node, FLOAT + 1) == "FLOAT_TOO_LOW"
    assert ask(deployed, node, CAP).cumulative == CAP


def test_what_was_claimed_is_not_advanced_again(deployed: Deployed, node: Node) -> None:
    """Claims count against the acknowledged sum: else the float would pay what nothing repays."""
    from clearing.exit.rebuild import rebuild

    node.poster.turn()
    deployed.places[0].pass_time(61)
    tree = rebuild(deployed.vault, 1)
    assert tree is not None
    leaf = tree.leaf_of(owner_of("alice"))
    assert leaf is not None
    deployed.vault.claim(tree.claim(leaf))
    assert deployed.vault.claimed_of(owner_of("alice"), 0) == 300 * USD
    assert code(deployed, node, 1 * USD) == "VOUCHER_TOO_HIGH"
    command(node, "alice", c.Withdraw(0, 0, 40 * USD))
    assert ask(deployed, node, 40 * USD).cumulative == 40 * USD
    assert code(deployed, node, 40 * USD + 1) == "VOUCHER_TOO_HIGH"


def test_only_the_owner_may_ask_and_only_for_a_while(deployed: Deployed, node: Node) -> None:
    """Another wallet's signature, a past or far expiry, an unknown vault, asset or owner, and the house are refused."""
    assert code(deployed, node, USD, signer="bob") == "BAD_SIGNATURE"
    assert code(deployed, node, USD, 1) == "VOUCHER_EXPIRY"
    assert code(deployed, node, USD, expiry() + 10**6) == "VOUCHER_EXPIRY"
    sign = node.vouchers.countersign
    assert refusal(sign, 1, 0, USD, expiry(), owner_of("alice"), bytes(65)) == "UNKNOWN_VAULT"
    assert refusal(sign, 0, 1, USD, expiry(), owner_of("alice"), bytes(65)) == "UNKNOWN_ASSET"
    assert refusal(sign, 0, 0, USD, expiry(), owner_of("nobody"), bytes(65)) == "UNKNOWN_OWNER"
    assert refusal(sign, 0, 0, USD, expiry(), TREASURY, bytes(65)) == "HOUSE_LOCKED"


def test_a_frozen_vault_gets_no_vouchers(deployed: Deployed, node: Node) -> None:
    """Neither while only the chain knows of the freeze, nor when the journal does."""
    deployed.places[0].pass_time(DEADLINE_S + 1)
    deployed.vault.freeze()
    assert code(deployed, node, USD) == "VAULT_FROZEN"
    node.freezes[0].turn()
    assert code(deployed, node, USD) == "VAULT_FROZEN"


def test_vouchers_are_served_over_http(deployed: Deployed, node: Node) -> None:
    """A POST with the owner's signature gets the operator's; amounts may be decimal strings; refusals have codes."""
    client = Web(node)
    until = expiry()
    signature = signed(deployed, 120 * USD, until)
    body = {"vault": 0, "asset": 0, "cumulative": str(120 * USD), "expiry": until}
    body |= {"owner": "0x" + owner_of("alice").hex(), "signature": "0x" + signature.hex()}
    answer = client.post("/v1/vouchers", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["cumulative"] == str(120 * USD) and found["domain"] == "0x" + deployed.vault.domain().hex()
    operator = bytes.fromhex(found["operator_signature"][2:])
    redeem(deployed, Signed(0, 0, owner_of("alice"), 120 * USD, until, signature, operator))
    for change, code in (
        ({"cumulative": "9" * 19}, "BAD_PARAMETER"),
        ({"cumulative": 121 * USD}, "BAD_SIGNATURE"),
        ({"owner": "0x12"}, "BAD_PARAMETER"),
        ({"vault": -1}, "BAD_PARAMETER"),
        ({"asset": 4}, "UNKNOWN_ASSET"),
    ):
        refused = client.post("/v1/vouchers", json=body | change)
        assert (refused.status_code // 100, refused.json()["code"]) == (4, code), change
