# SPDX-License-Identifier: GPL-3.0-or-later
"""The vaults of genesis and the ways to their chains.

Rules:
- A vault is connected when an endpoint is configured for it. The chain and the contract behind it must
  be genesis's, or nothing starts; an endpoint that does not answer is only a fault for later.
- Several endpoints of one chain are asked side by side (clearing.chain.pool): where they differ nothing is done.
- What counts as final is a choice per vault: so many blocks on top, or what the chain calls finalized.
"""

from collections.abc import Callable
from pathlib import Path

from clearing.chain.errors import ChainError
from clearing.chain.fees import GWEI, SendPolicy
from clearing.chain.finality import FinalView
from clearing.chain.pool import connect as connect_endpoints
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.model.commands import Genesis, Vault
from clearing.model.errors import NovateError
from clearing.service.config import FINALIZED, Config, VaultConfig


class Link:
    """One vault of genesis; `client` is None where no endpoint is configured."""

    def __init__(self, number: int, spec: Vault, client: VaultClient | None, config: VaultConfig) -> None:
        self.number = number
        self.spec = spec
        self.client = client
        self.confirmations = config.confirmations

    def require(self) -> VaultClient:
        """The client. Raises `NovateError` NO_CHAIN."""
        if self.client is None:
            raise NovateError("NO_CHAIN", f"vault {self.number} has no endpoint; name its rpc_urls in config.toml")
        return self.client

    def final_block(self) -> int:
        """Number of the newest block that counts as final; -1 when there is none yet. Raises `ChainError`."""
        rpc = self.require().rpc
        if self.confirmations == FINALIZED:
            return FinalView(rpc, "finalized").final().number
        return rpc.block_number() - int(self.confirmations)

    def l1_block(self) -> tuple[int, bytes]:
        """A final block for a header. The contract takes none that is not past, and a node estimates gas as
        if in the newest block, so at most the one before it; and none with number zero."""
        if self.client is None:
            return 0, bytes(32)
        rpc = self.client.rpc
        block = rpc.block(max(0, min(self.final_block(), rpc.block_number() - 1)))
        return block.number, block.hash

    def final_freeze(self) -> int | None:
        """The escape header's epoch (0: there is none) once the vault's freeze is final; None before.

        Raises `ChainError`.
        """
        client = self.require()
        if not client.frozen():
            return None
        number = self.final_block()
        if number < 0 or client.frozen_since(number):
            return None
        return client.escape_epoch()

    def seconds_left(self) -> int:
        """Seconds until anyone may freeze the vault; negative when that is past. Raises `ChainError`."""
        client = self.require()
        return client.freeze_at_s() - client.rpc.time_s()


def connect(
    config: VaultConfig, address: bytes, wallet: Wallet | None = None, folder: Path | None = None
) -> VaultClient | None:
    """A client of the vault at the configured endpoints, or None without any. `folder` keeps what was sent and is
    not mined yet, so that a restarted process goes on with it."""
    if not config.rpc_urls:
        return None
    rpc = connect_endpoints(config.rpc_urls, config.quorum)
    return VaultClient(rpc, address, wallet, policy=_policy(config), folder=folder)


def _policy(config: VaultConfig) -> SendPolicy:
    """What to pay: up to the ceiling while there is time, ten times that at the freeze deadline."""
    if not config.max_fee_gwei:
        return SendPolicy()
    most = int(config.max_fee_gwei * GWEI)
    return SendPolicy(max_fee_wei=most, urgent_max_fee_wei=10 * most)


def open_links(
    genesis: Genesis,
    config: Config,
    wallet: Callable[[], Wallet],
    report: Callable[[str, BaseException], None],
    folder: Path | None = None,
) -> list[Link]:
    """A link per vault of genesis. `wallet` is asked only when an endpoint is configured; `report` hears of
    endpoints that do not answer; `folder` holds a folder per vault for what is being sent.

    Raises `ChainError` WRONG_CHAIN, `NovateError` WRONG_VAULT, CONFIG_INVALID.
    """
    if len(config.vaults) > len(genesis.vaults):
        message = f"config.toml has {len(config.vaults)} [[vaults]], the journal's genesis {len(genesis.vaults)}"
        raise NovateError("CONFIG_INVALID", message)
    links: list[Link] = []
    try:
        for number, spec in enumerate(genesis.vaults):
            chosen = config.vault(number)
            sending = folder / str(number) if folder is not None else None
            client = connect(chosen, spec.address, wallet() if chosen.rpc_urls else None, sending)
            links.append(Link(number, spec, client, chosen))
            if client is not None:
                _require_ours(genesis, number, client, report)
    except BaseException:
        close_links(links)
        raise
    return links


def close_links(links: list[Link]) -> None:
    for link in links:
        if link.client is not None:
            link.client.rpc.close()


def _require_ours(
    genesis: Genesis, number: int, client: VaultClient, report: Callable[[str, BaseException], None]
) -> None:
    spec = genesis.vaults[number]
    try:
        client.rpc.require_chain(spec.chain_id)
        theirs = client.deployment_id()
    except ChainError as error:
        if error.code != "RPC_UNREACHABLE":
            raise
        report(f"chain {number}", error)
        return
    if theirs != genesis.deployment:
        message = f"vault 0x{spec.address.hex()} is of deployment {theirs.hex()}, not of this journal's"
        raise NovateError("WRONG_VAULT", message)
