# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that the journal folds into: plain objects with slots, and nothing that acts.

Dicts are iterated in insertion order, which replay reproduces; where order could matter to a
reader (roots, liquidation) the keys are sorted first.
"""

from __future__ import annotations

import msgspec

from clearing.core.book import Book, Order
from clearing.model import ids
from clearing.model.commands import Genesis
from clearing.model.outcomes import Outcome
from clearing.model.params import Instrument, Params
from proofs.hashtree import StateTree
from proofs.sumtree import SumTree


class NonceWindow:
    """Sliding window of used nonces: each once, in any order, none older than the window."""

    __slots__ = ("bits", "high")
    _MASK = (1 << ids.NONCE_WINDOW) - 1

    def __init__(self, high: int = 0, bits: int = 1) -> None:
        self.high = high
        self.bits = bits

    def is_fresh(self, nonce: int) -> bool:
        if nonce > self.high:
            return nonce <= ids.MAX_AMOUNT_ATOMS
        age = self.high - nonce
        return age < ids.NONCE_WINDOW and not (self.bits >> age) & 1

    def use(self, nonce: int) -> None:
        """Mark a fresh nonce as used."""
        shift = nonce - self.high
        if shift > 0:
            self.bits = 1 if shift >= ids.NONCE_WINDOW else ((self.bits << shift) | 1) & self._MASK
            self.high = nonce
        else:
            self.bits |= 1 << (self.high - nonce)


class SessionKey(msgspec.Struct, eq=False):
    """A delegated trading key. Revoked ones are kept, so that their nonces stay used."""

    key: bytes
    owner: Owner
    scope: int
    expiry_us: int
    revoked: bool = False
    nonces: NonceWindow = msgspec.field(default_factory=NonceWindow)


class Owner(msgspec.Struct, eq=False):
    """A wallet: one exit leaf, several accounts. `exits` and `acks` are atoms per lane;
    `exits` as last committed, `acks` cumulative."""

    address: bytes
    leaf_index: int
    exits: list[int]
    acks: list[int]
    secret: bytes = bytes(32)
    nonces: NonceWindow = msgspec.field(default_factory=NonceWindow)
    accounts: list[Account] = []
    keys: dict[bytes, SessionKey] = {}
    posted: tuple[tuple[int, ...], tuple[int, ...]] | None = None


class Slot:
    """An account's place in one instrument: the position and the sums over its open orders.

    `loss_atoms` is what would be lost at mark price `loss_mark` if every order that is worse than
    the mark were filled: the exact worst fill subset for linear contracts.
    """

    __slots__ = (
        "buy_cost", "buy_lots", "entry_cost", "funding", "inst", "loss_atoms", "loss_mark",
        "sell_cost", "sell_lots", "size",
    )  # fmt: skip

    def __init__(self, inst: InstrumentState) -> None:
        self.inst = inst
        self.size = 0
        self.entry_cost = 0
        self.funding = inst.funding_index
        self.buy_lots = 0
        self.buy_cost = 0
        self.sell_lots = 0
        self.sell_cost = 0
        self.loss_mark = 0
        self.loss_atoms = 0


class Account:
    """Cash is the quote balance: deposits, less withdrawals, less what positions cost.
    equity = cash + sum(size x mark) - unsettled funding."""

    __slots__ = (
        "basis", "cash", "day", "leaf_epoch", "maker_ppm", "number", "orders", "owner", "slots", "sub",
        "taker_ppm", "volume_today", "volumes",
    )  # fmt: skip

    def __init__(
        self, number: int, owner: Owner, sub: int, maker_ppm: int, taker_ppm: int, cash: int = 0, basis: int = 0
    ) -> None:
        self.number = number
        self.owner = owner
        self.sub = sub
        self.cash = cash
        self.basis = basis
        self.slots: dict[int, Slot] = {}
        self.orders: dict[int, Order] = {}
        self.day = 0
        self.volume_today = 0
        self.volumes: list[tuple[int, int]] = []
        self.maker_ppm = maker_ppm
        self.taker_ppm = taker_ppm
        self.leaf_epoch = 0


class InstrumentState:
    """A market: its specification, prices, funding, book and holders (account number -> account)."""

    __slots__ = (
        "book", "funding_carry", "funding_index", "funding_time", "holders", "id", "imf", "index",
        "index_time", "mark", "max_lots", "mmf", "open_interest", "premium_count", "premium_sum", "spec",
        "tick",
    )  # fmt: skip

    def __init__(self, spec: Instrument) -> None:
        self.spec = spec
        self.id = spec.id
        self.imf = spec.imf_ppm
        self.mmf = spec.mmf_ppm
        self.tick = spec.tick_atoms
        self.max_lots = min(spec.max_order_lots, ids.MAX_LOTS)
        self.book = Book()
        self.holders: dict[int, Account] = {}
        self.open_interest = 0
        self.index = 0
        self.mark = 0
        self.index_time = 0
        self.funding_index = 0
        self.funding_carry = 0
        self.funding_time = 0
        self.premium_sum = 0
        self.premium_count = 0


class Publisher:
    """One oracle publisher: the head of its hash chain and its latest price per instrument."""

    __slots__ = ("head", "key", "prices", "time_us")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.head = bytes(32)
        self.time_us = 0
        self.prices: dict[int, tuple[int, int]] = {}


class State:
    """Everything. `out` collects the outcomes of the entry being applied; `touched` the accounts
    whose margin it changed; `dirty` the accounts whose state leaf the next epoch must renew."""

    # More attributes than a dict shares between instances: slots keep access as fast as elsewhere.
    __slots__ = (
        "accounts", "deployment", "diff_chunks", "dirty", "epoch", "exit_tree", "expiries", "fills_left",
        "genesis", "haircut", "holdings", "inbox_count", "inbox_hash", "instruments", "keys", "lanes",
        "next_order_id", "next_rank", "operator_address", "operator_key", "operator_nonces", "orders", "out",
        "owners", "params", "publishers", "state_tree", "time_us", "touched", "user_exits",
    )  # fmt: skip

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.deployment = genesis.deployment
        self.params: Params = genesis.params
        self.lanes = len(genesis.vaults[0].tokens)
        self.operator_key = genesis.operator_key
        self.operator_address = genesis.operator_address
        self.operator_nonces = NonceWindow()
        self.publishers = [Publisher(key) for key in genesis.publishers]
        self.instruments = {spec.id: InstrumentState(spec) for spec in genesis.instruments}
        self.accounts: list[Account] = []
        self.owners: dict[bytes, Owner] = {}
        self.keys: dict[bytes, SessionKey] = {}
        self.orders: dict[int, Order] = {}
        self.expiries: list[tuple[int, int]] = []
        self.time_us = 0
        self.next_order_id = 1
        self.next_rank = 1
        self.holdings = 0
        self.user_exits = 0
        self.inbox_count = 0
        self.inbox_hash = bytes(32)
        self.epoch = 0
        self.haircut = False
        self.exit_tree: SumTree
        self.state_tree: StateTree
        self.diff_chunks: list[bytes] = []
        self.out: list[Outcome] = []
        self.touched: dict[int, Account] = {}
        self.dirty: dict[int, Account] = {}
        self.fills_left = 0
