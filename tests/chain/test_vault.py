# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's client against the compiled vault on the embedded EVM."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import contracts
from clearing.chain.abi import encode, interface
from clearing.chain.deploy import (
    VaultParams,
    deploy_token,
    deploy_vault,
    libraries_of,
    mint,
    require_verified,
    verify_deployment,
)
from clearing.chain.embedded import EmbeddedEvm, dev_key
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet

ALICE, BOB = bytes(19) + b"\xa1", bytes(19) + b"\xb0"


class Scene(NamedTuple):
    rpc: Rpc
    vault: VaultClient
    params: VaultParams


@pytest.fixture(scope="module")
def scene_of_module(evm: EmbeddedEvm) -> Iterator[Scene]:
    with Rpc(evm.url) as rpc:
        wallet, before = Wallet(dev_key(0)), rpc.request("evm_snapshot")
        tokens = [deploy_token(rpc, wallet), deploy_token(rpc, wallet, "Other", "OTH")]
        for token in tokens:
            mint(rpc, wallet, token, wallet.address, 10**12)
        fixed = b"\x11" * 32, wallet.address, b"\x22" * 20, tokens, 3_600, 60, 10, 1_000
        params = VaultParams(*fixed, seconding_s=90, float_caps=(5, 6))
        yield Scene(rpc, deploy_vault(rpc, wallet, params), params)
        assert rpc.request("evm_revert", before) is True


@pytest.fixture
def scene(scene_of_module: Scene) -> Iterator[Scene]:
    snapshot = scene_of_module.rpc.request("evm_snapshot")
    yield scene_of_module
    assert scene_of_module.rpc.request("evm_revert", snapshot) is True


@pytest.mark.slow
def test_a_fresh_vault_reads_as_deployed(scene: Scene) -> None:
    vault, params = scene.vault, scene.params
    assert (vault.frozen(), vault.epoch_count(), vault.inbox_count(), vault.finalised_epoch()) == (
        False,
        0,
        0,
        0,
    )
    assert (vault.deployment_id(), vault.operator(), vault.treasury()) == params[:3]
    assert vault.tokens() == params.tokens
    assert (vault.deadline_s(), vault.challenge_window_s()) == (3_600, 60)
    assert vault.inbox_hash(0) == vault.header_hash(1) == bytes(32)
    assert vault.freeze_at_s() == scene.rpc.block(vault.first_block()).time_s + 3_600
    assert not vault.inbox() and not vault.epochs()


def test_deposits_are_read_back_from_any_index_and_follow_the_rolling_hash(scene: Scene) -> None:
    vault = scene.vault
    wanted = [(ALICE, 0, 100), (BOB, 1, 200), (ALICE, 1, 300), (BOB, 0, 400), (ALICE, 0, 500)]
    for owner, asset, amount in wanted:
        vault.deposit(asset, amount, owner)
    for first in range(len(wanted) + 2):
        messages = vault.inbox(first)
        assert [(m.owner, m.asset, m.amount) for m, _, _ in messages] == wanted[first:]
        assert [m.index for m, _, _ in messages] == list(range(first, len(wanted)))
    everything = vault.inbox()
    assert everything[-1].rolling_hash == vault.inbox_hash(5)
    assert [vault.holdings(a) for a in range(2)] == [1_000, 500]
    assert vault.token_balance(0, vault.address) == 1_000
    middle = everything[2].block_number
    assert vault.inbox(1, to_block=middle) == everything[1:3]


def test_a_deposit_approves_exactly_its_amount(scene: Scene) -> None:
    scene.vault.deposit(0, 123, ALICE)
    assert scene.vault.allowance(0) == 0


@pytest.mark.parametrize(
    ("asset", "amount", "code", "reason"),
    [
        (0, 0, "TX_REVERTED", "ZeroAmount"),
        (0, 9, "TX_REVERTED", "FirstDepositTooSmall"),
        (0, 10**13, "TX_REVERTED", "ERC20InsufficientBalance"),
        (2, 5, "INVALID_ARGUMENT", ""),
        (-1, 5, "INVALID_ARGUMENT", ""),
        (0, -5, "INVALID_ARGUMENT", ""),
        (0, 2**128, "INVALID_ARGUMENT", ""),
    ],
)
def test_refused_deposits_name_the_contracts_error(
    scene: Scene, asset: int, amount: int, code: str, reason: str
) -> None:
    with pytest.raises(ChainError) as caught:
        scene.vault.deposit(asset, amount, ALICE)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert reason in caught.value.message


def test_a_freeze_is_refused_before_the_deadline_and_done_after_it(scene: Scene) -> None:
    vault = scene.vault
    with pytest.raises(ChainError) as caught:
        vault.freeze()
    assert caught.value.reason == "DeadlineNotPassed"
    assert str(vault.freeze_at_s()) in caught.value.message
    scene.rpc.request("evm_increaseTime", vault.freeze_at_s() - scene.rpc.time_s())
    vault.freeze()
    assert vault.frozen()
    assert vault.escape_epoch() == 0
    assert vault.frozen_at_s() >= vault.freeze_at_s()


def test_deposits_are_refunded_after_a_freeze_without_any_header(scene: Scene) -> None:
    vault = scene.vault
    vault.deposit(0, 700, ALICE)
    scene.rpc.request("evm_increaseTime", 3_601)
    vault.freeze()
    (event,) = vault.inbox()
    assert not vault.refunded(0)
    vault.refund(event.message)
    assert vault.refunded(0)
    assert vault.token_balance(0, ALICE) == 700
    with pytest.raises(ChainError) as caught:
        vault.refund(event.message)
    assert caught.value.reason == "AlreadyRefunded"


def test_published_chunks_are_found_by_scan_and_by_hash(scene: Scene) -> None:
    chunks = [b"one", b"two" * 1_000, b"\x00" * 98_304]
    for chunk in chunks:
        scene.vault.publish_diff(chunk)
    hashes = [hashlib.sha256(chunk).digest() for chunk in chunks]
    assert scene.vault.diffs() == dict(zip(hashes, chunks, strict=True))
    assert [scene.vault.diff(digest) for digest in hashes] == chunks
    assert scene.vault.diff(bytes(32)) is None


def test_a_deployment_verifies_against_the_artifact_and_its_parameters(scene: Scene) -> None:
    checks = verify_deployment(scene.rpc, scene.vault.address, scene.params)
    assert [check.name for check in checks if not check.ok] == []
    assert len(checks) == 19
    require_verified(checks)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"deployment_id": b"\x12" * 32}, "deployment id"),
        ({"operator": ALICE}, "operator"),
        ({"treasury": ALICE}, "treasury"),
        ({"tokens": [ALICE, BOB]}, "tokens"),
        ({"deadline_s": 3_601}, "deadline"),
        ({"challenge_window_s": 61}, "challenge window"),
        ({"min_first_deposit": 11}, "minimum first deposit"),
        ({"max_depositors": 999}, "depositors' limit"),
        ({"governor": ALICE}, "governor"),
        ({"seconding_s": 91}, "seconding time"),
        ({"attestors": (ALICE,)}, "attestors"),
        ({"threshold": 1}, "threshold"),
        ({"veto_bond_wei": 1}, "veto bond"),
        ({"operator_bond_wei": 1}, "operator's bond"),
        ({"float_caps": (5, 7)}, "float cap 1"),
    ],
)
def test_every_parameter_that_differs_is_named(scene: Scene, change: dict[str, Any], name: str) -> None:
    checks = verify_deployment(scene.rpc, scene.vault.address, scene.params._replace(**change))
    assert [check.name for check in checks if not check.ok] == [name]
    with pytest.raises(ChainError, match="CODE_MISMATCH"):
        require_verified(checks)


def test_a_second_vault_shares_the_library_of_the_first_and_checks_it(scene: Scene) -> None:
    """An address without the library's code is not linked; the right one is, and saves its deployment."""
    shared = libraries_of(scene.rpc, scene.vault.address)
    count = scene.rpc.nonce(scene.vault.wallet.address)
    other = deploy_vault(scene.rpc, scene.vault.wallet, scene.params, shared)
    assert scene.rpc.nonce(scene.vault.wallet.address) == count + 1
    assert libraries_of(scene.rpc, other.address) == shared
    wrong = dict.fromkeys(shared, scene.params.tokens[0])
    third = deploy_vault(scene.rpc, scene.vault.wallet, scene.params, wrong)
    assert set(libraries_of(scene.rpc, third.address).values()).isdisjoint({*shared.values(), *wrong.values()})
    require_verified(verify_deployment(scene.rpc, third.address, scene.params))
    with pytest.raises(ChainError, match="CODE_MISMATCH"):
        libraries_of(scene.rpc, scene.params.tokens[0])


def test_a_vault_that_is_linked_with_other_code_does_not_verify(scene: Scene) -> None:
    """The vault's own code is right, and what it calls by delegatecall is not."""
    known, artifact = interface("Vault"), contracts.load("Vault")
    linked = dict.fromkeys((name for name, _ in artifact.links), scene.params.tokens[0])
    code = contracts.link(artifact, linked) + encode(known.constructor, [scene.params.config()])
    address = Sender(scene.rpc, scene.vault.wallet).send(None, code).contract
    checks = verify_deployment(scene.rpc, address, scene.params)
    assert [(check.name, check.ok) for check in checks] == [("runtime code", True), ("library Evidence", False)]


def test_other_code_does_not_verify_and_its_views_are_not_asked(scene: Scene) -> None:
    token = scene.params.tokens[0]
    checks = verify_deployment(scene.rpc, token)
    assert [(check.name, check.ok) for check in checks] == [("runtime code", False)]


def test_an_address_without_code_is_named(scene: Scene) -> None:
    nobody = VaultClient(scene.rpc, ALICE)
    for attempt in (nobody.frozen, lambda: verify_deployment(scene.rpc, ALICE)):
        with pytest.raises(ChainError, match="NO_CODE"):
            attempt()


def test_sending_without_a_key_is_named(scene: Scene) -> None:
    with pytest.raises(ChainError, match="KEY_FILE"):
        VaultClient(scene.rpc, scene.vault.address).freeze()
