# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploying a vault, and checking that a deployed one is what it claims to be.

Verification trusts the artifacts and the chain, and nothing that the operator says: the runtime code
must be the artifact's outside its immutables, each library it was linked with must be that library's
artifact, and the constructor's arguments are read through the code's own views.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import contracts
from clearing.chain.abi import encode, interface
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt, Rpc, hexed
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from proofs.hashing import exit_domain

NO_FLOAT_CAP: Final = 2**96 - 1
_NOBODY: Final = bytes(20)


class VaultParams(NamedTuple):
    """The constructor's arguments. Times in seconds, `min_first_deposit` and `float_caps` in atoms, bonds in wei.

    Defaults make a local try-out: no governor, no attestors, no bonds. `attestors` is ascending;
    `seconding_s` None means as long as the challenge window; empty `float_caps` mean no cap on vouchers.
    """

    deployment_id: bytes
    operator: bytes
    treasury: bytes
    tokens: Sequence[bytes]
    deadline_s: int
    challenge_window_s: int
    min_first_deposit: int = 1
    max_depositors: int = 2**20 - 1
    governor: bytes = _NOBODY
    seconding_s: int | None = None
    attestors: Sequence[bytes] = ()
    threshold: int = 0
    veto_bond_wei: int = 0
    operator_bond_wei: int = 0
    float_caps: Sequence[int] = ()

    def seconding(self) -> int:
        """Seconds for which one veto holds a header."""
        return self.challenge_window_s if self.seconding_s is None else self.seconding_s

    def caps(self) -> list[int]:
        """Atoms per hour, one for each asset."""
        return list(self.float_caps) or [NO_FLOAT_CAP] * len(self.tokens)

    def config(self) -> tuple[Any, ...]:
        """The contract's `Config`, field for field."""
        who = self.deployment_id, self.operator, self.treasury, self.governor, list(self.tokens)
        times = self.deadline_s, self.challenge_window_s, self.seconding()
        limits = self.min_first_deposit, self.max_depositors, list(self.attestors), self.threshold
        return *who, *times, *limits, self.veto_bond_wei, self.operator_bond_wei, self.caps()


class Check(NamedTuple):
    """One step of a verification."""

    name: str
    ok: bool
    detail: str


def deploy(
    rpc: Rpc, wallet: Wallet, name: str, *values: object, libraries: Mapping[str, bytes] | None = None
) -> Receipt:
    """Deploy one of our contracts; the receipt's `contract` is its address.

    `libraries` are addresses of libraries that exist already, by name: one that carries the artifact's
    code is used, every other one is deployed first. Raises what `Sender.send` raises.
    """
    known, artifact = interface(name), contracts.load(name)
    linked = {library: _library(rpc, wallet, library, libraries or {}) for library in _needed(artifact)}
    code = contracts.link(artifact, linked) + encode(known.constructor, values)
    return Sender(rpc, wallet, [known]).send(None, code)


def _needed(artifact: contracts.Artifact) -> list[str]:
    return sorted({name for name, _ in artifact.links})


def _library(rpc: Rpc, wallet: Wallet, name: str, existing: Mapping[str, bytes]) -> bytes:
    address = existing.get(name)
    if address is not None and contracts.runtime_matches(contracts.load(name), rpc.code(address)):
        return address
    return deploy(rpc, wallet, name, libraries=existing).contract


def libraries_of(rpc: Rpc, vault: bytes) -> dict[str, bytes]:
    """The libraries that a deployed vault uses, for another deployment on the same chain.

    Raises `ChainError` CODE_MISMATCH when there is no vault of ours.
    """
    artifact, code = contracts.load("Vault"), rpc.code(vault)
    if not contracts.runtime_matches(artifact, code):
        raise ChainError("CODE_MISMATCH", f"the code at {hexed(vault)} is not the vault's")
    return contracts.libraries_in(artifact, code)


def deploy_vault(
    rpc: Rpc, wallet: Wallet, params: VaultParams, libraries: Mapping[str, bytes] | None = None
) -> VaultClient:
    """A new vault, with a client that pays from `wallet`. Raises `ChainError` TX_REVERTED and others."""
    receipt = deploy(rpc, wallet, "Vault", params.config(), libraries=libraries)
    return VaultClient(rpc, receipt.contract, wallet)


def deploy_token(rpc: Rpc, wallet: Wallet, name: str = "Test Dollar", symbol: str = "TUSD") -> bytes:
    """A new worthless token with 6 decimals; its address. For tests and the demo."""
    return deploy(rpc, wallet, "TestToken", name, symbol).contract


def mint(rpc: Rpc, wallet: Wallet, token: bytes, to: bytes, amount: int) -> Receipt:
    """Mint atoms of a test token."""
    known = interface("TestToken")
    return Sender(rpc, wallet, [known]).send(token, known.call("mint", to, amount))


def verify_deployment(rpc: Rpc, address: bytes, expected: VaultParams | None = None) -> list[Check]:
    """Code, libraries, exit domain and, when given, every constructor argument; the steps in order.

    Stops at the first failure of the code, since views of other code mean nothing.
    Raises `ChainError` NO_CODE or RPC_*; a mismatch is a failed `Check` and not an exception.
    """
    vault = VaultClient(rpc, address)
    vault.require_code()
    checks = _code_checks(rpc, address)
    if not all(check.ok for check in checks):
        return checks
    checks.append(_equal("exit domain", vault.domain(), exit_domain(rpc.chain_id(), address)))
    if expected is not None:
        checks += [_equal(*row) for row in _arguments(vault, expected)]
    return checks


def _code_checks(rpc: Rpc, address: bytes) -> list[Check]:
    code, artifact = rpc.code(address), contracts.load("Vault")
    same = contracts.runtime_matches(artifact, code)
    text = f"{len(code)} bytes, {'equal to' if same else 'not'} the artifact's ({artifact.compiler})"
    checks = [Check("runtime code", same, text)]
    if not same:
        return checks
    # Every place, and not one for each name: code may be linked with two libraries of one name.
    linked = sorted({(name, code[start : start + 20]) for name, start in artifact.runtime_links})
    for name, place in linked:
        library = contracts.load(name)
        right = contracts.runtime_matches(library, rpc.code(place))
        text = f"{hexed(place)}, {'equal to' if right else 'not'} the artifact's"
        checks.append(Check(f"library {name}", right, text))
    return checks


def _arguments(vault: VaultClient, expected: VaultParams) -> list[tuple[str, bytes | int, bytes | int]]:
    """(name, found, wanted) of every constructor argument."""
    lanes = range(len(expected.tokens))
    return [
        ("deployment id", vault.deployment_id(), expected.deployment_id),
        ("operator", vault.operator(), expected.operator),
        ("treasury", vault.treasury(), expected.treasury),
        ("governor", vault.governor(), expected.governor),
        ("tokens", b"".join(vault.tokens()), b"".join(expected.tokens)),
        ("deadline", vault.deadline_s(), expected.deadline_s),
        ("challenge window", vault.challenge_window_s(), expected.challenge_window_s),
        ("seconding time", vault.seconding_s(), expected.seconding()),
        ("minimum first deposit", vault.read("minFirstDeposit"), expected.min_first_deposit),
        ("depositors' limit", vault.read("maxDepositors"), expected.max_depositors),
        ("attestors", b"".join(vault.attestors()), b"".join(expected.attestors)),
        ("threshold", vault.threshold(), expected.threshold),
        ("veto bond", vault.veto_bond_wei(), expected.veto_bond_wei),
        ("operator's bond", vault.required_bond_wei(), expected.operator_bond_wei),
        *((f"float cap {asset}", vault.float_cap(asset), expected.caps()[asset]) for asset in lanes),
    ]


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
