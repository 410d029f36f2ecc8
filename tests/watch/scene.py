# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue whose headers two of three attestors sign, each with a folder of its own, and a thief with stolen keys.

Rules: a real node over real HTTP, a real vault, real keys. Nothing runs by itself: a test takes every step, and the
attestors' clock is a number that it moves. The state that most tests start from: epochs 1 and 2 are posted and agreed,
epoch 3 is closed and its diff published, and no attestor has seen it.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from clearing.chain.rpc import Rpc
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, attestation_digest, post_epoch_digest
from clearing.cli.heist import forge, post_forged
from clearing.client.http import ApiClient
from clearing.model import commands as c
from clearing.service.layout import Layout, read_key
from clearing.service.node import Node
from clearing.watch.attestor import Attestor, Settings
from proofs.header import Header
from tests.nodes import ChainNode
from tests.service.chains import Deployed, command, deploy_venue, take_in, trade
from tests.service.world import TREASURY, USD, owner_of, seed_of
from tests.watch.gate import Gate, Served

WATCHERS = sorted((Wallet(seed_of(f"watcher {n}")) for n in range(3)), key=lambda wallet: wallet.address)
STRANGER = Wallet(seed_of("stranger"))
FUNDED = [*(wallet.address for wallet in WATCHERS), STRANGER.address]
BOND_WEI = 10**16
GRACE_S = 30.0
SILENT = structlog.wrap_logger(structlog.ReturnLogger())


@dataclass
class Scene:
    """`root`: where each attestor's folder is, by name; `now_s`: their clock; `before_three`: a copy of the
    operator's data directory before it closed epoch 3."""

    evm: ChainNode
    root: Path
    deployed: Deployed
    node: Node
    served: Served
    gate: Gate
    now_s: float = 1_000.0
    before_three: Path = Path()
    attestors: list[Attestor] = field(default_factory=list)
    _opened: list[Any] = field(default_factory=list)

    @classmethod
    def open(cls, evm: ChainNode, root: Path, **choices: Any) -> "Scene":
        """A venue before its first epoch: alice and bob have paid in and traded."""
        given: dict[str, Any] = {
            "attestors": tuple(wallet.address for wallet in WATCHERS),
            "threshold": 2,
            "veto_bond_wei": BOND_WEI,
        } | choices
        deployed = deploy_venue(root / "venue", [evm], **given)
        deployed.deposit("alice", 1_000 * USD)
        deployed.deposit("bob", 3_000 * USD)
        return cls.run(evm, root, deployed)

    @classmethod
    def run(cls, evm: ChainNode, root: Path, deployed: Deployed) -> "Scene":
        node = deployed.node()
        take_in(node)
        trade(node)
        served = Served(node)
        return cls(evm, root, deployed, node, served, Gate(served.url))

    # --- the operator ---

    @property
    def vault(self) -> VaultClient:
        return self.deployed.vault

    def something(self) -> None:
        """A command in the journal, so that the next epoch differs."""
        command(self.node, "alice", c.Withdraw(0, 0, USD))

    def close_epoch(self) -> None:
        """The next epoch, closed and published, and posted when enough attestors have signed."""
        self.something()
        self.node.poster.turn()

    def round(self, *attestors: Attestor) -> None:
        """An epoch as it should be: closed, signed, posted, looked at."""
        self.close_epoch()
        for attestor in attestors:
            attestor.turn()
        self.node.poster.post_missing()
        for attestor in attestors:
            attestor.turn()

    def keep_copy(self) -> None:
        """What a crash, or a cheat, would go back to: the operator's data directory, copied while nothing runs."""
        self.served.stop()
        self.node.close()
        self.before_three = self.root / "copy"
        shutil.copytree(self.deployed.path, self.before_three)
        self.node = self.deployed.node()
        self.served = Served(self.node)
        self.gate.upstream = self.served.url

    def pass_time(self, seconds: int) -> None:
        self.deployed.places[0].pass_time(seconds)

    # --- attestors ---

    def attestor(
        self, name: str, wallet: Wallet | None = None, api: str = "", rpc: str = "", **settings: Any
    ) -> Attestor:
        """An attestor's process over its folder; closed with the scene if not before."""
        endpoint = Rpc(rpc or self.evm.url, attempts=1)
        client = ApiClient(api or self.gate.url, timeout_s=5.0)
        vault = VaultClient(endpoint, self.vault.address, wallet)
        chosen = Settings(**({"grace_s": GRACE_S, "alarm_s": 0} | settings))
        made = Attestor(self.folder(name), client, [vault], wallet, chosen, SILENT, lambda: self.now_s)
        self.attestors.append(made)
        self._opened += [endpoint, client]
        return made

    def watcher(self, number: int, **choices: Any) -> Attestor:
        """The attestor of WATCHERS[number] over its own folder."""
        return self.attestor(f"w{number}", WATCHERS[number], **choices)

    def folder(self, name: str) -> Path:
        return self.root / name

    def evidence(self, name: str) -> dict[str, dict[str, Any]]:
        """The evidence files of a folder, by their name."""
        return {path.stem: json.loads(path.read_bytes()) for path in (self.folder(name) / "evidence").glob("*.json")}

    # --- the thief ---

    def _keys(self) -> Wallet:
        return Wallet(read_key(Layout(self.deployed.path).keys / "operator.secp256k1"))

    def thief(self) -> VaultClient:
        """A client of somebody with ether and no role; closed with the attestors."""
        endpoint = Rpc(self.evm.url)
        self._opened.append(endpoint)
        return VaultClient(endpoint, self.vault.address, STRANGER)

    def steal(self) -> Header:
        """A forged next header: alice's exit is the treasury's, signed with every key that the contract asks for."""
        thief = self.thief()
        header, chunks = forge(thief, owner_of("alice"), TREASURY)
        assert post_forged(thief, header, chunks, self._keys(), WATCHERS[:2]) == thief.header_hash(header.epoch)
        return header

    def post_honest(self, epoch: int, **changes: Any) -> bytes:
        """Post the operator's own header with stolen keys, whatever attestors think of it; `changes` make it a lie."""
        part = self.node.book.load(epoch).part(0)
        header = msgspec.structs.replace(Header.decode(part.header), **changes)
        thief, place = self.thief(), (self.deployed.rpc.chain_id(), self.vault.address, header.hash())
        sizes = [self.node.book.load(number).snapshot_seq for number in (epoch - 1, epoch)]
        attested = [wallet.sign_digest(attestation_digest(*place)) for wallet in WATCHERS[:2]]
        for chunk, digest in zip(part.chunks, part.chunk_hashes, strict=True):
            if not thief.diff_block(digest):
                thief.publish_diff(chunk)
        proof, signature = self.node.store.consistency(*sizes), self._keys().sign_digest(post_epoch_digest(*place))
        thief.post_epoch(header.encode(), part.chunk_hashes, proof, signature, attested)
        return header.hash()

    # --- ends ---

    def end_attestors(self) -> None:
        for attestor in self.attestors:
            attestor.close()
        for opened in self._opened:
            opened.close()
        self.attestors, self._opened = [], []

    def close(self) -> None:
        self.end_attestors()
        self.gate.stop()
        self.served.stop()
        self.node.close()
        for place in self.deployed.places:
            place.rpc.close()


def codes(attestor: Attestor) -> list[str]:
    """The alerts so far, by code."""
    return [alert["code"] for alert in attestor.alerts]


def copy_folders(scene: Scene, to: Path) -> None:
    """The attestors' folders as they are now."""
    for path in scene.root.glob("w?"):
        shutil.copytree(path, to / path.name)
