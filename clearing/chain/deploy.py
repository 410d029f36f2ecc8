# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploying a vault, and checking that a deployed one is what it claims to be.

Verification trusts the artifact and the chain, and nothing that the operator says: the runtime code
must be the artifact's outside its immutables, and the immutables are read through the code's own views.
"""

from collections.abc import Sequence
from typing import NamedTuple

import contracts
from clearing.chain.abi import encode, interface
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt, Rpc, hexed
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from proofs.hashing import exit_domain


class VaultParams(NamedTuple):
    """The constructor's arguments. Times in seconds, `min_first_deposit` in atoms."""

    deployment_id: bytes
    operator: bytes
    treasury: bytes
    tokens: Sequence[bytes]
    deadline_s: int
    challenge_window_s: int
    min_first_deposit: int = 1
    max_depositors: int = 2**20 - 1


class Check(NamedTuple):
    """One step of a verification."""

    name: str
    ok: bool
    detail: str


def deploy(rpc: Rpc, wallet: Wallet, name: str, *values: object) -> Receipt:
    """Deploy one of our contracts; the receipt's `contract` is its address."""
    known = interface(name)
    code = contracts.load(name).bytecode + encode(known.constructor, values)
    return Sender(rpc, wallet, [known]).send(None, code)


def deploy_vault(rpc: Rpc, wallet: Wallet, params: VaultParams) -> VaultClient:
    """A new vault, with a client that pays from `wallet`. Raises `ChainError` TX_REVERTED and others."""
    values = params._replace(tokens=list(params.tokens))
    return VaultClient(rpc, deploy(rpc, wallet, "Vault", *values).contract, wallet)


def deploy_token(rpc: Rpc, wallet: Wallet, name: str = "Test Dollar", symbol: str = "TUSD") -> bytes:
    """A new worthless token with 6 decimals; its address. For tests and the demo."""
    return deploy(rpc, wallet, "TestToken", name, symbol).contract


def mint(rpc: Rpc, wallet: Wallet, token: bytes, to: bytes, amount: int) -> Receipt:
    """Mint atoms of a test token."""
    known = interface("TestToken")
    return Sender(rpc, wallet, [known]).send(token, known.call("mint", to, amount))


def verify_deployment(rpc: Rpc, address: bytes, expected: VaultParams | None = None) -> list[Check]:
    """Code, exit domain and, when given, every constructor argument; the steps in order.

    Stops at the first failure of the code, since views of other code mean nothing.
    Raises `ChainError` NO_CODE or RPC_*; a mismatch is a failed `Check` and not an exception.
    """
    vault = VaultClient(rpc, address)
    vault.require_code()
    code, artifact = rpc.code(address), contracts.load("Vault")
    same = contracts.runtime_matches(artifact, code)
    text = f"{len(code)} bytes, {'equal to' if same else 'not'} the artifact's ({artifact.compiler})"
    checks = [Check("runtime code", same, text)]
    if not same:
        return checks
    domain = exit_domain(rpc.chain_id(), address)
    checks.append(_equal("exit domain", vault.domain(), domain))
    if expected is None:
        return checks
    for name, found, wanted in (
        ("deployment id", vault.deployment_id(), expected.deployment_id),
        ("operator", vault.operator(), expected.operator),
        ("treasury", vault.treasury(), expected.treasury),
        ("tokens", b"".join(vault.tokens()), b"".join(expected.tokens)),
        ("deadline", vault.deadline_s(), expected.deadline_s),
        ("challenge window", vault.challenge_window_s(), expected.challenge_window_s),
        ("minimum first deposit", vault.read("minFirstDeposit"), expected.min_first_deposit),
        ("depositors' limit", vault.read("maxDepositors"), expected.max_depositors),
    ):
        checks.append(_equal(name, found, wanted))
    return checks


def require_verified(checks: Sequence[Check]) -> None:
    """Raises `ChainError` CODE_MISMATCH naming the first failed check."""
    for check in checks:
        if not check.ok:
            raise ChainError("CODE_MISMATCH", f"{check.name}: {check.detail}; do not use this vault")


def _equal(name: str, found: bytes | int, wanted: bytes | int) -> Check:
    def shown(value: bytes | int) -> str:
        return hexed(value) if isinstance(value, bytes) else str(value)

    same = found == wanted
    return Check(name, same, shown(found) if same else f"{shown(found)}, expected {shown(wanted)}")
