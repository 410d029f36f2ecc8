# SPDX-License-Identifier: GPL-3.0-or-later
"""A living venue that is about to die: two chains, a vault of two assets on each, and `novate operator run`.

Rules: the operator is the real process, which hears of everything through its chains and its HTTP interface alone.
What people send is written down here as they send it, so that it can be compared with what they get back; every
transaction carries one inbox message, so that a message's place in the ledger is its number in the inbox.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clearing.chain.abi import interface
from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import dev_key
from clearing.chain.rpc import Receipt, Rpc
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet
from clearing.cli.desk import Desk
from clearing.cli.market import BTC, TICK, Market
from clearing.cli.signing import submit_as_operator
from clearing.cli.stage import Operator, wait_for
from clearing.client.http import ApiClient, ApiError
from clearing.client.session import Session
from clearing.exit.rebuild import rebuild
from clearing.exit.run import run
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.params import Asset, Instrument, Params, Underlying
from clearing.model.signature import public_key_of, sign_owner
from clearing.service.config import Config, VaultConfig
from clearing.service.layout import create_keys, read_key
from clearing.service.setup import Deployment, init_data_dir
from tests.nodes import ChainNode
from tests.service.chains import DEADLINE_S, Place
from tests.service.world import DEPLOYMENT, MAP_BYTES, TREASURY, USD, address_of, owner_of, seed_of

EPOCHS = 3
WINDOW_S = 600
ASSETS = 2  # of each vault: dollars, and bitcoin as collateral
COIN = 10**8
DONATION = 7  # atoms of each asset that are sent to the vaults without a deposit: nobody's
PRICE = 60_000_000  # of a lot, 0.001 bitcoin
PREMIUM = 4_000_000
PERP = Instrument(BTC, "BTC-PERP", "BTC", TICK, 1_000_000, 50_000, 30_000)
STRANGER = 7
_IN_FLIGHT = 16


class Message(NamedTuple):
    """What somebody sent to a vault's inbox; `atoms` 0 for a forced request. `block` is where it was mined."""

    owner: bytes
    asset: int
    atoms: int
    block: int


class Asked(NamedTuple):
    """A deposit to be made."""

    name: str
    asset: int
    atoms: int


def stranger(place: Place) -> VaultClient:
    """The vault with the wallet of somebody who has nothing to do with it and pays the fees."""
    return VaultClient(place.rpc, place.vault.address, Wallet(dev_key(STRANGER)))


@dataclass
class Venue:
    """Members are called by number. `ledger`: per vault all inbox messages in order; `acknowledged`: the greatest
    number of an entry that the operator gave a receipt for."""

    folder: Path
    nodes: Sequence[ChainNode]
    members: int
    traders: int
    ledger: list[list[Message]] = field(default_factory=lambda: [[], []])
    acknowledged: int = 0

    def __post_init__(self) -> None:
        self.data = self.folder / "venue" / "data"
        address = address_of(create_keys(self.data).operator_secp256k1)
        self.places = [_deploy(node, number, address) for number, node in enumerate(self.nodes)]
        desk = Desk(PRICE)
        self.option = desk.instruments()[4]  # a call at the money
        _init(self.data, self.places, (PERP, *desk.instruments()))
        self.operator = Operator(self.data, self.folder / "venue", 0)
        self.api = ApiClient(self.operator.url())
        self.market = Market(self.api, DEPLOYMENT, read_key(self.data / "keys/publisher-0.ed25519"), random.Random(1))
        self.market.price, self.market.desk = PRICE, desk
        self.sessions: dict[int, Session] = {}
        self._orders = 0

    # --- what people do ---

    def live(self) -> None:
        """All that happens until the operator is killed, and what people send afterwards."""
        self.fund()
        self.register()
        self.trade(PRICE)
        self.close()
        self.claim()
        self.trade(PRICE * 94 // 100)
        self.close()
        self.force(4, 0, leave=True)
        for vault in range(2):
            new = [Asked(f"late {vault}", 0, 9 * USD + 1), Asked(f"coiner {vault}", 1, COIN // 4)]
            self.deposit(vault, [*new, *self.more(vault, 5 * USD + 1)])
        self.trade(PRICE * 103 // 100)
        self.close()
        # Consumed by the journal, and by no header.
        self.deposit(1, self.more(1, 6 * USD + 2))
        self.force(5, 1, leave=False)
        self.trade(PRICE)
        self.kill()
        # Never consumed at all: for these the operator is gone already.
        for vault in range(2):
            self.force(6 + vault, vault, leave=vault == 0)
            self.deposit(vault, [Asked(f"later {vault}", 1, COIN // 3), *self.more(vault, 11 * USD + vault)])

    def names(self, many: Iterable[int]) -> list[str]:
        return [f"walker {number}" for number in many]

    def more(self, vault: int, atoms: int) -> list[Asked]:
        """Three members pay in again."""
        return [Asked(name, 0, atoms) for name in self.names(range(vault, vault + 3))]

    def fund(self) -> None:
        """Everyone pays in on one chain, every fifth on both, every seventh brings bitcoin."""
        asked: list[list[Asked]] = [[], []]
        for number, name in enumerate(self.names(range(self.members))):
            vault = number % 2
            asked[vault].append(Asked(name, 0, 1_000 * USD + number))
            if number % 5 == 0:
                asked[1 - vault].append(Asked(name, 0, 300 * USD + 7 * number))
            if number % 7 == 0:
                asked[1 - vault].append(Asked(name, 1, COIN // 50 + number))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._deposit, range(2), asked))
        self.consumed()

    def deposit(self, vault: int, asked: Sequence[Asked]) -> None:
        self._deposit(vault, asked)
        if self.operator.process.poll() is None:
            self.consumed()

    def _deposit(self, vault: int, asked: Sequence[Asked]) -> None:
        client = self.places[vault].vault
        sender = client.sender()
        waiting: deque[tuple[Asked, Any]] = deque()

        def finish(most: int) -> None:
            while len(waiting) > most:
                one, item = waiting.popleft()
                self._note(vault, owner_of(one.name), one.asset, one.atoms, sender.wait(item))

        for one in asked:
            call = client.abi.call("deposit", one.asset, one.atoms, owner_of(one.name))
            waiting.append((one, sender.submit(client.address, call)))
            finish(_IN_FLIGHT)
        finish(0)

    def _note(self, vault: int, owner: bytes, asset: int, atoms: int, receipt: Receipt) -> None:
        self.ledger[vault].append(Message(owner, asset, atoms, receipt.block_number))

    def force(self, trader: int, vault: int, leave: bool) -> None:
        """A trader asks past the operator: for everything that is free, or to be closed and paid out. Neither the
        trader nor who trades with it does so any more."""
        (name,) = self.names([trader])
        for number in (trader, trader ^ 1):
            self.sessions.pop(number, None)
        client = self.places[vault].as_member(name)
        receipt = client.force_exit(0) if leave else client.force_withdrawal(0, 0, 0)
        self._note(vault, owner_of(name), 0, 0, receipt)
        if self.operator.process.poll() is None:
            self.consumed()

    def consumed(self) -> None:
        """Wait until the journal holds all that was sent to the inboxes."""
        sent = sum(map(len, self.ledger))
        wait_for(lambda: int(self.api.status()["inbox_count"]) == sent, f"{sent} messages to be consumed")

    def register(self) -> None:
        """Traders delegate session keys; all of them sign with their wallets."""
        names = self.names(range(self.traders))
        until = time.time_ns() // 1_000 + ids.DAY_US
        envelopes = []
        for name in names:
            key = public_key_of(seed_of(f"{name} session"))
            action = c.RegisterKey(owner_of(name), key, ids.SCOPE_ALL, until, 1, seed_of(f"{name} salt"))
            envelopes.append(sign_owner(DEPLOYMENT, action, seed_of(name)))
        self.send(envelopes)
        for number, name in enumerate(names):
            account = int(self.api.owner(owner_of(name))["accounts"][0]["account"])
            self.sessions[number] = Session(self.api, DEPLOYMENT, account, seed_of(f"{name} session"))

    def send(self, envelopes: Sequence[bytes]) -> int:
        """Signed bytes to the operator, all of which it must accept; how many trades that made."""
        results = self.api.submit_many(envelopes)
        wrong = [result for result in results if "code" in result or result["rejected"]]
        assert not wrong, wrong[0]
        self.acknowledged = max(self.acknowledged, *(int(result["seq"]) for result in results))
        return sum(outcome["type"] == "TradeNovated" for result in results for outcome in result["outcomes"])

    def trade(self, price: int) -> None:
        """Neighbours trade a perpetual and an option with each other and stay in; every fourth withdraws a little."""
        self.market.price = price // TICK * TICK
        self.market.publish()
        assert self.send(self.orders()) == len(self.sessions) // 2 * 2
        fourth = [number for number in self.sessions if number % 4 == 0]
        self.send([self.sessions[n].sign([c.Withdraw(n // 4 % 2, 0, 3 * USD + n)]) for n in fourth])

    def orders(self) -> list[bytes]:
        envelopes = []
        for number, session in self.sessions.items():
            self._orders += 2
            side, tif = (ids.SELL, ids.GTC) if number % 2 == 0 else (ids.BUY, ids.IOC)
            lots = 1 + number // 2 % 3
            perp = c.PlaceOrder(BTC, side, self.market.price, lots, self._orders, tif=tif)
            call = c.PlaceOrder(self.option.id, side, PREMIUM, 1, self._orders + 1, tif=tif)
            envelopes.append(session.sign([perp, call]))
        return envelopes

    def close(self) -> None:
        """An epoch, posted to both chains."""
        epoch = int(self.api.status()["epoch"]) + 1
        heads = [place.rpc.block() for place in self.places]
        command = c.CloseEpoch(epoch, tuple((head.number, head.hash) for head in heads))
        receipt = submit_as_operator(self.data, self.api, command)
        assert not receipt["rejected"], receipt
        wait_for(
            lambda: all(place.vault.epoch_count() == epoch for place in self.places), f"epoch {epoch} to be posted"
        )

    def claim(self) -> None:
        """Some collect their withdrawals while the venue lives, as soon as the header is final. (No later header is
        final when the operator dies; all are when the deadline has passed.)"""
        for place in self.places:
            place.pass_time(WINDOW_S + 1)
            client = stranger(place)
            proofs = rebuild(client)
            for name in self.names(range(0, min(self.traders, 16), 4)):
                run(client, owner_of(name), source=lambda found=proofs: found, deposits={})  # type: ignore[misc]

    def kill(self) -> None:
        """kill -9 while commands come in: the last of them are acknowledged and in no epoch, others half-way."""
        before = self.acknowledged

        def flood() -> None:
            try:
                while True:
                    self.send(self.orders())
            except ApiError:
                return

        self.market.publish()
        sending = threading.Thread(target=flood)
        sending.start()
        wait_for(lambda: self.acknowledged > before or not sending.is_alive(), "commands in the middle of an epoch")
        alive = sending.is_alive()
        self.operator.kill()
        sending.join(30)
        assert alive and not sending.is_alive() and self.acknowledged > before

    def end(self) -> None:
        """Whatever happened, nothing of it runs on."""
        if self.operator.process.poll() is None:
            self.operator.kill()
        self.api.close()
        for place in self.places:
            place.rpc.close()


def _deploy(node: ChainNode, number: int, operator: bytes) -> Place:
    payer, rpc = Wallet(dev_key(number)), Rpc(node.url)
    sender = Sender(rpc, payer)
    sender.send(operator, b"", 10**18)
    tokens = [deploy_token(rpc, payer, f"Token {asset}", f"T{asset}") for asset in range(ASSETS)]
    for token in tokens:
        mint(rpc, payer, token, payer.address, 10**17)
    params = VaultParams(DEPLOYMENT, operator, TREASURY, tokens, DEADLINE_S, WINDOW_S)
    vault = deploy_vault(rpc, payer, params)
    for asset, token in enumerate(tokens):
        vault.approve(asset, 2**255)
        sender.send(token, interface("TestToken").call("transfer", vault.address, DONATION))
    return Place(rpc, vault)


def _init(data: Path, places: Sequence[Place], instruments: tuple[Instrument, ...]) -> None:
    """A data directory whose operator posts epochs when told to, and follows the chains closely."""
    vaults = tuple(c.Vault(p.rpc.chain_id(), p.vault.address, tuple(p.vault.tokens())) for p in places)
    coins = tuple(
        Asset(number * ASSETS + 1, f"BTC-{number}", "BTC", COIN, 250_000, 930_000) for number in range(len(places))
    )
    rules = Params(underlyings=(Underlying(BTC, "BTC"),), assets=coins)
    links = tuple(VaultConfig((place.rpc.url,), 0) for place in places)
    config = Config(
        epoch_seconds=0, post_seconds=0.5, poll_seconds=0.1, journal_map_bytes=MAP_BYTES, vaults=links, port=0
    )
    address = places[0].vault.operator()
    chosen = Deployment(DEPLOYMENT, "novate.test", vaults, address, TREASURY, instruments, rules)
    init_data_dir(data, chosen, time.time_ns() // 1_000, config)
