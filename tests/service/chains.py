# SPDX-License-Identifier: GPL-3.0-or-later
"""Vaults on embedded EVMs, and the data directory of the operator who serves them all.

Rules: one process per chain, real contracts, real signatures. Vaults are deployed from different keys, since two
embedded chains have one chain id and the same key would give both vaults the same address.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from clearing.audit.chain import Finding, compare_with_chain
from clearing.audit.replay import ReplayReport, replay
from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.params import Params
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.config import VaultConfig
from clearing.service.layout import Layout, create_keys, read_key
from clearing.service.node import Node
from clearing.service.pipeline import Receipt
from journal.replay import entries
from tests.api.beside import Beside
from tests.nodes import ChainNode
from tests.service.world import DEPLOYMENT, TREASURY, USD, address_of, make_data_dir, order, owner_of, seed_of

DEADLINE_S = 3_600
WINDOW_S = 60
DEAD = "http://127.0.0.1:9"


@dataclass
class Place:
    """One vault on one chain, as anybody with a funded wallet sees it."""

    rpc: Rpc
    vault: VaultClient

    def deposit(self, name: str, atoms: int) -> None:
        self.vault.deposit(0, atoms, owner_of(name))

    def pass_time(self, seconds: int) -> None:
        """Move this chain's clock."""
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")

    def as_member(self, name: str) -> VaultClient:
        """The vault as a member's wallet uses it, which has ether for fees."""
        wallet = Wallet(seed_of(name))
        if not self.rpc.balance(wallet.address):
            Sender(self.rpc, self.vault.wallet).send(wallet.address, b"", 10**18)
        return VaultClient(self.rpc, self.vault.address, wallet)


@dataclass
class Deployed:
    """A venue on several chains."""

    path: Path
    places: list[Place]

    @property
    def vault(self) -> VaultClient:
        return self.places[0].vault

    @property
    def rpc(self) -> Rpc:
        return self.places[0].rpc

    def deposit(self, name: str, atoms: int, vault: int = 0) -> None:
        self.places[vault].deposit(name, atoms)

    def node(self, urls: Sequence[str] = (), **choices: Any) -> Node:
        """The operator's process; `urls` replace the chains' endpoints."""
        silent = structlog.wrap_logger(structlog.ReturnLogger())
        found = list(urls) or [place.rpc.url for place in self.places]
        vaults = tuple(VaultConfig((url,) if url else (), 0) for url in found)
        return Node(self.path, log=silent, **({"vaults": vaults} | choices))


def deploy_place(evm: ChainNode, operator: bytes, payer: Wallet, **choices: Any) -> Place:
    """A vault with one test token; `choices` replace constructor arguments."""
    rpc = Rpc(evm.url)
    Sender(rpc, payer).send(operator, b"", 10**18)
    token = deploy_token(rpc, payer)
    mint(rpc, payer, token, payer.address, 10**15)
    params = VaultParams(DEPLOYMENT, operator, TREASURY, [token], DEADLINE_S, WINDOW_S)._replace(**choices)
    return Place(rpc, deploy_vault(rpc, payer, params))


def deploy_venue(path: Path, evms: Sequence[ChainNode], **choices: Any) -> Deployed:
    """A vault per chain and a data directory for them; `choices` replace constructor arguments of all vaults."""
    operator = address_of(create_keys(path).operator_secp256k1)
    places = [deploy_place(evm, operator, Wallet(dev_key(number)), **choices) for number, evm in enumerate(evms)]
    specs = tuple(
        c.Vault(
            place.rpc.chain_id(),
            place.vault.address,
            tuple(place.vault.tokens()),
            tuple(choices.get("attestors", ())),
            choices.get("threshold", 0),
        )
        for place in places
    )
    make_data_dir(path, vaults=specs, params=Params(oracle_max_age_us=3_600_000_000))
    return Deployed(path, places)


class Web:
    """The node's HTTP interface, until the node is closed."""

    def __init__(self, node: Node) -> None:
        self._url = Beside.with_node(node).url

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url + path, timeout=30, trust_env=False)

    def post(self, path: str, **content: Any) -> httpx.Response:
        return httpx.post(self._url + path, timeout=30, trust_env=False, **content)


def take_in(node: Node) -> int:
    """Every chain's deposits into the journal; how many messages."""
    return sum(intake.turn() for intake in node.intakes)


def submit(node: Node, raw: bytes) -> Receipt:
    return node.sequencer.submit(raw).result(20)


def publish(node: Node, price: int = 500_000_000) -> None:
    """A fresh price of BTC."""
    publisher = node.pipeline.reducer.state.publishers[0]
    seed = read_key(Layout(node._layout.root).keys / "publisher-0.ed25519")
    prices = (c.Price(1, price, 1),)
    update = c.OracleUpdate(DEPLOYMENT, 0, publisher.head, node._clock_us(), prices)
    submit(node, sign(update, seed))


def register(node: Node, name: str) -> int:
    """Delegate a session key; the number of the member's first account."""
    session = seed_of(f"{name} session")
    action = c.RegisterKey(owner_of(name), public_key_of(session), ids.SCOPE_ALL, ids.MAX_TIME_US, 1, bytes(32))
    submit(node, sign_owner(DEPLOYMENT, action, seed_of(name)))
    return node.pipeline.reducer.state.owners[owner_of(name)].accounts[0].number


def command(node: Node, name: str, *commands: c.MemberCommand) -> Receipt:
    """A member's signed batch."""
    state = node.pipeline.reducer.state
    owner = state.owners[owner_of(name)]
    nonce = next(iter(owner.keys.values())).nonces.high + 1
    body = c.MemberBatch(DEPLOYMENT, owner.accounts[0].number, nonce, ids.MAX_TIME_US, commands)
    return submit(node, sign(body, seed_of(f"{name} session")))


def trade(node: Node) -> None:
    """Alice and bob register keys, trade once at a published price, and withdraw five dollars each."""
    publish(node)
    for side, name in enumerate(("alice", "bob")):
        register(node, name)
        command(node, name, order(side), c.Withdraw(0, 0, 5 * USD))


def replayed(node: Node) -> ReplayReport:
    return replay(entries(node.store))


def findings(node: Node, deployed: Deployed) -> list[Finding]:
    """What an auditor with every chain's endpoint finds."""
    report = replayed(node)
    assert report.ok, report.divergence
    return [found for place in deployed.places for found in compare_with_chain(report, place.vault)]


def refusal(work: Any, *arguments: Any) -> str:
    """The code of the error that a call raises."""
    try:
        work(*arguments)
    except NovateError as error:
        return error.code
    return ""
