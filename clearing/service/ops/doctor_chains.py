# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor's questions to the chains: endpoints, the vaults' code and what they say, ether, and time.

Rules: every endpoint is asked alone before they are asked together, so that the one that is wrong is named. A vault's
code is compared with the artifacts before anything that it says is believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from clearing.chain.deploy import verify_deployment
from clearing.chain.errors import ChainError
from clearing.chain.governance import checks_of
from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.model.commands import Vault
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook
from clearing.service.links import connect
from clearing.service.ops.doctor import ERROR, OK, WARNING, Finding, guarded
from clearing.service.ops.logs import masked

if TYPE_CHECKING:
    from clearing.service.ops.doctor import Patient

_ETHER: Final = 10**18
_SKEW_S: Final = 30
_OLD_S: Final = 300


def examine_chains(patient: Patient) -> Iterator[Finding]:
    """Per vault of genesis."""
    if patient.config is None or patient.genesis is None:
        yield Finding("chains", WARNING, "not asked: configuration or journal could not be read", "mend those first")
        return
    if len(patient.config.vaults) > len(patient.genesis.vaults):
        text = f"config.toml has {len(patient.config.vaults)} [[vaults]], genesis {len(patient.genesis.vaults)}"
        yield Finding("chains", ERROR, text, "remove what genesis does not name")
    for number, spec in enumerate(patient.genesis.vaults):
        yield from guarded(f"vault {number}", lambda n=number, s=spec: _vault(patient, n, s))  # type: ignore[misc]


def _vault(patient: Patient, number: int, spec: Vault) -> Iterator[Finding]:
    assert patient.config is not None and patient.genesis is not None
    chosen, name = patient.config.vault(number), f"vault {number}"
    if not chosen.rpc_urls:
        yield Finding(name, WARNING, "no endpoint is configured: nothing is posted to it", "name its rpc_urls")
        return
    alive = 0
    for url in chosen.rpc_urls:
        found, fit = _endpoint(url, spec, name)
        alive += fit
        yield found
    if alive < chosen.quorum:
        text = f"{alive} endpoints are fit, the quorum is {chosen.quorum}"
        yield Finding(name, ERROR, text, "mend the endpoints, or add others")
        return
    client = connect(chosen, spec.address)
    assert client is not None, "it has endpoints"
    try:
        checks = [*verify_deployment(client.rpc, client.address)]
        if all(check.ok for check in checks):
            checks += checks_of(client)
        bad = [check for check in checks if not check.ok]
        for check in bad:
            yield Finding(f"{name} {check.name}", ERROR, check.detail, "do not run against this vault")
        if bad:
            return
        yield Finding(f"{name} code", OK, f"0x{spec.address.hex()}, the artifact's, with its libraries")
        yield from _genesis(patient, client, spec, name)
        yield from _operator(patient, client, name)
        yield from _deadline(patient, client, name)
        yield from _posted(patient, client, number, name)
    finally:
        client.rpc.close()


def _endpoint(url: str, spec: Vault, name: str) -> tuple[Finding, bool]:
    """What is to be said of it, and whether it can be asked for more."""
    title, shown = f"{name} endpoint", masked(url)
    try:
        with Rpc(url, timeout_s=10, attempts=2) as rpc:
            chain, block = rpc.chain_id(), rpc.block()
    except ChainError as error:
        return Finding(
            title, ERROR, f"{shown}: {error.code}: {masked(error.message)}", "check the URL and the node"
        ), False
    if chain != spec.chain_id:
        text = f"{shown} serves chain {chain}, genesis names {spec.chain_id}"
        return Finding(title, ERROR, text, "name an endpoint of the right chain"), False
    ahead = block.time_s - time.time()
    if ahead > _SKEW_S:
        text = f"{shown}: block {block.number} is {ahead:.0f} s ahead of this machine's clock"
        return Finding(title, ERROR, text, "set this machine's clock right"), True
    if ahead < -_OLD_S:
        text = f"{shown}: the newest block {block.number} is {-ahead:.0f} s old"
        return Finding(title, WARNING, text, "see whether the node is in sync, and this machine's clock right"), True
    return Finding(title, OK, f"{shown}: chain {chain}, block {block.number}, {max(0, -ahead):.0f} s old"), True


def _genesis(patient: Patient, client: VaultClient, spec: Vault, name: str) -> Iterator[Finding]:
    assert patient.genesis is not None
    governor = client.governor()
    pairs: tuple[tuple[str, object, object], ...] = (
        ("deployment id", client.deployment_id(), patient.genesis.deployment),
        ("treasury", client.treasury(), patient.genesis.treasury),
        ("tokens", tuple(client.tokens()), spec.tokens),
        ("attestors", tuple(client.attestors()), spec.attestors),
        ("threshold", client.threshold(), spec.threshold),
        ("governor", b"" if governor == bytes(20) else governor, spec.governor),
    )
    wrong = [what for what, found, wanted in pairs if found != wanted]
    if wrong:
        text = f"differs from the journal's genesis: {', '.join(wrong)}"
        yield Finding(f"{name} parameters", ERROR, text, "this is another venue's vault; check genesis and address")
    else:
        yield Finding(f"{name} parameters", OK, "deployment, treasury, tokens, attestors, governor as in genesis")


def _operator(patient: Patient, client: VaultClient, name: str) -> Iterator[Finding]:
    named = client.operator()
    if patient.state is not None and named != patient.state.operator_address:
        text = f"its operator is 0x{named.hex()}, the journal's is 0x{patient.state.operator_address.hex()}"
        yield Finding(f"{name} operator", ERROR, text, "finish the rotation: novate operator rotate")
    balance = client.rpc.balance(named)
    text = f"0x{named.hex()} holds {balance / _ETHER:.6g} ether"
    if not balance:
        yield Finding(f"{name} ether", ERROR, text, "send it some: posting costs gas")
    else:
        yield Finding(f"{name} ether", OK, text)
    bond, required = client.operator_bond(), client.required_bond_wei()
    if bond < required:
        text = f"{bond} wei of {required}: no header can be posted"
        yield Finding(f"{name} bond", ERROR, text, "novate vault post-bond")
    elif required:
        yield Finding(f"{name} bond", OK, f"{bond} wei")


def _deadline(patient: Patient, client: VaultClient, name: str) -> Iterator[Finding]:
    assert patient.config is not None
    if client.frozen():
        yield Finding(f"{name} freeze", ERROR, "it is frozen for good", "owners leave with: novate exit")
        return
    left, deadline = client.freeze_at_s() - client.rpc.time_s(), client.deadline_s()
    text = f"{left} s of {deadline} are left until anyone may freeze it"
    if left <= 0:
        yield Finding(f"{name} freeze", ERROR, f"anyone may freeze it since {-left} s", "run the operator now")
    elif left * 2 < deadline:
        yield Finding(f"{name} freeze", WARNING, text, "run the operator; see why nothing is posted")
    else:
        yield Finding(f"{name} freeze", OK, text)
    if patient.config.epoch_seconds * 2 > deadline:
        text = f"epoch_seconds = {patient.config.epoch_seconds} is more than half of the deadline of {deadline} s"
        yield Finding(f"{name} interval", ERROR, text, "close epochs more often: set epoch_seconds")


def _posted(patient: Patient, client: VaultClient, number: int, name: str) -> Iterator[Finding]:
    """Does the vault hold our header? If it is ahead, this journal is an old copy."""
    assert patient.genesis is not None
    posted = client.epoch_count()
    closed = patient.state.epoch if patient.state is not None else 0
    if posted > closed and patient.running is None:
        text = f"it holds epoch {posted}, the journal {closed}: an old copy"
        yield Finding(f"{name} epochs", ERROR, text, "do not start: see novate operator restore --help")
        return
    if posted:
        try:
            ours = EpochBook(patient.layout, patient.genesis).load(posted).part(number).header_hash
        except NovateError as error:
            yield Finding(f"{name} epochs", WARNING, f"epoch {posted}: {error.message}", "a start makes records again")
            return
        if ours != client.header_hash(posted):
            text = f"it holds another header of epoch {posted}: someone else signs with the operator's key"
            yield Finding(f"{name} epochs", ERROR, text, "do not start; find out who, then rotate the key")
            return
    yield Finding(f"{name} epochs", OK, f"posted {posted}, closed {closed}")
