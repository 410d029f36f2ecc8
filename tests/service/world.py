# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory on a real disk and the parts over it, opened and closed as a process would.

Rules: real keys, real signatures, a real journal. Time is a number that the test moves. Members are
funded through inbox messages, as the chain would do it.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearing.core.reducer import Reducer
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import body_hash, encode
from clearing.model.errors import NovateError
from clearing.model.params import Instrument, Params
from clearing.model.signature import public_key_of, sign, sign_owner
from clearing.service.checkpoints import CheckpointSigner
from clearing.service.commit import Committer
from clearing.service.config import Config
from clearing.service.epochs import EpochBook
from clearing.service.layout import KeyRing, Layout, create_keys, read_key
from clearing.service.pipeline import Pipeline, Receipt
from clearing.service.recover import open_store, recover
from clearing.service.setup import Deployment, init_data_dir
from journal import Store

START_US = 1_700_000_000_000_000
SECOND = 1_000_000
USD = 1_000_000
BTC = 1
INSTRUMENTS = (Instrument(BTC, "BTC-PERP", "BTC", 10_000, 1_000_000, 50_000, 30_000),)
DEPLOYMENT = hashlib.sha256(b"a deployment of the tests").digest()
TREASURY = b"\x0e" * 20
MEMBERS = ("alice", "bob")
MAP_BYTES = 1 << 30


def seed_of(name: str) -> bytes:
    """32 bytes that belong to a name."""
    return hashlib.sha256(f"service test {name}".encode()).digest()


def address_of(key: bytes) -> bytes:
    """The 20-byte address of a secp256k1 key."""
    from clearing.chain.wallet import Wallet

    return Wallet(key).address


def make_data_dir(path: Path, **choices: Any) -> c.Genesis:
    """A new data directory without a chain; `choices` replace fields of the deployment."""
    settings = Config(journal_map_bytes=MAP_BYTES, epoch_seconds=0, tick_seconds=3_600, confirmations=0)
    keys = create_keys(path)
    fields: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "origin": "novate.test",
        "vaults": (c.Vault(31_337, b"\xaa" * 20, (b"\xbb" * 20,)),),
        "operator_address": address_of(keys.operator_secp256k1),
        "treasury": TREASURY,
        "instruments": INSTRUMENTS,
        "params": Params(oracle_max_age_us=3_600 * SECOND),
    }
    return init_data_dir(path, Deployment(**(fields | choices)), START_US, settings)


@dataclass
class World:
    """An opened data directory. `now_us` is the clock; sequence numbers of inbox and nonces are kept."""

    path: Path
    now_us: int = START_US
    store: Store = field(init=False)
    pipeline: Pipeline = field(init=False)
    book: EpochBook = field(init=False)
    from_seq: int = field(init=False)
    oracle_head: bytes = bytes(32)
    nonces: int = 0

    def __post_init__(self) -> None:
        layout = Layout(self.path)
        self.store = open_store(layout, MAP_BYTES)
        found = recover(self.store, layout)
        self.book, self.from_seq = found.book, found.from_seq
        signer = CheckpointSigner(found.genesis, KeyRing(layout.keys), read_key(layout.keys / "operator.secp256k1"))
        self.pipeline = Pipeline(Committer(self.store, signer), found.reducer, on_epoch=self.book.closed)
        self.operator_seed = read_key(layout.keys / "operator.ed25519")
        self.publisher_seed = read_key(layout.keys / "publisher-0.ed25519")
        publisher = found.reducer.state.publishers[0]
        self.oracle_head, self.oracle_time = publisher.head, publisher.time_us
        state = found.reducer.state
        used = [key.nonces.high for key in state.keys.values()] + [o.nonces.high for o in state.owners.values()]
        self.nonces = max([state.operator_nonces.high, *used])

    @property
    def reducer(self) -> Reducer:
        return self.pipeline.reducer

    def close(self) -> None:
        self.book.flush()
        self.pipeline.close()
        self.store.close()

    def process(self, *raws: bytes) -> list[Receipt | NovateError]:
        """One batch, a second later than the one before."""
        self.now_us += SECOND
        return self.pipeline.process(raws, self.now_us)

    def ok(self, *raws: bytes) -> list[Receipt]:
        """As `process`; every command must be journalled."""
        results = self.process(*raws)
        for result in results:
            assert isinstance(result, Receipt), result
        return [result for result in results if isinstance(result, Receipt)]

    # --- envelopes ---

    def operator(self, *commands: c.OperatorCommand) -> bytes:
        self.nonces = max(self.nonces, self.reducer.state.operator_nonces.high) + 1
        return sign(c.OperatorBatch(DEPLOYMENT, self.nonces, commands), self.operator_seed)

    def deposit(self, owner: bytes, amount: int, index: int | None = None) -> bytes:
        index = self.reducer.state.vaults[0].inbox_count if index is None else index
        message = c.ConsumeInbox(0, index, ids.INBOX_DEPOSIT, owner, 0, amount, self.now_us // SECOND, bytes(32))
        return self.operator(message)

    def price(self, atoms: int) -> bytes:
        self.oracle_time = max(self.oracle_time + 1, self.now_us)
        prices = (c.Price(BTC, atoms, 1),)
        body = c.OracleUpdate(DEPLOYMENT, 0, self.oracle_head, self.oracle_time, prices)
        self.oracle_head = body_hash(encode(body))
        return sign(body, self.publisher_seed)

    def register(self, name: str) -> bytes:
        self.nonces += 1
        key = public_key_of(seed_of(f"{name} session"))
        action = c.RegisterKey(
            owner_of(name), key, ids.SCOPE_ALL, ids.MAX_TIME_US, self.nonces, seed_of(f"{name} salt")
        )
        return sign_owner(DEPLOYMENT, action, seed_of(name))

    def batch(self, name: str, *commands: c.MemberCommand, **fields: Any) -> bytes:
        """A signed batch; `fields` replace account, nonce, expiry_us, deployment or the signing seed."""
        self.nonces += 1
        seed = fields.pop("seed", seed_of(f"{name} session"))
        given = {
            "deployment": DEPLOYMENT,
            "account": fields.pop("account", None),
            "nonce": self.nonces,
            "expiry_us": ids.MAX_TIME_US,
            "commands": commands,
        } | fields
        if given["account"] is None:
            given["account"] = self.reducer.state.owners[owner_of(name)].accounts[0].number
        return sign(c.MemberBatch(**given), seed)

    def open(self, *names: str) -> None:
        """Fund members with 1,000,000 dollars, register their keys, and publish a price."""
        for name in names or MEMBERS:
            self.ok(self.deposit(owner_of(name), 1_000_000 * USD))
            self.ok(self.register(name))
        self.ok(self.price(50_000 * 10_000))


def owner_of(name: str) -> bytes:
    """The wallet address of a member."""
    return address_of(seed_of(name))


def order(
    side: int = ids.BUY, price: int = 50_000 * 10_000, size: int = 1, coid: int = 1, **fields: Any
) -> c.PlaceOrder:
    """A limit order."""
    return c.PlaceOrder(BTC, side, price, size, coid, **fields)
