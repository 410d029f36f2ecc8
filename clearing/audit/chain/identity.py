# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a contract is a vault of this journal: a journal is compared with its own vaults or not at all."""

from clearing.audit.findings import Finding
from clearing.chain.vault import VaultClient
from clearing.core.state import State
from clearing.model.commands import Genesis


def number_of(genesis: Genesis, vault: VaultClient) -> int | None:
    """Which vault of genesis this is; None when it is none. Raises `ChainError`."""
    place = vault.rpc.chain_id(), vault.address
    return next((n for n, spec in enumerate(genesis.vaults) if (spec.chain_id, spec.address) == place), None)


def stranger(genesis: Genesis, vault: VaultClient) -> str:
    """The sentence about a vault that is none of this journal's. Raises `ChainError`."""
    told = ", ".join(f"0x{spec.address.hex()} on chain {spec.chain_id}" for spec in genesis.vaults)
    return f"0x{vault.address.hex()} on chain {vault.rpc.chain_id()} is no vault of this journal, which has {told}"


def identity(state: State, number: int, vault: VaultClient) -> list[Finding]:
    """What genesis says of one of its vaults against the vault itself. Raises `ChainError`."""
    genesis = state.genesis.vaults[number]
    governor = vault.governor()
    pairs = (
        ("deployment id", vault.deployment_id(), state.deployment),
        ("exit domain", vault.domain(), state.vaults[number].exit_tree.domain),
        ("treasury", vault.treasury(), state.genesis.treasury),
        ("tokens", list(vault.tokens()), list(genesis.tokens)),
        ("attestors", list(vault.attestors()), list(genesis.attestors)),
        ("threshold", vault.threshold(), genesis.threshold),
        ("governor", b"" if governor == bytes(20) else governor, genesis.governor),
    )
    return [
        Finding("WRONG_VAULT", 0, f"the vault's {name} is {shown(theirs)}, the journal's genesis says {shown(ours)}")
        for name, theirs, ours in pairs
        if theirs != ours
    ]


def shown(value: object) -> str:
    """A value of the chain in a sentence."""
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
